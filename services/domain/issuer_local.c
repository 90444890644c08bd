/* The local CA as an issuer. Issuing takes a fraction of a millisecond, so it happens at once and
 * only the answer waits for a turn of its own. */
#include "issuer.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "trust/ca.h"

#define ARENA_MAX_BYTES (1u << 20)

struct local {
    struct issuer base;
    struct ec_loop *loop;
    struct ec_ca *ca;
    char *dir;
};

struct answer {
    struct ec_arena *arena;
    struct ec_issued issued;
    issued_fn done;
    void *arg;
};

static void on_issued(void *arg)
{
    struct answer *answer = arg;
    answer->done(answer->arg, ec_ok(), answer->issued.cert_pem, answer->issued.key_pem);
    ec_secret_free(answer->issued.key_pem);
    ec_arena_free(answer->arena);
    free(answer);
}

static EC_RESULT open_ca(const char *dir, struct ec_ca **ret_ca)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(ARENA_MAX_BYTES);
    struct ec_err err = ec_ca_open(arena, dir, ret_ca);
    if (ec_failed(err)) {
        ec_log(EC_LOG_ERROR, NULL, "ca.unusable", "the local CA cannot be opened", EC_T("dir", dir),
               EC_ERR(err));
        return ec_fatal(err.sys, "the CA in ENCLII_CA_DIR cannot be opened or made");
    }
    if (ec_ca_renewed(*ret_ca)) {
        ec_log(EC_LOG_WARN, NULL, "ca.renewed",
               "the local CA had less than a year left: ca.crt is new, with the same key; who "
               "trusts the old one has to trust this one before that ends",
               EC_T("dir", dir));
    }
    return ec_ok();
}

/* A process may run for years. */
static EC_RESULT renew_if_aged(struct local *local)
{
    struct ec_ca *ca = NULL;
    if (!ec_ca_aged(local->ca)) {
        return ec_ok();
    }
    if (ec_failed(open_ca(local->dir, &ca))) {
        return ec_retry(0, "the local CA's certificate ends and cannot be made anew");
    }
    ec_ca_free(local->ca);
    local->ca = ca;
    return ec_ok();
}

static struct ec_err local_issue(const struct issuer *self, const char *hostname, issued_fn done,
                                 void *arg)
{
    struct local *local = (struct local *)(uintptr_t)self;
    EC_TRY(renew_if_aged(local));
    struct answer *answer = ec_alloc(sizeof(*answer));
    *answer = (struct answer){.arena = ec_arena_new(ARENA_MAX_BYTES), .done = done, .arg = arg};
    struct ec_err err = ec_ca_issue(answer->arena, local->ca, &hostname, 1, &answer->issued);
    if (ec_failed(err)) {
        ec_arena_free(answer->arena);
        free(answer);
        return ec_reject(
            "the local CA issued nothing: is it a host name, and is ca.crt still valid?");
    }
    ec_loop_defer(local->loop, on_issued, answer);
    return ec_ok();
}

static bool local_made(const struct issuer *self, struct ec_span pem)
{
    return ec_cert_issued_by(((const struct local *)self)->ca, pem);
}

static void local_free(struct issuer *self)
{
    struct local *local = (struct local *)self;
    ec_ca_free(local->ca);
    free(local->dir);
    free(local);
}

EC_RESULT issuer_local_open(struct ec_loop *loop, const char *dir, struct issuer **ret_issuer)
{
    mkdir(dir, 0700); /* may exist; ec_ca_open says what is wrong with it */
    struct ec_ca *ca = NULL;
    EC_TRY(open_ca(dir, &ca));
    struct local *local = ec_alloc(sizeof(*local));
    *local = (struct local){
        .base = {.name = "local", .issue = local_issue, .made = local_made, .free = local_free},
        .loop = loop,
        .ca = ca,
        .dir = ec_strdup(dir)};
    *ret_issuer = &local->base;
    return ec_ok();
}
