/* Pull requests, and the approval of one of their commits. Who approves names the commit that they
 * looked at: between looking and approving, the pull request may get another one. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/request.pb-c.h"

#define REASON_MAX 500

struct approve {
    const char *commit; /* "" = not said; may be the beginning of one */
    const char *reason;
    int32_t number;
    const char *sha;
};

/* ---- asking ---- */

static void on_asked(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    const struct approve *ask = call->more;
    call_reply(call, 202,
               json_pack("{s:s, s:i, s:s, s:s}", "service_id", call->service_id, "pull_request",
                         (int)ask->number, "commit", ask->sha, "message",
                         "approved; it is built if it was not yet, and its release may be "
                         "deployed"));
}

static void ask_to_approve(struct call *call, int32_t number, const char *sha)
{
    struct approve *ask = call->more;
    struct ec_id id = ec_id_new();
    ask->number = number;
    ask->sha = ec_arena_strdup(call->arena, sha);
    Enclii__V1__Actor actor = call_actor(call);
    Enclii__V1__RequestApprove body = ENCLII__V1__REQUEST_APPROVE__INIT;
    body.request_id = id.text;
    body.service_id = ec_arena_strdup(call->arena, call->service_id);
    body.pull_request = number;
    body.commit_sha = ec_arena_strdup(call->arena, sha);
    body.reason = ec_arena_strdup(call->arena, ask->reason);
    body.actor = &actor;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_REQUESTS, call->service_id,
                                    "dev.enclii.request.approve.v1", NULL, id.text, &body.base});
    audit_add_why(call, batch,
                  &(struct audit){"pull_request.approve", "commit", sha, call->service_name, NULL},
                  ec_arena_format(call->arena, "pull request #%d%s%s", number,
                                  *ask->reason ? ": " : "", ask->reason));
    call_write(call, batch, on_asked);
}

/* NULL: answered. */
static struct approve *read_ask(struct call *call)
{
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    if (!body) {
        return NULL;
    }
    struct approve *ask = ec_arena_alloc(call->arena, sizeof *ask);
    ask->reason = "";
    ask->commit = "";
    if (json_object_get(body, "reason") &&
        !(ask->reason = body_text(call, body, "reason", REASON_MAX))) {
        return NULL;
    }
    if (json_object_get(body, "commit") && !(ask->commit = body_text(call, body, "commit", 64))) {
        return NULL;
    }
    if (*ask->commit && !is_commit(ask->commit)) {
        call_problem(call, 400, "invalid_field", "commit",
                     "commit must be 7 to 64 lower-case hex digits");
        return NULL;
    }
    call->more = ask;
    return ask;
}

/* ---- of a build or release ---- */

static void on_made_of(struct call *call, const struct ec_rows *rows)
{
    const struct approve *ask = call->more;
    const char *sha = ec_rows_text(rows, 0, "commit_sha");
    if (ec_rows_bool(rows, 0, "trusted")) {
        call_problem(call, 409, "approval_not_needed", NULL,
                     "it was not built from a fork's code: it may be deployed as it is");
    } else if (strncmp(sha, ask->commit, strlen(ask->commit)) != 0) {
        call_problem(call, 409, "other_commit", "commit",
                     ec_arena_format(call->arena, "it was built of commit %.12s", sha));
    } else {
        ask_to_approve(call, (int32_t)ec_rows_int(rows, 0, "pull_request"), sha);
    }
}

void on_build_approve(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    if (read_ask(call)) {
        call_query(call,
                   "select pull_request, commit_sha, trusted from enclii.build where id = $1::uuid",
                   ARGS(call->id), on_made_of);
    }
}

void on_release_approve(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    if (read_ask(call)) {
        call_query(
            call,
            "select pull_request, commit_sha, trusted from enclii.release where id = $1::uuid",
            ARGS(call->id), on_made_of);
    }
}

/* ---- of a pull request ---- */

static void on_pull(struct call *call, const struct ec_rows *rows)
{
    const struct approve *ask = call->more;
    const char *number = ec_request_param(call->req, "number");
    const char *head = ec_rows_text(rows, 0, "head_sha"), *built = ec_rows_text(rows, 0, "built");
    size_t len = strlen(ask->commit);
    if (ec_rows_count(rows) == 0) {
        call_problem(call, 404, "not_found", "number",
                     "the git host has told of no such pull request of the service's repository; "
                     "see: enclii pull-requests");
    } else if (!ec_rows_bool(rows, 0, "from_fork")) {
        call_problem(call, 409, "approval_not_needed", "number",
                     "it comes from a branch of the repository itself: whoever pushed it there had "
                     "the right to");
    } else if (len == 0) {
        call_problem(call, 409, "which_commit", "commit",
                     ec_arena_format(call->arena,
                                     "pull request #%s of %s is at commit %.12s now; look at that "
                                     "one, then: enclii approve %s --commit %.12s",
                                     number, ec_rows_text(rows, 0, "author"), head, number, head));
    } else if (strncmp(head, ask->commit, len) == 0 &&
               strcmp(ec_rows_text(rows, 0, "state"), "open") == 0) {
        ask_to_approve(call, (int32_t)ec_rows_int(rows, 0, "number"), head);
    } else if (built[0]) {
        ask_to_approve(call, (int32_t)ec_rows_int(rows, 0, "number"), built);
    } else {
        call_problem(call, 409, "not_the_head", "commit",
                     ec_arena_format(call->arena,
                                     "pull request #%s is %s and at commit %.12s; nothing was "
                                     "built of %.12s",
                                     number, ec_rows_text(rows, 0, "state"), head, ask->commit));
    }
}

void on_pull_request_approve(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *number = ec_request_param(req, "number");
    size_t len = strlen(number);
    if (len == 0 || len > 9 || strspn(number, "0123456789") != len) {
        call_problem(call, 400, "invalid_id", "number", "a pull request has a number, like 7");
        return;
    }
    if (read_ask(call)) {
        const struct approve *ask = call->more;
        call_query(
            call,
            "select p.number, p.head_sha, p.state, p.from_fork, p.author,"
            " coalesce((select b.commit_sha from enclii.build b where b.service_id = s.id and"
            "  b.pull_request = p.number and $3 <> '' and starts_with(b.commit_sha, $3)"
            "  order by b.number desc limit 1), '') as built"
            " from enclii.service s join enclii.pull_request p on p.id = s.repo_key || '#' || $2"
            " where s.id = $1::uuid",
            ARGS(call->service_id, number, ask->commit), on_pull);
    }
}

/* ---- reading ---- */

static void on_pulls(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               json_pack("{s:o, s:i}", "pull_requests",
                         render_list(rows, "#number state title ?url head_sha base_ref !from_fork "
                                           "!draft author ?author_association ?build_id "
                                           "?build_state ?release ?approved_by ?held_by "
                                           "updated_at"),
                         "count", (int)ec_rows_count(rows)));
}

/* clang-format off */
/* $1 service, $2 open, closed or all, $3 at most */
static const char PULLS_SQL[] =
    "select p.number, p.state, p.title, p.url, p.head_sha, p.base_ref, p.from_fork,"
    " p.draft, p.author, p.author_association, b.id as build_id,"
    " b.state as build_state, r.version as release,"
    " coalesce(a.approved_by, '') as approved_by,"
    " case when b.id is null then coalesce(c.rule, '') else '' end as held_by"
    ", " TIME("p.updated_at", "updated_at")
    " from enclii.service s join enclii.pull_request p on p.repo_key = s.repo_key"
    " left join lateral (select id, state from enclii.build o where o.service_id = s.id"
    "   and o.commit_sha = p.head_sha order by o.number desc limit 1) b on true"
    " left join enclii.release r on r.build_id = b.id"
    " left join enclii.approval a on a.service_id = s.id"
    "   and a.pull_request = p.number and a.commit_sha = p.head_sha"
    " left join lateral (select rule from enclii.decision d where d.service_id = s.id"
    "   and d.subject_kind = 'delivery' and d.subject_id = p.delivery_id"
    "   and d.outcome = 'not built' order by d.id desc limit 1) c on true"
    " where s.id = $1::uuid and ($2 = 'all' or (p.state = 'open') = ($2 = 'open'))"
    " order by p.number desc limit $3::int";
/* clang-format on */

void on_pull_request_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *which = ec_request_query(req, "state");
    which = which ? which : "open";
    if (strcmp(which, "open") != 0 && strcmp(which, "closed") != 0 && strcmp(which, "all") != 0) {
        call_problem(call, 400, "invalid_field", "state", "state must be open, closed or all");
        return;
    }
    call_query(call, PULLS_SQL, ARGS(call->service_id, which, call_limit(call, 50)), on_pulls);
}
