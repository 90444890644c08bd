/* Child processes, each in a process group of its own, with limits, a deadline and an explicit
 * environment. Cancelling or running out of time kills the whole group: SIGTERM, then SIGKILL after
 * kill_grace_ms. Output comes line by line (a longer line is cut into pieces of line_max_bytes);
 * a slow reader stops the child, not our memory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"
#include "net/loop.h"

struct ec_process;

struct ec_process_result {
    int exit_code; /* -1 if a signal ended it */
    int signal;    /* 0 if none */
    bool timed_out;
    bool cancelled;
    bool out_of_memory; /* the control group says so; without one: SIGKILL that we did not send */
    int64_t duration_ms;
    int64_t cpu_ms; /* user + system, children included, when known; else 0 */
};

struct ec_process_spec {
    const char *const *argv;   /* NULL-ended; argv[0] is searched in PATH */
    const char *const *env;    /* NULL-ended "NAME=value"; NULL = a minimal PATH, HOME, LANG */
    const char *cwd;           /* NULL = ours */
    struct ec_span input;      /* stdin; empty = /dev/null */
    const char *output_file;   /* stdout+stderr appended here instead of on_line; may be NULL */
    uint32_t deadline_ms;      /* 0 = none (services we supervise); else timed_out */
    uint32_t kill_grace_ms;    /* 0 = 2000 */
    uint64_t memory_max_bytes; /* address-space independent: cgroup where writable, else
                                  RLIMIT_DATA; 0 = none */
    uint64_t pids_max;         /* 0 = none */
    uint64_t cpu_s_max;        /* RLIMIT_CPU; 0 = none */
    uint64_t file_max_bytes;   /* RLIMIT_FSIZE; 0 = none */
    uint32_t line_max_bytes;   /* 0 = 8192 */
    bool die_with_parent;      /* PR_SET_PDEATHSIG */
    void (*on_line)(void *arg, bool is_stderr,
                    struct ec_span line); /* without newline; may be NULL */
    void (*on_exit)(void *arg,
                    const struct ec_process_result *result); /* exactly once, after the last line */
    void *arg;
};

/* REJECT if argv[0] does not exist (says its name and how to install, if known). */
EC_RESULT ec_process_start(struct ec_loop *loop, const struct ec_process_spec *spec,
                           struct ec_process **ret_process);
void ec_process_cancel(struct ec_process *process);             /* idempotent; on_exit follows */
void ec_process_pause(struct ec_process *process, bool paused); /* stop reading its output */
int ec_process_pid(const struct ec_process *process);
