/* One build attempt, from the accepted command to the last acknowledged event. The table of steps
 * below is the whole story; each step runs one command after another through job_run. A failed step
 * leaves a verdict, and on_flow_end turns it into exactly one BuildSucceeded or BuildFailed. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "builder.h"

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
    fetch_forget_auth(job);
    ec_buf_done(&job->captured);
    ec_buf_done(&job->manifest);
    ec_arena_free(job->arena);
    free(job);
    builder_job_gone(b);
}

void job_let_go(void *arg)
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

static void on_flow_end(void *arg, struct ec_err err, const struct ec_step *step)
{
    struct job *job = arg;
    bool failed = ec_failed(err) || job->cancel_reason;
    job->flow_running = false;
    job->owed++; /* until the end of this function */
    if (failed) {
        job_tell_failure(job, err);
    } else {
        build_log_say(&job->log, job->step, "done in %s: %s@%s",
                      ec_duration_text(job->arena, ec_unix_ms() - job->began_unix_ms),
                      job->run->image_repo, job->digest);
        job_tell_success(job);
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
    job_tell_step(job, step->name, duration_ms, ec_failed(err));
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
    if (job->flow_running || job->told || !b->ready || b->trimming || b->trim_wanted) {
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
    job->image_id_file = ec_arena_format(arena, "%s/image-id", job->home_dir);
    job->digest_file = ec_arena_format(arena, "%s/digest", job->dir);
    ec_buf_init(&job->captured, CAPTURE_MAX);
    ec_buf_init(&job->manifest, CAPTURE_MAX);
    build_log_init(&job->log, b->loop, (size_t)b->settings.log_max_bytes, job_tell_log, job);
    mask_credentials(job);
    set_limits(job);
    job->step = "";
    job->next = b->jobs;
    b->jobs = job;
    b->job_count++;
    job_tell_started(job);
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
