/* HAProxy's runtime socket: commands that change servers, weights, maps and certificates without a
 * reload. One connection per command, one command after another in the order they were given; each
 * has a deadline of EC_HAPROXY_DEADLINE_MS once it is sent. Belongs to the loop thread.
 *
 * The parsers below are pure; what they give lives in the arena. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"
#include "net/loop.h"

#define EC_HAPROXY_DEADLINE_MS 3000
#define EC_HAPROXY_WAITING_MAX 1024
#define EC_HAPROXY_COMMAND_MAX_BYTES 15000 /* HAProxy's own buffer is 16 KiB */
#define EC_HAPROXY_REPLY_MAX_BYTES (4u << 20)

struct ec_haproxy;

struct ec_haproxy *ec_haproxy_open(struct ec_loop *loop, const char *socket_path);
/* What waits ends with RETRY; the memory goes with the last callback. Accepts NULL. */
void ec_haproxy_close(struct ec_haproxy *hap);

/* reply: borrowed until the callback returns. RETRY when HAProxy is away or silent. */
typedef void (*ec_haproxy_fn)(void *arg, struct ec_err err, struct ec_span reply);
/* command: copied; several are joined by "; ", a payload follows "<<\n" and ends with an empty
 * line. RETRY when too many wait, REJECT when it is too long. */
EC_RESULT ec_haproxy_send(struct ec_haproxy *hap, struct ec_span command, ec_haproxy_fn done,
                          void *arg);

/* REJECT with HAProxy's own words when any line of the reply is not one of its words of success. */
EC_RESULT ec_haproxy_check(struct ec_arena *arena, struct ec_span reply);

/* One server (or, with type 2, one backend) of `show stat -1 <type> -1`. */
struct ec_haproxy_server {
    const char *backend;
    const char *name;
    const char *address; /* "127.0.0.1:40123" */
    const char *status;  /* "UP", "DOWN", "MAINT", "DRAIN", "no check", ... */
    int weight;          /* as set, 0..256 */
    int open;            /* requests under way */
    int64_t requests;
    int64_t errors;     /* 5xx answers, failed connections, broken answers */
    int64_t latency_ms; /* average of the last 1024 answers */
};
EC_RESULT ec_haproxy_servers(struct ec_arena *arena, struct ec_span csv,
                             struct ec_haproxy_server **ret_servers, size_t *ret_count);

/* One entry of `show map <file>`. */
struct ec_haproxy_entry {
    const char *key;
    const char *value;
};
EC_RESULT ec_haproxy_map(struct ec_arena *arena, struct ec_span text,
                         struct ec_haproxy_entry **ret_entries, size_t *ret_count);
