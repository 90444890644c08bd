/* A repository by the host's own id, which it keeps under every name: where is it now? */
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "githost/githost_private.h"

struct op {
    ec_githost_repo_fn done;
    const char *id;
};

/* GitHub and Gitea alike; GitLab has names of its own. */
struct ec_err decode_repo(struct ec_arena *arena, enum ec_githost_kind kind, const json_t *root,
                          struct ec_githost_repo *ret_repo)
{
    bool gitlab = kind == EC_GITHOST_GITLAB;
    *ret_repo = (struct ec_githost_repo){
        .id = decode_id(arena, json_object_get(root, "id")),
        .full_name = decode_text(arena, root, gitlab ? "path_with_namespace" : "full_name"),
        .clone_url = decode_text(arena, root, gitlab ? "http_url_to_repo" : "clone_url"),
        .default_branch = decode_text(arena, root, "default_branch"),
        .archived = ec_json_bool(root, "archived", false),
    };
    bool whole = ret_repo->id[0] && ret_repo->full_name[0] && ret_repo->clone_url[0];
    return whole ? ec_ok() : ec_reject("the git host's answer names no repository");
}

static void on_repo(struct api_call *call, struct ec_err err, const struct ec_fetch_result *result)
{
    const struct op *op = call->op;
    struct ec_githost_repo repo = {0};
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    if (!ec_failed(err)) {
        err = api_call_json(call, result, &root);
    }
    if (!ec_failed(err)) {
        err = decode_repo(call->arena, call->host->kind, root, &repo);
    }
    if (!ec_failed(err) && strcmp(repo.id, op->id) != 0) {
        err = ec_reject("the git host answered about another repository");
    }
    op->done(call->done_arg, err, ec_failed(err) ? NULL : &repo);
}

struct ec_err ec_githost_repo(struct ec_githosts *hosts, const char *repo_key,
                              const char *host_repo_id, ec_githost_repo_fn done, void *arg)
{
    struct api_call *call = NULL;
    if (!good_id(host_repo_id)) {
        return ec_reject("the repository's id at the host is not known yet: a delivery tells it");
    }
    EC_TRY(api_call_new(hosts, repo_key, &call));
    struct op *op = call->op = ec_arena_alloc(call->arena, sizeof(*op));
    *op = (struct op){done, ec_arena_strdup(call->arena, host_repo_id)};
    call->done_arg = arg;
    call->path = ec_arena_format(
        call->arena, "/%s/%s", call->host->kind == EC_GITHOST_GITLAB ? "projects" : "repositories",
        host_repo_id);
    api_call_start(call, on_repo);
    return ec_ok();
}
