/* The pool: batches wait here, first come first served, until a session is free or their deadline
 * has passed. The waiting list is bounded; above it a caller is told at once (RETRY), so that
 * overload shows at the edge and not in our memory. */
#include "store/store.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metric.h"
#include "store/internal.h"

#define CONNECTIONS_DEFAULT 4
#define WAITING_MAX_DEFAULT 1024
#define DEADLINE_DEFAULT_MS 10000
#define WAITING_LOOK_MS 100 /* how late a deadline of a waiting batch may be noticed */

static struct ec_metric waiting_gauge =
    EC_GAUGE("enclii_store_waiting", "Database transactions waiting for a connection.", 0);

struct ec_store {
    struct ec_loop *loop;
    struct conninfo *info;
    uint32_t deadline_ms;
    uint32_t waiting_max;
    struct conn **conns;
    size_t conn_count;
    struct ec_batch *first, **last; /* waiting, in order */
    uint32_t waiting;
    struct ec_timer *look; /* runs while something waits */
    bool closing;
    ec_call_fn closed;
    void *closed_arg;
};

/* ---- ending later ---- */

static void on_end_later(void *arg)
{
    struct ec_batch *batch = arg;
    batch_end(batch, batch->err);
}

void store_end_later(struct ec_store *store, struct ec_batch *batch, struct ec_err err)
{
    batch->err = err;
    ec_loop_defer(store->loop, on_end_later, batch);
}

/* ---- waiting ---- */

static void push(struct ec_store *store, struct ec_batch *batch)
{
    batch->next = NULL;
    *store->last = batch;
    store->last = &batch->next;
    store->waiting++;
    ec_metric_set(&waiting_gauge, NULL, store->waiting);
    if (!ec_timer_active(store->look)) {
        ec_timer_start(store->look, WAITING_LOOK_MS, WAITING_LOOK_MS);
    }
}

/* Unlinks *at; gives it. */
static struct ec_batch *pull(struct ec_store *store, struct ec_batch **at)
{
    struct ec_batch *batch = *at;
    *at = batch->next;
    if (store->last == &batch->next) {
        store->last = at;
    }
    store->waiting--;
    ec_metric_set(&waiting_gauge, NULL, store->waiting);
    if (!store->first) {
        ec_timer_stop(store->look);
    }
    return batch;
}

static void on_look(void *arg)
{
    struct ec_store *store = arg;
    int64_t now = ec_mono_ms();
    struct ec_batch **at = &store->first;
    while (*at) {
        if ((*at)->deadline_mono_ms > now) {
            at = &(*at)->next;
            continue;
        }
        store_end_later(store, pull(store, at),
                        ec_retry(UV_ETIMEDOUT, "database: no connection within the deadline"));
    }
}

void store_conn_free(struct ec_store *store, struct conn *conn)
{
    if (store->first && !store->closing) {
        conn_run(conn, pull(store, &store->first));
    }
}

/* ---- running ---- */

static struct conn *idle_conn(struct ec_store *store)
{
    for (size_t i = 0; i < store->conn_count; i++) {
        if (conn_idle(store->conns[i])) {
            return store->conns[i];
        }
    }
    return NULL;
}

EC_RESULT ec_batch_run(struct ec_batch *batch, ec_batch_fn done, void *arg)
{
    struct ec_store *store = batch->store;
    if (store->closing) {
        ec_batch_free(batch);
        return ec_retry(0, "database: the store is closing");
    }
    batch->done = done;
    batch->arg = arg;
    batch->began_mono_ms = ec_mono_ms();
    batch->deadline_mono_ms =
        batch->began_mono_ms + (batch->deadline_ms ? batch->deadline_ms : store->deadline_ms);
    if (batch->count == 0) {
        store_end_later(store, batch, ec_ok());
        return ec_ok();
    }
    struct conn *conn = idle_conn(store);
    if (conn) {
        conn_run(conn, batch);
        return ec_ok();
    }
    if (store->waiting >= store->waiting_max) {
        ec_batch_free(batch);
        return ec_retry(0, "database: too many transactions are waiting");
    }
    push(store, batch);
    return ec_ok();
}

struct single {
    ec_rows_fn done;
    void *arg;
};

static void on_single(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct single *single = arg;
    single->done(single->arg, err, ec_batch_rows(batch, 0));
}

EC_RESULT ec_store_exec(struct ec_store *store, const char *sql, const char *const *args,
                        size_t arg_count, ec_rows_fn done, void *arg)
{
    struct ec_batch *batch = ec_batch_new(store);
    struct single *single = ec_arena_alloc(ec_batch_arena(batch), sizeof(*single));
    *single = (struct single){done, arg};
    ec_batch_add(batch, sql, args, arg_count);
    return ec_batch_run(batch, on_single, single);
}

/* ---- lifecycle ---- */

EC_RESULT ec_store_open(struct ec_loop *loop, const struct ec_store_spec *spec,
                        struct ec_store **ret_store)
{
    struct conninfo *info = NULL;
    EC_TRY(conninfo_new(spec, &info));
    struct ec_store *store = ec_alloc(sizeof(*store));
    store->loop = loop;
    store->info = info;
    store->deadline_ms = spec->deadline_ms ? spec->deadline_ms : DEADLINE_DEFAULT_MS;
    store->waiting_max = spec->waiting_max ? spec->waiting_max : WAITING_MAX_DEFAULT;
    store->last = &store->first;
    store->look = ec_timer_new(loop, on_look, store);
    store->conn_count = spec->connections ? spec->connections : CONNECTIONS_DEFAULT;
    store->conns = ec_alloc(store->conn_count * sizeof(store->conns[0]));
    for (size_t i = 0; i < store->conn_count; i++) {
        store->conns[i] = conn_open(store, loop, info);
    }
    *ret_store = store;
    return ec_ok();
}

bool ec_store_ready(const struct ec_store *store)
{
    for (size_t i = 0; i < store->conn_count && !store->closing; i++) {
        if (conn_up(store->conns[i])) {
            return true;
        }
    }
    return false;
}

static void on_closed(void *arg)
{
    struct ec_store *store = arg;
    ec_call_fn closed = store->closed;
    void *closed_arg = store->closed_arg;
    conninfo_free(store->info);
    free(store->conns);
    free(store);
    if (closed) {
        closed(closed_arg);
    }
}

void ec_store_close(struct ec_store *store, ec_call_fn closed, void *arg)
{
    store->closing = true;
    store->closed = closed;
    store->closed_arg = arg;
    while (store->first) {
        store_end_later(store, pull(store, &store->first),
                        ec_retry(0, "database: the store is closing"));
    }
    for (size_t i = 0; i < store->conn_count; i++) {
        conn_close(store->conns[i]);
    }
    ec_timer_free(store->look);
    ec_loop_defer(store->loop, on_closed, store);
}
