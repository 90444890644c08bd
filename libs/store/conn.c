/* One session of the pool. A batch goes out as one pipeline: PREPARE for statements this session
 * has not seen, the executions, one sync; the server makes one transaction of it. Answers come in
 * the same order: per message its result and then NULL, at the end PGRES_PIPELINE_SYNC; after an
 * error everything up to the sync is PGRES_PIPELINE_ABORTED. Prepared statements are remembered by
 * their SQL text, PREPARED_MAX per session; what is beyond runs unnamed. A batch over its deadline
 * is cancelled at the server and its session thrown away. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "store/internal.h"

#define PREPARED_MAX 256
#define NAME_SIZE 24

struct conn {
    struct ec_store *store;
    struct ec_loop *loop;
    struct link *link;
    struct ec_map *prepared;   /* SQL text → its number (a pointer that is a small integer) */
    uintptr_t prepared_last;   /* number given last; names are "s<number>" */
    struct ec_batch *running;  /* NULL = idle */
    bool answered;             /* a result of the awaited message came, its NULL did not yet */
    struct ec_timer *deadline; /* of the running batch */
    bool closed;
};

static void on_up(void *arg, PGconn *pg)
{
    struct conn *conn = arg;
    ec_map_free(conn->prepared, NULL);
    conn->prepared = ec_map_new(PREPARED_MAX);
    if (PQenterPipelineMode(pg) != 1) {
        link_lost(conn->link, "cannot enter pipeline mode");
        return;
    }
    store_conn_free(conn->store, conn);
}

static struct ec_batch *take_running(struct conn *conn)
{
    ec_timer_stop(conn->deadline);
    conn->answered = false;
    return EC_TAKE(conn->running);
}

static void on_down(void *arg, const char *why)
{
    struct conn *conn = arg;
    struct ec_batch *batch = take_running(conn);
    if (batch) {
        struct ec_err err =
            ec_failed(batch->err)
                ? batch->err
                : ec_retry_in(batch->arena, 0, "database: connection lost: %s", why);
        batch_end(batch, err);
    }
}

/* ---- sending ---- */

static bool send_statement(struct conn *conn, PGconn *pg, struct statement *st)
{
    uintptr_t number = (uintptr_t)ec_map_get(conn->prepared, st->sql);
    char name[NAME_SIZE];
    if (!number && ec_map_count(conn->prepared) < PREPARED_MAX) {
        number = ++conn->prepared_last;
        st->prepares = ec_map_put(conn->prepared, st->sql, (void *)number);
        snprintf(name, sizeof(name), "s%lu", (unsigned long)number);
        if (!st->prepares || PQsendPrepare(pg, name, st->sql, 0, NULL) != 1) {
            return false;
        }
    }
    if (!number) {
        return PQsendQueryParams(pg, st->sql, st->arg_count, NULL, st->args, NULL, NULL, 0) == 1;
    }
    snprintf(name, sizeof(name), "s%lu", (unsigned long)number);
    return PQsendQueryPrepared(pg, name, st->arg_count, st->args, NULL, NULL, 0) == 1;
}

static bool send_script(PGconn *pg, const struct ec_batch *batch)
{
    return PQexitPipelineMode(pg) == 1 && PQsendQuery(pg, batch->statements[0].sql) == 1;
}

static bool send_batch(struct conn *conn, struct ec_batch *batch)
{
    PGconn *pg = link_pg(conn->link);
    if (batch->script) {
        return send_script(pg, batch) && link_flush(conn->link);
    }
    for (size_t i = 0; i < batch->count; i++) {
        if (!send_statement(conn, pg, &batch->statements[i])) {
            return false;
        }
    }
    batch->preparing = batch->statements[0].prepares;
    return PQpipelineSync(pg) == 1 && link_flush(conn->link);
}

void conn_run(struct conn *conn, struct ec_batch *batch)
{
    conn->running = batch;
    int64_t left_ms = batch->deadline_mono_ms - ec_mono_ms();
    ec_timer_start(conn->deadline, left_ms > 1 ? (uint64_t)left_ms : 1, 0);
    if (!send_batch(conn, batch)) {
        (void)take_running(conn);
        store_end_later(conn->store, batch, ec_retry(0, "database: the connection broke"));
        link_drop(conn->link);
    }
}

/* ---- receiving ---- */

static bool is_failure(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE;
}

/* A PREPARE that failed or was skipped left nothing behind at the server. */
static void note_prepared(struct conn *conn, struct statement *st, const PGresult *result)
{
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        ec_map_remove(conn->prepared, st->sql);
    }
}

/* takes the result: the answer to the awaited message. */
static void keep_result(struct conn *conn, PGresult *result)
{
    struct ec_batch *batch = conn->running;
    conn->answered = true;
    if (is_failure(result)) {
        batch_note_failure(batch, result);
    }
    if (batch->at < batch->count) {
        struct statement *st = &batch->statements[batch->at];
        if (batch->preparing) {
            note_prepared(conn, st, result);
        } else if (PQresultStatus(result) == PGRES_TUPLES_OK && !st->rows.result) {
            st->rows.result = result;
            return;
        }
    }
    PQclear(result);
}

/* The awaited message is answered: on to the statement's execution, or to the next statement. */
static void next_message(struct ec_batch *batch)
{
    if (batch->preparing) {
        batch->preparing = false;
        return;
    }
    batch->at++;
    batch->preparing = batch->at < batch->count && batch->statements[batch->at].prepares;
}

static void clear_results(struct ec_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        PQclear(batch->statements[i].rows.result);
        batch->statements[i].rows.result = NULL;
    }
}

/* The next batch goes out before this one's callback runs: the server works meanwhile. */
static void finish(struct conn *conn)
{
    struct ec_batch *batch = take_running(conn);
    if (ec_failed(batch->err)) {
        clear_results(batch); /* rolled back: nobody shall act on them */
    }
    if (batch->drop_link) {
        link_drop(conn->link);
    } else {
        store_conn_free(conn->store, conn);
    }
    batch_end(batch, batch->err);
}

/* A script ends with the NULL after its last result. */
static bool script_ended(struct conn *conn, const PGresult *result)
{
    if (result || !conn->running->script) {
        return false;
    }
    if (PQenterPipelineMode(link_pg(conn->link)) != 1) {
        conn->running->drop_link = true;
    }
    return true;
}

/* One answer. False: nothing more to read now. */
static bool take_answer(struct conn *conn, PGconn *pg)
{
    PGresult *result = PQgetResult(pg);
    if (!conn->running) {
        PQclear(result);
        return result != NULL;
    }
    if (script_ended(conn, result) || PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        PQclear(result);
        finish(conn);
        return false;
    }
    if (result) {
        keep_result(conn, result);
        return true;
    }
    if (!conn->answered) {
        return false;
    }
    conn->answered = false;
    next_message(conn->running);
    return true;
}

static void on_io(void *arg, int events)
{
    struct conn *conn = arg;
    PGconn *pg = link_pg(conn->link);
    if ((events & UV_READABLE) && PQconsumeInput(pg) != 1) {
        link_lost(conn->link, PQerrorMessage(pg));
        return;
    }
    if (!link_flush(conn->link)) {
        link_lost(conn->link, PQerrorMessage(pg));
        return;
    }
    while (!PQisBusy(pg) && take_answer(conn, pg)) {
    }
}

/* ---- deadline ---- */

static void cancel_at_server(void *arg)
{
    char why[256];
    (void)PQcancel(arg, why, sizeof(why)); /* best effort: statement_timeout ends it otherwise */
}

static void on_cancelled(void *arg)
{
    PQfreeCancel(arg);
}

static void on_deadline(void *arg)
{
    struct conn *conn = arg;
    const struct ec_batch *late = conn->running;
    on_io(conn, UV_READABLE); /* if we stood still meanwhile, the answer is there */
    if (conn->running != late) {
        return;
    }
    struct ec_batch *batch = take_running(conn);
    /* PQcancel connects and waits: not on the loop. */
    PGcancel *cancel = PQgetCancel(link_pg(conn->link));
    if (cancel && ec_failed(ec_loop_work(conn->loop, cancel_at_server, on_cancelled, cancel))) {
        PQfreeCancel(cancel);
    }
    link_drop(conn->link);
    clear_results(batch);
    batch_end(batch, ec_retry_in(batch->arena, UV_ETIMEDOUT,
                                 "database: no answer within the deadline of %lld ms",
                                 (long long)(batch->deadline_mono_ms - batch->began_mono_ms)));
}

/* ---- lifecycle ---- */

static const struct link_events events_of_link = {on_up, on_down, on_io};

struct conn *conn_open(struct ec_store *store, struct ec_loop *loop, const struct conninfo *info)
{
    struct conn *conn = ec_alloc(sizeof(*conn));
    conn->store = store;
    conn->loop = loop;
    conn->deadline = ec_timer_new(loop, on_deadline, conn);
    conn->prepared = ec_map_new(PREPARED_MAX);
    conn->link = link_open(loop, info, &events_of_link, conn);
    return conn;
}

bool conn_up(const struct conn *conn)
{
    return !conn->closed && link_up(conn->link);
}

bool conn_idle(const struct conn *conn)
{
    return conn_up(conn) && !conn->running;
}

void conn_close(struct conn *conn)
{
    if (!conn) {
        return;
    }
    conn->closed = true;
    struct ec_batch *batch = take_running(conn);
    if (batch) {
        store_end_later(conn->store, batch, ec_retry(0, "database: the store is closing"));
    }
    ec_timer_free(conn->deadline);
    link_close(conn->link);
    ec_map_free(conn->prepared, NULL);
    ec_loop_defer(conn->loop, free, conn);
}
