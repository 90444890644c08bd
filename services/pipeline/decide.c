/* The table of what pipeline takes in: for each type, which rows it needs and who decides. */
#include "decide.h"

#include <string.h>

#include "base/id.h"
#include "base/mem.h"
#include "pulls.h"

#define WANTED_MAX 100000

void want(struct wanted *wanted, struct id_list *list, const char *id)
{
    if (!id || !*id || (list->known && ec_map_get(list->known, id))) {
        return;
    }
    if (!list->known) {
        list->known = ec_map_new(WANTED_MAX);
    }
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        const char **more = ec_arena_alloc(wanted->arena, room * sizeof *more);
        if (list->count) {
            memcpy(more, list->ids, list->count * sizeof *more);
        }
        list->ids = more;
        list->room = room;
    }
    list->ids[list->count] = ec_arena_strdup(wanted->arena, id);
    ec_map_put(list->known, id, wanted);
    list->count++;
}

struct wanted *wanted_new(struct ec_arena *arena)
{
    struct wanted *wanted = ec_arena_alloc(arena, sizeof *wanted);
    wanted->arena = arena;
    return wanted;
}

void wanted_done(struct wanted *wanted)
{
    if (!wanted) {
        return;
    }
    struct id_list *lists[] = {&wanted->services,   &wanted->repos,       &wanted->builds,
                               &wanted->releases,   &wanted->deployments, &wanted->hostnames,
                               &wanted->deliveries, &wanted->builders,    &wanted->events,
                               &wanted->refs,       &wanted->pulls,       &wanted->commits,
                               &wanted->ci_commits};
    for (size_t i = 0; i < EC_LEN(lists); i++) {
        ec_map_free(lists[i]->known, NULL);
        lists[i]->known = NULL;
    }
}

/* ---- the needs of each type ---- */

/* Most records are keyed by the service id and name one aggregate by its id. */
const char *want_service(struct wanted *wanted, const char *key)
{
    if (!ec_id_valid(key)) {
        return "the key is not a service id";
    }
    want(wanted, &wanted->services, key);
    return NULL;
}

static const char *want_id(struct wanted *wanted, struct id_list *list, const char *key,
                           const char *id)
{
    if (!ec_id_valid(id)) {
        return "the id it is about is not a UUID";
    }
    want(wanted, list, id);
    return want_service(wanted, key);
}

void want_delivery(struct wanted *wanted, const char *repo_key, const char *id)
{
    want(wanted, &wanted->deliveries, id);
    want(wanted, &wanted->deliveries, delivery_own_id(wanted->arena, repo_key, id));
}

static const char *want_push(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__PushReceived *push = body;
    if (!*push->delivery_id || !*push->repo_key || !*push->ref) {
        return "a push without delivery id, repository key or ref";
    }
    if (strcmp(key, push->repo_key) != 0) {
        return "the key is not the push's repository key";
    }
    if (!push->deleted && (!push->head || !*push->after)) {
        return "a push without head commit";
    }
    if (strchr(push->repo_key, '\n') || strchr(push->ref, '\n')) {
        return "a push whose repository key or ref has several lines";
    }
    want(wanted, &wanted->repos, push->repo_key);
    want(wanted, &wanted->refs,
         ec_arena_format(wanted->arena, "%s\n%s", push->repo_key, push->ref));
    want_delivery(wanted, push->repo_key, push->delivery_id);
    want(wanted, &wanted->ci_commits, push->deleted ? "" : push->after);
    return NULL;
}

static const char *want_compared(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__PushCompared *word = body;
    (void)key;
    want(wanted, &wanted->repos, word->repo_key);
    want_delivery(wanted, word->repo_key, word->delivery_id);
    want(wanted, &wanted->commits, word->head_sha);
    return NULL;
}

/* The host's other events name their delivery, and a repository when they are about one. */
const char *want_host_event(struct wanted *wanted, const char *key, const void *body)
{
    (void)key;
    const ProtobufCMessage *message = body;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "delivery");
    const Enclii__V1__DeliveryInfo *info =
        *(Enclii__V1__DeliveryInfo *const *)((const char *)body + field->offset);
    if (!info || !*info->delivery_id) {
        return "an event of a host without a delivery id";
    }
    want_delivery(wanted, info->repo_key, info->delivery_id);
    if (message->descriptor == &enclii__v1__repository_changed__descriptor) {
        want(wanted, &wanted->repos, info->repo_key);
        want(wanted, &wanted->repos, ((const Enclii__V1__RepositoryChanged *)body)->new_repo_key);
    }
    return NULL;
}

static const char *want_refused(struct wanted *wanted, const char *key, const void *body)
{
    (void)wanted;
    (void)key;
    return ec_id_valid(((const Enclii__V1__DeliveryRefused *)body)->refusal_id)
               ? NULL
               : "a refusal whose id is not a UUID";
}

static const char *want_build_started(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->builds, key,
                   ((const Enclii__V1__BuildStarted *)body)->build_id);
}

static const char *want_build_step(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->builds, key,
                   ((const Enclii__V1__BuildStepFinished *)body)->build_id);
}

static const char *want_build_succeeded(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->builds, key,
                   ((const Enclii__V1__BuildSucceeded *)body)->build_id);
}

static const char *want_build_failed(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->builds, key, ((const Enclii__V1__BuildFailed *)body)->build_id);
}

static const char *want_heartbeat(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__BuilderHeartbeat *word = body;
    if (!*word->builder_id || strcmp(key, word->builder_id) != 0) {
        return "the key is not the builder's id";
    }
    want(wanted, &wanted->builders, word->builder_id);
    for (size_t i = 0; i < word->n_running; i++) {
        if (ec_id_valid(word->running[i]->build_id)) {
            want(wanted, &wanted->builds, word->running[i]->build_id);
        }
    }
    return NULL;
}

static const char *want_release_step(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->releases, key,
                   ((const Enclii__V1__ReleaseStepFinished *)body)->release_id);
}

static const char *want_release_signed(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__ReleaseSigned *word = body;
    if (ec_id_valid(word->build_id)) {
        want(wanted, &wanted->builds, word->build_id); /* who pushed it, for the deployment */
    }
    wanted->deploys = true;
    return want_id(wanted, &wanted->releases, key, word->release_id);
}

static const char *want_release_refused(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->releases, key,
                   ((const Enclii__V1__ReleaseRefused *)body)->release_id);
}

static const char *want_deployment_step(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->deployments, key,
                   ((const Enclii__V1__DeploymentStepFinished *)body)->deployment_id);
}

static const char *want_rolled_out(struct wanted *wanted, const char *key, const void *body)
{
    wanted->deploys = true;
    return want_id(wanted, &wanted->deployments, key,
                   ((const Enclii__V1__DeploymentRolledOut *)body)->deployment_id);
}

static const char *want_reverted(struct wanted *wanted, const char *key, const void *body)
{
    wanted->deploys = true;
    return want_id(wanted, &wanted->deployments, key,
                   ((const Enclii__V1__DeploymentReverted *)body)->deployment_id);
}

static const char *want_status(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->deployments, key,
                   ((const Enclii__V1__DeploymentStatus *)body)->deployment_id);
}

static const char *want_issued(struct wanted *wanted, const char *key, const void *body)
{
    (void)key;
    want(wanted, &wanted->hostnames, ((const Enclii__V1__DomainIssued *)body)->hostname);
    return NULL;
}

static const char *want_domain_failed(struct wanted *wanted, const char *key, const void *body)
{
    (void)key;
    want(wanted, &wanted->hostnames, ((const Enclii__V1__DomainFailed *)body)->hostname);
    return NULL;
}

static const char *want_request_build(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__RequestBuild *req = body;
    if (!req->commit || !*req->commit->sha || !*req->commit->ref) {
        return "a build request without commit or ref";
    }
    want(wanted, &wanted->commits, req->commit->sha);
    return want_id(wanted, &wanted->services, key, req->service_id);
}

static const char *want_request_deploy(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__RequestDeploy *req = body;
    if (!ec_id_valid(req->deployment_id) || !ec_id_valid(req->release_id) ||
        !ec_id_valid(req->environment_id)) {
        return "a deploy request whose deployment, release or environment id is not a UUID";
    }
    want(wanted, &wanted->releases, req->release_id);
    want(wanted, &wanted->deployments, req->deployment_id);
    wanted->deploys = true;
    return want_id(wanted, &wanted->services, key, req->service_id);
}

static const char *want_request_rollback(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__RequestRollback *req = body;
    if (!ec_id_valid(req->deployment_id) || !ec_id_valid(req->environment_id) ||
        (*req->to_release_id && !ec_id_valid(req->to_release_id))) {
        return "a rollback request whose deployment, release or environment id is not a UUID";
    }
    want(wanted, &wanted->releases, req->to_release_id);
    want(wanted, &wanted->deployments, req->deployment_id);
    wanted->deploys = true;
    wanted->rollback = true;
    return want_id(wanted, &wanted->services, key, req->service_id);
}

static const char *want_request_cancel(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__RequestCancel *req = body;
    if ((*req->build_id && !ec_id_valid(req->build_id)) ||
        (*req->deployment_id && !ec_id_valid(req->deployment_id))) {
        return "a cancel request whose build or deployment id is not a UUID";
    }
    want(wanted, &wanted->builds, req->build_id);
    want(wanted, &wanted->deployments, req->deployment_id);
    wanted->deploys = true;
    return want_id(wanted, &wanted->services, key, req->service_id);
}

static const char *want_request_remove(struct wanted *wanted, const char *key, const void *body)
{
    return want_id(wanted, &wanted->services, key,
                   ((const Enclii__V1__RequestRemoveService *)body)->service_id);
}

#define KIND(type, message, wants, decides, once)                                                  \
    {                                                                                              \
        "dev.enclii." type ".v1", &enclii__v1__##message##__descriptor, wants, decides, once       \
    }

const struct event_kind event_kinds[] = {
    /* The same delivery again is counted by decide_push, so it must get there. */
    KIND("push.received", push_received, want_push, decide_push, false),
    KIND("push.compared", push_compared, want_compared, decide_compared, false),
    KIND("delivery.received", delivery_received, want_host_event, decide_host_event, false),
    KIND("delivery.refused", delivery_refused, want_refused, decide_refused, true),
    KIND("pull_request.changed", pull_request_changed, want_pull_request, decide_pull_request,
         false),
    KIND("ci.changed", ci_changed, want_ci, decide_ci_changed, false),
    KIND("ref.changed", ref_changed, want_host_event, decide_host_event, false),
    KIND("repository.changed", repository_changed, want_host_event, decide_repository, true),
    KIND("installation.changed", installation_changed, want_host_event, decide_host_event, false),
    KIND("board_item.changed", board_item_changed, want_host_event, decide_host_event, false),
    KIND("release_tag.changed", release_tag_changed, want_host_event, decide_host_event, false),
    KIND("image.pushed", image_pushed, want_host_event, decide_host_event, false),
    KIND("build.started", build_started, want_build_started, decide_build_started, false),
    KIND("build.step", build_step_finished, want_build_step, decide_build_step, true),
    KIND("build.succeeded", build_succeeded, want_build_succeeded, decide_build_succeeded, true),
    KIND("build.failed", build_failed, want_build_failed, decide_build_failed, true),
    KIND("builder.heartbeat", builder_heartbeat, want_heartbeat, decide_heartbeat, false),
    KIND("release.step", release_step_finished, want_release_step, decide_release_step, true),
    KIND("release.signed", release_signed, want_release_signed, decide_release_signed, true),
    KIND("release.refused", release_refused, want_release_refused, decide_release_refused, true),
    KIND("deployment.step", deployment_step_finished, want_deployment_step, decide_deployment_step,
         true),
    KIND("deployment.rolled_out", deployment_rolled_out, want_rolled_out,
         decide_deployment_rolled_out, true),
    KIND("deployment.reverted", deployment_reverted, want_reverted, decide_deployment_reverted,
         true),
    KIND("deployment.status", deployment_status, want_status, decide_deployment_status, false),
    KIND("domain.issued", domain_issued, want_issued, decide_domain_issued, false),
    KIND("domain.failed", domain_failed, want_domain_failed, decide_domain_failed, false),
    KIND("request.build", request_build, want_request_build, decide_request_build, true),
    KIND("request.deploy", request_deploy, want_request_deploy, decide_request_deploy, true),
    KIND("request.rollback", request_rollback, want_request_rollback, decide_request_rollback,
         true),
    KIND("request.cancel", request_cancel, want_request_cancel, decide_request_cancel, true),
    KIND("request.remove_service", request_remove_service, want_request_remove,
         decide_request_remove, true),
    KIND("request.approve", request_approve, want_request_approve, decide_request_approve, true),
};
const size_t event_kind_count = EC_LEN(event_kinds);

const struct event_kind *event_kind_find(const char *type)
{
    for (size_t i = 0; i < event_kind_count; i++) {
        if (strcmp(event_kinds[i].type, type) == 0) {
            return &event_kinds[i];
        }
    }
    return NULL;
}

void decide_event(struct world *world, const struct event_kind *kind, const struct cause *cause,
                  const void *body)
{
    if (kind->once && world_saw(world, cause->id)) {
        return;
    }
    world->cause = *cause;
    kind->decide(world, body);
    if (kind->once) {
        world_see(world, cause->id);
    }
}
