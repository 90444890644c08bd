/* Services: made and changed by their spec (enclii.yaml), which is parsed here so that every fault
 * comes back with its line and column before anything is written. A repository's binding for the
 * webhook is written under the repository's lock, so a last removal and a first creation cannot
 * cross. */
#include <string.h>

#include "api.h"
#include "base/buf.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/request.pb-c.h"
#include "spec/spec.h"

#define SPEC_MAX_BYTES (256u << 10)

/* ---- the spec of a request ---- */

struct change {
    struct ec_spec spec;
    const char *yaml;
    const char *repo_key;
    const char *old_repo_key; /* PATCH: before it */
    const char *packed;       /* ServiceSpec, as bytea argument */
    char id[EC_ID_SIZE];
};

static json_t *faults_json(const struct ec_spec_fault *faults, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *fault =
            json_pack("{s:i, s:i, s:s, s:s}", "line", faults[i].line, "column", faults[i].column,
                      "path", faults[i].path ? faults[i].path : "", "what", faults[i].what);
        if (faults[i].hint) {
            json_object_set_new(fault, "hint", json_string(faults[i].hint));
        }
        json_array_append_new(list, fault);
    }
    return list;
}

/* RFC 9457 with all faults; `detail` is the first one, for clients that show only text. */
static void reply_faults(struct call *call, const struct ec_spec *spec)
{
    const struct ec_spec_fault *first = &spec->faults[0];
    const char *detail =
        ec_arena_format(call->arena, "enclii.yaml:%d:%d: %s %s", first->line, first->column,
                        first->path ? first->path : "", first->what);
    json_t *body = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:o}", "type", "about:blank",
                             "title", "Bad Request", "status", 400, "code", "invalid_spec", "field",
                             "spec_yaml", "detail", detail, "error", detail, "faults",
                             faults_json(spec->faults, spec->fault_count));
    char *text = ec_json_dump(call->arena, body);
    json_decref(body);
    ec_reply_text(call->req, 400, "application/problem+json", ec_span_of(text));
}

/* What older clients send instead of a spec: {name, git_repo, build_config{type, dockerfile,
 * context}}. Written out as a spec, so that there is one way in. JSON texts are YAML texts. */
static const char *spec_of_fields(struct call *call, const json_t *body)
{
    struct ec_buf yaml ec_cleanup(ec_buf_done) = {0};
    ec_buf_init(&yaml, SPEC_MAX_BYTES);
    const char *name = body_text(call, body, "name", 63);
    const char *repo = name ? body_text(call, body, "git_repo", 2000) : NULL;
    if (!repo) {
        return NULL;
    }
    ec_buf_add_text(&yaml, "apiVersion: enclii.dev/v1\nkind: Service\nmetadata:\n  name: ");
    ec_buf_add_json_text(&yaml, ec_span_of(name));
    ec_buf_add_text(&yaml, "\n  project: ");
    ec_buf_add_json_text(&yaml, ec_span_of(call->project_slug));
    ec_buf_add_text(&yaml, "\nspec:\n  source:\n    git:\n      repository: ");
    ec_buf_add_json_text(&yaml, ec_span_of(repo));
    const char *type = ec_json_text(body, "build_config.type");
    ec_buf_add_text(&yaml, "\n  build:\n    type: ");
    ec_buf_add_json_text(&yaml, ec_span_of(type[0] ? type : "auto"));
    static const char *const keys[] = {"dockerfile", "context", "target"};
    for (size_t i = 0; i < EC_LEN(keys); i++) {
        const char *value =
            ec_json_text(body, ec_arena_format(call->arena, "build_config.%s", keys[i]));
        if (value[0]) {
            ec_buf_addf(&yaml, "\n    %s: ", keys[i]);
            ec_buf_add_json_text(&yaml, ec_span_of(value));
        }
    }
    ec_buf_add_text(&yaml, "\n");
    return ec_arena_text(call->arena, ec_buf_span(&yaml));
}

static const char *pack_spec(struct call *call, const Enclii__V1__ServiceSpec *service)
{
    size_t len = enclii__v1__service_spec__get_packed_size(service);
    uint8_t *bytes = ec_arena_alloc(call->arena, len + 1);
    enclii__v1__service_spec__pack(service, bytes);
    return ec_bytea_arg(call->arena, (struct ec_span){(const char *)bytes, len});
}

/* A service without a host name of its own gets <service>.<project>.<platform domain>. */
static void give_host_name(struct call *call, const struct ec_spec *spec)
{
    Enclii__V1__ServiceSpec *service = spec->service;
    if (service->n_routes > 0 || !call->api->settings.platform_domain[0]) {
        return;
    }
    Enclii__V1__RouteSpec *route = ec_arena_alloc(call->arena, sizeof(*route));
    enclii__v1__route_spec__init(route);
    route->hostname = ec_arena_format(call->arena, "%s.%s.%s", spec->name, call->project_slug,
                                      call->api->settings.platform_domain);
    route->path = ec_arena_strdup(call->arena, "/");
    route->tls = true;
    service->routes = ec_arena_alloc(call->arena, sizeof(service->routes[0]));
    service->routes[0] = route;
    service->n_routes = 1;
}

/* Parses; NULL = answered. */
static struct change *parse_spec(struct call *call, const char *yaml)
{
    struct change *change = ec_arena_alloc(call->arena, sizeof(*change));
    change->yaml = yaml;
    ec_spec_parse(call->arena, ec_span_of(yaml), &change->spec);
    struct ec_spec *spec = &change->spec;
    if (spec->fault_count) {
        reply_faults(call, spec);
        return NULL;
    }
    if (spec->project && spec->project[0] && strcmp(spec->project, call->project_slug) != 0) {
        call_problem(call, 400, "wrong_project", "metadata.project",
                     ec_arena_format(call->arena, "the spec is for project %s, not %s",
                                     spec->project, call->project_slug));
        return NULL;
    }
    change->repo_key = ec_repo_key(call->arena, spec->service->repo_url);
    if (!change->repo_key) {
        call_problem(call, 400, "invalid_repository", "spec.source.git.repository",
                     "the spec names no repository that can be cloned; give its https, ssh or http "
                     "URL");
        return NULL;
    }
    give_host_name(call, spec);
    change->packed = pack_spec(call, spec->service);
    return change;
}

static struct change *read_change(struct call *call, const json_t *body)
{
    const char *yaml = json_object_get(body, "spec_yaml")
                           ? body_text(call, body, "spec_yaml", SPEC_MAX_BYTES)
                           : spec_of_fields(call, body);
    return yaml ? parse_spec(call, yaml) : NULL;
}

/* ---- making and changing ---- */

static void reply_service(struct call *call, const struct ec_batch *batch, int status,
                          const char *message)
{
    const struct change *change = call->more;
    const struct ec_rows *rows = ec_batch_rows(batch, ec_batch_count(batch) - 1);
    json_t *service = render_service(rows, 0, call->arena);
    json_object_set_new(service, "warnings",
                        faults_json(change->spec.warnings, change->spec.warning_count));
    if (message) {
        call_reply(call, status, json_pack("{s:o, s:s}", "service", service, "message", message));
    } else {
        call_reply(call, status, service);
    }
}

static void on_service_created(struct call *call, const struct ec_batch *batch)
{
    reply_service(call, batch, 201, NULL);
}

static void add_service_row(struct call *call, struct ec_batch *batch, const struct change *change)
{
    const Enclii__V1__ServiceSpec *service = change->spec.service;
    ec_batch_add(batch,
                 "insert into enclii.service (id, project_id, name, repo_key, repo_url, branch,"
                 " auto_deploy, environment, spec, spec_yaml)"
                 " values ($1::uuid, $2::uuid, $3, $4, $5, $6, $7::boolean, $8, $9::bytea, $10)",
                 ARGS(change->id, call->project_id, change->spec.name, change->repo_key,
                      service->repo_url, service->branch, service->auto_deploy ? "true" : "false",
                      service->environment, change->packed, change->yaml));
}

static void read_back(struct call *call, struct ec_batch *batch, const char *id)
{
    ec_batch_add(batch, ec_arena_format(call->arena, "%s and s.id = $1::uuid", SERVICE_SQL),
                 ARGS(id));
}

void on_service_create(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    struct change *change = body ? read_change(call, body) : NULL;
    if (!change) {
        return;
    }
    struct ec_id id = ec_id_new();
    memcpy(change->id, id.text, EC_ID_SIZE);
    call->more = change;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    repo_lock(batch, change->repo_key);
    add_service_row(call, batch, change);
    repo_bind(call, batch, change->repo_key, change->spec.service->repo_url);
    audit_add(call, batch,
              &(struct audit){"service.create", "service", change->id, change->spec.name, NULL});
    read_back(call, batch, change->id);
    call_write(call, batch, on_service_created);
}

static void on_service_changed(struct call *call, const struct ec_batch *batch)
{
    reply_service(call, batch, 200, "saved; it takes effect with the next release");
}

/* The repository as the spec until now names it; "" when it cannot be said. */
static const char *key_said_before(struct call *call, const char *yaml)
{
    struct ec_spec *spec = ec_arena_alloc(call->arena, sizeof(*spec));
    ec_spec_parse(call->arena, ec_span_of(yaml), spec);
    const char *key = spec->fault_count ? NULL : ec_repo_key(call->arena, spec->service->repo_url);
    return key ? key : "";
}

/* A repository that was renamed on its host is bound by its new name; a spec that still says the
 * old one, as before, means no other repository. Letting the new name go would lose its secret. */
static void keep_renamed(struct call *call, struct change *change, const struct ec_rows *rows)
{
    const char *key = ec_rows_text(rows, 0, "repo_key");
    const char *before = key_said_before(call, ec_rows_text(rows, 0, "spec_yaml"));
    if (strcmp(change->repo_key, key) != 0 && strcmp(change->repo_key, before) == 0) {
        change->repo_key = ec_arena_strdup(call->arena, key);
        change->spec.service->repo_url =
            ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "repo_url"));
        change->packed = pack_spec(call, change->spec.service);
    }
}

static void write_change(struct call *call, const struct ec_rows *rows)
{
    struct change *change = call->more;
    const Enclii__V1__ServiceSpec *service = change->spec.service;
    const char *old_key = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "repo_key"));
    keep_renamed(call, change, rows);
    bool moved = strcmp(old_key, change->repo_key) != 0;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    /* Both locks in one order, so that two moves in opposite directions cannot block each other. */
    bool first = strcmp(old_key, change->repo_key) < 0;
    repo_lock(batch, first ? old_key : change->repo_key);
    repo_lock(batch, first ? change->repo_key : old_key);
    ec_batch_add(batch,
                 "with u as (update enclii.service set repo_key = $2, repo_url = $3, branch = $4,"
                 " auto_deploy = $5::boolean, environment = $6, spec = $7::bytea, spec_yaml = $8,"
                 " updated_at = now() where id = $1::uuid and removed_at is null returning 1)"
                 " select ec_expect(1, count(*)) from u",
                 ARGS(call->service_id, change->repo_key, service->repo_url, service->branch,
                      service->auto_deploy ? "true" : "false", service->environment, change->packed,
                      change->yaml));
    repo_bind(call, batch, change->repo_key, service->repo_url);
    if (moved) {
        repo_release(call, batch, old_key);
    }
    audit_add(
        call, batch,
        &(struct audit){"service.update", "service", call->service_id, call->service_name, NULL});
    read_back(call, batch, call->service_id);
    call_write(call, batch, on_service_changed);
}

void on_service_patch(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    if (!body) {
        return;
    }
    if (!json_object_get(body, "spec_yaml")) {
        call_problem(call, 400, "invalid_field", "spec_yaml",
                     "a service is changed by its whole spec: send {\"spec_yaml\": \"...\"}");
        return;
    }
    struct change *change = read_change(call, body);
    if (!change) {
        return;
    }
    if (strcmp(change->spec.name, call->service_name) != 0) {
        call_problem(call, 400, "name_fixed", "metadata.name",
                     ec_arena_format(call->arena,
                                     "this service is called %s and keeps its name; make another "
                                     "service to have another name",
                                     call->service_name));
        return;
    }
    call->more = change;
    call_query(call, "select repo_key, repo_url, spec_yaml from enclii.service where id = $1::uuid",
               ARGS(call->service_id), write_change);
}

/* ---- removing ---- */

static void on_service_removed(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    call_reply(call, 200,
               json_pack("{s:s}", "message", "service removed; what runs is being taken down"));
}

static void remove_service(struct call *call, const struct ec_rows *rows)
{
    const char *repo_key = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "repo_key"));
    struct ec_id id = ec_id_new();
    Enclii__V1__Actor actor = call_actor(call);
    Enclii__V1__RequestRemoveService ask = ENCLII__V1__REQUEST_REMOVE_SERVICE__INIT;
    ask.request_id = id.text;
    ask.service_id = ec_arena_strdup(call->arena, call->service_id);
    ask.actor = &actor;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    repo_lock(batch, repo_key);
    ec_batch_add(batch,
                 "update enclii.service set removed_at = now(), updated_at = now()"
                 " where id = $1::uuid and removed_at is null",
                 ARGS(call->service_id));
    repo_release(call, batch, repo_key);
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_REQUESTS, call->service_id,
                                    "dev.enclii.request.remove_service.v1", NULL, id.text,
                                    &ask.base});
    audit_add(
        call, batch,
        &(struct audit){"service.delete", "service", call->service_id, call->service_name, NULL});
    call_write(call, batch, on_service_removed);
}

void on_service_delete(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, "select repo_key from enclii.service where id = $1::uuid",
               ARGS(call->service_id), remove_service);
}

/* ---- reading ---- */

static void on_services(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               json_pack("{s:o, s:i}", "services", render_each(rows, call->arena, render_service),
                         "count", (int)ec_rows_count(rows)));
}

void on_service_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call,
               ec_arena_format(call->arena,
                               "%s and s.project_id = $1::uuid order by s.created_at desc"
                               " limit $2::int",
                               SERVICE_SQL),
               ARGS(call->project_id, call_limit(call, 100)), on_services);
}

static void on_service(struct call *call, const struct ec_rows *rows)
{
    json_t *service = render_service(rows, 0, call->arena);
    json_object_set_new(service, "spec_yaml", json_string(ec_rows_text(rows, 0, "spec_yaml")));
    call_reply(call, 200, service);
}

void on_service_get(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, ec_arena_format(call->arena, "%s and s.id = $1::uuid", SERVICE_SQL),
               ARGS(call->service_id), on_service);
}
