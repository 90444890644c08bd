/* A pull request of a stranger's fork in a world of one service: for tests of the deciders. */
#pragma once

#include "support.h"

#define SHA_1 "1111111111111111111111111111111111111111"
#define SHA_2 "2222222222222222222222222222222222222222"
#define REPO_KEY "h/acme/shop"

static inline struct world *world_of(const char *pull_requests, bool wait_for_ci)
{
    struct world *w = test_world();
    struct service *svc = test_service(w, 1, PROJECT);
    Enclii__V1__ServiceSpec *spec = world_spec(w, svc->spec);
    Enclii__V1__BuildSpec *build = world_message(w, &enclii__v1__build_spec__descriptor);
    Enclii__V1__BuildSpec__ArgsEntry *arg =
        world_message(w, &enclii__v1__build_spec__args_entry__descriptor);
    spec->pull_requests = world_text(w, pull_requests);
    spec->wait_for_ci = wait_for_ci;
    arg->key = world_text(w, "NPM_TOKEN");
    arg->value = world_text(w, "hunter2");
    build->args = &arg;
    build->n_args = 1;
    spec->build = build;
    world_respec(w, svc, spec);
    world_add_builder(
        w, &(struct builder){
               .id = "builder", .slots = 9, .cached_repos = "[]", .version = "", .heard_ms = NOW});
    return w;
}

static inline Enclii__V1__DeliveryInfo *info(struct world *w, const char *action)
{
    static int serial;
    Enclii__V1__DeliveryInfo *made = world_message(w, &enclii__v1__delivery_info__descriptor);
    made->delivery_id = ec_arena_format(w->arena, "d-%d", ++serial);
    made->host = world_text(w, "github");
    made->event = world_text(w, "pull_request");
    made->action = world_text(w, action);
    made->repo_key = world_text(w, REPO_KEY);
    made->sender = world_text(w, "eve");
    return made;
}

/* A pull request of a stranger's fork; tests change what they are about. */
static inline Enclii__V1__PullRequestChanged *pull(struct world *w, const char *action,
                                                   const char *sha)
{
    Enclii__V1__PullRequestChanged *pr =
        world_message(w, &enclii__v1__pull_request_changed__descriptor);
    pr->delivery = info(w, action);
    pr->number = 7;
    pr->title = world_text(w, "Add a cat");
    pr->head_sha = world_text(w, sha);
    pr->head_ref = world_text(w, "cat");
    pr->base_ref = world_text(w, "main");
    pr->from_fork = true;
    pr->author = world_text(w, "eve");
    pr->author_association = world_text(w, "NONE");
    return pr;
}

static inline const struct delivery *tell(struct world *w, Enclii__V1__PullRequestChanged *pr)
{
    test_event(w, "pull_request.changed", NULL, &pr->base);
    return world_delivery(w, pr->delivery->delivery_id);
}

static inline void approve(struct world *w, const char *sha)
{
    Enclii__V1__RequestApprove *req = world_message(w, &enclii__v1__request_approve__descriptor);
    req->actor = world_message(w, &enclii__v1__actor__descriptor);
    req->actor->name = world_text(w, "ada");
    req->service_id = world_text(w, w->first_service->id);
    req->pull_request = 7;
    req->commit_sha = world_text(w, sha);
    test_event(w, "request.approve", NULL, &req->base);
}

static inline struct build *last_build(const struct world *w)
{
    struct build *last = NULL;
    for (struct build *b = w->first_build; b; b = b->next) {
        last = b;
    }
    return last;
}

static inline Enclii__V1__RunBuild *lease(struct world *w)
{
    struct lease leases[4];
    size_t count = decide_queue(w, NULL, leases, EC_LEN(leases));
    Enclii__V1__RunBuild *run = NULL;
    for (size_t i = 0; i < count; i++) {
        decide_lease(w, &leases[i]);
    }
    for (struct fact *f = w->first_fact; f; f = f->next) {
        if (strcmp(f->type, "dev.enclii.build.run.v1") == 0) {
            run = enclii__v1__run_build__unpack(&w->allocator, f->body.len,
                                                (const uint8_t *)f->body.ptr);
        }
    }
    return run;
}
