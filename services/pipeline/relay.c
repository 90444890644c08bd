/* The outbox relay. Rows are read in the order of their ids, but only those whose transaction is
 * older than every running one, so that no smaller id can still appear. Reading begins above the
 * floor (see struct floor), so that a backlog of deleted rows costs nothing. Rows of one topic and
 * key are published one after another, each after the broker's word on the one before; different
 * keys go at once, up to WINDOW rows. Acknowledged rows are deleted. A process that dies between
 * the broker's word and the delete publishes again under the same id, in the same order: consumers
 * drop what they know. A row that the broker does not take holds back its own key only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "pipeline.h"

#define WINDOW 2000               /* rows in memory */
#define READ_MAX_BYTES (16 << 20) /* of bodies in one read; a larger row comes alone */
#define POLL_MS 1000              /* in case a NOTIFY was missed */
#define HIDDEN_MS 2 /* rows are there, but an older transaction is still running; doubles */
#define HIDDEN_MAX_MS 40
#define AGAIN_FIRST_MS 200 /* after the broker did not take a row */
#define AGAIN_MAX_MS 10000
#define MARK_AFTER_MS 1000 /* see struct floor */
#define SWEEP_MS 10000     /* an idle relay reads from the very beginning, in case we are wrong */

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
    int64_t id, created_ms;
    /* All in this row's own memory, behind the struct. */
    const char *topic, *key, *type, *subject, *event_id, *trace, *chain;
    struct ec_span body;
    struct ec_span headers; /* of a replayed dead letter; ptr NULL = none */
    bool tombstone;
    uint32_t again_ms;
    int64_t again_mono_ms;
    struct row *behind;      /* the next one of the same topic and key */
    struct row *prev, *next; /* all rows in memory */
};

/* Up to which id all rows were read and none can appear any more. `handed` ids had been handed out
 * when it was noted; a second later, `xmax` was the next transaction id; once every transaction
 * before that has ended, all rows up to `handed` are visible or gone. The second is for a session
 * that was stopped between taking its row's id and its transaction's. */
struct floor {
    int64_t safe;                        /* nothing new at or below */
    int64_t handed, noted_mono_ms, xmax; /* the next candidate; xmax 0 = not taken yet */
};

struct relay {
    struct pipeline *pl;
    bool reading, deleting, stopping;
    bool gave_up;       /* stopping, and the database does not delete what was published */
    bool more;          /* there may be rows that are not in memory */
    uint64_t hidden_ms; /* until the next look at rows that are not settled; 0 = none */
    bool led;           /* was the leader in the last turn */
    struct floor floor;
    int64_t swept_mono_ms;
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

static const char *put_text(char **at, const char *text)
{
    char *copy = *at;
    *at = stpcpy(copy, text) + 1;
    return copy;
}

static struct row *take_row(struct relay *relay, const struct ec_rows *rows, size_t at,
                            struct ec_arena *arena)
{
    static const char *const names[] = {"topic", "key", "type", "subject", "event_id", "trace"};
    const char *texts[EC_LEN(names)];
    struct ec_span body = ec_rows_bytes(rows, at, "body", arena);
    struct ec_span headers = ec_rows_bytes(rows, at, "headers", arena);
    size_t bytes = body.len + headers.len + 8;
    for (size_t i = 0; i < EC_LEN(names); i++) {
        texts[i] = ec_rows_text(rows, at, names[i]);
        bytes += 2 * strlen(texts[i]) + 2; /* twice: `chain` repeats two of them */
    }
    struct row *row = ec_alloc(sizeof *row + bytes);
    char *text = (char *)(row + 1);
    row->topic = put_text(&text, texts[0]);
    row->key = put_text(&text, texts[1]);
    row->type = put_text(&text, texts[2]);
    row->subject = put_text(&text, texts[3]);
    row->event_id = put_text(&text, texts[4]);
    row->trace = put_text(&text, texts[5]);
    row->chain = text;
    (void)put_text(&text, row->topic);
    text[-1] = ' ';
    (void)put_text(&text, row->key);
    memcpy(text, body.len > 0 ? body.ptr : "", body.len);
    row->body = (struct ec_span){text, body.len};
    memcpy(text + body.len, headers.len > 0 ? headers.ptr : "", headers.len);
    bool replayed = !ec_rows_null(rows, at, "headers");
    row->headers = (struct ec_span){replayed ? text + body.len : NULL, headers.len};
    row->relay = relay;
    row->id = ec_rows_int(rows, at, "id");
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
           EC_T("key", row->key), EC_N("row", row->id), EC_ERR(err));
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
        .raw = {row->tombstone ? NULL : row->body.ptr, row->body.len},
        .headers = row->headers,
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
            ec_buf_addf(out, "%s%lld", comma, (long long)row->id);
            comma = ",";
        }
    }
    ec_buf_add_text(out, "}");
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
            set_state(row, ACKED); /* they stay; the next round deletes them */
            continue;
        }
        ec_metric_add(&relayed, NULL, 1);
        free_row(row);
    }
    relay->more = relay->more || relay->hidden_ms > 0; /* this delete may have hidden them */
    if (!ec_failed(err)) {
        go_on(relay);
    } else if (relay->stopping) {
        relay->gave_up = true; /* the successor publishes them again, under the same ids */
        go_on(relay);
    }
}

/* Not waiting for the disk: a delete that is lost publishes its rows again, under the same ids. */
static void delete_acked(struct relay *relay)
{
    ec_cleanup(ec_buf_done) struct ec_buf ids;
    ids_of(relay, ACKED, &ids);
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
            set_state(row, DYING);
        }
    }
}

/* ---- reading ---- */

/* The planner may not have seen yet how the table is filled: the index, whatever it thinks. */
static const char plan_sql[] =
    "select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', "
    "true), set_config('enable_sort', 'off', true)";
static const char handed_sql[] =
    "select case when is_called then last_value else last_value - 1 end "
    "as handed from enclii.outbox_id_seq";
/* $1 the floor, $2 ids in memory, $3 how many, $4 bytes. Rows of running or younger transactions
 * come without body, to say that there are some. */
static const char read_sql[] =
    "select id, settled, found, topic, key, type, subject, event_id, trace, headers, "
    "case when settled then body end as body, enclii.ms(created_at) as created from (select o.*, "
    "xid < (select "
    "pg_snapshot_xmin(pg_current_snapshot())) as settled, count(*) over () as found, "
    "sum(coalesce(octet_length(body), 0)) "
    "over (order by id) - coalesce(octet_length(body), 0) as bytes_before from (select * from "
    "enclii.outbox where id > $1::bigint and not (id = any($2::bigint[])) order by id limit "
    "$3::int) o) r where bytes_before < $4::bigint order by id";
static const char snapshot_sql[] = "select pg_snapshot_xmin(s)::text as xmin, "
                                   "pg_snapshot_xmax(s)::text as xmax from pg_current_snapshot() s";
/* The snapshot is older than the rows: what it calls ended, the rows show. */
enum { AT_HANDED, AT_SNAPSHOT, AT_PLAN, AT_ROWS };

/* The highest id up to which this answer gave all there was. */
static int64_t read_through(const struct ec_rows *rows)
{
    size_t count = ec_rows_count(rows);
    bool cut = count > 0 && (ec_rows_int(rows, 0, "found") > (int64_t)count || count >= WINDOW / 2);
    return cut ? ec_rows_int(rows, count - 1, "id") : INT64_MAX;
}

static void raise_floor(struct floor *floor, const struct ec_batch *batch)
{
    int64_t handed = ec_rows_int(ec_batch_rows(batch, AT_HANDED), 0, "handed");
    int64_t xmin = ec_rows_int(ec_batch_rows(batch, AT_SNAPSHOT), 0, "xmin");
    if (floor->noted_mono_ms == 0) {
        floor->handed = handed;
        floor->noted_mono_ms = ec_mono_ms();
    } else if (floor->xmax == 0 && ec_mono_ms() - floor->noted_mono_ms >= MARK_AFTER_MS) {
        floor->xmax = ec_rows_int(ec_batch_rows(batch, AT_SNAPSHOT), 0, "xmax");
    } else if (floor->xmax > 0 && xmin >= floor->xmax) {
        int64_t through = read_through(ec_batch_rows(batch, AT_ROWS));
        through = through < floor->handed ? through : floor->handed;
        *floor = (struct floor){.safe = through > floor->safe ? through : floor->safe};
    }
}

/* Everything at or below is in memory, gone, or was never there. */
static int64_t read_above(const struct relay *relay)
{
    int64_t above = relay->floor.safe;
    for (const struct row *row = relay->first; row; row = row->next) {
        above = row->id <= above ? row->id - 1 : above;
    }
    return above;
}

static void take_rows(struct relay *relay, const struct ec_rows *rows)
{
    struct ec_arena *arena = ec_arena_new((size_t)64 << 20);
    bool hidden = false;
    for (size_t at = 0; at < ec_rows_count(rows); at++) {
        if (!ec_rows_bool(rows, at, "settled")) {
            hidden = true;
            continue;
        }
        enqueue(take_row(relay, rows, at, arena));
        relay->more = true;
    }
    ec_arena_free(arena);
    relay->hidden_ms = !hidden ? 0 : relay->hidden_ms ? 2 * relay->hidden_ms : HIDDEN_MS;
    if (hidden) {
        relay->hidden_ms = relay->hidden_ms < HIDDEN_MAX_MS ? relay->hidden_ms : HIDDEN_MAX_MS;
        ec_timer_start(relay->poll, relay->hidden_ms, POLL_MS);
    }
}

static void on_read(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct relay *relay = arg;
    relay->reading = false;
    bool leading = !relay->stopping && ec_leader_is(relay->pl->leader);
    if (!ec_failed(err) && leading) {
        take_rows(relay, ec_batch_rows(batch, AT_ROWS));
        raise_floor(&relay->floor, batch);
    }
    relay->more = relay->more && !ec_failed(err); /* else the poll tries again */
    go_on(relay);
}

static void read_more(struct relay *relay)
{
    ec_cleanup(ec_buf_done) struct ec_buf ids;
    ids_of(relay, -1, &ids);
    char above[24], limit[16], bytes[16];
    snprintf(above, sizeof above, "%lld", (long long)read_above(relay));
    snprintf(limit, sizeof limit, "%zu", WINDOW - relay->count);
    snprintf(bytes, sizeof bytes, "%d", READ_MAX_BYTES);
    struct ec_batch *batch = ec_batch_new(relay->pl->store);
    ec_batch_add(batch, handed_sql, NULL, 0);
    ec_batch_add(batch, snapshot_sql, NULL, 0);
    ec_batch_add(batch, plan_sql, NULL, 0);
    ec_batch_add(batch, read_sql, (const char *[]){above, ids.ptr, limit, bytes}, 4);
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
    if (leading && !relay->led) {
        relay->floor = (struct floor){0}; /* it may be another database by now */
    }
    relay->led = leading;
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
    if (relay->count == 0 && ec_mono_ms() - relay->swept_mono_ms >= SWEEP_MS) {
        relay->swept_mono_ms = ec_mono_ms();
        relay->floor = (struct floor){0};
    }
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
