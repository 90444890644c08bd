/* A batch: statements collected in an arena, their answers, and the first error among them. Sending
 * and receiving is conn.c's work, waiting for a connection is store.c's. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metric.h"
#include "store/internal.h"

static struct ec_metric batches =
    EC_COUNTER("enclii_store_batches_total", "Database transactions by outcome.", "fate");
static struct ec_metric batch_seconds = EC_HISTOGRAM(
    "enclii_store_batch_seconds", "Database transactions, waiting for a connection included.", 0);

struct ec_batch *ec_batch_new(struct ec_store *store)
{
    struct ec_batch *batch = ec_alloc(sizeof(*batch));
    batch->store = store;
    batch->arena = ec_arena_new(BATCH_MAX_BYTES);
    return batch;
}

size_t ec_batch_add(struct ec_batch *batch, const char *sql, const char *const *args,
                    size_t arg_count)
{
    if (batch->count == batch->room) {
        batch->room = batch->room ? batch->room * 2 : 8;
        batch->statements = ec_grow(batch->statements, batch->room, sizeof(batch->statements[0]));
    }
    const char **copies = ec_arena_alloc(batch->arena, (arg_count + 1) * sizeof(copies[0]));
    for (size_t i = 0; i < arg_count; i++) {
        copies[i] = ec_arena_strdup(batch->arena, args[i]);
    }
    batch->statements[batch->count] = (struct statement){
        .sql = ec_arena_strdup(batch->arena, sql),
        .args = copies,
        .arg_count = (int)arg_count,
        .rows = {NULL, ""},
    };
    return batch->count++;
}

size_t ec_batch_count(const struct ec_batch *batch)
{
    return batch->count;
}

struct ec_arena *ec_batch_arena(struct ec_batch *batch)
{
    return batch->arena;
}

const struct ec_rows *ec_batch_rows(const struct ec_batch *batch, size_t index)
{
    return index < batch->count ? &batch->statements[index].rows : NULL;
}

void ec_batch_free(struct ec_batch *batch)
{
    if (!batch) {
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        PQclear(batch->statements[i].rows.result);
    }
    free(batch->statements);
    ec_arena_free(batch->arena);
    free(batch);
}

void batch_end(struct ec_batch *batch, struct ec_err err)
{
    ec_metric_add(&batches, ec_fate_name(err.fate), 1);
    if (batch->began_mono_ms) {
        ec_metric_observe_s(&batch_seconds, NULL,
                            (double)(ec_mono_ms() - batch->began_mono_ms) / 1000);
    }
    batch->done(batch->arg, err, batch);
    ec_batch_free(batch);
}

static struct ec_err failure(struct ec_batch *batch, const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *source = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
    if (!sqlstate) {
        batch->drop_link = true;
        return ec_retry(0, "database: the connection broke");
    }
    struct ec_err err = {sqlstate_fate(sqlstate), 0, NULL};
    if (sqlstate_is_read_only(sqlstate)) {
        batch->drop_link = true;
    }
    if (sqlstate_is_stale_plan(sqlstate, source)) {
        batch->drop_link = true;
        err.fate = EC_FATE_RETRY;
    }
    err.what = ec_arena_format(batch->arena, "database: %s (SQLSTATE %s)", text ? text : "error",
                               sqlstate);
    return err;
}

void batch_note_failure(struct ec_batch *batch, const PGresult *result)
{
    if (ec_failed(batch->err)) {
        return;
    }
    batch->err = failure(batch, result);
    const char *constraint = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
    const char *name = constraint ? ec_arena_strdup(batch->arena, constraint) : "";
    for (size_t i = 0; i < batch->count; i++) {
        batch->statements[i].rows.constraint = name;
    }
}
