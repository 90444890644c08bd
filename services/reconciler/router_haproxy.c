/* Keeps HAProxy as it should be. One run: look (servers, map) → send differences → look again →
 * answer those who wait. Runs follow one another; a change in the middle of a run starts the next.
 * What differs is found in router_compare.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "router_private.h"

#define LOOK_EVERY_MS 500
#define ARENA_MAX_BYTES (16u << 20)
#define CHUNK_BYTES 8000 /* of one line of commands */
#define KEYS_MAX 10000

static struct ec_metric syncs =
    EC_COUNTER("enclii_router_syncs_total", "Looks at the router by result.", "result");

static void run(struct router *router);

static void free_wanted(void *value)
{
    struct wanted_servers *wanted = value;
    free(wanted->servers);
    free(wanted);
}

static void on_timer(void *arg)
{
    run(arg);
}

static void look_soon(struct router *router)
{
    if (!router->running) {
        ec_timer_start(router->timer, 1, 0);
    }
}

struct ec_err router_open(struct ec_loop *loop, const char *socket_path, const char *dir,
                          ec_call_fn changed, void *arg, struct router **ret_router)
{
    struct router *router = ec_alloc(sizeof *router);
    router->loop = loop;
    router->dir = ec_strdup(dir);
    router->map_path = ec_format("%s/hosts.map", dir);
    router->changed = changed;
    router->arg = arg;
    router->arena = ec_arena_new(ARENA_MAX_BYTES);
    router->wanted = ec_map_new(KEYS_MAX);
    ec_buf_init(&router->commands, 4u << 20);
    router_files_init(&router->files, dir);
    router->hap = ec_haproxy_open(loop, socket_path);
    router->timer = ec_timer_new(loop, on_timer, router);
    ec_timer_start(router->timer, 1, 0);
    *ret_router = router;
    return ec_ok();
}

static void free_router(struct router *router)
{
    ec_map_free(router->seen, NULL);
    ec_map_free(router->wanted, free_wanted);
    router_files_done(&router->files);
    ec_buf_done(&router->commands);
    ec_arena_free(router->arena);
    free(router->map_path);
    free(router->dir);
    free(router);
}

static bool same_servers(const struct wanted_servers *was, const struct router_server *servers,
                         size_t count)
{
    bool same = was != NULL && was->count == count;
    for (size_t i = 0; same && i < count; i++) {
        same = strcmp(was->servers[i].name, servers[i].name) == 0 &&
               was->servers[i].port == servers[i].port &&
               was->servers[i].weight == servers[i].weight;
    }
    return same;
}

void router_set_servers(struct router *router, const char *key, const struct router_server *servers,
                        size_t count)
{
    struct wanted_servers *was = ec_map_get(router->wanted, key);
    if (same_servers(was, servers, count)) {
        return;
    }
    struct wanted_servers *wanted = ec_alloc(sizeof *wanted);
    wanted->servers = ec_alloc((count + 1) * sizeof *servers);
    if (count > 0) {
        memcpy(wanted->servers, servers, count * sizeof *servers);
    }
    wanted->count = count;
    if (!ec_map_put(router->wanted, key, wanted)) {
        free_wanted(wanted);
        return;
    }
    if (was != NULL) {
        free_wanted(was);
    }
    look_soon(router);
}

struct ec_err router_set_routes(struct router *router, const char *key, char *const *routes,
                                size_t count)
{
    EC_TRY(router_files_set(&router->files, key, routes, count));
    look_soon(router);
    return ec_ok();
}

void router_forget(struct router *router, const char *key)
{
    struct wanted_servers *was = ec_map_remove(router->wanted, key);
    if (was != NULL) {
        free_wanted(was);
    }
    router_files_forget(&router->files, key);
    look_soon(router);
}

void router_keep(struct router *router, const char *key, const char *server)
{
    const struct ec_haproxy_server *seen = router->seen ? ec_map_get(router->seen, server) : NULL;
    router_files_keep(&router->files, key, seen ? seen->backend : NULL);
}

void router_complete(struct router *router)
{
    router->complete = true;
    router_files_prune(&router->files);
    look_soon(router);
}

bool router_find(const struct router *router, const char *server, struct router_seen *ret_seen)
{
    const struct ec_haproxy_server *seen = router->seen ? ec_map_get(router->seen, server) : NULL;
    if (seen == NULL) {
        return false;
    }
    *ret_seen = (struct router_seen){
        .stopped = strncmp(seen->status, "MAINT", 5) == 0,
        .weight = seen->weight,
        .open = seen->open,
        .requests = seen->requests,
        .errors = seen->errors,
    };
    return true;
}

const char *router_unready(const struct router *router)
{
    return router->reached ? NULL : "HAProxy does not answer on its runtime socket";
}

/* away: HAProxy could not be asked. Else each waiter hears of its own key; what changed since the
 * comparison waits for the next run. */
static void answer_waiters(struct router *router, struct ec_err away)
{
    struct waiter *waiter = EC_TAKE(router->served);
    while (waiter != NULL) {
        struct waiter *next = waiter->next;
        if (!ec_failed(away) && !router_compared(router, waiter->key)) {
            waiter->next = router->waiting;
            router->waiting = waiter;
            waiter = next;
            continue;
        }
        struct ec_err err = ec_failed(away) ? away : router_check_key(router, waiter->key);
        /* A refusal is about the router, not about the version that waits for it. */
        waiter->done(waiter->arg, ec_failed(err) ? ec_retry(err.sys, err.what) : err);
        free(waiter->key);
        free(waiter);
        waiter = next;
    }
}

static void log_run(struct router *router, bool reached, struct ec_err err)
{
    const char *fault = reached && ec_failed(err) ? err.what : "";
    if (reached != router->reached) {
        ec_log(reached ? EC_LOG_INFO : EC_LOG_WARN, NULL,
               reached ? "router.reached" : "router.lost",
               reached ? "HAProxy answers" : "HAProxy cannot be reached",
               EC_T("detail", ec_failed(err) ? err.what : ""));
    } else if (fault[0] && strcmp(fault, router->told_fault) != 0) {
        ec_log(EC_LOG_WARN, NULL, "router.refused", "HAProxy refused a change",
               EC_T("detail", fault));
    }
    snprintf(router->told_fault, sizeof router->told_fault, "%s", fault);
}

/* looked: the run came to its end; err says what HAProxy then still lacked. */
static void end_run(struct router *router, struct ec_err err, bool looked)
{
    router->running = false;
    bool reached = !ec_failed(err) || err.fate == EC_FATE_REJECT;
    ec_metric_add(&syncs, ec_failed(err) ? "failed" : "ok", 1);
    log_run(router, reached, err);
    router->reached = reached;
    answer_waiters(router, looked ? ec_ok() : err);
    if (router->closed) {
        router->served = EC_TAKE(router->waiting);
        answer_waiters(router, ec_retry(0, "the router is closing"));
        free_router(router);
        return;
    }
    ec_timer_start(router->timer, router->waiting ? 1 : LOOK_EVERY_MS, 0);
}

void router_close(struct router *router)
{
    if (router == NULL) {
        return;
    }
    router->closed = true;
    ec_timer_free(router->timer);
    ec_haproxy_close(router->hap);
    if (!router->running) {
        router->served = EC_TAKE(router->waiting);
        answer_waiters(router, ec_retry(0, "the router is closing"));
        free_router(router);
    }
}

/* ---- one run ---- */

static void on_routes(void *arg, struct ec_err err, struct ec_span reply);
static void send_chunk(struct router *router);

static void on_servers(void *arg, struct ec_err err, struct ec_span reply)
{
    struct router *router = arg;
    ec_arena_reset(router->arena);
    router->server_count = 0;
    ec_map_free(router->seen, NULL);
    router->seen = ec_map_new(KEYS_MAX);
    if (!ec_failed(err)) {
        err = ec_haproxy_servers(router->arena, reply, &router->servers, &router->server_count);
    }
    if (ec_failed(err) || router->closed) {
        end_run(router, ec_failed(err) ? err : ec_retry(0, "the router is closing"), false);
        return;
    }
    for (size_t i = 0; i < router->server_count; i++) {
        struct ec_haproxy_server *server = &router->servers[i];
        if (strcmp(server->name, "BACKEND") == 0) {
            router_files_pool(&router->files, server->backend);
            router->files.pool_ready = true;
        } else {
            (void)ec_map_put(router->seen, server->name, server);
        }
    }
    if (router->second_look) {
        end_run(router, router_check_all(router), true);
        router->changed(router->arg);
        return;
    }
    char *command = ec_arena_format(router->arena, "show map %s", router->map_path);
    err = ec_haproxy_send(router->hap, ec_span_of(command), on_routes, router);
    if (ec_failed(err)) {
        end_run(router, err, false);
    }
}

static void on_routes(void *arg, struct ec_err err, struct ec_span reply)
{
    struct router *router = arg;
    if (!ec_failed(err)) {
        err = ec_haproxy_map(router->arena, reply, &router->routes, &router->route_count);
    }
    if (ec_failed(err) || router->closed) {
        end_run(router, ec_failed(err) ? err : ec_retry(0, "the router is closing"), false);
        return;
    }
    router->fault[0] = '\0';
    router->sent = 0;
    ec_buf_clear(&router->commands);
    router_compare(router);
    if (router->complete) { /* before, it would be half of them */
        router_files_save(&router->files);
    }
    if (router->commands.len == 0) {
        err = router_check_all(router);
        uint64_t sum = router_sum(router);
        bool news = sum != router->seen_sum || ec_failed(err);
        router->seen_sum = sum;
        end_run(router, err, true);
        if (news && !router->closed) {
            router->changed(router->arg);
        }
        return;
    }
    send_chunk(router);
}

static void look(struct router *router, bool second)
{
    router->second_look = second;
    /* Backends (2) are asked for once, servers (4) always. */
    struct ec_span command =
        router->files.pool_ready ? EC_SPAN("show stat -1 4 -1") : EC_SPAN("show stat -1 6 -1");
    struct ec_err err = ec_haproxy_send(router->hap, command, on_servers, router);
    if (ec_failed(err)) {
        end_run(router, err, false);
    }
}

static void on_chunk_done(void *arg, struct ec_err err, struct ec_span reply)
{
    struct router *router = arg;
    if (ec_failed(err) || router->closed) {
        end_run(router, ec_failed(err) ? err : ec_retry(0, "the router is closing"), false);
        return;
    }
    struct ec_err refused = ec_haproxy_check(router->arena, reply);
    if (ec_failed(refused) && router->fault[0] == '\0') {
        snprintf(router->fault, sizeof router->fault, "%s", refused.what);
        ec_log(EC_LOG_DEBUG, NULL, "router.refused", "HAProxy refused a command",
               EC_T("detail", router->fault));
    }
    send_chunk(router);
}

/* Our lines become one of HAProxy's: joined by ";" up to the size of its buffer. */
static void send_chunk(struct router *router)
{
    const char *from = router->commands.ptr + router->sent;
    size_t left = router->commands.len - router->sent;
    if (left == 0) {
        look(router, true);
        return;
    }
    size_t len = left < CHUNK_BYTES ? left : CHUNK_BYTES;
    const char *end = memrchr(from, '\n', len);
    len = (size_t)(end - from) + 1;
    char *line = ec_arena_text(router->arena, (struct ec_span){from, len - 1});
    for (char *at = line; *at != '\0'; at++) {
        *at = *at == '\n' ? ';' : *at;
    }
    router->sent += len;
    struct ec_err err = ec_haproxy_send(router->hap, ec_span_of(line), on_chunk_done, router);
    if (ec_failed(err)) {
        end_run(router, err, false);
    }
}

static void run(struct router *router)
{
    if (router->running || router->closed) {
        return;
    }
    router->running = true;
    router->served = EC_TAKE(router->waiting);
    look(router, false);
}

void router_sync(struct router *router, const char *key, router_done_fn done, void *arg)
{
    if (done != NULL) {
        struct waiter *waiter = ec_alloc(sizeof *waiter);
        *waiter = (struct waiter){ec_strdup(key), done, arg, router->waiting};
        router->waiting = waiter;
    }
    look_soon(router);
}
