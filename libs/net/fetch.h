/* HTTP out, by libcurl's multi interface inside our loop. Connections are kept and reused.
 * Redirects are followed only on request, never with the Authorization of another host (RFC 9110
 * §15.4). Every fetch has a deadline and a limit on the body. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/span.h"
#include "net/loop.h"

struct ec_fetcher; /* one per process */
struct ec_fetch;   /* one exchange under way */

struct ec_header {
    const char *name;
    const char *value;
};

struct ec_fetch_spec {
    const char *method; /* NULL = GET */
    const char *url;
    const char *unix_socket; /* path, or NULL; the URL's host is then only a name */
    const struct ec_header *headers;
    size_t header_count;
    const struct ec_secret *bearer; /* Authorization: Bearer ..., or NULL; borrowed till the end */
    const char *basic;              /* "user:password", or NULL */
    struct ec_span body;            /* copied */
    const char *body_file;          /* or: stream the request body from this file */
    const char *save_file;          /* stream the answer's body here instead of into memory */
    uint32_t deadline_ms;           /* whole exchange; 0 = 10 s */
    size_t body_max_bytes;          /* of the answer; 0 = 1 MiB (with on_piece: no limit) */
    uint8_t redirects_max;          /* 0 = none */
    bool refuse_private_addresses;  /* user-given URLs: no loopback, private, link-local (SSRF) */
    /* Streaming answers (logs, SSE): called per piece, in order; then result.body is empty. */
    void (*on_piece)(void *arg, struct ec_span piece);
};

struct ec_fetch_result {
    int status;          /* 0 when no answer came: then err says why */
    struct ec_span body; /* borrowed until the callback returns; followed by a NUL */
    int64_t duration_ms;
    const struct ec_header *headers; /* names in lower case */
    size_t header_count;
};

/* err: OK whenever an HTTP answer came, whatever its status. RETRY for connection trouble and
 * deadlines, REJECT for a URL that can never work or a body over the limit. */
typedef void (*ec_fetch_fn)(void *arg, struct ec_err err, const struct ec_fetch_result *result);

EC_RESULT ec_fetcher_open(struct ec_loop *loop, const char *user_agent, uint32_t connections_max,
                          struct ec_fetcher **ret_fetcher);
void ec_fetcher_close(struct ec_fetcher *fetcher); /* ends what is under way with RETRY */
EC_RESULT ec_fetch_start(struct ec_fetcher *fetcher, const struct ec_fetch_spec *spec,
                         ec_fetch_fn done, void *arg,
                         struct ec_fetch **ret_fetch); /* ret may be NULL */
/* The callback comes with REJECT "cancelled", in a later turn. */
void ec_fetch_cancel(struct ec_fetch *fetch);
const char *ec_fetch_header(const struct ec_fetch_result *result,
                            const char *lower_name); /* or NULL */
/* The fate of an answered status: 2xx OK; 408, 425, 429, 5xx RETRY; else REJECT. */
struct ec_err ec_fetch_status_err(int status, const char *what);
