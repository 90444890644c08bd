/* The group consumer: a route table by event type, one handler call per event. Events of one key
 * form a lane and run one after another; lanes run in parallel up to inflight_max. Events end in
 * any order, so the stored offset is always that of the lowest unfinished one of its partition. */
#include "bus/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

/* The unfinished events of one key; the first is ready, running, backing off or being
 * dead-lettered. */
struct bus_lane {
    struct ec_event *first, *last;
};

struct group {
    struct ec_consumer base;
    struct ec_map *lanes; /* key → lane */
    struct ec_event *ready, *ready_last;
    uint32_t running; /* handlers that owe ec_event_finish */
    uint32_t inflight_max;
    uint32_t dead;  /* events whose dead letter is on its way */
    uint32_t taken; /* events not finished, in whatever state */
    uint32_t taken_max;
    int64_t retry_for_ms;
    bool turning; /* in work(): finishing needs no wake-up */
};

static void make_ready(struct group *g, struct ec_event *ev)
{
    ev->state = BUS_READY;
    ev->next_ready = NULL;
    if (g->ready_last) {
        g->ready_last->next_ready = ev;
    } else {
        g->ready = ev;
    }
    g->ready_last = ev;
}

static bool stale(const struct ec_event *ev)
{
    return ev->epoch != ev->part->epoch;
}

/* Drops the finished ones at the head of the partition: all before the first unfinished one. */
static void advance(struct bus_partition *part)
{
    while (part->head && part->head->state == BUS_DONE) {
        struct ec_event *ev = part->head;
        part->head = ev->next_in_part;
        part->next = ev->offset + 1;
        part->dirty = true;
        free(ev);
    }
    if (!part->head) {
        part->tail = NULL;
    }
}

static void leave_lane(struct group *g, struct ec_event *ev)
{
    struct bus_lane *lane = ev->lane;
    if (!lane) {
        return; /* never entered: skipped or not decodable */
    }
    lane->first = ev->next_in_lane;
    if (lane->first) {
        make_ready(g, lane->first);
        return;
    }
    ec_map_remove(g->lanes, ev->key);
    free(lane);
}

/* The event is over for good. */
static void finished(struct group *g, struct ec_event *ev)
{
    leave_lane(g, ev);
    g->taken--;
    bus_event_drop_body(ev);
    if (stale(ev)) {
        free(ev); /* its partition has a new life and does not know it */
    } else {
        ev->state = BUS_DONE;
        advance(ev->part);
    }
    if (!g->turning) {
        bus_source_wake(&g->base.source);
    }
}

static void on_dead(void *arg)
{
    struct ec_event *ev = arg;
    ((struct group *)ev->consumer)->dead--;
    finished((struct group *)ev->consumer, ev);
}

static void bury(struct group *g, struct ec_event *ev, struct ec_err why)
{
    if (g->base.letters) { /* it is a letter already, and stays where it is */
        ec_log(EC_LOG_ERROR, ev->trace.parent, "bus.letter_refused",
               "a dead letter was passed over", EC_ERR(why), EC_T("topic", ev->topic),
               EC_N("offset", ev->offset));
        finished(g, ev);
        return;
    }
    g->dead++;
    bus_dead_letter(ev, why, on_dead);
}

static void on_backoff_over(void *arg)
{
    struct ec_event *ev = arg;
    make_ready((struct group *)ev->consumer, ev);
    bus_source_wake(&ev->consumer->source);
}

static void back_off(struct group *g, struct ec_event *ev, struct ec_err err)
{
    bool patient =
        ev->tries < EC_EVENT_TRIES || ec_mono_ms() - ev->first_try_mono_ms < g->retry_for_ms;
    if (!patient) {
        bury(g, ev, ec_reject_in(ev->arena, "given up after %u tries: %s", ev->tries, err.what));
        return;
    }
    ev->state = BUS_BACKOFF;
    if (g->base.stopping) {
        return; /* unfinished: it comes again, to us or to another */
    }
    if (!ev->timer) {
        ev->timer = ec_timer_new(g->base.bus->loop, on_backoff_over, ev);
    }
    uint32_t wait_ms = ec_backoff_next_ms(&ev->backoff);
    ec_log(EC_LOG_WARN, ev->trace.parent, "event.retried", "handling failed; trying again",
           EC_ERR(err), EC_T("type", ev->type), EC_T("id", ev->id), EC_N("tries", ev->tries),
           EC_N("wait_ms", wait_ms));
    ec_timer_start(ev->timer, wait_ms, 0);
}

void ec_event_finish(struct ec_event *ev, struct ec_err err)
{
    struct group *g = (struct group *)ev->consumer;
    assert(ev->state == BUS_RUNNING); /* finished twice, or not ours to finish */
    if (g->base.killed) {
        return; /* too late: its bus is gone, it comes again after the restart */
    }
    g->running--;
    ec_metric_add(&bus_events, ec_fate_name(err.fate), 1);
    if (!ec_failed(err) || stale(ev)) {
        finished(g, ev);
        return;
    }
    switch (err.fate) {
    case EC_FATE_RETRY:
        back_off(g, ev, err);
        break;
    case EC_FATE_REJECT:
        bury(g, ev, err);
        break;
    default:
        ev->state = BUS_BACKOFF; /* not finished: it comes again after the restart */
        bus_fatal(g->base.bus, err);
    }
    if (!g->turning) {
        bus_source_wake(&g->base.source); /* a handler's place is free */
    }
}

static void run(struct group *g, struct ec_event *ev)
{
    if (stale(ev)) {
        finished(g, ev);
        return;
    }
    if (ev->tries++ == 0) {
        ev->first_try_mono_ms = ec_mono_ms();
    }
    ev->state = BUS_RUNNING;
    g->running++;
    struct ec_err err = ev->route->handler(g->base.state, ev);
    if (ec_failed(err)) {
        ec_event_finish(ev, err);
    }
}

static void enter_lane(struct group *g, struct ec_event *ev)
{
    struct bus_lane *lane = ec_map_get(g->lanes, ev->key);
    if (lane) {
        ev->lane = lane;
        lane->last->next_in_lane = ev;
        lane->last = ev;
        ev->state = BUS_WAITING;
        return;
    }
    lane = ec_alloc(sizeof *lane);
    lane->first = lane->last = ev;
    ev->lane = lane;
    ec_map_put(g->lanes, ev->key, lane); /* cannot be full: taken_max entries */
    make_ready(g, ev);
}

static void on_record(struct ec_consumer *c, const rd_kafka_message_t *message)
{
    struct group *g = (struct group *)c;
    struct ec_event *ev = bus_event_new(c, message);
    if (!ev->part->owned) {
        bus_event_free(ev);
        return;
    }
    if (ev->part->tail) {
        ev->part->tail->next_in_part = ev;
    } else {
        ev->part->head = ev;
    }
    ev->part->tail = ev;
    g->taken++;
    ev->backoff = (struct ec_backoff){.first_ms = 200, .cap_ms = 30000};
    struct ec_err err = bus_event_decode(ev, message);
    if (ec_failed(err)) {
        ec_metric_add(&bus_events, "undecodable", 1);
        bury(g, ev, err);
    } else if (!ev->route || !ev->route->handler) {
        ec_metric_add(&bus_events, ev->route ? "ignored" : "skipped", 1);
        finished(g, ev);
    } else {
        enter_lane(g, ev);
    }
}

static bool has_room(struct ec_consumer *c)
{
    const struct group *g = (struct group *)c;
    return g->taken < g->taken_max;
}

static void work(struct ec_consumer *c)
{
    struct group *g = (struct group *)c;
    g->turning = true;
    bus_consumer_poll(c, BUS_TURN_BUDGET, has_room);
    bool was_full = !has_room(c);
    while (g->ready && g->running < g->inflight_max && !c->stopping) {
        struct ec_event *ev = g->ready;
        g->ready = ev->next_ready;
        if (!g->ready) {
            g->ready_last = NULL;
        }
        run(g, ev);
    }
    bus_consumer_store_offsets(c);
    g->turning = false;
    if (was_full && has_room(c)) {
        bus_source_wake(&c->source); /* the edge-like wake-up would not tell us again */
    }
}

static void assigned(struct ec_consumer *c, rd_kafka_topic_partition_list_t *list)
{
    bus_consumer_take(c, list); /* each from its committed offset */
}

/* Running handlers go on; what they finish counts no more (the new owner gets it again). */
static void revoked(struct ec_consumer *c, bool lost)
{
    if (!lost) {
        bus_consumer_store_offsets(c);
    }
    for (size_t i = 0; i < c->part_count; i++) {
        struct ec_event *ev = c->parts[i]->head;
        while (ev) {
            struct ec_event *next = ev->next_in_part;
            if (ev->state == BUS_DONE) {
                free(ev);
            }
            ev = next;
        }
        c->parts[i]->head = c->parts[i]->tail = NULL;
    }
    bus_consumer_release(c);
}

static bool idle(const struct ec_consumer *c)
{
    const struct group *g = (const struct group *)c;
    return g->running == 0 && g->dead == 0;
}

static void mute_group(struct ec_consumer *c)
{
    struct group *g = (struct group *)c;
    void *value;
    for (size_t at = 0; ec_map_next(g->lanes, &at, NULL, &value);) {
        for (struct ec_event *ev = ((struct bus_lane *)value)->first; ev; ev = ev->next_in_lane) {
            ec_timer_free(EC_TAKE(ev->timer));
        }
    }
}

static void free_group(struct ec_consumer *c)
{
    struct group *g = (struct group *)c;
    void *value;
    for (size_t at = 0; ec_map_next(g->lanes, &at, NULL, &value);) {
        struct bus_lane *lane = value;
        for (struct ec_event *ev = lane->first, *next; ev; ev = next) {
            next = ev->next_in_lane;
            bus_event_free(ev); /* waited for its turn; comes again */
        }
        free(lane);
    }
    ec_map_free(g->lanes, NULL);
}

static const struct bus_kind group_kind = {assigned, revoked, on_record,  NULL,
                                           work,     idle,    mute_group, free_group};

EC_RESULT ec_bus_consume(struct ec_bus *bus, const struct ec_consume_spec *spec,
                         struct ec_consumer **ret_consumer)
{
    const struct bus_consumer_conf want = {.group = spec->group,
                                           .commit = true,
                                           .latest = spec->latest,
                                           .letters = spec->letters,
                                           .member = spec->member};
    struct group *g = ec_alloc(sizeof *g);
    g->base.kind = &group_kind;
    g->base.group = ec_arena_strdup(bus->arena, spec->group);
    g->base.mourner = spec->letters ? NULL : g->base.group;
    g->base.letters = spec->letters;
    g->base.routes = spec->routes;
    g->base.route_count = spec->route_count;
    g->base.state = spec->state;
    g->inflight_max = spec->inflight_max ? spec->inflight_max : 64;
    g->taken_max = g->inflight_max * 4;
    g->retry_for_ms = spec->retry_for_ms ? spec->retry_for_ms : EC_EVENT_RETRY_FOR_MS;
    g->lanes = ec_map_new(g->taken_max);
    EC_TRY(bus_consumer_open_member(&g->base, bus, &want, spec->topics));
    bus_consumer_link(&g->base);
    if (ret_consumer) {
        *ret_consumer = &g->base;
    }
    return ec_ok();
}
