/* The commands of a job's steps: one process at a time, within the job's time and limits, its
 * output into the job's log. */
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "builder.h"

#define KILL_GRACE_MS 1000

static void on_line(void *arg, bool is_stderr, struct ec_span line)
{
    struct job *job = arg;
    if (job->command.capture && !is_stderr) {
        ec_buf_add(&job->captured, line.ptr, line.len);
        ec_buf_add_text(&job->captured, "\n");
    } else {
        build_log_line(&job->log, job->step, line);
    }
}

static void on_command_exit(void *arg, const struct ec_process_result *result)
{
    struct job *job = arg;
    job->process = NULL;
    job->command.ended(job, result);
}

struct ec_err job_run(struct job *job, const struct command *command)
{
    job->command = *command;
    ec_buf_clear(&job->captured);
    build_log_tail_clear(&job->log);
    if (job->cancel_reason) {
        return ec_reject("cancelled");
    }
    if (command->deadline_ms == 0) {
        return job_out_of_time(job);
    }
    struct ec_process_spec spec = {
        .argv = command->argv,
        .env = command->env,
        .cwd = command->cwd,
        .deadline_ms = command->deadline_ms,
        .kill_grace_ms = KILL_GRACE_MS,
        .memory_max_bytes = command->memory_max_bytes,
        .pids_max = command->pids_max,
        .file_max_bytes = command->file_max_bytes,
        .line_max_bytes = BUILD_LOG_LINE_MAX,
        .die_with_parent = true,
        .on_line = on_line,
        .on_exit = on_command_exit,
        .arg = job,
    };
    struct ec_err err = ec_process_start(job->builder->loop, &spec, &job->process);
    if (ec_failed(err)) { /* the text lives only until the next start */
        job->verdict = (struct verdict){ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL, true,
                                        ec_arena_strdup(job->arena, err.what)};
        err.what = job->verdict.detail;
    }
    return err;
}

const char *const *job_env(struct job *job)
{
    const struct engine *engine = &job->builder->engine;
    return engine->job_env ? engine->job_env(job) : engine->env;
}

uint32_t job_deadline_ms(const struct job *job, int64_t own_ms)
{
    int64_t left_ms = job->deadline_mono_ms - ec_mono_ms();
    int64_t ms = left_ms < own_ms ? left_ms : own_ms;
    return ms > 0 ? (uint32_t)ms : 0;
}

struct ec_err job_out_of_time(struct job *job)
{
    const char *detail = ec_arena_format(
        job->arena, "the build took longer than %s: make it faster or raise its time limit",
        ec_duration_text(job->arena, job->limits.timeout_ms));
    return job_fail(
        job, (struct verdict){ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_TIMED_OUT, false, detail});
}

char *job_read_file(struct job *job, const char *path)
{
    char content[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : read(fd, content, sizeof(content) - 1);
    if (fd >= 0) {
        close(fd);
    }
    while (n > 0 && (content[n - 1] == '\n' || content[n - 1] == ' ')) {
        n--;
    }
    return n > 0 ? ec_arena_text(job->arena, (struct ec_span){content, (size_t)n}) : NULL;
}
