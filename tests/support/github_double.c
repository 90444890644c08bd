/* GitHub's side of libs/githost, kept in JSON values: who may ask, pages, people, statuses. Routes
 * and answers by docs.github.com (REST: webhooks, deliveries, apps, collaborators, statuses). */
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

bool double_is(const char *value, const char *wanted)
{
    return value && strcmp(value, wanted) == 0;
}

/* ---- who asks ---- */

const char *double_bearer(struct ec_request *req)
{
    const char *header = ec_request_header(req, "Authorization");
    return header && strncmp(header, "Bearer ", 7) == 0 ? header + 7 : "";
}

const char *double_repo_name(struct ec_request *req)
{
    return ec_arena_format(ec_request_arena(req), "%s/%s", ec_request_param(req, "owner"),
                           ec_request_param(req, "name"));
}

json_t *double_by_token(struct github_double *github, struct ec_request *req)
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
    if (!double_is(ec_request_header(req, "Accept"), "application/vnd.github+json") ||
        !double_is(ec_request_header(req, "X-GitHub-Api-Version"), "2022-11-28")) {
        double_fault(github, req,
                     "Accept or X-GitHub-Api-Version is not what the documentation asks for");
    }
    if (ec_request_body(req).len > 0 &&
        !double_is(ec_request_header(req, "Content-Type"), "application/json")) {
        double_fault(github, req, "a body that is not application/json");
    }
    if (!double_bearer(req)[0]) {
        double_fault(github, req, "without a bearer token");
        double_message(req, 401, "Requires authentication");
        return false;
    }
    if (github->refused_method && double_is(ec_request_method(req), github->refused_method)) {
        double_message(req, 403, "Resource not accessible by personal access token");
        return false;
    }
    return !reply_limit(github, req);
}

/* ---- pages ---- */

void double_reply_page(struct github_double *github, struct ec_request *req, json_t *list,
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
    if (double_is(ec_request_header(req, "If-None-Match"), etag)) {
        ec_reply_empty(req, 304);
    } else {
        ec_reply_json(req, 200, page);
    }
    json_decref(page);
}

/* ---- people, statuses ---- */

static void on_permission(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    json_t *repo = double_by_token(github, req);
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
    if (!double_by_token(github, req)) {
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

/* By its id, under whatever name. */
static void on_repository(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    const char *name, *id = ec_request_param(req, "id");
    json_t *repo, *token = json_object_get(github->tokens, double_bearer(req));
    if (!token || ec_json_int(token, "until", 0) < ec_unix_ms()) {
        double_message(req, 401, "Bad credentials");
        return;
    }
    json_object_foreach(github->repos, name, repo)
    {
        if (ec_json_int(repo, "id", 0) == strtoll(id, NULL, 10) && name[0]) {
            json_t *body =
                json_pack("{s:I, s:s, s:s, s:s, s:b}", "id", (json_int_t)ec_json_int(repo, "id", 0),
                          "full_name", name, "clone_url", ec_json_text(repo, "clone_url"),
                          "default_branch", "main", "archived", 0);
            ec_reply_json(req, 200, body);
            json_decref(body);
            return;
        }
    }
    double_message(req, 404, "Not Found");
}

#define REPO "/repos/{owner}/{name}"
static const struct ec_http_route routes[] = {
    {"GET", REPO "/installation", on_installation, 0, 0},
    {"POST", "/app/installations/{id}/access_tokens", on_access_token, BODY_MAX_BYTES, 0},
    {"GET", "/repositories/{id}", on_repository, 0, 0},
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
    char clone_url[300];
    snprintf(clone_url, sizeof(clone_url), "https://github.com/%s.git", full_name);
    json_object_set_new(github->repos, full_name,
                        json_pack("{s:I, s:s, s:[], s:{}, s:{}}", "id",
                                  (json_int_t)++github->next_id, "clone_url", clone_url, "hooks",
                                  "deliveries", "collaborators"));
}

int64_t github_double_repo_id(const struct github_double *github, const char *full_name)
{
    return ec_json_int(json_object_get(github->repos, full_name), "id", 0);
}

void github_double_rename(struct github_double *github, const char *full_name, const char *to,
                          const char *clone_url)
{
    json_t *repo = json_incref(json_object_get(github->repos, full_name));
    json_object_del(github->repos, full_name);
    json_object_set_new(repo, "clone_url", json_string(clone_url));
    json_object_set_new(github->repos, to, repo);
}

void github_double_collaborator(struct github_double *github, const char *full_name,
                                const char *user, const char *permission)
{
    json_t *repo = json_object_get(github->repos, full_name);
    json_object_set_new(json_object_get(repo, "collaborators"), user, json_string(permission));
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
