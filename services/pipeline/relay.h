/* What the relay's files share: the outbox's rows in memory (relay_rows.c), reading them
 * (relay_read.c), publishing and deleting them (relay.c). */
#pragma once

#include "base/buf.h"
#include "pipeline.h"

#define RELAY_WINDOW 2000 /* rows in memory */

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
    uint32_t again_ms; /* 0: the broker never refused it */
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
    bool forgot;        /* rows that the running read takes for known; its answer is void */
    bool passed_over;   /* the running read leaves out what stands behind stuck rows */
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

/* ---- relay.c ---- */
void relay_go_on(struct relay *relay);
/* Behind the last row of its topic and key, or to the broker when there is none; behind a stuck one
 * it is forgotten. */
void relay_enqueue(struct row *row);

/* ---- relay_rows.c ---- */
struct row *row_new(struct relay *relay, const struct ec_rows *rows, size_t at,
                    struct ec_arena *arena);
void row_free(struct row *row);
void row_set_state(struct row *row, enum row_state state);
/* The broker did not take it when it was last asked. */
bool row_stuck(const struct row *row);
/* It stays in the table only: the floor goes below it, so that it is read again. */
void row_forget(struct row *row);
/* An array literal of the ids of the rows that are so; `so` NULL = of all. */
void relay_ids(const struct relay *relay, bool (*so)(const struct row *), struct ec_buf *out);
/* What stands behind a row that is stuck: one key must not fill the window. */
void relay_forget_behind(struct row *stuck);
/* We do not lead any more (or stop): what the broker has not been given is somebody else's. */
void relay_forget_unpublished(struct relay *relay);

/* ---- relay_read.c ---- */
#define RELAY_POLL_MS 1000 /* in case a NOTIFY was missed */
void relay_read(struct relay *relay);
