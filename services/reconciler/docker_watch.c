/* The live picture of our containers. The engine's event stream says only when to look; what is
 * there always comes from the list (which is the truth, and cheap: 5 ms), so repeated, missing and
 * reordered events do no harm. The list is read every 5 s in any case. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "docker.h"

#define LIST_EVERY_MS 5000
#define LIST_SOON_MS 5
#define LIST_FAILED_MS 1000
#define LIST_DEADLINE_MS 10000
#define EVENTS_DEADLINE_MS 3600000 /* then the stream is opened anew */
#define PLACES_MAX 5000

static struct ec_metric lists =
    EC_COUNTER("enclii_target_lists_total", "Container lists read, by result.", "result");

static void on_refresh_due(void *arg);
static void open_events(struct target *dk);

void docker_call_ended(struct target *dk)
{
    dk->pending--;
    docker_stop_waiting(dk);
}

struct ec_err docker_call_held(struct target *dk, const struct ec_fetch_spec *call,
                               ec_fetch_fn done, void *arg, struct ec_fetch **ret_fetch)
{
    struct ec_fetch_spec spec = *call;
    spec.unix_socket = dk->is.docker_socket;
    EC_TRY(ec_fetch_start(dk->is.fetcher, &spec, done, arg, ret_fetch));
    dk->pending++;
    return ec_ok();
}

struct ec_err docker_call(struct target *dk, const struct ec_fetch_spec *call, ec_fetch_fn done,
                          void *arg)
{
    return docker_call_held(dk, call, done, arg, NULL);
}

/* ---- places ---- */

struct place *docker_place(struct target *dk, const char *key)
{
    struct place *place = ec_map_get(dk->places, key);
    if (place != NULL) {
        return place;
    }
    place = ec_alloc(sizeof *place);
    place->dk = dk;
    place->key = ec_strdup(key);
    if (!ec_map_put(dk->places, key, place)) {
        ec_log(EC_LOG_ERROR, NULL, "target.full", "too many services for one machine",
               EC_N("max", PLACES_MAX));
        abort();
    }
    return place;
}

static void on_notify(void *arg)
{
    struct target *dk = arg;
    const char *key;
    void *value;
    for (size_t at = 0; ec_map_next(dk->places, &at, &key, &value);) {
        struct place *place = value;
        if (place->changed) {
            place->changed = false;
            dk->is.changed(dk->is.arg, key); /* only notes it: the map does not change here */
        }
    }
}

void docker_changed(struct place *place)
{
    place->changed = true;
    if (!place->dk->closed && !ec_timer_active(place->dk->notify_timer)) {
        ec_timer_start(place->dk->notify_timer, 1, 0);
    }
}

/* ---- the list ---- */

static struct instance *add_instance(struct target *dk, const struct container *found)
{
    struct instance *instance = ec_alloc(sizeof *instance);
    instance->place = docker_place(dk, found->key);
    instance->place->instances++;
    instance->id = ec_strdup(found->id);
    instance->name = ec_strdup(found->name);
    strncpy(instance->identity.text, found->identity, sizeof instance->identity.text - 1);
    instance->replica = found->replica;
    instance->probe = found->probe;
    instance->probe.path = ec_strdup(found->probe.path);
    instance->state = CONTAINER_CREATED;
    instance->timer = docker_probe_timer(instance);
    if (!ec_map_put(dk->instances, found->id, instance)) {
        docker_instance_free(instance);
        return NULL;
    }
    docker_changed(instance->place);
    return instance;
}

static void take_container(struct target *dk, const struct container *found)
{
    struct instance *instance = ec_map_get(dk->instances, found->id);
    instance = instance ? instance : add_instance(dk, found);
    if (instance == NULL) {
        return;
    }
    instance->listed = true;
    bool news = instance->state != found->state || instance->host_port != found->host_port;
    bool died = found->state == CONTAINER_EXITED && instance->state == CONTAINER_RUNNING;
    bool again = found->state == CONTAINER_RUNNING &&
                 (instance->state == CONTAINER_EXITED ||
                  (instance->host_port > 0 && instance->host_port != found->host_port));
    instance->state = found->state;
    instance->exit_code = found->exit_code;
    instance->host_port = found->host_port;
    if (news) {
        docker_changed(instance->place);
    }
    if (again) {
        docker_probe_anew(instance);
    }
    if (died && !instance->removing) {
        ec_log(EC_LOG_WARN, NULL, "replica.died", "a container ended by itself",
               EC_T("container", instance->name), EC_N("exit_code", instance->exit_code));
    }
    if (instance->unrouted && !instance->stopping) {
        docker_discard(instance, false); /* an earlier try did not get through */
    }
    docker_probe_start(instance);
}

static void drop_unlisted(struct target *dk)
{
    const char *id;
    void *value;
    for (size_t at = 0; ec_map_next(dk->instances, &at, &id, &value);) {
        struct instance *instance = value;
        if (!instance->listed) {
            (void)ec_map_remove(dk->instances, id);
            docker_changed(instance->place);
            docker_instance_free(instance);
        }
    }
}

/* Keys come and go (each pull request's preview is one). */
static void drop_places(struct target *dk)
{
    const char *key;
    void *value;
    for (size_t at = 0; ec_map_next(dk->places, &at, &key, &value);) {
        struct place *place = value;
        if (place->instances == 0 && !place->shares_known && !place->changed) {
            (void)ec_map_remove(dk->places, key);
            free(place->key);
            free(place);
        }
    }
}

static struct ec_err take_list(struct target *dk, struct ec_span json)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    struct container *list = NULL;
    size_t count = 0;
    if (ec_failed(docker_read_list(arena, json, &list, &count))) {
        return ec_retry(0, "the container engine's list cannot be read");
    }
    const char *key;
    void *value;
    for (size_t at = 0; ec_map_next(dk->instances, &at, &key, &value);) {
        ((struct instance *)value)->listed = false;
    }
    for (size_t i = 0; i < count; i++) {
        take_container(dk, &list[i]);
    }
    drop_unlisted(dk);
    drop_places(dk);
    for (size_t at = 0; ec_map_next(dk->places, &at, &key, &value);) {
        docker_route(value);
    }
    docker_retire(dk);
    dk->listed_once = true;
    return ec_ok();
}

/* Sooner than planned, never later: somebody may wait for it. */
static void refresh_in(struct target *dk, uint32_t delay_ms)
{
    int64_t due_mono_ms = ec_mono_ms() + delay_ms;
    if (dk->refresh_mono_ms == 0 || due_mono_ms < dk->refresh_mono_ms) {
        dk->refresh_mono_ms = due_mono_ms;
        ec_timer_start(dk->refresh_timer, delay_ms, 0);
    }
}

static void answer_waiters(struct refresh_waiter **list, struct ec_err err)
{
    struct refresh_waiter *waiter = EC_TAKE(*list);
    while (waiter != NULL) {
        struct refresh_waiter *next = waiter->next;
        waiter->done(waiter->arg, err);
        free(waiter);
        waiter = next;
    }
}

void docker_stop_waiting(struct target *dk)
{
    if (dk->closed) {
        answer_waiters(&dk->served, ec_retry(0, "the reconciler is stopping"));
        answer_waiters(&dk->waiting, ec_retry(0, "the reconciler is stopping"));
    }
}

static void on_list(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct target *dk = arg;
    dk->refreshing = false;
    if (dk->closed) {
        docker_call_ended(dk);
        return;
    }
    if (!ec_failed(err)) {
        err = ec_fetch_status_err(result->status, "the container engine refused the list");
    }
    if (!ec_failed(err)) {
        err = take_list(dk, result->body);
    }
    bool reached = !ec_failed(err);
    ec_metric_add(&lists, reached ? "ok" : "failed", 1);
    if (reached != dk->reached) {
        ec_log(reached ? EC_LOG_INFO : EC_LOG_WARN, NULL,
               reached ? "target.reached" : "target.lost",
               reached ? "the container engine answers" : "the container engine cannot be reached",
               EC_T("socket", dk->is.docker_socket), EC_T("detail", reached ? "" : err.what));
    }
    dk->reached = reached;
    bool soon = dk->waiting != NULL || dk->refresh_again;
    refresh_in(dk, soon ? LIST_SOON_MS : reached ? LIST_EVERY_MS : LIST_FAILED_MS);
    answer_waiters(&dk->served, err);
    if (reached && dk->events == NULL) {
        open_events(dk);
    }
    docker_call_ended(dk);
}

static void on_refresh_due(void *arg)
{
    struct target *dk = arg;
    dk->refresh_mono_ms = 0;
    if (dk->refreshing || dk->closed) {
        dk->refresh_again = true; /* the list under way may be from before the change */
        return;
    }
    dk->refresh_again = false;
    const struct ec_fetch_spec call = {
        .url = dk->list_url,
        .deadline_ms = LIST_DEADLINE_MS,
        .body_max_bytes = DOCKER_ARENA_MAX_BYTES / 2,
    };
    dk->refreshing = true;
    dk->served = EC_TAKE(dk->waiting);
    struct ec_err err = docker_call(dk, &call, on_list, dk);
    if (ec_failed(err)) {
        dk->refreshing = false;
        answer_waiters(&dk->served, err);
        refresh_in(dk, LIST_EVERY_MS);
    }
}

void docker_refresh(struct target *dk, uint32_t delay_ms, target_done_fn done, void *arg)
{
    if (dk->closed) { /* what was under way ends after us: there is no timer any more */
        if (done != NULL) {
            done(arg, ec_retry(0, "the reconciler is stopping"));
        }
        return;
    }
    if (done != NULL) {
        struct refresh_waiter *waiter = ec_alloc(sizeof *waiter);
        *waiter = (struct refresh_waiter){done, arg, dk->waiting};
        dk->waiting = waiter;
    }
    refresh_in(dk, delay_ms); /* while a list runs: the one after it */
}

/* ---- events ---- */

static void on_event_bytes(void *arg, struct ec_span piece)
{
    struct target *dk = arg;
    if (piece.len > 0 && !dk->closed) {
        docker_refresh(dk, LIST_SOON_MS, NULL, NULL);
    }
}

static void on_events_end(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct target *dk = arg;
    (void)err; /* the next list opens it again */
    (void)result;
    dk->events = NULL;
    if (!dk->closed) {
        docker_refresh(dk, LIST_FAILED_MS, NULL, NULL);
    }
    docker_call_ended(dk);
}

static void open_events(struct target *dk)
{
    const struct ec_fetch_spec call = {
        .url = dk->events_url,
        .unix_socket = dk->is.docker_socket,
        .deadline_ms = EVENTS_DEADLINE_MS,
        .on_piece = on_event_bytes,
    };
    struct ec_err err = ec_fetch_start(dk->is.fetcher, &call, on_events_end, dk, &dk->events);
    if (ec_failed(err)) {
        dk->events = NULL; /* the next list tries again */
        return;
    }
    dk->pending++;
}

void docker_watch_start(struct target *dk)
{
    struct ec_arena *arena = ec_arena_new(65536);
    char *filter = ec_arena_format(arena, "{\"label\":[\"enclii.instance=%s\"]}", dk->instance);
    char *encoded = ec_percent(arena, ec_span_of(filter));
    dk->list_url = ec_format("http://docker/v1.41/containers/json?all=true&filters=%s", encoded);
    dk->events_url = ec_format("http://docker/v1.41/events?filters=%s", encoded);
    ec_arena_free(arena);
    dk->instances = ec_map_new(DOCKER_INSTANCES_MAX);
    dk->places = ec_map_new(PLACES_MAX);
    dk->refresh_timer = ec_timer_new(dk->is.loop, on_refresh_due, dk);
    dk->notify_timer = ec_timer_new(dk->is.loop, on_notify, dk);
    refresh_in(dk, 1);
}
