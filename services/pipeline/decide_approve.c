/* Approvals. One person says of one commit of one pull request that a service may have it: it is
 * built if it was not yet, and its release may then be deployed by hand. The next commit needs its
 * own approval: what was looked at is what is approved. */
#include <string.h>

#include "bus/topics.h"
#include "pulls.h"

const char *want_request_approve(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__RequestApprove *req = body;
    if (req->pull_request <= 0 || !*req->commit_sha) {
        return "an approval without pull request or commit";
    }
    want(wanted, &wanted->commits, req->commit_sha);
    if (strcmp(key, req->service_id) != 0) {
        return "the key is not the service's id";
    }
    return want_service(wanted, key);
}

/* ---- what is told ---- */

static void tell(struct world *world, const struct service *svc, const char *how,
                 const ProtobufCMessage *body)
{
    world_fact(world, &(struct fact_spec){
                          .topic = EC_TOPIC_BUILD_EVENTS,
                          .key = svc->id,
                          .type = ec_arena_format(world->arena, "dev.enclii.approval.%s.v1", how),
                          .subject = svc->id,
                          .body = body});
}

static Enclii__V1__Commit *commit_of(struct world *world, const char *sha, const struct pull *pull)
{
    Enclii__V1__Commit *commit = world_message(world, &enclii__v1__commit__descriptor);
    commit->sha = world_text(world, sha);
    commit->ref = world_text(world, pull ? pull->ref : "");
    commit->message = world_text(world, pull ? pull->title : "");
    return commit;
}

const char *approval_command(struct world *world, const struct service *svc,
                             const struct pull *pull)
{
    return ec_arena_format(world->arena, "enclii approve %d --commit %.12s --service %s",
                           pull->number, pull->head_sha, svc->name);
}

void approval_need(struct world *world, const struct service *svc, struct pull *pull)
{
    if (strstr(pull->asked_of, svc->id)) {
        return;
    }
    Enclii__V1__ApprovalNeeded *fact =
        world_message(world, &enclii__v1__approval_needed__descriptor);
    fact->service = world_service_ref(world, svc);
    fact->commit = commit_of(world, pull->head_sha, pull);
    fact->pull_request = world_pull_ref(world, pull->number, false, pull->author);
    fact->repo_key = world_text(world, pull->repo_key);
    fact->title = world_text(world, pull->title);
    fact->url = world_text(world, pull->url);
    fact->author_association = world_text(world, pull->author_association);
    fact->command = world_text(world, approval_command(world, svc, pull));
    tell(world, svc, "needed", &fact->base);
    pull->asked_of = ec_arena_format(world->arena, "%s%s%s", pull->asked_of,
                                     *pull->asked_of ? " " : "", svc->id);
    world_touch(&pull->mark);
}

/* Of a commit that is the head of `pull`, or was once (then it is NULL). */
struct ended {
    const struct service *service;
    const struct pull *pull;
    int32_t number;
    const char *sha, *by, *reason;
};

static void tell_ended(struct world *world, const char *how, const struct ended *end)
{
    Enclii__V1__ApprovalEnded *fact = world_message(world, &enclii__v1__approval_ended__descriptor);
    const struct pull *pull = end->pull;
    fact->service = world_service_ref(world, end->service);
    fact->commit = commit_of(world, end->sha, pull);
    fact->pull_request = world_pull_ref(world, end->number, false, pull ? pull->author : "");
    fact->repo_key = world_text(world, end->service->repo_key);
    fact->url = world_text(world, pull ? pull->url : "");
    fact->by = world_text(world, end->by);
    fact->reason = world_text(world, end->reason);
    tell(world, end->service, how, &fact->base);
}

static bool was_built(const struct service *svc, const char *sha)
{
    const struct build *b = svc->first_build;
    while (b && strcmp(b->commit_sha, sha) != 0) {
        b = b->next_of_service;
    }
    return b != NULL;
}

void approval_end(struct world *world, struct pull *pull, const char *how, const char *reason)
{
    for (const struct service *svc = world->first_service; svc; svc = svc->next) {
        if (strstr(pull->asked_of, svc->id) && !was_built(svc, pull->head_sha) &&
            !world_approval(world, svc, pull->number, pull->head_sha)) {
            tell_ended(world, how,
                       &(struct ended){svc, pull, pull->number, pull->head_sha, "", reason});
        }
    }
    if (*pull->asked_of) {
        pull->asked_of = "";
        world_touch(&pull->mark);
    }
}

/* ---- asked for ---- */

static const char *name_of(const Enclii__V1__RequestApprove *req)
{
    return req->actor && *req->actor->name ? req->actor->name : "somebody";
}

static void refuse(struct world *world, const struct service *svc,
                   const Enclii__V1__RequestApprove *req, const char *rule, const char *detail)
{
    struct why why = {svc ? svc->id : NULL, "request", req->request_id, rule, "refused"};
    world_why(world, &why, "%s", detail);
    if (svc) {
        tell_ended(
            world, "refused",
            &(struct ended){svc, NULL, req->pull_request, req->commit_sha, name_of(req), detail});
    }
}

/* The pull request whose head this commit is now. */
static struct pull *pull_of(const struct world *world, const struct service *svc,
                            const Enclii__V1__RequestApprove *req)
{
    struct pull *pull = world->first_pull;
    while (pull &&
           (pull->number != req->pull_request || strcmp(pull->repo_key, svc->repo_key) != 0 ||
            strcmp(pull->head_sha, req->commit_sha) != 0)) {
        pull = pull->next;
    }
    return pull;
}

struct let_in {
    size_t builds;
    bool open_or_built;
};

/* Marks what was made of the commit already. */
static struct let_in let_in(struct world *world, struct service *svc,
                            const Enclii__V1__RequestApprove *req, const char *by)
{
    struct let_in found = {0};
    for (struct build *b = svc->first_build; b; b = b->next_of_service) {
        if (b->pull_request != req->pull_request || strcmp(b->commit_sha, req->commit_sha) != 0) {
            continue;
        }
        found.builds++;
        found.open_or_built =
            found.open_or_built || !machine_ended(&b->cell) || b->cell.state == BUILD_SUCCEEDED;
        b->approved_by = by;
        world_touch(&b->mark);
        struct why why = {svc->id, "build", b->id, "approved", machine_text(&b->cell)};
        world_why(world, &why, "%s approved commit %.12s of pull request #%d%s%s", by,
                  b->commit_sha, b->pull_request, *req->reason ? ": " : "", req->reason);
    }
    for (struct release *r = svc->first_release; r; r = r->next_of_service) {
        if (r->pull_request == req->pull_request && strcmp(r->commit_sha, req->commit_sha) == 0) {
            r->approved_by = by;
            world_touch(&r->mark);
            struct why why = {svc->id, "release", r->id, "approved", machine_text(&r->cell)};
            world_why(world, &why, "%s approved it; deploy it: enclii deploy --release %s", by,
                      r->version);
        }
    }
    return found;
}

void decide_request_approve(struct world *world, const void *body)
{
    const Enclii__V1__RequestApprove *req = body;
    struct service *svc = world_service(world, req->service_id);
    if (!svc || svc->removed) {
        refuse(world, svc, req, "unknown_service", "there is no such service, or it was removed");
        return;
    }
    const Enclii__V1__Actor *actor =
        req->actor ? req->actor : world_message(world, &enclii__v1__actor__descriptor);
    const char *by = world_text(world, name_of(req));
    const struct pull *pull = pull_of(world, svc, req);
    struct let_in found = let_in(world, svc, req, by);
    if (!pull && found.builds == 0) {
        refuse(world, svc, req, "unknown_pull_request",
               ec_arena_format(world->arena,
                               "commit %.12s is not the head of pull request #%d, and nothing was "
                               "built of it",
                               req->commit_sha, req->pull_request));
        return;
    }
    world_touch(&svc->mark); /* a build begun at the same time must see the approval */
    if (!world_approval(world, svc, req->pull_request, req->commit_sha)) {
        tell_ended(world, "given",
                   &(struct ended){svc, pull, req->pull_request, req->commit_sha, by, req->reason});
    }
    world_add_approval(world, &(struct approval){.service = svc,
                                                 .pull_request = req->pull_request,
                                                 .commit_sha = world_text(world, req->commit_sha),
                                                 .approved_by = by,
                                                 .approved_by_id = world_text(world, actor->id),
                                                 .reason = world_text(world, req->reason),
                                                 .mark = ROW_NEW});
    if (!pull || found.open_or_built || strcmp(pull->state, "open") != 0 || !*pull->ref) {
        return; /* there is something to deploy already, or nothing to build */
    }
    if (strcmp(world_service_spec(world, svc)->pull_requests, "off") == 0) {
        struct why why = {svc->id, "request", req->request_id, "pull_requests_off", "not built"};
        world_why(world, &why, "the approval is kept, but the service builds no pull requests");
        return;
    }
    decide_build_pull(world, svc, pull, actor);
}
