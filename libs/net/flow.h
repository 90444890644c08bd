/* A flow: a job of several asynchronous steps, written as a table. Each step starts one thing and
 * later says how it ended; the flow times it, runs the next, retries RETRY errors with back-off,
 * and stops at the first error that stays. Read the table and you know what the job does.
 *
 *   static const struct ec_step steps[] = {
 *       { "fetch", start_fetch, 3 },
 *       { "build", start_build, 1 },
 *   };
 *   ec_flow_start(&job->flow, loop, steps, EC_LEN(steps), job, on_job_step, on_job_end);
 *
 * A step function returns an error (the step failed with it) or OK, and then owes exactly one
 * ec_flow_done, now or later. Deadlines are those of what it started: every async call has one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/loop.h"

struct ec_flow;

struct ec_step {
    const char *name;                  /* lower case, also the name in events, logs and metrics */
    struct ec_err (*start)(void *job); /* see above */
    uint8_t tries_max;                 /* 1 = no retry */
};

/* After each finished step (also the failing one). */
typedef void (*ec_flow_step_fn)(void *job, const struct ec_step *step, struct ec_err err,
                                int64_t duration_ms);
/* Once. `step` is where it ended: the failed one, or the last. The job may free the flow's storage.
 */
typedef void (*ec_flow_end_fn)(void *job, struct ec_err err, const struct ec_step *step);

struct ec_flow {
    struct ec_loop *loop;
    const struct ec_step *steps;
    size_t step_count;
    size_t at;        /* running step */
    uint8_t tries;    /* of it so far */
    bool cancelled;   /* no further step or retry begins */
    bool waiting;     /* a step owes ec_flow_done */
    int64_t began_ms; /* of the running step, mono */
    struct ec_err pending;
    struct ec_timer *retry;
    void *job;
    ec_flow_step_fn on_step; /* may be NULL */
    ec_flow_end_fn on_end;
};

void ec_flow_start(struct ec_flow *flow, struct ec_loop *loop, const struct ec_step *steps,
                   size_t step_count, void *job, ec_flow_step_fn on_step, ec_flow_end_fn on_end);
/* The running step ended. Never calls back before returning. */
void ec_flow_done(struct ec_flow *flow, struct ec_err err);
/* No further step or retry begins; the running step must still end (kill what it waits for), then
 * on_end gets its error, or REJECT "cancelled". Idempotent. */
void ec_flow_cancel(struct ec_flow *flow);
