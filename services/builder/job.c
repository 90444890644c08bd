/* One build attempt, from the accepted command to the last acknowledged event. The table of steps
 * below is the whole story; each step runs one command after another through job_run. A failed step
 * leaves a verdict, and job_end turns it into exactly one BuildSucceeded or BuildFailed. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "builder.h"
#include "bus/topics.h"

#define KILL_GRACE_MS 1000
#define REMOVE_DEADLINE_MS 60000

static struct ec_metric builds_total =
    EC_COUNTER("enclii_builds_total", "Ended builds by result.", "result");
static struct ec_metric step_seconds =
    EC_HISTOGRAM("enclii_build_step_duration_seconds", "Duration of build steps.", "step");

static const struct ec_step steps[] = {
    /* name     what it starts  tries */
    {"fetch", start_fetch, 4},
    {"detect", start_detect, 1},
    {"build", start_build, 1},
    {"push", start_push, 5},
};

/* ---- events ---- */

static void job_let_go(void *arg);

static void job_publish(struct job *job, const char *type, const char *step,
                        const ProtobufCMessage *body)
{
    const Enclii__V1__RunBuild *run = job->run;
    struct ec_id id =
        ec_id_derive(ec_arena_format(job->arena, "%s/%d", run->build_id, run->attempt), step);
    job->owed++;
    publish(job->builder,
            &(struct ec_message){.topic = EC_TOPIC_BUILD_EVENTS,
                                 .key = run->service->service_id,
                                 .type = type,
                                 .subject = run->build_id,
                                 .id = id.text,
                                 .trace = job->trace,
                                 .body = body},
            job_let_go, job);
}

static char *text(const char *value)
{
    return (char *)(uintptr_t)(value ? value
                                     : ""); /* generated structs lack const; pack only reads */
}

static void on_log_acked(void *arg)
{
    struct job *job = arg;
    job->log_batches--;
    if (job->process && job->log_batches < LOG_BATCHES_MAX / 2) {
        ec_process_pause(job->process, false);
    }
    job_let_go(job);
}

static void on_log_flush(void *arg, int64_t first_seq, const struct build_log_line *lines,
                         size_t count, bool last, bool cut)
{
    struct job *job = arg;
    Enclii__V1__LogLine bodies[BUILD_LOG_LINES];
    Enclii__V1__LogLine *list[BUILD_LOG_LINES];
    for (size_t i = 0; i < count; i++) {
        enclii__v1__log_line__init(&bodies[i]);
        bodies[i].unix_ms = lines[i].unix_ms;
        bodies[i].step = text(lines[i].step);
        bodies[i].text = lines[i].text;
        list[i] = &bodies[i];
    }
    Enclii__V1__BuildLog batch = ENCLII__V1__BUILD_LOG__INIT;
    batch.build_id = job->run->build_id;
    batch.attempt = job->run->attempt;
    batch.first_seq = first_seq;
    batch.n_lines = count;
    batch.lines = list;
    batch.last = last;
    batch.cut = cut;
    char cause[80], name[40];
    snprintf(cause, sizeof(cause), "%s/%d", job->run->build_id, job->run->attempt);
    snprintf(name, sizeof(name), "log-%lld%s", (long long)first_seq, last ? "-last" : "");
    struct ec_id id = ec_id_derive(cause, name);
    job->owed++;
    job->log_batches++;
    if (job->process && job->log_batches >= LOG_BATCHES_MAX) {
        ec_process_pause(job->process, true);
    }
    publish(job->builder,
            &(struct ec_message){.topic = EC_TOPIC_BUILD_LOGS,
                                 .key = job->run->service->service_id,
                                 .type = "dev.enclii.build.log.v1",
                                 .subject = job->run->build_id,
                                 .id = id.text,
                                 .trace = job->trace,
                                 .body = &batch.base},
            on_log_acked, job);
}

/* ---- the end ---- */

static void job_free(struct job *job)
{
    struct builder *b = job->builder;
    struct job **at = &b->jobs;
    while (*at != job) {
        at = &(*at)->next;
    }
    *at = job->next;
    b->job_count--;
    build_log_done(&job->log);
    ec_buf_done(&job->captured);
    ec_buf_done(&job->manifest);
    ec_arena_free(job->arena);
    free(job);
    builder_job_gone(b);
}

static void job_let_go(void *arg)
{
    struct job *job = arg;
    if (--job->owed == 0 && job->told) {
        job_free(job);
    }
}

static void on_removed(void *arg, const struct ec_process_result *result)
{
    (void)result; /* what is left goes at the next start */
    job_let_go(arg);
}

static void remove_dir(struct job *job)
{
    const char *const argv[] = {"rm", "-rf", "--one-file-system", job->dir, NULL};
    struct ec_process_spec spec = {
        .argv = argv, .deadline_ms = REMOVE_DEADLINE_MS, .on_exit = on_removed, .arg = job};
    job->owed++;
    if (ec_failed(ec_process_start(job->builder->loop, &spec, NULL))) {
        job->owed--;
    }
}

static void tell_success(struct job *job)
{
    Enclii__V1__BuildSucceeded done = ENCLII__V1__BUILD_SUCCEEDED__INIT;
    Enclii__V1__BaseImage bases[32], *list[32];
    for (size_t i = 0; i < job->base_count; i++) {
        enclii__v1__base_image__init(&bases[i]);
        bases[i].reference = text(job->bases[i]);
        bases[i].digest = text(job->base_digests[i]);
        list[i] = &bases[i];
    }
    done.build_id = job->run->build_id;
    done.attempt = job->run->attempt;
    done.builder_id = text(job->builder->settings.builder_id);
    done.image_repo = job->run->image_repo;
    done.digest = text(job->digest);
    done.image_bytes = job->image_bytes;
    done.commit_sha = job->run->commit->sha;
    done.detected_by = text(job->plan.detected_by);
    done.started_unix_ms = job->began_unix_ms;
    done.finished_unix_ms = ec_unix_ms();
    done.n_steps = job->step_count;
    done.steps = job->step_list;
    done.engine = job->builder->engine_version;
    done.n_base_images = job->base_count;
    done.base_images = list;
    job_publish(job, "dev.enclii.build.succeeded.v1", "succeeded", &done.base);
}

static void tell_failure(struct job *job, struct ec_err err)
{
    Enclii__V1__BuildFailed failed = ENCLII__V1__BUILD_FAILED__INIT;
    failed.build_id = job->run->build_id;
    failed.attempt = job->run->attempt;
    failed.builder_id = text(job->builder->settings.builder_id);
    failed.reason = job->verdict.detail ? job->verdict.reason
                                        : ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL;
    failed.detail = text(job->verdict.detail ? job->verdict.detail : err.what);
    failed.retryable = job->verdict.detail ? job->verdict.retry : err.fate == EC_FATE_RETRY;
    if (job->handed_back) {
        failed.reason = ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL;
        failed.detail = text(job->cancel_reason);
        failed.retryable = true;
    } else if (job->cancel_reason) {
        failed.reason = ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_CANCELLED;
        failed.detail = text(job->cancel_reason);
        failed.retryable = false;
    }
    failed.n_steps = job->step_count;
    failed.steps = job->step_list;
    build_log_say(&job->log, job->step, "failed: %s", failed.detail);
    job_publish(job, "dev.enclii.build.failed.v1", "failed", &failed.base);
}

static void on_flow_end(void *arg, struct ec_err err, const struct ec_step *step)
{
    struct job *job = arg;
    bool failed = ec_failed(err) || job->cancel_reason;
    job->flow_running = false;
    job->owed++; /* until the end of this function */
    if (failed) {
        tell_failure(job, err);
    } else {
        build_log_say(&job->log, job->step, "done in %s: %s@%s",
                      ec_duration_text(job->arena, ec_unix_ms() - job->began_unix_ms),
                      job->run->image_repo, job->digest);
        tell_success(job);
    }
    build_log_end(&job->log);
    ec_metric_add(&builds_total, failed ? "failed" : "succeeded", 1);
    ec_log(EC_LOG_INFO, job->trace, failed ? "build.failed" : "build.succeeded",
           failed && job->verdict.detail ? job->verdict.detail
           : err.what                    ? err.what
                                         : "built",
           EC_T("build", job->run->build_id), EC_N("attempt", job->run->attempt),
           EC_T("step", step->name));
    cache_release(job);
    remove_dir(job);
    job->told = true;
    builder_changed(job->builder);
    job_let_go(job);
}

static void on_flow_step(void *arg, const struct ec_step *step, struct ec_err err,
                         int64_t duration_ms)
{
    struct job *job = arg;
    ec_metric_observe_s(&step_seconds, step->name, (double)duration_ms / 1000.0);
    if (job->step_count < JOB_STEPS_MAX) {
        Enclii__V1__StepTime *time = &job->steps[job->step_count];
        enclii__v1__step_time__init(time);
        time->name = text(step->name);
        time->started_unix_ms = ec_unix_ms() - duration_ms;
        time->duration_ms = duration_ms;
        time->detail = text(ec_failed(err) ? "failed" : "");
        job->step_list[job->step_count++] = time;
        Enclii__V1__BuildStepFinished finished = ENCLII__V1__BUILD_STEP_FINISHED__INIT;
        finished.build_id = job->run->build_id;
        finished.attempt = job->run->attempt;
        finished.builder_id = text(job->builder->settings.builder_id);
        finished.step = time;
        job_publish(job, "dev.enclii.build.step.v1",
                    ec_arena_format(job->arena, "step-%s", step->name), &finished.base);
    }
}

void job_step_done(struct job *job, struct ec_err err)
{
    ec_flow_done(&job->flow, err);
}

struct ec_err job_fail(struct job *job, struct verdict verdict)
{
    job->verdict = verdict;
    build_log_say(&job->log, job->step, "%s%s", verdict.detail,
                  verdict.retry ? " (tried again)" : "");
    return verdict.retry ? ec_retry(0, verdict.detail) : ec_reject(verdict.detail);
}

/* ---- commands ---- */

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
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, content, sizeof(content) - 1);
    if (fd >= 0) {
        close(fd);
    }
    while (n > 0 && (content[n - 1] == '\n' || content[n - 1] == ' ')) {
        n--;
    }
    return n > 0 ? ec_arena_text(job->arena, (struct ec_span){content, (size_t)n}) : NULL;
}

/* ---- the start ---- */

static int64_t nearer(int64_t a, int64_t b)
{
    return b > 0 && b < a ? b : a;
}

static void set_limits(struct job *job)
{
    const struct builder_settings *settings = &job->builder->settings;
    const Enclii__V1__BuildSpec *spec = job->run->spec;
    int64_t timeout_ms = nearer(settings->build_timeout_ms, spec ? spec->timeout_ms : 0);
    if (job->run->deadline_unix_ms > 0) {
        timeout_ms = nearer(timeout_ms, job->run->deadline_unix_ms - job->began_unix_ms);
    }
    job->limits.timeout_ms = timeout_ms;
    job->limits.memory_max_bytes =
        nearer(settings->memory_max_bytes, spec ? spec->memory_max_bytes : 0);
    job->deadline_mono_ms = ec_mono_ms() + timeout_ms;
}

static void mask_credentials(struct job *job)
{
    const char *begin = strstr(job->run->clone_url, "://");
    const char *at = begin ? strchr(begin, '@') : NULL;
    const char *slash = begin ? strchr(begin + 3, '/') : NULL;
    if (at && (!slash || at < slash)) {
        build_log_mask(&job->log, (struct ec_span){begin + 3, (size_t)(at - begin - 3)});
    }
}

void job_enter(struct job *job, const char *name)
{
    job->step = name;
    job->verdict = (struct verdict){0};
    builder_changed(job->builder);
}

static EC_RESULT make_dirs(struct job *job)
{
    const char *jobs = ec_arena_format(job->arena, "%s/jobs", job->builder->settings.work_dir);
    const char *dirs[] = {jobs, job->dir, job->source_dir, job->home_dir};
    for (size_t i = 0; i < EC_LEN(dirs); i++) {
        if (mkdir(dirs[i], 0700) != 0 && access(dirs[i], W_OK) != 0) {
            return ec_retry(0, "the work folder cannot be written (disk full?)");
        }
    }
    return ec_ok();
}

void job_begin(struct job *job)
{
    struct builder *b = job->builder;
    if (job->flow_running || job->told || !b->ready || b->trimming) {
        return;
    }
    job->flow_running = true;
    ec_ignore(make_dirs(job)); /* the fetch step meets the same trouble and reports it */
    ec_flow_start(&job->flow, b->loop, steps, EC_LEN(steps), job, on_flow_step, on_flow_end);
    if (job->cancel_reason) {
        ec_flow_cancel(&job->flow);
    }
}

void job_start(struct builder *b, Enclii__V1__RunBuild *run, struct ec_arena *arena,
               const char *trace)
{
    struct job *job = ec_alloc(sizeof(*job));
    job->builder = b;
    job->arena = arena;
    job->run = run;
    job->trace = ec_arena_strdup(arena, trace);
    job->began_unix_ms = ec_unix_ms();
    job->dir =
        ec_arena_format(arena, "%s/jobs/%s-%d", b->settings.work_dir, run->build_id, run->attempt);
    job->source_dir = ec_arena_format(arena, "%s/src", job->dir);
    job->home_dir = ec_arena_format(arena, "%s/home", job->dir);
    job->image_id_file = ec_arena_format(arena, "%s/image-id", job->dir);
    job->digest_file = ec_arena_format(arena, "%s/digest", job->dir);
    ec_buf_init(&job->captured, CAPTURE_MAX);
    ec_buf_init(&job->manifest, CAPTURE_MAX);
    build_log_init(&job->log, b->loop, (size_t)b->settings.log_max_bytes, on_log_flush, job);
    mask_credentials(job);
    set_limits(job);
    job->step = "";
    job->next = b->jobs;
    b->jobs = job;
    b->job_count++;
    Enclii__V1__BuildStarted started = ENCLII__V1__BUILD_STARTED__INIT;
    started.build_id = run->build_id;
    started.attempt = run->attempt;
    started.builder_id = text(b->settings.builder_id);
    job_publish(job, "dev.enclii.build.started.v1", "started", &started.base);
    job_begin(job);
}

void job_cancel(struct job *job, const char *reason)
{
    if (job->cancel_reason || job->told) {
        return;
    }
    job->cancel_reason = ec_arena_strdup(job->arena, reason);
    if (job->flow_running) {
        ec_flow_cancel(&job->flow);
    } else {
        job_begin(job);
    }
    if (job->process) {
        ec_process_cancel(job->process);
    }
    if (job->sizer) {
        ec_process_cancel(job->sizer);
    }
}
