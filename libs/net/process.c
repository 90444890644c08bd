/* fork and exec by ourselves rather than uv_spawn: only so can the child set its limits, join its
 * control group and ask to die with us before foreign code runs. Between fork and exec only
 * async-signal-safe calls are made (librdkafka has threads). A pidfd in the loop tells the end of
 * the child, so SIGCHLD stays libuv's. The child is reaped only after its group has been killed:
 * until then its pid cannot be reused, and a kill cannot hit a stranger. What it prints is read in
 * process_output.c. */
#include "net/process_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/process_launch.h"

#define PIPE_GRACE_MS 250  /* after the exit: how long a grandchild may still hold the pipes */
#define REMOVE_EVERY_MS 20 /* the control group, while killed processes are leaving it */
#define REMOVE_TRIES 100

/* ---- the end ---- */

static bool outputs_open(const struct ec_process *process)
{
    return process->outputs[0].fd >= 0 || process->outputs[1].fd >= 0;
}

static void process_free(struct ec_process *process)
{
    for (size_t i = 0; i < EC_LEN(process->outputs); i++) {
        ec_poll_free(process->outputs[i].poll);
        if (process->outputs[i].fd >= 0) {
            close(process->outputs[i].fd);
        }
        free(process->outputs[i].line);
    }
    ec_poll_free(process->pid_poll);
    if (process->pid_fd >= 0) {
        close(process->pid_fd);
    }
    ec_timer_free(process->deadline);
    ec_timer_free(process->killer);
    ec_timer_free(process->closer);
    ec_cgroup_free(process->group);
    free(process);
}

static void process_end(struct ec_process *process)
{
    process->result.duration_ms = ec_mono_ms() - process->began_ms;
    if (process->on_exit) {
        process->on_exit(process->arg, &process->result);
    }
    process_free(process);
}

/* Everything is read and reaped; what is left of the tree goes with its control group. */
static void on_closing(void *arg)
{
    struct ec_process *process = arg;
    if (!process->ending) {
        process->grace_over = true;
        ec_process_settle(process);
        return;
    }
    if (process->group) {
        ec_cgroup_kill(process->group);
        if (!ec_cgroup_remove(process->group)) {
            if (++process->remove_tries < REMOVE_TRIES) {
                return; /* the timer repeats */
            }
            ec_log(EC_LOG_WARN, NULL, "process.group_left",
                   "a control group could not be removed; the next start tries again",
                   EC_N("pid", process->pid));
        }
    }
    process_end(process);
}

void ec_process_settle(struct ec_process *process)
{
    if (!process->exited || process->ending) {
        return;
    }
    if (process->grace_over && !process->paused) {
        for (size_t i = 0; i < EC_LEN(process->outputs); i++) {
            ec_process_output_drain(&process->outputs[i]);
        }
    }
    if (outputs_open(process)) {
        return;
    }
    process->ending = true;
    /* In a turn of its own: on_exit never runs inside start, cancel or a line's callback. */
    ec_timer_start(process->closer, 0, REMOVE_EVERY_MS);
}

static void signal_group(struct ec_process *process, int number)
{
    if (process->exited) {
        return; /* reaped: the pid may belong to somebody else */
    }
    kill(-process->pid, number);
    if (number == SIGKILL) {
        process->killed = true;
        if (process->group) {
            ec_cgroup_kill(process->group);
        }
    }
}

static void reap(struct ec_process *process)
{
    int status = 0;
    struct rusage usage = {0};
    if (process->stopping) {
        signal_group(process, SIGKILL); /* grandchildren that ignored SIGTERM */
    }
    if (wait4(process->pid, &status, WNOHANG, &usage) != process->pid) {
        return;
    }
    process->exited = true;
    struct ec_process_result *result = &process->result;
    result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result->cpu_ms = usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000 +
                     usage.ru_stime.tv_sec * 1000 + usage.ru_stime.tv_usec / 1000;
    bool by_kernel = result->signal == SIGKILL && !process->killed && process->memory_guessed;
    bool failed = result->exit_code != 0;
    bool told = process->group && ec_cgroup_oom_kills(process->group) > 0;
    result->out_of_memory = !process->stopping && (by_kernel || (failed && told));
}

static void on_child_exit(void *arg, int status, int events)
{
    (void)status;
    (void)events;
    struct ec_process *process = arg;
    reap(process);
    if (!process->exited) {
        return; /* a spurious wake-up */
    }
    ec_poll_free(process->pid_poll);
    process->pid_poll = NULL;
    ec_timer_stop(process->deadline);
    ec_timer_stop(process->killer);
    ec_timer_start(process->closer, PIPE_GRACE_MS, 0);
    ec_process_settle(process);
}

static void process_stop(struct ec_process *process)
{
    if (process->stopping || process->exited) {
        return;
    }
    process->stopping = true;
    signal_group(process, SIGTERM);
    ec_timer_start(process->killer, process->kill_grace_ms, 0);
}

static void on_deadline(void *arg)
{
    struct ec_process *process = arg;
    on_child_exit(process, 0, 0); /* if we stood still meanwhile, it may have ended in time */
    if (process->exited) {
        return;
    }
    process->result.timed_out = !process->stopping;
    process_stop(process);
}

static void on_kill(void *arg)
{
    signal_group(arg, SIGKILL);
}

void ec_process_cancel(struct ec_process *process)
{
    if (process->stopping || process->exited) {
        return;
    }
    process->result.cancelled = true;
    process_stop(process);
}

void ec_process_pause(struct ec_process *process, bool paused)
{
    process->paused = paused;
    for (size_t i = 0; i < EC_LEN(process->outputs); i++) {
        if (process->outputs[i].poll) {
            ec_poll_want(process->outputs[i].poll, paused ? 0 : UV_READABLE);
        }
    }
    if (!paused && process->grace_over) {
        process->grace_over = false; /* the reader gets its time again */
        ec_timer_start(process->closer, PIPE_GRACE_MS, 0);
    }
}

int ec_process_pid(const struct ec_process *process)
{
    return process->pid;
}

/* ---- starting ---- */

static EC_RESULT open_files(struct ec_process *process, const struct ec_process_spec *spec,
                            struct ec_launch *launch)
{
    launch->in = ec_launch_input(spec->input);
    if (launch->in < 0) {
        return ec_retry(errno, "no input for a child process");
    }
    if (!spec->output_file) {
        EC_TRY(ec_process_output_open(process, 0, &launch->out));
        return ec_process_output_open(process, 1, &launch->err);
    }
    launch->out = open(spec->output_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (launch->out < 0) {
        int error = errno;
        return ec_retry(error, ec_launch_error("cannot write the output file %s: %s",
                                               spec->output_file, strerror(error)));
    }
    launch->err = fcntl(launch->out, F_DUPFD_CLOEXEC, 3);
    return launch->err < 0 ? ec_retry(errno, "too many open files") : ec_ok();
}

/* Limits of the whole tree by control group, else of each process by rlimit; says so once. */
static void set_limits(struct ec_process *process, const struct ec_process_spec *spec,
                       struct ec_launch *launch)
{
    static bool told;
    bool memory = false, pids = false;
    launch->cpu_s_max = spec->cpu_s_max;
    launch->file_max = spec->file_max_bytes;
    process->memory_guessed = spec->memory_max_bytes > 0;
    if (spec->memory_max_bytes == 0 && spec->pids_max == 0) {
        return;
    }
    process->group = ec_cgroup_new(spec->memory_max_bytes, spec->pids_max, &memory, &pids);
    if (process->group) {
        launch->join_count = ec_cgroup_join_fds(process->group, launch->join_fds);
    }
    process->memory_guessed &= !memory;
    launch->data_max = memory ? 0 : spec->memory_max_bytes;
    launch->nproc_max = pids ? 0 : spec->pids_max;
    if ((launch->data_max || launch->nproc_max) && !told) {
        told = true;
        ec_log(EC_LOG_WARN, NULL, "process.limits_per_process",
               "no writable control group: memory and process limits hold per process or user, not "
               "for a build as a whole; give this service a delegated cgroup",
               EC_N("memory_by_group", memory), EC_N("pids_by_group", pids));
    }
}

static struct ec_process *process_new(struct ec_loop *loop, const struct ec_process_spec *spec)
{
    struct ec_process *process = ec_alloc(sizeof(*process));
    process->loop = loop;
    process->pid_fd = -1;
    process->line_max_bytes = spec->line_max_bytes ? spec->line_max_bytes : 8192;
    process->kill_grace_ms = spec->kill_grace_ms ? spec->kill_grace_ms : 2000;
    process->began_ms = ec_mono_ms();
    process->on_line = spec->on_line;
    process->on_exit = spec->on_exit;
    process->arg = spec->arg;
    for (size_t i = 0; i < EC_LEN(process->outputs); i++) {
        process->outputs[i] =
            (struct ec_process_output){.process = process, .fd = -1, .is_stderr = i == 1};
    }
    process->deadline = ec_timer_new(loop, on_deadline, process);
    process->killer = ec_timer_new(loop, on_kill, process);
    process->closer = ec_timer_new(loop, on_closing, process);
    return process;
}

static EC_RESULT process_launch(struct ec_process *process, const struct ec_process_spec *spec,
                                struct ec_launch *launch)
{
    EC_TRY(open_files(process, spec, launch));
    set_limits(process, spec, launch);
    EC_TRY(ec_launch_run(launch, &process->pid));
    process->pid_fd = pidfd_open(process->pid, 0);
    struct ec_err err = process->pid_fd < 0
                            ? ec_retry(errno, "no pidfd for a child process")
                            : ec_poll_new(process->loop, process->pid_fd, on_child_exit, process,
                                          &process->pid_poll);
    if (ec_failed(err)) { /* it runs, but nobody would hear of it */
        kill(-process->pid, SIGKILL);
        waitpid(process->pid, NULL, 0); /* lint: blocks, for the time SIGKILL takes */
        return err;
    }
    ec_poll_want(process->pid_poll, UV_READABLE);
    ec_process_pause(process, false);
    if (spec->deadline_ms > 0) {
        ec_timer_start(process->deadline, spec->deadline_ms, 0);
    }
    return ec_ok();
}

EC_RESULT ec_process_start(struct ec_loop *loop, const struct ec_process_spec *spec,
                           struct ec_process **ret_process)
{
    ec_cleanup(ec_freep) char *path = ec_launch_find(spec->argv[0]);
    if (!path) {
        const char *what = ec_launch_error(
            "program %s was not found in PATH: install the package that contains it",
            spec->argv[0]);
        return (struct ec_err){EC_FATE_REJECT, ENOENT, what};
    }
    char **env = spec->env ? NULL : ec_launch_usual_env();
    struct ec_process *process = process_new(loop, spec);
    /* execve's types predate const; it writes to neither list. */
    struct ec_launch launch = {
        .path = path,
        .argv = (char *const *)(uintptr_t)spec->argv,
        .env = spec->env ? (char *const *)(uintptr_t)spec->env : env,
        .cwd = spec->cwd,
        .in = -1,
        .out = -1,
        .err = -1,
        .status = -1,
        .die_with_parent = spec->die_with_parent,
    };
    struct ec_err err = process_launch(process, spec, &launch);
    ec_launch_close(&launch);
    ec_launch_env_free(env);
    if (ec_failed(err)) {
        if (process->group) {
            ec_cgroup_remove(process->group);
        }
        process_free(process);
        return err;
    }
    if (ret_process) {
        *ret_process = process;
    }
    return ec_ok();
}
