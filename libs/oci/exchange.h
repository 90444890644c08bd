/* Private to libs/oci: one HTTP exchange with a registry, with its authentication and retries. */
#pragma once

#include "net/fetch.h"
#include "oci/registry.h"

struct ec_exchange_spec {
    const struct ec_ref *image; /* host, and the repository of the token's scope */
    bool push;                  /* scope pull,push instead of pull */
    const char *method;
    const char *url;          /* absolute; or a path on the host, beginning with "/" */
    const char *accept;       /* NULL: none */
    const char *content_type; /* NULL: none */
    struct ec_span body;      /* copied */
    size_t body_max_bytes;    /* of the answer */
};

/* OK: an answer of 200..299. Else the fate of the status or of the connection; `result` is NULL
 * when no answer came. Everything is borrowed until the callback returns. */
EC_RESULT ec_exchange_start(struct ec_registry *registry, const struct ec_exchange_spec *spec,
                            ec_fetch_fn done, void *arg);

struct ec_loop *ec_registry_loop(const struct ec_registry *registry);

/* The referrers' queue: fallback tags are read, changed and written back, one at a time. Calls
 * fn(arg) in a later turn of the loop, when its turn has come; who was called owes one
 * ec_registry_turn_over. RETRY when 256 wait: then it is never called. */
EC_RESULT ec_registry_wait_turn(struct ec_registry *registry, ec_call_fn fn, void *arg);
void ec_registry_turn_over(struct ec_registry *registry);
