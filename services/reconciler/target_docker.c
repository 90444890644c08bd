/* The docker target's verbs: versions are sets of labelled containers, traffic is HAProxy's
 * weights. Everything is read back from the engine's list and the router, so that kill -9 costs
 * nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "docker.h"

#define PULL_DEADLINE_MS 300000
#define WEIGHT_SCALE 2 /* of HAProxy's 0..256 per percent and version */
#define PLACE_SERVERS_MAX 256

/* ---- traffic ---- */

static int share_of(const struct place *place, const struct target_identity *identity)
{
    for (size_t i = 0; i < place->share_count; i++) {
        if (strcmp(place->shares[i].identity.text, identity->text) == 0) {
            return place->shares[i].percent;
        }
    }
    return 0;
}

static bool next_instance(const struct place *place, size_t *at, struct instance **ret_instance)
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

/* Replicas of a version that requests may go to: the ready ones, or, when none is ready any more,
 * those that once were (an answer that may fail is better than none). */
static bool may_serve(const struct place *place, const struct instance *instance)
{
    if (docker_ready(instance)) {
        return true;
    }
    struct instance *other;
    for (size_t at = 0; next_instance(place, &at, &other);) {
        if (strcmp(other->identity.text, instance->identity.text) == 0 && docker_ready(other)) {
            return false;
        }
    }
    return instance->state == CONTAINER_RUNNING && instance->ever_healthy;
}

static int count_serving(const struct place *place, const struct target_identity *identity)
{
    int count = 0;
    struct instance *instance;
    for (size_t at = 0; next_instance(place, &at, &instance);) {
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

static void observe(struct target *dk, const char *key, struct target_view *ret_view);

/* After a restart of ours the router still has the shares of the process before. */
static void adopt_shares(struct place *place)
{
    struct target_view view;
    observe(place->dk, place->key, &view);
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
    for (size_t at = 0; count < PLACE_SERVERS_MAX && next_instance(place, &at, &instance);) {
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

static void sync_then(struct target *dk, target_done_fn done, void *arg)
{
    struct waiting *waiting = ec_alloc(sizeof *waiting);
    *waiting = (struct waiting){dk, done, arg};
    router_sync(dk->router, on_synced, waiting);
}

static struct ec_err shift_traffic(struct target *dk, const char *key,
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
    sync_then(dk, done, arg);
    return ec_ok();
}

static struct ec_err set_routes(struct target *dk, const char *key,
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

/* ---- looking ---- */

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

static void observe(struct target *dk, const char *key, struct target_view *ret_view)
{
    ret_view->count = 0;
    const struct place *place = ec_map_get(dk->places, key);
    if (place == NULL) {
        return;
    }
    int weights[TARGET_VERSIONS_MAX] = {0};
    int sum = 0;
    struct instance *instance;
    for (size_t at = 0; next_instance(place, &at, &instance);) {
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
        if (next_instance(value, &from, &instance)) {
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

/* ---- images, logs, removal ---- */

struct prepare {
    struct target *dk;
    char *image;
    target_done_fn done;
    void *arg;
};

static void end_prepare(struct prepare *prepare, struct ec_err err)
{
    struct target *dk = prepare->dk;
    prepare->done(prepare->arg, err);
    free(prepare->image);
    free(prepare);
    docker_call_ended(dk);
}

static void on_pulled(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    if (!ec_failed(err)) {
        err = docker_read_pull(arena, result->status, result->body);
    }
    end_prepare(arg, err);
}

static void on_image(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct prepare *prepare = arg;
    if (ec_failed(err) || result->status == 200) {
        end_prepare(prepare, err);
        return;
    }
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    char *image = ec_percent(arena, ec_span_of(prepare->image));
    const struct ec_fetch_spec call = {
        .method = "POST",
        .url = ec_arena_format(arena, "http://docker/v1.41/images/create?fromImage=%s", image),
        .deadline_ms = PULL_DEADLINE_MS,
        .body_max_bytes = 8u << 20,
    };
    err = docker_call(prepare->dk, &call, on_pulled, prepare);
    if (ec_failed(err)) {
        end_prepare(prepare, err);
        return;
    }
    docker_call_ended(prepare->dk);
}

static struct ec_err prepare_image(struct target *dk, const char *image, target_done_fn done,
                                   void *arg)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    if (strpbrk(image, " ?#%\\\n\r\t") != NULL || strstr(image, "..") != NULL) {
        return ec_reject("this is not an image reference");
    }
    const struct ec_fetch_spec call = {
        .url = ec_arena_format(arena, "http://docker/v1.41/images/%s/json", image)};
    struct prepare *prepare = ec_alloc(sizeof *prepare);
    *prepare = (struct prepare){dk, ec_strdup(image), done, arg};
    struct ec_err err = docker_call(dk, &call, on_image, prepare);
    if (ec_failed(err)) {
        free(prepare->image);
        free(prepare);
    }
    return err;
}

struct logs {
    struct target *dk;
    target_logs_fn done;
    void *arg;
};

static void on_logs(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct logs *logs = arg;
    struct target *dk = logs->dk;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    char *text = ec_arena_strdup(arena, "");
    if (!ec_failed(err)) {
        err = ec_fetch_status_err(result->status, "the container engine has no logs of it");
        text = ec_failed(err) ? text : docker_read_logs(arena, result->body);
    }
    logs->done(logs->arg, err, ec_span_of(text));
    free(logs);
    docker_call_ended(dk);
}

static struct ec_err read_logs(struct target *dk, const char *key,
                               const struct target_identity *identity, int lines,
                               target_logs_fn done, void *arg)
{
    const struct place *place = ec_map_get(dk->places, key);
    const struct instance *worst = NULL;
    struct instance *instance;
    for (size_t at = 0; place != NULL && next_instance(place, &at, &instance);) {
        bool same = strcmp(instance->identity.text, identity->text) == 0;
        bool worse = worst == NULL || instance->state == CONTAINER_EXITED ||
                     (!docker_ready(instance) && worst->state != CONTAINER_EXITED);
        worst = same && worse ? instance : worst;
    }
    if (worst == NULL) {
        return ec_reject("nothing of this version runs here");
    }
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    const struct ec_fetch_spec call = {
        .url = ec_arena_format(
            arena, "http://docker/v1.41/containers/%s/logs?stdout=true&stderr=true&tail=%d",
            worst->name, lines),
        .deadline_ms = 5000,
    };
    struct logs *logs = ec_alloc(sizeof *logs);
    *logs = (struct logs){dk, done, arg};
    struct ec_err err = docker_call(dk, &call, on_logs, logs);
    if (ec_failed(err)) {
        free(logs);
    }
    return err;
}

struct removal {
    struct target *dk;
    char *key;
    target_done_fn done;
    void *arg;
};

/* Out of the router: now they may be stopped, which goes on behind. */
static void on_unrouted(void *arg, struct ec_err err)
{
    struct removal *removal = arg;
    void *value;
    for (size_t at = 0; ec_map_next(removal->dk->instances, &at, NULL, &value);) {
        struct instance *instance = value;
        if (instance->removing && strcmp(instance->place->key, removal->key) == 0) {
            docker_discard(instance, true);
        }
    }
    removal->done(removal->arg, err);
    free(removal->key);
    free(removal);
}

static struct ec_err remove_version(struct target *dk, const char *key,
                                    const struct target_identity *identity, target_done_fn done,
                                    void *arg)
{
    struct place *place = docker_place(dk, key);
    struct instance *instance;
    for (size_t at = 0; next_instance(place, &at, &instance);) {
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
    struct removal *removal = ec_alloc(sizeof *removal);
    *removal = (struct removal){dk, ec_strdup(key), done, arg};
    sync_then(dk, on_unrouted, removal);
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
    .observe = observe,
    .prepare = prepare_image,
    .apply = docker_apply,
    .set_routes = set_routes,
    .shift_traffic = shift_traffic,
    .remove = remove_version,
    .logs = read_logs,
    .keys = keys,
    .complete = complete,
    .unready = unready,
    .close = close_target,
};
