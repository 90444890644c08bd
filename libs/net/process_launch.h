/* The way from fork to exec of one child process; process.c's other half and used by it only.
 * Between the two calls only async-signal-safe functions run, because the process has other
 * threads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/span.h"
#include "net/cgroup.h"

/* What the child needs, prepared before the fork. Descriptors are -1 when not open. */
struct ec_launch {
    const char *path;
    char *const *argv;
    char *const *env;
    const char *cwd;
    int in, out, err;
    int status; /* write end: errno and stage when something fails before exec */
    int join_fds[EC_CGROUP_DIRS_MAX];
    size_t join_count;
    uint64_t data_max, nproc_max, cpu_s_max, file_max;
    bool die_with_parent;
    pid_t parent;
};

/* Full path of a program, searched in PATH when it has no slash; free() it. NULL = not found. */
char *ec_launch_find(const char *name);
/* A minimal PATH, HOME, LANG; free with ec_launch_env_free. */
char **ec_launch_usual_env(void);
void ec_launch_env_free(char **env); /* accepts NULL */
/* A descriptor to read `input` from; -1 and errno on failure. */
int ec_launch_input(struct ec_span input);
/* fork and exec; waits until the child has become the program. Error texts live until the next
 * call. */
EC_RESULT ec_launch_run(struct ec_launch *launch, pid_t *ret_pid);
void ec_launch_close(struct ec_launch *launch); /* our copies of the child's descriptors */
/* The one buffer for texts of failed starts: errors carry no memory of their own. */
const char *ec_launch_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
