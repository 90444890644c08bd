/* What the reconciler says on enclii.deployment.events. Ids follow from the deployment, so that
 * saying it again after a restart changes nothing. A final event that Kafka did not take is said
 * again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/topics.h"
#include "reconciler.h"

static struct ec_metric ended =
    EC_COUNTER("enclii_rollouts_total", "Rollouts by result.", "result");
static struct ec_metric step_seconds =
    EC_HISTOGRAM("enclii_rollout_step_seconds", "Time of rollout steps.", "step");

#define EVENT_ARENA_MAX_BYTES (1u << 20)

struct final_event {
    struct reconciler *rec;
    char *key;
    char deployment_id[EC_ID_SIZE];
};

static struct ec_err publish(struct rollout *ro, const char *type, const char *id,
                             const ProtobufCMessage *body, struct final_event *final);

static void on_final_published(void *arg, struct ec_err err)
{
    struct final_event *final = arg;
    struct rollout *ro = ec_map_get(final->rec->rollouts, final->key);
    bool same = ro != NULL && ro->desired != NULL &&
                strcmp(ro->desired->deployment_id, final->deployment_id) == 0;
    if (ec_failed(err) && same) {
        ec_log(EC_LOG_WARN, ro->trace, "deployment.untold",
               "the end of a deployment could not be published and is said again",
               EC_T("deployment", final->deployment_id), EC_ERR(err));
        ro->reported = false;
        rollout_look(ro);
    }
    free(final->key);
    free(final);
}

static struct ec_err publish(struct rollout *ro, const char *type, const char *id,
                             const ProtobufCMessage *body, struct final_event *final)
{
    const struct ec_message message = {
        .topic = EC_TOPIC_DEPLOYMENT_EVENTS,
        .key = ro->desired->service->service_id,
        .type = type,
        .subject = ro->desired->deployment_id,
        .id = id,
        .trace = ro->trace,
        .body = body,
    };
    return ec_bus_publish(ec_service_bus(ro->rec->svc), &message, final ? on_final_published : NULL,
                          final);
}

static void publish_final(struct rollout *ro, const char *type, const char *step,
                          const ProtobufCMessage *body)
{
    struct final_event *final = ec_alloc(sizeof *final);
    final->rec = ro->rec;
    final->key = ec_strdup(ro->key);
    snprintf(final->deployment_id, sizeof final->deployment_id, "%s", ro->desired->deployment_id);
    struct ec_id id = ec_id_derive(ro->desired->deployment_id, step);
    ro->reported = true;
    struct ec_err err = publish(ro, type, id.text, body, final);
    if (ec_failed(err)) {
        ro->reported = false;
        ro->retry_mono_ms = ec_mono_ms() + 500;
        ec_timer_start(ro->timer, 500, 0);
        free(final->key);
        free(final);
    }
}

void publish_step(struct rollout *ro, const char *name, int64_t began_mono_ms, int weight,
                  const char *detail)
{
    if (ro->desired == NULL || ro->desired->settled || ro->step_count == STEPS_MAX) {
        return; /* keeping is no deployment */
    }
    int64_t duration_ms = ec_mono_ms() - began_mono_ms;
    ec_metric_observe_s(&step_seconds, name, (double)duration_ms / 1000.0);
    Enclii__V1__StepTime step;
    enclii__v1__step_time__init(&step);
    step.name = ec_arena_strdup(ro->arena, name);
    step.started_unix_ms = ec_unix_ms() - duration_ms;
    step.duration_ms = duration_ms;
    step.detail = ec_arena_strdup(ro->arena, detail);
    ro->steps[ro->step_count++] = step;
    Enclii__V1__DeploymentStepFinished body;
    enclii__v1__deployment_step_finished__init(&body);
    body.deployment_id = ro->desired->deployment_id;
    body.step = &step;
    body.weight = weight;
    char step_key[64];
    snprintf(step_key, sizeof step_key, "%s/%d", name, weight);
    struct ec_id id = ec_id_derive(ro->desired->deployment_id, step_key);
    /* Progress only: nobody waits for it, and the final event repeats all steps. */
    ec_ignore(publish(ro, "dev.enclii.deployment.step.v1", id.text, &body.base, NULL));
}

static size_t list_steps(struct rollout *ro, Enclii__V1__StepTime **ret_list)
{
    for (size_t i = 0; i < ro->step_count; i++) {
        ret_list[i] = &ro->steps[i];
    }
    return ro->step_count;
}

/* "127.0.0.1:8080" → ":8080"; nothing for the scheme's own port. */
static const char *port_part(const char *address, const char *usual)
{
    const char *port = strrchr(address, ':');
    return port == NULL || strcmp(port, usual) == 0 ? "" : port;
}

static char *url_of(struct ec_arena *arena, const struct settings *is,
                    const Enclii__V1__RouteSpec *route)
{
    const char *port =
        route->tls ? port_part(is->router_https, ":443") : port_part(is->router_http, ":80");
    return ec_arena_format(arena, "%s://%s%s%s", route->tls ? "https" : "http", route->hostname,
                           port, route->path[0] ? route->path : "/");
}

void publish_rolled_out(struct rollout *ro)
{
    /* Not the rollout's arena: while Kafka is away this is tried again and again. */
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(EVENT_ARENA_MAX_BYTES);
    Enclii__V1__DeploymentRolledOut body;
    enclii__v1__deployment_rolled_out__init(&body);
    Enclii__V1__StepTime *steps[STEPS_MAX];
    body.deployment_id = ro->desired->deployment_id;
    body.n_steps = list_steps(ro, steps);
    body.steps = steps;
    body.n_urls = ro->desired->n_routes;
    body.urls = ec_arena_alloc(arena, (body.n_urls + 1) * sizeof *body.urls);
    for (size_t i = 0; i < body.n_urls; i++) {
        body.urls[i] = url_of(arena, &ro->rec->is, ro->desired->routes[i]);
    }
    ec_metric_add(&ended, "rolled_out", 1);
    ec_log(EC_LOG_INFO, ro->trace, "deployment.rolled_out", "the new version has all traffic",
           EC_T("deployment", ro->desired->deployment_id),
           EC_T("service", ro->desired->service->service_name),
           EC_T("version", ro->desired->release->version));
    publish_final(ro, "dev.enclii.deployment.rolled_out.v1", "rolled_out", &body.base);
}

void publish_reverted(struct rollout *ro, bool previous_serves)
{
    Enclii__V1__DeploymentReverted body;
    enclii__v1__deployment_reverted__init(&body);
    Enclii__V1__StepTime *steps[STEPS_MAX];
    body.deployment_id = ro->desired->deployment_id;
    body.reason = (char *)(uintptr_t)ro->failure;
    body.detail = ro->detail;
    body.previous_serves = previous_serves;
    body.n_steps = list_steps(ro, steps);
    body.steps = steps;
    ec_metric_add(&ended, "reverted", 1);
    ec_log(EC_LOG_WARN, ro->trace, "deployment.reverted", ro->detail,
           EC_T("deployment", ro->desired->deployment_id), EC_T("reason", ro->failure),
           EC_T("service", ro->desired->service->service_name),
           EC_T("version", ro->desired->release->version),
           EC_T("previous_serves", previous_serves ? "true" : "false"));
    publish_final(ro, "dev.enclii.deployment.reverted.v1", "reverted", &body.base);
}

void publish_status(struct rollout *ro, const struct target_view *view, const char *note)
{
    const struct target_version *version = find_version(view, &ro->wanted);
    int wanted = ro->desired->release->run->replicas > 0 ? ro->desired->release->run->replicas : 1;
    int ready = version ? version->ready : 0;
    if (ready == ro->ready_told && wanted == ro->wanted_told) {
        return;
    }
    bool first = ro->wanted_told < 0;
    ro->ready_told = ready;
    ro->wanted_told = wanted;
    if (first && ready == wanted) {
        return; /* we came and found all well: no change */
    }
    Enclii__V1__DeploymentStatus body;
    enclii__v1__deployment_status__init(&body);
    body.deployment_id = ro->desired->deployment_id;
    body.service_id = ro->desired->service->service_id;
    body.environment_id = ro->desired->environment->environment_id;
    body.replicas_ready = ready;
    body.replicas_desired = wanted;
    char text[TARGET_DETAIL_SIZE];
    snprintf(text, sizeof text, "%s", note ? note : version ? version->detail : "");
    ec_utf8_trim(text);
    body.note = text;
    /* The next change says it all again. */
    ec_ignore(publish(ro, "dev.enclii.deployment.status.v1", ec_id_new().text, &body.base, NULL));
}
