/* Webhooks at the host: reading them, making and repairing ours, a ping; and who may push. */
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "githost/githost_private.h"

#define USER_MAX_BYTES 100
#define GITLAB_DEVELOPER 30 /* the least level that may push to branches that are not protected */

struct op {
    ec_githost_hooks_fn listed;
    ec_githost_hook_fn put;
    ec_githost_done_fn done;
    ec_githost_may_fn may;
    struct hook_list hooks; /* of all pages so far, in an arena that outlives each page's call */
    struct ec_arena *arena;
    const char *user;
    unsigned pages;
};

static struct ec_err new_call(struct ec_githosts *hosts, const char *repo_key, void *arg,
                              struct api_call **ret_call)
{
    EC_TRY(api_call_new(hosts, repo_key, ret_call));
    (*ret_call)->op = ec_arena_alloc((*ret_call)->arena, sizeof(struct op));
    (*ret_call)->done_arg = arg;
    return ec_ok();
}

/* ---- what ours should be; pure ---- */

static const char *const github_events[] = {
    "push",    "pull_request", "create",      "delete",           "repository",
    "release", "workflow_run", "check_suite", "registry_package", NULL};
static const char *const gitlab_events[] = {"push_events",           "tag_push_events",
                                            "merge_requests_events", "pipeline_events",
                                            "releases_events",       NULL};
static const char *const gitea_events[] = {
    "push",   "pull_request", "pull_request_sync", "pull_request_label",
    "create", "delete",       "repository",        "release",
    NULL};

const char *const *ec_githost_hook_events(enum ec_githost_kind kind)
{
    switch (kind) {
    case EC_GITHOST_GITLAB:
        return gitlab_events;
    case EC_GITHOST_GITEA:
        return gitea_events;
    case EC_GITHOST_GITHUB:
    case EC_GITHOST_BITBUCKET: /* its webhooks are made by hand */
    case EC_GITHOST_GIT:
        break;
    }
    return github_events;
}

const char *ec_githost_hook_path(enum ec_githost_kind kind)
{
    switch (kind) {
    case EC_GITHOST_GITHUB:
        return "/v1/webhooks/github";
    case EC_GITHOST_GITLAB:
        return "/v1/webhooks/gitlab";
    case EC_GITHOST_GITEA:
        return "/v1/webhooks/gitea";
    case EC_GITHOST_BITBUCKET:
        return "/v1/webhooks/bitbucket";
    case EC_GITHOST_GIT:
        break;
    }
    return "/v1/webhooks/generic";
}

const struct ec_githost_hook *ec_githost_hook_find(const struct ec_githost_hook *list, size_t count,
                                                   const char *url)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].url, url) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

static bool has(const char *const *list, const char *name)
{
    for (; *list; list++) {
        if (strcmp(*list, name) == 0 || strcmp(*list, "*") == 0) {
            return true;
        }
    }
    return false;
}

const char *ec_githost_hook_fault(struct ec_arena *arena, enum ec_githost_kind kind,
                                  const struct ec_githost_hook *hook)
{
    if (!hook->active) {
        return "it is switched off: the host delivers nothing";
    }
    if (strcmp(hook->content_type, "json") != 0) {
        return "its content type is not application/json";
    }
    if (hook->insecure) {
        return "it delivers without checking the certificate";
    }
    for (const char *const *event = ec_githost_hook_events(kind); *event; event++) {
        if (!has(hook->events, *event)) {
            return ec_arena_format(arena, "it does not deliver \"%s\"", *event);
        }
    }
    return NULL;
}

/* ---- reading ---- */

static void on_hooks_page(struct api_call *call, struct ec_err err,
                          const struct ec_fetch_result *result);

static void ask_page(struct api_call *call, const char *page)
{
    call->path =
        ec_arena_format(call->arena, "%s/hooks?%s=%s%s%s", api_repo_path(call),
                        call->host->kind == EC_GITHOST_GITEA ? "limit" : "per_page",
                        call->host->kind == EC_GITHOST_GITEA ? "50" : "100", page ? "&page=" : "",
                        page ? ec_percent(call->arena, ec_span_of(page)) : "");
    api_call_start(call, on_hooks_page);
}

static void on_hooks_page(struct api_call *call, struct ec_err err,
                          const struct ec_fetch_result *result)
{
    struct op *op = call->op;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    const char *page = NULL;
    if (!ec_failed(err)) {
        page = decode_next(call->arena, ec_fetch_header(result, "link"), "page");
        err = api_call_json(call, result, &root);
    }
    if (!ec_failed(err)) {
        err = decode_hooks(op->arena, call->host->kind, root, &op->hooks);
    }
    if (!ec_failed(err) && page && ++op->pages < PAGES_MAX && !call->hosts->closed) {
        struct api_call *next = api_call_sub(call->hosts, call->host, call->repo);
        next->op = op;
        next->done_arg = call->done_arg;
        ask_page(next, page);
        return;
    }
    op->listed(call->done_arg, err, op->hooks.items, ec_failed(err) ? 0 : op->hooks.count);
    ec_arena_free(op->arena);
}

struct ec_err ec_githost_hooks(struct ec_githosts *hosts, const char *repo_key,
                               ec_githost_hooks_fn done, void *arg)
{
    struct api_call *call = NULL;
    EC_TRY(api_call_new(hosts, repo_key, &call));
    struct ec_arena *arena = ec_arena_new(CALL_ARENA_BYTES);
    struct op *op = ec_arena_alloc(arena, sizeof(*op));
    *op = (struct op){.listed = done, .arena = arena};
    op->hooks.items = ec_arena_alloc(arena, HOOKS_MAX * sizeof(*op->hooks.items));
    call->op = op;
    call->done_arg = arg;
    ask_page(call, NULL);
    return ec_ok();
}

/* ---- making and repairing ---- */

static json_t *events_json(enum ec_githost_kind kind)
{
    json_t *list = json_array();
    for (const char *const *event = ec_githost_hook_events(kind); *event; event++) {
        json_array_append_new(list, json_string(*event));
    }
    return list;
}

static json_t *gitlab_body(const char *url, struct ec_span secret)
{
    json_t *body = json_pack("{s:s, s:s%, s:b}", "url", url, "token", secret.ptr, secret.len,
                             "enable_ssl_verification", 1);
    for (const char *const *event = gitlab_events; *event; event++) {
        json_object_set_new(body, *event, json_true());
    }
    return body;
}

static json_t *hook_body(const struct api_call *call, const struct ec_githost_hook_spec *spec)
{
    struct ec_span secret = ec_secret_use(spec->secret);
    enum ec_githost_kind kind = call->host->kind;
    if (kind == EC_GITHOST_GITLAB) {
        return gitlab_body(spec->url, secret);
    }
    json_t *config = json_pack("{s:s, s:s, s:s%}", "url", spec->url, "content_type", "json",
                               "secret", secret.ptr, secret.len);
    json_t *body =
        json_pack("{s:o, s:o, s:b}", "config", config, "events", events_json(kind), "active", 1);
    if (kind == EC_GITHOST_GITHUB) {
        json_object_set_new(config, "insecure_ssl", json_string("0"));
    }
    if (!spec->hook_id) {
        bool github = kind == EC_GITHOST_GITHUB;
        json_object_set_new(body, github ? "name" : "type", json_string(github ? "web" : "gitea"));
    }
    return body;
}

static void on_put(struct api_call *call, struct ec_err err, const struct ec_fetch_result *result)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    const char *id = "";
    if (!ec_failed(err)) {
        err = api_call_json(call, result, &root);
    }
    if (!ec_failed(err)) {
        id = decode_id(call->arena, json_object_get(root, "id"));
        err = id[0] ? ec_ok() : ec_reject("the git host answered a webhook without an id");
    }
    ((const struct op *)call->op)->put(call->done_arg, err, ec_failed(err) ? NULL : id);
}

struct ec_err ec_githost_hook_put(struct ec_githosts *hosts,
                                  const struct ec_githost_hook_spec *spec, ec_githost_hook_fn done,
                                  void *arg)
{
    struct api_call *call = NULL;
    if (spec->hook_id && !good_id(spec->hook_id)) {
        return ec_reject("this is no id of a webhook at the host");
    }
    EC_TRY(new_call(hosts, spec->repo_key, arg, &call));
    bool gitlab = call->host->kind == EC_GITHOST_GITLAB;
    call->method = !spec->hook_id ? "POST" : gitlab ? "PUT" : "PATCH";
    call->path = ec_arena_format(call->arena, "%s/hooks%s%s", api_repo_path(call),
                                 spec->hook_id ? "/" : "", spec->hook_id ? spec->hook_id : "");
    json_t *body = hook_body(call, spec);
    call->body = ec_span_of(ec_json_dump(call->arena, body));
    json_decref(body);
    ((struct op *)call->op)->put = done;
    api_call_start(call, on_put);
    return ec_ok();
}

/* ---- ping ---- */

bool ec_githost_can_ping(enum ec_githost_kind kind)
{
    return kind == EC_GITHOST_GITHUB || kind == EC_GITHOST_GITEA;
}

static void on_done(struct api_call *call, struct ec_err err, const struct ec_fetch_result *result)
{
    (void)result;
    ((const struct op *)call->op)->done(call->done_arg, err);
}

struct ec_err ec_githost_hook_ping(struct ec_githosts *hosts, const char *repo_key,
                                   const char *hook_id, ec_githost_done_fn done, void *arg)
{
    struct api_call *call = NULL;
    if (!good_id(hook_id)) {
        return ec_reject("this is no id of a webhook at the host");
    }
    if (!ec_githost_can_ping(ec_githost_kind(hosts, repo_key))) {
        return ec_reject("this host has no ping: what it calls a test is a real push");
    }
    EC_TRY(new_call(hosts, repo_key, arg, &call));
    call->method = "POST";
    call->path = ec_arena_format(call->arena, "%s/hooks/%s/%s", api_repo_path(call), hook_id,
                                 call->host->kind == EC_GITHOST_GITEA ? "tests" : "pings");
    ((struct op *)call->op)->done = done;
    api_call_start(call, on_done);
    return ec_ok();
}

/* ---- who may push ---- */

static void on_permission(struct api_call *call, struct ec_err err,
                          const struct ec_fetch_result *result)
{
    const struct op *op = call->op;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    bool may = false;
    if (result && result->status == 404) { /* no such user, or nobody there */
        op->may(call->done_arg, ec_ok(), false);
        return;
    }
    if (!ec_failed(err)) {
        err = api_call_json(call, result, &root);
    }
    if (!ec_failed(err) && call->host->kind == EC_GITHOST_GITLAB) {
        may = decode_gitlab_level(root, op->user) >= GITLAB_DEVELOPER;
    } else if (!ec_failed(err)) {
        const char *permission = ec_json_text(root, "permission");
        may = strcmp(permission, "admin") == 0 || strcmp(permission, "write") == 0 ||
              strcmp(permission, "owner") == 0;
    }
    op->may(call->done_arg, err, may);
}

struct ec_err ec_githost_may_push(struct ec_githosts *hosts, const char *repo_key, const char *user,
                                  ec_githost_may_fn done, void *arg)
{
    struct api_call *call = NULL;
    if (!user[0] || strlen(user) > USER_MAX_BYTES) {
        return ec_reject("this is no name of a user at the host");
    }
    EC_TRY(new_call(hosts, repo_key, arg, &call));
    struct op *op = call->op;
    op->may = done;
    op->user = ec_arena_strdup(call->arena, user);
    const char *name = ec_percent(call->arena, ec_span_of(user));
    call->path = call->host->kind == EC_GITHOST_GITLAB
                     ? ec_arena_format(call->arena, "%s/members/all?per_page=100&query=%s",
                                       api_repo_path(call), name)
                     : ec_arena_format(call->arena, "%s/collaborators/%s/permission",
                                       api_repo_path(call), name);
    api_call_start(call, on_permission);
    return ec_ok();
}
