/* HAProxy as the router of one machine, level-triggered: callers say which servers and routes each
 * key should have; the router compares that with what HAProxy shows, each second and after every
 * change, and sends the difference. A restarted HAProxy is so filled again by itself.
 *
 * Keys get backends from the pool be_000... of HAProxy's configuration. Two files in the folder
 * keep what a restart would lose: hosts.map (read by HAProxy itself) and backends.map (key →
 * backend). */
#pragma once

#include "net/loop.h"

#define ROUTER_NAME_SIZE 128

struct router;

struct router_server {
    char name[ROUTER_NAME_SIZE];
    int port;   /* on 127.0.0.1 */
    int weight; /* 0..256 */
};

/* One server as HAProxy has it. */
struct router_seen {
    bool stopped; /* in maintenance: it gets no request, whatever its weight */
    int weight;
    int open;
    int64_t requests;
    int64_t errors;
};

typedef void (*router_done_fn)(void *arg, struct ec_err err);

/* changed: after every look at HAProxy that showed something new. */
EC_RESULT router_open(struct ec_loop *loop, const char *socket_path, const char *dir,
                      ec_call_fn changed, void *arg, struct router **ret_router);
void router_close(struct router *router);

/* What the key should have from now on; copied. Takes effect with the next look. */
void router_set_servers(struct router *router, const char *key, const struct router_server *servers,
                        size_t count);
/* routes: "host/path/"; REJECT when another key has one of them. */
EC_RESULT router_set_routes(struct router *router, const char *key, char *const *routes,
                            size_t count);
void router_forget(struct router *router, const char *key);
/* What HAProxy has for this key (it serves this container, "" = none) stays, servers and routes. */
void router_keep(struct router *router, const char *key, const char *server);
/* Every key was told, or is kept: what HAProxy has beyond that is removed. */
void router_complete(struct router *router);
/* Looks now; done when HAProxy has what was wanted of the key at this call, RETRY when it cannot be
 * reached or refuses. Other keys' trouble is not this one's. done may be NULL. */
void router_sync(struct router *router, const char *key, router_done_fn done, void *arg);
/* false: HAProxy does not have it. */
bool router_find(const struct router *router, const char *server, struct router_seen *ret_seen);
const char *router_unready(const struct router *router); /* NULL or one sentence */
