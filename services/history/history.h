/* history: keeps what was said. One batch consumer reads the topics of facts and writes their
 * events into schema `history` of PostgreSQL, one partition per month, together with the offsets it
 * has consumed. Private to this service. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "bus/bus.h"
#include "net/loop.h"
#include "service/service.h"
#include "store/store.h"

#define HISTORY_GROUP "history"
#define HISTORY_BATCH_MAX 2000
#define CHUNK_MAX_BYTES                                                                            \
    (12u << 20) /* of one transaction: a batch of large events takes several                       \
                 */
#define BODY_MAX_BYTES (64u << 10)
#define RAW_MAX_BYTES (16u << 10)
#define LIST_MAX 100 /* items of one list in a stored body */
#define MONTHS_MAX 160

struct history_settings {
    int64_t retention_ms; /* ENCLII_HISTORY_RETENTION */
    int64_t months_ahead; /* ENCLII_HISTORY_MONTHS_AHEAD */
};

struct history {
    struct history_settings settings;
    struct ec_loop *loop; /* these four are the owner's */
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_owner owner;        /* of this struct: told when it fails, and when it has stopped */
    int64_t (*now_unix_ms)(void); /* NULL: the clock (tests move it) */
    bool migrated;                /* the schema is in place */
    bool ready;                   /* and so are the partitions */
    bool stopping;
    bool tending;  /* months are being looked at */
    uint32_t busy; /* transactions on their way */
    struct ec_consumer *consumer;
    struct ec_timer *tend_timer;
    struct ec_batch_in *batch; /* being stored, or NULL */
    size_t from, to;           /* events of the running chunk */
    bool single;               /* the batch was refused: event by event */
    int64_t chunk_now_ms;      /* the clock as the running chunk saw it */
    int64_t began_mono_us;
    int months[MONTHS_MAX]; /* months known to have a partition, as year * 12 + month - 1 */
    size_t month_count;
};

/* ---- history.c ---- */
/* Once the owner's fields and the settings are there. */
EC_RESULT history_start(struct history *hi);
void history_stop(struct history *hi); /* ends the running transaction, then calls stopped */
int64_t history_now(const struct history *hi);
/* After each transaction: ends the stop when it waits for that. */
void history_rest(struct history *hi);

/* ---- ingest.c ---- */
EC_RESULT ingest_start(struct history *hi);

/* ---- months.c ---- */
/* Makes the months ahead and drops those out of retention; the first success begins consuming. */
void months_tend(struct history *hi);
bool months_known(const struct history *hi, int month);
void months_learn(struct history *hi, int month);
void months_forget(struct history *hi); /* somebody else may have dropped one */

/* ---- decide_months.c (pure) ---- */
int month_of(int64_t unix_ms);
int64_t month_begin_ms(int month);
#define MONTH_TEXT_SIZE 24
void month_text(int month, char ret_text[MONTH_TEXT_SIZE]); /* "2026-11-01" */
/* False: text is no "YYYY-MM-01". */
bool month_parse(const char *text, int *ret_month);
struct months_plan {
    int make[MONTHS_MAX];
    size_t make_count;
    int drop[MONTHS_MAX];
    size_t drop_count;
};
/* Wanted: the month of `now` and `ahead` after it. Dropped: whose last moment is out of retention.
 */
void decide_months(int64_t now_ms, const struct history_settings *settings, const int *there,
                   size_t there_count, struct months_plan *ret_plan);

/* ---- decide_record.c (pure) ---- */
struct record_source {
    const char *topic, *key, *subject, *trace; /* trace: a traceparent */
    const ProtobufCMessage *body;              /* NULL: tombstone */
};
struct record {
    const char *project_id, *service_id, *repo_key; /* "" = none; ids are valid UUIDs */
    const char *about;                              /* ids, one a line */
    const char *trace;                              /* 32 hex digits */
    const char *body;                               /* JSON text, or NULL */
    bool hidden; /* the body leaves values out, so the packed bytes are not kept either */
};
void decide_record(struct ec_arena *arena, const struct record_source *source,
                   struct record *ret_record);
/* The time it is kept under: its own, unless that lies in the future. 0 = older than the retention:
 * not kept. */
int64_t decide_time(int64_t event_ms, int64_t now_ms, int64_t retention_ms);
