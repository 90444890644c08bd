/* What the host delivered, as it says itself, and once more of it. */
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "githost/githost_private.h"

#define PER_PAGE "100"
#define GITLAB_PER_PAGE "20" /* each carries its whole payload */

struct op {
    ec_githost_deliveries_fn listed;
    ec_githost_done_fn done;
};

static struct ec_err no_list(void)
{
    return ec_reject("this host keeps no list of deliveries that its API tells: look at the "
                     "webhook's page there");
}

/* A call below ".../hooks/<id>"; of the App, below "/app/hook". */
static struct ec_err new_call(struct ec_githosts *hosts, const char *repo_key, const char *hook_id,
                              struct api_call **ret_call, const char **ret_base)
{
    struct api_call *call = NULL;
    enum ec_githost_kind kind = ec_githost_kind(hosts, repo_key);
    bool app = strcmp(hook_id, "app") == 0;
    const struct git_host *host = githost_find(hosts, repo_key);
    if (kind == EC_GITHOST_GITEA) {
        return no_list();
    }
    if (!good_id(hook_id) || (app && (!host || !host->app_key))) {
        return ec_reject(app ? "this host is not called as a GitHub App"
                             : "the webhook's id at the host is not known: `enclii hooks setup`");
    }
    EC_TRY(api_call_new(hosts, repo_key, &call));
    call->as_app = app;
    call->op = ec_arena_alloc(call->arena, sizeof(struct op));
    *ret_base = app ? "/app/hook"
                    : ec_arena_format(call->arena, "%s/hooks/%s", api_repo_path(call), hook_id);
    *ret_call = call;
    return ec_ok();
}

static struct ec_err read_page(struct api_call *call, const struct ec_fetch_result *result,
                               struct ec_githost_deliveries *page)
{
    bool gitlab = call->host->kind == EC_GITHOST_GITLAB;
    page->unchanged = result->status == 304;
    page->etag = ec_fetch_header(result, "etag");
    if (page->unchanged) {
        return ec_ok();
    }
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    EC_TRY(api_call_json(call, result, &root));
    page->cursor =
        decode_next(call->arena, ec_fetch_header(result, "link"), gitlab ? "page" : "cursor");
    return gitlab ? decode_gitlab_deliveries(call->arena, root, page)
                  : decode_github_deliveries(call->arena, root, page);
}

static void on_page(struct api_call *call, struct ec_err err, const struct ec_fetch_result *result)
{
    const struct op *op = call->op;
    struct ec_githost_deliveries page = {0};
    if (!ec_failed(err)) {
        err = read_page(call, result, &page);
    }
    op->listed(call->done_arg, err, ec_failed(err) ? NULL : &page);
}

struct ec_err ec_githost_deliveries(struct ec_githosts *hosts,
                                    const struct ec_githost_deliveries_query *query,
                                    ec_githost_deliveries_fn done, void *arg)
{
    struct api_call *call = NULL;
    const char *base = NULL;
    EC_TRY(new_call(hosts, query->repo_key, query->hook_id, &call, &base));
    bool gitlab = call->host->kind == EC_GITHOST_GITLAB;
    const char *at = query->cursor ? ec_percent(call->arena, ec_span_of(query->cursor)) : "";
    call->path =
        ec_arena_format(call->arena, "%s/%s?per_page=%s%s%s", base,
                        gitlab ? "events" : "deliveries", gitlab ? GITLAB_PER_PAGE : PER_PAGE,
                        !query->cursor ? ""
                        : gitlab       ? "&page="
                                       : "&cursor=",
                        at);
    call->etag = query->etag && !query->cursor ? ec_arena_strdup(call->arena, query->etag) : NULL;
    *(struct op *)call->op = (struct op){.listed = done};
    call->done_arg = arg;
    api_call_start(call, on_page);
    return ec_ok();
}

static void on_redelivered(struct api_call *call, struct ec_err err,
                           const struct ec_fetch_result *result)
{
    (void)result;
    ((const struct op *)call->op)->done(call->done_arg, err);
}

struct ec_err ec_githost_redeliver(struct ec_githosts *hosts, const char *repo_key,
                                   const char *hook_id, const char *delivery_id,
                                   ec_githost_done_fn done, void *arg)
{
    struct api_call *call = NULL;
    const char *base = NULL;
    if (!good_id(delivery_id)) {
        return ec_reject("this is no id of a delivery at the host");
    }
    EC_TRY(new_call(hosts, repo_key, hook_id, &call, &base));
    call->method = "POST";
    call->path = call->host->kind == EC_GITHOST_GITLAB
                     ? ec_arena_format(call->arena, "%s/events/%s/resend", base, delivery_id)
                     : ec_arena_format(call->arena, "%s/deliveries/%s/attempts", base, delivery_id);
    *(struct op *)call->op = (struct op){.done = done};
    call->done_arg = arg;
    api_call_start(call, on_redelivered);
    return ec_ok();
}
