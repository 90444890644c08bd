/* What decide_rollout.c looks at: what is wanted, what the target shows, and what was counted since
 * the last step began. */
#include <string.h>

#include "base/clock.h"
#include "reconciler.h"

#define ERROR_RATE_MAX 0.05

int rollout_replicas(const Enclii__V1__DesiredRelease *release)
{
    bool given = release != NULL && release->run != NULL && release->run->replicas > 0;
    return given ? release->run->replicas : 1;
}

/* Sums of all versions but the wanted one. */
struct target_version rollout_rest(const struct rollout *ro, const struct target_view *view)
{
    struct target_version rest = {.total = 0};
    for (size_t i = 0; i < view->count; i++) {
        if (strcmp(view->versions[i].identity.text, ro->wanted.text) != 0) {
            rest.requests += view->versions[i].requests;
            rest.errors += view->versions[i].errors;
        }
    }
    return rest;
}

static int64_t growth(int64_t now, int64_t base)
{
    return now >= base ? now - base : now; /* the router was restarted: it counts from 0 */
}

static void count_step(const struct rollout *ro, const struct target_view *view,
                       struct rollout_facts *facts)
{
    const struct target_version *wanted = find_version(view, &ro->wanted);
    if (wanted == NULL || ro->step_mono_ms == 0) {
        return;
    }
    struct target_version rest = rollout_rest(ro, view);
    facts->requests_new = growth(wanted->requests, ro->base_new.requests);
    facts->errors_new = growth(wanted->errors, ro->base_new.errors);
    facts->requests_old = growth(rest.requests, ro->base_old.requests);
    facts->errors_old = growth(rest.errors, ro->base_old.errors);
}

void rollout_facts_now(struct rollout *ro, const struct target_view *view,
                       struct rollout_facts *facts)
{
    *facts = (struct rollout_facts){
        .gone = ro->desired == NULL,
        .view = view,
        .pulled = ro->pulled,
        .failure = ro->failure,
        .reported = ro->reported,
        .judged = ro->judged,
        .retry_mono_ms = ro->retry_mono_ms,
        .step_mono_ms = ro->step_mono_ms,
        .drain_mono_ms = ro->drain_mono_ms,
        .wanted = ro->wanted,
        .previous = ro->previous,
        .now_mono_ms = ec_mono_ms(),
    };
    const Enclii__V1__Desired *desired = ro->desired;
    if (desired == NULL) {
        return;
    }
    facts->paused = desired->paused;
    facts->settled = desired->settled;
    facts->has_previous = ro->previous.text[0] != '\0';
    facts->replicas = rollout_replicas(desired->release);
    facts->replicas_previous = rollout_replicas(desired->previous);
    facts->deadline_mono_ms = ro->deadline_mono_ms;
    facts->error_rate_max = ERROR_RATE_MAX;
    if (desired->rollout != NULL) {
        facts->weights = desired->rollout->weights;
        facts->weight_count = desired->rollout->n_weights;
        facts->step_ms = desired->rollout->step_ms;
        facts->error_rate_max = desired->rollout->error_rate_max > 0
                                    ? desired->rollout->error_rate_max
                                    : ERROR_RATE_MAX;
    }
    count_step(ro, view, facts);
}
