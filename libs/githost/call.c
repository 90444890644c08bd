/* One call to a host's API: credential, request, what the answer says about limits, its end. A call
 * lives until its callback has returned and is counted by the hosts, which go when they are closed
 * and the last one has ended. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "base/metric.h"
#include "githost/githost_private.h"

#define HEADERS_MAX 5
#define REDIRECTS_MAX 3 /* GitHub redirects renamed repositories */

static struct ec_metric requests = EC_COUNTER(
    "enclii_githost_requests_total", "Requests to git hosts by what came of them.", "result");

/* ---- making and ending ---- */

struct api_call *api_call_sub(struct ec_githosts *hosts, struct git_host *host, const char *repo)
{
    struct api_call *call = ec_alloc(sizeof(*call));
    call->hosts = hosts;
    call->host = host;
    call->arena = ec_arena_new(CALL_ARENA_BYTES);
    call->repo = ec_arena_strdup(call->arena, repo);
    call->method = "GET";
    call->path = "/";
    call->next = hosts->first;
    if (call->next) {
        call->next->prev = call;
    }
    hosts->first = call;
    hosts->calls++;
    return call;
}

static void finish(struct api_call *call, struct ec_err err, const struct ec_fetch_result *result)
{
    struct ec_githosts *hosts = call->hosts;
    if (hosts->closed) {
        err = ec_reject("cancelled");
        result = NULL;
    }
    call->answered(call, err, result);
    if (call->prev) {
        call->prev->next = call->next;
    } else {
        hosts->first = call->next;
    }
    if (call->next) {
        call->next->prev = call->prev;
    }
    hosts->calls--;
    ec_secret_free(call->secret);
    ec_arena_free(call->arena);
    free(call);
    githosts_free_if_over(hosts);
}

/* Exactly "owner/name" at GitHub and Gitea; GitLab has groups in groups, plain git anything. */
static bool good_path(const struct git_host *host, const char *repo_key)
{
    const char *path = strchr(repo_key, '/');
    const char *slash = path && path[1] != '/' ? strchr(path + 1, '/') : NULL;
    bool deep = slash && strchr(slash + 1, '/');
    switch (host ? host->kind : EC_GITHOST_GIT) {
    case EC_GITHOST_GITHUB:
    case EC_GITHOST_GITEA:
    case EC_GITHOST_BITBUCKET:
        return slash && slash[1] && !deep;
    case EC_GITHOST_GITLAB:
        return slash && slash[1];
    case EC_GITHOST_GIT:
        break;
    }
    return path != NULL;
}

struct ec_err api_call_check(const struct ec_githosts *hosts, const struct git_host *host,
                             const char *repo_key)
{
    if (!good_path(host, repo_key)) {
        return ec_reject("the repository's name is not of the form owner/name");
    }
    if (!hosts || hosts->closed) {
        return ec_reject("cancelled");
    }
    return hosts->calls < CALLS_MAX ? ec_ok()
                                    : ec_retry(0, "too many calls to git hosts are under way");
}

struct ec_err api_call_new(struct ec_githosts *hosts, const char *repo_key,
                           struct api_call **ret_call)
{
    if (hosts && !ec_githost_has_api(hosts, repo_key)) {
        return ec_reject("no API of this git host is set up: list it in ENCLII_GIT_HOSTS_FILE, or "
                         "set ENCLII_GITHUB_TOKEN for github.com");
    }
    return api_call_make(hosts, repo_key, ret_call);
}

struct ec_err api_call_make(struct ec_githosts *hosts, const char *repo_key,
                            struct api_call **ret_call)
{
    struct git_host *host = githost_find(hosts, repo_key);
    EC_TRY(api_call_check(hosts, host, repo_key));
    if (ec_githost_wait_ms(hosts, repo_key) > 0) {
        return ec_retry(0, "the git host's rate limit is used up for now");
    }
    *ret_call = api_call_sub(hosts, host, strchr(repo_key, '/') + 1);
    return ec_ok();
}

const char *api_repo_path(const struct api_call *call)
{
    return call->host->kind == EC_GITHOST_GITLAB
               ? ec_arena_format(call->arena, "/projects/%s",
                                 ec_percent(call->arena, ec_span_of(call->repo)))
               : ec_arena_format(call->arena, "/repos/%s", call->repo);
}

struct ec_err api_call_json(struct api_call *call, const struct ec_fetch_result *result,
                            json_t **ret_root)
{
    struct ec_err err = ec_json_parse(call->arena, result->body, ret_root);
    return ec_failed(err) ? ec_reject_in(call->arena, "%s answered what is no JSON: %s",
                                         call->host->server, err.what)
                          : ec_ok();
}

/* ---- the answer ---- */

static const char *header(const struct ec_fetch_result *result, const char *name, const char *other)
{
    const char *value = ec_fetch_header(result, name);
    return value ? value : ec_fetch_header(result, other);
}

/* What the host says in its own words; "" when it says nothing. */
static const char *words_of(struct api_call *call, const struct ec_fetch_result *result)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    if (ec_failed(ec_json_parse(call->arena, result->body, &root))) {
        return ""; /* proxies answer in HTML */
    }
    const char *message = decode_text(call->arena, root, "message");
    message = message[0] ? message : decode_text(call->arena, root, "error");
    const char *more = decode_text(call->arena, root, "errors.0.message");
    return ec_arena_format(call->arena, "%s%s%s", message, message[0] && more[0] ? ": " : "", more);
}

static const char *hint_for(const struct api_call *call, int status)
{
    bool app = call->host->app_key != NULL;
    switch (status) {
    case 401:
        return app ? "; check the App's id and its key file"
                   : "; check the token: is it still valid?";
    case 403:
        return app ? "; the App lacks a permission for this (docs: webhooks)"
                   : "; the token lacks a permission for this (docs: webhooks)";
    case 404:
        return app ? "; is it there, and is the App installed for it?"
                   : "; is it there, and may the token see it and its webhooks?";
    default:
        return "";
    }
}

static struct ec_err status_error(struct api_call *call, const struct ec_fetch_result *result,
                                  const char *words)
{
    int status = result->status;
    if (status >= 300 && status < 400 && status != 304) {
        return ec_reject_in(call->arena,
                            "%s says that %s was moved: set it up again under its new name",
                            call->host->server, call->repo);
    }
    if (status == 304) {
        return ec_ok();
    }
    return ec_fetch_status_err(
        status, ec_arena_format(call->arena, "%s answered %d to %s %.200s%s%s%s",
                                call->host->server, status, call->method, call->path,
                                words[0] ? ": " : "", words, hint_for(call, status)));
}

static struct ec_err limited(struct api_call *call, int64_t wait_ms)
{
    return ec_retry_in(call->arena, 0,
                       "%s: its rate limit is used up; the next call may go out in %s",
                       call->host->server, ec_duration_text(call->arena, wait_ms));
}

static struct ec_err judge(struct api_call *call, const struct ec_fetch_result *result)
{
    struct git_host *host = call->host;
    bool failed = result->status >= 400;
    /* Of calls that were under way together, the first refusal tells; the others are the same. */
    int64_t blocked_ms = host->blocked_until_mono_ms - ec_mono_ms();
    bool known = blocked_ms > 0;
    const char *words = failed ? words_of(call, result) : "";
    struct limit_verdict verdict = decide_limit(&(struct limit_facts){
        .status = result->status,
        .retry_after = ec_fetch_header(result, "retry-after"),
        .remaining = header(result, "x-ratelimit-remaining", "ratelimit-remaining"),
        .reset = header(result, "x-ratelimit-reset", "ratelimit-reset"),
        .says_limit = strcasestr(words, "rate limit") != NULL,
        .now_unix_s = ec_unix_ms() / 1000,
        .strikes = known && host->strikes > 0 ? host->strikes - 1 : host->strikes});
    if (!known) {
        host->strikes = verdict.refused ? host->strikes + 1 : 0;
    }
    if (verdict.wait_ms > blocked_ms) {
        host->blocked_until_mono_ms = ec_mono_ms() + verdict.wait_ms;
    }
    ec_metric_add(&requests, verdict.refused ? "limited" : failed ? "refused" : "ok", 1);
    return verdict.refused ? limited(call, verdict.wait_ms) : status_error(call, result, words);
}

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct api_call *call = arg;
    call->fetch = NULL;
    if (ec_failed(err)) {
        ec_metric_add(&requests, "unreachable", 1);
        const char *what =
            ec_arena_format(call->arena, "%s cannot be asked: %s", call->host->server, err.what);
        finish(call, (struct ec_err){err.fate, err.sys, what}, NULL);
        return;
    }
    bool token_refused = result->status == 401 && call->host->app_key && !call->as_app;
    if (token_refused && !call->auth_forgot && !call->hosts->closed) {
        /* It was revoked, or the App installed anew: a fresh one, once. */
        call->auth_forgot = true;
        app_forget_token(call);
        app_authorize(call);
        return;
    }
    if (call->host->app_key && !call->as_app && (result->status == 403 || result->status == 404)) {
        app_forget_installation(call); /* it may have moved to another owner: the next call asks */
    }
    err = judge(call, result);
    finish(call, err, result);
}

/* ---- the request ---- */

/* Gives the count. A header that is ours to wipe is *ret_auth. */
static size_t fill_headers(struct api_call *call, struct ec_header *headers, char **ret_auth)
{
    struct ec_span token = ec_secret_use(call->secret);
    size_t count = 0;
    *ret_auth = NULL;
    switch (call->host->kind) {
    case EC_GITHOST_GITHUB: /* its token goes as a bearer */
        headers[count++] = (struct ec_header){"Accept", "application/vnd.github+json"};
        headers[count++] = (struct ec_header){"X-GitHub-Api-Version", "2022-11-28"};
        break;
    case EC_GITHOST_BITBUCKET: /* as here */
        headers[count++] = (struct ec_header){"Accept", "application/json"};
        break;
    case EC_GITHOST_GITLAB:
        *ret_auth = ec_strndup(token.ptr, token.len);
        headers[count++] = (struct ec_header){"PRIVATE-TOKEN", *ret_auth};
        break;
    case EC_GITHOST_GITEA:
    case EC_GITHOST_GIT:
        *ret_auth = ec_format("token %.*s", (int)token.len, token.ptr);
        headers[count++] = (struct ec_header){"Authorization", *ret_auth};
        break;
    }
    if (call->body.len > 0) {
        headers[count++] = (struct ec_header){"Content-Type", "application/json"};
    }
    if (call->etag) {
        headers[count++] = (struct ec_header){"If-None-Match", call->etag};
    }
    return count;
}

static void ask(struct api_call *call)
{
    struct ec_header headers[HEADERS_MAX];
    char *auth = NULL;
    size_t count = fill_headers(call, headers, &auth);
    bool github = call->host->kind == EC_GITHOST_GITHUB;
    struct ec_fetch_spec spec = {
        .method = call->method,
        .url = ec_arena_format(call->arena, "%s%s", call->host->api, call->path),
        .headers = headers,
        .header_count = count,
        .bearer = github || call->host->kind == EC_GITHOST_BITBUCKET ? call->secret : NULL,
        .body = call->body,
        .deadline_ms = CALL_DEADLINE_MS,
        .body_max_bytes = ANSWER_MAX_BYTES,
        /* A header of a name of its own would follow a redirect to another host. */
        .redirects_max = github && strcmp(call->method, "GET") == 0 ? REDIRECTS_MAX : 0,
    };
    struct ec_err err = ec_fetch_start(call->hosts->fetcher, &spec, on_answer, call, &call->fetch);
    if (auth) {
        explicit_bzero(auth, strlen(auth));
        free(auth);
    }
    if (ec_failed(err)) {
        finish(call, err, NULL);
    }
}

void api_call_go_on(struct api_call *call, struct ec_err err)
{
    if (ec_failed(err) || call->hosts->closed || call->auth_only) {
        finish(call, err, NULL);
    } else {
        ask(call);
    }
}

static void begin(void *arg)
{
    struct api_call *call = arg;
    struct git_host *host = call->host;
    if (call->hosts->closed || !host) {
        finish(call, ec_ok(), NULL);
    } else if (host->app_key && !call->as_app) {
        app_authorize(call);
    } else if (host->app_key) {
        struct ec_err err =
            app_jwt(call->arena, host->app_key, host->app_id, ec_unix_ms() / 1000, &call->secret);
        api_call_go_on(call, err);
    } else {
        call->secret = host->token ? ec_secret_new(ec_secret_use(host->token)) : NULL;
        api_call_go_on(call, ec_ok());
    }
}

void api_call_start(struct api_call *call, api_answered_fn answered)
{
    call->answered = answered;
    ec_loop_defer(call->hosts->loop, begin, call);
}
