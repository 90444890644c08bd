/* A push whose list of paths may not be whole (GitLab lists 20 commits, GitHub 2048, a forced push
 * tells nothing of what it took away, and GitLab and Gitea do not say which are forced) may still
 * be nothing to a service that watches paths. Unless what is listed concerns it already, the push
 * waits, for half a minute at most, for `sweeper` to find out what it changed; no answer counts as
 * "everything". */
#include <string.h>

#include "pulls.h"

static bool listed(const Enclii__V1__ServiceSpec *spec, const Enclii__V1__PushReceived *push)
{
    for (size_t i = 0; i < push->n_changed_paths; i++) {
        if (paths_match(spec->watch_paths, spec->n_watch_paths, push->changed_paths[i])) {
            return true;
        }
    }
    return false;
}

/* It depends on the rest of the list whether the service builds this push. */
static bool doubts(struct world *world, struct service *svc, const Enclii__V1__PushReceived *push)
{
    if (svc->removed || strcmp(svc->repo_key, push->repo_key) != 0 ||
        !decide_branch(svc->branch, push->ref)) {
        return false;
    }
    const Enclii__V1__ServiceSpec *spec = world_service_spec(world, svc);
    return spec->n_watch_paths > 0 && !listed(spec, push);
}

/* The sweeper has tried for its own, and what a person asks for is built. */
static bool wants_paths(struct world *world, const Enclii__V1__PushReceived *push)
{
    if (push->changed_paths_complete || push->created || push->recovered || push->by_hand) {
        return false;
    }
    for (struct service *svc = world->first_service; svc && !world_too_large(world);
         svc = svc->next) {
        if (doubts(world, svc, push)) {
            return true;
        }
    }
    return false;
}

/* Of the repository as it is called now: it may have been renamed since. */
static Enclii__V1__PushReceived *kept_push(struct world *world, const struct delivery *row)
{
    Enclii__V1__PushReceived *push = enclii__v1__push_received__unpack(
        &world->allocator, row->push.len, (const uint8_t *)row->push.ptr);
    if (push) {
        push->repo_key = world_text(world, row->repo_key);
    }
    return push;
}

/* What an older push changed is not known: the newer one is built for both. */
static bool take_over(struct world *world, const Enclii__V1__PushReceived *push)
{
    bool any = false;
    for (struct delivery *row = world->first_delivery; row; row = row->next) {
        if (row->cell.state != DELIVERY_COMPARING || row->pull_request > 0 ||
            strcmp(row->repo_key, push->repo_key) != 0 || strcmp(row->ref, push->ref) != 0) {
            continue;
        }
        const Enclii__V1__PushReceived *older = kept_push(world, row);
        if (older) {
            push_ignore(world, row, older,
                        &(struct filter){"newer_push", "a newer push to it is built for both"});
            any = true;
        }
    }
    return any;
}

bool decide_compare_waits(struct world *world, struct delivery *row, Enclii__V1__PushReceived *push)
{
    if (take_over(world, push)) {
        push->changed_paths_complete = false;
        return false;
    }
    if (!wants_paths(world, push)) {
        return false;
    }
    machine_move(&row->cell, DELIVERY_COMPARING, world->now_ms, 0);
    row->reason = "paths_unknown";
    row->detail = "waits for the list of changed files, which the host cut";
    world_why(world, &(struct why){NULL, "delivery", row->id, row->reason, "comparing"}, "%s",
              row->detail);
    return true;
}

void decide_compared(struct world *world, const void *body)
{
    const Enclii__V1__PushCompared *word = body;
    struct delivery *row = delivery_find(world, word->repo_key, word->delivery_id);
    if (!row || row->cell.state != DELIVERY_COMPARING) {
        return; /* nobody waits for it (any more) */
    }
    if (row->pull_request > 0) {
        decide_pull_compared(world, row, word);
        return;
    }
    Enclii__V1__PushReceived *push = kept_push(world, row);
    if (!push) {
        return;
    }
    push->n_changed_paths = word->n_changed_paths;
    push->changed_paths = word->changed_paths;
    push->changed_paths_complete = word->complete;
    push_take(world, row, push);
}

void decide_delivery_overdue(struct world *world, struct delivery *row)
{
    world->cause.id =
        ec_arena_format(world->arena, "deadline/delivery/%s/%lld", row->id, (long long)row->cas);
    world->cause.trace = row->trace;
    if (row->pull_request > 0) {
        decide_pull_compared(world, row, NULL);
        return;
    }
    Enclii__V1__PushReceived *push = kept_push(world, row);
    if (push) {
        push->changed_paths_complete = false;
        push_take(world, row, push);
    }
}
