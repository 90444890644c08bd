/* The loop: one per process, one thread. Everything asynchronous of ours is called from it and
 * never before the call that asked for it has returned. Wraps libuv so that timers cannot starve
 * I/O (a delay of 0 becomes 1 ms) and handles close themselves in order.
 *
 * A turn: timers → deferred calls → I/O (Kafka, PostgreSQL, HTTP, processes; each with a budget per
 * turn, re-arming itself) → closing handles. The loop-lag gauge enclii_loop_lag_seconds tells when
 * somebody waited on it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct ec_loop;
struct ec_timer;

typedef void (*ec_call_fn)(void *arg);

struct ec_loop *ec_loop_new(void);
/* Runs until ec_loop_stop; returns once every handle is closed. */
void ec_loop_run(struct ec_loop *loop);
/* Ends ec_loop_run in this turn. Owners must have closed what they opened. */
void ec_loop_stop(struct ec_loop *loop);
/* Asserts that nothing was left open (a leaked handle is our bug). */
void ec_loop_free(struct ec_loop *loop);
uv_loop_t *ec_loop_uv(struct ec_loop *loop);

/* Calls fn(arg) in a later turn, before new I/O is looked at. Cannot be cancelled. */
void ec_loop_defer(struct ec_loop *loop, ec_call_fn fn, void *arg);

/* Timers. start replaces a running one; repeat_ms 0 = once. free stops and closes it; accepts NULL.
 */
struct ec_timer *ec_timer_new(struct ec_loop *loop, ec_call_fn fn, void *arg);
void ec_timer_start(struct ec_timer *timer, uint64_t delay_ms, uint64_t repeat_ms);
void ec_timer_stop(struct ec_timer *timer);
bool ec_timer_active(const struct ec_timer *timer);
void ec_timer_free(struct ec_timer *timer);

/* A poll on a foreign library's descriptor (level-triggered). events: UV_READABLE | UV_WRITABLE. */
struct ec_poll;
typedef void (*ec_poll_fn)(void *arg, int status, int events);
EC_RESULT ec_poll_new(struct ec_loop *loop, int fd, ec_poll_fn fn, void *arg, struct ec_poll **ret);
void ec_poll_want(struct ec_poll *poll, int events); /* 0 = nothing for now */
void ec_poll_free(struct ec_poll *poll);             /* before closing the fd; accepts NULL */

/* CPU or blocking-file work off the loop: work(arg) on libuv's pool (it sees only what arg points
 * to and touches nothing else), then after(arg) on the loop. At most 3 at once per process, the
 * rest queue here in order, EC_WORK_QUEUE_MAX at most (RETRY when full: then `after` is not
 * called). */
#define EC_WORK_QUEUE_MAX 1024
EC_RESULT ec_loop_work(struct ec_loop *loop, ec_call_fn work, ec_call_fn after, void *arg);
