/* What the three kinds of consumers share: the rebalance conversation, one queue for all records,
 * offsets, lag, and leaving. Every partition's queue is forwarded to `data`, so back-pressure is
 * simply not to poll it: pausing partitions would throw away what was fetched already. */
#include "bus/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define LAG_EVERY_MS 5000

struct ec_metric bus_events =
    EC_COUNTER("enclii_bus_events_total", "Events consumed, by result.", "result");
struct ec_metric bus_lag =
    EC_GAUGE("enclii_bus_consumer_lag", "Records behind the end of the topic.", "topic");

const struct ec_route *bus_route_find(const struct ec_consumer *c, const char *type)
{
    const struct ec_route *other = NULL;
    for (size_t i = 0; i < c->route_count; i++) {
        if (!c->routes[i].type) {
            other = &c->routes[i];
        } else if (strcmp(c->routes[i].type, type) == 0) {
            return &c->routes[i];
        }
    }
    return other;
}

struct bus_partition *bus_consumer_part(struct ec_consumer *c, const char *topic, int32_t number)
{
    for (size_t i = 0; i < c->part_count; i++) {
        if (c->parts[i]->number == number && strcmp(c->parts[i]->topic, topic) == 0) {
            return c->parts[i];
        }
    }
    struct bus_partition *part = ec_alloc(sizeof *part);
    part->topic = ec_strdup(topic);
    part->contract = ec_topic_find(topic);
    part->number = number;
    part->next = -1;
    c->parts = ec_grow(c->parts, c->part_count + 1, sizeof *c->parts);
    c->parts[c->part_count++] = part;
    return part;
}

/* ---- partitions come and go ---- */

void bus_consumer_take(struct ec_consumer *c, rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        struct bus_partition *part =
            bus_consumer_part(c, list->elems[i].topic, list->elems[i].partition);
        part->owned = true;
        part->caught_up = false;
        part->next = -1;
        rd_kafka_queue_t *queue =
            rd_kafka_queue_get_partition(c->source.rk, part->topic, part->number);
        if (queue) { /* before assign: no record may take the other way */
            rd_kafka_queue_forward(queue, c->source.data);
            rd_kafka_queue_destroy(queue);
        }
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(c->source.rk, list);
    ec_log(code ? EC_LOG_WARN : EC_LOG_DEBUG, NULL, "bus.assigned", rd_kafka_err2str(code),
           EC_T("group", c->group), EC_N("partitions", list->cnt));
    rd_kafka_topic_partition_list_destroy(list);
    c->lag_due_mono_ms = ec_mono_ms() + 1000;
}

void bus_consumer_release(struct ec_consumer *c)
{
    for (size_t i = 0; i < c->part_count; i++) {
        struct bus_partition *part = c->parts[i];
        part->owned = false;
        part->epoch++;
        part->dirty = false;
    }
    rd_kafka_assign(c->source.rk, NULL); /* commits stored offsets first */
}

bool ec_consumer_assigned(const struct ec_consumer *c)
{
    for (size_t i = 0; i < c->part_count; i++) {
        if (c->parts[i]->owned) {
            return true;
        }
    }
    return false;
}

void bus_consumer_store_offsets(struct ec_consumer *c)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
    for (size_t i = 0; i < c->part_count; i++) {
        struct bus_partition *part = c->parts[i];
        if (part->dirty && part->owned) {
            rd_kafka_topic_partition_list_add(list, part->topic, part->number)->offset = part->next;
        }
        part->dirty = false;
    }
    if (list->cnt > 0) {
        rd_kafka_offsets_store(c->source.rk, list); /* fails only for what was just taken away */
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static void on_rebalance(struct ec_consumer *c, rd_kafka_event_t *event)
{
    bool assigned = rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    if (assigned && c->life != BUS_LIVE) {
        return; /* nothing can be fetched with that handle */
    }
    if (assigned) {
        c->kind->assigned(
            c, rd_kafka_topic_partition_list_copy(rd_kafka_event_topic_partition_list(event)));
    } else {
        c->kind->revoked(c, rd_kafka_assignment_lost(c->source.rk));
    }
}

/* ---- a turn ---- */

static void on_record_event(struct ec_consumer *c, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *message;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_FETCH) {
        while ((message = rd_kafka_event_message_next(event))) {
            c->kind->record(c, message);
        }
        return;
    }
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR && c->kind->end &&
        rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        rd_kafka_topic_partition_t *at = rd_kafka_event_topic_partition(event);
        c->kind->end(c, bus_consumer_part(c, at->topic, at->partition));
        rd_kafka_topic_partition_destroy(at);
        return;
    }
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR &&
        rd_kafka_event_error_is_fatal(event)) {
        bus_consumer_broken(c);
        return;
    }
    (void)bus_source_common(c->bus, c->source.rk, event);
}

void bus_consumer_poll(struct ec_consumer *c, unsigned budget, bool (*more)(struct ec_consumer *c))
{
    for (; budget > 0; budget--) {
        if (c->paused || c->stopping || c->life != BUS_LIVE || !more(c)) {
            return; /* whoever makes room wakes us */
        }
        rd_kafka_event_t *event = rd_kafka_queue_poll(c->source.data, 0);
        if (!event) {
            return;
        }
        on_record_event(c, event);
        rd_kafka_event_destroy(event);
    }
    bus_source_wake(&c->source);
}

static void serve_control(struct ec_consumer *c)
{
    for (unsigned n = 0; n < BUS_TURN_BUDGET; n++) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(c->source.control, 0);
        if (!event) {
            return;
        }
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE) {
            on_rebalance(c, event);
        } else {
            on_record_event(c, event);
        }
        rd_kafka_event_destroy(event);
    }
    bus_source_wake(&c->source);
}

/* From what the client knows anyway: no question to the broker. */
static void tell_lag(struct ec_consumer *c)
{
    if (ec_mono_ms() < c->lag_due_mono_ms || !c->group) {
        return;
    }
    c->lag_due_mono_ms = ec_mono_ms() + LAG_EVERY_MS;
    for (size_t i = 0; i < c->part_count; i++) {
        double behind = 0;
        for (size_t k = 0; k < c->part_count; k++) {
            struct bus_partition *part = c->parts[k];
            int64_t low = 0, high = 0;
            if (!part->owned || strcmp(part->topic, c->parts[i]->topic) != 0 ||
                rd_kafka_get_watermark_offsets(c->source.rk, part->topic, part->number, &low,
                                               &high) ||
                high < 0) {
                continue;
            }
            /* A partition nothing came from yet goes on at its committed offset: no lag we know of.
             */
            int64_t at = part->head ? part->head->offset : part->next;
            behind += at >= 0 && high > at ? (double)(high - at) : 0;
        }
        ec_metric_set(&bus_lag, c->parts[i]->topic, behind);
    }
}

static void leave_when_idle(struct ec_consumer *c)
{
    if (!c->closing && c->kind->idle(c)) {
        bus_consumer_store_offsets(c);
        c->closing = true;
        rd_kafka_error_t *error = rd_kafka_consumer_close_queue(c->source.rk, c->source.control);
        if (error) {
            rd_kafka_error_destroy(error); /* then the deadline of ec_bus_close ends it */
        }
        bus_source_tick(&c->source, 20);
    }
}

void bus_consumer_free(struct ec_consumer *c)
{
    bus_consumer_gone(c->bus, c);
    ec_timer_free(c->again);
    for (size_t i = 0; i < c->part_count; i++) {
        free(c->parts[i]->topic);
        free(c->parts[i]);
    }
    free(c->parts);
    c->kind->free(c);
    free(c);
}

static void on_turn(void *arg)
{
    struct ec_consumer *c = arg;
    serve_control(c);
    if (c->life == BUS_BREAKING) {
        bus_rebuild_let_go(c);
    }
    c->kind->work(c);
    tell_lag(c);
    if (c->life == BUS_LETTING_GO) {
        bus_rebuild_end_old(c);
        return;
    }
    if (c->stopping) {
        leave_when_idle(c);
    }
    if (c->closing && rd_kafka_consumer_closed(c->source.rk)) {
        bus_source_close(&c->source, true);
        bus_consumer_free(c);
    }
}

/* ---- open and stop ---- */

EC_RESULT bus_consumer_open(struct ec_consumer *c, struct ec_bus *bus, rd_kafka_t *rk)
{
    c->bus = bus;
    return bus_source_open(&c->source, bus->loop, rk, true, on_turn, c);
}

EC_RESULT bus_consumer_join(struct ec_consumer *c)
{
    rd_kafka_t *rk = NULL;
    EC_TRY(bus_conf_consumer(&c->bus->spec, &c->want, &rk));
    EC_TRY(bus_consumer_open(c, c->bus, rk));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
    for (size_t i = 0; c->topics[i]; i++) {
        rd_kafka_topic_partition_list_add(list, c->topics[i], RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t code = rd_kafka_subscribe(c->source.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code) {
        return ec_fatal((int)code, rd_kafka_err2str(code));
    }
    return ec_ok();
}

EC_RESULT bus_consumer_open_member(struct ec_consumer *c, struct ec_bus *bus,
                                   const struct bus_consumer_conf *want, const char *const *topics)
{
    size_t count = 0;
    while (topics[count]) {
        count++;
    }
    const char **copy = ec_arena_alloc(bus->arena, (count + 1) * sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        copy[i] = ec_arena_strdup(bus->arena, topics[i]);
    }
    c->bus = bus;
    c->topics = copy;
    c->want = *want;
    c->want.group = ec_arena_strdup(bus->arena, want->group);
    c->want.member = ec_arena_strdup(bus->arena, want->member);
    c->again_backoff = (struct ec_backoff){.first_ms = 1000, .cap_ms = 10000};
    return bus_consumer_join(c);
}

void bus_consumer_link(struct ec_consumer *c)
{
    c->next = c->bus->consumers;
    c->bus->consumers = c;
}

void bus_consumer_stop(struct ec_consumer *c)
{
    c->stopping = true;
    bus_source_wake(&c->source);
    if (c->life == BUS_RESTING) {
        ec_timer_start(c->again, 0, 0);
    }
}

/* Handlers that never finished may still hold their events: those and the consumer stay allocated,
 * the process is about to end. */
static struct ec_consumer *killed_ones; /* only so that nobody takes them for forgotten */

void bus_consumer_kill(struct ec_consumer *c)
{
    c->next = killed_ones;
    killed_ones = c;
    ec_log(EC_LOG_WARN, NULL, "bus.killed",
           "a consumer did not stop in time; its events come again", EC_T("group", c->group));
    c->killed = true;
    ec_timer_free(EC_TAKE(c->again));
    c->kind->mute(c);
    bus_source_close(&c->source, false);
}

void ec_consumer_pause(struct ec_consumer *consumer, bool paused)
{
    consumer->paused = paused;
    if (!paused) {
        bus_source_wake(&consumer->source);
    }
}
