/* The table consumer: no group, no stored offsets; every instance reads the topics whole and
 * follows them. Which partitions there are, where they end now and, for a tail, where it begins,
 * only blocking calls can tell, so they run on the worker pool; until the topics exist it asks
 * again. Partitions added later are seen after a restart. */
#include "bus/internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define ASK_TIMEOUT_MS 3000
#define DEAD_MAX 100 /* letters on their way; then the table waits for the broker */

/* All a worker sees while it asks the broker. */
struct question {
    rd_kafka_t *rk;
    const char **topics;
    int64_t tail_ms;
    rd_kafka_topic_partition_list_t *list; /* the answer; NULL = not all topics are there */
    rd_kafka_topic_partition_list_t *ends; /* the same with where each ends; 0 = nothing to read */
    rd_kafka_resp_err_t code;
};

struct table {
    struct ec_consumer base;
    struct question question;
    uint32_t dead; /* letters on their way */
    bool asking;
    bool known; /* partitions are assigned */
    bool told;  /* on_caught_up was called */
    struct ec_timer *timer;
    struct ec_backoff backoff;
    void (*on_event)(void *state, struct ec_event *ev);
    void (*on_unreadable)(void *state, const char *key);
    void (*on_caught_up)(void *state);
};

static bool add_partitions(struct question *q, const char *topic)
{
    const struct rd_kafka_metadata *meta = NULL;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(q->rk, topic, NULL);
    q->code = rd_kafka_metadata(q->rk, 0, handle, &meta, ASK_TIMEOUT_MS);
    rd_kafka_topic_destroy(handle);
    if (q->code) {
        return false;
    }
    int count = meta->topic_cnt == 1 ? meta->topics[0].partition_cnt : 0;
    q->code = meta->topic_cnt == 1 ? meta->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    rd_kafka_metadata_destroy(meta);
    for (int i = 0; i < count; i++) {
        rd_kafka_topic_partition_list_add(q->list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    }
    return q->code == RD_KAFKA_RESP_ERR_NO_ERROR && count > 0;
}

/* Where each partition ends now. Without that the end would only be known by a fetch that comes
 * back empty, which the broker holds back for half a second, and a service would start that much
 * later. */
static bool find_ends(struct question *q)
{
    q->ends = rd_kafka_topic_partition_list_copy(q->list);
    for (int i = 0; i < q->ends->cnt; i++) {
        q->ends->elems[i].offset = RD_KAFKA_OFFSET_END; /* as a time: the latest */
    }
    q->code = rd_kafka_offsets_for_times(q->rk, q->ends, ASK_TIMEOUT_MS);
    for (int i = 0; i < q->ends->cnt && !q->code; i++) {
        int64_t first = q->list->elems[i].offset, *end = &q->ends->elems[i].offset;
        if (first == RD_KAFKA_OFFSET_END || first >= *end || *end < 0) {
            *end = 0;
        }
    }
    return q->code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void forget_answer(struct question *q)
{
    if (q->list) {
        rd_kafka_topic_partition_list_destroy(EC_TAKE(q->list));
    }
    if (q->ends) {
        rd_kafka_topic_partition_list_destroy(EC_TAKE(q->ends));
    }
}

static void ask(void *arg)
{
    struct question *q = arg;
    q->list = rd_kafka_topic_partition_list_new(8);
    bool good = true;
    for (size_t i = 0; q->topics[i] && good; i++) {
        good = add_partitions(q, q->topics[i]);
    }
    if (good && q->tail_ms > 0) {
        for (int i = 0; i < q->list->cnt; i++) {
            q->list->elems[i].offset = ec_unix_ms() - q->tail_ms;
        }
        q->code = rd_kafka_offsets_for_times(q->rk, q->list, ASK_TIMEOUT_MS);
        good = q->code == RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    if (!good || !find_ends(q)) {
        forget_answer(q);
    }
}

static void tell_caught_up(struct table *t)
{
    bool all = t->known && !t->told;
    for (size_t i = 0; i < t->base.part_count && all; i++) {
        all = t->base.parts[i]->caught_up;
    }
    if (all) {
        t->told = true;
        if (t->on_caught_up) {
            t->on_caught_up(t->base.state);
        }
    }
}

static void take_answer(struct table *t)
{
    struct question *q = &t->question;
    bus_consumer_take(&t->base, EC_TAKE(q->list));
    for (int i = 0; i < q->ends->cnt; i++) {
        const rd_kafka_topic_partition_t *at = &q->ends->elems[i];
        struct bus_partition *part = bus_consumer_part(&t->base, at->topic, at->partition);
        part->end = at->offset;
        part->caught_up = part->end == 0;
    }
    forget_answer(q);
    t->known = true;
    tell_caught_up(t);
}

static void on_answer(void *arg)
{
    struct table *t = EC_CONTAINER_OF(arg, struct table, question);
    t->asking = false;
    bus_source_wake(&t->base.source);
    if (t->base.stopping) {
        forget_answer(&t->question);
    } else if (t->question.list) {
        take_answer(t);
    } else {
        ec_log(EC_LOG_DEBUG, NULL, "table.waits", rd_kafka_err2str(t->question.code),
               EC_T("topic", t->question.topics[0]));
        ec_timer_start(t->timer, 50 + ec_backoff_next_ms(&t->backoff), 0);
    }
}

static void begin(void *arg)
{
    struct table *t = arg;
    if (t->base.stopping) {
        return;
    }
    struct ec_err err = ec_loop_work(t->base.bus->loop, ask, on_answer, &t->question);
    t->asking = !ec_failed(err);
    if (!t->asking) {
        ec_timer_start(t->timer, 100, 0); /* the pool is full */
    }
}

static void on_dead(void *arg)
{
    struct ec_event *ev = arg;
    struct table *t = (struct table *)ev->consumer;
    t->dead--;
    bus_source_wake(&t->base.source);
    bus_event_free(ev);
}

/* takes the event. Each start of the service writes the letter again: whoever keeps letters knows
 * them by their origin. */
static void bury(struct table *t, struct ec_event *ev, struct ec_err why)
{
    if (!t->base.mourner) {
        ec_log(EC_LOG_ERROR, NULL, "table.undecodable", "a record was left out", EC_ERR(why),
               EC_T("topic", ev->topic), EC_N("partition", ev->part->number),
               EC_N("offset", ev->offset));
        bus_event_free(ev);
        return;
    }
    t->dead++;
    bus_dead_letter(ev, why, on_dead);
}

void ec_table_reject(struct ec_event *ev, const char *reason)
{
    struct table *t = (struct table *)ev->consumer;
    struct ec_event *copy = bus_event_copy(ev);
    ec_metric_add(&bus_events, "reject", 1);
    bury(t, copy, ec_reject(ec_arena_strdup(copy->arena, reason)));
}

static void on_end(struct ec_consumer *c, struct bus_partition *part)
{
    part->caught_up = true;
    tell_caught_up((struct table *)c);
}

/* takes the event */
static void handle(struct table *t, struct ec_event *ev, struct ec_err err)
{
    if (ec_failed(err)) {
        ec_metric_add(&bus_events, "undecodable", 1);
        if (t->on_unreadable && *ev->key) {
            t->on_unreadable(t->base.state, ev->key);
        }
        bury(t, ev, err);
        return;
    }
    if (ev->elsewhere || (!ev->route && !ev->tombstone)) {
        ec_metric_add(&bus_events, "skipped", 1);
    } else {
        ec_metric_add(&bus_events, "ok", 1);
        t->on_event(t->base.state, ev);
    }
    bus_event_free(ev);
}

static void on_record(struct ec_consumer *c, const rd_kafka_message_t *message)
{
    struct ec_event *ev = bus_event_new(c, message);
    struct ec_err err = bus_event_decode(ev, message);
    struct bus_partition *part = ev->part;
    part->next = ev->offset + 1;
    handle((struct table *)c, ev, err);
    if (!part->caught_up && part->next >= part->end) {
        on_end(c, part);
    }
}

static bool has_room(struct ec_consumer *c)
{
    return ((const struct table *)c)->dead < DEAD_MAX;
}

static void work(struct ec_consumer *c)
{
    bus_consumer_poll(c, BUS_TURN_BUDGET, has_room);
}

static void assigned(struct ec_consumer *c, rd_kafka_topic_partition_list_t *list)
{
    (void)c; /* never: a table subscribes to nothing */
    rd_kafka_topic_partition_list_destroy(list);
}

static void revoked(struct ec_consumer *c, bool lost)
{
    (void)lost;
    bus_consumer_release(c);
}

static bool idle(const struct ec_consumer *c)
{
    const struct table *t = (const struct table *)c;
    return !t->asking && t->dead == 0;
}

static void mute_table(struct ec_consumer *c)
{
    struct table *t = (struct table *)c;
    ec_timer_free(EC_TAKE(t->timer));
}

static void free_table(struct ec_consumer *c)
{
    struct table *t = (struct table *)c;
    ec_timer_free(t->timer);
    free(t->question.topics);
}

static const struct bus_kind table_kind = {assigned, revoked, on_record,  on_end,
                                           work,     idle,    mute_table, free_table};

EC_RESULT ec_bus_table(struct ec_bus *bus, const struct ec_table_spec *spec,
                       struct ec_consumer **ret_consumer)
{
    rd_kafka_t *rk = NULL;
    /* librdkafka wants a group name to assign; nothing ever joins or commits under it. */
    struct bus_consumer_conf want = {
        .group = ec_arena_format(bus->arena, "%s.table", bus->spec.service), .eof = true};
    EC_TRY(bus_conf_consumer(&bus->spec, &want, &rk));
    struct table *t = ec_alloc(sizeof *t);
    size_t count = 0;
    while (spec->topics[count]) {
        count++;
    }
    t->base.kind = &table_kind;
    t->base.mourner = spec->tail_ms > 0 ? NULL : bus->spec.service;
    t->base.routes = spec->routes;
    t->base.route_count = spec->route_count;
    t->base.state = spec->state;
    t->on_event = spec->on_event;
    t->on_unreadable = spec->on_unreadable;
    t->on_caught_up = spec->on_caught_up;
    t->backoff = (struct ec_backoff){.first_ms = 100, .cap_ms = 2000};
    t->question = (struct question){.rk = rk, .tail_ms = spec->tail_ms};
    t->question.topics = ec_alloc((count + 1) * sizeof *t->question.topics);
    for (size_t i = 0; i < count; i++) {
        t->question.topics[i] = ec_arena_strdup(bus->arena, spec->topics[i]);
    }
    t->timer = ec_timer_new(bus->loop, begin, t);
    EC_TRY(bus_consumer_open(&t->base, bus, rk));
    bus_consumer_link(&t->base);
    begin(t);
    if (ret_consumer) {
        *ret_consumer = &t->base;
    }
    return ec_ok();
}
