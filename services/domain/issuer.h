/* Who makes certificates: one vtable, so that ACME and Cloudflare can stand beside the local CA. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"
#include "net/loop.h"

struct issuer;

/* chain_pem: leaf first; both are borrowed until the callback returns. */
typedef void (*issued_fn)(void *arg, struct ec_err err, const char *chain_pem,
                          const struct ec_secret *key_pem);

struct issuer {
    const char *name; /* "local" */
    /* Calls done exactly once, later; RETRY and REJECT as everywhere. */
    struct ec_err (*issue)(const struct issuer *self, const char *hostname, issued_fn done,
                           void *arg);
    /* Whether this issuer made the certificate, so that one of another authority is replaced. */
    bool (*made)(const struct issuer *self, struct ec_span pem);
    void (*free)(struct issuer *self);
};

/* The CA of this machine in `dir` (made if absent); ca.crt there is for users to trust. */
EC_RESULT issuer_local_open(struct ec_loop *loop, const char *dir, struct issuer **ret_issuer);
