/* Builds and deliveries. A build is asked for by an event; its id and that of its release follow
 * from the event's id (as `pipeline` derives them), so the answer can name both before they exist.
 */
#include <string.h>

#include "api.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/request.pb-c.h"

/* ---- asking for a build ---- */

static bool is_sha(const char *text)
{
    size_t len = strlen(text);
    return (len == 40 || len == 64) && strspn(text, "0123456789abcdef") == len;
}

struct order {
    char event_id[EC_ID_SIZE], build_id[EC_ID_SIZE], release_id[EC_ID_SIZE];
    const char *sha, *ref;
};

static void on_build_asked(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    const struct order *order = call->more;
    call_reply(call, 201,
               json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "id", order->release_id, "build_id",
                         order->build_id, "service_id", call->service_id, "status", "building",
                         "state", "queued", "git_sha", order->sha, "ref", order->ref));
}

static void ask_for_build(struct call *call, const char *sha, const char *ref)
{
    struct order *order = ec_arena_alloc(call->arena, sizeof(*order));
    struct ec_id event = ec_id_new();
    struct ec_id build =
        ec_id_derive(event.text, ec_arena_format(call->arena, "build/%s", call->service_id));
    struct ec_id release = ec_id_derive(build.text, "release");
    memcpy(order->event_id, event.text, EC_ID_SIZE);
    memcpy(order->build_id, build.text, EC_ID_SIZE);
    memcpy(order->release_id, release.text, EC_ID_SIZE);
    order->sha = sha;
    order->ref = ref;
    call->more = order;
    Enclii__V1__Actor actor = call_actor(call);
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    commit.sha = ec_arena_strdup(call->arena, sha);
    commit.ref = ec_arena_strdup(call->arena, ref);
    Enclii__V1__RequestBuild ask = ENCLII__V1__REQUEST_BUILD__INIT;
    ask.request_id = order->event_id;
    ask.service_id = ec_arena_strdup(call->arena, call->service_id);
    ask.commit = &commit;
    ask.actor = &actor;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_REQUESTS, call->service_id,
                                    "dev.enclii.request.build.v1", NULL, order->event_id,
                                    &ask.base});
    audit_add(
        call, batch,
        &(struct audit){"build.request", "service", call->service_id, call->service_name, NULL});
    call_write(call, batch, on_build_asked);
}

/* The ref of a build that names none: the first branch of the service's rule that is one branch. */
static const char *ref_of_rule(struct ec_arena *arena, const char *rule)
{
    for (const char *at = rule; *at;) {
        at += strspn(at, " ");
        size_t len = strcspn(at, ",");
        size_t trimmed = len;
        while (trimmed > 0 && at[trimmed - 1] == ' ') {
            trimmed--;
        }
        const char *part = ec_arena_text(arena, (struct ec_span){at, trimmed});
        if (*part && !strpbrk(part, "*?")) {
            return strncmp(part, "refs/", 5) == 0 ? part
                                                  : ec_arena_format(arena, "refs/heads/%s", part);
        }
        at += len + (at[len] == ',');
    }
    return ec_arena_format(arena, "refs/heads/%s", rule);
}

static void on_service_branch(struct call *call, const struct ec_rows *rows)
{
    const char *branch = ec_rows_count(rows) ? ec_rows_text(rows, 0, "branch") : "main";
    ask_for_build(call, call->more, ref_of_rule(call->arena, branch));
}

void on_build_create(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    const char *sha = body ? body_text(call, body, "git_sha", 64) : NULL;
    if (!sha) {
        return;
    }
    if (!is_sha(sha)) {
        call_problem(call, 400, "invalid_field", "git_sha",
                     "git_sha must be a full commit id: 40 or 64 lower-case hex digits");
        return;
    }
    if (!json_object_get(body, "git_branch")) {
        call->more = ec_arena_strdup(call->arena, sha);
        call_query(call, "select branch from enclii.service where id = $1::uuid",
                   ARGS(call->service_id), on_service_branch);
        return;
    }
    const char *branch = body_text(call, body, "git_branch", 200);
    if (branch) {
        ask_for_build(call, sha, ec_arena_format(call->arena, "refs/heads/%s", branch));
    }
}

/* ---- reading ---- */

static void on_builds(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               json_pack("{s:o, s:i}", "builds", render_each(rows, call->arena, render_build),
                         "count", (int)ec_rows_count(rows)));
}

void on_build_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *commit = ec_request_query(req, "commit");
    call_query(call,
               ec_arena_format(call->arena,
                               "%s where x.service_id = $1::uuid and ($2 = '' or x.commit_sha = $2)"
                               " order by x.number desc limit $3::int",
                               BUILD_SQL),
               ARGS(call->service_id, commit ? commit : "", call_limit(call, 20)), on_builds);
}

static void on_build(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200, render_build(rows, 0, call->arena));
}

void on_build_get(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, ec_arena_format(call->arena, "%s where x.id = $1::uuid", BUILD_SQL),
               ARGS(call->id), on_build);
}

/* ---- cancelling ---- */

static void on_cancel_asked(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    call_reply(
        call, 202,
        json_pack("{s:s, s:s}", "build_id", call->id, "message", "the build is being cancelled"));
}

static void on_cancel_state(struct call *call, const struct ec_rows *rows)
{
    const char *state = ec_rows_text(rows, 0, "state");
    if (strcmp(state, "waiting") != 0 && strcmp(state, "queued") != 0 &&
        strcmp(state, "leased") != 0 && strcmp(state, "running") != 0) {
        call_problem(call, 409, "build_ended", NULL,
                     ec_arena_format(call->arena, "this build has ended already: %s", state));
        return;
    }
    struct ec_id id = ec_id_new();
    Enclii__V1__Actor actor = call_actor(call);
    Enclii__V1__RequestCancel ask = ENCLII__V1__REQUEST_CANCEL__INIT;
    ask.request_id = id.text;
    ask.service_id = ec_arena_strdup(call->arena, call->service_id);
    ask.build_id = ec_arena_strdup(call->arena, call->id);
    ask.actor = &actor;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_REQUESTS, call->service_id,
                                    "dev.enclii.request.cancel.v1", NULL, id.text, &ask.base});
    audit_add(call, batch,
              &(struct audit){"build.cancel", "build", call->id, call->service_name, NULL});
    call_write(call, batch, on_cancel_asked);
}

void on_build_cancel(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, "select state from enclii.build where id = $1::uuid", ARGS(call->id),
               on_cancel_state);
}
