/* Webhooks of repositories: which there are, what the host says of ours and of what it delivered
 * beside what came of it here, secrets without the host's help, and a test delivery. */
#include "hooks.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define TEST_TRIES 4

/* ---- all of them ---- */

#define HOOK_COLUMNS                                                                               \
    "repo_key #services !own_secret !previous_secret ?secret_changed_at ?hook_id ?hook_url "       \
    "?last_received_at ?last_state ?last_event"

static void on_list(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               json_pack("{s:o, s:i}", "hooks", render_list(rows, HOOK_COLUMNS), "count",
                         (int)ec_rows_count(rows)));
}

/* clang-format off */
/* $1 project scope, $2 at most */
static const char HOOKS_SQL[] =
    "select s.repo_key, s.services, coalesce(r.sealed_secret <> '', false) as own_secret,"
    " coalesce(r.sealed_previous_secret <> '', false) as previous_secret,"
    " coalesce(r.hook_id, '') as hook_id, coalesce(r.hook_url, '') as hook_url,"
    " coalesce(d.state, '') as last_state, coalesce(d.event, '') as last_event"
    ", " TIME("r.secret_changed_at", "secret_changed_at")
    ", " TIME("d.received_at", "last_received_at")
    " from (select repo_key, count(*) as services from enclii.service"
    "   where removed_at is null and " IN_SCOPE("$1", "project_id") " group by repo_key) s"
    " left join enclii.repo r on r.repo_key = s.repo_key"
    " left join lateral (select state, event, received_at from enclii.delivery"
    "   where repo_key = s.repo_key order by received_at desc limit 1) d on true"
    " order by s.repo_key limit $2::int";
/* clang-format on */

static void list_hooks(struct call *call)
{
    call_query(call, HOOKS_SQL, ARGS(call->who.project_id, call_limit(call, 100)), on_list);
}

/* ---- one ---- */

static json_t *hook_json(struct call *call, const struct ec_githost_hook *hook)
{
    const struct hook_work *work = hook_of(call);
    enum ec_githost_kind kind = ec_githost_kind(call->api->githosts, work->repo.key);
    const char *fault = ec_githost_hook_fault(call->arena, kind, hook);
    bool elsewhere = work->url[0] && strcmp(hook->url, work->url) != 0;
    json_t *events = json_array();
    for (const char *const *event = hook->events; *event; event++) {
        json_array_append_new(events, json_string(*event));
    }
    fault = elsewhere
                ? ec_arena_format(call->arena, "it delivers to another address than %s", work->url)
                : fault;
    return json_pack("{s:s, s:s, s:b, s:o, s:s, s:i, s:s}", "id", hook->id, "url", hook->url,
                     "active", hook->active, "events", events, "last_status", hook->last_status,
                     "last_code", hook->last_code, "fault", fault ? fault : "");
}

static void finish_show(struct call *call)
{
    struct hook_work *work = hook_of(call);
    hook_reply(call, 200, EC_TAKE(work->answer));
}

static void host_error(struct call *call, struct ec_err err)
{
    struct hook_work *work = hook_of(call);
    json_object_set_new(work->answer, "host_error", json_string(err.what));
    finish_show(call);
}

/* What came of them here: by the id that all attempts share. One that was taken is, whatever was
 * refused under its id before or since. */
static void on_ledger(struct call *call, const struct ec_rows *rows)
{
    struct hook_work *work = hook_of(call);
    json_t *list = json_object_get(work->answer, "host_deliveries");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *item = json_array_get(list, i);
        const char *guid = ec_json_text(item, "guid");
        for (size_t row = 0; row < ec_rows_count(rows); row++) {
            if (strcmp(ec_rows_text(rows, row, "id"), guid) == 0) {
                json_object_set_new(item, "here", render_row(rows, row, "state ?reason ?detail"));
            }
        }
    }
    finish_show(call);
}

static void on_host_deliveries(void *arg, struct ec_err err,
                               const struct ec_githost_deliveries *page)
{
    struct call *call = arg;
    struct hook_work *work = hook_of(call);
    if (ec_failed(err)) {
        host_error(call, err);
        return;
    }
    json_t *list = json_array(), *guids = json_array();
    for (size_t i = 0; i < page->count && i < 20; i++) {
        const struct ec_githost_delivery *delivery = &page->list[i];
        char at[EC_RFC3339_SIZE] = "";
        if (delivery->delivered_unix_ms > 0) {
            ec_rfc3339(delivery->delivered_unix_ms, at);
        }
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b, s:s}", "id", delivery->id, "guid",
                            delivery->guid, "event", delivery->event, "action", delivery->action,
                            "status", delivery->status, "status_code", delivery->status_code,
                            "redelivery", delivery->redelivery, "delivered_at", at));
        json_array_append_new(guids, json_string(delivery->guid));
    }
    json_object_set_new(work->answer, "host_deliveries", list);
    const char *asked = ec_json_dump(call->arena, guids);
    json_decref(guids);
    call_query(call,
               "select id, state, reason, detail from enclii.delivery where repo_key = $2 and id in"
               " (select jsonb_array_elements_text($1::jsonb)) union all"
               " (select distinct on (delivery_id) delivery_id, 'REFUSED', reason, detail"
               "  from enclii.refused_delivery r where repo_key = $2 and delivery_id in"
               "  (select jsonb_array_elements_text($1::jsonb)) and not exists (select 1"
               "   from enclii.delivery d where d.repo_key = $2 and d.id = r.delivery_id)"
               "  order by delivery_id, received_at desc)",
               ARGS(asked, work->repo.key), on_ledger);
}

static void on_host_hooks(void *arg, struct ec_err err, const struct ec_githost_hook *list,
                          size_t count)
{
    struct call *call = arg;
    struct hook_work *work = hook_of(call);
    if (ec_failed(err)) {
        host_error(call, err);
        return;
    }
    const struct ec_githost_hook *ours =
        decide_our_hook(list, count, work->url, work->repo.hook_id);
    if (!ours) {
        finish_show(call);
        return;
    }
    json_object_set_new(work->answer, "hook", hook_json(call, ours));
    struct ec_githost_deliveries_query query = {work->repo.key, ours->id, NULL, NULL};
    err = ec_githost_deliveries(call->api->githosts, &query, on_host_deliveries, call);
    if (ec_failed(err)) {
        host_error(call, err);
    }
}

static void show_hook(struct call *call)
{
    struct hook_work *work = hook_of(call);
    const struct hook_repo *repo = &work->repo;
    struct ec_githosts *hosts = call->api->githosts;
    enum ec_githost_kind kind = ec_githost_kind(hosts, repo->key);
    struct hook_page page = decide_hook_page(call->arena, kind, repo->key);
    bool has_api = ec_githost_has_api(hosts, repo->key);
    work->answer = json_pack("{s:s, s:s, s:b, s:s, s:s, s:{s:b, s:b, s:s}, s:n, s:[], s:s}", "repo",
                             repo->key, "host", page.host, "has_api", has_api, "webhook_url",
                             work->url, "page", page.page, "secret", "own", hook_has_secret(repo),
                             "previous", repo->sealed_previous.len > 0, "changed_at",
                             repo->changed_at, "hook", "host_deliveries", "host_error", "");
    if (!has_api) {
        finish_show(call);
        return;
    }
    struct ec_err err = ec_githost_hooks(hosts, repo->key, on_host_hooks, call);
    if (ec_failed(err)) {
        host_error(call, err);
    }
}

void on_hook_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *repo = ec_request_query(req, "repo");
    if (repo) {
        hook_begin(call, hook_usual_base(call));
        hook_load(call, repo, show_hook);
    } else {
        list_hooks(call);
    }
}

/* ---- secrets, without the host ---- */

static void on_secret_written(struct call *call)
{
    struct hook_work *work = hook_of(call);
    json_t *body = json_pack("{s:s, s:s, s:b, s:b}", "repo", work->repo.key, "secret_changed_at",
                             work->repo.changed_at, "own", hook_has_secret(&work->repo), "previous",
                             work->repo.sealed_previous.len > 0);
    if (work->secret) { /* the one time it is shown */
        json_object_set_new(body, "secret", json_string(work->secret));
    }
    hook_reply(call, 200, body);
}

static void rotate_secret(struct call *call)
{
    if (hook_new_secret(call, hook_of(call))) {
        hook_write(call, "repository.secret_rotate", on_secret_written);
    }
}

static void drop_previous(struct call *call)
{
    hook_forget_previous(hook_of(call));
    hook_write(call, "repository.secret_forget_previous", on_secret_written);
}

static void clear_secret(struct call *call)
{
    hook_clear_secret(hook_of(call));
    hook_write(call, "repository.secret_clear", on_secret_written);
}

void on_hook_secret(void *state, struct ec_request *req)
{
    static const struct {
        const char *action;
        void (*run)(struct call *call);
    } actions[] = {
        {"rotate", rotate_secret}, {"forget_previous", drop_previous}, {"clear", clear_secret}};
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    const char *action = body ? body_text(call, body, "action", 32) : NULL;
    if (!action) {
        return;
    }
    for (size_t i = 0; i < EC_LEN(actions); i++) {
        if (strcmp(actions[i].action, action) == 0) {
            hook_begin(call, "");
            hook_load(call, ec_json_text(body, "repo"), actions[i].run);
            return;
        }
    }
    call_problem(call, 400, "invalid_field", "action",
                 "action must be rotate, forget_previous or clear");
}

/* ---- a test ---- */

static void on_tested(struct call *call)
{
    const struct hook_work *work = hook_of(call);
    const struct hook_probe *probe = work->probe;
    hook_reply(call, 200,
               json_pack("{s:s, s:s, s:s, s:i, s:s, s:I}", "repo", work->repo.key, "delivery_id",
                         probe->id, "url", probe->url, "status", probe->status, "detail",
                         probe->detail, "took_ms", (json_int_t)probe->took_ms));
}

static void test_hook(struct call *call)
{
    struct hook_work *work = hook_of(call);
    if (!hook_has_secret(&work->repo)) {
        hook_problem(call, 409, "no_own_secret",
                     "this repository uses the common secret, which only the service webhook has; "
                     "give it one of its own: enclii hooks setup");
        return;
    }
    if (hook_open_secret(call, work)) {
        hook_probe(call, TEST_TRIES, on_tested);
    }
}

void on_hook_test(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    const char *base = body ? hook_base_url(call, NULL) : NULL;
    if (base) {
        hook_begin(call, base);
        hook_load(call, ec_json_text(body, "repo"), test_hook);
    }
}
