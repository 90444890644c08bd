/* A release comes in, a flow runs, a verdict goes out. The event is finished only when the broker
 * has the verdict, so a crash at any point means that the release comes again; its second run finds
 * what the first one left in the registry and adds nothing. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "signer.h"

static struct ec_metric releases =
    EC_COUNTER("enclii_releases_signed_total", "Releases by result.", "result");
static struct ec_metric step_seconds =
    EC_HISTOGRAM("enclii_signer_step_seconds", "Time of each step of signing.", "step");

static void free_job(struct job *job)
{
    struct signer *sg = job->signer;
    if (job->prev) {
        job->prev->next = job->next;
    } else {
        sg->jobs = job->next;
    }
    if (job->next) {
        job->next->prev = job->prev;
    }
    json_decref(job->sbom);
    free(job->syft_says);
    ec_arena_free(job->arena);
    free(job);
    if (sg->stopping && !sg->jobs) {
        ec_loop_defer(sg->loop, sg->stopped, sg->stopped_arg);
    }
}

static void finish_job(struct job *job, struct ec_err err)
{
    ec_event_finish(job->ev, err);
    free_job(job);
}

static struct ec_err publish(struct job *job, const char *type, const char *step,
                             const ProtobufCMessage *body, ec_published_fn done)
{
    /* Of the release, not of the delivery: the same whichever run says it. */
    struct ec_id id = ec_id_derive(job->release->release_id, step);
    struct ec_message message = {
        .topic = EC_TOPIC_RELEASE_EVENTS,
        .key = ec_event_key(job->ev),
        .type = type,
        .subject = job->release->release_id,
        .id = id.text,
        .trace = ec_event_trace(job->ev),
        .body = body,
    };
    return ec_bus_publish(job->signer->bus, &message, done, job);
}

/* ---- steps ---- */

static void on_step_end(void *arg, const struct ec_step *step, struct ec_err err,
                        int64_t duration_ms)
{
    struct job *job = arg;
    ec_metric_observe_s(&step_seconds, step->name, (double)duration_ms / 1000);
    ec_log(ec_failed(err) ? EC_LOG_WARN : EC_LOG_INFO, ec_event_trace(job->ev),
           ec_failed(err) ? "release.step_failed" : "release.step_finished", step->name,
           EC_T("release", job->release->release_id), EC_N("ms", duration_ms),
           EC_T("error", ec_failed(err) ? err.what : ""));
    if (ec_failed(err) || job->step_count == STEPS_MAX) {
        return;
    }
    job->refusal = NULL;
    Enclii__V1__StepTime *time = &job->steps[job->step_count];
    enclii__v1__step_time__init(time);
    time->name = (char *)(uintptr_t)step->name;
    time->started_unix_ms = ec_unix_ms() - duration_ms;
    time->duration_ms = duration_ms;
    time->detail = ec_arena_strdup(job->arena, job->detail ? job->detail : "");
    job->step_list[job->step_count++] = time;
    job->detail = NULL;
    Enclii__V1__ReleaseStepFinished body = ENCLII__V1__RELEASE_STEP_FINISHED__INIT;
    body.release_id = job->release->release_id;
    body.build_id = job->release->build_id;
    body.step = time;
    /* For progress only: nobody waits for it, and a lost one hurts nobody. */
    ec_ignore(publish(job, "dev.enclii.release.step.v1",
                      ec_arena_format(job->arena, "step %s", step->name), &body.base, NULL));
}

/* ---- the verdict ---- */

static void on_verdict_published(void *arg, struct ec_err err)
{
    finish_job(arg, err);
}

static struct ec_err publish_signed(struct job *job)
{
    Enclii__V1__ReleaseSigned body = ENCLII__V1__RELEASE_SIGNED__INIT;
    body.release_id = job->release->release_id;
    body.build_id = job->release->build_id;
    body.image_repo = job->release->image_repo;
    body.digest = job->release->digest;
    body.sbom_digest = (char *)(uintptr_t)job->digests[DOC_SBOM];
    body.provenance_digest = (char *)(uintptr_t)job->digests[DOC_PROVENANCE];
    body.signature_digest = (char *)(uintptr_t)job->digests[DOC_SIGNATURE];
    body.sbom_object = (char *)(uintptr_t)job->sbom_object;
    body.provenance_object = (char *)(uintptr_t)job->provenance_object;
    body.sbom_format = ec_arena_format(job->arena, "cyclonedx-json %s", job->sbom_version);
    body.sbom_components = job->sbom_components;
    body.key_id = (char *)(uintptr_t)ec_key_hint(job->signer->key);
    body.n_steps = job->step_count;
    body.steps = job->step_list;
    return publish(job, "dev.enclii.release.signed.v1", "signed", &body.base, on_verdict_published);
}

static struct ec_err publish_refused(struct job *job, struct ec_err why, const char *step_name)
{
    Enclii__V1__ReleaseRefused body = ENCLII__V1__RELEASE_REFUSED__INIT;
    const char *reason = job->refusal ? job->refusal : decide_refusal(step_name);
    body.release_id = job->release->release_id;
    body.build_id = job->release->build_id;
    body.reason = (char *)(uintptr_t)reason;
    body.detail = (char *)(uintptr_t)why.what;
    return publish(job, "dev.enclii.release.refused.v1", "refused", &body.base,
                   on_verdict_published);
}

static void on_flow_end(void *arg, struct ec_err err, const struct ec_step *step)
{
    struct job *job = arg;
    const char *result = "signed";
    struct ec_err published;
    if (job->signer->stopping && ec_failed(err)) {
        finish_job(job, ec_retry(0, "the signer is stopping"));
        return;
    }
    if (err.fate == EC_FATE_RETRY || err.fate == EC_FATE_FATAL) {
        finish_job(job, err); /* the bus brings it again, after a while */
        return;
    }
    if (ec_failed(err)) {
        result = "refused";
        published = publish_refused(job, err, step->name);
    } else {
        published = publish_signed(job);
    }
    forget_sbom(job);
    ec_metric_add(&releases, result, 1);
    if (ec_failed(published)) {
        finish_job(job, published);
    }
}

struct ec_err on_release_created(void *state, struct ec_event *ev)
{
    struct signer *sg = state;
    if (sg->stopping) {
        return ec_retry(0, "the signer is stopping");
    }
    struct job *job = ec_alloc(sizeof(*job));
    job->signer = sg;
    job->ev = ev;
    job->release = ec_event_body(ev);
    job->arena = ec_arena_new(JOB_ARENA_MAX_BYTES);
    job->next = sg->jobs;
    if (job->next) {
        job->next->prev = job;
    }
    sg->jobs = job;
    ec_flow_start(&job->flow, sg->loop, sign_steps, sign_step_count, job, on_step_end, on_flow_end);
    return ec_ok();
}
