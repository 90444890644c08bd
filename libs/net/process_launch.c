/* The child first becomes leader of a session of its own, takes its limits, then its descriptors,
 * and only then foreign code. What fails on the way is reported through a pipe that exec closes. */
#include "net/process_launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

enum stage { STAGE_LIMITS = 1, STAGE_CWD, STAGE_EXEC };
struct failure {
    int stage;
    int error;
};

const char *ec_launch_error(const char *format, ...)
{
    static char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return text;
}

/* ---- the child's side ---- */

static void child_fail(const struct ec_launch *launch, enum stage stage)
{
    struct failure failure = {stage, errno};
    ssize_t n = write(launch->status, &failure, sizeof(failure));
    _exit(n == (ssize_t)sizeof(failure) ? 127 : 126);
}

static void child_limit(const struct ec_launch *launch, __rlimit_resource_t what, uint64_t max)
{
    struct rlimit limit;
    if (max == 0 || getrlimit(what, &limit) != 0) {
        return;
    }
    if (limit.rlim_max == RLIM_INFINITY || max < limit.rlim_max) {
        limit.rlim_max = max;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(what, &limit) != 0) {
        child_fail(launch, STAGE_LIMITS);
    }
}

static void child_signals(void)
{
    struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        sigaction(number, &usual, NULL); /* an ignored SIGPIPE would survive exec */
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_run(struct ec_launch *launch)
{
    setsid();
    if (launch->die_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != launch->parent) {
            _exit(127); /* it died meanwhile */
        }
    }
    for (size_t i = 0; i < launch->join_count; i++) {
        if (write(launch->join_fds[i], "0", 1) != 1) {
            child_fail(launch, STAGE_LIMITS);
        }
    }
    child_limit(launch, RLIMIT_DATA, launch->data_max);
    child_limit(launch, RLIMIT_NPROC, launch->nproc_max);
    child_limit(launch, RLIMIT_CPU, launch->cpu_s_max);
    child_limit(launch, RLIMIT_FSIZE, launch->file_max);
    if (launch->cwd && chdir(launch->cwd) != 0) {
        child_fail(launch, STAGE_CWD);
    }
    /* Should we have been started without them, ours are among 0, 1 and 2: first out of the way. */
    int in = fcntl(launch->in, F_DUPFD_CLOEXEC, 3);
    int out = fcntl(launch->out, F_DUPFD_CLOEXEC, 3);
    int err = fcntl(launch->err, F_DUPFD_CLOEXEC, 3);
    int status = fcntl(launch->status, F_DUPFD_CLOEXEC, 3);
    if (in < 0 || out < 0 || err < 0 || status < 0) {
        child_fail(launch, STAGE_LIMITS);
    }
    launch->status = status; /* the child's own copy of all this */
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    child_signals();
    execve(launch->path, launch->argv, launch->env);
    child_fail(launch, STAGE_EXEC);
}

/* ---- the parent's side ---- */

static bool runnable(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

char *ec_launch_find(const char *name)
{
    if (strchr(name, '/')) {
        return runnable(name) ? ec_strdup(name) : NULL;
    }
    const char *path = getenv("PATH");
    for (const char *at = path ? path : "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"; *at;) {
        const char *colon = strchrnul(at, ':');
        char *full = ec_format("%.*s/%s", (int)(colon - at), at, name);
        if (colon > at && runnable(full)) {
            return full;
        }
        free(full);
        at = *colon ? colon + 1 : colon;
    }
    return NULL;
}

char **ec_launch_usual_env(void)
{
    const char *path = getenv("PATH");
    const char *home = getenv("HOME");
    char **env = ec_alloc(4 * sizeof(*env));
    env[0] = ec_format("PATH=%s", path ? path : "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    env[1] = ec_format("HOME=%s", home ? home : "/");
    env[2] = ec_strdup("LANG=C.UTF-8");
    return env;
}

void ec_launch_env_free(char **env)
{
    for (char **at = env; at && *at; at++) {
        free(*at);
    }
    free(env);
}

/* stdin: a file in memory, so that no writer has to be driven. */
int ec_launch_input(struct ec_span input)
{
    if (input.len == 0) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    int fd = memfd_create("input", MFD_CLOEXEC);
    for (size_t done = 0; fd >= 0 && done < input.len;) {
        ssize_t n = write(fd, input.ptr + done, input.len - done);
        if (n < 0 && errno != EINTR) {
            close(fd);
            return -1;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0) {
        lseek(fd, 0, SEEK_SET);
    }
    return fd;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void ec_launch_close(struct ec_launch *launch)
{
    close_fd(&launch->in);
    close_fd(&launch->out);
    close_fd(&launch->err);
    close_fd(&launch->status);
    for (size_t i = 0; i < launch->join_count; i++) {
        close(launch->join_fds[i]);
    }
    launch->join_count = 0;
}

static EC_RESULT launch_failed(const struct ec_launch *launch, const struct failure *failure)
{
    const char *text = strerror(failure->error);
    if (failure->stage == STAGE_LIMITS) {
        return ec_retry(failure->error,
                        ec_launch_error("cannot set the limits of %s: %s", launch->path, text));
    }
    bool cwd = failure->stage == STAGE_CWD;
    const char *what = ec_launch_error("cannot %s %s: %s", cwd ? "enter the folder" : "run",
                                       cwd ? launch->cwd : launch->path, text);
    return (struct ec_err){EC_FATE_REJECT, failure->error, what};
}

/* fork; then waits until the child has become the program (milliseconds: it only sets itself up).
 */
EC_RESULT ec_launch_run(struct ec_launch *launch, pid_t *ret_pid)
{
    int status_fds[2];
    if (pipe2(status_fds, O_CLOEXEC) != 0) {
        return ec_retry(errno, "no pipe for a child process (too many open files?)");
    }
    launch->status = status_fds[1];
    launch->parent = getpid();
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* no handler of ours may run in the child */
    pid_t pid = fork();
    if (pid == 0) {
        child_run(launch);
    }
    int fork_errno = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close_fd(&launch->status);
    struct failure failure;
    ssize_t n = pid < 0 ? 0 : read(status_fds[0], &failure, sizeof(failure));
    close(status_fds[0]);
    if (pid < 0) {
        return ec_retry(fork_errno, "the system starts no more processes");
    }
    if (n == (ssize_t)sizeof(failure)) {
        waitpid(pid, NULL, 0); /* lint: blocks, for the time its _exit takes */
        return launch_failed(launch, &failure);
    }
    *ret_pid = pid;
    return ec_ok();
}
