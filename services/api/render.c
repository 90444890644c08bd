/* Rows to JSON. Plain rows are rendered by a list of their columns; services, builds, releases and
 * deployments also unpack what is kept as protobuf (spec, commit, actor) and add the words that
 * older Enclii clients know (status, health) beside our finer states. */
#include <string.h>

#include "api.h"
#include "base/id.h"
#include "bus/catalog.h"
#include "enclii/v1/spec.pb-c.h"

/* clang-format off */
const char SERVICE_SQL[] =
    "select s.id, s.project_id, p.slug as project_slug, s.name, s.repo_url as git_repo, s.spec,"
    " s.spec_yaml, s.auto_deploy, s.branch as auto_deploy_branch,"
    " s.environment as auto_deploy_env, coalesce(d.state, '') as state,"
    " coalesce(w.ready, d.replicas_ready, 0) as ready_replicas, coalesce(w.good, false) as good,"
    " " TIME("s.created_at", "created_at")
    ", " TIME("s.updated_at", "updated_at")
    " from enclii.service s join enclii.project p on p.id = s.project_id"
    " left join lateral (select state, replicas_ready from enclii.deployment"
    "   where service_id = s.id order by created_at desc limit 1) d on true"
    " left join lateral (select bool_or(good_release_id is not null) as good,"
    "   sum(g.replicas_ready) filter (where e.name = s.environment) as ready"
    "   from enclii.desired join enclii.environment e on e.id = desired.environment_id"
    "   left join enclii.deployment g on g.id = good_deployment_id"
    "   where desired.service_id = s.id) w on true"
    " where s.removed_at is null";

const char BUILD_SQL[] =
    "select x.id, x.service_id, x.number, x.state, x.commit, x.commit_sha as git_sha, x.ref,"
    " x.actor, x.attempt, x.losses, x.builder_id, x.reason, x.detail, x.digest, x.delivery_id,"
    " x.pull_request, x.trusted, x.author, x.author_association, x.approved_by,"
    " case when x.pull_request > 0 then '#' || x.pull_request || case when x.trusted then ''"
    "  when x.approved_by <> '' then ' of a fork, approved by ' || x.approved_by"
    "  else ' of a fork' end else '' end as origin,"
    " x.steps, coalesce(r.id::text, '') as release_id"
    ", " TIME("x.queued_at", "created_at")
    ", " TIME("x.leased_at", "leased_at")
    ", " TIME("x.started_at", "started_at")
    ", " TIME("x.finished_at", "finished_at")
    ", " TIME("x.deadline_at", "deadline_at")
    ", " TIME("x.push_received_at", "push_received_at")
    " from enclii.build x left join enclii.release r on r.build_id = x.id";

const char RELEASE_SQL[] =
    "select x.id, x.service_id, x.build_id, x.number, x.version, x.state, x.reason, x.detail,"
    " x.commit, x.commit_sha as git_sha, x.digest,"
    " x.image_repo || case when x.digest = '' then '' else '@' || x.digest end as image_uri,"
    " x.sbom_digest, x.provenance_digest, x.signature_digest as image_signature, x.sbom_format,"
    " x.pull_request, x.trusted, x.approved_by,"
    " x.sbom_components, x.sbom_object, x.provenance_object, x.image_repo, x.key_id,"
    " case x.state when 'READY' then 'ready' when 'REJECTED' then 'failed' else 'building' end"
    "   as status,"
    " case when x.state = 'REJECTED' then x.reason || ': ' || x.detail else '' end"
    "   as error_message,"
    " coalesce((select string_agg(e.name, ', ' order by e.name) from enclii.desired w"
    "   join enclii.environment e on e.id = w.environment_id where w.service_id = x.service_id"
    "   and w.good_release_id = x.id), '')"
    "   as serves_in,"
    " x.steps"
    ", " TIME("x.created_at", "created_at")
    ", " TIME("x.ready_at", "signature_verified_at")
    ", " TIME("coalesce(x.ready_at, x.created_at)", "updated_at")
    " from enclii.release x";

const char DEPLOYMENT_SQL[] =
    "select x.id, x.service_id, x.release_id, x.environment_id, e.name as environment,"
    " r.version, r.commit_sha as git_sha, r.commit, r.spec, x.state, x.weight, x.reason, x.detail,"
    " x.actor, x.rollback, x.urls, x.replicas_ready,"
    " exists (select from enclii.desired w where w.service_id = x.service_id"
    "   and w.good_deployment_id = x.id) as serving,"
    " coalesce(x.previous_release_id::text, '') as previous_release_id,"
    " case when x.state in ('FAILED', 'ROLLED_BACK', 'CANCELLED', 'SUPERSEDED')"
    "   then x.reason || ': ' || x.detail else '' end as error_message,"
    " x.steps"
    ", " TIME("x.created_at", "created_at")
    ", " TIME("x.finished_at", "finished_at")
    ", " TIME("coalesce(x.finished_at, x.created_at)", "updated_at")
    ", " TIME("x.push_received_at", "push_received_at")
    " from enclii.deployment x join enclii.environment e on e.id = x.environment_id"
    " join enclii.release r on r.id = x.release_id";
/* clang-format on */

/* ---- plain rows ---- */

static json_t *value(const struct ec_rows *rows, size_t row, const char *column, char kind)
{
    const char *text = ec_rows_text(rows, row, column);
    switch (kind) {
    case '#':
        return json_integer(ec_rows_int(rows, row, column));
    case '!':
        return json_boolean(ec_rows_bool(rows, row, column));
    case '@':
        return json_loads(text, JSON_DECODE_ANY, NULL);
    case '?':
        return text[0] ? json_string(text) : NULL;
    default:
        return json_string(text);
    }
}

json_t *render_row(const struct ec_rows *rows, size_t row, const char *columns)
{
    json_t *object = json_object();
    while (*columns) {
        char name[64];
        size_t len = strcspn(columns, " ");
        char kind = strchr("#!@?", columns[0]) ? columns[0] : 0;
        snprintf(name, sizeof(name), "%.*s", (int)len - (kind ? 1 : 0), columns + (kind ? 1 : 0));
        json_t *item = value(rows, row, name, kind);
        if (item) {
            json_object_set_new(object, name, item);
        }
        columns += len + (columns[len] ? 1 : 0);
    }
    return object;
}

json_t *render_list(const struct ec_rows *rows, const char *columns)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ec_rows_count(rows); i++) {
        json_array_append_new(list, render_row(rows, i, columns));
    }
    return list;
}

json_t *render_each(const struct ec_rows *rows, struct ec_arena *arena, render_fn render)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ec_rows_count(rows); i++) {
        json_array_append_new(list, render(rows, i, arena));
    }
    return list;
}

/* ---- protobuf ---- */

static json_t *render_packed(const struct ec_rows *rows, size_t row, const char *column,
                             const ProtobufCMessageDescriptor *descriptor, struct ec_arena *arena)
{
    struct ec_span bytes = ec_rows_bytes(rows, row, column, arena);
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, NULL, bytes.len, (const uint8_t *)bytes.ptr);
    json_t *object = message ? ec_message_json(message) : json_object();
    if (message) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
    return object;
}

/* ---- the four things ---- */

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool is_open(const char *state)
{
    return is(state, "pending") || is(state, "waiting") || is(state, "rolling");
}

const char *deployment_status(const char *state)
{
    return is(state, "HEALTHY") ? "running" : is_open(state) ? "pending" : "failed";
}

const char *deployment_health(const char *state)
{
    if (is(state, "HEALTHY")) {
        return "healthy";
    }
    return is(state, "FAILED") || is(state, "ROLLED_BACK") ? "unhealthy" : "unknown";
}

/* A deployment that went back leaves its service running with what was good before. */
static void set_service_status(json_t *object, const char *state, bool good)
{
    const char *status = state[0] ? deployment_status(state) : "unknown";
    const char *health = state[0] ? deployment_health(state) : "unknown";
    if (is(status, "failed") && good) {
        status = "running";
        health = "healthy";
    }
    json_object_set_new(object, "status", json_string(status));
    json_object_set_new(object, "health", json_string(health));
}

json_t *render_service(const struct ec_rows *rows, size_t row, struct ec_arena *arena)
{
    json_t *object = render_row(rows, row,
                                "id project_id project_slug name git_repo !auto_deploy "
                                "auto_deploy_branch auto_deploy_env #ready_replicas created_at "
                                "updated_at");
    json_t *spec = render_packed(rows, row, "spec", &enclii__v1__service_spec__descriptor, arena);
    json_object_set(object, "build_config", json_object_get(spec, "build"));
    json_object_set(object, "watch_paths", json_object_get(spec, "watch_paths"));
    json_object_set(object, "routes", json_object_get(spec, "routes"));
    json_object_set_new(object, "pull_requests",
                        json_string(ec_json_text(spec, "pull_requests")[0]
                                        ? ec_json_text(spec, "pull_requests")
                                        : "trusted"));
    json_object_set_new(object, "wait_for_ci",
                        json_boolean(ec_json_bool(spec, "wait_for_ci", false)));
    json_object_set_new(object, "app_path", json_string(ec_json_text(spec, "build.context")));
    json_object_set_new(object, "desired_replicas",
                        json_integer(ec_json_int(spec, "run.replicas", 1)));
    json_object_set(object, "health_check", ec_json_at(spec, "run.probe"));
    json_decref(spec);
    set_service_status(object, ec_rows_text(rows, row, "state"), ec_rows_bool(rows, row, "good"));
    return object;
}

static void set_origin(json_t *object, const struct ec_rows *rows, size_t row,
                       struct ec_arena *arena, bool actor)
{
    json_object_set_new(object, "commit",
                        render_packed(rows, row, "commit", &enclii__v1__commit__descriptor, arena));
    if (actor) {
        json_object_set_new(
            object, "actor",
            render_packed(rows, row, "actor", &enclii__v1__actor__descriptor, arena));
    }
}

json_t *render_build(const struct ec_rows *rows, size_t row, struct ec_arena *arena)
{
    json_t *object = render_row(
        rows, row,
        "id service_id #number state git_sha ref #attempt #losses ?builder_id ?reason ?detail "
        "?digest ?delivery_id ?release_id #pull_request !trusted ?author ?author_association "
        "?origin ?approved_by @steps created_at ?leased_at ?started_at "
        "?finished_at ?deadline_at ?push_received_at");
    set_origin(object, rows, row, arena, true);
    return object;
}

json_t *render_release(const struct ec_rows *rows, size_t row, struct ec_arena *arena)
{
    json_t *object = render_row(
        rows, row,
        "id service_id build_id #number version image_uri git_sha status state ?error_message "
        "?reason ?detail ?digest ?serves_in ?sbom_format #sbom_components ?sbom_digest "
        "?provenance_digest "
        "?image_signature ?signature_verified_at ?key_id #pull_request !trusted ?approved_by "
        "@steps created_at updated_at");
    set_origin(object, rows, row, arena, false);
    return object;
}

json_t *render_deployment(const struct ec_rows *rows, size_t row, struct ec_arena *arena)
{
    json_t *object = render_row(
        rows, row,
        "id service_id release_id environment_id environment version git_sha state #weight ?reason "
        "?detail ?error_message !rollback !serving ?previous_release_id @urls @steps "
        "#replicas_ready "
        "created_at updated_at ?finished_at ?push_received_at");
    const char *state = ec_rows_text(rows, row, "state");
    json_object_set_new(object, "status", json_string(deployment_status(state)));
    json_object_set_new(object, "health", json_string(deployment_health(state)));
    json_t *spec = render_packed(rows, row, "spec", &enclii__v1__service_spec__descriptor, arena);
    json_object_set_new(object, "replicas", json_integer(ec_json_int(spec, "run.replicas", 1)));
    json_decref(spec);
    set_origin(object, rows, row, arena, true);
    return object;
}
