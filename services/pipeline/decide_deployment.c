/* Deployments: at most one under way per service and environment. What should run is the desired
 * row, and each change of it is a new revision published to enclii.desired. A newer deployment
 * takes over from one under way (the last good release keeps serving meanwhile); a bad one goes
 * back to it. */
#include "decide.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/topics.h"

/* Time to fetch the image and start it, on top of probe and steps. */
#define START_MS (120 * 1000)

static struct ec_metric deployments =
    EC_COUNTER("enclii_deployments_total", "Deployments by how they ended.", "status");
static struct ec_metric push_to_serving = EC_HISTOGRAM(
    "enclii_push_to_serving_seconds", "From the push's receipt to all traffic on it.", NULL);

static struct why why_of(const struct deployment *dep, const char *rule)
{
    return (struct why){dep->service->id, "deployment", dep->id, rule, machine_text(&dep->cell)};
}

static void tell(struct world *world, const struct deployment *dep, const char *type,
                 const ProtobufCMessage *body)
{
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_DEPLOYMENT_EVENTS,
                                          .key = dep->service->id,
                                          .type = type,
                                          .subject = dep->id,
                                          .trace = dep->trace,
                                          .body = body});
}

/* ---- the desired state ---- */

static Enclii__V1__DesiredRelease *release_message(struct world *world,
                                                   const struct release *release)
{
    if (!release) {
        return NULL;
    }
    const Enclii__V1__ServiceSpec *spec = world_spec(world, release->spec);
    Enclii__V1__DesiredRelease *message =
        world_message(world, &enclii__v1__desired_release__descriptor);
    message->release_id = world_text(world, release->id);
    message->version = world_text(world, release->version);
    message->image = ec_arena_format(world->arena, "%s@%s", release->image_repo, release->digest);
    message->run = spec->run;
    message->commit_sha = world_text(world, release->commit_sha);
    return message;
}

static int64_t rollout_ms(const Enclii__V1__ServiceSpec *spec)
{
    int64_t probe_ms = spec->run && spec->run->probe && spec->run->probe->deadline_ms > 0
                           ? spec->run->probe->deadline_ms
                           : 60 * 1000;
    int64_t steps_ms = 0;
    if (spec->rollout) {
        size_t steps = spec->rollout->n_weights ? spec->rollout->n_weights : 3;
        steps_ms = (int64_t)steps * (spec->rollout->step_ms > 0 ? spec->rollout->step_ms : 3000);
    }
    return START_MS + probe_ms + steps_ms;
}

/* The way to the release. Back to one that was good before goes in one step: people are waiting,
 * and it needs no trial. */
static Enclii__V1__RolloutSpec *rollout_message(struct world *world, const struct desired *desired,
                                                const Enclii__V1__ServiceSpec *spec)
{
    const struct deployment *deployment = world_deployment(world, desired->deployment_id);
    if (!deployment || !deployment->rollback) {
        return spec->rollout;
    }
    Enclii__V1__RolloutSpec *message = world_message(world, &enclii__v1__rollout_spec__descriptor);
    message->strategy = world_text(world, "rolling");
    message->weights = ec_arena_alloc(world->arena, sizeof(*message->weights));
    message->weights[0] = 100;
    message->n_weights = 1;
    message->error_rate_max = spec->rollout ? spec->rollout->error_rate_max : 0;
    return message;
}

static void publish(struct world *world, struct desired *desired, bool settled, const char *trace)
{
    struct release *release = world_release(world, desired->release_id);
    char *key =
        ec_arena_format(world->arena, "%s:%s", desired->service->id, desired->environment_id);
    desired->revision++;
    world_touch(&desired->mark);
    struct fact_spec fact = {
        .topic = EC_TOPIC_DESIRED,
        .key = key,
        .type = "dev.enclii.desired.v1",
        .subject = desired->service->id,
        .trace = trace,
        .distinct = ec_arena_format(world->arena, "%s/%lld", key, (long long)desired->revision)};
    if (!release) {
        world_fact(world, &fact);
        return;
    }
    const Enclii__V1__ServiceSpec *spec = world_spec(world, release->spec);
    const struct environment *env = world_environment(world, desired->environment_id);
    Enclii__V1__Desired *message = world_message(world, &enclii__v1__desired__descriptor);
    message->deployment_id = world_text(world, desired->deployment_id);
    message->revision = desired->revision;
    message->service = world_service_ref(world, desired->service);
    message->environment = world_environment_ref(world, desired->environment_id);
    message->target = world_text(world, env ? env->target : "docker");
    message->release = release_message(world, release);
    if (strcmp(desired->good_release_id, desired->release_id) != 0) {
        message->previous = release_message(world, world_release(world, desired->good_release_id));
    }
    message->rollout = rollout_message(world, desired, spec);
    message->n_routes =
        decide_routes(world, desired->service, desired->environment_id, spec, &message->routes);
    message->settled = settled;
    message->deadline_unix_ms = settled ? 0 : world->now_ms + rollout_ms(spec);
    fact.body = &message->base;
    world_fact(world, &fact);
}

static struct desired *desired_of(struct world *world, struct service *svc,
                                  const char *environment_id)
{
    struct desired *desired = world_desired(world, svc->id, environment_id);
    if (desired) {
        return desired;
    }
    return world_add_desired(world,
                             &(struct desired){.service = svc,
                                               .environment_id = world_text(world, environment_id),
                                               .deployment_id = "",
                                               .release_id = "",
                                               .good_release_id = "",
                                               .good_deployment_id = "",
                                               .before_release_id = "",
                                               .mark = ROW_NEW});
}

void decide_nothing(struct world *world, struct desired *desired)
{
    if (!*desired->release_id) {
        return;
    }
    desired->release_id = "";
    desired->good_release_id = "";
    desired->good_deployment_id = "";
    publish(world, desired, true, NULL);
    decide_domains_drop(world, desired->service, desired->environment_id, NULL);
}

/* ---- beginning ---- */

static void tell_created(struct world *world, const struct deployment *dep,
                         const struct deploy_order *order)
{
    Enclii__V1__DeploymentCreated *fact =
        world_message(world, &enclii__v1__deployment_created__descriptor);
    fact->deployment_id = world_text(world, dep->id);
    fact->service = world_service_ref(world, dep->service);
    fact->environment = world_environment_ref(world, dep->environment_id);
    fact->release_id = world_text(world, order->release->id);
    fact->version = world_text(world, order->release->version);
    fact->image =
        ec_arena_format(world->arena, "%s@%s", order->release->image_repo, order->release->digest);
    fact->actor = world_actor(world, dep->actor);
    fact->rollback = order->rollback;
    fact->commit = world_commit(world, order->release->commit);
    tell(world, dep, "dev.enclii.deployment.created.v1", &fact->base);
}

static struct deployment *new_deployment(struct world *world, const struct deploy_order *order,
                                         const struct desired *desired)
{
    struct deployment row = {
        .id = order->deployment_id,
        .service = order->service,
        .environment_id = world_text(world, order->environment_id),
        .release_id = order->release->id,
        .previous_release_id = desired ? desired->good_release_id : "",
        .reason = "",
        .detail = "",
        .actor = world_pack(world, &order->actor->base),
        .rollback = order->rollback,
        .steps = "[]",
        .urls = "[]",
        .trace = world_text(world, order->trace),
        .push_received_ms = order->push_received_ms,
        .created_ms = world->now_ms,
        .mark = ROW_NEW,
    };
    machine_begin(&row.cell, MACHINE_DEPLOYMENT, world->now_ms);
    return world_add_deployment(world, &row);
}

void decide_deploy(struct world *world, const struct deploy_order *order)
{
    struct desired *desired = desired_of(world, order->service, order->environment_id);
    struct deployment *open = world_open_deployment(order->service, order->environment_id);
    if (open) {
        decide_deployment_end(
            world, open,
            &(struct deployment_end){
                DEPLOYMENT_SUPERSEDED, "superseded_by_newer_deployment",
                ec_arena_format(world->arena, "%s takes its place", order->release->version)});
    }
    struct deployment *dep = new_deployment(world, order, desired);
    tell_created(world, dep, order);
    desired->release_id = order->release->id;
    desired->deployment_id = dep->id;
    if (order->release->build_number > desired->newest_build) {
        desired->newest_build = order->release->build_number;
    }
    machine_move(&dep->cell, DEPLOYMENT_ROLLING, world->now_ms,
                 rollout_ms(world_spec(world, order->release->spec)));
    publish(world, desired, false, dep->trace);
    struct why why = why_of(dep, order->rule);
    world_why(world, &why, "%s goes to its target: %s", order->release->version, order->detail);
}

/* ---- ending ---- */

static const char *ended_type(uint8_t state)
{
    static const char *const types[] = {
        [DEPLOYMENT_HEALTHY] = "dev.enclii.deployment.healthy.v1",
        [DEPLOYMENT_FAILED] = "dev.enclii.deployment.failed.v1",
        [DEPLOYMENT_ROLLED_BACK] = "dev.enclii.deployment.rolled_back.v1",
        [DEPLOYMENT_CANCELLED] = "dev.enclii.deployment.cancelled.v1",
        [DEPLOYMENT_SUPERSEDED] = "dev.enclii.deployment.superseded.v1",
    };
    return types[state];
}

static void tell_ended(struct world *world, const struct deployment *dep,
                       const Enclii__V1__DeploymentRolledOut *word)
{
    const struct release *release = world_release(world, dep->release_id);
    Enclii__V1__DeploymentEnded *fact =
        world_message(world, &enclii__v1__deployment_ended__descriptor);
    fact->deployment_id = world_text(world, dep->id);
    fact->service = world_service_ref(world, dep->service);
    fact->environment = world_environment_ref(world, dep->environment_id);
    fact->release_id = world_text(world, dep->release_id);
    fact->version = world_text(world, release ? release->version : "");
    fact->reason = world_text(world, dep->reason);
    fact->detail = world_text(world, dep->detail);
    fact->commit = release ? world_commit(world, release->commit) : NULL;
    fact->n_urls = word ? word->n_urls : 0;
    fact->urls = word ? word->urls : NULL;
    fact->push_received_unix_ms = dep->push_received_ms;
    tell(world, dep, ended_type(dep->cell.state), &fact->base);
}

/* The row people look for under the id they were given; it never touches what is desired. The fact
 * names no commit, because nothing became of the commit by it. */
void decide_deploy_refused(struct world *world, const struct deploy_order *order)
{
    struct deployment *dep = new_deployment(
        world, order, world_desired(world, order->service->id, order->environment_id));
    machine_move(&dep->cell, DEPLOYMENT_CANCELLED, world->now_ms, 0);
    dep->finished_ms = world->now_ms;
    dep->reason = order->rule;
    dep->detail = order->detail;
    Enclii__V1__DeploymentEnded *fact =
        world_message(world, &enclii__v1__deployment_ended__descriptor);
    fact->deployment_id = world_text(world, dep->id);
    fact->service = world_service_ref(world, dep->service);
    fact->environment = world_environment_ref(world, dep->environment_id);
    fact->release_id = world_text(world, dep->release_id);
    fact->version = world_text(world, order->release->version);
    fact->reason = world_text(world, dep->reason);
    fact->detail = world_text(world, dep->detail);
    tell(world, dep, ended_type(dep->cell.state), &fact->base);
    struct why why = why_of(dep, dep->reason);
    why.outcome = "refused";
    world_why(world, &why, "%s", dep->detail);
}

static bool finish(struct world *world, struct deployment *dep, uint8_t to)
{
    if (!machine_move(&dep->cell, to, world->now_ms, 0)) {
        return false;
    }
    world_touch(&dep->mark);
    dep->finished_ms = world->now_ms;
    ec_metric_add(&deployments, machine_text(&dep->cell), 1);
    return true;
}

void decide_deployment_end(struct world *world, struct deployment *dep,
                           const struct deployment_end *end)
{
    if (!finish(world, dep, end->to)) {
        return;
    }
    dep->reason = world_text(world, end->reason);
    dep->detail = world_text(world, end->detail);
    tell_ended(world, dep, NULL);
    struct why why = why_of(dep, dep->reason);
    world_why(world, &why, "%s", dep->detail);
}

void decide_deployment_back(struct world *world, struct deployment *dep,
                            const struct deployment_end *end)
{
    struct desired *desired = world_desired(world, dep->service->id, dep->environment_id);
    bool current = desired && strcmp(desired->deployment_id, dep->id) == 0;
    decide_deployment_end(world, dep, end);
    if (!current) {
        return;
    }
    if (!*desired->good_release_id) {
        decide_nothing(world, desired);
        return;
    }
    desired->release_id = desired->good_release_id;
    desired->deployment_id = desired->good_deployment_id;
    publish(world, desired, true, dep->trace);
    const struct release *good = world_release(world, desired->good_release_id);
    if (good) { /* host names only the bad one had */
        decide_domains_drop(world, dep->service, dep->environment_id,
                            world_spec(world, good->spec));
    }
}

/* ---- words of the reconciler ---- */

static struct deployment *heard(struct world *world, const char *id, const char *word)
{
    struct deployment *dep = world_deployment(world, id);
    if (!dep) {
        world_why(world, &(struct why){NULL, "deployment", id, "unknown_deployment", "ignored"},
                  "%s about a deployment that does not exist or whose service is gone", word);
        return NULL;
    }
    if (dep->cell.state != DEPLOYMENT_ROLLING) {
        struct why why = why_of(dep, "late_result");
        why.outcome = "ignored";
        world_why(world, &why, "%s came when the deployment was %s", word,
                  machine_text(&dep->cell));
        return NULL;
    }
    return dep;
}

void decide_deployment_step(struct world *world, const void *body)
{
    const Enclii__V1__DeploymentStepFinished *word = body;
    struct deployment *dep = world_deployment(world, word->deployment_id);
    if (!dep || !word->step || machine_ended(&dep->cell)) {
        return;
    }
    const char *more = world_steps(world, &word->step, 1);
    bool first = strcmp(dep->steps, "[]") == 0;
    dep->steps = first ? more
                       : ec_arena_format(world->arena, "%.*s,%s", (int)strlen(dep->steps) - 1,
                                         dep->steps, more + 1);
    dep->weight = word->weight > dep->weight ? word->weight : dep->weight;
    world_touch(&dep->mark);
}

static const char *urls_json(struct world *world, const Enclii__V1__DeploymentRolledOut *word)
{
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, 64 * 1024);
    ec_buf_add_text(&out, "[");
    for (size_t i = 0; i < word->n_urls; i++) {
        ec_buf_add_text(&out, i ? "," : "");
        ec_buf_add_json_text(&out, ec_span_of(word->urls[i]));
    }
    ec_buf_add_text(&out, "]");
    return out.overflowed ? "[]" : ec_arena_text(world->arena, ec_buf_span(&out));
}

void decide_deployment_rolled_out(struct world *world, const void *body)
{
    const Enclii__V1__DeploymentRolledOut *word = body;
    struct deployment *dep = heard(world, word->deployment_id, "rolled out");
    if (!dep || !finish(world, dep, DEPLOYMENT_HEALTHY)) {
        return;
    }
    dep->weight = 100;
    dep->urls = urls_json(world, word);
    if (word->n_steps > 0) {
        dep->steps = world_steps(world, word->steps, word->n_steps);
        dep->steps_replace = true;
    }
    tell_ended(world, dep, word);
    struct why why = why_of(dep, "rolled_out");
    world_why(world, &why, "all traffic goes to it, and it is healthy");
    if (dep->push_received_ms > 0) {
        ec_metric_observe_s(&push_to_serving, NULL,
                            (double)(world->now_ms - dep->push_received_ms) / 1000);
    }
    struct desired *desired = world_desired(world, dep->service->id, dep->environment_id);
    const struct release *release = world_release(world, dep->release_id);
    if (!release) {
        return;
    }
    Enclii__V1__ServiceSpec *spec = world_spec(world, release->spec);
    /* All of them are ready, or it would not have been rolled out. */
    dep->replicas_ready = spec->run && spec->run->replicas > 0 ? spec->run->replicas : 1;
    if (desired && strcmp(desired->deployment_id, dep->id) == 0) {
        desired->good_release_id = dep->release_id;
        desired->good_deployment_id = dep->id;
        publish(world, desired, true, dep->trace);
        decide_domains_drop(world, dep->service, dep->environment_id, spec);
    }
}

void decide_deployment_reverted(struct world *world, const void *body)
{
    const Enclii__V1__DeploymentReverted *word = body;
    struct deployment *dep = heard(world, word->deployment_id, "reverted");
    if (!dep) {
        return;
    }
    if (word->n_steps > 0) {
        dep->steps = world_steps(world, word->steps, word->n_steps);
        dep->steps_replace = true;
    }
    uint8_t to = *dep->previous_release_id ? DEPLOYMENT_ROLLED_BACK : DEPLOYMENT_FAILED;
    decide_deployment_back(world, dep, &(struct deployment_end){to, word->reason, word->detail});
}

void decide_deployment_status(struct world *world, const void *body)
{
    const Enclii__V1__DeploymentStatus *word = body;
    struct deployment *dep = world_deployment(world, word->deployment_id);
    if (dep && dep->replicas_ready != word->replicas_ready) {
        dep->replicas_ready = word->replicas_ready;
        world_touch(&dep->mark);
    }
}
