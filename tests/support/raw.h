/* A blocking TCP client on a thread of its own, for tests that speak HTTP byte by byte to a server
 * on the test's loop. The loop runs until the client is done. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/loop.h"

struct raw {
    uint16_t port;
    const char *send;       /* first part */
    size_t send_len;        /* 0 = strlen(send) */
    uint32_t pause_ms;      /* before the second part; raw_hurry cuts it short */
    const char *send_more;  /* may be NULL */
    bool hang_up;           /* close without reading (after pause_ms) */
    uint32_t read_ms;       /* gives up reading after this silence; 0 = 2000 */
    size_t read_max;        /* stops reading after so many bytes; 0 = all */
    char reply[256 * 1024]; /* NUL-terminated; the first so much of it */
    size_t reply_len;
    size_t read_len; /* of all that came */
    char tail[256];  /* NUL-terminated; the end of it */
    bool closed;     /* the server closed the connection */
    int64_t took_ms;
    volatile bool done, hurry;
};

/* Runs the loop until the exchange is over. */
void raw_run(struct ec_loop *loop, struct raw *raw);
/* In the background; raw_wait ends it. */
void raw_start(struct raw *raw);
void raw_wait(struct ec_loop *loop, struct raw *raw);
void raw_hurry(struct raw *raw);
/* Runs the loop for a while, or until *flag. */
void loop_for(struct ec_loop *loop, uint32_t ms);
void loop_until(struct ec_loop *loop, volatile bool *flag, uint32_t max_ms);
int raw_count(const char *text, const char *what);
