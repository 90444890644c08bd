/* What people asked for through the API. A request that cannot be done changes nothing and says
 * why. */
#include "decide.h"

#include <string.h>

#include "bus/topics.h"
#include "pulls.h"

static void refuse(struct world *world, const char *service_id, const struct why *about,
                   const char *detail)
{
    struct why why = *about;
    why.service_id = service_id;
    why.outcome = "refused";
    world_why(world, &why, "%s", detail);
}

/* The service, when it is there and not removed. */
static struct service *live_service(struct world *world, const char *service_id,
                                    const char *request_id)
{
    struct service *svc = world_service(world, service_id);
    if (svc && !svc->removed) {
        return svc;
    }
    refuse(world, svc ? service_id : NULL,
           &(struct why){.kind = "request", .id = request_id, .rule = "unknown_service"},
           ec_arena_format(world->arena, "service %s %s", service_id,
                           svc ? "was removed" : "does not exist"));
    return NULL;
}

static const Enclii__V1__Actor *actor_or_none(struct world *world, const Enclii__V1__Actor *actor)
{
    return actor ? actor : world_message(world, &enclii__v1__actor__descriptor);
}

/* The fork's pull request that a commit is known by. Asking for a build by its id does not make a
 * stranger's code trusted; a push of it to the repository does. */
static const struct pull *fork_head(struct world *world, const struct service *svc, const char *sha)
{
    const struct build *untrusted = NULL;
    for (const struct build *b = svc->first_build; b; b = b->next_of_service) {
        bool same = strcmp(b->commit_sha, sha) == 0;
        if (same && b->trusted && b->pull_request == 0) {
            return NULL;
        }
        untrusted = same && !b->trusted ? b : untrusted;
    }
    if (!untrusted) {
        return world_fork_of(world, svc, sha);
    }
    struct pull *pull = ec_arena_alloc(world->arena, sizeof *pull); /* as it was then */
    pull->number = untrusted->pull_request;
    pull->ref = untrusted->ref;
    pull->from_fork = true;
    pull->author = untrusted->author;
    pull->author_association = untrusted->author_association;
    return pull;
}

void decide_request_build(struct world *world, const void *body)
{
    const Enclii__V1__RequestBuild *req = body;
    struct service *svc = live_service(world, req->service_id, req->request_id);
    if (!svc) {
        return;
    }
    Enclii__V1__Commit commit = *req->commit;
    const struct pull *pull = fork_head(world, svc, commit.sha);
    if (pull) {
        commit.ref = world_text(world, *pull->ref ? pull->ref : commit.ref);
    }
    decide_new_build(world, &(struct build_order){.service = svc,
                                                  .commit = &commit,
                                                  .actor = actor_or_none(world, req->actor),
                                                  .delivery_id = "",
                                                  .priority = PRIORITY_REQUEST,
                                                  .pull = pull});
}

/* ---- deploy and rollback ---- */

struct deploy_ask {
    const char *request_id, *environment_id, *deployment_id;
    const Enclii__V1__Actor *actor;
    bool rollback;
    const char *detail;
};

/* Why it cannot be done; NULL = it can. */
static const char *deploy_refusal(struct world *world, const struct service *svc,
                                  const struct release *release, const struct deploy_ask *ask,
                                  const char **ret_detail)
{
    const struct environment *env = world_environment(world, ask->environment_id);
    if (!env || strcmp(env->project_id, svc->project_id) != 0) {
        *ret_detail = "the environment is not one of the service's project";
        return "unknown_environment";
    }
    if (!release || release->service != svc) {
        *ret_detail = ask->rollback ? "there is no earlier good release to go back to"
                                    : "the service has no such release";
        return "unknown_release";
    }
    if (release->cell.state != RELEASE_READY) {
        *ret_detail = ec_arena_format(world->arena,
                                      "release %s is %s; only a signed and verified (READY) one "
                                      "may run",
                                      release->version, machine_text(&release->cell));
        return "release_not_ready";
    }
    if (!release->trusted && !*release->approved_by) {
        *ret_detail = ec_arena_format(world->arena,
                                      "release %s was built from pull request #%d of a fork; a "
                                      "member looks at commit %.12s, then: enclii approve %s",
                                      release->version, release->pull_request, release->commit_sha,
                                      release->version);
        return "approval_needed";
    }
    return NULL;
}

/* The release a refused deployment is shown with: the one asked for, else the one that stays. */
static struct release *release_shown(struct world *world, const struct service *svc,
                                     struct release *release, const struct deploy_ask *ask)
{
    const struct environment *env = world_environment(world, ask->environment_id);
    const struct desired *desired = world_desired(world, svc->id, ask->environment_id);
    if (!env || strcmp(env->project_id, svc->project_id) != 0) {
        return NULL;
    }
    if (release && release->service == svc) {
        return release;
    }
    return desired ? world_release(world, desired->release_id) : NULL;
}

static void deploy(struct world *world, struct service *svc, struct release *release,
                   const struct deploy_ask *ask)
{
    if (world_deployment(world, ask->deployment_id)) {
        return; /* asked for twice under one id */
    }
    struct deploy_order order = {
        .service = svc,
        .environment_id = ask->environment_id,
        .release = release,
        .deployment_id = world_text(world, ask->deployment_id),
        .actor = actor_or_none(world, ask->actor),
        .trace = world->cause.trace,
        .rollback = ask->rollback,
        .rule = ask->rollback ? "rollback_asked_for" : "deploy_asked_for",
        .detail = ask->detail,
    };
    const char *detail = NULL;
    const char *refusal = deploy_refusal(world, svc, release, ask, &detail);
    if (!refusal) {
        decide_deploy(world, &order);
        return;
    }
    order.release = release_shown(world, svc, release, ask);
    order.rule = refusal;
    order.detail = detail;
    if (order.release) {
        decide_deploy_refused(world, &order);
        return;
    }
    refuse(world, svc->id,
           &(struct why){.kind = "deployment", .id = ask->deployment_id, .rule = refusal}, detail);
}

void decide_request_deploy(struct world *world, const void *body)
{
    const Enclii__V1__RequestDeploy *req = body;
    struct service *svc = live_service(world, req->service_id, req->request_id);
    if (svc) {
        deploy(world, svc, world_release(world, req->release_id),
               &(struct deploy_ask){req->request_id, req->environment_id, req->deployment_id,
                                    req->actor, false,
                                    *req->reason ? req->reason : "somebody asked for it"});
    }
}

void decide_request_rollback(struct world *world, const void *body)
{
    const Enclii__V1__RequestRollback *req = body;
    struct service *svc = live_service(world, req->service_id, req->request_id);
    if (!svc) {
        return;
    }
    const struct desired *desired = world_desired(world, svc->id, req->environment_id);
    const char *to = *req->to_release_id ? req->to_release_id
                     : desired           ? desired->before_release_id
                                         : "";
    struct release *release = world_release(world, to);
    deploy(world, svc, release,
           &(struct deploy_ask){req->request_id, req->environment_id, req->deployment_id,
                                req->actor, true,
                                "back to this release, with its own configuration"});
}

/* ---- cancel, remove ---- */

static const char *by(struct world *world, const char *what, const Enclii__V1__Actor *actor)
{
    return ec_arena_format(world->arena, "%s by %s", what,
                           actor && *actor->name ? actor->name : "somebody");
}

void decide_request_cancel(struct world *world, const void *body)
{
    const Enclii__V1__RequestCancel *req = body;
    struct build *build = world_build(world, req->build_id);
    struct deployment *dep = world_deployment(world, req->deployment_id);
    const char *detail = by(world, "cancelled", req->actor);
    if (build &&
        !decide_build_end(world, build,
                          &(struct build_end){BUILD_CANCELLED, "cancel_asked_for", detail, ""})) {
        refuse(world, build->service->id,
               &(struct why){.kind = "build", .id = build->id, .rule = "ended_already"},
               ec_arena_format(world->arena, "the build is %s", machine_text(&build->cell)));
    }
    if (dep && machine_ended(&dep->cell)) {
        refuse(world, dep->service->id,
               &(struct why){.kind = "deployment", .id = dep->id, .rule = "ended_already"},
               ec_arena_format(world->arena, "the deployment is %s", machine_text(&dep->cell)));
    } else if (dep) {
        decide_deployment_back(
            world, dep, &(struct deployment_end){DEPLOYMENT_CANCELLED, "cancel_asked_for", detail});
    }
    if (!build && !dep) {
        refuse(world, NULL,
               &(struct why){.kind = "request", .id = req->request_id, .rule = "unknown_thing"},
               "there is no such build or deployment");
    }
}

void decide_request_remove(struct world *world, const void *body)
{
    const Enclii__V1__RequestRemoveService *req = body;
    struct service *svc = world_service(world, req->service_id);
    if (!svc || (svc->removed && !svc->first_desired)) {
        return; /* gone already */
    }
    const char *detail = by(world, "service removed", req->actor);
    svc->removed = true;
    world_touch(&svc->mark);
    for (struct build *build = svc->first_build; build; build = build->next_of_service) {
        decide_build_end(world, build,
                         &(struct build_end){BUILD_CANCELLED, "service_removed", detail, ""});
    }
    for (struct release *rel = svc->first_release; rel; rel = rel->next_of_service) {
        decide_release_reject(world, rel, "service_removed", detail);
    }
    for (struct deployment *dep = svc->first_deployment; dep; dep = dep->next_of_service) {
        decide_deployment_end(
            world, dep, &(struct deployment_end){DEPLOYMENT_CANCELLED, "service_removed", detail});
    }
    for (struct desired *desired = svc->first_desired; desired;
         desired = desired->next_of_service) {
        decide_nothing(world, desired);
    }
    world_why(world, &(struct why){svc->id, "service", svc->id, "service_removed", "removed"}, "%s",
              detail);
}
