/* What GitHub delivers, and Gitea and Forgejo, which write most of it the same way: one row per
 * event, one shape per message we make of it. Pure. */
#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "spec/spec.h"
#include "webhook.h"

/* ---- pull requests ---- */

#define PR(member) offsetof(Enclii__V1__PullRequestChanged, member)
static const struct field pull_request_fields[] = {
    {"number", PR(number), FIELD_INT},
    {"pull_request.title", PR(title), FIELD_TEXT},
    {"pull_request.html_url", PR(url), FIELD_TEXT},
    {"pull_request.head.ref", PR(head_ref), FIELD_TEXT},
    {"pull_request.head.sha", PR(head_sha), FIELD_TEXT},
    {"pull_request.base.ref", PR(base_ref), FIELD_TEXT},
    {"pull_request.base.sha", PR(base_sha), FIELD_TEXT},
    {"pull_request.draft", PR(draft), FIELD_BOOL},
    {"pull_request.merged", PR(merged), FIELD_BOOL},
    {"pull_request.merge_commit_sha", PR(merge_sha), FIELD_TEXT},
    {"pull_request.user.login", PR(author), FIELD_TEXT},
    {"pull_request.author_association", PR(author_association), FIELD_TEXT},
    {0},
};

static struct fault finish_pull_request(struct mapping *m, void *body,
                                        Enclii__V1__DeliveryInfo *info)
{
    Enclii__V1__PullRequestChanged *pr = body;
    const struct ec_node *labels = ec_tape_at(m->tape, m->root, "pull_request.labels");
    const char *head = map_id(m->arena, m->tape, m->root, "pull_request.head.repo.id");
    const char *base = map_id(m->arena, m->tape, m->root, "pull_request.base.repo.id");
    char *key = ec_repo_key(m->arena, map_text(m, m->root, "pull_request.head.repo.clone_url"));
    if (pr->number <= 0) {
        return (struct fault){"number", "must be the number of the pull request"};
    }
    if (!map_is_sha(pr->head_sha)) {
        return (struct fault){"pull_request.head.sha", "must be 40 or 64 lower-case hex digits"};
    }
    pr->head_repo_key = key ? key : pr->head_repo_key;
    pr->from_fork =
        !*head || !*base || strcmp(head, base) != 0; /* unknown counts as a stranger's */
    int64_t updated = ec_rfc3339_parse(map_text(m, m->root, "pull_request.updated_at"));
    pr->updated_unix_ms = updated > 0 ? updated : 0;
    pr->labels = map_names(m, labels, "name", LABELS_MAX, &pr->n_labels);
    if (strcmp(info->action, "synchronized") == 0) { /* Gitea's word */
        info->action = ec_arena_strdup(m->arena, "synchronize");
    }
    return no_fault;
}

static const struct event_shape pull_request = {
    "dev.enclii.pull_request.changed.v1",
    &enclii__v1__pull_request_changed__descriptor,
    "action",
    "sender.login",
    pull_request_fields,
    finish_pull_request,
};

/* ---- the host's CI ---- */

#define CI(member) offsetof(Enclii__V1__CiChanged, member)
static const struct field workflow_run_fields[] = {
    {"workflow_run.id", CI(run_id), FIELD_ID},
    {"workflow_run.name", CI(name), FIELD_TEXT},
    {"workflow_run.head_branch", CI(branch), FIELD_TEXT},
    {"workflow_run.head_sha", CI(sha), FIELD_TEXT},
    {"workflow_run.status", CI(status), FIELD_TEXT},
    {"workflow_run.conclusion", CI(conclusion), FIELD_TEXT},
    {"workflow_run.html_url", CI(url), FIELD_TEXT},
    {"workflow_run.run_attempt", CI(run_attempt), FIELD_INT},
    {0},
};
static const struct field check_suite_fields[] = {
    {"check_suite.id", CI(run_id), FIELD_ID},
    {"check_suite.app.slug", CI(name), FIELD_TEXT},
    {"check_suite.head_branch", CI(branch), FIELD_TEXT},
    {"check_suite.head_sha", CI(sha), FIELD_TEXT},
    {"check_suite.status", CI(status), FIELD_TEXT},
    {"check_suite.conclusion", CI(conclusion), FIELD_TEXT},
    {"check_suite.url", CI(url), FIELD_TEXT},
    {0},
};

static struct fault finish_ci(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    (void)info;
    Enclii__V1__CiChanged *ci = body;
    if (!map_is_sha(ci->sha)) {
        return (struct fault){"head_sha", "must be 40 or 64 lower-case hex digits"};
    }
    ci->kind = ec_arena_strdup(m->arena, m->event);
    return no_fault;
}

static const struct event_shape workflow_run = {"dev.enclii.ci.changed.v1",
                                                &enclii__v1__ci_changed__descriptor,
                                                "action",
                                                "sender.login",
                                                workflow_run_fields,
                                                finish_ci};
static const struct event_shape check_suite = {"dev.enclii.ci.changed.v1",
                                               &enclii__v1__ci_changed__descriptor,
                                               "action",
                                               "sender.login",
                                               check_suite_fields,
                                               finish_ci};

/* ---- branches and tags ---- */

static const struct field ref_fields[] = {
    {"ref", offsetof(Enclii__V1__RefChanged, ref), FIELD_TEXT},
    {0},
};

static struct fault finish_ref(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    Enclii__V1__RefChanged *change = body;
    const char *kind = info->action; /* "branch" or "tag" */
    bool tag = strcmp(kind, "tag") == 0;
    if (!*change->ref || (!tag && strcmp(kind, "branch") != 0)) {
        return (struct fault){"ref_type", "must be branch or tag, with the name in ref"};
    }
    change->ref = ec_arena_format(m->arena, "refs/%s/%s", tag ? "tags" : "heads", change->ref);
    change->deleted = strcmp(m->event, "delete") == 0;
    change->default_branch = map_cut(m->arena, m->claim.default_branch, TEXT_MAX_BYTES);
    return no_fault;
}

static const struct event_shape ref = {"dev.enclii.ref.changed.v1",
                                       &enclii__v1__ref_changed__descriptor,
                                       "ref_type",
                                       "sender.login",
                                       ref_fields,
                                       finish_ref};

/* ---- the repository itself ---- */

static const struct field repository_fields[] = {
    {"repository.full_name", offsetof(Enclii__V1__RepositoryChanged, new_full_name), FIELD_TEXT},
    {"repository.clone_url", offsetof(Enclii__V1__RepositoryChanged, new_clone_url), FIELD_TEXT},
    {"repository.default_branch", offsetof(Enclii__V1__RepositoryChanged, default_branch),
     FIELD_TEXT},
    {"changes.default_branch.from", offsetof(Enclii__V1__RepositoryChanged, old_default_branch),
     FIELD_TEXT},
    {"repository.archived", offsetof(Enclii__V1__RepositoryChanged, archived), FIELD_BOOL},
    {0},
};

static struct fault finish_repository(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    (void)info;
    if (!m->claim.key) {
        return (struct fault){"repository.clone_url", "is missing or no clone URL"};
    }
    ((Enclii__V1__RepositoryChanged *)body)->new_repo_key = ec_arena_strdup(m->arena, m->claim.key);
    return no_fault;
}

static const struct event_shape repository = {"dev.enclii.repository.changed.v1",
                                              &enclii__v1__repository_changed__descriptor,
                                              "action",
                                              "sender.login",
                                              repository_fields,
                                              finish_repository};

/* ---- the app ---- */

static const struct field installation_fields[] = {
    {"installation.id", offsetof(Enclii__V1__InstallationChanged, installation_id), FIELD_ID},
    {"installation.account.login", offsetof(Enclii__V1__InstallationChanged, account), FIELD_TEXT},
    {0},
};

static char **full_names(struct mapping *m, const char *path, size_t *ret_count)
{
    const struct ec_node *list = ec_tape_at(m->tape, m->root, path);
    m->out_full |= ec_tape_count(m->tape, list) > NAMES_MAX;
    return map_names(m, list, "full_name", NAMES_MAX, ret_count);
}

static struct fault finish_installation(struct mapping *m, void *body,
                                        Enclii__V1__DeliveryInfo *info)
{
    Enclii__V1__InstallationChanged *change = body;
    bool of_repos = strcmp(m->event, "installation_repositories") == 0;
    bool gone = strcmp(info->action, "deleted") == 0;
    if (!*change->installation_id) {
        return (struct fault){"installation.id", "is missing"};
    }
    change->all_repositories =
        strcmp(map_text(m, m->root, "installation.repository_selection"), "all") == 0;
    change->added = full_names(m,
                               of_repos ? "repositories_added"
                               : gone   ? "none"
                                        : "repositories",
                               &change->n_added);
    change->removed = full_names(m,
                                 of_repos ? "repositories_removed"
                                 : gone   ? "repositories"
                                          : "none",
                                 &change->n_removed);
    return no_fault;
}

static const struct event_shape installation = {"dev.enclii.installation.changed.v1",
                                                &enclii__v1__installation_changed__descriptor,
                                                "action",
                                                "sender.login",
                                                installation_fields,
                                                finish_installation};

/* ---- project boards ---- */

#define CARD(member) offsetof(Enclii__V1__BoardItemChanged, member)
static const struct field board_item_fields[] = {
    {"projects_v2_item.node_id", CARD(item_id), FIELD_TEXT},
    {"projects_v2_item.project_node_id", CARD(project_id), FIELD_TEXT},
    {"projects_v2_item.content_node_id", CARD(content_id), FIELD_TEXT},
    {"projects_v2_item.content_type", CARD(content_type), FIELD_TEXT},
    {"changes.field_value.field_name", CARD(field), FIELD_TEXT},
    {"changes.field_value.field_type", CARD(field_type), FIELD_TEXT},
    {0},
};

/* The value of a single-select field is an object with a name, of a text field a text. */
static char *field_value(const struct mapping *m, const char *side)
{
    const char *path = ec_arena_format(m->arena, "changes.field_value.%s", side);
    const struct ec_node *value = ec_tape_at(m->tape, m->root, path);
    return ec_tape_is(value, EC_TAPE_OBJECT) ? map_text(m, value, "name")
                                             : map_id(m->arena, m->tape, m->root, path);
}

static struct fault finish_board_item(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    (void)info;
    Enclii__V1__BoardItemChanged *card = body;
    if (!*card->item_id) {
        return (struct fault){"projects_v2_item.node_id", "is missing"};
    }
    card->from = field_value(m, "from");
    card->to = field_value(m, "to");
    return no_fault;
}

static const struct event_shape board_item = {"dev.enclii.board_item.changed.v1",
                                              &enclii__v1__board_item_changed__descriptor,
                                              "action",
                                              "sender.login",
                                              board_item_fields,
                                              finish_board_item};

/* ---- releases and images ---- */

#define TAG(member) offsetof(Enclii__V1__ReleaseTagChanged, member)
static const struct field release_fields[] = {
    {"release.tag_name", TAG(tag), FIELD_TEXT},
    {"release.name", TAG(name), FIELD_TEXT},
    {"release.target_commitish", TAG(target), FIELD_TEXT},
    {"release.draft", TAG(draft), FIELD_BOOL},
    {"release.prerelease", TAG(prerelease), FIELD_BOOL},
    {"release.html_url", TAG(url), FIELD_TEXT},
    {0},
};

static struct fault finish_release(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    (void)m;
    (void)info;
    return *((Enclii__V1__ReleaseTagChanged *)body)->tag
               ? no_fault
               : (struct fault){"release.tag_name", "is missing"};
}

static const struct event_shape release = {"dev.enclii.release_tag.changed.v1",
                                           &enclii__v1__release_tag_changed__descriptor,
                                           "action",
                                           "sender.login",
                                           release_fields,
                                           finish_release};

static struct fault finish_package(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    (void)info;
    Enclii__V1__ImagePushed *image = body;
    const struct ec_node *package = ec_tape_at(m->tape, m->root, m->event);
    const char *url = map_text(m, package, "package_version.package_url"); /* "ghcr.io/a/b:tag" */
    if (strcasecmp(map_text(m, package, "package_type"), "container") != 0 || !*url) {
        return map_ignore(m, "event_not_used", "the package is no container image");
    }
    const char *slash = strrchr(url, '/'), *colon = slash ? strrchr(slash, ':') : NULL;
    size_t len = colon ? (size_t)(colon - url) : strlen(url);
    image->repository = ec_arena_text(m->arena, (struct ec_span){url, len});
    image->tag = map_text(m, package, "package_version.container_metadata.tag.name");
    image->digest = map_text(m, package, "package_version.container_metadata.tag.digest");
    return no_fault;
}

static const struct event_shape package = {"dev.enclii.image.pushed.v1",
                                           &enclii__v1__image_pushed__descriptor,
                                           "action",
                                           "sender.login",
                                           NULL,
                                           finish_package};

#define PULL_ACTIONS                                                                               \
    " opened synchronize synchronized reopened closed labeled unlabeled label_updated "            \
    "label_cleared ready_for_review converted_to_draft edited "
#define REPOSITORY_ACTIONS " renamed transferred edited archived unarchived deleted "

const struct event_row github_events[] = {
    {"push", map_push, NULL, NULL, true},
    {"ping", map_ping, NULL, NULL, false},
    {"pull_request", map_shape, PULL_ACTIONS, &pull_request, false},
    {"workflow_run", map_shape, NULL, &workflow_run, false},
    {"check_suite", map_shape, NULL, &check_suite, false},
    {"create", map_shape, NULL, &ref, false},
    {"delete", map_shape, NULL, &ref, false},
    {"repository", map_shape, REPOSITORY_ACTIONS, &repository, false},
    {"installation", map_shape, NULL, &installation, false},
    {"installation_repositories", map_shape, NULL, &installation, false},
    {"projects_v2_item", map_shape, NULL, &board_item, false},
    {"release", map_shape, NULL, &release, false},
    {"registry_package", map_shape, " published updated ", &package, false},
    {"package", map_shape, " published updated ", &package, false},
    {0},
};

/* Events of the same name, in the same words. A "repository" event of Gitea tells of creation and
 * deletion only. */
const struct event_row gitea_events[] = {
    {"push", map_push, NULL, NULL, true},
    {"pull_request", map_shape, PULL_ACTIONS, &pull_request, false},
    {"pull_request_sync", map_shape, PULL_ACTIONS, &pull_request, false},
    {"pull_request_label", map_shape, PULL_ACTIONS, &pull_request, false},
    {"create", map_shape, NULL, &ref, false},
    {"delete", map_shape, NULL, &ref, false},
    {"repository", map_shape, " deleted ", &repository, false},
    {"release", map_shape, NULL, &release, false},
    {0},
};
