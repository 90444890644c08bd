/* Dead letters come in: the group api-dead reads every topic *.dead into enclii.dead_letter, one
 * row per record that a consumer gave up (its id follows from group, topic, partition and offset,
 * so a letter written twice is one row; that it came again keeps a settled one from being pruned,
 * or a table's would be open again after the next start). Bounded: a value above VALUE_MAX_BYTES
 * stays in its topics, and with OPEN_MAX letters waiting for a person no more are taken; they keep
 * in their topics (30 days) until some are settled. Settled rows are pruned by `pipeline`. */
#include <stdlib.h>

#include "api.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"

#define VALUE_MAX_BYTES (1u << 20)
#define HEADERS_MAX_BYTES (64u << 10)
#define KEY_MAX_BYTES (16u << 10)
#define OPEN_MAX 10000
#define COUNT_EVERY_MS 5000

static struct ec_metric open_letters = EC_GAUGE(
    "enclii_dead_letters_open", "Dead letters that wait for a person, by consumer group.", "group");
static struct ec_metric kept =
    EC_COUNTER("enclii_dead_letters_kept_total", "Dead letters taken into the database.", NULL);

struct dead {
    struct api *api;
    struct ec_consumer *consumer;
    struct ec_timer *count_timer;
    bool counting, full, closed;
};

static void on_kept(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    (void)rows;
    if (!ec_failed(err)) {
        ec_metric_add(&kept, NULL, 1);
    }
    ec_event_finish(arg, err);
}

static const char *bytea_or_null(struct ec_arena *arena, struct ec_span bytes, bool null)
{
    return null ? NULL : ec_bytea_arg(arena, bytes);
}

static EC_RESULT on_letter(void *state, struct ec_event *ev)
{
    struct api *api = state;
    struct ec_arena *arena = ec_event_arena(ev);
    const struct ec_letter *letter = ec_event_letter(ev);
    struct ec_span value = ec_event_raw(ev), headers = letter->headers, key = letter->key;
    int64_t left_out = letter->left_out_bytes;
    if (value.len > VALUE_MAX_BYTES || headers.len > HEADERS_MAX_BYTES || key.len > KEY_MAX_BYTES) {
        left_out += (int64_t)(value.len + headers.len + key.len);
        headers.len = headers.len > HEADERS_MAX_BYTES ? 0 : headers.len;
        key.len = key.len > KEY_MAX_BYTES ? KEY_MAX_BYTES : key.len;
    }
    struct ec_id id = ec_id_derive(
        ec_arena_format(arena, "%s %s %d", letter->group, letter->topic, (int)letter->partition),
        ec_arena_format(arena, "%lld", (long long)letter->offset));
    return ec_store_exec(
        api->store,
        "insert into enclii.dead_letter (id, consumer_group, topic, partition, position, reason,"
        " event_id, event_type, subject, trace, event_at, dead_at, key, headers, value,"
        " left_out_bytes) values ($1::uuid, $2, $3, $4::int, $5::bigint, $6, $7, $8, $9, $10,"
        " enclii.at($11::bigint), coalesce(enclii.at($12::bigint), now()), $13::bytea, $14::bytea,"
        " $15::bytea, $16::bigint) on conflict (id) do update set dead_at = excluded.dead_at"
        " where dead_letter.state <> 'open'",
        ARGS(id.text, letter->group, letter->topic,
             ec_arena_format(arena, "%d", (int)letter->partition),
             ec_arena_format(arena, "%lld", (long long)letter->offset), letter->reason,
             ec_event_id(ev), ec_event_type(ev), ec_event_subject(ev), ec_event_trace(ev),
             ec_arena_format(arena, "%lld", (long long)ec_event_time_unix_ms(ev)),
             ec_arena_format(arena, "%lld", (long long)letter->time_unix_ms),
             bytea_or_null(arena, key, !key.ptr), ec_bytea_arg(arena, headers),
             bytea_or_null(arena, value, letter->tombstone || left_out > 0),
             ec_arena_format(arena, "%lld", (long long)left_out)),
        on_kept, ev);
}

/* ---- how many wait ---- */

static void on_counted(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct dead *dead = arg;
    int64_t all = 0;
    dead->counting = false;
    if (dead->closed) {
        free(dead);
        return;
    }
    if (ec_failed(err)) {
        return; /* the timer asks again */
    }
    for (size_t i = 0; i < ec_rows_count(rows); i++) {
        int64_t count = ec_rows_int(rows, i, "count");
        ec_metric_set(&open_letters, ec_rows_text(rows, i, "consumer_group"), (double)count);
        all += count;
    }
    bool full = all >= OPEN_MAX;
    if (full != dead->full) {
        dead->full = full;
        ec_log(EC_LOG_WARN, NULL, full ? "dead.full" : "dead.goes_on",
               full ? "too many dead letters wait for a person; further ones stay in their topics"
                    : "dead letters are taken again",
               EC_N("open", all));
        ec_consumer_pause(dead->consumer, full);
    }
}

static void count_open(void *arg)
{
    struct dead *dead = arg;
    if (dead->counting) {
        return;
    }
    struct ec_err err =
        ec_store_exec(dead->api->store,
                      "select consumer_group, count(*) filter (where state = 'open') as count"
                      " from enclii.dead_letter group by 1",
                      NULL, 0, on_counted, dead);
    dead->counting = !ec_failed(err);
}

EC_RESULT dead_open(struct api *api)
{
    static const char *const topics[] = {"^enclii\\..*\\.dead$", NULL};
    static const struct ec_route routes[] = {{NULL, NULL, on_letter}};
    struct dead *dead = ec_alloc(sizeof(*dead));
    struct ec_consume_spec spec = {
        .group = "api-dead",
        .topics = topics,
        .routes = routes,
        .route_count = EC_LEN(routes),
        .inflight_max = 8, /* letters may be large */
        .state = api,
        .letters = true,
    };
    dead->api = api;
    api->dead = dead;
    ec_metric_declare(&kept, NULL);
    EC_TRY(ec_bus_consume(api->bus, &spec, &dead->consumer));
    dead->count_timer = ec_timer_new(api->loop, count_open, dead);
    ec_timer_start(dead->count_timer, 0, COUNT_EVERY_MS);
    return ec_ok();
}

void dead_close(struct api *api)
{
    struct dead *dead = EC_TAKE(api->dead);
    if (!dead) {
        return;
    }
    ec_timer_free(dead->count_timer);
    dead->closed = true;
    if (!dead->counting) {
        free(dead);
    }
}
