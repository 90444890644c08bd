/* The outbox relay. Rows of one topic and key are published one after another, each after the
 * broker's word on the one before; different keys go at once. Acknowledged rows are deleted. A
 * process that dies between the broker's word and the delete publishes again under the same id, in
 * the same order: consumers drop what they know. A row that the broker does not take holds back its
 * own key only. */
#include "relay.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/metric.h"

#define AGAIN_FIRST_MS 200 /* after the broker did not take a row */
#define AGAIN_MAX_MS 10000
#define SWEEP_MS 10000 /* an idle relay reads from the very beginning, in case we are wrong */

static struct ec_metric relayed =
    EC_COUNTER("enclii_outbox_relayed_total", "Outbox rows published and deleted.", NULL);
static struct ec_metric not_taken =
    EC_COUNTER("enclii_outbox_not_taken_total", "Times the broker did not take a row.", NULL);
static struct ec_metric age =
    EC_HISTOGRAM("enclii_outbox_age_seconds", "Age of rows when the broker had them.", NULL);

/* ---- publishing ---- */

static void publish(struct row *row);

static void hold(struct row *row, struct ec_err err)
{
    ec_metric_add(&not_taken, NULL, 1);
    row->again_ms = row->again_ms ? row->again_ms * 2 : AGAIN_FIRST_MS;
    row->again_ms = row->again_ms > AGAIN_MAX_MS ? AGAIN_MAX_MS : row->again_ms;
    row->again_mono_ms = ec_mono_ms() + row->again_ms;
    ec_log(err.fate == EC_FATE_RETRY ? EC_LOG_WARN : EC_LOG_ERROR, row->trace, "outbox.not_taken",
           "the broker did not take a row; its key waits", EC_T("topic", row->topic),
           EC_T("key", row->key), EC_N("row", row->id), EC_ERR(err));
    row_set_state(row, HELD);
    relay_forget_behind(row);
}

static void on_published(void *arg, struct ec_err err)
{
    struct row *row = arg;
    struct relay *relay = row->relay;
    if (ec_failed(err)) {
        hold(row, err);
        relay_go_on(relay);
        return;
    }
    relay->more = relay->more || row_stuck(row); /* its key goes on */
    row_set_state(row, ACKED);
    ec_metric_observe_s(&age, NULL, (double)(ec_unix_ms() - row->created_ms) / 1000);
    if (row->behind) {
        publish(row->behind);
        row->behind = NULL;
    } else {
        ec_map_remove(relay->chains, row->chain);
    }
    relay_go_on(relay);
}

static void publish(struct row *row)
{
    row_set_state(row, PUBLISHING);
    struct ec_message message = {
        .topic = row->topic,
        .key = row->key,
        .type = row->type,
        .subject = *row->subject ? row->subject : NULL,
        .id = row->event_id,
        .trace = *row->trace ? row->trace : NULL,
        .raw = {row->tombstone ? NULL : row->body.ptr, row->body.len},
        .headers = row->headers,
        .time_unix_ms = row->created_ms,
    };
    struct ec_err err = ec_bus_publish(row->relay->pl->bus, &message, on_published, row);
    if (ec_failed(err)) {
        hold(row, err);
    }
}

void relay_enqueue(struct row *row)
{
    struct row *tail = ec_map_get(row->relay->chains, row->chain);
    if (tail && row_stuck(tail)) {
        row_forget(row);
        return;
    }
    ec_map_put(row->relay->chains, row->chain, row);
    if (tail) {
        tail->behind = row;
    } else {
        publish(row);
    }
}

static void publish_held(struct relay *relay)
{
    int64_t now_ms = ec_mono_ms();
    for (struct row *row = relay->first; row && relay->counts[HELD] > 0; row = row->next) {
        if (row->state == HELD && row->again_mono_ms <= now_ms) {
            publish(row);
        }
    }
}

static void on_deleted(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct relay *relay = arg;
    struct row *next = NULL;
    (void)batch;
    relay->deleting = false;
    for (struct row *row = relay->first; row; row = next) {
        next = row->next;
        if (row->state != DYING) {
            continue;
        }
        if (ec_failed(err)) {
            row_set_state(row, ACKED); /* they stay; the next round deletes them */
            continue;
        }
        ec_metric_add(&relayed, NULL, 1);
        row_free(row);
    }
    relay->more = relay->more || relay->hidden_ms > 0; /* this delete may have hidden them */
    if (!ec_failed(err)) {
        relay_go_on(relay);
    } else if (relay->stopping) {
        relay->gave_up = true; /* the successor publishes them again, under the same ids */
        relay_go_on(relay);
    }
}

static bool is_acked(const struct row *row)
{
    return row->state == ACKED;
}

/* Not waiting for the disk: a delete that is lost publishes its rows again, under the same ids. */
static void delete_acked(struct relay *relay)
{
    ec_cleanup(ec_buf_done) struct ec_buf ids;
    relay_ids(relay, is_acked, &ids);
    struct ec_batch *batch = ec_batch_new(relay->pl->store);
    ec_batch_add(batch, "select set_config('synchronous_commit', 'off', true)", NULL, 0);
    ec_batch_add(batch, "delete from enclii.outbox where id = any($1::bigint[])",
                 (const char *[]){ids.ptr}, 1);
    struct ec_err err = ec_batch_run(batch, on_deleted, relay);
    if (ec_failed(err)) {
        relay->gave_up = relay->stopping;
        return; /* the poll tries again */
    }
    relay->deleting = true;
    for (struct row *row = relay->first; row; row = row->next) {
        if (row->state == ACKED) {
            row_set_state(row, DYING);
        }
    }
}

/* ---- life ---- */

bool relay_idle(const struct relay *relay)
{
    return !relay->reading && !relay->deleting && relay->counts[PUBLISHING] == 0 &&
           (relay->counts[ACKED] == 0 || relay->gave_up);
}

void relay_go_on(struct relay *relay)
{
    bool leading = ec_leader_is(relay->pl->leader) && !relay->stopping;
    if (leading && !relay->led) {
        relay->floor = (struct floor){0}; /* it may be another database by now */
    }
    if (relay->led && !leading && !relay->stopping) {
        ec_bus_purge(relay->pl->bus); /* it must not overtake what the next leader publishes */
    }
    relay->led = leading;
    if (!leading && relay->counts[WAITING] + relay->counts[HELD] > 0) {
        relay_forget_unpublished(relay);
    }
    if (!relay->deleting && relay->counts[ACKED] > 0 && !relay->gave_up) {
        delete_acked(relay);
    }
    if (leading && relay->more && !relay->reading && relay->count <= RELAY_WINDOW / 2) {
        relay_read(relay);
    }
    if (relay->stopping && relay->stopped && relay_idle(relay)) {
        ec_call_fn stopped = EC_TAKE(relay->stopped);
        stopped(relay->stopped_arg);
    }
}

static void on_poll(void *arg)
{
    struct relay *relay = arg;
    relay->more = true;
    if (relay->count == 0 && ec_mono_ms() - relay->swept_mono_ms >= SWEEP_MS) {
        relay->swept_mono_ms = ec_mono_ms();
        relay->floor = (struct floor){0};
    }
    if (ec_leader_is(relay->pl->leader)) {
        publish_held(relay);
    }
    relay_go_on(relay);
}

struct relay *relay_new(struct pipeline *pl)
{
    struct relay *relay = ec_alloc(sizeof *relay);
    relay->pl = pl;
    relay->chains = ec_map_new(2 * RELAY_WINDOW);
    relay->poll = ec_timer_new(pl->loop, on_poll, relay);
    ec_timer_start(relay->poll, RELAY_POLL_MS / 5, RELAY_POLL_MS);
    return relay;
}

void relay_free(struct relay *relay)
{
    if (!relay) {
        return;
    }
    while (relay->first) {
        row_free(relay->first);
    }
    ec_map_free(relay->chains, NULL);
    ec_timer_free(relay->poll);
    free(relay);
}

void relay_wake(struct relay *relay)
{
    relay->more = true;
    relay_go_on(relay);
}

void relay_stop(struct relay *relay, ec_call_fn stopped, void *arg)
{
    relay->stopping = true;
    ec_timer_stop(relay->poll);
    if (relay_idle(relay)) {
        ec_loop_defer(relay->pl->loop, stopped, arg);
        return;
    }
    relay->stopped = stopped;
    relay->stopped_arg = arg;
    relay_go_on(relay);
}
