/* Deployments, rollback, and the state of a service: people ask, `pipeline` decides. What can be
 * seen to be wrong at once is said at once; the rest comes as events. */
#include <string.h>

#include "api.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/request.pb-c.h"

/* ---- deploy ---- */

struct deploy {
    const char *release_id;
    const char *environment_id, *environment;
    const char *version, *commit_sha;
    char deployment_id[EC_ID_SIZE];
    struct ec_id event_id;
};

static void on_deploy_asked(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    const struct deploy *dep = call->more;
    call_reply(call, 201,
               json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "id",
                         dep->deployment_id, "service_id", call->service_id, "release_id",
                         dep->release_id, "environment_id", dep->environment_id, "environment",
                         dep->environment, "version", dep->version, "git_sha", dep->commit_sha,
                         "status", "pending", "health", "unknown", "state", "pending"));
}

static void ask_for_deploy(struct call *call, struct deploy *dep)
{
    struct ec_id id = ec_id_new();
    dep->event_id = ec_id_new();
    memcpy(dep->deployment_id, id.text, EC_ID_SIZE);
    Enclii__V1__Actor actor = call_actor(call);
    Enclii__V1__RequestDeploy ask = ENCLII__V1__REQUEST_DEPLOY__INIT;
    ask.request_id = dep->event_id.text;
    ask.service_id = ec_arena_strdup(call->arena, call->service_id);
    ask.release_id = ec_arena_strdup(call->arena, dep->release_id);
    ask.environment_id = ec_arena_strdup(call->arena, dep->environment_id);
    ask.deployment_id = dep->deployment_id;
    ask.actor = &actor;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_REQUESTS, call->service_id,
                                    "dev.enclii.request.deploy.v1", NULL, dep->event_id.text,
                                    &ask.base});
    audit_add(call, batch,
              &(struct audit){"deployment.create", "deployment", dep->deployment_id,
                              call->service_name, NULL});
    call->more = dep;
    call_write(call, batch, on_deploy_asked);
}

/* pipeline decides; this is the clear answer at once. True: answered. */
static bool needs_approval(struct call *call, const struct ec_rows *rows, const char *field)
{
    if (ec_rows_bool(rows, 0, "trusted") || ec_rows_text(rows, 0, "approved_by")[0]) {
        return false;
    }
    const char *version = ec_rows_text(rows, 0, "version");
    call_problem(call, 409, "approval_needed", field,
                 ec_arena_format(call->arena,
                                 "release %s was built from pull request #%s of a fork, and nobody "
                                 "has approved commit %.12s; look at it, then: enclii approve %s",
                                 version, ec_rows_text(rows, 0, "pull_request"),
                                 ec_rows_text(rows, 0, "commit_sha"), version));
    return true;
}

static void on_deploy_facts(struct call *call, const struct ec_batch *batch)
{
    struct deploy *dep = call->more;
    const struct ec_rows *release = ec_batch_rows(batch, 0);
    const struct ec_rows *environment = ec_batch_rows(batch, 1);
    if (ec_rows_count(release) == 0) {
        call_problem(call, 404, "release_not_found", "release_id",
                     "this service has no such release; GET /v1/services/{id}/releases lists them");
    } else if (strcmp(ec_rows_text(release, 0, "state"), "READY") != 0) {
        call_problem(call, 409, "release_not_ready", "release_id",
                     ec_arena_format(call->arena,
                                     "this release is %s; only one that was signed and verified "
                                     "(READY) is deployed",
                                     ec_rows_text(release, 0, "state")));
    } else if (needs_approval(call, release, "release_id")) {
        return;
    } else if (ec_rows_count(environment) == 0) {
        call_problem(call, 404, "environment_not_found", "environment_name",
                     ec_arena_format(call->arena,
                                     "project %s has no environment %s; make it with POST "
                                     "/v1/projects/%s/environments",
                                     call->project_slug, dep->environment, call->project_slug));
    } else {
        dep->environment_id = ec_arena_strdup(call->arena, ec_rows_text(environment, 0, "id"));
        dep->environment = ec_arena_strdup(call->arena, ec_rows_text(environment, 0, "name"));
        dep->version = ec_arena_strdup(call->arena, ec_rows_text(release, 0, "version"));
        dep->commit_sha = ec_arena_strdup(call->arena, ec_rows_text(release, 0, "commit_sha"));
        ask_for_deploy(call, dep);
    }
}

void on_deploy(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    struct deploy *dep = ec_arena_alloc(call->arena, sizeof(*dep));
    dep->release_id = body ? body_text(call, body, "release_id", 36) : NULL;
    if (!dep->release_id) {
        return;
    }
    if (!ec_id_valid(dep->release_id)) {
        call_problem(call, 400, "invalid_field", "release_id", "release_id must be a UUID");
        return;
    }
    dep->environment = "";
    if (json_object_get(body, "environment_name")) {
        dep->environment = body_text(call, body, "environment_name", 63);
        if (!dep->environment) {
            return;
        }
    }
    call->more = dep;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(
        batch,
        "select state, version, commit_sha, pull_request, trusted, approved_by from enclii.release"
        " where id = $1::uuid and service_id = $2::uuid",
        ARGS(dep->release_id, call->service_id));
    ec_batch_add(batch,
                 "select e.id, e.name from enclii.environment e join enclii.service s"
                 " on s.project_id = e.project_id where s.id = $1::uuid"
                 " and e.name = coalesce(nullif($2, ''), s.environment)",
                 ARGS(call->service_id, dep->environment));
    call_read(call, batch, on_deploy_facts);
}

/* ---- rollback ---- */

static void on_rollback_asked(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    const struct deploy *dep = call->more;
    call_reply(call, 200,
               json_pack("{s:s, s:s, s:s, s:s, s:s}", "message",
                         ec_arena_format(call->arena, "going back to %s", dep->version),
                         "rolled_back_to", dep->release_id, "version", dep->version,
                         "current_deployment", call->id, "deployment_id", dep->deployment_id));
}

static void ask_for_rollback(struct call *call, struct deploy *dep)
{
    struct ec_id id = ec_id_new();
    dep->event_id = ec_id_new();
    memcpy(dep->deployment_id, id.text, EC_ID_SIZE);
    Enclii__V1__Actor actor = call_actor(call);
    Enclii__V1__RequestRollback ask = ENCLII__V1__REQUEST_ROLLBACK__INIT;
    ask.request_id = dep->event_id.text;
    ask.service_id = ec_arena_strdup(call->arena, call->service_id);
    ask.environment_id = ec_arena_strdup(call->arena, dep->environment_id);
    ask.to_release_id = ec_arena_strdup(call->arena, dep->release_id);
    ask.deployment_id = dep->deployment_id;
    ask.actor = &actor;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_REQUESTS, call->service_id,
                                    "dev.enclii.request.rollback.v1", NULL, dep->event_id.text,
                                    &ask.base});
    audit_add(
        call, batch,
        &(struct audit){"deployment.rollback", "deployment", call->id, call->service_name, NULL});
    call_write(call, batch, on_rollback_asked);
}

static void on_rollback_target(struct call *call, const struct ec_rows *rows)
{
    struct deploy *dep = call->more;
    if (ec_rows_count(rows) == 0) {
        call_problem(call, 409, "nothing_to_roll_back_to", dep->release_id[0] ? "to_release" : NULL,
                     dep->release_id[0]
                         ? "this service has no such release in state READY"
                         : "no other release of this service was healthy in this environment");
        return;
    }
    if (needs_approval(call, rows, dep->release_id[0] ? "to_release" : NULL)) {
        return;
    }
    dep->environment_id = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "environment_id"));
    dep->release_id = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "release_id"));
    dep->version = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "version"));
    ask_for_rollback(call, dep);
}

void on_rollback(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    if (!body) {
        return;
    }
    struct deploy *dep = ec_arena_alloc(call->arena, sizeof(*dep));
    dep->release_id = "";
    if (json_object_get(body, "to_release")) {
        dep->release_id = body_text(call, body, "to_release", 36);
        if (!dep->release_id) {
            return;
        }
        if (!ec_id_valid(dep->release_id)) {
            call_problem(call, 400, "invalid_field", "to_release", "to_release must be a UUID");
            return;
        }
    }
    call->more = dep;
    /* Without a target: the last release that was healthy here and is not the one wanted now. */
    call_query(call,
               "select x.environment_id, r.id as release_id, r.version,"
               " r.commit_sha, r.pull_request, r.trusted, r.approved_by from enclii.deployment x"
               " join lateral (select r.id, r.version, r.commit_sha, r.pull_request, r.trusted,"
               "  r.approved_by from enclii.release r where $2 <> ''"
               "  and r.id = nullif($2, '')::uuid and r.service_id = x.service_id"
               "  and r.state = 'READY'"
               " union all (select r.id, r.version, r.commit_sha, r.pull_request, r.trusted,"
               "  r.approved_by from enclii.deployment d"
               "  join enclii.release r on r.id = d.release_id where $2 = ''"
               "  and d.service_id = x.service_id and d.environment_id = x.environment_id"
               "  and d.state = 'HEALTHY' and d.release_id is distinct from (select w.release_id"
               "   from enclii.desired w where w.service_id = x.service_id"
               "   and w.environment_id = x.environment_id)"
               "  order by d.created_at desc limit 1)) r on true where x.id = $1::uuid",
               ARGS(call->id, dep->release_id), on_rollback_target);
}

/* ---- reading ---- */

static void on_deployments(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               json_pack("{s:s, s:o, s:i}", "service_id", call->service_id, "deployments",
                         render_each(rows, call->arena, render_deployment), "count",
                         (int)ec_rows_count(rows)));
}

void on_deployment_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call,
               ec_arena_format(call->arena,
                               "%s where x.service_id = $1::uuid"
                               " order by x.created_at desc limit $2::int",
                               DEPLOYMENT_SQL),
               ARGS(call->service_id, call_limit(call, 20)), on_deployments);
}

static void on_deployment(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200, render_deployment(rows, 0, call->arena));
}

void on_deployment_get(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, ec_arena_format(call->arena, "%s where x.id = $1::uuid", DEPLOYMENT_SQL),
               ARGS(call->id), on_deployment);
}

/* The last deployment, its release, the service and the release that serves: what `latest` and
 * `status` show. environment_id: "" = of all. */
static void read_latest_of(struct call *call, const char *environment_id, batch_fn then)
{
    bool any = !environment_id[0];
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, PLAN_ANEW, NULL, 0);
    ec_batch_add(batch,
                 ec_arena_format(call->arena,
                                 "%s where x.service_id = $1::uuid and %s"
                                 " order by x.created_at desc limit 1",
                                 DEPLOYMENT_SQL, any ? "$2 = ''" : "x.environment_id = $2::uuid"),
                 ARGS(call->service_id, environment_id));
    ec_batch_add(batch,
                 ec_arena_format(call->arena,
                                 "%s where x.id = (select d.release_id from enclii.deployment d"
                                 " where d.service_id = $1::uuid and %s"
                                 " order by d.created_at desc limit 1)",
                                 RELEASE_SQL, any ? "$2 = ''" : "d.environment_id = $2::uuid"),
                 ARGS(call->service_id, environment_id));
    ec_batch_add(batch, ec_arena_format(call->arena, "%s and s.id = $1::uuid", SERVICE_SQL),
                 ARGS(call->service_id));
    ec_batch_add(batch,
                 ec_arena_format(call->arena,
                                 "%s join enclii.desired w on w.good_release_id = x.id"
                                 " where w.service_id = $1::uuid and %s"
                                 " order by x.number desc limit 1",
                                 RELEASE_SQL, any ? "$2 = ''" : "w.environment_id = $2::uuid"),
                 ARGS(call->service_id, environment_id));
    call_read(call, batch, then);
}
enum { ANEW, DEPLOYMENT, RELEASE, SERVICE, SERVING };

static void on_environment_found(struct call *call, const struct ec_rows *rows)
{
    static const char nowhere[] = "00000000-0000-0000-0000-000000000000";
    const char *id = ec_rows_count(rows) ? ec_rows_text(rows, 0, "id") : nowhere;
    read_latest_of(call, ec_arena_strdup(call->arena, id), call->then_batch);
}

/* The environment's id comes first: PostgreSQL then knows whether much or nothing was ever deployed
 * there, and reads the right index. */
static void read_latest(struct call *call, batch_fn then)
{
    const char *environment = ec_request_query(call->req, "environment");
    if (!environment || !environment[0]) {
        read_latest_of(call, "", then);
        return;
    }
    call->then_batch = then;
    call_query(call,
               "select e.id from enclii.environment e join enclii.service s"
               " on s.project_id = e.project_id where s.id = $1::uuid and e.name = $2",
               ARGS(call->service_id, environment), on_environment_found);
}

static void on_latest(struct call *call, const struct ec_batch *batch)
{
    const struct ec_rows *deployment = ec_batch_rows(batch, DEPLOYMENT);
    if (ec_rows_count(deployment) == 0) {
        call_problem(call, 404, "never_deployed", NULL, "this service was not deployed yet");
        return;
    }
    call_reply(call, 200,
               json_pack("{s:o, s:o}", "deployment", render_deployment(deployment, 0, call->arena),
                         "release", render_release(ec_batch_rows(batch, RELEASE), 0, call->arena)));
}

void on_deployment_latest(void *state, struct ec_request *req)
{
    read_latest(call_of(state, req), on_latest);
}

static void copy_keys(json_t *to, json_t *from, const char *const *keys)
{
    for (; *keys; keys++) {
        json_object_set(to, *keys, json_object_get(from, *keys));
    }
}

static void add_deployment(struct call *call, json_t *body, const struct ec_rows *rows)
{
    static const char *const keys[] = {"environment", "version", "git_sha", "state",
                                       "reason",      "detail",  "urls",    NULL};
    json_t *deployment = render_deployment(rows, 0, call->arena);
    copy_keys(body, deployment, keys);
    json_object_set(body, "last_deploy", json_object_get(deployment, "created_at"));
    json_object_set_new(body, "latest_deployment", deployment);
}

/* After a deployment that went back, what serves is another release than the last one deployed. */
static void add_serving(struct call *call, json_t *body, const struct ec_rows *rows)
{
    static const char *const keys[] = {"version", "git_sha", "image_uri", NULL};
    json_t *release = render_release(rows, 0, call->arena);
    copy_keys(body, release, keys);
    json_decref(release);
}

/* Both key sets: what the older server gives and what the older CLI reads. */
static void on_status(struct call *call, const struct ec_batch *batch)
{
    static const char *const keys[] = {"status", "health", NULL};
    json_t *service = render_service(ec_batch_rows(batch, SERVICE), 0, call->arena);
    json_t *body =
        json_pack("{s:s, s:s, s:s, s:i, s:[]}", "service_id", call->service_id, "environment",
                  ec_json_text(service, "auto_deploy_env"), "version", "", "uptime", 0, "pods");
    copy_keys(body, service, keys);
    json_object_set(body, "replicas", json_object_get(service, "ready_replicas"));
    json_object_set_new(body, "service", service);
    if (ec_rows_count(ec_batch_rows(batch, DEPLOYMENT))) {
        add_deployment(call, body, ec_batch_rows(batch, DEPLOYMENT));
    }
    if (ec_rows_count(ec_batch_rows(batch, SERVING))) {
        add_serving(call, body, ec_batch_rows(batch, SERVING));
    }
    call_reply(call, 200, body);
}

void on_service_status(void *state, struct ec_request *req)
{
    read_latest(call_of(state, req), on_status);
}

/* ---- domains ---- */

/* clang-format off */
/* $1 project scope, $2 service or "", $3 at most */
static const char DOMAIN_SQL[] =
    "select d.hostname as domain, d.service_id, s.name as service,"
    " e.name as environment, d.tls as tls_enabled, d.state, d.issuer, d.fingerprint,"
    " case d.state when 'ACTIVE' then 'active' when 'renewing' then 'active'"
    "  when 'failed' then 'error' when 'pending' then 'pending' else 'verifying' end as status,"
    " d.reason, d.detail"
    ", " TIME("d.not_after", "not_after")
    ", " TIME("d.next_try_at", "next_try_at")
    ", " TIME("d.created_at", "created_at")
    ", " TIME("d.updated_at", "updated_at")
    " from enclii.domain d join enclii.service s on s.id = d.service_id"
    " join enclii.environment e on e.id = d.environment_id"
    " where " IN_SCOPE("$1", "s.project_id") " and ($2 = '' or s.id::text = $2)"
    " order by d.created_at desc limit $3::int";
/* clang-format on */

static void on_domains(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               json_pack("{s:o, s:i}", "domains",
                         render_list(rows, "domain service_id service environment !tls_enabled "
                                           "status state issuer ?fingerprint ?not_after ?reason "
                                           "?detail ?next_try_at created_at updated_at"),
                         "count", (int)ec_rows_count(rows)));
}

void on_domain_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *service = ec_request_query(req, "service_id");
    call_query(call, DOMAIN_SQL,
               ARGS(call->who.project_id, service ? service : "", call_limit(call, 50)),
               on_domains);
}
