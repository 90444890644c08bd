/* What is told, to whom, in which words, and what an answer means. Pure. */
#include <jansson.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "notifier.h"

#define FIRST_WAIT_MS 5000
#define LONGEST_WAIT_MS (6LL * 3600 * 1000)
#define DESCRIPTION_MAX_BYTES 140 /* GitHub's limit */

/* The fact's name inside is also its name in its type. */
#define RULE(about, type, status, text, final, of_build)                                           \
    {                                                                                              \
        "dev.enclii." about ".v1", about, type, status, text, final, of_build                      \
    }

/* clang-format off */
static const struct notice_rule rules[] = {
    /*   fact                      name outside            status     for people            final  of a build */
    RULE("build.waiting",          "build.waiting",        "pending", "Waiting for the host's CI", false, true),
    RULE("build.queued",           "build.started",        "pending", "Waiting for a builder",    false, true),
    RULE("build.failed",           "build.failed",         "failure", "The build failed",         true, true),
    RULE("build.timed_out",        "build.failed",         "error",   "The build took too long",  true, true),
    RULE("build.cancelled",        "build.cancelled",      "error",   "The build was cancelled",  true, true),
    RULE("build.superseded",       "build.cancelled",      "error",   "A newer push took its place", true, true),
    RULE("release.ready",          "build.succeeded",      "success", "Built and signed",         true, true),
    RULE("release.rejected",       "build.failed",         "failure", "The image was refused",    true, true),
    RULE("deployment.created",     "deployment.started",   "pending", "Rolling out",              false, false),
    RULE("deployment.healthy",     "deployment.succeeded", "success", "Deployed and healthy",     true, false),
    RULE("deployment.failed",      "deployment.failed",    "failure", "The deployment failed",    true, false),
    RULE("deployment.rolled_back", "deployment.failed",    "failure", "Rolled back",              true, false),
    RULE("deployment.cancelled",   "deployment.cancelled", "error",   "The deployment was cancelled", true, false),
    RULE("deployment.superseded",  "deployment.cancelled", "error",   "A newer one took its place", true, false),
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

bool decide_channel_wants(const struct channel *channel, const struct notice *notice)
{
    bool github = strcmp(channel->kind, "github") == 0;
    if (!channel->enabled ||
        (*channel->project_id && strcmp(channel->project_id, notice->project_id) != 0) ||
        (github && !*notice->commit_sha)) {
        return false;
    }
    if (!channel->event_types[0]) {
        return notice->rule->final || github; /* a commit status also shows that work goes on */
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
    return notice->rule->of_build
               ? ec_arena_format(arena, "enclii/%s/build", notice->service_name)
               : ec_arena_format(arena, "enclii/%s/%s", notice->service_name, notice->environment);
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text && *text) {
        json_object_set_new(object, key, json_string(text));
    }
}

char *decide_body(struct ec_arena *arena, const struct notice *notice, const char *id)
{
    char time[EC_RFC3339_SIZE];
    ec_rfc3339(notice->time_unix_ms, time);
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
    bool bad =
        strcmp(notice->rule->status, "failure") == 0 || strcmp(notice->rule->status, "error") == 0;
    set_text(subject, "error", bad ? (*notice->detail ? notice->detail : notice->rule->text) : "");
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:{s:s, s:s, s:s}, s:o}", "id", id, "type", notice->rule->type,
        "timestamp", time, "project", "id", notice->project_id, "name", notice->project_slug,
        "slug", notice->project_slug, notice->rule->of_build ? "build" : "deployment", subject);
    char *text = ec_json_dump(arena, root);
    json_decref(root);
    return text;
}

char *decide_github_body(struct ec_arena *arena, const struct notice *notice,
                         const char *public_url)
{
    char description[DESCRIPTION_MAX_BYTES + 1];
    bool bad = notice->rule->final && strcmp(notice->rule->status, "success") != 0;
    const char *text = *notice->detail && bad
                           ? ec_arena_format(arena, "%s: %s", notice->rule->text, notice->detail)
                           : notice->rule->text;
    size_t len = strcspn(text, "\r\n");
    if (len > DESCRIPTION_MAX_BYTES) {
        len = DESCRIPTION_MAX_BYTES;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    memcpy(description, text, len);
    description[len] = '\0';
    json_t *root = json_pack("{s:s, s:s, s:s}", "state", notice->rule->status, "description",
                             description, "context", decide_context(arena, notice));
    if (*public_url) {
        set_text(root, "target_url",
                 ec_arena_format(arena, "%s/services/%s", public_url, notice->service_id));
    }
    char *body = ec_json_dump(arena, root);
    json_decref(root);
    return body;
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

enum outcome decide_outcome(const char *kind, int status)
{
    if (status >= 200 && status < 300) {
        return OUTCOME_SENT;
    }
    if (status == 410 || (strcmp(kind, "github") == 0 && (status == 404 || status == 422))) {
        return OUTCOME_NEVER; /* gone; or no such repository or commit: no retry changes it */
    }
    return OUTCOME_AGAIN; /* also 401 and 403: somebody may repair the token or the limit passes */
}
