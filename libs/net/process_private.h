/* What process.c (life and limits) and process_output.c (what it prints) share; nobody else
 * includes it. */
#pragma once

#include <sys/types.h>

#include "net/cgroup.h"
#include "net/process.h"

struct ec_process_output {
    struct ec_process *process;
    struct ec_poll *poll;
    int fd; /* -1 = ended */
    bool is_stderr;
    char *line; /* line_max_bytes */
    size_t len;
};

struct ec_process {
    struct ec_loop *loop;
    pid_t pid;
    int pid_fd;
    struct ec_poll *pid_poll;
    struct ec_process_output outputs[2];
    size_t line_max_bytes;
    struct ec_timer *deadline, *killer, *closer;
    uint32_t kill_grace_ms;
    struct ec_cgroup *group; /* NULL = none */
    bool memory_guessed;     /* limited, and no group tells whether the limit was met */
    unsigned remove_tries;
    int64_t began_ms;
    bool paused;
    bool stopping;   /* cancel or deadline: SIGTERM was sent */
    bool killed;     /* SIGKILL was sent by us */
    bool exited;     /* reaped */
    bool ending;     /* pipes are closed, the end is on its way */
    bool grace_over; /* the pipes' grace ended while the reader was paused */
    struct ec_process_result result;
    void (*on_line)(void *arg, bool is_stderr, struct ec_span line);
    void (*on_exit)(void *arg, const struct ec_process_result *result);
    void *arg;
};

/* ---- process.c ---- */
/* Moves the end on, if the child was reaped and its pipes are read. */
void ec_process_settle(struct ec_process *process);

/* ---- process_output.c ---- */
/* Opens a pipe and begins to read it; gives the child's end. */
EC_RESULT ec_process_output_open(struct ec_process *process, size_t index, int *ret_child_fd);
/* Closes it; what is left of a line is given out. */
void ec_process_output_end(struct ec_process_output *output);
/* Reads what is there now (bounded), then ends it. */
void ec_process_output_drain(struct ec_process_output *output);
