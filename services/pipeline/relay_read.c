/* Rows are read in the order of their ids, but only those whose transaction is older than every
 * running one, so that no smaller id can still appear. Reading begins above the floor (see struct
 * floor), so that a backlog of deleted rows costs nothing. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "relay.h"

#define READ_MAX_BYTES (16 << 20) /* of bodies in one read; a larger row comes alone */
#define HIDDEN_MS 2 /* rows are there, but an older transaction is still running; doubles */
#define HIDDEN_MAX_MS 40
#define MARK_AFTER_MS 1000 /* see struct floor */

/* The planner may not have seen yet how the table is filled: the index, whatever it thinks. */
static const char plan_sql[] =
    "select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', "
    "true), set_config('enable_sort', 'off', true)";
static const char handed_sql[] =
    "select case when is_called then last_value else last_value - 1 end "
    "as handed from enclii.outbox_id_seq";
/* $1 the floor, $2 ids in memory, $3 how many, $4 bytes, $5 ids that are stuck. Rows of running or
 * younger transactions come without body, to say that there are some. */
static const char read_sql[] =
    "select id, settled, found, topic, key, type, subject, event_id, trace, headers, "
    "case when settled then body end as body, enclii.ms(created_at) as created from (select o.*, "
    "xid < (select "
    "pg_snapshot_xmin(pg_current_snapshot())) as settled, count(*) over () as found, "
    "sum(coalesce(octet_length(body), 0)) "
    "over (order by id) - coalesce(octet_length(body), 0) as bytes_before from (select * from "
    "enclii.outbox where id > $1::bigint and not (id = any($2::bigint[])) and (topic, key) not in "
    "(select topic, key from enclii.outbox where id = any($5::bigint[])) order by id limit "
    "$3::int) o) r where bytes_before < $4::bigint order by id";
static const char snapshot_sql[] = "select pg_snapshot_xmin(s)::text as xmin, "
                                   "pg_snapshot_xmax(s)::text as xmax from pg_current_snapshot() s";
/* The snapshot is older than the rows: what it calls ended, the rows show. */
enum { AT_HANDED, AT_SNAPSHOT, AT_PLAN, AT_ROWS };

/* The highest id up to which this answer gave all there was. */
static int64_t read_through(const struct ec_rows *rows)
{
    size_t count = ec_rows_count(rows);
    bool cut =
        count > 0 && (ec_rows_int(rows, 0, "found") > (int64_t)count || count >= RELAY_WINDOW / 2);
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
        relay_enqueue(row_new(relay, rows, at, arena));
        relay->more = true;
    }
    ec_arena_free(arena);
    relay->hidden_ms = !hidden ? 0 : relay->hidden_ms ? 2 * relay->hidden_ms : HIDDEN_MS;
    if (hidden) {
        relay->hidden_ms = relay->hidden_ms < HIDDEN_MAX_MS ? relay->hidden_ms : HIDDEN_MAX_MS;
        ec_timer_start(relay->poll, relay->hidden_ms, RELAY_POLL_MS);
    }
}

static void on_read(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct relay *relay = arg;
    relay->reading = false;
    bool leading = !relay->stopping && ec_leader_is(relay->pl->leader);
    if (!ec_failed(err) && leading && !relay->forgot) {
        take_rows(relay, ec_batch_rows(batch, AT_ROWS));
        if (!relay->passed_over && !relay->forgot) {
            raise_floor(&relay->floor, batch);
        }
    }
    relay->more = relay->more && !ec_failed(err); /* else the poll tries again */
    relay_go_on(relay);
}

void relay_read(struct relay *relay)
{
    ec_cleanup(ec_buf_done) struct ec_buf ids, stuck;
    relay_ids(relay, NULL, &ids);
    relay_ids(relay, row_stuck, &stuck);
    char above[24], limit[16], bytes[16];
    snprintf(above, sizeof above, "%lld", (long long)read_above(relay));
    snprintf(limit, sizeof limit, "%zu", RELAY_WINDOW - relay->count);
    snprintf(bytes, sizeof bytes, "%d", READ_MAX_BYTES);
    struct ec_batch *batch = ec_batch_new(relay->pl->store);
    ec_batch_add(batch, handed_sql, NULL, 0);
    ec_batch_add(batch, snapshot_sql, NULL, 0);
    ec_batch_add(batch, plan_sql, NULL, 0);
    ec_batch_add(batch, read_sql, (const char *[]){above, ids.ptr, limit, bytes, stuck.ptr}, 5);
    relay->passed_over = stuck.len > strlen("{}");
    relay->forgot = false;
    relay->more = false;
    struct ec_err err = ec_batch_run(batch, on_read, relay);
    relay->reading = !ec_failed(err);
    relay->more = ec_failed(err);
}
