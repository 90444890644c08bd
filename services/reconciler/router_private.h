/* What router_haproxy.c (the runs) and router_compare.c (the differences) share; nobody else
 * includes it. */
#pragma once

#include "base/buf.h"
#include "base/map.h"
#include "router/haproxy.h"
#include "router_files.h"
#include "router_haproxy.h"

struct waiter {
    char *key;
    router_done_fn done;
    void *arg;
    struct waiter *next;
};

struct router {
    struct ec_loop *loop;
    struct ec_haproxy *hap;
    char *dir;
    char *map_path;
    ec_call_fn changed;
    void *arg;
    struct ec_timer *timer;    /* the next look by itself */
    struct router_files files; /* key → backend, route → backend */
    struct ec_map *wanted;     /* key → struct wanted_servers */
    struct ec_arena *arena;    /* of the last look: all below until the next */
    struct ec_haproxy_server *servers;
    size_t server_count;
    struct ec_haproxy_entry *routes;
    size_t route_count;
    struct ec_map *seen;    /* server name → struct ec_haproxy_server */
    uint64_t seen_sum;      /* of what callers see, to tell changes */
    struct waiter *waiting; /* came since the run began */
    struct waiter *served;  /* this run answers them */
    struct ec_buf commands; /* of this run; sent in chunks */
    size_t sent;            /* bytes of it so far */
    bool running;
    bool second_look;
    bool complete;
    bool closed;
    bool reached;         /* HAProxy answered the last time */
    char fault[256];      /* HAProxy's first complaint in this run */
    char told_fault[256]; /* the last one that was logged: each is said once */
};

struct wanted_servers {
    struct router_server *servers;
    size_t count;
    bool
        compared; /* HAProxy was told what it lacks of it; what came since waits for the next run */
};

/* Adds to router->commands what HAProxy has to be told; router->fault: what cannot be told. */
void router_compare(struct router *router);
/* Whether HAProxy now has what was wanted of the key when it was compared: each server with its
 * port and weight. */
EC_RESULT router_check_key(struct router *router, const char *key);
EC_RESULT router_check_all(struct router *router);
bool router_compared(const struct router *router, const char *key); /* since it last changed */
uint64_t router_sum(const struct router *router); /* of what callers see, to tell changes */
