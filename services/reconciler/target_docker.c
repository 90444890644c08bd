/* The docker target's verbs: versions are sets of labelled containers, traffic is HAProxy's
 * weights. Everything is read back from the engine's list and the router, so that kill -9 costs
 * nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "docker.h"

#define RETIRE_MAX_MS 10000 /* longest wait for requests under way on a replica too many */

/* ---- looking ---- */

bool docker_next(const struct place *place, size_t *at, struct instance **ret_instance)
{
    void *value;
    while (ec_map_next(place->dk->instances, at, NULL, &value)) {
        *ret_instance = value;
        if ((*ret_instance)->place == place && !(*ret_instance)->removing) {
            return true;
        }
    }
    return false;
}

static struct target_version *version_of(struct target_view *view,
                                         const struct target_identity *identity)
{
    for (size_t i = 0; i < view->count; i++) {
        if (strcmp(view->versions[i].identity.text, identity->text) == 0) {
            return &view->versions[i];
        }
    }
    if (view->count == TARGET_VERSIONS_MAX) {
        return NULL; /* seen when one of the others is gone */
    }
    struct target_version *version = &view->versions[view->count++];
    *version = (struct target_version){.identity = *identity};
    return version;
}

static int add_instance(struct target_version *version, const struct target *dk,
                        const struct instance *instance)
{
    char detail[TARGET_DETAIL_SIZE] = "";
    enum target_trouble trouble = docker_trouble(instance, detail, sizeof detail);
    struct router_seen seen = {0};
    version->total++;
    version->running += instance->state == CONTAINER_RUNNING && trouble == TARGET_FINE;
    version->ready += docker_ready(instance);
    if (trouble != TARGET_FINE && version->trouble == TARGET_FINE) {
        version->trouble = trouble;
        memcpy(version->detail, detail, sizeof detail);
    }
    if (router_find(dk->router, instance->name, &seen)) {
        version->open += seen.open;
        version->requests += seen.requests;
        version->errors += seen.errors;
    }
    return seen.weight;
}

void docker_observe(struct target *dk, const char *key, struct target_view *ret_view)
{
    ret_view->count = 0;
    const struct place *place = ec_map_get(dk->places, key);
    if (place == NULL) {
        return;
    }
    int weights[TARGET_VERSIONS_MAX] = {0};
    int sum = 0;
    struct instance *instance;
    for (size_t at = 0; docker_next(place, &at, &instance);) {
        if (instance->retire_mono_ms > 0) {
            continue; /* a replica too many */
        }
        struct target_version *version = version_of(ret_view, &instance->identity);
        if (version != NULL) {
            int weight = add_instance(version, dk, instance);
            weights[version - ret_view->versions] += weight;
            sum += weight;
        }
    }
    for (size_t i = 0; i < ret_view->count && sum > 0; i++) {
        ret_view->versions[i].weight_percent = (weights[i] * 100 + sum / 2) / sum;
    }
}

static size_t keys(struct target *dk, const char **ret_keys, size_t max)
{
    size_t count = 0;
    const char *key;
    void *value;
    for (size_t at = 0; count < max && ec_map_next(dk->places, &at, &key, &value);) {
        size_t from = 0;
        struct instance *instance;
        if (docker_next(value, &from, &instance)) {
            ret_keys[count++] = key;
        }
    }
    return count;
}

static const char *unready(struct target *dk)
{
    if (!dk->listed_once || !dk->reached) {
        return "the container engine does not answer on ENCLII_DOCKER_SOCKET";
    }
    return router_unready(dk->router);
}

/* ---- removal ---- */

struct removal {
    struct target *dk;
    char *key;
    target_done_fn done; /* NULL: nobody waits */
    void *arg;
};

/* The router let go of them: now they may be stopped, which goes on behind. Else they are as they
 * were, and whoever wants them gone tries again: requests may still be sent to them. */
static void on_unrouted(void *arg, struct ec_err err)
{
    struct removal *removal = arg;
    void *value;
    for (size_t at = 0; ec_map_next(removal->dk->instances, &at, NULL, &value);) {
        struct instance *instance = value;
        struct router_seen seen;
        if (!instance->removing || instance->unrouted ||
            strcmp(instance->place->key, removal->key) != 0) {
            continue;
        }
        bool served = router_find(removal->dk->router, instance->name, &seen) && !seen.stopped;
        if (!ec_failed(err) && served) {
            err = ec_retry(0, "HAProxy still has a container that is to go");
        }
        instance->removing = !ec_failed(err);
        if (instance->removing) {
            docker_discard(instance, true);
        }
    }
    if (removal->done != NULL) {
        removal->done(removal->arg, err);
    }
    free(removal->key);
    free(removal);
}

static void unroute(struct target *dk, const char *key, target_done_fn done, void *arg)
{
    struct removal *removal = ec_alloc(sizeof *removal);
    *removal = (struct removal){dk, ec_strdup(key), done, arg};
    docker_sync(dk, key, on_unrouted, removal);
}

/* A replica too many gets no new requests; it goes when those under way have ended. */
void docker_retire(struct target *dk)
{
    void *value;
    for (size_t at = 0; ec_map_next(dk->instances, &at, NULL, &value);) {
        struct instance *instance = value;
        struct router_seen seen = {0};
        if (instance->retire_mono_ms == 0 || instance->removing) {
            continue;
        }
        bool late = ec_mono_ms() - instance->retire_mono_ms >= RETIRE_MAX_MS;
        bool idle =
            !router_find(dk->router, instance->name, &seen) || (seen.weight == 0 && seen.open == 0);
        if (idle || late) {
            instance->removing = true;
            docker_route(instance->place);
            unroute(dk, instance->place->key, NULL, NULL);
        }
    }
}

static struct ec_err remove_version(struct target *dk, const char *key,
                                    const struct target_identity *identity, target_done_fn done,
                                    void *arg)
{
    struct place *place = docker_place(dk, key);
    struct instance *instance;
    for (size_t at = 0; docker_next(place, &at, &instance);) {
        if (identity == NULL || strcmp(instance->identity.text, identity->text) == 0) {
            instance->removing = true;
        }
    }
    if (identity == NULL) {
        place->share_count = 0;
        place->shares_known = false;
        router_forget(dk->router, key);
    } else {
        docker_route(place);
    }
    unroute(dk, key, done, arg);
    return ec_ok();
}

/* ---- life ---- */

static void on_router_changed(void *arg)
{
    struct target *dk = arg;
    void *value;
    for (size_t at = 0; !dk->closed && ec_map_next(dk->places, &at, NULL, &value);) {
        docker_changed(value);
    }
    if (!dk->closed) {
        docker_retire(dk);
    }
}

struct ec_err target_docker_open(const struct target_docker_settings *settings,
                                 struct target **ret_target)
{
    if (strpbrk(settings->instance, "\"\\%&=, ") != NULL) {
        return ec_fatal(0, "ENCLII_INSTANCE may have letters, digits and dashes only");
    }
    struct target *dk = ec_alloc(sizeof *dk);
    dk->is = *settings;
    dk->instance = ec_strdup(settings->instance);
    docker_watch_start(dk);
    EC_TRY(router_open(settings->loop, settings->haproxy_socket, settings->haproxy_dir,
                       on_router_changed, dk, &dk->router));
    *ret_target = dk;
    return ec_ok();
}

static void keep(struct target *dk, const char *key)
{
    const struct place *place = docker_place(dk, key);
    struct instance *instance;
    router_keep(dk->router, key, "");
    for (size_t at = 0; docker_next(place, &at, &instance);) {
        router_keep(dk->router, key, instance->name);
    }
}

static void complete(struct target *dk)
{
    router_complete(dk->router);
}

static void close_target(struct target *dk)
{
    dk->closed = true;
    ec_timer_free(dk->refresh_timer);
    ec_timer_free(dk->notify_timer);
    void *value;
    for (size_t at = 0; ec_map_next(dk->instances, &at, NULL, &value);) {
        struct instance *instance = value;
        ec_timer_free(EC_TAKE(instance->timer));
        if (instance->fetch != NULL) {
            ec_fetch_cancel(instance->fetch);
        }
    }
    if (dk->events != NULL) {
        ec_fetch_cancel(dk->events);
    }
    router_close(dk->router);
    docker_stop_waiting(dk);
}

const struct target_ops target_docker_ops = {
    .name = "docker",
    .observe = docker_observe,
    .prepare = docker_prepare,
    .prepare_stop = docker_prepare_stop,
    .apply = docker_apply,
    .set_routes = docker_set_routes,
    .shift_traffic = docker_shift_traffic,
    .remove = remove_version,
    .logs = docker_last_lines,
    .log_open = docker_log_open,
    .log_close = docker_log_close,
    .keys = keys,
    .keep = keep,
    .complete = complete,
    .unready = unready,
    .close = close_target,
};
