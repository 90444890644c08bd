/* GitHub's side of libs/githost, kept in JSON values. Routes and answers by docs.github.com (REST:
 * webhooks, deliveries, apps, collaborators, statuses). */
#include "support/github_double_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "support/kafka.h"
#include "trust/digest.h"

#define BODY_MAX_BYTES 65536

/* ---- faults ---- */

void double_fault(struct github_double *github, struct ec_request *req, const char *what)
{
    if (!github->fault[0]) {
        snprintf(github->fault, sizeof(github->fault), "%s %s: %s", ec_request_method(req),
                 ec_request_path(req), what);
    }
}

void double_message(struct ec_request *req, int status, const char *text)
{
    json_t *body = json_pack("{s:s, s:s, s:s}", "message", text, "documentation_url",
                             "https://docs.github.com/rest", "status", "");
    ec_reply_json(req, status, body);
    json_decref(body);
}

static bool is(const char *value, const char *wanted)
{
    return value && strcmp(value, wanted) == 0;
}

/* ---- who asks ---- */

const char *double_bearer(struct ec_request *req)
{
    const char *header = ec_request_header(req, "Authorization");
    return header && strncmp(header, "Bearer ", 7) == 0 ? header + 7 : "";
}

/* The repository, for a token that may see it; NULL = answered. */
static json_t *by_token(struct github_double *github, struct ec_request *req)
{
    json_t *token = json_object_get(github->tokens, double_bearer(req));
    const char *owner = ec_request_param(req, "owner");
    if (!token || ec_json_int(token, "until", 0) < ec_unix_ms()) {
        double_message(req, 401, "Bad credentials");
        return NULL;
    }
    const char *name =
        ec_arena_format(ec_request_arena(req), "%s/%s", owner, ec_request_param(req, "name"));
    json_t *repo = json_object_get(github->repos, name);
    const char *of_app = ec_json_text(token, "app");
    if (!repo || (of_app[0] && strcmp(of_app, owner) != 0)) {
        double_message(req, 404, "Not Found");
        return NULL;
    }
    return repo;
}

static bool reply_limit(struct github_double *github, struct ec_request *req)
{
    const struct github_double_limit *limit = &github->limit;
    if (github->limit_count == 0) {
        ec_reply_header(req, "X-RateLimit-Limit", "5000");
        ec_reply_header(req, "X-RateLimit-Remaining", "4999");
        return false;
    }
    github->limit_count--;
    const char *const headers[][2] = {{"Retry-After", limit->retry_after},
                                      {"X-RateLimit-Remaining", limit->remaining},
                                      {"X-RateLimit-Reset", limit->reset}};
    for (size_t i = 0; i < EC_LEN(headers); i++) {
        if (headers[i][1]) {
            ec_reply_header(req, headers[i][0], headers[i][1]);
        }
    }
    if (limit->status) {
        double_message(req, limit->status, limit->message ? limit->message : "");
    }
    return limit->status != 0;
}

static bool before(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    const char *agent = ec_request_header(req, "User-Agent");
    char what[300];
    snprintf(what, sizeof(what), "%s %s", ec_request_method(req), ec_request_path(req));
    json_object_set_new(github->asked, what,
                        json_integer(json_integer_value(json_object_get(github->asked, what)) + 1));
    if (!agent || !agent[0]) {
        double_fault(github, req, "without User-Agent");
        double_message(req, 403, "Request forbidden by administrative rules.");
        return false;
    }
    if (!is(ec_request_header(req, "Accept"), "application/vnd.github+json") ||
        !is(ec_request_header(req, "X-GitHub-Api-Version"), "2022-11-28")) {
        double_fault(github, req,
                     "Accept or X-GitHub-Api-Version is not what the documentation asks for");
    }
    if (ec_request_body(req).len > 0 &&
        !is(ec_request_header(req, "Content-Type"), "application/json")) {
        double_fault(github, req, "a body that is not application/json");
    }
    if (!double_bearer(req)[0]) {
        double_fault(github, req, "without a bearer token");
        double_message(req, 401, "Requires authentication");
        return false;
    }
    if (github->refused_method && is(ec_request_method(req), github->refused_method)) {
        double_message(req, 403, "Resource not accessible by personal access token");
        return false;
    }
    return !reply_limit(github, req);
}

/* ---- pages ---- */

/* Answers `per_page` of the list after `at`; links to the rest by that parameter. */
static void reply_page(struct github_double *github, struct ec_request *req, json_t *list,
                       size_t at, const char *parameter)
{
    const char *asked = ec_request_query(req, "per_page");
    unsigned most = asked ? (unsigned)atoi(asked) : 30;
    if (most < 1 || most > 100) {
        double_fault(github, req, "per_page is not 1 to 100");
    }
    most = most < github->page_size ? most : github->page_size;
    json_t *page = json_array();
    size_t end = at + most < json_array_size(list) ? at + most : json_array_size(list);
    for (size_t i = at; i < end; i++) {
        json_array_append(page, json_array_get(list, i));
    }
    char *text = ec_json_dump(ec_request_arena(req), page);
    char *etag = ec_arena_format(ec_request_arena(req), "W/\"%.32s\"",
                                 ec_sha256_hex(ec_request_arena(req), ec_span_of(text)));
    if (end < json_array_size(list)) {
        bool pages = strcmp(parameter, "page") == 0;
        ec_reply_header(
            req, "Link",
            ec_arena_format(ec_request_arena(req),
                            "<%s%s?per_page=%u&%s=%s%zu>; rel=\"next\", <%s/last>; rel=\"last\"",
                            github->url, ec_request_path(req), most, parameter, pages ? "" : "v1_",
                            pages ? end / most + 1 : end, github->url));
    }
    ec_reply_header(req, "ETag", etag);
    if (is(ec_request_header(req, "If-None-Match"), etag)) {
        ec_reply_empty(req, 304);
    } else {
        ec_reply_json(req, 200, page);
    }
    json_decref(page);
}

static size_t cursor_of(struct github_double *github, struct ec_request *req)
{
    const char *cursor = ec_request_query(req, "cursor");
    if (cursor && strncmp(cursor, "v1_", 3) != 0) {
        double_fault(github, req, "a cursor that was never given out");
    }
    return cursor ? strtoul(cursor + 3, NULL, 10) : 0;
}

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
            known |= is(name, members[i]);
        }
        if (!known) {
            return "a member that the documentation does not have";
        }
    }
    if (is_new && !is(ec_json_text(body, "name"), "web")) {
        return "name must be web";
    }
    if (!is(ec_json_text(body, "config.content_type"), "json") ||
        strncmp(ec_json_text(body, "config.url"), "http", 4) != 0 ||
        !is(ec_json_text(body, "config.insecure_ssl"), "0") ||
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

static void on_hooks(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = by_token(github, req);
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
    reply_page(github, req, list, at, "page");
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

const char *double_repo_name(struct ec_request *req)
{
    return ec_arena_format(ec_request_arena(req), "%s/%s", ec_request_param(req, "owner"),
                           ec_request_param(req, "name"));
}

static void on_hook_create(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = by_token(github, req);
    json_t *hook = repo ? read_hook(github, req, true) : NULL;
    if (!hook) {
        return;
    }
    json_t *hooks = json_object_get(repo, "hooks");
    for (size_t i = 0; i < json_array_size(hooks); i++) {
        if (is(ec_json_text(json_array_get(hooks, i), "config.url"),
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

static void on_hook_change(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = by_token(github, req);
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

static void on_hook_ping(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = by_token(github, req);
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

static void on_deliveries(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = by_token(github, req);
    if (repo) {
        reply_page(github, req, deliveries_of(github, repo, ec_request_param(req, "hook")),
                   cursor_of(github, req), "cursor");
    }
}

static void on_app_deliveries(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    if (double_by_app(github, req)) {
        reply_page(github, req, github->app_deliveries, cursor_of(github, req), "cursor");
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

static void on_attempt(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = by_token(github, req);
    if (repo) {
        const char *hook = ec_request_param(req, "hook");
        redeliver(github, req, deliveries_of(github, repo, hook), find_hook(repo, hook));
    }
}

static void on_app_attempt(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    if (double_by_app(github, req)) {
        redeliver(github, req, github->app_deliveries, NULL);
    }
}

/* ---- the App, people, statuses ---- */

static void on_permission(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = by_token(github, req);
    if (!repo) {
        return;
    }
    const char *user = ec_request_param(req, "user");
    const char *permission =
        json_string_value(json_object_get(json_object_get(repo, "collaborators"), user));
    if (!permission) {
        double_message(req, 404, "Not Found");
        return;
    }
    json_t *body = json_pack("{s:s, s:s, s:{s:s}}", "permission", permission, "role_name",
                             permission, "user", "login", user);
    ec_reply_json(req, 200, body);
    json_decref(body);
}

static void on_status(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    ec_cleanup(ec_json_freep) json_t *body = NULL;
    if (!by_token(github, req)) {
        return;
    }
    bool good = !ec_failed(ec_json_parse(ec_request_arena(req), ec_request_body(req), &body));
    char word[40];
    snprintf(word, sizeof(word), " %.30s ", ec_json_text(body, "state"));
    if (!good || !strstr(" error failure pending success ", word) ||
        strlen(ec_json_text(body, "description")) > 140) {
        double_fault(github, req, "no commit status");
        double_message(req, 422, "Validation Failed");
        return;
    }
    ec_reply_json(req, 201, body);
}

#define REPO "/repos/{owner}/{name}"
static const struct ec_http_route routes[] = {
    {"GET", REPO "/installation", on_installation, 0, 0},
    {"POST", "/app/installations/{id}/access_tokens", on_access_token, BODY_MAX_BYTES, 0},
    {"GET", "/app/hook/deliveries", on_app_deliveries, 0, 0},
    {"POST", "/app/hook/deliveries/{delivery}/attempts", on_app_attempt, BODY_MAX_BYTES, 0},
    {"GET", REPO "/hooks", on_hooks, 0, 0},
    {"POST", REPO "/hooks", on_hook_create, BODY_MAX_BYTES, 0},
    {"PATCH", REPO "/hooks/{hook}", on_hook_change, BODY_MAX_BYTES, 0},
    {"POST", REPO "/hooks/{hook}/pings", on_hook_ping, BODY_MAX_BYTES, 0},
    {"GET", REPO "/hooks/{hook}/deliveries", on_deliveries, 0, 0},
    {"POST", REPO "/hooks/{hook}/deliveries/{delivery}/attempts", on_attempt, BODY_MAX_BYTES, 0},
    {"GET", REPO "/collaborators/{user}/permission", on_permission, 0, 0},
    {"POST", REPO "/statuses/{sha}", on_status, BODY_MAX_BYTES, 0},
};

/* ---- life ---- */

struct github_double *github_double_open(struct ec_loop *loop)
{
    struct github_double *github = ec_alloc(sizeof(*github));
    github->loop = loop;
    github->asked = json_object();
    github->repos = json_pack("{s:{}}", "");
    github->tokens = json_object();
    github->redelivered = json_object();
    github->bodies = json_object();
    github->app_deliveries = json_array();
    github->page_size = 100;
    github->next_id = 1000;
    struct ec_http_server_spec spec = {.listen = "127.0.0.1:0",
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .state = github,
                                       .before = before};
    if (ec_failed(ec_http_server_open(loop, &spec, &github->server)) ||
        ec_failed(ec_fetcher_open(loop, "GitHub-Hookshot/d0uble", 8, &github->fetcher))) {
        abort();
    }
    snprintf(github->url, sizeof(github->url), "http://127.0.0.1:%u",
             ec_http_server_port(github->server));
    return github;
}

static bool is_idle(void *arg)
{
    const struct github_double *github = arg;
    return github->closed && github->sending == 0;
}

static void on_closed(void *arg)
{
    ((struct github_double *)arg)->closed = true;
}

void github_double_close(struct github_double *github)
{
    ec_fetcher_close(github->fetcher);
    ec_http_server_close(github->server, 100, on_closed, github);
    test_run_until(github->loop, 5000, is_idle, github);
    json_t *const kept[] = {github->asked,       github->repos,  github->tokens,
                            github->redelivered, github->bodies, github->app_deliveries};
    for (size_t i = 0; i < EC_LEN(kept); i++) {
        json_decref(kept[i]);
    }
    EVP_PKEY_free(github->app_key);
    if (github->key_file[0]) {
        unlink(github->key_file);
    }
    free(github);
}

const char *github_double_url(const struct github_double *github)
{
    return github->url;
}

const char *github_double_fault(const struct github_double *github)
{
    return github->fault[0] ? github->fault : NULL;
}

unsigned github_double_asked(const struct github_double *github, const char *what)
{
    return (unsigned)json_integer_value(json_object_get(github->asked, what));
}

/* ---- what there is ---- */

void github_double_token(struct github_double *github, const char *token)
{
    json_object_set_new(github->tokens, token,
                        json_pack("{s:I, s:s}", "until", (json_int_t)INT64_MAX, "app", ""));
}

void github_double_revoke(struct github_double *github)
{
    json_object_clear(github->tokens);
}

void github_double_repo(struct github_double *github, const char *full_name)
{
    json_object_set_new(github->repos, full_name,
                        json_pack("{s:I, s:[], s:{}, s:{}}", "id", (json_int_t)++github->next_id,
                                  "hooks", "deliveries", "collaborators"));
}

void github_double_collaborator(struct github_double *github, const char *full_name,
                                const char *user, const char *permission)
{
    json_t *repo = json_object_get(github->repos, full_name);
    json_object_set_new(json_object_get(repo, "collaborators"), user, json_string(permission));
}

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

void github_double_limit(struct github_double *github, unsigned count,
                         const struct github_double_limit *limit)
{
    github->limit_count = count;
    github->limit = *limit;
}

void github_double_refuse(struct github_double *github, const char *method)
{
    github->refused_method = method;
}

void github_double_page_size(struct github_double *github, unsigned most)
{
    github->page_size = most;
}
