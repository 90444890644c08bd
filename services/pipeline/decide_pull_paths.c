/* What a pull request changes is in no event of a host. When a service that watches paths would
 * take its head, the delivery waits, as a push with a cut list does, until `sweeper` has held the
 * head against the place where it left its base branch. No answer counts as "everything". */
#include <string.h>

#include "bus/topics.h"
#include "pulls.h"

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool wants_paths(struct world *world, const struct pull *pull)
{
    for (struct service *svc = world->first_service; svc && !world_too_large(world);
         svc = svc->next) {
        if (svc->removed || !is(svc->repo_key, pull->repo_key) ||
            world_service_spec(world, svc)->n_watch_paths == 0) {
            continue;
        }
        const char *rule = pull_filter(world, svc, pull).rule;
        if (!rule || is(rule, "fork_of_stranger")) { /* nobody is asked to approve for nothing */
            return true;
        }
    }
    return false;
}

static void ask(struct world *world, const struct delivery *row, const struct pull *pull)
{
    Enclii__V1__PathsWanted *fact = world_message(world, &enclii__v1__paths_wanted__descriptor);
    fact->delivery_id = world_text(world, row->id);
    fact->repo_key = world_text(world, pull->repo_key);
    fact->head_ref = world_text(world, pull->ref);
    fact->head_sha = world_text(world, pull->head_sha);
    fact->base_ref = ec_arena_format(world->arena, "refs/heads/%s", pull->base_ref);
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_INTAKE,
                                          .key = pull->repo_key,
                                          .type = "dev.enclii.paths.wanted.v1",
                                          .subject = row->id,
                                          .body = &fact->base});
}

static bool waits(const struct delivery *row, const struct pull *pull)
{
    return row->cell.state == DELIVERY_COMPARING && row->pull_request == pull->number &&
           is(row->repo_key, pull->repo_key);
}

bool decide_pull_waits(struct world *world, struct delivery *row, const struct pull *pull)
{
    if (!wants_paths(world, pull)) {
        return false;
    }
    machine_move(&row->cell, DELIVERY_COMPARING, world->now_ms, 0);
    row->reason = "paths_unknown";
    row->detail = ec_arena_format(world->arena,
                                  "waits for the list of files that pull request #%d "
                                  "changes",
                                  pull->number);
    world_why(world, &(struct why){NULL, "delivery", row->id, row->reason, "comparing"}, "%s",
              row->detail);
    ask(world, row, pull);
    return true;
}

void decide_pull_waits_end(struct world *world, const struct pull *pull, const char *rule,
                           const char *detail)
{
    for (struct delivery *row = world->first_delivery; row; row = row->next) {
        if (waits(row, pull)) {
            delivery_ignore(world, row, NULL, &(struct filter){rule, detail});
        }
    }
}

void decide_pull_compared(struct world *world, struct delivery *row,
                          const Enclii__V1__PushCompared *word)
{
    struct pull *pull = world->first_pull;
    while (pull &&
           !(waits(row, pull) && is(pull->head_sha, row->commit_sha) && is(pull->state, "open"))) {
        pull = pull->next;
    }
    if (!pull) {
        delivery_ignore(world, row, NULL,
                        &(struct filter){"older_word", "the pull request is another one by now"});
        return;
    }
    pull->compared = word && word->complete ? word : NULL;
    row->reason = row->detail = "";
    pull_take(world, row, pull);
    pull->compared = NULL; /* another delivery may be about another base branch */
}
