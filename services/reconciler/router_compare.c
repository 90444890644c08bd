/* What HAProxy has, held against what is wanted: the commands that make the difference go away. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router_private.h"

static const struct ec_haproxy_server *find_seen(const struct router *router, const char *name)
{
    return ec_map_get(router->seen, name);
}

static int port_of(const struct ec_haproxy_server *seen)
{
    const char *colon = strrchr(seen->address, ':');
    return colon ? atoi(colon + 1) : 0;
}

static void command_for(struct router *router, const char *backend,
                        const struct router_server *wanted)
{
    const struct ec_haproxy_server *seen = find_seen(router, wanted->name);
    seen = seen != NULL && strcmp(seen->backend, backend) == 0 ? seen : NULL;
    struct ec_buf *out = &router->commands;
    bool down = seen != NULL && strncmp(seen->status, "MAINT", 5) == 0;
    bool moved = seen != NULL && port_of(seen) != wanted->port;
    if (seen == NULL) {
        ec_buf_addf(out,
                    "add server %s/%s 127.0.0.1:%d check inter 1s fall 2 rise 1 weight %d\n"
                    "enable server %s/%s\nenable health %s/%s\n",
                    backend, wanted->name, wanted->port, wanted->weight, backend, wanted->name,
                    backend, wanted->name);
        return;
    }
    if (moved) { /* its container was started again; it is told to be well, as a new one is */
        ec_buf_addf(out, "set server %s/%s addr 127.0.0.1 port %d\nset server %s/%s health up\n",
                    backend, wanted->name, wanted->port, backend, wanted->name);
    }
    if (down) {
        ec_buf_addf(out, "enable server %s/%s\nenable health %s/%s\n", backend, wanted->name,
                    backend, wanted->name);
    }
    if (seen->weight != wanted->weight) {
        ec_buf_addf(out, "set weight %s/%s %d\n", backend, wanted->name, wanted->weight);
    }
}

static bool is_wanted(const struct router *router, const struct ec_haproxy_server *server)
{
    const char *key = router_files_key(&router->files, server->backend);
    const struct wanted_servers *wanted = key ? ec_map_get(router->wanted, key) : NULL;
    if (wanted == NULL) {
        /* Perhaps of a key that we have not heard of yet. */
        return !router->complete || router_files_kept(&router->files, server->backend);
    }
    for (size_t i = 0; i < wanted->count; i++) {
        if (strcmp(wanted->servers[i].name, server->name) == 0) {
            return true;
        }
    }
    return false;
}

static void compare_servers(struct router *router)
{
    const char *key;
    void *value;
    for (size_t at = 0; ec_map_next(router->wanted, &at, &key, &value);) {
        struct wanted_servers *wanted = value;
        const char *backend = router_files_backend(&router->files, key);
        wanted->compared = true;
        for (size_t i = 0; i < wanted->count && backend != NULL; i++) {
            command_for(router, backend, &wanted->servers[i]);
        }
    }
}

static void compare_removals(struct router *router)
{
    for (size_t i = 0; i < router->server_count; i++) {
        const struct ec_haproxy_server *server = &router->servers[i];
        if (strncmp(server->backend, "be_", 3) != 0 || strcmp(server->name, "BACKEND") == 0 ||
            is_wanted(router, server)) {
            continue;
        }
        ec_buf_addf(&router->commands,
                    "set server %s/%s state maint\nshutdown sessions server %s/%s\n"
                    "del server %s/%s\n",
                    server->backend, server->name, server->backend, server->name, server->backend,
                    server->name);
    }
}

static void compare_routes(struct router *router)
{
    for (size_t i = 0; i < router->route_count && router->complete; i++) {
        router_files_adopt(&router->files, router->routes[i].key, router->routes[i].value);
    }
    const char *route;
    void *value;
    for (size_t at = 0; router_files_next(&router->files, &at, &route, &value);) {
        const char *have = NULL;
        for (size_t i = 0; i < router->route_count && have == NULL; i++) {
            have = strcmp(router->routes[i].key, route) == 0 ? router->routes[i].value : NULL;
        }
        if (have == NULL || strcmp(have, value) != 0) {
            ec_buf_addf(&router->commands, "%s map %s %s %s\n", have ? "set" : "add",
                        router->map_path, route, (const char *)value);
        }
    }
    for (size_t i = 0; i < router->route_count; i++) {
        bool known = router_files_route(&router->files, router->routes[i].key) != NULL;
        if (!known && router->complete) {
            ec_buf_addf(&router->commands, "del map %s %s\n", router->map_path,
                        router->routes[i].key);
        }
    }
}

/* First what serves (new servers and weights), then the map, last what goes away. */
void router_compare(struct router *router)
{
    compare_servers(router);
    compare_routes(router);
    compare_removals(router);
}

bool router_compared(const struct router *router, const char *key)
{
    const struct wanted_servers *wanted = ec_map_get(router->wanted, key);
    return wanted == NULL || wanted->compared;
}

struct ec_err router_check_key(struct router *router, const char *key)
{
    const struct wanted_servers *wanted = ec_map_get(router->wanted, key);
    if (wanted == NULL || wanted->count == 0) {
        return ec_ok();
    }
    if (router_files_backend(&router->files, key) == NULL) {
        return ec_reject("all backends of HAProxy's pool are in use: declare more be_NNN");
    }
    for (size_t i = 0; i < wanted->count; i++) {
        const struct ec_haproxy_server *seen = find_seen(router, wanted->servers[i].name);
        if (seen == NULL || seen->weight != wanted->servers[i].weight ||
            port_of(seen) != wanted->servers[i].port) {
            return ec_reject(router->fault[0] ? router->fault : "HAProxy did not take a server");
        }
    }
    return ec_ok();
}

struct ec_err router_check_all(struct router *router)
{
    const char *key;
    void *value;
    for (size_t at = 0; ec_map_next(router->wanted, &at, &key, &value);) {
        if (((const struct wanted_servers *)value)->compared) {
            EC_TRY(router_check_key(router, key));
        }
    }
    return ec_ok();
}

uint64_t router_sum(const struct router *router)
{
    uint64_t sum = router->server_count;
    for (size_t i = 0; i < router->server_count; i++) {
        const struct ec_haproxy_server *server = &router->servers[i];
        sum = sum * 31 + (uint64_t)server->weight * 7 + (uint64_t)server->open * 3 +
              (uint64_t)server->requests + (uint64_t)server->errors * 5;
        for (const char *at = server->name; *at != '\0'; at++) {
            sum = sum * 31 + (unsigned char)*at;
        }
    }
    return sum;
}
