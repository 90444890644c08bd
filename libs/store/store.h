/* PostgreSQL, asynchronously: a pool of non-blocking libpq connections on our loop. Statements
 * travel in batches; a batch is one transaction in one round trip (pipeline mode), committed or not
 * as a whole. Text format both ways, SQL only with $n parameters.
 *
 * Errors: RETRY when the database is away, restarted, out of connections, or a serialisation
 * conflict ended the transaction (40001, 40P01, and ec_expect below); REJECT for constraint
 * violations (ec_rows_constraint names it) and data errors; FATAL for SQL that can never work.
 * While the database is away calls wait in the queue until their deadline, then end with RETRY. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"
#include "net/loop.h"

struct ec_store;
struct ec_rows; /* the answer of one statement; borrowed until the callback returns */
struct ec_batch;

struct ec_store_spec {
    const struct ec_secret *url; /* postgres://user:password@host:port/db?... */
    const char *application_name;
    uint32_t connections; /* 0 = 4 */
    uint32_t waiting_max; /* batches waiting for a connection; 0 = 1024; above: RETRY at once */
    uint32_t deadline_ms; /* per batch, waiting included; 0 = 10 s */
};

/* Connects in the background; ready when ec_store_ready says so. */
EC_RESULT ec_store_open(struct ec_loop *loop, const struct ec_store_spec *spec,
                        struct ec_store **ret_store);
bool ec_store_ready(const struct ec_store *store);
void ec_store_close(struct ec_store *store, ec_call_fn closed, void *arg);

typedef void (*ec_rows_fn)(void *arg, struct ec_err err, const struct ec_rows *rows);

/* One statement, its own transaction. args: text or NULL for SQL NULL; copied. */
EC_RESULT ec_store_exec(struct ec_store *store, const char *sql, const char *const *args,
                        size_t arg_count, ec_rows_fn done, void *arg);

/* Several statements as one transaction in one round trip. `done` gets the answers by index of
 * ec_batch_add (ec_batch_rows). To abort when a statement did not touch exactly one row, write
 *   with u as (update ... where id = $1 and version = $2 returning 1) select ec_expect(1, count(*))
 * from u (the migrations of `ec_store_migrate` create ec_expect; it raises 40001: RETRY). */
struct ec_batch *ec_batch_new(struct ec_store *store);
size_t ec_batch_add(struct ec_batch *batch, const char *sql, const char *const *args,
                    size_t arg_count); /* copies; gives the index */
size_t ec_batch_count(const struct ec_batch *batch);
struct ec_arena *ec_batch_arena(struct ec_batch *batch); /* lives until done has returned */
typedef void (*ec_batch_fn)(void *arg, struct ec_err err, const struct ec_batch *batch);
/* takes the batch, also on error. An empty batch succeeds. */
EC_RESULT ec_batch_run(struct ec_batch *batch, ec_batch_fn done, void *arg);
void ec_batch_free(struct ec_batch *batch); /* one that was never run */
const struct ec_rows *ec_batch_rows(const struct ec_batch *batch, size_t index);

size_t ec_rows_count(const struct ec_rows *rows);
const char *ec_rows_text(const struct ec_rows *rows, size_t row,
                         const char *column); /* "" for NULL */
bool ec_rows_null(const struct ec_rows *rows, size_t row, const char *column);
int64_t ec_rows_int(const struct ec_rows *rows, size_t row, const char *column); /* 0 for NULL */
bool ec_rows_bool(const struct ec_rows *rows, size_t row, const char *column);
struct ec_span ec_rows_bytes(const struct ec_rows *rows, size_t row, const char *column,
                             struct ec_arena *arena); /* bytea */
/* The violated constraint that ended the batch (the same for every index of it), or "". */
const char *ec_rows_constraint(const struct ec_rows *rows);
/* bytea parameter text: "\\x..." */
const char *ec_bytea_arg(struct ec_arena *arena, struct ec_span bytes);

/* Notifications on a dedicated connection. `woken` is called after every NOTIFY and after every
 * (re)connection, because none is kept while we are away. */
struct ec_listener;
EC_RESULT ec_listener_open(struct ec_loop *loop, const struct ec_store_spec *spec,
                           const char *channel, ec_call_fn woken, void *arg,
                           struct ec_listener **ret_listener);
void ec_listener_close(struct ec_listener *listener);

/* Migrations: applied in order, each in one transaction, under an advisory lock, recorded with the
 * SHA-256 of its text in <schema>.schema_migrations. A changed text of an applied one is FATAL. */
struct ec_migration {
    const char *name; /* "001_start" */
    const char *sql;
};
typedef void (*ec_done_fn)(void *arg, struct ec_err err);
EC_RESULT ec_store_migrate(struct ec_store *store, const char *schema,
                           const struct ec_migration *migrations, size_t count, ec_done_fn done,
                           void *arg);
