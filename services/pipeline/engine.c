/* The way of a batch: read, decide, write, finish. One at a time per process, because two would
 * only compete for the same rows. A conflict with another process (RETRY) decides the batch anew
 * from fresh rows; data that PostgreSQL refuses (REJECT) halves the batch until the bad event is
 * alone, so that it costs itself only. What the leader finds goes the same way, without offsets. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "commit.h"
#include "load.h"
#include "pipeline.h"

#define REDO_MAX 5             /* conflicts in a row before the bus's back-off takes over */
#define LOOK_GAP_MS 25         /* between two looks of the leader, at least: pushes wait for one */
#define LOOK_SHARE 4           /* after a look, events have at least so many times its duration */
#define BEHIND_MS 5000         /* events older than this when handled: we are catching up */
#define TRUST_SILENCE_MS 12000 /* after start, trouble or lag: time for heartbeats to arrive */
#define LEASES_MAX 256
#define WANTED_MAX_BYTES ((size_t)64 << 20)
#define STEP_MAX_BYTES ((size_t)48 << 20) /* of rows and facts; what is beyond is the next step */

static struct ec_metric events =
    EC_COUNTER("enclii_pipeline_events_total", "Events decided.", NULL);
static struct ec_metric redone =
    EC_COUNTER("enclii_pipeline_redone_total", "Batches decided again after a conflict.", NULL);
static struct ec_metric batch_seconds =
    EC_HISTOGRAM("enclii_pipeline_batch_seconds", "Read, decide and write one batch.", NULL);

struct engine {
    struct pipeline *pl;
    bool busy;
    bool stopping;
    ec_call_fn stopped;
    void *stopped_arg;
    /* The batch, while there is one. */
    struct ec_batch_in *batch;
    bool *rejected;  /* per event: has gone to the dead letters */
    size_t from, to; /* events being handled: all, or fewer when they are large or refused */
    uint32_t redos;
    int64_t began_mono_ms;
    /* The leader's look. */
    bool look_wanted, looking;
    int64_t looked_mono_ms, look_gap_ms;
    struct ec_timer *look_timer;
    int64_t doubt_mono_ms; /* until then nobody is called silent */
    /* What the running step works on. */
    struct ec_arena *arena; /* of `wanted` */
    struct wanted *wanted;
    struct world *world;
};

static void go_on(struct engine *engine);
static void run_events(struct engine *engine);

static void on_look_timer(void *arg)
{
    engine_look(arg);
}

struct engine *engine_new(struct pipeline *pl)
{
    struct engine *engine = ec_alloc(sizeof *engine);
    engine->pl = pl;
    engine->look_timer = ec_timer_new(pl->loop, on_look_timer, engine);
    engine->doubt_mono_ms = ec_mono_ms() + TRUST_SILENCE_MS;
    ec_timer_start(engine->look_timer, 500, 500);
    return engine;
}

void engine_free(struct engine *engine)
{
    if (!engine) {
        return;
    }
    free(engine->rejected);
    free(engine);
}

bool engine_idle(const struct engine *engine)
{
    return !engine->busy;
}

/* ---- one step: its scratch begins and ends here ---- */

static void begin_step(struct engine *engine)
{
    engine->busy = true;
    engine->arena = ec_arena_new(WANTED_MAX_BYTES);
    engine->wanted = wanted_new(engine->arena);
}

static void end_step(struct engine *engine)
{
    wanted_done(engine->wanted);
    engine->wanted = NULL;
    ec_arena_free(EC_TAKE(engine->arena));
    world_free(EC_TAKE(engine->world));
    engine->busy = false;
}

static void distrust_silence(struct engine *engine)
{
    engine->doubt_mono_ms = ec_mono_ms() + TRUST_SILENCE_MS;
}

/* ---- events ---- */

static void finish_batch(struct engine *engine, struct ec_err err)
{
    struct ec_batch_in *batch = EC_TAKE(engine->batch);
    free(EC_TAKE(engine->rejected));
    if (ec_failed(err)) {
        distrust_silence(engine);
    } else {
        ec_metric_add(&events, NULL, (double)ec_batch_in_count(batch));
        ec_metric_observe_s(&batch_seconds, NULL,
                            (double)(ec_mono_ms() - engine->began_mono_ms) / 1000);
    }
    ec_batch_in_finish(batch, err);
    go_on(engine);
}

static void reject(struct engine *engine, size_t index, const char *reason)
{
    struct ec_event *ev = ec_batch_in_event(engine->batch, index);
    ec_log(EC_LOG_WARN, ec_event_trace(ev), "event.rejected", "event goes to the dead letters",
           EC_T("type", ec_event_type(ev)), EC_T("id", ec_event_id(ev)), EC_T("reason", reason));
    engine->rejected[index] = true;
    ec_batch_in_reject(engine->batch, index, reason);
}

static void want_event(struct engine *engine, size_t index)
{
    struct ec_event *ev = ec_batch_in_event(engine->batch, index);
    const struct event_kind *kind = event_kind_find(ec_event_type(ev));
    if (engine->rejected[index] || !kind) {
        return;
    }
    if (!ec_event_body(ev)) {
        reject(engine, index, "an event without a value");
        return;
    }
    const char *bad = kind->want(engine->wanted, ec_event_key(ev), ec_event_body(ev));
    if (bad) {
        reject(engine, index, bad);
    } else if (kind->once) {
        want(engine->wanted, &engine->wanted->events, ec_event_id(ev));
    }
}

/* Ends the step early when it becomes large: the rest is another transaction. */
static void decide_events(struct engine *engine)
{
    for (size_t i = engine->from; i < engine->to; i++) {
        if (i > engine->from && ec_arena_used_bytes(engine->world->arena) > STEP_MAX_BYTES) {
            engine->to = i;
            return;
        }
        struct ec_event *ev = ec_batch_in_event(engine->batch, i);
        const struct event_kind *kind = event_kind_find(ec_event_type(ev));
        if (kind && !engine->rejected[i]) {
            decide_event(engine->world, kind,
                         &(struct cause){ec_event_id(ev), ec_event_trace(ev), ec_event_key(ev)},
                         ec_event_body(ev));
        }
    }
}

/* Whether events come late: then heartbeats do too, and their absence means nothing. */
static void watch_lag(struct engine *engine)
{
    size_t count = ec_batch_in_count(engine->batch);
    const struct ec_event *last = ec_batch_in_event(engine->batch, count - 1);
    if (ec_unix_ms() - ec_event_time_unix_ms(last) > BEHIND_MS) {
        distrust_silence(engine);
    }
}

/* After a REJECT: by halves, until the one that is refused alone is found. */
static void narrow(struct engine *engine, struct ec_err err)
{
    size_t count = engine->to - engine->from;
    if (count > 1) {
        engine->to = engine->from + count / 2;
        run_events(engine);
        return;
    }
    if (count == 0 || engine->rejected[engine->from]) {
        finish_batch(engine, ec_fatal(err.sys, err.what)); /* it was not the event's fault */
        return;
    }
    reject(engine, engine->from, err.what);
    run_events(engine); /* writes the offsets if it was the last */
}

static void after_commit(struct engine *engine, struct ec_err err)
{
    size_t count = ec_batch_in_count(engine->batch);
    if (err.fate == EC_FATE_RETRY && engine->redos++ < REDO_MAX) {
        ec_metric_add(&redone, NULL, 1);
        run_events(engine);
        return;
    }
    if (err.fate == EC_FATE_REJECT) {
        narrow(engine, err);
        return;
    }
    if (ec_failed(err) || engine->to == count) {
        finish_batch(engine, err);
        return;
    }
    engine->redos = 0;
    engine->from = engine->to;
    engine->to = count;
    run_events(engine);
}

static void on_events_written(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct engine *engine = arg;
    (void)batch;
    end_step(engine);
    after_commit(engine, err);
}

static void on_events_loaded(void *arg, struct ec_err err, struct world *world,
                             const struct queue_load *load)
{
    struct engine *engine = arg;
    (void)load;
    engine->world = world;
    if (!ec_failed(err)) {
        struct commit_offsets offsets = {.table = &pipeline_offsets};
        offsets.count = ec_batch_in_offsets(engine->batch, &offsets.offsets);
        decide_events(engine);
        bool last = engine->to == ec_batch_in_count(engine->batch);
        err = world_too_large(world)
                  ? ec_reject("too many or too large services follow from it")
                  : commit_world(engine->pl->store, world, last ? &offsets : NULL,
                                 on_events_written, engine);
    }
    if (err.fate == EC_FATE_REJECT) { /* too large for one go */
        end_step(engine);
        narrow(engine, err);
    } else if (ec_failed(err)) {
        end_step(engine);
        finish_batch(engine, err);
    }
}

static void run_events(struct engine *engine)
{
    begin_step(engine);
    for (size_t i = engine->from; i < engine->to; i++) {
        want_event(engine, i);
    }
    struct ec_err err =
        load_world(engine->pl->store, engine->wanted, &engine->pl->rules, on_events_loaded, engine);
    if (ec_failed(err)) {
        end_step(engine);
        finish_batch(engine, err);
    }
}

void engine_batch(struct engine *engine, struct ec_batch_in *batch)
{
    size_t count = ec_batch_in_count(batch);
    if (engine->stopping) {
        ec_batch_in_finish(batch, ec_retry(0, "pipeline is stopping"));
        return;
    }
    engine->batch = batch;
    engine->rejected = ec_alloc(count * sizeof *engine->rejected + 1);
    engine->from = 0;
    engine->to = count;
    engine->redos = 0;
    engine->began_mono_ms = ec_mono_ms();
    if (count > 0) {
        watch_lag(engine);
    }
    go_on(engine);
}

/* ---- the leader's look ---- */

static void decide_overdue(struct world *world)
{
    for (struct build *row = world->first_build; row; row = row->next) {
        bool at_work = row->cell.state == BUILD_LEASED || row->cell.state == BUILD_RUNNING;
        if (!machine_ended(&row->cell) && row->cell.deadline_unix_ms <= world->now_ms) {
            decide_build_overdue(world, row);
        } else if (at_work && world->rules->silence_ms > 0 &&
                   world->now_ms - row->heard_ms > world->rules->silence_ms) {
            decide_build_silent(world, row);
        }
    }
    for (struct release *row = world->first_release; row; row = row->next) {
        if (!machine_ended(&row->cell) && row->cell.deadline_unix_ms <= world->now_ms) {
            decide_release_overdue(world, row);
        }
    }
    for (struct deployment *row = world->first_deployment; row; row = row->next) {
        if (!machine_ended(&row->cell) && row->cell.deadline_unix_ms <= world->now_ms) {
            decide_deployment_overdue(world, row);
        }
    }
    for (struct domain *row = world->first_domain; row; row = row->next) {
        if (!machine_ended(&row->cell) && row->cell.deadline_unix_ms <= world->now_ms) {
            decide_domain_overdue(world, row);
        }
    }
    for (struct delivery *row = world->first_delivery; row; row = row->next) {
        if (!machine_ended(&row->cell) && row->cell.deadline_unix_ms <= world->now_ms) {
            decide_delivery_overdue(world, row);
        }
    }
}

static void end_look(struct engine *engine, struct ec_err err)
{
    if (ec_failed(err)) {
        distrust_silence(engine);
        if (err.fate != EC_FATE_RETRY) {
            ec_log(EC_LOG_ERROR, NULL, "engine.look_failed",
                   "deadlines and queue could not be handled; trying again", EC_ERR(err));
        }
    }
    engine->looking = false;
    int64_t gap_ms = (ec_mono_ms() - engine->looked_mono_ms) * LOOK_SHARE;
    engine->looked_mono_ms = ec_mono_ms();
    engine->look_gap_ms = gap_ms > LOOK_GAP_MS ? gap_ms : LOOK_GAP_MS;
    end_step(engine);
    go_on(engine);
}

static void on_look_written(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    (void)batch;
    end_look(arg, err);
}

/* Silence is judged only when heartbeats would have reached us. */
static bool trusts_silence(const struct engine *engine)
{
    return ec_mono_ms() > engine->doubt_mono_ms;
}

static void on_look_loaded(void *arg, struct ec_err err, struct world *world,
                           const struct queue_load *load)
{
    struct engine *engine = arg;
    engine->world = world;
    if (ec_failed(err)) {
        end_look(engine, err);
        return;
    }
    struct rules rules = engine->pl->rules;
    struct lease leases[LEASES_MAX];
    size_t count = engine->wanted->queue ? decide_queue(world, load, leases, LEASES_MAX) : 0;
    for (size_t i = 0; i < count; i++) {
        decide_lease(world, &leases[i]);
    }
    rules.silence_ms = trusts_silence(engine) ? rules.silence_ms : 0;
    world->rules = &rules;
    decide_overdue(world);
    world->rules = &engine->pl->rules;
    if (!commit_has_work(world)) {
        end_look(engine, ec_ok());
        return;
    }
    err = commit_world(engine->pl->store, world, NULL, on_look_written, engine);
    if (ec_failed(err)) {
        end_look(engine, err);
    }
}

static void on_found(void *arg, struct ec_err err, bool found)
{
    struct engine *engine = arg;
    if (!ec_failed(err) && found) {
        err = load_world(engine->pl->store, engine->wanted, &engine->pl->rules, on_look_loaded,
                         engine);
        if (!ec_failed(err)) {
            return;
        }
    }
    end_look(engine, err);
}

static void run_look(struct engine *engine)
{
    begin_step(engine);
    engine->looking = true;
    engine->look_wanted = false;
    engine->looked_mono_ms = ec_mono_ms();
    if (!ec_bus_ready(engine->pl->bus)) {
        distrust_silence(engine);
    }
    struct ec_err err =
        load_find(engine->pl->store, engine->wanted,
                  trusts_silence(engine) ? engine->pl->rules.silence_ms : 0, on_found, engine);
    if (ec_failed(err)) {
        end_look(engine, err);
    }
}

void engine_look(struct engine *engine)
{
    if (engine->stopping) {
        return;
    }
    engine->look_wanted = ec_leader_is(engine->pl->leader);
    go_on(engine);
}

/* ---- what next ---- */

static void go_on(struct engine *engine)
{
    if (engine->busy) {
        return;
    }
    if (engine->stopping && !engine->batch) {
        ec_call_fn stopped = EC_TAKE(engine->stopped);
        if (stopped) {
            stopped(engine->stopped_arg);
        }
        return;
    }
    bool gap = ec_mono_ms() - engine->looked_mono_ms >= engine->look_gap_ms;
    if (engine->look_wanted && gap && !engine->stopping) {
        run_look(engine);
        return;
    }
    if (engine->look_wanted && !gap && !engine->stopping) {
        ec_timer_start(engine->look_timer, (uint64_t)engine->look_gap_ms, 500);
    }
    if (engine->batch) {
        run_events(engine);
    }
}

void engine_stop(struct engine *engine, ec_call_fn stopped, void *arg)
{
    engine->stopping = true;
    ec_timer_free(EC_TAKE(engine->look_timer));
    engine->stopped = stopped;
    engine->stopped_arg = arg;
    if (!engine->busy && !engine->batch) {
        engine->stopped = NULL;
        ec_loop_defer(engine->pl->loop, stopped, arg);
    }
}
