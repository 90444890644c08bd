/* What the files of the supervisor share: local_supervise.c (the whole), local_member.c (one
 * component), local_logs.c (log files). */
#pragma once

#include "base/backoff.h"
#include "local.h"
#include "net/process.h"

#define MEMBERS_MAX 32

enum member_state { WAITING, STARTING, READY, PAUSING, STOPPING, ENDED };

struct supervisor;

struct member {
    const struct component *component;
    struct supervisor *sup;
    enum member_state state;
    bool shown;   /* false: a task that this start does not need */
    bool probing; /* an answer is owed; the next question waits for it */
    struct ec_process *process;
    struct ec_timer *timer;   /* next probe, or next start */
    struct ec_arena *scratch; /* of one start or one probe */
    struct ec_backoff backoff;
    int64_t start;              /* /proc start time of its process */
    int64_t began_ms, ready_ms; /* mono: of this round; ready_ms 0 = not yet */
    int64_t took_ms;            /* began → ready of the first round */
    int restarts;
    int early_exits;       /* since it was ready last */
    int64_t first_exit_ms; /* mono: of the first of those */
    char detail[256];
};

struct supervisor {
    const struct local *local;
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;
    struct ec_arena *scratch; /* of one state file */
    struct ec_timer *logs;    /* looks at the sizes of the log files */
    bool rotating;
    uv_signal_t signals[2];
    struct member members[MEMBERS_MAX];
    size_t count;
    int64_t began_ms;
    bool advancing; /* a pass is deferred */
    bool stopping, ended;
    const char *failed; /* name of what does not come up */
};

/* ---- local_supervise.c ---- */
void supervise_soon(struct supervisor *sup); /* looks at all members in a later turn */

/* ---- local_member.c ---- */
void member_start(struct member *member);
void member_stop(struct member *member);
void member_ask(void *member); /* its timer: the next probe, or the next start */

/* ---- local_logs.c ---- */
void local_logs_cut(const char *home); /* those that are too long; blocks: off the loop */
