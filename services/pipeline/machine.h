/* The state machine of deliveries, builds, releases, deployments and domains: one table of states
 * and legal moves, and machine_move(), the only writer of a state. A terminal state (written in
 * capitals) has no deadline; every other one has a deadline and an owner, who must speak before it
 * passes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_STATES_MAX 9

enum machine_kind {
    MACHINE_DELIVERY,
    MACHINE_BUILD,
    MACHINE_RELEASE,
    MACHINE_DEPLOYMENT,
    MACHINE_DOMAIN,
    MACHINE_KINDS,
};

/* Indexes into the table's states, in its order. */
enum delivery_state {
    DELIVERY_RECEIVED,
    DELIVERY_COMPARING,
    DELIVERY_IGNORED,
    DELIVERY_ACCEPTED,
    DELIVERY_DUPLICATE,
};
enum build_state {
    BUILD_WAITING,
    BUILD_QUEUED,
    BUILD_LEASED,
    BUILD_RUNNING,
    BUILD_SUCCEEDED,
    BUILD_FAILED,
    BUILD_CANCELLED,
    BUILD_TIMED_OUT,
    BUILD_SUPERSEDED,
};
enum release_state { RELEASE_BUILDING, RELEASE_SIGNING, RELEASE_READY, RELEASE_REJECTED };
enum deployment_state {
    DEPLOYMENT_PENDING,
    DEPLOYMENT_ROLLING,
    DEPLOYMENT_HEALTHY,
    DEPLOYMENT_FAILED,
    DEPLOYMENT_ROLLED_BACK,
    DEPLOYMENT_CANCELLED,
    DEPLOYMENT_SUPERSEDED,
};
enum domain_state {
    DOMAIN_PENDING,
    DOMAIN_ISSUING,
    DOMAIN_ACTIVE,
    DOMAIN_FAILED,
};

struct machine_state {
    const char *name;  /* as in the database and in events; capitals = terminal */
    uint16_t next;     /* bit per state it may move to */
    int64_t dwell_ms;  /* longest stay; 0 = terminal, or lives only inside one transaction */
    bool plus;         /* the caller adds the job's own time (build timeout, rollout) to dwell_ms */
    const char *owner; /* who must speak before the deadline */
    const char *overdue; /* what the reaper does, for people */
};

struct machine {
    const char *name; /* "build" */
    size_t state_count;
    struct machine_state states[MACHINE_STATES_MAX];
};

extern const struct machine machines[MACHINE_KINDS];

/* The state of one row, inside the row's struct. Read freely; written by the functions below alone.
 */
struct machine_cell {
    enum machine_kind kind;
    uint8_t state;
    int64_t deadline_unix_ms; /* 0 in terminal states */
};

/* A new row, in its first state (index 0). */
void machine_begin(struct machine_cell *cell, enum machine_kind kind, int64_t now_unix_ms);
/* The same, where the first state lasts extra_ms longer (the table says `plus`). */
void machine_begin_plus(struct machine_cell *cell, enum machine_kind kind, int64_t now_unix_ms,
                        int64_t extra_ms);
/* A row read from the database; false when there is no such state. */
bool machine_load(struct machine_cell *cell, enum machine_kind kind, const char *state,
                  int64_t deadline_unix_ms);
bool machine_may(const struct machine_cell *cell, uint8_t to);
/* Moves, if legal, and sets the deadline to now + dwell (+ extra_ms where the table says `plus`).
 * False, and nothing changed, when the move is not in the table. */
bool machine_move(struct machine_cell *cell, uint8_t to, int64_t now_unix_ms, int64_t extra_ms);
bool machine_ended(const struct machine_cell *cell); /* in a terminal state */
const char *machine_text(const struct machine_cell *cell);
/* docs/state-machine.md: the whole table, to standard output. */
void machine_print(void);
