/* The webhooks of the double's repositories: how they are set up, what is delivered to them, and
 * what is listed and sent again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/github_double_private.h"
#include "trust/digest.h"

/* ---- sending ---- */

/* A delivery under way; its attempt is listed once it has an end. */
struct sent {
    struct github_double *github;
    json_t *list, *item; /* NULL: it is not listed */
};

static void on_sent(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct sent *sent = arg;
    int code = ec_failed(err) ? 0 : result->status;
    if (sent->item) {
        bool good = code >= 200 && code < 300;
        json_object_set_new(sent->item, "status_code", json_integer(code));
        json_object_set_new(sent->item, "status", json_string(good ? "OK" : "failed"));
        json_array_insert_new(sent->list, 0, sent->item);
    }
    sent->github->sending--;
    free(sent);
}

/* takes item */
static void deliver_to(struct github_double *github, const json_t *hook, const char *event,
                       const char *guid, const char *body, struct sent what)
{
    struct ec_arena *arena = ec_arena_new(1 << 20);
    ec_cleanup(ec_secret_freep) struct ec_secret *secret =
        ec_secret_new(ec_span_of(ec_json_text(hook, "config.secret")));
    struct ec_header headers[] = {
        {"Content-Type", "application/json"},
        {"User-Agent", "GitHub-Hookshot/d0uble"},
        {"X-GitHub-Event", event},
        {"X-GitHub-Delivery", guid},
        {"X-Hub-Signature-256",
         ec_arena_format(arena, "sha256=%s", ec_hmac_sha256_hex(arena, secret, ec_span_of(body)))}};
    struct ec_fetch_spec spec = {.method = "POST",
                                 .url = ec_json_text(hook, "config.url"),
                                 .headers = headers,
                                 .header_count = EC_LEN(headers),
                                 .body = ec_span_of(body)};
    struct sent *sent = ec_alloc(sizeof(*sent));
    *sent = what;
    sent->github = github;
    github->sending++;
    if (ec_failed(ec_fetch_start(github->fetcher, &spec, on_sent, sent, NULL))) {
        abort();
    }
    ec_arena_free(arena);
}

static json_t *repo_json(struct github_double *github, const char *full_name)
{
    const json_t *repo = json_object_get(github->repos, full_name);
    char clone[300];
    snprintf(clone, sizeof(clone), "https://github.com/%s.git", full_name);
    return json_pack("{s:I, s:s, s:s, s:s}", "id", (json_int_t)ec_json_int(repo, "id", 0),
                     "full_name", full_name, "clone_url", clone, "default_branch", "main");
}

/* Pings have ids that tell them apart. */
static void ping(struct github_double *github, const char *full_name, json_t *hook)
{
    char guid[64];
    snprintf(guid, sizeof(guid), "00000000-0000-4000-8000-%012lld", (long long)++github->next_id);
    json_t *body = json_pack("{s:s, s:O, s:O, s:o}", "zen", "Speak like a human.", "hook_id",
                             json_object_get(hook, "id"), "hook", hook, "repository",
                             repo_json(github, full_name));
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (ec_json_bool(hook, "active", false)) {
        deliver_to(github, hook, "ping", guid, text, (struct sent){0});
    }
    free(text);
}

/* ---- webhooks ---- */

static json_t *find_hook(const json_t *repo, const char *id)
{
    json_t *hooks = json_object_get(repo, "hooks");
    for (size_t i = 0; i < json_array_size(hooks); i++) {
        json_t *hook = json_array_get(hooks, i);
        if (ec_json_int(hook, "id", 0) == strtoll(id, NULL, 10)) {
            return hook;
        }
    }
    return NULL;
}

static bool known_events(const json_t *events)
{
    static const char known[] =
        " * push pull_request create delete repository release workflow_run check_suite check_run "
        "registry_package package status deployment issues issue_comment ";
    for (size_t i = 0; i < json_array_size(events); i++) {
        const char *event = json_string_value(json_array_get(events, i));
        char word[70];
        snprintf(word, sizeof(word), " %.60s ", event ? event : "?");
        if (!strstr(known, word)) {
            return false;
        }
    }
    return json_array_size(events) > 0;
}

static const char *hook_fault(json_t *body, bool is_new)
{
    static const char *const members[] = {"name", "config", "events", "active"};
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        bool known = false;
        for (size_t i = 0; i < EC_LEN(members); i++) {
            known |= double_is(name, members[i]);
        }
        if (!known) {
            return "a member that the documentation does not have";
        }
    }
    if (is_new && !double_is(ec_json_text(body, "name"), "web")) {
        return "name must be web";
    }
    if (!double_is(ec_json_text(body, "config.content_type"), "json") ||
        strncmp(ec_json_text(body, "config.url"), "http", 4) != 0 ||
        !double_is(ec_json_text(body, "config.insecure_ssl"), "0") ||
        strlen(ec_json_text(body, "config.secret")) < 16) {
        return "config is not what we mean to set";
    }
    if (!known_events(json_object_get(body, "events"))) {
        return "events are not known";
    }
    return NULL;
}

/* The real one never shows a secret. */
static json_t *shown(const json_t *hook)
{
    json_t *copy = json_deep_copy(hook);
    json_object_set_new(json_object_get(copy, "config"), "secret", json_string("********"));
    return copy;
}

void on_hooks(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = double_by_token(github, req);
    if (!repo) {
        return;
    }
    const char *page = ec_request_query(req, "page");
    size_t at = page ? ((size_t)atoi(page) - 1) * github->page_size : 0;
    json_t *list = json_array();
    json_t *hooks = json_object_get(repo, "hooks");
    for (size_t i = 0; i < json_array_size(hooks); i++) {
        json_array_append_new(list, shown(json_array_get(hooks, i)));
    }
    double_reply_page(github, req, list, at, "page");
    json_decref(list);
}

static json_t *read_hook(struct github_double *github, struct ec_request *req, bool is_new)
{
    json_t *body = NULL;
    const char *why = "no JSON";
    if (!ec_failed(ec_json_parse(ec_request_arena(req), ec_request_body(req), &body))) {
        why = hook_fault(body, is_new);
    }
    if (why) {
        double_fault(github, req, why);
        double_message(req, 422, "Validation Failed");
        json_decref(body);
        return NULL;
    }
    return body;
}

static void reply_hook(struct ec_request *req, int status, const json_t *hook)
{
    json_t *body = shown(hook);
    ec_reply_json(req, status, body);
    json_decref(body);
}

void on_hook_create(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = double_by_token(github, req);
    json_t *hook = repo ? read_hook(github, req, true) : NULL;
    if (!hook) {
        return;
    }
    json_t *hooks = json_object_get(repo, "hooks");
    for (size_t i = 0; i < json_array_size(hooks); i++) {
        if (double_is(ec_json_text(json_array_get(hooks, i), "config.url"),
                      ec_json_text(hook, "config.url"))) {
            json_decref(hook);
            double_fault(github, req, "a second webhook with the same URL");
            double_message(req, 422, "Hook already exists on this repository");
            return;
        }
    }
    int64_t id = github_double_hook(github, double_repo_name(req), hook);
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)id);
    reply_hook(req, 201, find_hook(repo, text));
    ping(github, double_repo_name(req), find_hook(repo, text)); /* the real one does so too */
}

void on_hook_change(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = double_by_token(github, req);
    json_t *hook = repo ? find_hook(repo, ec_request_param(req, "hook")) : NULL;
    if (!hook) {
        if (repo) {
            double_message(req, 404, "Not Found");
        }
        return;
    }
    json_t *body = read_hook(github, req, false);
    if (body) {
        json_object_update(hook, body);
        json_decref(body);
        reply_hook(req, 200, hook);
    }
}

void on_hook_ping(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = double_by_token(github, req);
    json_t *hook = repo ? find_hook(repo, ec_request_param(req, "hook")) : NULL;
    if (!repo) {
        return;
    }
    if (!hook) {
        double_message(req, 404, "Not Found");
        return;
    }
    ping(github, double_repo_name(req), hook);
    ec_reply_empty(req, 204);
}

/* ---- deliveries ---- */

static size_t cursor_of(struct github_double *github, struct ec_request *req)
{
    const char *cursor = ec_request_query(req, "cursor");
    if (cursor && strncmp(cursor, "v1_", 3) != 0) {
        double_fault(github, req, "a cursor that was never given out");
    }
    return cursor ? strtoul(cursor + 3, NULL, 10) : 0;
}

static json_t *deliveries_of(struct github_double *github, json_t *repo, const char *hook_id)
{
    if (strcmp(hook_id, "0") == 0) {
        return github->app_deliveries;
    }
    json_t *all = json_object_get(repo, "deliveries");
    json_t *list = json_object_get(all, hook_id);
    if (!list) {
        list = json_array();
        json_object_set_new(all, hook_id, list);
    }
    return list;
}

void on_deliveries(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = double_by_token(github, req);
    if (repo) {
        double_reply_page(github, req, deliveries_of(github, repo, ec_request_param(req, "hook")),
                          cursor_of(github, req), "cursor");
    }
}

void on_app_deliveries(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    if (double_by_app(github, req)) {
        double_reply_page(github, req, github->app_deliveries, cursor_of(github, req), "cursor");
    }
}

static void redeliver(struct github_double *github, struct ec_request *req, json_t *list,
                      const json_t *hook)
{
    int64_t id = strtoll(ec_request_param(req, "delivery"), NULL, 10);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (ec_json_int(item, "id", 0) != id) {
            continue;
        }
        const char *guid = ec_json_text(item, "guid"), *body = ec_json_text(github->bodies, guid);
        json_object_set_new(
            github->redelivered, guid,
            json_integer(json_integer_value(json_object_get(github->redelivered, guid)) + 1));
        if (hook && body[0]) {
            json_t *again = json_copy((json_t *)(uintptr_t)item);
            json_object_set_new(again, "id", json_integer(++github->next_id));
            json_object_set_new(again, "redelivery", json_true());
            deliver_to(github, hook, ec_json_text(item, "event"), guid, body,
                       (struct sent){.list = list, .item = again});
        }
        ec_reply_json(req, 202, json_object_get(github->repos, "")); /* an empty object */
        return;
    }
    double_fault(github, req, "no such delivery");
    double_message(req, 404, "Not Found");
}

void on_attempt(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = double_by_token(github, req);
    if (repo) {
        const char *hook = ec_request_param(req, "hook");
        redeliver(github, req, deliveries_of(github, repo, hook), find_hook(repo, hook));
    }
}

void on_app_attempt(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    if (double_by_app(github, req)) {
        redeliver(github, req, github->app_deliveries, NULL);
    }
}

/* ---- what there is ---- */

int64_t github_double_hook(struct github_double *github, const char *full_name, json_t *hook)
{
    json_t *repo = json_object_get(github->repos, full_name);
    int64_t id = ++github->next_id;
    json_object_set_new(hook, "id", json_integer(id));
    json_object_set_new(hook, "type", json_string("Repository"));
    json_array_append_new(json_object_get(repo, "hooks"), hook);
    return id;
}

const json_t *github_double_hooks(const struct github_double *github, const char *full_name)
{
    return json_object_get(json_object_get(github->repos, full_name), "hooks");
}

int64_t github_double_deliver(struct github_double *github, const char *full_name, int64_t hook_id,
                              const struct github_double_delivery *delivery)
{
    char hook[32], at[EC_RFC3339_SIZE];
    snprintf(hook, sizeof(hook), "%lld", (long long)hook_id);
    ec_rfc3339(delivery->delivered_unix_ms ? delivery->delivered_unix_ms : ec_unix_ms(), at);
    int64_t id = ++github->next_id;
    int code = delivery->status_code;
    json_t *item =
        json_pack("{s:I, s:s, s:s, s:b, s:f, s:s, s:i, s:s, s:s?, s:n, s:I}", "id", (json_int_t)id,
                  "guid", delivery->guid, "delivered_at", at, "redelivery",
                  delivery->redelivery ? 1 : 0, "duration", 0.03, "status",
                  code >= 200 && code < 300 ? "OK"
                  : code                    ? "Invalid HTTP Response"
                                            : "failed to connect",
                  "status_code", code, "event", delivery->event ? delivery->event : "push",
                  "action", delivery->action, "installation_id", "repository_id", (json_int_t)1,
                  "_body", delivery->body ? delivery->body : "");
    json_array_insert_new(deliveries_of(github, json_object_get(github->repos, full_name), hook), 0,
                          item);
    return id;
}

unsigned github_double_redelivered(const struct github_double *github, const char *guid)
{
    return (unsigned)json_integer_value(json_object_get(github->redelivered, guid));
}
