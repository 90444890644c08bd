/* The batch consumer: up to batch_max events at once, whose offsets the caller stores in one
 * transaction with their effects. On assignment the offsets come from the caller; the broker's copy
 * is kept only for lag displays. A rebalance is answered between batches, so that whoever gets the
 * partitions next reads offsets that no transaction of ours can change any more. */
#include "bus/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define LETTERS_MS 50 /* between two looks whether they are written */

enum batch_phase {
    COLLECTING, /* taking records */
    BURYING,    /* dead letters must be written before the batch is given out */
    HANDLING,   /* the caller owes ec_batch_in_finish */
    WAITING,    /* RETRY: the same batch again, later */
};

struct ec_batch_in {
    struct batcher *owner;
    struct ec_event **events;
    size_t count;
    struct ec_offset *offsets;
    size_t offset_count;
    size_t rejected; /* of `events`, in this round */
};

struct load {
    struct batcher *owner;
    rd_kafka_topic_partition_list_t *list;
    struct ec_offset *offsets;
    size_t count;
};

struct batcher {
    struct ec_consumer base;
    struct ec_batch_in batch;
    uint32_t batch_max;
    size_t batch_max_bytes, batch_bytes; /* of values */
    enum batch_phase phase;
    uint32_t dead;       /* dead letters on their way */
    bool again;          /* BURYING: the batch was handled, but for what was rejected */
    bool revoke_waiting; /* a rebalance waits for the batch */
    struct load *load;   /* offsets asked for; its list is what was assigned */
    bool load_asked;
    struct ec_timer *timer; /* of WAITING and of a failed load */
    struct ec_backoff backoff;
    void (*load_offsets)(void *state, struct ec_offset *offsets, size_t count, void *token);
    void (*on_batch)(void *state, struct ec_batch_in *batch);
};

size_t ec_batch_in_count(const struct ec_batch_in *batch)
{
    return batch->count;
}

struct ec_event *ec_batch_in_event(const struct ec_batch_in *batch, size_t index)
{
    assert(index < batch->count);
    return batch->events[index];
}

size_t ec_batch_in_offsets(const struct ec_batch_in *batch, const struct ec_offset **ret_offsets)
{
    *ret_offsets = batch->offsets;
    return batch->rejected > 0 ? 0 : batch->offset_count;
}

/* ---- taking records ---- */

static void on_undecodable_dead(void *arg)
{
    struct ec_event *ev = arg;
    struct batcher *b = (struct batcher *)ev->consumer;
    b->dead--;
    bus_event_free(ev);
    bus_source_wake(&b->base.source);
}

static void on_record(struct ec_consumer *c, const rd_kafka_message_t *message)
{
    struct batcher *b = (struct batcher *)c;
    struct ec_event *ev = bus_event_new(c, message);
    if (!ev->part->owned) {
        bus_event_free(ev);
        return;
    }
    ev->part->next = ev->offset + 1;
    ev->part->dirty = true;
    ev->part->caught_up = false;
    struct ec_err err = bus_event_decode(ev, message);
    if (ec_failed(err)) {
        ec_metric_add(&bus_events, "undecodable", 1);
        b->dead++;
        bus_dead_letter(ev, err, on_undecodable_dead);
    } else if (!ev->route) {
        ec_metric_add(&bus_events, "skipped", 1);
        bus_event_free(ev);
    } else {
        b->batch.events[b->batch.count++] = ev;
        b->batch_bytes += ev->raw.len;
    }
}

static void on_end(struct ec_consumer *c, struct bus_partition *part)
{
    (void)c;
    part->caught_up = true;
}

static bool has_room(struct ec_consumer *c)
{
    const struct batcher *b = (struct batcher *)c;
    return b->batch.count < b->batch_max && b->dead < b->batch_max &&
           b->batch_bytes < b->batch_max_bytes;
}

static void note_offsets(struct batcher *b)
{
    struct ec_batch_in *batch = &b->batch;
    batch->offset_count = 0;
    batch->offsets = ec_grow(batch->offsets, b->base.part_count + 1, sizeof *batch->offsets);
    for (size_t i = 0; i < b->base.part_count; i++) {
        const struct bus_partition *part = b->base.parts[i];
        if (part->dirty) {
            batch->offsets[batch->offset_count++] =
                (struct ec_offset){part->topic, part->number, part->next};
        }
    }
}

static void clear(struct batcher *b)
{
    for (size_t i = 0; i < b->batch.count; i++) {
        bus_event_free(b->batch.events[i]);
    }
    b->batch.count = 0;
    b->batch.rejected = 0;
    b->batch_bytes = 0;
    b->again = false;
    b->phase = COLLECTING;
}

static void drop_rejected(struct ec_batch_in *batch)
{
    size_t kept = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->events[i]->state == BUS_DEAD) {
            bus_event_free(batch->events[i]);
        } else {
            batch->events[kept++] = batch->events[i];
        }
    }
    batch->count = kept;
    batch->rejected = 0;
}

static void give_out(struct batcher *b)
{
    b->phase = HANDLING;
    b->on_batch(b->base.state, &b->batch);
}

/* ---- rebalances, between batches ---- */

static void ask_offsets(struct batcher *b)
{
    b->load_asked = true;
    b->load_offsets(b->base.state, b->load->offsets, b->load->count, b->load);
}

static void answer_rebalance(struct batcher *b)
{
    if (b->phase == HANDLING) {
        return; /* ec_batch_in_finish brings us here again */
    }
    if (b->revoke_waiting) {
        b->revoke_waiting = false;
        ec_timer_stop(b->timer);
        clear(b); /* comes again to the new owner */
        bus_consumer_release(&b->base);
    }
    if (b->load && !b->load_asked && !ec_timer_active(b->timer)) {
        ask_offsets(b);
    }
}

static void free_load(struct load *load)
{
    rd_kafka_topic_partition_list_destroy(load->list);
    free(load->offsets);
    free(load);
}

static void assigned(struct ec_consumer *c, rd_kafka_topic_partition_list_t *list)
{
    struct batcher *b = (struct batcher *)c;
    struct load *load = ec_alloc(sizeof *load);
    load->owner = b;
    load->list = list;
    load->count = (size_t)list->cnt;
    load->offsets = ec_alloc((load->count + 1) * sizeof *load->offsets);
    for (size_t i = 0; i < load->count; i++) {
        load->offsets[i] = (struct ec_offset){list->elems[i].topic, list->elems[i].partition, -1};
    }
    b->load = load;
    b->load_asked = false;
    answer_rebalance(b);
}

static void revoked(struct ec_consumer *c, bool lost)
{
    struct batcher *b = (struct batcher *)c;
    (void)lost; /* the caller's database fences what is late */
    if (b->load && b->load_asked) {
        b->load->owner = NULL; /* the answer is for nobody now */
        b->load = NULL;
    } else if (b->load) {
        free_load(EC_TAKE(b->load));
    }
    b->revoke_waiting = true;
    answer_rebalance(b);
}

void ec_offsets_loaded(void *token, struct ec_err err)
{
    struct load *load = token;
    struct batcher *b = load->owner;
    if (!b) {
        free_load(load);
        return;
    }
    if (b->base.killed) {
        return; /* too late: its bus is gone */
    }
    if (err.fate == EC_FATE_FATAL) {
        bus_fatal(b->base.bus, err);
        return;
    }
    b->load_asked = false;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "bus.offsets_not_loaded", "asking again", EC_ERR(err),
               EC_T("group", b->base.group));
        if (!b->base.stopping) {
            ec_timer_start(b->timer, 100 + ec_backoff_next_ms(&b->backoff), 0);
        }
        return;
    }
    ec_backoff_reset(&b->backoff);
    for (size_t i = 0; i < load->count; i++) {
        load->list->elems[i].offset =
            load->offsets[i].next >= 0 ? load->offsets[i].next : RD_KAFKA_OFFSET_BEGINNING;
    }
    bus_consumer_take(&b->base, load->list);
    load->list = NULL;
    free(load->offsets);
    free(load);
    b->load = NULL;
}

/* ---- handling ---- */

static void on_timer(void *arg)
{
    struct batcher *b = arg;
    if (b->phase == WAITING && !b->base.stopping && b->dead > 0) {
        ec_timer_start(b->timer, LETTERS_MS, 0);
    } else if (b->phase == WAITING && !b->base.stopping) {
        give_out(b);
    }
    answer_rebalance(b);
}

static void on_rejected_dead(void *arg)
{
    on_undecodable_dead(arg);
}

/* The letter gets a copy, because the batch's own event goes with the batch. */
void ec_batch_in_reject(struct ec_batch_in *batch, size_t index, const char *reason)
{
    struct batcher *b = batch->owner;
    struct ec_event *from = ec_batch_in_event(batch, index);
    assert(from->state != BUS_DEAD);
    struct ec_event *ev = bus_event_copy(from);
    from->state = BUS_DEAD;
    batch->rejected++;
    b->dead++;
    ec_metric_add(&bus_events, "reject", 1);
    bus_dead_letter(ev, ec_reject(ec_arena_strdup(ev->arena, reason)), on_rejected_dead);
}

void ec_batch_in_finish(struct ec_batch_in *batch, struct ec_err err)
{
    struct batcher *b = batch->owner;
    assert(b->phase == HANDLING);
    if (b->base.killed) {
        return; /* too late: its bus is gone */
    }
    bus_source_wake(&b->base.source);
    bool incomplete = batch->rejected > 0;
    drop_rejected(batch);
    if (!ec_failed(err) && incomplete) {
        b->again = true;
        b->phase = BURYING;
        return;
    }
    if (!ec_failed(err)) {
        ec_metric_add(&bus_events, "ok", (double)batch->count);
        ec_backoff_reset(&b->backoff);
        clear(b);
        bus_consumer_store_offsets(&b->base);
        return;
    }
    b->phase = WAITING;
    if (err.fate != EC_FATE_RETRY) {
        bus_fatal(b->base.bus, err); /* a batch cannot be refused: its events are, one by one */
        return;
    }
    uint32_t wait_ms = 50 + ec_backoff_next_ms(&b->backoff);
    ec_metric_add(&bus_events, "retry", (double)batch->count);
    ec_log(EC_LOG_WARN, NULL, "batch.retried", "handling failed; trying again", EC_ERR(err),
           EC_T("group", b->base.group), EC_N("events", batch->count), EC_N("wait_ms", wait_ms));
    if (!b->base.stopping) {
        ec_timer_start(b->timer, wait_ms, 0);
    }
}

static void work(struct ec_consumer *c)
{
    struct batcher *b = (struct batcher *)c;
    answer_rebalance(b);
    if (b->phase == COLLECTING && b->dead == 0) {
        bus_consumer_poll(c, b->batch_max, has_room);
        b->phase = b->dead > 0 ? BURYING : COLLECTING;
    }
    if (b->dead > 0 || b->phase > BURYING || c->stopping) {
        return;
    }
    bool buried = b->phase == BURYING, again = b->again;
    b->phase = COLLECTING;
    b->again = false;
    if (b->batch.count > 0 || again) {
        note_offsets(b);
        give_out(b);
    } else if (buried) {
        bus_source_wake(&c->source); /* what came meanwhile rang already */
    }
}

static bool idle(const struct ec_consumer *c)
{
    const struct batcher *b = (const struct batcher *)c;
    return b->phase != HANDLING && b->dead == 0 && !(b->load && b->load_asked);
}

static void mute_batcher(struct ec_consumer *c)
{
    struct batcher *b = (struct batcher *)c;
    ec_timer_free(EC_TAKE(b->timer));
}

static void free_batcher(struct ec_consumer *c)
{
    struct batcher *b = (struct batcher *)c;
    clear(b);
    if (b->load) {
        free_load(b->load);
    }
    ec_timer_free(b->timer);
    free(b->batch.events);
    free(b->batch.offsets);
}

bool ec_consumer_at_end(const struct ec_consumer *c)
{
    const struct batcher *b = (const struct batcher *)c;
    bool any = false;
    for (size_t i = 0; i < c->part_count; i++) {
        if (c->parts[i]->owned && !c->parts[i]->caught_up) {
            return false;
        }
        any |= c->parts[i]->owned;
    }
    return any && b->phase == COLLECTING && b->batch.count == 0 && b->dead == 0 && c->bus->up;
}

static const struct bus_kind batch_kind = {assigned, revoked, on_record,    on_end,
                                           work,     idle,    mute_batcher, free_batcher};

EC_RESULT ec_bus_consume_batch(struct ec_bus *bus, const struct ec_consume_batch_spec *spec,
                               struct ec_consumer **ret_consumer)
{
    const struct bus_consumer_conf want = {
        .group = spec->group, .commit = true, .eof = spec->ends, .member = spec->member};
    struct batcher *b = ec_alloc(sizeof *b);
    b->base.kind = &batch_kind;
    b->base.group = b->base.mourner = ec_arena_strdup(bus->arena, spec->group);
    b->base.routes = spec->routes;
    b->base.route_count = spec->route_count;
    b->base.state = spec->state;
    b->batch.owner = b;
    b->batch_max = spec->batch_max ? spec->batch_max : 500;
    b->batch_max_bytes = spec->batch_max_bytes ? spec->batch_max_bytes : 16u << 20;
    b->batch.events = ec_alloc(b->batch_max * sizeof *b->batch.events);
    b->backoff = (struct ec_backoff){.first_ms = 100, .cap_ms = 10000};
    b->load_offsets = spec->load_offsets;
    b->on_batch = spec->on_batch;
    b->timer = ec_timer_new(bus->loop, on_timer, b);
    EC_TRY(bus_consumer_open_member(&b->base, bus, &want, spec->topics));
    bus_consumer_link(&b->base);
    if (ret_consumer) {
        *ret_consumer = &b->base;
    }
    return ec_ok();
}
