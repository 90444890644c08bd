/* The outbox relay. Rows are read in the order of their ids, but only those whose transaction is
 * older than every running one, so that no smaller id can still appear. Rows of one topic and key
 * are published one after another, each after the broker's word on the one before; different keys
 * go at once, up to WINDOW rows. Acknowledged rows are deleted. A process that dies between the
 * broker's word and the delete publishes again under the same id, in the same order: consumers drop
 * what they know. A row that the broker does not take holds back its own key only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "pipeline.h"

#define WINDOW 1000        /* rows in memory */
#define POLL_MS 1000       /* in case a NOTIFY was missed */
#define HIDDEN_MS 10       /* rows are there, but an older transaction is still running */
#define AGAIN_FIRST_MS 200 /* after the broker did not take a row */
#define AGAIN_MAX_MS 10000

static struct ec_metric relayed =
    EC_COUNTER("enclii_outbox_relayed_total", "Outbox rows published and deleted.", NULL);
static struct ec_metric not_taken =
    EC_COUNTER("enclii_outbox_not_taken_total", "Times the broker did not take a row.", NULL);
static struct ec_metric age =
    EC_HISTOGRAM("enclii_outbox_age_seconds", "Age of rows when the broker had them.", NULL);

enum row_state {
    WAITING,    /* behind another of its key */
    PUBLISHING, /* the broker owes a word */
    HELD,       /* the broker did not take it; tried again at again_mono_ms */
    ACKED,      /* to be deleted */
    DYING,      /* being deleted */
};

struct row {
    struct relay *relay;
    enum row_state state;
    char *id, *topic, *key, *type, *subject, *event_id, *trace, *chain;
    char *body;
    size_t body_len;
    char *headers; /* of a replayed dead letter; NULL = none */
    size_t headers_len;
    bool tombstone;
    int64_t created_ms;
    uint32_t again_ms;
    int64_t again_mono_ms;
    struct row *behind;      /* the next one of the same topic and key */
    struct row *prev, *next; /* all rows in memory */
};

struct relay {
    struct pipeline *pl;
    bool reading, deleting, stopping;
    bool gave_up;             /* stopping, and the database does not delete what was published */
    bool more;                /* there may be rows that are not in memory */
    size_t count;             /* rows in memory */
    size_t counts[DYING + 1]; /* by state */
    struct ec_map *chains;    /* topic and key -> its last row */
    struct row *first, *last; /* in the order of ids as read */
    struct ec_timer *poll;
    ec_call_fn stopped;
    void *stopped_arg;
};

static void go_on(struct relay *relay);

/* ---- rows in memory ---- */

static void set_state(struct row *row, enum row_state state)
{
    row->relay->counts[row->state]--;
    row->relay->counts[state]++;
    row->state = state;
}

static char *copy_bytes(struct ec_span bytes)
{
    char *copy = ec_alloc(bytes.len + 1);
    if (bytes.len > 0) {
        memcpy(copy, bytes.ptr, bytes.len);
    }
    return copy;
}

static struct row *take_row(struct relay *relay, const struct ec_rows *rows, size_t at,
                            struct ec_arena *arena)
{
    struct row *row = ec_alloc(sizeof *row);
    struct ec_span body = ec_rows_bytes(rows, at, "body", arena);
    row->relay = relay;
    row->id = ec_strdup(ec_rows_text(rows, at, "id"));
    row->topic = ec_strdup(ec_rows_text(rows, at, "topic"));
    row->key = ec_strdup(ec_rows_text(rows, at, "key"));
    row->type = ec_strdup(ec_rows_text(rows, at, "type"));
    row->subject = ec_strdup(ec_rows_text(rows, at, "subject"));
    row->event_id = ec_strdup(ec_rows_text(rows, at, "event_id"));
    row->trace = ec_strdup(ec_rows_text(rows, at, "trace"));
    row->chain = ec_format("%s %s", row->topic, row->key);
    row->body = copy_bytes(body);
    row->body_len = body.len;
    if (!ec_rows_null(rows, at, "headers")) {
        struct ec_span headers = ec_rows_bytes(rows, at, "headers", arena);
        row->headers = copy_bytes(headers);
        row->headers_len = headers.len;
    }
    row->tombstone = ec_rows_null(rows, at, "body");
    row->created_ms = ec_rows_int(rows, at, "created");
    row->prev = relay->last;
    *(relay->last ? &relay->last->next : &relay->first) = row;
    relay->last = row;
    relay->count++;
    relay->counts[row->state]++;
    return row;
}

static void free_row(struct row *row)
{
    struct relay *relay = row->relay;
    *(row->prev ? &row->prev->next : &relay->first) = row->next;
    *(row->next ? &row->next->prev : &relay->last) = row->prev;
    relay->count--;
    relay->counts[row->state]--;
    char *texts[] = {row->id,       row->topic, row->key,   row->type, row->subject,
                     row->event_id, row->trace, row->chain, row->body, row->headers};
    for (size_t i = 0; i < EC_LEN(texts); i++) {
        free(texts[i]);
    }
    free(row);
}

/* We do not lead any more (or stop): what the broker has not been given is somebody else's. */
static void forget_unpublished(struct relay *relay)
{
    struct row *next = NULL;
    for (struct row *row = relay->first; row; row = next) {
        next = row->next;
        if (row->state == WAITING || row->state == HELD) {
            ec_map_remove(relay->chains, row->chain);
            free_row(row);
        }
    }
    for (struct row *row = relay->first; row; row = row->next) {
        if (row->state == PUBLISHING) {
            row->behind = NULL;
            ec_map_put(relay->chains, row->chain, row);
        }
    }
}

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
           EC_T("key", row->key), EC_T("row", row->id), EC_ERR(err));
    set_state(row, HELD);
}

static void on_published(void *arg, struct ec_err err)
{
    struct row *row = arg;
    struct relay *relay = row->relay;
    if (ec_failed(err)) {
        hold(row, err);
        go_on(relay);
        return;
    }
    set_state(row, ACKED);
    ec_metric_observe_s(&age, NULL, (double)(ec_unix_ms() - row->created_ms) / 1000);
    if (row->behind) {
        publish(row->behind);
        row->behind = NULL;
    } else {
        ec_map_remove(relay->chains, row->chain);
    }
    go_on(relay);
}

static void publish(struct row *row)
{
    set_state(row, PUBLISHING);
    struct ec_message message = {
        .topic = row->topic,
        .key = row->key,
        .type = row->type,
        .subject = *row->subject ? row->subject : NULL,
        .id = row->event_id,
        .trace = *row->trace ? row->trace : NULL,
        .raw = {row->tombstone ? NULL : row->body, row->body_len},
        .headers = {row->headers, row->headers_len},
        .time_unix_ms = row->created_ms,
    };
    struct ec_err err = ec_bus_publish(row->relay->pl->bus, &message, on_published, row);
    if (ec_failed(err)) {
        hold(row, err);
    }
}

static void enqueue(struct row *row)
{
    struct row *tail = ec_map_get(row->relay->chains, row->chain);
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

/* ---- deleting ---- */

static void ids_of(struct relay *relay, int state, struct ec_buf *out)
{
    ec_buf_init(out, WINDOW * 32);
    ec_buf_add_text(out, "{");
    const char *comma = "";
    for (const struct row *row = relay->first; row; row = row->next) {
        if (state < 0 || (int)row->state == state) {
            ec_buf_addf(out, "%s%s", comma, row->id);
            comma = ",";
        }
    }
    ec_buf_add_text(out, "}");
}

static void on_deleted(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct relay *relay = arg;
    struct row *next = NULL;
    (void)rows;
    relay->deleting = false;
    for (struct row *row = relay->first; row; row = next) {
        next = row->next;
        if (row->state != DYING) {
            continue;
        }
        if (ec_failed(err)) {
            set_state(row, ACKED); /* they stay; the next round deletes them */
            continue;
        }
        ec_metric_add(&relayed, NULL, 1);
        free_row(row);
    }
    if (!ec_failed(err)) {
        go_on(relay);
    } else if (relay->stopping) {
        relay->gave_up = true; /* the successor publishes them again, under the same ids */
        go_on(relay);
    }
}

static void delete_acked(struct relay *relay)
{
    ec_cleanup(ec_buf_done) struct ec_buf ids;
    ids_of(relay, ACKED, &ids);
    const char *args[] = {ids.ptr};
    struct ec_err err =
        ec_store_exec(relay->pl->store, "delete from enclii.outbox where id = any($1::bigint[])",
                      args, 1, on_deleted, relay);
    if (ec_failed(err)) {
        relay->gave_up = relay->stopping;
        return; /* the poll tries again */
    }
    relay->deleting = true;
    for (struct row *row = relay->first; row; row = row->next) {
        if (row->state == ACKED) {
            set_state(row, DYING);
        }
    }
}

/* ---- reading ---- */

static const char read_sql[] =
    "select id::text, topic, key, type, subject, event_id, trace, body, headers, "
    "enclii.ms(created_at) as "
    "created from enclii.outbox where xid < pg_snapshot_xmin(pg_current_snapshot()) "
    "and not (id = any($1::bigint[])) order by id limit $2::int";
static const char hidden_sql[] = "select exists (select 1 from enclii.outbox where xid >= "
                                 "pg_snapshot_xmin(pg_current_snapshot())) as hidden";

static void on_read(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct relay *relay = arg;
    relay->reading = false;
    if (ec_failed(err)) {
        relay->more = true; /* the poll tries again */
        go_on(relay);
        return;
    }
    const struct ec_rows *rows = ec_batch_rows(batch, 0);
    size_t count = ec_rows_count(rows);
    relay->more = relay->more || count > 0;
    if (ec_rows_bool(ec_batch_rows(batch, 1), 0, "hidden")) {
        ec_timer_start(relay->poll, HIDDEN_MS, POLL_MS);
    }
    struct ec_arena *arena = ec_arena_new((size_t)256 << 20);
    for (size_t at = 0; at < count && !relay->stopping && ec_leader_is(relay->pl->leader); at++) {
        enqueue(take_row(relay, rows, at, arena));
    }
    ec_arena_free(arena);
    go_on(relay);
}

static void read_more(struct relay *relay)
{
    ec_cleanup(ec_buf_done) struct ec_buf ids;
    ids_of(relay, -1, &ids);
    char limit[16];
    snprintf(limit, sizeof limit, "%zu", WINDOW - relay->count);
    struct ec_batch *batch = ec_batch_new(relay->pl->store);
    ec_batch_add(batch, read_sql, (const char *[]){ids.ptr, limit}, 2);
    ec_batch_add(batch, hidden_sql, NULL, 0);
    relay->more = false;
    struct ec_err err = ec_batch_run(batch, on_read, relay);
    relay->reading = !ec_failed(err);
    relay->more = ec_failed(err);
}

/* ---- life ---- */

bool relay_idle(const struct relay *relay)
{
    return !relay->reading && !relay->deleting && relay->counts[PUBLISHING] == 0 &&
           (relay->counts[ACKED] == 0 || relay->gave_up);
}

static void go_on(struct relay *relay)
{
    bool leading = ec_leader_is(relay->pl->leader) && !relay->stopping;
    if (!leading && relay->counts[WAITING] + relay->counts[HELD] > 0) {
        forget_unpublished(relay);
    }
    if (!relay->deleting && relay->counts[ACKED] > 0 && !relay->gave_up) {
        delete_acked(relay);
    }
    if (leading && relay->more && !relay->reading && relay->count <= WINDOW / 2) {
        read_more(relay);
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
    if (ec_leader_is(relay->pl->leader)) {
        publish_held(relay);
    }
    go_on(relay);
}

struct relay *relay_new(struct pipeline *pl)
{
    struct relay *relay = ec_alloc(sizeof *relay);
    relay->pl = pl;
    relay->chains = ec_map_new(2 * WINDOW);
    relay->poll = ec_timer_new(pl->loop, on_poll, relay);
    ec_timer_start(relay->poll, POLL_MS / 5, POLL_MS);
    return relay;
}

void relay_free(struct relay *relay)
{
    if (!relay) {
        return;
    }
    while (relay->first) {
        free_row(relay->first);
    }
    ec_map_free(relay->chains, NULL);
    ec_timer_free(relay->poll);
    free(relay);
}

void relay_wake(struct relay *relay)
{
    relay->more = true;
    go_on(relay);
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
    go_on(relay);
}
