/* What a job says on the bus: that it began, each step, each batch of its log, and how it ended.
 * Too many batches that are not acknowledged pause the tool that writes them. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "builder.h"
#include "bus/topics.h"

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

void job_tell_log(void *arg, int64_t first_seq, const struct build_log_line *lines, size_t count,
                  bool last, bool cut)
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

void job_tell_started(struct job *job)
{
    Enclii__V1__BuildStarted started = ENCLII__V1__BUILD_STARTED__INIT;
    started.build_id = job->run->build_id;
    started.attempt = job->run->attempt;
    started.builder_id = text(job->builder->settings.builder_id);
    job_publish(job, "dev.enclii.build.started.v1", "started", &started.base);
}

void job_tell_step(struct job *job, const char *name, int64_t duration_ms, bool failed)
{
    if (job->step_count < JOB_STEPS_MAX) {
        Enclii__V1__StepTime *time = &job->steps[job->step_count];
        enclii__v1__step_time__init(time);
        time->name = text(name);
        time->started_unix_ms = ec_unix_ms() - duration_ms;
        time->duration_ms = duration_ms;
        time->detail = text(failed ? "failed" : "");
        job->step_list[job->step_count++] = time;
        Enclii__V1__BuildStepFinished finished = ENCLII__V1__BUILD_STEP_FINISHED__INIT;
        finished.build_id = job->run->build_id;
        finished.attempt = job->run->attempt;
        finished.builder_id = text(job->builder->settings.builder_id);
        finished.step = time;
        job_publish(job, "dev.enclii.build.step.v1", ec_arena_format(job->arena, "step-%s", name),
                    &finished.base);
    }
}

void job_tell_success(struct job *job)
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

void job_tell_failure(struct job *job, struct ec_err err)
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
