/* What GitLab delivers. It tells no `forced`, so that a list of changed paths is never known to be
 * whole, and lists at most 20 commits of a push; the total says how many there were. Pure. */
#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "spec/spec.h"
#include "webhook.h"

/* The commit that the ref now points at, in the list of commits (which ends with it). */
static const struct ec_node *commit_of(const struct mapping *m, const char *sha)
{
    const struct ec_node *list = ec_tape_at(m->tape, m->root, "commits");
    const struct ec_node *found = NULL;
    for (const struct ec_node *n = ec_tape_first(m->tape, list); n;
         n = ec_tape_next(m->tape, list, n)) {
        if (ec_span_eq(ec_tape_raw(m->tape, ec_tape_at(m->tape, n, "id")), ec_span_of(sha))) {
            found = n;
        }
    }
    return found;
}

struct fault map_gitlab_push(struct mapping *m, const struct event_row *row)
{
    (void)row;
    Enclii__V1__PushReceived *push = push_new(m);
    const char *after = map_text(m, m->root, "after");
    const char *checkout = map_text(m, m->root, "checkout_sha");
    /* Of an annotated tag `after` is the tag object; the commit is what can be built. */
    bool tag = strncmp(map_text(m, m->root, "ref"), "refs/tags/", 10) == 0;
    struct fault fault =
        push_ref(m, push, map_text(m, m->root, "ref"), map_text(m, m->root, "before"),
                 tag && *checkout ? checkout : after);
    if (fault.field) {
        return fault;
    }
    const struct ec_node *commits = ec_tape_at(m->tape, m->root, "commits");
    push->pusher = map_text(m, m->root, "user_username");
    push_head(m, push, commit_of(m, push->after));
    push_paths(m, push, commits, ec_tape_int(m->tape, m->root, "total_commits_count", 0));
    map_out(m, "dev.enclii.push.received.v1", push->repo_key, &push->base);
    return no_fault;
}

/* ---- merge requests ---- */

#define PR(member) offsetof(Enclii__V1__PullRequestChanged, member)
static const struct field merge_request_fields[] = {
    {"object_attributes.iid", PR(number), FIELD_INT},
    {"object_attributes.title", PR(title), FIELD_TEXT},
    {"object_attributes.url", PR(url), FIELD_TEXT},
    {"object_attributes.source_branch", PR(head_ref), FIELD_TEXT},
    {"object_attributes.last_commit.id", PR(head_sha), FIELD_TEXT},
    {"object_attributes.target_branch", PR(base_ref), FIELD_TEXT},
    {"object_attributes.merge_commit_sha", PR(merge_sha), FIELD_TEXT},
    {"object_attributes.work_in_progress", PR(draft), FIELD_BOOL},
    {"user.username", PR(author), FIELD_TEXT},
    {0},
};

static const char *merge_action(const struct mapping *m, const char *action)
{
    static const char *const words[][2] = {
        {"open", "opened"}, {"reopen", "reopened"}, {"close", "closed"}, {"merge", "closed"}};
    for (size_t i = 0; i < EC_LEN(words); i++) {
        if (strcmp(action, words[i][0]) == 0) {
            return words[i][1];
        }
    }
    /* An update with the commit before it brought new commits; others changed texts or labels. */
    bool commits = *map_text(m, m->root, "object_attributes.oldrev") != '\0';
    return commits                                          ? "synchronize"
           : ec_tape_at(m->tape, m->root, "changes.labels") ? "labeled"
                                                            : "edited";
}

static struct fault finish_merge_request(struct mapping *m, void *body,
                                         Enclii__V1__DeliveryInfo *info)
{
    Enclii__V1__PullRequestChanged *pr = body;
    const struct ec_node *labels = ec_tape_at(m->tape, m->root, "labels");
    const char *source = map_id(m->arena, m->tape, m->root, "object_attributes.source_project_id");
    const char *target = map_id(m->arena, m->tape, m->root, "object_attributes.target_project_id");
    char *key =
        ec_repo_key(m->arena, map_text(m, m->root, "object_attributes.source.git_http_url"));
    if (pr->number <= 0) {
        return (struct fault){"object_attributes.iid", "must be the number of the merge request"};
    }
    if (!map_is_sha(pr->head_sha)) {
        return (struct fault){"object_attributes.last_commit.id",
                              "must be 40 or 64 lower-case hex digits"};
    }
    pr->merged = strcmp(info->action, "merge") == 0;
    pr->draft |= ec_tape_bool(m->tape, m->root, "object_attributes.draft", false);
    pr->head_repo_key = key ? key : pr->head_repo_key;
    pr->from_fork = !*source || strcmp(source, target) != 0;
    pr->labels = map_names(m, labels, "title", LABELS_MAX, &pr->n_labels);
    info->action = ec_arena_strdup(m->arena, merge_action(m, info->action));
    return no_fault;
}

static const struct event_shape merge_request = {"dev.enclii.pull_request.changed.v1",
                                                 &enclii__v1__pull_request_changed__descriptor,
                                                 "object_attributes.action",
                                                 "user.username",
                                                 merge_request_fields,
                                                 finish_merge_request};

/* ---- pipelines ---- */

#define CI(member) offsetof(Enclii__V1__CiChanged, member)
static const struct field pipeline_fields[] = {
    {"object_attributes.id", CI(run_id), FIELD_ID},
    {"object_attributes.name", CI(name), FIELD_TEXT},
    {"object_attributes.ref", CI(branch), FIELD_TEXT},
    {"object_attributes.sha", CI(sha), FIELD_TEXT},
    {"object_attributes.url", CI(url), FIELD_TEXT},
    {0},
};

static struct fault finish_pipeline(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    static const char *const words[][3] = {{"success", "completed", "success"},
                                           {"failed", "completed", "failure"},
                                           {"canceled", "completed", "cancelled"},
                                           {"skipped", "completed", "skipped"},
                                           {"running", "in_progress", ""}};
    Enclii__V1__CiChanged *ci = body;
    if (!map_is_sha(ci->sha)) {
        return (struct fault){"object_attributes.sha", "must be 40 or 64 lower-case hex digits"};
    }
    ci->kind = ec_arena_strdup(m->arena, "pipeline");
    ci->status = ec_arena_strdup(m->arena, "queued");
    for (size_t i = 0; i < EC_LEN(words); i++) {
        if (strcmp(info->action, words[i][0]) == 0) {
            ci->status = ec_arena_strdup(m->arena, words[i][1]);
            ci->conclusion = ec_arena_strdup(m->arena, words[i][2]);
        }
    }
    return no_fault;
}

static const struct event_shape pipeline = {"dev.enclii.ci.changed.v1",
                                            &enclii__v1__ci_changed__descriptor,
                                            "object_attributes.status",
                                            "user.username",
                                            pipeline_fields,
                                            finish_pipeline};

/* ---- releases ---- */

static const struct field release_fields[] = {
    {"tag", offsetof(Enclii__V1__ReleaseTagChanged, tag), FIELD_TEXT},
    {"name", offsetof(Enclii__V1__ReleaseTagChanged, name), FIELD_TEXT},
    {"commit.id", offsetof(Enclii__V1__ReleaseTagChanged, target), FIELD_TEXT},
    {"url", offsetof(Enclii__V1__ReleaseTagChanged, url), FIELD_TEXT},
    {0},
};

static struct fault finish_release(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    if (!*((Enclii__V1__ReleaseTagChanged *)body)->tag) {
        return (struct fault){"tag", "is missing"};
    }
    if (strcmp(info->action, "create") == 0) {
        info->action = ec_arena_strdup(m->arena, "published");
    }
    return no_fault;
}

static const struct event_shape release = {"dev.enclii.release_tag.changed.v1",
                                           &enclii__v1__release_tag_changed__descriptor,
                                           "action",
                                           NULL,
                                           release_fields,
                                           finish_release};

const struct event_row gitlab_events[] = {
    {"Push Hook", map_gitlab_push, NULL, NULL, true},
    {"Tag Push Hook", map_gitlab_push, NULL, NULL, true},
    {"Merge Request Hook", map_shape, " open reopen close merge update ", &merge_request, false},
    {"Pipeline Hook", map_shape, NULL, &pipeline, false},
    {"Release Hook", map_shape, NULL, &release, false},
    {0},
};
