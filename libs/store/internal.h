/* Private to libs/store: the link (one libpq connection that keeps itself connected), the batch's
 * body, and the reading of error codes. Nothing outside this folder includes it. */
#pragma once

#include <libpq-fe.h>

#include "base/arena.h"
#include "store/store.h"

/* ---- where to connect: the parsed URL, shared by all links of one store ---- */
struct conninfo;
EC_RESULT conninfo_new(const struct ec_store_spec *spec, struct conninfo **ret_info);
void conninfo_free(struct conninfo *info);
/* The host name that must be resolved first, or NULL (socket folder or address literal). */
const char *conninfo_host(const struct conninfo *info);
/* Starts connecting; hostaddr: addresses of conninfo_host, comma-separated, or NULL. */
PGconn *conninfo_connect(const struct conninfo *info, const char *hostaddr, size_t address_count);

/* ---- link: resolves, connects, polls; after a loss connects again with back-off and jitter ----
 */
struct link;
struct link_events {
    void (*up)(void *arg, PGconn *pg);        /* connected, non-blocking */
    void (*down)(void *arg, const char *why); /* was up and is not any more */
    void (*io)(void *arg, int events);        /* UV_READABLE | UV_WRITABLE while up */
};
struct link *link_open(struct ec_loop *loop, const struct conninfo *info,
                       const struct link_events *events, void *arg);
bool link_up(const struct link *link);
PGconn *link_pg(struct link *link); /* NULL unless up */
/* Polls for writing too while libpq has bytes to send. False: the connection is broken. */
bool link_flush(struct link *link);
/* Gives the connection up and makes a new one; `down` is not called. */
void link_drop(struct link *link);
/* The connection broke: as link_drop, and `down` is called. */
void link_lost(struct link *link, const char *why);
void link_close(struct link *link); /* no event comes any more; accepts NULL */

/* ---- rows and batches ---- */
struct ec_rows {
    PGresult *result;       /* NULL when the statement has no answer */
    const char *constraint; /* of the violation that ended the batch, else "" */
};

struct statement {
    const char *sql;
    const char *const *args;
    int arg_count;
    bool prepares; /* a PREPARE was sent before it in this run */
    struct ec_rows rows;
};

/* Of everything in a batch. Columns leave some of it for texts of errors and small statements. */
#define BATCH_MAX_BYTES ((size_t)64 << 20)
#define BATCH_SPARE_BYTES ((size_t)1 << 20)

struct ec_batch {
    struct ec_store *store;
    struct ec_arena *arena;
    struct statement *statements;
    size_t count, room;
    bool script;          /* one text of many statements, simple protocol (migrations) */
    uint32_t deadline_ms; /* 0 = the store's */
    int64_t began_mono_ms;
    int64_t deadline_mono_ms;
    struct ec_err err; /* the first failure */
    size_t at;         /* statement whose answer is awaited */
    bool preparing;    /* ... and it is its PREPARE's */
    bool drop_link;    /* the session is of no further use */
    ec_batch_fn done;
    void *arg;
    struct ec_batch *next; /* waiting list */
};

/* Calls done and frees. */
void batch_end(struct ec_batch *batch, struct ec_err err);
/* Remembers the first failing answer of the batch; gives whether the session must go. */
void batch_note_failure(struct ec_batch *batch, const PGresult *result);

/* ---- conn: one session of the pool, running one batch at a time in pipeline mode ---- */
struct conn;
struct conn *conn_open(struct ec_store *store, struct ec_loop *loop, const struct conninfo *info);
bool conn_idle(const struct conn *conn); /* connected and without a batch */
bool conn_up(const struct conn *conn);
void conn_run(struct conn *conn, struct ec_batch *batch); /* only when idle; the batch ends later */
void conn_close(struct conn *conn); /* its batch ends with RETRY in a later turn; accepts NULL */

/* store.c, called by conn.c: this session can take a batch. */
void store_conn_free(struct ec_store *store, struct conn *conn);
/* Ends the batch in a later turn. */
void store_end_later(struct ec_store *store, struct ec_batch *batch, struct ec_err err);

/* The fate of a SQLSTATE; NULL = the connection broke. */
enum ec_fate sqlstate_fate(const char *sqlstate);
/* The session is with a standby: a new one may find the primary. */
bool sqlstate_is_read_only(const char *sqlstate);
/* A prepared statement went stale or is gone: the session must be made anew. */
bool sqlstate_is_stale_plan(const char *sqlstate, const char *source_function);
