/* The runner of flows. A step's end is always looked at in a turn of its own (ec_loop_defer), so a
 * step that fails before its start function returns and one that ends an hour later take the same
 * way. */
#include "net/flow.h"

#include <assert.h>

#include "base/backoff.h"
#include "base/clock.h"

#define RETRY_FIRST_MS 200
#define RETRY_CAP_MS 10000

static void step_begin(void *arg);
static void step_ended(void *arg);

void ec_flow_start(struct ec_flow *flow, struct ec_loop *loop, const struct ec_step *steps,
                   size_t step_count, void *job, ec_flow_step_fn on_step, ec_flow_end_fn on_end)
{
    assert(step_count > 0);
    *flow = (struct ec_flow){.loop = loop,
                             .steps = steps,
                             .step_count = step_count,
                             .job = job,
                             .on_step = on_step,
                             .on_end = on_end};
    flow->retry = ec_timer_new(loop, step_begin, flow);
    flow->began_ms = ec_mono_ms();
    ec_loop_defer(loop, step_begin, flow);
}

static void flow_end(struct ec_flow *flow, struct ec_err err)
{
    const struct ec_step *step = &flow->steps[flow->at];
    ec_timer_free(flow->retry);
    flow->retry = NULL;
    flow->on_end(flow->job, err, step); /* may free the flow: touch nothing after this */
}

/* Starts the step at `at`, for the first time or again. */
static void step_begin(void *arg)
{
    struct ec_flow *flow = arg;
    if (flow->cancelled) {
        flow_end(flow, ec_reject("cancelled"));
        return;
    }
    if (flow->tries == 0) {
        flow->began_ms = ec_mono_ms();
    }
    flow->tries++;
    flow->waiting = true;
    struct ec_err err = flow->steps[flow->at].start(flow->job);
    if (ec_failed(err)) {
        ec_flow_done(flow, err);
    }
}

void ec_flow_done(struct ec_flow *flow, struct ec_err err)
{
    assert(flow->waiting && "a step ended twice");
    flow->waiting = false;
    flow->pending = err;
    ec_loop_defer(flow->loop, step_ended, flow);
}

static bool may_retry(const struct ec_flow *flow, struct ec_err err)
{
    return err.fate == EC_FATE_RETRY && !flow->cancelled &&
           flow->tries < flow->steps[flow->at].tries_max;
}

static void step_ended(void *arg)
{
    struct ec_flow *flow = arg;
    struct ec_err err = flow->pending;
    if (may_retry(flow, err)) {
        struct ec_backoff backoff = {RETRY_FIRST_MS, RETRY_CAP_MS, flow->tries - 1u};
        ec_timer_start(flow->retry, RETRY_FIRST_MS / 2 + ec_backoff_next_ms(&backoff), 0);
        return;
    }
    const struct ec_step *step = &flow->steps[flow->at];
    if (flow->on_step) {
        flow->on_step(flow->job, step, err, ec_mono_ms() - flow->began_ms);
    }
    if (ec_failed(err) || flow->at + 1 == flow->step_count) {
        flow_end(flow, err);
        return;
    }
    flow->at++;
    flow->tries = 0;
    step_begin(flow);
}

void ec_flow_cancel(struct ec_flow *flow)
{
    flow->cancelled = true;
    if (flow->retry && ec_timer_active(flow->retry)) {
        ec_timer_start(flow->retry, 0, 0);
    }
}
