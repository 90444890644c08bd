/* The loop on libuv. Every handle lives in an owner of its own that is freed in its close callback,
 * so "free" here always means: stop, close, release later. Deferred calls run from a uv_idle handle
 * (a timer that re-arms itself with 0 would starve I/O for ever in libuv 1.44). */
#include "net/loop.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"

#define LAG_EVERY_MS 500
#define WORKERS_MAX 3

struct call {
    ec_call_fn fn;
    void *arg;
    struct call *next;
};

struct call_queue {
    struct call *head;
    struct call **tail;
    unsigned count;
};

struct ec_loop {
    uv_loop_t uv;
    uv_idle_t deferred; /* active while `calls` is not empty */
    uv_timer_t lag;     /* measures how late it is called */
    int64_t lag_expected_ms;
    struct call_queue calls; /* ec_loop_defer */
    struct work *waiting;    /* work that no worker is free for, oldest first */
    struct work **waiting_tail;
    unsigned waiting_count;
    unsigned working;
    bool stopping;
};

struct work {
    uv_work_t uv;
    struct ec_loop *loop;
    ec_call_fn work, after;
    void *arg;
    struct work *next;
};

struct ec_timer {
    uv_timer_t uv;
    ec_call_fn fn;
    void *arg;
};

struct ec_poll {
    uv_poll_t uv;
    ec_poll_fn fn;
    void *arg;
};

static struct ec_metric lag_seconds =
    EC_GAUGE("enclii_loop_lag_seconds", "How late the last loop-lag timer was called.", NULL);
static struct ec_metric lag_worst =
    EC_HISTOGRAM("enclii_loop_lag", "Loop lag, sampled twice a second.", NULL);

static void on_lag(uv_timer_t *timer)
{
    struct ec_loop *loop = timer->data;
    int64_t now = ec_mono_ms();
    int64_t late_ms = now - loop->lag_expected_ms;
    late_ms = late_ms < 0 ? 0 : late_ms;
    ec_metric_set(&lag_seconds, NULL, (double)late_ms / 1000.0);
    ec_metric_observe_s(&lag_worst, NULL, (double)late_ms / 1000.0);
    loop->lag_expected_ms = now + LAG_EVERY_MS;
}

static void on_deferred(uv_idle_t *idle)
{
    struct ec_loop *loop = idle->data;
    /* Only what was there at the start of the turn: a call that defers itself must not starve I/O.
     */
    struct call *call = loop->calls.head;
    loop->calls = (struct call_queue){0};
    loop->calls.tail = &loop->calls.head;
    while (call) {
        struct call *next = call->next;
        call->fn(call->arg);
        free(call);
        call = next;
    }
    if (!loop->calls.head) {
        uv_idle_stop(idle);
    }
}

struct ec_loop *ec_loop_new(void)
{
    struct ec_loop *loop = ec_alloc(sizeof(*loop));
    if (uv_loop_init(&loop->uv) != 0) {
        abort();
    }
    loop->calls.tail = &loop->calls.head;
    loop->waiting_tail = &loop->waiting;
    uv_idle_init(&loop->uv, &loop->deferred);
    loop->deferred.data = loop;
    uv_timer_init(&loop->uv, &loop->lag);
    loop->lag.data = loop;
    loop->lag_expected_ms = ec_mono_ms() + LAG_EVERY_MS;
    uv_timer_start(&loop->lag, on_lag, LAG_EVERY_MS, LAG_EVERY_MS);
    uv_unref((uv_handle_t *)&loop->lag);
    return loop;
}

void ec_loop_run(struct ec_loop *loop)
{
    loop->stopping = false;
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void ec_loop_stop(struct ec_loop *loop)
{
    loop->stopping = true;
    uv_stop(&loop->uv);
}

static void log_open_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) {
        ec_log(EC_LOG_ERROR, NULL, "loop.leaked_handle", "a handle was left open",
               EC_T("type", uv_handle_type_name(handle->type)));
    }
}

void ec_loop_free(struct ec_loop *loop)
{
    if (!loop) {
        return;
    }
    uv_close((uv_handle_t *)&loop->deferred, NULL);
    uv_close((uv_handle_t *)&loop->lag, NULL);
    /* Closing handles, work and lookups under way get their callbacks; open handles would run for
     * ever. */
    for (int turn = 0; turn < 64 && uv_run(&loop->uv, UV_RUN_NOWAIT) != 0; turn++) {
        if (loop->uv.active_reqs.count > 0) {
            uv_run(&loop->uv, UV_RUN_ONCE);
        }
    }
    uv_walk(&loop->uv, log_open_handle, NULL);
    int closed = uv_loop_close(&loop->uv);
    assert(closed == 0 && "a handle was left open; the log names its type");
    (void)closed;
    for (struct call *call = loop->calls.head, *next; call; call = next) {
        next = call->next;
        free(call);
    }
    free(loop);
}

uv_loop_t *ec_loop_uv(struct ec_loop *loop)
{
    return &loop->uv;
}

void ec_loop_defer(struct ec_loop *loop, ec_call_fn fn, void *arg)
{
    struct call *call = ec_alloc(sizeof(*call));
    call->fn = fn;
    call->arg = arg;
    *loop->calls.tail = call;
    loop->calls.tail = &call->next;
    uv_idle_start(&loop->deferred, on_deferred);
}

/* ---- timers ---- */

static void on_timer(uv_timer_t *uv)
{
    struct ec_timer *timer = EC_CONTAINER_OF(uv, struct ec_timer, uv);
    timer->fn(timer->arg);
}

struct ec_timer *ec_timer_new(struct ec_loop *loop, ec_call_fn fn, void *arg)
{
    struct ec_timer *timer = ec_alloc(sizeof(*timer));
    timer->fn = fn;
    timer->arg = arg;
    uv_timer_init(&loop->uv, &timer->uv);
    return timer;
}

void ec_timer_start(struct ec_timer *timer, uint64_t delay_ms, uint64_t repeat_ms)
{
    /* libuv counts from the start of the turn: after long work that would be too early. */
    uv_update_time(timer->uv.loop);
    uv_timer_start(&timer->uv, on_timer, delay_ms ? delay_ms : 1, repeat_ms);
}

void ec_timer_stop(struct ec_timer *timer)
{
    uv_timer_stop(&timer->uv);
}

bool ec_timer_active(const struct ec_timer *timer)
{
    return uv_is_active((const uv_handle_t *)&timer->uv);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(EC_CONTAINER_OF((uv_timer_t *)handle, struct ec_timer, uv));
}

void ec_timer_free(struct ec_timer *timer)
{
    if (timer) {
        uv_close((uv_handle_t *)&timer->uv, on_timer_closed);
    }
}

/* ---- polls ---- */

static void on_poll(uv_poll_t *uv, int status, int events)
{
    struct ec_poll *poll = EC_CONTAINER_OF(uv, struct ec_poll, uv);
    poll->fn(poll->arg, status, events);
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(EC_CONTAINER_OF((uv_poll_t *)handle, struct ec_poll, uv));
}

EC_RESULT ec_poll_new(struct ec_loop *loop, int fd, ec_poll_fn fn, void *arg, struct ec_poll **ret)
{
    struct ec_poll *poll = ec_alloc(sizeof(*poll));
    poll->fn = fn;
    poll->arg = arg;
    int status = uv_poll_init(&loop->uv, &poll->uv, fd);
    if (status != 0) {
        free(poll);
        return ec_fatal(status, "the loop cannot watch this descriptor");
    }
    *ret = poll;
    return ec_ok();
}

void ec_poll_want(struct ec_poll *poll, int events)
{
    if (events) {
        uv_poll_start(&poll->uv, events, on_poll);
    } else {
        uv_poll_stop(&poll->uv);
    }
}

void ec_poll_free(struct ec_poll *poll)
{
    if (poll) {
        uv_poll_stop(&poll->uv);
        uv_close((uv_handle_t *)&poll->uv, on_poll_closed);
    }
}

/* ---- work ---- */

static void work_start(struct work *job);

static void on_work(uv_work_t *uv)
{
    struct work *job = EC_CONTAINER_OF(uv, struct work, uv);
    job->work(job->arg);
}

static void on_work_done(uv_work_t *uv, int status)
{
    (void)status; /* never cancelled */
    struct work *job = EC_CONTAINER_OF(uv, struct work, uv);
    struct ec_loop *loop = job->loop;
    loop->working--;
    if (loop->waiting) {
        struct work *next = loop->waiting;
        loop->waiting = next->next;
        loop->waiting_count--;
        if (!loop->waiting) {
            loop->waiting_tail = &loop->waiting;
        }
        work_start(next);
    }
    job->after(job->arg);
    free(job);
}

static void work_start(struct work *job)
{
    job->loop->working++;
    if (uv_queue_work(&job->loop->uv, &job->uv, on_work, on_work_done) != 0) {
        abort(); /* only fails without a work function */
    }
}

EC_RESULT ec_loop_work(struct ec_loop *loop, ec_call_fn work, ec_call_fn after, void *arg)
{
    if (loop->working >= WORKERS_MAX && loop->waiting_count >= EC_WORK_QUEUE_MAX) {
        return ec_retry(0, "too much work is waiting for a worker thread");
    }
    struct work *job = ec_alloc(sizeof(*job));
    *job = (struct work){.loop = loop, .work = work, .after = after, .arg = arg};
    if (loop->working < WORKERS_MAX) {
        work_start(job);
        return ec_ok();
    }
    *loop->waiting_tail = job;
    loop->waiting_tail = &job->next;
    loop->waiting_count++;
    return ec_ok();
}
