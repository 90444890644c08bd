/* Topics → rows. A batch is stored in chunks of bounded size, each one transaction; the last one
 * carries the offsets. Whatever comes again (after a crash, or because somebody reads a topic from
 * its beginning) meets its own row by (time, topic, partition, position) and changes nothing. What
 * PostgreSQL refuses makes the chunk run event by event, so that a bad event costs itself only. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/catalog.h"
#include "bus/topics.h"
#include "history.h"
#include "service/offsets.h"
#include "store/columns.h"

/* Of one event: its JSON is at most six times what the bus lets through. */
#define SCRATCH_MAX_BYTES ((size_t)128 << 20)

static struct ec_metric rows =
    EC_COUNTER("enclii_history_rows_total", "Events read, by what became of them.", "outcome");
static struct ec_metric batch_seconds =
    EC_HISTOGRAM("enclii_history_batch_seconds", "Storing one batch of events.", NULL);

/* Facts, and what was asked for and wanted. Not here: build output (enclii.build_log has it),
 * heartbeats, and the tables of repositories and channels, which hold sealed secrets. */
static const char *const topics[] = {
    EC_TOPIC_INTAKE,
    EC_TOPIC_REQUESTS,
    EC_TOPIC_BUILD_COMMANDS,
    EC_TOPIC_BUILD_EVENTS,
    EC_TOPIC_RELEASE_EVENTS,
    EC_TOPIC_DESIRED,
    EC_TOPIC_DEPLOYMENT_EVENTS,
    EC_TOPIC_DOMAINS,
    EC_TOPIC_DOMAIN_EVENTS,
    EC_TOPIC_NOTIFICATION_EVENTS,
    EC_TOPIC_AUDIT,
    NULL,
};

static void store_chunk(struct history *hi);

/* ---- offsets ---- */

static const struct ec_offset_table offset_table = {"history", HISTORY_GROUP};

static void load_offsets(void *state, struct ec_offset *offsets, size_t count, void *token)
{
    const struct history *hi = state;
    ec_offsets_load(hi->store, &offset_table, offsets, count, token);
}

static void put_offsets(const struct history *hi, struct ec_batch *batch)
{
    const struct ec_offset *offsets;
    size_t count = ec_batch_in_offsets(hi->batch, &offsets);
    ec_offsets_put(batch, &offset_table, offsets, count);
}

/* ---- rows ---- */

static const char insert_sql[] =
    "insert into history.event (at, topic, partition, position, id, type, subject, key, trace,"
    " project_id, service_id, repo_key, about, body, raw, raw_bytes)"
    " select to_timestamp(c.at / 1000.0), topic, partition, position, id, type, subject, key, "
    "trace,"
    "  project_id, service_id, repo_key, string_to_array(about, E'\\n'), body, raw, raw_bytes"
    " from unnest($1::bigint[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[],"
    "  $7::text[], $8::text[], $9::text[], $10::uuid[], $11::uuid[], $12::text[], $13::text[],"
    "  $14::jsonb[], $15::bytea[], $16::int[])"
    " as c(at, topic, partition, position, id, type, subject, key, trace, project_id, service_id,"
    "  repo_key, about, body, raw, raw_bytes)"
    " on conflict do nothing";
#define COLUMNS 16

static void text_or_null(struct ec_columns *cols, const char *text)
{
    if (text && *text) {
        ec_columns_text(cols, text);
    } else {
        ec_columns_null(cols);
    }
}

/* Gives about how many bytes it takes on the way. The scratch is not the event's own arena: while
 * the database is away the same events come here again and again. */
static size_t put_row(struct ec_columns *cols, struct ec_event *ev, int64_t time_ms,
                      struct ec_arena *scratch)
{
    struct record_source source = {ec_event_topic(ev), ec_event_key(ev), ec_event_subject(ev),
                                   ec_event_trace(ev), ec_event_body(ev)};
    struct ec_span raw = ec_event_raw(ev);
    struct record record;
    ec_arena_reset(scratch);
    decide_record(scratch, &source, &record);
    ec_columns_int(cols, time_ms);
    ec_columns_text(cols, source.topic);
    ec_columns_int(cols, ec_event_partition(ev));
    ec_columns_int(cols, ec_event_offset(ev));
    ec_columns_text(cols, ec_event_id(ev));
    ec_columns_text(cols, ec_event_type(ev));
    ec_columns_text(cols, source.subject);
    ec_columns_text(cols, source.key);
    ec_columns_text(cols, record.trace);
    ec_columns_id(cols, record.project_id);
    ec_columns_id(cols, record.service_id);
    text_or_null(cols, record.repo_key);
    ec_columns_text(cols, record.about);
    text_or_null(cols, record.body);
    bool keeps_raw = raw.len <= RAW_MAX_BYTES && !record.hidden;
    if (keeps_raw) {
        ec_columns_bytes(cols, raw);
    } else {
        ec_columns_null(cols);
    }
    ec_columns_int(cols, (int64_t)raw.len);
    size_t body = record.body ? 2 * strlen(record.body) : 0;
    return 1024 + body + 2 * (keeps_raw ? raw.len : 0);
}

/* A month nobody knows yet (an event from before us, or the first of a new month) gets its
 * partition in the same transaction. */
static void need_month(const struct history *hi, struct ec_batch *batch, int month)
{
    char text[MONTH_TEXT_SIZE];
    const char *args[] = {text};
    if (!months_known(hi, month)) {
        month_text(month, text);
        ec_batch_add(batch, "select history.make_month($1::date)", args, 1);
    }
}

static void learn_months(struct history *hi)
{
    for (size_t i = hi->from; i < hi->to; i++) {
        int64_t time_ms = decide_time(ec_event_time_unix_ms(ec_batch_in_event(hi->batch, i)),
                                      hi->chunk_now_ms, hi->settings.retention_ms);
        if (time_ms) {
            months_learn(hi, month_of(time_ms));
        }
    }
}

static void fill_chunk(struct history *hi, struct ec_batch *batch)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, COLUMNS);
    ec_cleanup(ec_arena_freep) struct ec_arena *scratch = ec_arena_new(SCRATCH_MAX_BYTES);
    size_t count = ec_batch_in_count(hi->batch), bytes = 0;
    int last_month = -1;
    hi->chunk_now_ms = history_now(hi);
    for (; hi->to < count && bytes < CHUNK_MAX_BYTES && (!hi->single || hi->to == hi->from);
         hi->to++) {
        struct ec_event *ev = ec_batch_in_event(hi->batch, hi->to);
        int64_t time_ms =
            decide_time(ec_event_time_unix_ms(ev), hi->chunk_now_ms, hi->settings.retention_ms);
        if (!time_ms) {
            ec_metric_add(&rows, "too_old", 1);
            continue;
        }
        if (month_of(time_ms) != last_month) {
            last_month = month_of(time_ms);
            need_month(hi, batch, last_month);
        }
        bytes += put_row(&cols, ev, time_ms, scratch);
    }
    ec_metric_add(&rows, "stored", (double)cols.rows);
    ec_columns_flush(&cols, batch, insert_sql, false);
}

static void finish(struct history *hi, struct ec_err err)
{
    struct ec_batch_in *batch = EC_TAKE(hi->batch);
    if (!ec_failed(err)) {
        ec_metric_observe_s(&batch_seconds, NULL, (double)(ec_mono_us() - hi->began_mono_us) / 1e6);
    }
    ec_batch_in_finish(batch, err);
    history_rest(hi);
}

/* Refused: once more event by event; the one that is refused alone is the bad one. */
static void narrow(struct history *hi, struct ec_err err)
{
    if (!hi->single) {
        hi->single = true;
        hi->to = hi->from;
    } else if (hi->to == hi->from + 1) {
        struct ec_event *ev = ec_batch_in_event(hi->batch, hi->from);
        ec_log(EC_LOG_WARN, ec_event_trace(ev), "event.rejected", "event goes to the dead letters",
               EC_T("type", ec_event_type(ev)), EC_T("id", ec_event_id(ev)), EC_ERR(err));
        ec_metric_add(&rows, "rejected", 1);
        ec_batch_in_reject(hi->batch, hi->from, err.what);
        hi->from = hi->to;
    } else {
        finish(hi, ec_fatal(err.sys, err.what)); /* the offsets themselves were refused */
        return;
    }
    store_chunk(hi);
}

static void on_chunk(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct history *hi = arg;
    (void)batch;
    hi->busy--;
    if (ec_failed(err)) {
        months_forget(hi); /* perhaps another instance dropped one that we counted on */
    }
    if (err.fate == EC_FATE_REJECT) {
        narrow(hi, err);
        return;
    }
    if (!ec_failed(err)) {
        learn_months(hi);
    }
    if (ec_failed(err) || hi->to == ec_batch_in_count(hi->batch)) {
        finish(hi, err);
        return;
    }
    hi->from = hi->to;
    store_chunk(hi);
}

static void store_chunk(struct history *hi)
{
    struct ec_batch *batch = ec_batch_new(hi->store);
    fill_chunk(hi, batch);
    if (hi->to == ec_batch_in_count(hi->batch)) {
        put_offsets(hi, batch);
    }
    hi->busy++;
    struct ec_err err = ec_batch_run(batch, on_chunk, hi);
    if (ec_failed(err)) {
        hi->busy--;
        finish(hi, err);
    }
}

static void on_batch(void *state, struct ec_batch_in *batch)
{
    struct history *hi = state;
    hi->batch = batch;
    hi->from = hi->to = 0;
    hi->single = false;
    hi->began_mono_us = ec_mono_us();
    store_chunk(hi);
}

EC_RESULT ingest_start(struct history *hi)
{
    return ec_bus_consume_batch(hi->bus,
                                &(struct ec_consume_batch_spec){
                                    .group = HISTORY_GROUP,
                                    .topics = topics,
                                    .routes = ec_catalog,
                                    .route_count = ec_catalog_count,
                                    .batch_max = HISTORY_BATCH_MAX,
                                    .state = hi,
                                    .load_offsets = load_offsets,
                                    .on_batch = on_batch,
                                },
                                &hi->consumer);
}
