/* Certificates in a running HAProxy: new or known, they are set and committed over the runtime
 * socket; crt.list and the files beside it say the same to one that starts. Each step sends its
 * commands in order and looks at the last answer: HAProxy repeats the first fault in those that
 * follow. What is set and not committed is HAProxy's one transaction for all certificates, so that
 * sites are loaded one after another. */
#include "domain.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

#define LIST_MAX_BYTES (4u << 20)

static const char *list_path(struct ec_arena *arena, const struct domain *dom)
{
    return ec_arena_format(arena, "%s/crt.list", dom->settings.haproxy_dir);
}

static bool is_for_list(const struct site *site)
{
    return site->wanted && site->cert.fingerprint[0];
}

EC_RESULT router_write_list(const struct domain *dom)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(LIST_MAX_BYTES);
    ec_cleanup(ec_buf_done) struct ec_buf text = {0};
    ec_buf_init(&text, LIST_MAX_BYTES);
    const char *hostname;
    void *value;
    for (size_t at = 0; ec_map_next(dom->sites, &at, &hostname, &value);) {
        const struct site *site = value;
        if (is_for_list(site)) {
            ec_buf_addf(&text, "%s/certs/%s.pem %s\n", dom->settings.haproxy_dir, hostname,
                        hostname);
        }
    }
    struct ec_span bytes = ec_buf_span(&text);
    int code =
        ec_file_replace(&(struct ec_file_spec){list_path(arena, dom), 0644, false, &bytes, 1});
    if (code) {
        return ec_retry(-code, "crt.list cannot be written in ENCLII_HAPROXY_DIR");
    }
    for (size_t at = 0; ec_map_next(dom->sites, &at, &hostname, &value);) {
        struct site *site = value;
        site->listed = is_for_list(site);
    }
    return ec_ok();
}

/* ---- load: one after another ---- */

static struct ec_err load_begin(struct site *site);

static void load_next(struct domain *dom)
{
    while (!dom->loading && dom->first_waiting) {
        struct site *site = dom->first_waiting;
        dom->first_waiting = site->next_waiting;
        site->next_waiting = NULL;
        struct ec_err err = load_begin(site);
        if (ec_failed(err)) {
            ec_flow_done(&site->flow, err);
        } else {
            dom->loading = site;
        }
    }
}

static void load_end(struct site *site, struct ec_err err)
{
    site->dom->loading = NULL;
    ec_flow_done(&site->flow, err);
    load_next(site->dom);
}

/* ---- load: new (refused when known: fine) → set → commit → crt-list (refused when listed: fine)
 * ---- */

static void on_loaded(void *arg, struct ec_err err, struct ec_span reply)
{
    struct site *site = arg;
    (void)reply; /* "already exists" is as good; the verify step looks at what is served */
    load_end(site, err);
}

static void on_aborted(void *arg, struct ec_err err, struct ec_span reply)
{
    struct site *site = arg;
    (void)reply;
    load_end(site, ec_failed(err) ? err : ec_retry(0, "HAProxy had another certificate half set"));
}

/* Nobody else sets one now: it is left of a run that ended between setting and committing. */
static const char *abandoned(struct ec_arena *arena, struct ec_span reply)
{
    static const char before[] = "ongoing transaction is about '";
    const char *at = memmem(reply.ptr, reply.len, before, sizeof before - 1);
    if (!at) {
        return NULL;
    }
    at += sizeof before - 1;
    const char *end = memchr(at, '\'', (size_t)(reply.ptr + reply.len - at));
    return end ? ec_arena_text(arena, (struct ec_span){at, (size_t)(end - at)}) : NULL;
}

static void on_committed(void *arg, struct ec_err err, struct ec_span reply)
{
    struct site *site = arg;
    struct ec_arena *arena = site->arena;
    const char *other = ec_failed(err) ? NULL : abandoned(arena, reply);
    if (other) {
        const char *command = ec_arena_format(arena, "abort ssl cert %s\n", other);
        err = ec_haproxy_send(site->dom->hap, ec_span_of(command), on_aborted, site);
    } else if (!ec_failed(err) && !memmem(reply.ptr, reply.len, "Success", 7)) {
        err = ec_retry_in(arena, 0, "HAProxy did not take the certificate: %s",
                          ec_arena_text(arena, reply));
    } else if (!ec_failed(err)) {
        const char *command =
            ec_arena_format(arena, "add ssl crt-list %s <<\n%s %s\n\n", list_path(arena, site->dom),
                            cert_path(arena, site->dom, site->hostname), site->hostname);
        err = ec_haproxy_send(site->dom->hap, ec_span_of(command), on_loaded, site);
    }
    if (ec_failed(err)) {
        load_end(site, err);
    }
}

static void on_set(void *arg, struct ec_err err, struct ec_span reply)
{
    struct site *site = arg;
    (void)reply; /* a refused set makes the commit fail, with the reason */
    if (!ec_failed(err)) {
        const char *command = ec_arena_format(site->arena, "commit ssl cert %s\n",
                                              cert_path(site->arena, site->dom, site->hostname));
        err = ec_haproxy_send(site->dom->hap, ec_span_of(command), on_committed, site);
    }
    if (ec_failed(err)) {
        load_end(site, err);
    }
}

static void on_new(void *arg, struct ec_err err, struct ec_span reply)
{
    struct site *site = arg;
    (void)reply; /* already there: its content is replaced now */
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    struct site_cert cert;
    if (!ec_failed(err)) {
        err = cert_read(site->arena, site->dom, site->hostname, &pem, &cert);
    }
    if (!ec_failed(err)) {
        struct ec_span bytes = ec_secret_use(pem);
        struct ec_buf command;
        ec_buf_init(&command, EC_HAPROXY_COMMAND_MAX_BYTES);
        ec_buf_addf(&command, "set ssl cert %s <<\n",
                    cert_path(site->arena, site->dom, site->hostname));
        ec_buf_add_span(&command, bytes);
        ec_buf_add_text(&command, bytes.len && bytes.ptr[bytes.len - 1] == '\n' ? "\n" : "\n\n");
        err = ec_haproxy_send(site->dom->hap, ec_buf_span(&command), on_set, site);
        explicit_bzero(command.ptr, command.len);
        ec_buf_done(&command);
    }
    if (ec_failed(err)) {
        load_end(site, err);
    }
}

static struct ec_err load_begin(struct site *site)
{
    struct domain *dom = site->dom;
    if (ec_service_stopping(dom->svc)) {
        return ec_retry(0, "the service ends");
    }
    EC_TRY(router_write_list(dom));
    const char *command = ec_arena_format(site->arena, "new ssl cert %s\n",
                                          cert_path(site->arena, dom, site->hostname));
    return ec_haproxy_send(dom->hap, ec_span_of(command), on_new, site);
}

EC_RESULT router_load(struct site *site)
{
    struct domain *dom = site->dom;
    if (site->served) {
        struct ec_err err = site->listed ? ec_ok() : router_write_list(dom);
        if (!ec_failed(err)) {
            ec_flow_done(&site->flow, err);
        }
        return err;
    }
    if (dom->first_waiting) {
        dom->last_waiting->next_waiting = site;
    } else {
        dom->first_waiting = site;
    }
    dom->last_waiting = site;
    load_next(dom);
    return ec_ok();
}

/* ---- unload ---- */

static void on_deleted(void *arg, struct ec_err err, struct ec_span reply)
{
    struct site *site = arg;
    (void)reply; /* "does not exist" is what we want */
    ec_flow_done(&site->flow, err);
}

static void on_unlisted(void *arg, struct ec_err err, struct ec_span reply)
{
    struct site *site = arg;
    (void)reply;
    if (!ec_failed(err)) {
        const char *command = ec_arena_format(site->arena, "del ssl cert %s\n",
                                              cert_path(site->arena, site->dom, site->hostname));
        err = ec_haproxy_send(site->dom->hap, ec_span_of(command), on_deleted, site);
    }
    if (ec_failed(err)) {
        ec_flow_done(&site->flow, err);
    }
}

EC_RESULT router_unload(struct site *site)
{
    struct ec_arena *arena = site->arena;
    EC_TRY(router_write_list(site->dom));
    const char *path = cert_path(arena, site->dom, site->hostname);
    if (unlink(path) != 0 && errno != ENOENT) {
        return ec_retry(errno, "a certificate file cannot be removed");
    }
    const char *command =
        ec_arena_format(arena, "del ssl crt-list %s %s\n", list_path(arena, site->dom), path);
    return ec_haproxy_send(site->dom->hap, ec_span_of(command), on_unlisted, site);
}
