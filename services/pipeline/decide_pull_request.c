/* Pull requests. A head is built for each service of the base repository whose branch rule matches
 * the branch it wants to go to, from a ref of that same repository: nothing of a fork's address is
 * ever used. Code from a fork stays untrusted whoever wrote it; the author's association only says
 * whether it is built without being asked for. What was built of a pull request is never deployed
 * by itself, and what is untrusted only once a member has approved that very commit. */
#include <string.h>

#include "base/mem.h"
#include "bus/topics.h"
#include "pulls.h"

const char *want_pull_request(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__PullRequestChanged *word = body;
    const char *bad = want_host_event(wanted, key, body);
    if (bad) {
        return bad;
    }
    if (word->number <= 0 || word->number > INT32_MAX) {
        return "the number of the pull request must be from 1 to 2147483647";
    }
    const char *repo_key = word->delivery->repo_key;
    want(wanted, &wanted->repos, repo_key);
    want(wanted, &wanted->pulls,
         ec_arena_format(wanted->arena, "%s#%lld", repo_key, (long long)word->number));
    want(wanted, &wanted->commits, word->head_sha);
    return NULL;
}

/* ---- what is known of it ---- */

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool is_whole_sha(const char *sha)
{
    size_t len = strlen(sha);
    return len == 40 || len == 64;
}

/* Where the base repository keeps the head. Without such a ref only branches of the repository
 * itself can be had. */
static const char *ref_of(struct world *world, const Enclii__V1__PullRequestChanged *word)
{
    const char *host = word->delivery->host;
    long long number = (long long)word->number;
    if (is(host, "github") || is(host, "gitea")) {
        return ec_arena_format(world->arena, "refs/pull/%lld/head", number);
    }
    if (is(host, "gitlab")) {
        return ec_arena_format(world->arena, "refs/merge-requests/%lld/head", number);
    }
    return word->from_fork || !*word->head_ref
               ? ""
               : ec_arena_format(world->arena, "refs/heads/%s", word->head_ref);
}

static void learn(struct world *world, struct pull *pull, const struct delivery *row,
                  const Enclii__V1__PullRequestChanged *word)
{
    bool closed = is(word->delivery->action, "closed");
    if (!is(pull->head_sha, word->head_sha)) {
        approval_end(world, pull, "superseded", "a newer commit took its place");
        decide_pull_waits_end(world, pull, "newer_head", "the pull request has a newer head");
    }
    pull->state = closed ? word->merged ? "MERGED" : "CLOSED" : "open";
    pull->title = world_text(world, word->title);
    pull->url = world_text(world, word->url);
    pull->ref = ref_of(world, word);
    if (!is(pull->head_sha, word->head_sha)) {
        pull->delivery_id = row->id;
    }
    pull->head_sha = world_text(world, word->head_sha);
    pull->base_ref = world_text(world, word->base_ref);
    pull->from_fork = word->from_fork;
    pull->draft = word->draft;
    pull->author = world_text(world, word->author);
    pull->author_association = world_text(world, word->author_association);
    pull->host_updated_ms = word->updated_unix_ms;
    world_touch(&pull->mark);
}

/* ---- whether a head is built ---- */

/* People with a right of their own in the repository, as the host tells it. A "CONTRIBUTOR" had
 * something merged once; that is no right. */
bool decide_is_member(const char *association)
{
    static const char *const members[] = {"OWNER", "MEMBER", "COLLABORATOR"};
    for (size_t i = 0; i < EC_LEN(members); i++) {
        if (is(association, members[i])) {
            return true;
        }
    }
    return false;
}

/* A build of this head that makes another one needless. One of untrusted code does not stand for
 * trusted code, nor for another pull request, which has approvals of its own. */
static const struct build *built(const struct service *svc, const struct pull *pull)
{
    for (const struct build *b = svc->first_build; b; b = b->next_of_service) {
        bool counts = !machine_ended(&b->cell) || b->cell.state == BUILD_SUCCEEDED;
        if (counts && is(b->commit_sha, pull->head_sha) &&
            (b->trusted || b->pull_request == pull->number)) {
            return b;
        }
    }
    return NULL;
}

static struct filter filter_fork(struct world *world, const struct service *svc,
                                 const struct pull *pull, const char *rule)
{
    struct filter none = {NULL, NULL};
    if (!pull->from_fork || is(rule, "all") || decide_is_member(pull->author_association) ||
        world_approval(world, svc, pull->number, pull->head_sha)) {
        return none;
    }
    const char *author = *pull->author ? pull->author : "somebody unknown";
    const char *link = *pull->author_association ? pull->author_association : "no association told";
    return (struct filter){
        "fork_of_stranger",
        ec_arena_format(world->arena,
                        "pull request #%d of %s (%s) comes from a fork; a member of the project "
                        "looks at it, then: %s",
                        pull->number, author, link, approval_command(world, svc, pull))};
}

static struct filter filter_head(struct world *world, const struct pull *pull)
{
    if (!*pull->ref || !is_whole_sha(pull->head_sha)) {
        return (struct filter){
            "head_not_reachable",
            "the host keeps no ref of a pull request's head, or does not name its whole commit id; "
            "push it to a branch of the repository"};
    }
    const char *marker = decide_skip_marker(world->arena, world->rules->skip_markers, pull->title);
    return marker ? (struct filter){"skip_marker",
                                    ec_arena_format(world->arena, "the title says %s", marker)}
                  : (struct filter){NULL, NULL};
}

/* What is there already needs nobody's approval, and what a service does not watch neither. */
static struct filter filter_built(struct world *world, const struct service *svc,
                                  const struct pull *pull)
{
    const struct build *there = built(svc, pull);
    if (!there) {
        return (struct filter){NULL, NULL};
    }
    bool open = !machine_ended(&there->cell);
    return (struct filter){open ? "already_building" : "already_built",
                           ec_arena_format(world->arena, "build #%d %s this commit", there->number,
                                           open ? "works on" : "was made of")};
}

struct filter pull_filter(struct world *world, struct service *svc, const struct pull *pull)
{
    const char *rule = world_service_spec(world, svc)->pull_requests;
    const char *base = ec_arena_format(world->arena, "refs/heads/%s", pull->base_ref);
    if (is(rule, "off")) {
        return (struct filter){"pull_requests_off",
                               "the service builds no pull requests (pullRequests: off)"};
    }
    if (!decide_branch(svc->branch, base)) {
        return (struct filter){
            "branch_not_watched",
            ec_arena_format(world->arena,
                            "pull request #%d wants to go to %s, the service builds "
                            "%s",
                            pull->number, pull->base_ref, svc->branch)};
    }
    struct filter filter = filter_head(world, pull);
    filter = filter.rule ? filter : filter_built(world, svc, pull);
    if (!filter.rule && pull->compared) {
        filter = decide_paths(world, svc, pull->compared->changed_paths,
                              pull->compared->n_changed_paths);
    }
    return filter.rule ? filter : filter_fork(world, svc, pull, rule);
}

struct build *decide_build_pull(struct world *world, struct service *svc, const struct pull *pull,
                                const Enclii__V1__Actor *actor)
{
    Enclii__V1__Commit *commit = world_message(world, &enclii__v1__commit__descriptor);
    commit->sha = world_text(world, pull->head_sha);
    commit->ref = world_text(world, pull->ref);
    commit->message = world_text(world, pull->title);
    commit->author_name = world_text(world, pull->author);
    return decide_new_build(world, &(struct build_order){
                                       .service = svc,
                                       .commit = commit,
                                       .actor = actor,
                                       .delivery_id = pull->delivery_id,
                                       .priority = pull->draft ? PRIORITY_DRAFT : PRIORITY_PULL,
                                       .pull = pull,
                                   });
}

/* ---- what comes of a delivery ---- */

static Enclii__V1__Commit *commit_of(struct world *world, const struct delivery *row)
{
    Enclii__V1__Commit *commit = world_message(world, &enclii__v1__commit__descriptor);
    commit->sha = world_text(world, row->commit_sha);
    commit->ref = world_text(world, row->ref);
    return commit;
}

void pull_take(struct world *world, struct delivery *row, struct pull *pull)
{
    struct filter reason = {"no_service", "no service is bound to this repository"};
    Enclii__V1__DeliveryAccepted *fact = delivery_fact(world);
    Enclii__V1__Actor *actor = world_message(world, &enclii__v1__actor__descriptor);
    actor->kind = ENCLII__V1__ACTOR_KIND__ACTOR_KIND_GIT;
    actor->name = world_text(world, row->pusher);
    for (struct service *svc = world->first_service; svc && !world_too_large(world);
         svc = svc->next) {
        if (!is(svc->repo_key, pull->repo_key) || svc->removed) {
            continue;
        }
        struct filter filter = pull_filter(world, svc, pull);
        if (filter.rule) {
            reason = filter;
            if (is(filter.rule, "fork_of_stranger")) {
                approval_need(world, svc, pull);
            }
            world_why(world, &(struct why){svc->id, "delivery", row->id, filter.rule, "not built"},
                      "%s", filter.detail);
            continue;
        }
        delivery_add_build(world, fact, decide_build_pull(world, svc, pull, actor));
    }
    if (fact->n_build_ids > 0) {
        row->detail = ec_arena_format(world->arena, "%zu build(s) of its head", fact->n_build_ids);
        delivery_accept(world, row, commit_of(world, row), fact);
    } else {
        delivery_ignore(world, row, commit_of(world, row), &reason);
    }
}

static void close_pull(struct world *world, struct delivery *row, struct pull *pull)
{
    const char *how = is(pull->state, "MERGED") ? "merged" : "closed";
    const char *detail =
        ec_arena_format(world->arena, "pull request #%d was %s", pull->number, how);
    approval_end(world, pull, "lapsed", ec_arena_format(world->arena, "it was %s", how));
    decide_pull_waits_end(world, pull, "pull_request_closed", detail);
    for (struct service *svc = world->first_service; svc; svc = svc->next) {
        struct build *build = is(svc->repo_key, pull->repo_key) ? svc->first_build : NULL;
        for (; build; build = build->next_of_service) {
            if (build->pull_request == pull->number) {
                decide_build_end(
                    world, build,
                    &(struct build_end){BUILD_CANCELLED, "pull_request_closed", detail, ""});
            }
        }
    }
    machine_move(&row->cell, DELIVERY_ACCEPTED, world->now_ms, 0);
    row->detail = detail;
}

/* A new head, or one that may be built now: reopened, no draft any more, another base branch. */
static bool brings_head(const Enclii__V1__PullRequestChanged *word, const char *old_base)
{
    static const char *const words[] = {"opened", "synchronize", "reopened", "ready_for_review"};
    for (size_t i = 0; i < EC_LEN(words); i++) {
        if (is(word->delivery->action, words[i])) {
            return true;
        }
    }
    return is(word->delivery->action, "edited") && *old_base && !is(old_base, word->base_ref);
}

void decide_pull_request(struct world *world, const void *body)
{
    const Enclii__V1__PullRequestChanged *word = body;
    const Enclii__V1__DeliveryInfo *info = word->delivery;
    struct delivery *row = decide_ledger(world, info, DELIVERY_RECEIVED, "", "");
    if (!row) {
        return; /* the host sent it again */
    }
    const char *id = pull_id(world, info->repo_key, word->number);
    struct pull *pull = world_pull(world, id);
    if (!pull) {
        pull = world_add_pull(world, &(struct pull){.id = id,
                                                    .repo_key = world_text(world, info->repo_key),
                                                    .number = (int32_t)word->number,
                                                    .head_sha = "",
                                                    .base_ref = "",
                                                    .delivery_id = "",
                                                    .asked_of = "",
                                                    .mark = ROW_NEW});
    } else if (word->updated_unix_ms > 0 && word->updated_unix_ms < pull->host_updated_ms) {
        delivery_ignore(
            world, row, commit_of(world, row),
            &(struct filter){"older_word", "the host has told a later state of this pull request"});
        return;
    }
    const char *old_base = pull->base_ref;
    learn(world, pull, row, word);
    if (is(info->action, "closed")) {
        close_pull(world, row, pull);
    } else if (brings_head(word, old_base)) {
        row->ref = *pull->ref ? pull->ref : "";
        row->commit_sha = pull->head_sha;
        row->pull_request = pull->number;
        decide_pull_waits_end(world, pull, "newer_head", "a later word about its head counts");
        if (!decide_pull_waits(world, row, pull)) {
            pull_take(world, row, pull);
        }
    } else {
        machine_move(&row->cell, DELIVERY_ACCEPTED, world->now_ms, 0);
        row->detail = ec_arena_format(world->arena, "pull request #%d was %s: nothing to build",
                                      pull->number, row->action);
    }
}
