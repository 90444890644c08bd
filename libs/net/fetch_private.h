/* What fetch.c (pools and the life of an exchange) and fetch_exchange.c (options and data of one)
 * share; nobody else includes it. */
#pragma once

#include <curl/curl.h>
#include <stdio.h>

#include "base/buf.h"
#include "net/fetch.h"

#define EC_FETCH_HEADERS_MAX 128 /* headers of one answer; more are ignored */

struct ec_fetch_pool {
    struct ec_fetcher *fetcher;
    CURLM *multi;
    struct ec_timer *timer; /* curl's only timer */
};

struct ec_fetcher {
    struct ec_loop *loop;
    char *user_agent;
    struct ec_fetch_pool pools[2]; /* [1]: fetches that refuse private addresses */
    struct ec_fetch *running;
    size_t running_count;
    bool closing;
};

struct ec_fetch {
    struct ec_fetcher *fetcher;
    struct ec_fetch_pool *pool;
    struct ec_fetch *prev, *next; /* fetcher->running */
    CURL *easy;
    struct ec_timer *deadline; /* curl's own does not run while it waits for a free connection */
    struct curl_slist *headers_out;
    FILE *body_file;
    int save_fd; /* -1 when the answer goes to memory */
    struct ec_arena *arena;
    struct ec_buf body;
    size_t received_bytes;
    struct ec_header headers[EC_FETCH_HEADERS_MAX];
    size_t header_count;
    void (*on_piece)(void *arg, struct ec_span piece);
    ec_fetch_fn done;
    void *arg;
    int64_t began_ms;
    bool ending;    /* cancel or close decided its end; a deferred call carries it out */
    bool cancelled; /* by the caller (else by close) */
    bool too_large, refused_private, file_failed;
    char error[CURL_ERROR_SIZE];
};

uint32_t ec_fetch_deadline_ms(const struct ec_fetch_spec *spec);
/* Sets all options of fetch->easy and adds it to its pool. */
EC_RESULT ec_fetch_prepare(struct ec_fetch *fetch, const struct ec_fetch_spec *spec);
