/* What is told, to whom, in which words, and what an answer means. Pure. */
#include <jansson.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "notifier.h"

#define FIRST_WAIT_MS 5000
#define LONGEST_WAIT_MS (6LL * 3600 * 1000)
#define UNKNOWN_TRIES 3 /* at a commit that the host does not know */

/* The fact's name inside is also its name in its type. */
#define RULE(about, type, status, text, final, tell, of)                                           \
    {                                                                                              \
        "dev.enclii." about ".v1", about, type, status, text, final, tell, of, NULL                \
    }
/* One whose status counts only where another one is the last word. */
#define RULE_AFTER(about, type, status, text, tell, of, after)                                     \
    {                                                                                              \
        "dev.enclii." about ".v1", about, type, status, text, false, tell, of, after               \
    }

/* clang-format off */
static const struct notice_rule rules[] = {
    /*   fact                      name outside            status     for people             final  told  of */
    RULE("approval.needed",        "approval.needed",      "pending", "Waits for an approval", false, true, OF_PULL),
    RULE("approval.given",         "approval.given",       "",        "Approved",              false, true, OF_PULL),
    RULE("approval.refused",       "approval.refused",     "",        "An approval was refused", false, true, OF_PULL),
    RULE_AFTER("approval.lapsed",  "approval.lapsed",      "cancelled", "Closed without an approval", true, OF_PULL, "approval.needed"),
    RULE_AFTER("approval.superseded", "approval.superseded", "cancelled", "A newer commit took its place", false, OF_PULL, "approval.needed"),
    RULE("build.waiting",          "build.waiting",        "pending", "Waiting for the host's CI", false, false, OF_BUILD),
    RULE("build.queued",           "build.started",        "pending", "Waiting for a builder",    false, false, OF_BUILD),
    RULE("build.failed",           "build.failed",         "failure", "The build failed",         true, true, OF_BUILD),
    RULE("build.timed_out",        "build.failed",         "error",   "The build took too long",  true, true, OF_BUILD),
    RULE("build.cancelled",        "build.cancelled",      "cancelled", "The build was cancelled", true, true, OF_BUILD),
    RULE("build.superseded",       "build.cancelled",      "cancelled", "A newer push took its place", true, true, OF_BUILD),
    RULE("release.ready",          "build.succeeded",      "success", "Built and signed",         true, true, OF_BUILD),
    RULE("release.rejected",       "build.failed",         "failure", "The image was refused",    true, true, OF_BUILD),
    RULE("deployment.created",     "deployment.started",   "pending", "Rolling out",              false, false, OF_DEPLOYMENT),
    RULE("deployment.healthy",     "deployment.succeeded", "success", "Deployed and healthy",     true, true, OF_DEPLOYMENT),
    RULE("deployment.failed",      "deployment.failed",    "failure", "The deployment failed",    true, true, OF_DEPLOYMENT),
    RULE("deployment.rolled_back", "deployment.failed",    "failure", "Rolled back",              true, true, OF_DEPLOYMENT),
    RULE("deployment.cancelled",   "deployment.cancelled", "cancelled", "The deployment was cancelled", true, true, OF_DEPLOYMENT),
    RULE("deployment.superseded",  "deployment.cancelled", "cancelled", "A newer one took its place", true, true, OF_DEPLOYMENT),
};
/* clang-format on */

const struct notice_rule *decide_rule(const char *event_type)
{
    for (size_t i = 0; i < EC_LEN(rules); i++) {
        if (strcmp(rules[i].event_type, event_type) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

bool decide_build_failure_final(const Enclii__V1__BuildFailed *fact)
{
    bool by_builder = *fact->builder_id != '\0';
    return !fact->retryable &&
           !(by_builder && fact->reason == ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_TIMED_OUT);
}

bool decide_sets_statuses(const char *kind)
{
    return strcmp(kind, "webhook") != 0;
}

bool decide_channel_wants(const struct channel *channel, const struct notice *notice)
{
    bool statuses = decide_sets_statuses(channel->kind);
    if (!channel->enabled ||
        (*channel->project_id && strcmp(channel->project_id, notice->project_id) != 0) ||
        (statuses && (!*notice->commit_sha || !*notice->rule->status))) {
        return false;
    }
    if (!channel->event_types[0]) {
        return notice->rule->tell || statuses; /* a commit status also shows that work goes on */
    }
    for (size_t i = 0; channel->event_types[i]; i++) {
        if (strcmp(channel->event_types[i], notice->rule->about) == 0 ||
            strcmp(channel->event_types[i], notice->rule->type) == 0) {
            return true;
        }
    }
    return false;
}

char *decide_context(struct ec_arena *arena, const struct notice *notice)
{
    return notice->rule->of != OF_DEPLOYMENT
               ? ec_arena_format(arena, "enclii/%s/build", notice->service_name)
               : ec_arena_format(arena, "enclii/%s/%s", notice->service_name, notice->environment);
}

/* ---- what is told of an approval ---- */

static const char *author_of(const struct pull_notice *pull)
{
    return *pull->author ? pull->author : "somebody unknown";
}

char *decide_sentence(struct ec_arena *arena, const struct notice *notice)
{
    const struct pull_notice *pull = &notice->pull;
    const char *about = notice->rule->about, *colon = *pull->reason ? ": " : "";
    if (strcmp(about, "approval.needed") == 0) {
        return ec_arena_format(arena,
                               "%s: pull request #%d of %s comes from a fork and waits for an "
                               "approval; look at it%s%s, then: %s",
                               notice->service_name, pull->number, author_of(pull),
                               *pull->url ? ": " : "", pull->url, pull->command);
    }
    if (strcmp(about, "approval.given") == 0) {
        return ec_arena_format(arena, "%s: %s approved commit %.12s of pull request #%d of %s%s%s",
                               notice->service_name, pull->by, notice->commit_sha, pull->number,
                               author_of(pull), colon, pull->reason);
    }
    if (strcmp(about, "approval.refused") == 0) {
        return ec_arena_format(
            arena, "%s: the approval of commit %.12s of pull request #%d by %s was refused%s%s",
            notice->service_name, notice->commit_sha, pull->number, pull->by, colon, pull->reason);
    }
    return ec_arena_format(arena, "%s: nobody approved commit %.12s of pull request #%d of %s%s%s",
                           notice->service_name, notice->commit_sha, pull->number, author_of(pull),
                           colon, pull->reason);
}

/* ---- bodies ---- */

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text && *text) {
        json_object_set_new(object, key, json_string(text));
    }
}

static json_t *subject_of_pull(const struct notice *notice)
{
    const struct pull_notice *pull = &notice->pull;
    json_t *subject = json_pack("{s:i}", "number", (int)pull->number);
    set_text(subject, "title", pull->title);
    set_text(subject, "url", pull->url);
    set_text(subject, "author", pull->author);
    set_text(subject, "author_association", pull->author_association);
    set_text(subject, "service_name", notice->service_name);
    set_text(subject, "status", strchr(notice->rule->about, '.') + 1);
    set_text(subject, "commit_sha", notice->commit_sha);
    set_text(subject, "command", pull->command);
    set_text(subject, "by", pull->by);
    set_text(subject, "reason", pull->reason);
    return subject;
}

static json_t *subject_of(const struct notice *notice)
{
    const char *status = notice->rule->status;
    json_t *subject = json_object();
    set_text(subject, "id", notice->subject_id);
    set_text(subject, "service_name", notice->service_name);
    set_text(subject, "environment", notice->environment);
    set_text(subject, "status", strchr(notice->rule->about, '.') + 1);
    set_text(subject, "commit_sha", notice->commit_sha);
    set_text(subject, "commit_message", notice->commit_message);
    if (strncmp(notice->commit_ref, "refs/heads/", 11) == 0) {
        set_text(subject, "branch", notice->commit_ref + 11);
    }
    set_text(subject, "url", notice->url);
    bool bad = strcmp(status, "success") != 0 && strcmp(status, "pending") != 0;
    set_text(subject, "error", bad ? (*notice->detail ? notice->detail : notice->rule->text) : "");
    return subject;
}

char *decide_body(struct ec_arena *arena, const struct notice *notice, const char *id)
{
    static const char *const names[] = {
        [OF_BUILD] = "build", [OF_DEPLOYMENT] = "deployment", [OF_PULL] = "pull_request"};
    char time[EC_RFC3339_SIZE];
    ec_rfc3339(notice->time_unix_ms, time);
    bool pull = notice->rule->of == OF_PULL;
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s}, s:o}", "id", id, "type", notice->rule->type,
                  "timestamp", time, "project", "id", notice->project_id, "name",
                  notice->project_slug, "slug", notice->project_slug, names[notice->rule->of],
                  pull ? subject_of_pull(notice) : subject_of(notice));
    set_text(root, "text", pull ? decide_sentence(arena, notice) : "");
    char *text = ec_json_dump(arena, root);
    json_decref(root);
    return text;
}

char *decide_status_row(struct ec_arena *arena, const struct notice *notice, const char *public_url)
{
    const struct notice_rule *rule = notice->rule;
    bool bad = rule->final && strcmp(rule->status, "success") != 0;
    const char *detail = rule->of == OF_PULL ? notice->pull.command : bad ? notice->detail : "";
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:s}", "state", rule->status, "description",
                  *detail ? ec_arena_format(arena, "%s: %s", rule->text, detail) : rule->text,
                  "context", decide_context(arena, notice), "ref", notice->commit_ref);
    if (*public_url) {
        set_text(root, "target_url",
                 ec_arena_format(arena, "%s/services/%s", public_url, notice->service_id));
    }
    char *body = ec_json_dump(arena, root);
    json_decref(root);
    return body;
}

struct ec_err decide_status(struct ec_arena *arena, const char *row, const char *commit_sha,
                            struct ec_githost_status *ret_status)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    EC_TRY(ec_json_parse(arena, ec_span_of(row), &root));
#define TEXT(name) ec_arena_strdup(arena, ec_json_text(root, name))
    *ret_status = (struct ec_githost_status){.sha = commit_sha,
                                             .ref = TEXT("ref"),
                                             .state = ec_githost_state_of(TEXT("state")),
                                             .context = TEXT("context"),
                                             .description = TEXT("description"),
                                             .target_url = TEXT("target_url")};
#undef TEXT
    return ec_ok();
}

bool decide_host_hears(enum ec_githost_kind kind, const char *about)
{
    return kind != EC_GITHOST_GITLAB || strcmp(about, "build.waiting") != 0;
}

char *decide_status_path(struct ec_arena *arena, const char *repo_key, const char *commit_sha)
{
    const char *path = strchr(repo_key, '/');
    if (!path || !path[1] || !strchr(path + 1, '/') ||
        strspn(commit_sha, "0123456789abcdef") < 40) {
        return NULL;
    }
    for (const char *c = path; *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("/-_.", *c);
        if (!plain) {
            return NULL;
        }
    }
    return ec_arena_format(arena, "/repos%s/statuses/%s", path, commit_sha);
}

int64_t decide_wait_ms(int attempt, int64_t asked_ms)
{
    int64_t wait_ms = FIRST_WAIT_MS;
    for (int i = 1; i < attempt && wait_ms < LONGEST_WAIT_MS; i++) {
        wait_ms *= 2;
    }
    wait_ms = wait_ms > LONGEST_WAIT_MS ? LONGEST_WAIT_MS : wait_ms;
    asked_ms = asked_ms > LONGEST_WAIT_MS ? LONGEST_WAIT_MS : asked_ms;
    return wait_ms > asked_ms ? wait_ms : asked_ms;
}

enum outcome decide_outcome(const char *kind, int status, int attempts)
{
    bool host = decide_sets_statuses(kind);
    if (status >= 200 && status < 300) {
        return OUTCOME_SENT;
    }
    if (host && status == 404 && attempts < UNKNOWN_TRIES) {
        return OUTCOME_AGAIN; /* hosts may hear of a pull request's commit a little later */
    }
    if (status == 410 || (host && (status == 400 || status == 404 || status == 422))) {
        return OUTCOME_NEVER; /* gone; or no such repository or commit: no retry changes it */
    }
    return OUTCOME_AGAIN; /* also 401 and 403: somebody may repair the token or the limit passes */
}
