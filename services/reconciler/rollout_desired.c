/* What should run, as the newest record of enclii.desired says it. A record that cannot be acted on
 * is a dead letter and changes nothing: what runs keeps running. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "docker_api.h"
#include "reconciler.h"

#define ARENA_MAX_BYTES (8u << 20)

static struct ec_metric held =
    EC_GAUGE("enclii_desired_held",
             "Services whose desired state cannot be used: what runs is left as it is.", NULL);

static void *arena_alloc(void *arena, size_t size)
{
    return ec_arena_try(arena, size);
}

static void arena_free(void *arena, void *pointer)
{
    (void)arena;
    (void)pointer;
}

/* Why a good record is not for us now; NULL = it is. */
static const char *decide_pass_over(const struct rollout *ro, const Enclii__V1__Desired *desired)
{
    if (desired->target[0] != '\0' && strcmp(desired->target, ro->rec->ops->name) != 0) {
        return "it is for another target";
    }
    if (ro->desired != NULL && desired->revision < ro->desired->revision) {
        return "a newer revision came before";
    }
    return NULL;
}

/* NULL when this record can be acted on; else what is wrong with it. */
static const char *decide_fault(const Enclii__V1__Desired *desired)
{
    if (desired == NULL) {
        return "it takes more memory than a desired state may";
    }
    const Enclii__V1__DesiredRelease *release = desired->release;
    if (release == NULL) {
        return NULL; /* nothing should run */
    }
    bool named = desired->service != NULL && desired->environment != NULL && release->run != NULL &&
                 release->image[0] != '\0' && strlen(release->release_id) < EC_ID_SIZE;
    return named ? NULL : "service, environment, image, run or a valid release id is missing";
}

/* Something else is wanted: the effect under way is overtaken. A pull may take minutes to fail; it
 * ends now. */
static void aim_anew(struct rollout *ro)
{
    ro->aim++;
    if (ro->pulling != NULL) {
        ro->rec->ops->prepare_stop(EC_TAKE(ro->pulling));
    }
}

static int64_t deadline_of(const Enclii__V1__Desired *desired)
{
    if (desired->deadline_unix_ms <= 0) {
        return 0;
    }
    int64_t mono_ms = ec_mono_ms() + (desired->deadline_unix_ms - ec_unix_ms());
    return mono_ms > 1 ? mono_ms : 1;
}

static void begin_anew(struct rollout *ro, bool same_wanted)
{
    aim_anew(ro);
    ro->reported = false;
    ro->failure = NULL;
    ro->detail[0] = '\0';
    ro->fault[0] = '\0';
    ro->judged = false;
    ro->step_count = 0;
    ro->healthy_told = false;
    ro->retry_mono_ms = 0;
    ro->wanted_told = -1;
    if (!same_wanted) {
        ro->pulled = false;
        ro->started_mono_ms = 0;
        ro->step_mono_ms = 0;
        ro->drain_mono_ms = 0;
        ec_backoff_reset(&ro->backoff);
    }
}

static void take_desired(struct rollout *ro, const Enclii__V1__Desired *desired,
                         struct ec_arena *arena)
{
    const Enclii__V1__Desired *was = ro->desired;
    struct target_identity wanted = docker_identity(desired->release);
    bool same_wanted = was != NULL && strcmp(wanted.text, ro->wanted.text) == 0;
    bool same_deployment = was != NULL && was->settled == desired->settled &&
                           strcmp(was->deployment_id, desired->deployment_id) == 0;
    struct ec_arena *old = ro->arena;
    ro->arena = arena;
    ro->desired = desired;
    ro->wanted = wanted;
    ro->deadline_mono_ms = deadline_of(desired);
    memset(&ro->previous, 0, sizeof ro->previous);
    if (desired->previous != NULL && desired->previous->run != NULL) {
        ro->previous = docker_identity(desired->previous);
    }
    if (!same_wanted || !same_deployment) {
        begin_anew(ro, same_wanted);
    } else {
        ro->step_count = 0; /* their texts were in the old arena */
    }
    ec_arena_free(old);
}

static void forget_unrouted(struct rollout *ro)
{
    ro->rec->unrouted -= ro->unrouted;
    ro->unrouted = false;
}

static void drop_desired(struct rollout *ro)
{
    forget_unrouted(ro);
    aim_anew(ro);
    ro->desired = NULL;
    ro->reported = false;
    ro->failure = NULL;
    ro->step_count = 0;
    ec_arena_free(EC_TAKE(ro->arena));
}

/* Without this the next look would find that nothing is wanted, and remove what serves. */
void rollout_hold(struct rollout *ro)
{
    if (ro->desired == NULL && (!ro->held || ro->leftover)) {
        leftover_let_go(ro); /* there is a record, though nobody can tell what it says */
        ro->held = true;
        ro->rec->held++;
        ec_metric_set(&held, NULL, ro->rec->held);
        ec_log(EC_LOG_WARN, NULL, "desired.held",
               "the desired state cannot be used and no earlier one is known: what runs is left as "
               "it is",
               EC_T("key", ro->key));
        if (ro->rec->completed) {
            ro->rec->ops->keep(ro->rec->target, ro->key);
        }
    }
}

static void let_go(struct rollout *ro)
{
    if (ro->held && !ro->leftover) {
        ro->rec->held--;
        ec_metric_set(&held, NULL, ro->rec->held);
    }
    ro->held = false;
    leftover_let_go(ro);
}

/* ---- routes: each host name and path is one key's ---- */

static EC_RESULT try_routes(struct rollout *ro)
{
    const struct reconciler *rec = ro->rec;
    return rec->ops->set_routes(rec->target, ro->key, ro->desired->routes, ro->desired->n_routes);
}

/* A route that goes from one service to another may be told to the new one first: records of two
 * keys come in any order, above all when the topic is read from its beginning. */
void rollout_routes_again(struct reconciler *rec)
{
    void *value;
    for (size_t at = 0; rec->unrouted > 0 && ec_map_next(rec->rollouts, &at, NULL, &value);) {
        struct rollout *ro = value;
        if (ro->unrouted && !ec_failed(try_routes(ro))) {
            ro->unrouted = false;
            rec->unrouted--;
        }
    }
}

static void set_routes(struct rollout *ro, struct ec_event *ev)
{
    struct reconciler *rec = ro->rec;
    struct ec_err err = try_routes(ro);
    if (ec_failed(err)) {
        ro->unrouted = true;
        rec->unrouted++;
        ec_log(EC_LOG_WARN, ro->trace, "routes.refused", "tried again when others change",
               EC_T("key", ro->key), EC_ERR(err));
    }
    if (ec_failed(err) && rec->caught_up) {
        ec_table_reject(
            ev, ec_arena_format(ec_event_arena(ev), "the routes cannot be set: %s", err.what));
    }
    rollout_routes_again(rec);
}

void rollout_set(struct rollout *ro, struct ec_event *ev)
{
    snprintf(ro->trace, sizeof ro->trace, "%s", ec_event_trace(ev));
    if (ec_event_body(ev) == NULL) {
        drop_desired(ro);
        let_go(ro);
        rollout_look(ro);
        return;
    }
    struct ec_arena *arena = ec_arena_new(ARENA_MAX_BYTES);
    ProtobufCAllocator allocator = {arena_alloc, arena_free, arena};
    struct ec_span raw = ec_event_raw(ev);
    const Enclii__V1__Desired *desired =
        enclii__v1__desired__unpack(&allocator, raw.len, (const uint8_t *)raw.ptr);
    const char *fault = decide_fault(desired);
    if (fault != NULL) { /* what runs keeps running: a bad record must not take a service down */
        ec_table_reject(ev, fault);
        rollout_hold(ro);
        ec_arena_free(arena);
        return;
    }
    const char *why = decide_pass_over(ro, desired);
    if (why != NULL) {
        let_go(ro);
        ec_log(EC_LOG_WARN, ro->trace, "desired.ignored", why, EC_T("key", ro->key));
        ec_arena_free(arena);
        return;
    }
    if (desired->release == NULL) {
        ec_arena_free(arena);
        drop_desired(ro);
        let_go(ro);
        rollout_look(ro);
        return;
    }
    take_desired(ro, desired, arena);
    forget_unrouted(ro);
    set_routes(ro, ev);
    let_go(ro); /* its routes are told: those of nobody may go */
    rollout_look(ro);
}
