/* What Bitbucket delivers: the cloud ("repo:push", several refs in one delivery, never a list of
 * changed paths) and the server ("repo:refs_changed"). Pure. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "spec/spec.h"
#include "webhook.h"

#define ZEROS "0000000000000000000000000000000000000000"

/* The server has no page link; it lists clone addresses, when it lists any. */
struct claim claim_bitbucket(struct ec_arena *arena, const struct host *host,
                             const struct ec_tape *tape)
{
    struct claim claim = claim_paths(arena, host, tape);
    const struct ec_node *root = ec_tape_root(tape);
    const struct ec_node *links = ec_tape_at(tape, root, "repository.links.clone");
    for (const struct ec_node *n = ec_tape_first(tape, links); n;
         n = ec_tape_next(tape, links, n)) {
        if (ec_span_starts(ec_tape_raw(tape, ec_tape_at(tape, n, "name")), "http")) {
            const char *url = map_short(arena, tape, ec_tape_at(tape, n, "href"));
            claim.url = url ? url : "";
            claim.key = strlen(claim.url) <= TEXT_MAX_BYTES ? ec_repo_key(arena, claim.url) : NULL;
            break;
        }
    }
    if (!*claim.id) {
        claim.id = map_id(arena, tape, root, "repository.id");
    }
    if (!*claim.full_name) {
        const char *project =
            map_short(arena, tape, ec_tape_at(tape, root, "repository.project.key"));
        const char *slug = map_short(arena, tape, ec_tape_at(tape, root, "repository.slug"));
        claim.full_name = ec_arena_format(arena, "%s/%s", project ? project : "", slug ? slug : "");
    }
    return claim;
}

/* Every ref of a delivery is a push of its own, with an id of its own. */
static char *id_of_change(const struct mapping *m, size_t index)
{
    return index == 0 ? ec_arena_strdup(m->arena, m->delivery_id)
                      : ec_arena_format(m->arena, "%s#%zu", m->delivery_id, index + 1);
}

static const char *or_zeros(const char *sha)
{
    return *sha ? sha : ZEROS;
}

/* "Ann Ex <ann@example.org>" */
static void split_author(const struct mapping *m, const struct ec_node *target,
                         Enclii__V1__Commit *commit)
{
    const char *raw = map_text(m, target, "author.raw");
    const char *open = strchr(raw, '<'), *close = open ? strchr(open, '>') : NULL;
    size_t len = open ? (size_t)(open - raw) : strlen(raw);
    while (len > 0 && raw[len - 1] == ' ') {
        len--;
    }
    commit->author_name = ec_arena_text(m->arena, (struct ec_span){raw, len});
    if (close) {
        commit->author_email =
            ec_arena_text(m->arena, (struct ec_span){open + 1, (size_t)(close - open - 1)});
    }
}

static struct fault map_change(struct mapping *m, const struct ec_node *change, size_t index)
{
    const struct ec_node *target = ec_tape_at(m->tape, change, "new.target");
    const char *side = target ? "new" : "old";
    const char *name = map_text(m, change, ec_arena_format(m->arena, "%s.name", side));
    const char *type = map_text(m, change, ec_arena_format(m->arena, "%s.type", side));
    Enclii__V1__PushReceived *push = push_new(m);
    const char *ref = *name ? ec_arena_format(m->arena, "refs/%s/%s",
                                              strcmp(type, "tag") == 0 ? "tags" : "heads", name)
                            : "";
    struct fault fault = push_ref(m, push, ref, or_zeros(map_text(m, change, "old.target.hash")),
                                  or_zeros(map_text(m, change, "new.target.hash")));
    if (fault.field) {
        return fault;
    }
    push->delivery_id = id_of_change(m, index);
    push->forced = ec_tape_bool(m->tape, change, "forced", false);
    push->pusher = map_text(m, m->root, "actor.nickname");
    push_head(m, push, target);
    if (push->head) {
        split_author(m, target, push->head);
    }
    map_out(m, "dev.enclii.push.received.v1", push->repo_key, &push->base);
    return no_fault;
}

static struct fault each_change(struct mapping *m, const struct ec_node *list,
                                struct fault (*map)(struct mapping *, const struct ec_node *,
                                                    size_t))
{
    size_t index = 0;
    for (const struct ec_node *n = ec_tape_first(m->tape, list); n;
         n = ec_tape_next(m->tape, list, n)) {
        if (m->out_full) {
            return no_fault; /* which it is not: decide_delivery */
        }
        struct fault fault = map(m, n, index++);
        if (fault.field) {
            return fault;
        }
    }
    return index > 0 ? no_fault : map_ignore(m, "no_change", "the delivery names no ref");
}

struct fault map_bitbucket_push(struct mapping *m, const struct event_row *row)
{
    (void)row;
    return each_change(m, ec_tape_at(m->tape, m->root, "push.changes"), map_change);
}

static struct fault map_server_change(struct mapping *m, const struct ec_node *change, size_t index)
{
    Enclii__V1__PushReceived *push = push_new(m);
    struct fault fault = push_ref(m, push, map_text(m, change, "ref.id"),
                                  map_text(m, change, "fromHash"), map_text(m, change, "toHash"));
    if (fault.field) {
        return fault;
    }
    push->delivery_id = id_of_change(m, index);
    push->pusher = map_text(m, m->root, "actor.name");
    push_head(m, push, ec_tape_at(m->tape, m->root, "toCommit"));
    map_out(m, "dev.enclii.push.received.v1", push->repo_key, &push->base);
    return no_fault;
}

struct fault map_bitbucket_server_push(struct mapping *m, const struct event_row *row)
{
    (void)row;
    return each_change(m, ec_tape_at(m->tape, m->root, "changes"), map_server_change);
}

/* ---- pull requests, renames, builds ---- */

#define PR(member) offsetof(Enclii__V1__PullRequestChanged, member)
static const struct field pull_request_fields[] = {
    {"pullrequest.id", PR(number), FIELD_INT},
    {"pullrequest.title", PR(title), FIELD_TEXT},
    {"pullrequest.links.html.href", PR(url), FIELD_TEXT},
    {"pullrequest.source.branch.name", PR(head_ref), FIELD_TEXT},
    {"pullrequest.source.commit.hash", PR(head_sha), FIELD_TEXT},
    {"pullrequest.destination.branch.name", PR(base_ref), FIELD_TEXT},
    {"pullrequest.destination.commit.hash", PR(base_sha), FIELD_TEXT},
    {"pullrequest.merge_commit.hash", PR(merge_sha), FIELD_TEXT},
    {"pullrequest.draft", PR(draft), FIELD_BOOL},
    {"pullrequest.author.nickname", PR(author), FIELD_TEXT},
    {0},
};

static struct fault finish_pull_request(struct mapping *m, void *body,
                                        Enclii__V1__DeliveryInfo *info)
{
    static const char *const words[][2] = {{"pullrequest:created", "opened"},
                                           {"pullrequest:updated", "synchronize"},
                                           {"pullrequest:fulfilled", "closed"},
                                           {"pullrequest:rejected", "closed"}};
    Enclii__V1__PullRequestChanged *pr = body;
    const char *source = map_id(m->arena, m->tape, m->root, "pullrequest.source.repository.uuid");
    const char *target =
        map_id(m->arena, m->tape, m->root, "pullrequest.destination.repository.uuid");
    char *key = ec_repo_key(m->arena,
                            map_text(m, m->root, "pullrequest.source.repository.links.html.href"));
    if (pr->number <= 0) {
        return (struct fault){"pullrequest.id", "must be the number of the pull request"};
    }
    pr->head_repo_key = key ? key : pr->head_repo_key;
    pr->from_fork = !*source || strcmp(source, target) != 0;
    pr->merged = strcmp(m->event, "pullrequest:fulfilled") == 0;
    for (size_t i = 0; i < EC_LEN(words); i++) {
        if (strcmp(m->event, words[i][0]) == 0) {
            info->action = ec_arena_strdup(m->arena, words[i][1]);
        }
    }
    return no_fault;
}

static const struct event_shape pull_request = {"dev.enclii.pull_request.changed.v1",
                                                &enclii__v1__pull_request_changed__descriptor,
                                                NULL,
                                                "actor.nickname",
                                                pull_request_fields,
                                                finish_pull_request};

static const struct field repository_fields[] = {
    {"repository.full_name", offsetof(Enclii__V1__RepositoryChanged, new_full_name), FIELD_TEXT},
    {"repository.links.html.href", offsetof(Enclii__V1__RepositoryChanged, new_clone_url),
     FIELD_TEXT},
    {0},
};

static struct fault finish_repository(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    if (!m->claim.key) {
        return (struct fault){"repository.links.html.href", "is missing or no clone URL"};
    }
    bool renamed = ec_tape_at(m->tape, m->root, "changes.full_name") != NULL;
    info->action = ec_arena_strdup(m->arena, renamed ? "renamed" : "edited");
    ((Enclii__V1__RepositoryChanged *)body)->new_repo_key = ec_arena_strdup(m->arena, m->claim.key);
    return no_fault;
}

static const struct event_shape repository = {"dev.enclii.repository.changed.v1",
                                              &enclii__v1__repository_changed__descriptor,
                                              NULL,
                                              "actor.nickname",
                                              repository_fields,
                                              finish_repository};

#define CI(member) offsetof(Enclii__V1__CiChanged, member)
static const struct field commit_status_fields[] = {
    {"commit_status.key", CI(run_id), FIELD_TEXT},
    {"commit_status.name", CI(name), FIELD_TEXT},
    {"commit_status.refname", CI(branch), FIELD_TEXT},
    {"commit_status.commit.hash", CI(sha), FIELD_TEXT},
    {"commit_status.url", CI(url), FIELD_TEXT},
    {0},
};

static struct fault finish_commit_status(struct mapping *m, void *body,
                                         Enclii__V1__DeliveryInfo *info)
{
    static const char *const words[][3] = {{"SUCCESSFUL", "completed", "success"},
                                           {"FAILED", "completed", "failure"},
                                           {"STOPPED", "completed", "cancelled"},
                                           {"INPROGRESS", "in_progress", ""}};
    Enclii__V1__CiChanged *ci = body;
    if (!map_is_sha(ci->sha)) {
        return (struct fault){"commit_status.commit.hash",
                              "must be 40 or 64 lower-case hex digits"};
    }
    ci->kind = ec_arena_strdup(m->arena, "commit_status");
    for (size_t i = 0; i < EC_LEN(words); i++) {
        if (strcmp(info->action, words[i][0]) == 0) {
            ci->status = ec_arena_strdup(m->arena, words[i][1]);
            ci->conclusion = ec_arena_strdup(m->arena, words[i][2]);
        }
    }
    return no_fault;
}

static const struct event_shape commit_status = {
    "dev.enclii.ci.changed.v1", &enclii__v1__ci_changed__descriptor,
    "commit_status.state",      "actor.nickname",
    commit_status_fields,       finish_commit_status};

const struct event_row bitbucket_events[] = {
    {"repo:push", map_bitbucket_push, NULL, NULL, true},
    {"repo:refs_changed", map_bitbucket_server_push, NULL, NULL, true},
    {"diagnostics:ping", map_ping, NULL, NULL, false},
    {"pullrequest:created", map_shape, NULL, &pull_request, false},
    {"pullrequest:updated", map_shape, NULL, &pull_request, false},
    {"pullrequest:fulfilled", map_shape, NULL, &pull_request, false},
    {"pullrequest:rejected", map_shape, NULL, &pull_request, false},
    {"repo:updated", map_shape, NULL, &repository, false},
    {"repo:commit_status_created", map_shape, NULL, &commit_status, false},
    {"repo:commit_status_updated", map_shape, NULL, &commit_status, false},
    {0},
};
