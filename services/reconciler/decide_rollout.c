/* The rollout as a function of what is wanted and what is seen. Nothing depends on how we came
 * here, so that a new process, a lost container or a newer revision in the middle need no case of
 * their own: the same rules lead from any state to the goal, and at no point is the last version
 * that serves taken away before another one does. */
#include "decide_rollout.h"

#include <string.h>

static bool same(const struct target_identity *a, const struct target_identity *b)
{
    return strcmp(a->text, b->text) == 0;
}

const struct target_version *find_version(const struct target_view *view,
                                          const struct target_identity *identity)
{
    for (size_t i = 0; i < view->count; i++) {
        if (same(&view->versions[i].identity, identity)) {
            return &view->versions[i];
        }
    }
    return NULL;
}

const char *rollout_step_name(enum rollout_step step)
{
    static const char *const names[] = {
        [STEP_NONE] = "none",
        [STEP_WAIT] = "wait",
        [STEP_PULL] = "pull",
        [STEP_START] = "start",
        [STEP_JUDGE] = "judge",
        [STEP_ROUTE] = "weight",
        [STEP_REMOVE] = "remove",
        [STEP_FAIL] = "fail",
        [STEP_ROUTE_BACK] = "back",
        [STEP_RESTORE] = "restore",
        [STEP_REPORT_DONE] = "rolled_out",
        [STEP_REPORT_REVERTED] = "reverted",
        [STEP_CLEAR] = "clear",
        [STEP_FORGET] = "forget",
    };
    return names[step];
}

/* Of the versions that are not wanted, the best one to serve meanwhile: the previous good release
 * if it is ready, else whatever is ready, the one with most traffic first. NULL when none is ready.
 */
static const struct target_version *find_fallback(const struct rollout_facts *facts)
{
    const struct target_version *best = NULL;
    for (size_t i = 0; i < facts->view->count; i++) {
        const struct target_version *version = &facts->view->versions[i];
        if (version->ready == 0 || same(&version->identity, &facts->wanted)) {
            continue;
        }
        if (facts->has_previous && same(&version->identity, &facts->previous)) {
            return version;
        }
        if (best == NULL || version->weight_percent > best->weight_percent) {
            best = version;
        }
    }
    return best;
}

/* A version that nobody needs: not wanted, not the one that serves meanwhile. */
static const struct target_version *find_surplus(const struct rollout_facts *facts,
                                                 const struct target_version *keep)
{
    for (size_t i = 0; i < facts->view->count; i++) {
        const struct target_version *version = &facts->view->versions[i];
        if (version != keep && !same(&version->identity, &facts->wanted)) {
            return version;
        }
    }
    return NULL;
}

/* Left by a rollout that a newer one overtook before it served, while nothing else serves either:
 * it would wait for ever, and of too many of them the view has no room for the wanted one. */
static const struct target_version *find_useless(const struct rollout_facts *facts)
{
    for (size_t i = 0; i < facts->view->count; i++) {
        const struct target_version *version = &facts->view->versions[i];
        bool good = facts->has_previous && same(&version->identity, &facts->previous);
        if (!good && !same(&version->identity, &facts->wanted) && version->ready == 0 &&
            version->weight_percent == 0) {
            return version;
        }
    }
    return NULL;
}

bool decide_errors_bad(const struct rollout_facts *facts)
{
    if (facts->errors_new < ROLLOUT_ERRORS_MIN || facts->requests_new <= 0) {
        return false;
    }
    double rate_new = (double)facts->errors_new / (double)facts->requests_new;
    double rate_old =
        facts->requests_old > 0 ? (double)facts->errors_old / (double)facts->requests_old : 0.0;
    return rate_new > facts->error_rate_max && rate_new > rate_old * 1.5;
}

uint32_t decide_pull_ms(const struct rollout_facts *facts)
{
    int64_t left_ms = facts->deadline_mono_ms - facts->now_mono_ms;
    bool bound = facts->deadline_mono_ms > 0 && !facts->settled && left_ms < ROLLOUT_PULL_MAX_MS;
    int64_t most_ms = bound ? left_ms : ROLLOUT_PULL_MAX_MS;
    return (uint32_t)(most_ms > ROLLOUT_PULL_MIN_MS ? most_ms : ROLLOUT_PULL_MIN_MS);
}

static struct rollout_decision wait_until(const struct rollout_facts *facts, int64_t mono_ms)
{
    int64_t wait_ms = mono_ms - facts->now_mono_ms;
    return (struct rollout_decision){.step = STEP_WAIT, .wait_ms = wait_ms > 1 ? wait_ms : 1};
}

/* Before anything is removed its traffic is gone; then requests under way may end. */
static struct rollout_decision decide_removal(const struct rollout_facts *facts,
                                              const struct target_version *version)
{
    int64_t drained = facts->drain_mono_ms + ROLLOUT_DRAIN_MS;
    if (version->open > 0 && facts->drain_mono_ms > 0 && facts->now_mono_ms < drained) {
        return wait_until(facts, facts->now_mono_ms + 100);
    }
    return (struct rollout_decision){.step = STEP_REMOVE, .version = version};
}

/* The new version is bad: the old one serves again, then the bad one goes, then people are told. */
static struct rollout_decision decide_way_back(const struct rollout_facts *facts,
                                               const struct target_version *bad)
{
    const struct target_version *fallback = find_fallback(facts);
    if (fallback != NULL && fallback->weight_percent < 100) {
        return (struct rollout_decision){.step = STEP_ROUTE_BACK, .version = fallback};
    }
    if (fallback == NULL && facts->has_previous) {
        const struct target_version *previous = find_version(facts->view, &facts->previous);
        bool dead = previous == NULL || previous->running < facts->replicas_previous;
        if (dead && facts->now_mono_ms >= facts->retry_mono_ms) {
            return (struct rollout_decision){.step = STEP_RESTORE, .version = previous};
        }
        if (facts->now_mono_ms < facts->deadline_mono_ms) {
            return wait_until(facts, facts->now_mono_ms + 500);
        }
    }
    if (bad != NULL) {
        return (struct rollout_decision){.step = STEP_REMOVE, .version = bad};
    }
    if (!facts->reported) {
        return (struct rollout_decision){.step = STEP_REPORT_REVERTED, .version = fallback};
    }
    return (struct rollout_decision){.step = STEP_NONE};
}

static struct rollout_decision fail(const char *reason, const struct target_version *version)
{
    return (struct rollout_decision){.step = STEP_FAIL, .reason = reason, .version = version};
}

/* NULL while there is no reason to give the new version up. */
static const char *reason_to_fail(const struct rollout_facts *facts,
                                  const struct target_version *wanted)
{
    static const char *const reasons[] = {
        [TARGET_FINE] = NULL,
        [TARGET_EXITED] = "start_failed",
        [TARGET_NEVER_LISTENED] = "never_listened",
        [TARGET_UNHEALTHY] = "unhealthy",
    };
    if (wanted != NULL && reasons[wanted->trouble] != NULL) {
        return reasons[wanted->trouble];
    }
    if (facts->deadline_mono_ms > 0 && facts->now_mono_ms >= facts->deadline_mono_ms) {
        return facts->pulled ? "deadline" : "image_pull_failed";
    }
    return decide_errors_bad(facts) ? "error_rate" : NULL;
}

/* How much the new version may have now; the percent it has already when the step is not over. */
static int decide_percent(const struct rollout_facts *facts, int has)
{
    if (facts->settled || facts->weight_count == 0) {
        return 100;
    }
    if (has > 0 && facts->now_mono_ms < facts->step_mono_ms + facts->step_ms) {
        return has;
    }
    for (size_t i = 0; i < facts->weight_count; i++) {
        /* +2: shares read back from the router are rounded. */
        if (facts->weights[i] > has + 2 && facts->weights[i] <= 100) {
            return facts->weights[i];
        }
    }
    return 100;
}

/* All replicas of the wanted version are ready: traffic. */
static struct rollout_decision decide_traffic(const struct rollout_facts *facts,
                                              const struct target_version *wanted)
{
    const struct target_version *fallback = find_fallback(facts);
    int has = wanted->weight_percent;
    bool alone = fallback == NULL || fallback->weight_percent == 0;
    int percent = has >= 100 || alone ? 100 : decide_percent(facts, has);
    if (percent != has && !alone && has > 0 && !facts->settled && !facts->judged) {
        return (struct rollout_decision){.step = STEP_JUDGE, .percent = has, .version = fallback};
    }
    if (percent != has) {
        return (struct rollout_decision){
            .step = STEP_ROUTE, .percent = percent, .version = fallback};
    }
    if (has < 100) {
        return wait_until(facts, facts->step_mono_ms + facts->step_ms);
    }
    if (!facts->settled && !facts->reported) {
        return (struct rollout_decision){.step = STEP_REPORT_DONE};
    }
    const struct target_version *surplus = find_surplus(facts, NULL);
    if (surplus != NULL) {
        return decide_removal(facts, surplus);
    }
    return (struct rollout_decision){.step = STEP_NONE};
}

/* The wanted version lacks replicas, or some are dead. */
static struct rollout_decision decide_start(const struct rollout_facts *facts)
{
    if (facts->now_mono_ms < facts->retry_mono_ms) {
        return wait_until(facts, facts->retry_mono_ms);
    }
    return (struct rollout_decision){.step = facts->pulled ? STEP_START : STEP_PULL};
}

/* Not all are ready yet: those that are may serve when nobody else does. */
static struct rollout_decision decide_while_unready(const struct rollout_facts *facts,
                                                    const struct target_version *wanted)
{
    bool may_serve = facts->settled && wanted->ready > 0 && find_fallback(facts) == NULL;
    if (may_serve && wanted->weight_percent < 100) {
        return (struct rollout_decision){.step = STEP_ROUTE, .percent = 100};
    }
    if (facts->deadline_mono_ms > 0 && !facts->settled) {
        return wait_until(facts, facts->deadline_mono_ms);
    }
    return (struct rollout_decision){.step = STEP_NONE};
}

struct rollout_decision decide_next_step(const struct rollout_facts *facts)
{
    if (facts->gone) {
        bool cleared = facts->reported && facts->view->count == 0;
        return (struct rollout_decision){.step = cleared ? STEP_FORGET : STEP_CLEAR};
    }
    if (facts->paused) {
        return (struct rollout_decision){.step = STEP_NONE};
    }
    const struct target_version *wanted = find_version(facts->view, &facts->wanted);
    if (facts->failure != NULL) {
        return decide_way_back(facts, wanted);
    }
    bool complete =
        wanted != NULL && wanted->running == facts->replicas && wanted->total == facts->replicas;
    if (!facts->settled && !facts->reported) {
        const char *reason = reason_to_fail(facts, wanted);
        if (reason != NULL) {
            return fail(reason, wanted);
        }
    }
    /* Left by rollouts that a newer one overtook: gone as soon as something better serves. */
    const struct target_version *fallback = find_fallback(facts);
    const struct target_version *surplus =
        fallback ? find_surplus(facts, fallback) : find_useless(facts);
    if (surplus != NULL && surplus->weight_percent == 0) {
        return (struct rollout_decision){.step = STEP_REMOVE, .version = surplus};
    }
    if (surplus != NULL && fallback != NULL && (wanted == NULL || wanted->weight_percent == 0)) {
        return (struct rollout_decision){.step = STEP_ROUTE_BACK, .version = fallback};
    }
    if (!complete) {
        return decide_start(facts);
    }
    if (wanted->ready < facts->replicas) {
        return decide_while_unready(facts, wanted);
    }
    return decide_traffic(facts, wanted);
}
