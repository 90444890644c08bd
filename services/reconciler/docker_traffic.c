/* Who gets which part of the requests: shares of versions become weights of HAProxy's servers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "docker.h"

#define WEIGHT_SCALE 2 /* of HAProxy's 0..256 per percent and version */
#define PLACE_SERVERS_MAX 256

static int share_of(const struct place *place, const struct target_identity *identity)
{
    for (size_t i = 0; i < place->share_count; i++) {
        if (strcmp(place->shares[i].identity.text, identity->text) == 0) {
            return place->shares[i].percent;
        }
    }
    return 0;
}

/* Replicas of a version that requests may go to: the ready ones, or, when none is ready any more,
 * those that once were (an answer that may fail is better than none). */
static bool may_serve(const struct place *place, const struct instance *instance)
{
    if (instance->retire_mono_ms > 0 || docker_ready(instance)) {
        return instance->retire_mono_ms == 0;
    }
    struct instance *other;
    for (size_t at = 0; docker_next(place, &at, &other);) {
        if (strcmp(other->identity.text, instance->identity.text) == 0 && docker_ready(other) &&
            other->retire_mono_ms == 0) {
            return false;
        }
    }
    return instance->state == CONTAINER_RUNNING && instance->ever_healthy;
}

static int count_serving(const struct place *place, const struct target_identity *identity)
{
    int count = 0;
    struct instance *instance;
    for (size_t at = 0; docker_next(place, &at, &instance);) {
        bool same = strcmp(instance->identity.text, identity->text) == 0;
        count += same && may_serve(place, instance) ? 1 : 0;
    }
    return count;
}

static int weight_of(const struct place *place, const struct instance *instance)
{
    int percent = share_of(place, &instance->identity);
    int serving = count_serving(place, &instance->identity);
    if (percent <= 0 || serving == 0 || !may_serve(place, instance)) {
        return 0;
    }
    int weight = (percent * WEIGHT_SCALE + serving / 2) / serving;
    return weight > 0 ? weight : 1;
}

/* After a restart of ours the router still has the shares of the process before. */
static void adopt_shares(struct place *place)
{
    struct target_view view;
    docker_observe(place->dk, place->key, &view);
    for (size_t i = 0; i < view.count; i++) {
        if (view.versions[i].weight_percent > 0) {
            place->shares[place->share_count++] =
                (struct target_share){view.versions[i].identity, view.versions[i].weight_percent};
        }
    }
    place->shares_known = place->share_count > 0;
}

void docker_route(struct place *place)
{
    if (!place->shares_known) {
        adopt_shares(place);
    }
    if (!place->shares_known) {
        return;
    }
    struct router_server *servers = ec_alloc(PLACE_SERVERS_MAX * sizeof *servers);
    size_t count = 0;
    struct instance *instance;
    for (size_t at = 0; count < PLACE_SERVERS_MAX && docker_next(place, &at, &instance);) {
        int weight = weight_of(place, instance);
        struct router_seen seen;
        bool runs = instance->state == CONTAINER_RUNNING && instance->host_port > 0;
        /* With weight 0 it stays for the requests under way. */
        if (runs && (weight > 0 || router_find(place->dk->router, instance->name, &seen))) {
            snprintf(servers[count].name, sizeof servers[count].name, "%s", instance->name);
            servers[count].port = instance->host_port;
            servers[count].weight = weight;
            count++;
        }
    }
    router_set_servers(place->dk->router, place->key, servers, count);
    free(servers);
}

struct waiting {
    struct target *dk;
    target_done_fn done;
    void *arg;
};

static void on_synced(void *arg, struct ec_err err)
{
    struct waiting *waiting = arg;
    waiting->done(waiting->arg, err);
    free(waiting);
}

void docker_sync(struct target *dk, const char *key, target_done_fn done, void *arg)
{
    struct waiting *waiting = ec_alloc(sizeof *waiting);
    *waiting = (struct waiting){dk, done, arg};
    router_sync(dk->router, key, on_synced, waiting);
}

struct ec_err docker_shift_traffic(struct target *dk, const char *key,
                                   const struct target_share *shares, size_t count,
                                   target_done_fn done, void *arg)
{
    struct place *place = docker_place(dk, key);
    place->share_count = count < TARGET_VERSIONS_MAX ? count : TARGET_VERSIONS_MAX;
    for (size_t i = 0; i < place->share_count; i++) {
        place->shares[i] = shares[i];
    }
    place->shares_known = true;
    docker_route(place);
    docker_sync(dk, key, done, arg);
    return ec_ok();
}

struct ec_err docker_set_routes(struct target *dk, const char *key,
                                Enclii__V1__RouteSpec *const *routes, size_t count)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1u << 20);
    char **list = ec_arena_alloc(arena, (count + 1) * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        struct ec_span path = ec_span_of(routes[i]->path);
        while (path.len > 0 && path.ptr[path.len - 1] == '/') {
            path.len--;
        }
        list[i] = ec_arena_format(arena, "%s%.*s/", routes[i]->hostname, (int)path.len, path.ptr);
        if (strpbrk(list[i], " \t\r\n;\\#\"'") != NULL) {
            return ec_reject("a route has a character that the router cannot take");
        }
    }
    (void)docker_place(dk, key);
    return router_set_routes(dk->router, key, list, count);
}
