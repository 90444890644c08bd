/* Doing what decide_rollout.c says: each effect is one call of the target, its end notes what
 * changed, and the rollout looks again. One effect at a time per service and environment; different
 * ones run side by side. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "reconciler.h"

#define LOG_LINES 12
#define CALM_MS 30000 /* having run so long, the next crash begins a new back-off */

static void look_now(void *arg);

/* ---- one per service and environment ---- */

struct rollout *rollout_find(struct reconciler *rec, const char *key)
{
    struct rollout *ro = ec_map_get(rec->rollouts, key);
    if (ro != NULL) {
        return ro;
    }
    ro = ec_alloc(sizeof *ro);
    ro->rec = rec;
    ro->key = ec_strdup(key);
    ro->timer = ec_timer_new(ec_service_loop(rec->svc), look_now, ro);
    ro->backoff = (struct ec_backoff){.first_ms = 1000, .cap_ms = 60000};
    ro->wanted_told = -1;
    if (!ec_map_put(rec->rollouts, key, ro)) {
        ec_service_fail(rec->svc, ec_fatal(0, "more services than one reconciler may keep"));
    }
    return ro;
}

void rollout_free(void *arg)
{
    struct rollout *ro = arg;
    ec_timer_free(ro->timer);
    ec_arena_free(ro->arena);
    free(ro->key);
    free(ro);
}

/* ---- ends of effects ---- */

static void effect_over(struct rollout *ro)
{
    ro->busy = false;
    rollout_look(ro);
}

static void begin_step(struct rollout *ro)
{
    struct target_view view;
    ro->rec->ops->observe(ro->rec->target, ro->key, &view);
    const struct target_version *wanted = find_version(&view, &ro->wanted);
    ro->base_new = wanted ? *wanted : (struct target_version){.total = 0};
    ro->base_old = rollout_rest(ro, &view);
    ro->step_mono_ms = ec_mono_ms();
    ro->judged = false;
    if (ro->doing.percent >= 100) {
        ro->drain_mono_ms = ro->step_mono_ms;
    }
}

static void give_up(struct rollout *ro, const char *reason, const char *detail)
{
    ro->failure = reason;
    snprintf(ro->detail, sizeof ro->detail, "%s", detail);
    ec_utf8_trim(ro->detail); /* an event's text: half a character would make it unreadable */
    ec_log(EC_LOG_WARN, ro->trace, "rollout.failed", ro->detail, EC_T("reason", reason),
           EC_T("key", ro->key));
}

static void after_failure(struct rollout *ro, struct ec_err err)
{
    enum rollout_step step = ro->doing.step;
    ec_log(EC_LOG_WARN, ro->trace, "rollout.step_failed", "a step failed",
           EC_T("step", rollout_step_name(step)), EC_T("key", ro->key), EC_ERR(err));
    bool settled = ro->desired != NULL && ro->desired->settled;
    ro->pulled = ro->pulled && err.sys != 404; /* the image is gone: fetch it again */
    if (err.fate == EC_FATE_REJECT && !settled && ro->failure == NULL &&
        (step == STEP_PULL || step == STEP_START)) {
        give_up(ro, step == STEP_PULL ? "image_pull_failed" : "start_failed", err.what);
        return;
    }
    /* A pull that the deadline cut short says less than the one before it. */
    bool cut_short = step == STEP_PULL && err.sys == ETIMEDOUT && ro->fault[0] != '\0';
    if (!cut_short) {
        snprintf(ro->fault, sizeof ro->fault, "%s", err.what);
    }
    ro->retry_mono_ms = ec_mono_ms() + 200 + ec_backoff_next_ms(&ro->backoff);
    ec_timer_start(ro->timer, (uint64_t)(ro->retry_mono_ms - ec_mono_ms()), 0);
}

static void after_start(struct rollout *ro)
{
    ro->started_mono_ms = ro->began_mono_ms;
    ro->healthy_told = false;
    publish_step(ro, "start", ro->began_mono_ms, 0, "");
    /* Should it die at once, the next start waits. */
    ro->retry_mono_ms = ec_mono_ms() + ec_backoff_next_ms(&ro->backoff);
}

/* Something else is wanted by now: what the effect brought or failed at is of no release that
 * counts, and the next look sees what is there. */
static bool overtaken(const struct rollout *ro)
{
    return ro->aim != ro->doing_aim;
}

static void on_effect(void *arg, struct ec_err err)
{
    struct rollout *ro = arg;
    ro->pulling = NULL;
    if (ec_service_stopping(ro->rec->svc)) {
        ro->busy = false;
        return;
    }
    if (overtaken(ro)) {
        rollout_routes_again(ro->rec); /* it may have been a removal */
        effect_over(ro);
        return;
    }
    if (ec_failed(err)) {
        after_failure(ro, err);
        ro->busy = false;
        if (ro->failure != NULL || ro->again) {
            rollout_look(ro);
        }
        return;
    }
    ro->fault[0] = '\0';
    switch (ro->doing.step) {
    case STEP_PULL:
        ro->pulled = true;
        publish_step(ro, "pull", ro->began_mono_ms, 0, "");
        break;
    case STEP_START:
        after_start(ro);
        break;
    case STEP_RESTORE:
        ro->retry_mono_ms = ec_mono_ms() + ec_backoff_next_ms(&ro->backoff);
        break;
    case STEP_JUDGE:
        ro->judged = true;
        break;
    case STEP_ROUTE:
        begin_step(ro);
        publish_step(ro, "weight", ro->began_mono_ms, ro->doing.percent, "");
        break;
    case STEP_ROUTE_BACK:
        publish_step(ro, "back", ro->began_mono_ms, 0, "");
        break;
    case STEP_REMOVE:
        publish_step(ro, "remove", ro->began_mono_ms, 0, "");
        break;
    case STEP_CLEAR:
        ro->reported = true;
        rollout_routes_again(ro->rec);
        break;
    default:
        break;
    }
    effect_over(ro);
}

/* The last words of a bad version, behind what we know ourselves. */
static void on_last_words(void *arg, struct ec_err err, struct ec_span text)
{
    struct rollout *ro = arg;
    size_t used = strlen(ro->detail);
    if (!ec_failed(err) && !overtaken(ro) && text.len > 0 && used + 32 < sizeof ro->detail) {
        size_t room = sizeof ro->detail - used - 32;
        size_t skip = text.len > room ? text.len - room : 0;
        while (skip < text.len && ((unsigned char)text.ptr[skip] & 0xc0) == 0x80) {
            skip++; /* not from within a character */
        }
        snprintf(ro->detail + used, sizeof ro->detail - used, "\nlast lines of its log:\n%.*s",
                 (int)(text.len - skip), text.ptr + skip);
    }
    if (ec_service_stopping(ro->rec->svc)) {
        ro->busy = false;
        return;
    }
    effect_over(ro);
}

/* ---- effects ---- */

static struct ec_err apply(struct rollout *ro, const Enclii__V1__DesiredRelease *release,
                           const struct target_identity *identity)
{
    const struct target_goal goal = {
        .key = ro->key,
        .identity = *identity,
        .deployment_id = ro->desired->deployment_id,
        .service = ro->desired->service,
        .environment = ro->desired->environment,
        .release = release,
    };
    return ro->rec->ops->apply(ro->rec->target, &goal, on_effect, ro);
}

static struct ec_err route(struct rollout *ro, const struct rollout_decision *decision)
{
    struct target_share shares[2];
    size_t count = 0;
    if (decision->percent > 0) {
        shares[count++] = (struct target_share){ro->wanted, decision->percent};
    }
    if (decision->version != NULL && decision->percent < 100) {
        shares[count++] =
            (struct target_share){decision->version->identity, 100 - decision->percent};
    }
    return ro->rec->ops->shift_traffic(ro->rec->target, ro->key, shares, count, on_effect, ro);
}

static struct ec_err collect_last_words(struct rollout *ro, const struct rollout_decision *decision,
                                        const struct rollout_facts *facts)
{
    char text[TARGET_DETAIL_SIZE];
    const struct target_version *version = decision->version;
    snprintf(text, sizeof text, "%s", version ? version->detail : "");
    if (strcmp(decision->reason, "image_pull_failed") == 0) {
        snprintf(text, sizeof text, "%s", ro->fault);
    } else if (strcmp(decision->reason, "deadline") == 0) {
        snprintf(text, sizeof text, "the rollout did not end within its deadline%s%.400s",
                 ro->fault[0] ? "; what it met last: " : "", ro->fault);
    } else if (strcmp(decision->reason, "error_rate") == 0) {
        snprintf(text, sizeof text,
                 "%lld of %lld requests to the new version failed at %d%% of the traffic "
                 "(old version: %lld of %lld); at most %.1f%% may",
                 (long long)facts->errors_new, (long long)facts->requests_new,
                 version ? version->weight_percent : 0, (long long)facts->errors_old,
                 (long long)facts->requests_old, facts->error_rate_max * 100.0);
    }
    give_up(ro, decision->reason, text);
    return ro->rec->ops->logs(ro->rec->target, ro->key, &ro->wanted, LOG_LINES, on_last_words, ro);
}

static struct ec_err start_effect(struct rollout *ro, const struct rollout_decision *decision,
                                  const struct rollout_facts *facts)
{
    struct target *target = ro->rec->target;
    const struct target_ops *ops = ro->rec->ops;
    switch (decision->step) {
    case STEP_PULL:
        return ops->prepare(target, ro->desired->release->image, decide_pull_ms(facts), on_effect,
                            ro, &ro->pulling);
    case STEP_START:
        return apply(ro, ro->desired->release, &ro->wanted);
    case STEP_RESTORE:
        return apply(ro, ro->desired->previous, &ro->previous);
    case STEP_JUDGE: /* the same shares again: done means that the router was looked at */
    case STEP_ROUTE:
    case STEP_ROUTE_BACK:
        return route(ro, decision);
    case STEP_REMOVE:
        return ops->remove(target, ro->key, &decision->version->identity, on_effect, ro);
    case STEP_CLEAR:
        return ops->remove(target, ro->key, NULL, on_effect, ro);
    default:
        return collect_last_words(ro, decision, facts);
    }
}

/* ---- looking ---- */

/* What changed by itself since the last look: told, and the back-off ends after a calm time. */
static void note_health(struct rollout *ro, const struct target_view *view)
{
    const struct target_version *wanted = find_version(view, &ro->wanted);
    bool ready = wanted != NULL && wanted->ready >= rollout_replicas(ro->desired->release);
    int64_t now = ec_mono_ms();
    if (ready && !ro->healthy_told && ro->started_mono_ms > 0) {
        ro->healthy_told = true;
        publish_step(ro, "healthy", ro->started_mono_ms, 0, "");
    }
    if (ready && ro->started_mono_ms > 0 && now - ro->started_mono_ms > CALM_MS) {
        ec_backoff_reset(&ro->backoff);
    }
    if (ready && wanted->weight_percent >= 100 && ro->drain_mono_ms == 0) {
        ro->drain_mono_ms = now;
    }
    if (ro->desired->settled || (ro->reported && ro->failure == NULL)) {
        publish_status(ro, view, NULL);
    }
}

static void forget(struct rollout *ro)
{
    struct reconciler *rec = ro->rec;
    (void)ec_map_remove(rec->rollouts, ro->key);
    rollout_free(ro);
}

/* Else the bus did not take it, and its own timer says when to try again. */
static void look_if_reported(struct rollout *ro)
{
    if (ro->reported) {
        rollout_look(ro);
    }
}

static void look_now(void *arg)
{
    struct rollout *ro = arg;
    struct reconciler *rec = ro->rec;
    ro->again = false;
    if (ec_service_stopping(rec->svc)) {
        return;
    }
    const char *away = rec->ops->unready(rec->target);
    if (!rec->caught_up || away != NULL) {
        snprintf(ro->fault, sizeof ro->fault, "%s", away ? away : ""); /* should the time run out */
        ec_timer_start(ro->timer, 200, 0);
        return;
    }
    struct target_view view;
    rec->ops->observe(rec->target, ro->key, &view);
    struct rollout_facts facts;
    rollout_facts_now(ro, &view, &facts);
    if (ro->desired != NULL) {
        note_health(ro, &view);
    }
    struct rollout_decision decision = decide_next_step(&facts);
    switch (decision.step) {
    case STEP_NONE:
        return;
    case STEP_WAIT:
        ec_timer_start(ro->timer, (uint64_t)decision.wait_ms, 0);
        return;
    case STEP_FORGET:
        forget(ro);
        return;
    case STEP_REPORT_DONE:
        publish_rolled_out(ro);
        look_if_reported(ro);
        return;
    case STEP_REPORT_REVERTED:
        publish_reverted(ro, decision.version != NULL);
        look_if_reported(ro);
        return;
    default:
        break;
    }
    ec_log(EC_LOG_DEBUG, ro->trace, "rollout.step", rollout_step_name(decision.step),
           EC_T("key", ro->key), EC_N("percent", decision.percent));
    ro->busy = true;
    ro->doing = decision;
    ro->doing.version = NULL; /* the view is gone after this turn */
    ro->doing_aim = ro->aim;
    ro->began_mono_ms = ec_mono_ms();
    struct ec_err err = start_effect(ro, &decision, &facts);
    if (ec_failed(err)) {
        ro->busy = false;
        after_failure(ro, err);
        if (ro->failure != NULL) {
            rollout_look(ro);
        }
    }
}

void rollout_look(struct rollout *ro)
{
    if (ro->held) {
        return;
    }
    if (ro->busy || ec_service_stopping(ro->rec->svc)) {
        ro->again = true;
        return;
    }
    ec_timer_start(ro->timer, 1, 0);
}
