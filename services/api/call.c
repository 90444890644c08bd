/* How one request goes through: find the principal of its token (cache, else database), check the
 * role the route needs, find the project of what the path names and check it against the token's,
 * then run the handler. So no handler can forget a check, and none trusts an id. The `before` hook
 * gives false and continues here, because the look-ups are asynchronous. */
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "trust/token.h"

static struct ec_metric denied =
    EC_COUNTER("enclii_api_denied_total", "Requests refused by authentication or roles.", "reason");

struct call *call_of(void *state, struct ec_request *req)
{
    (void)state;
    return ec_request_user(req);
}

/* ---- replies ---- */

void call_reply(struct call *call, int status, json_t *body)
{
    ec_reply_json(call->req, status, body);
    json_decref(body);
}

void call_problem(struct call *call, int status, const char *code, const char *field,
                  const char *detail)
{
    ec_reply_problem(call->req, status, code, field, detail);
}

bool call_stream_room(struct call *call)
{
    if (call->api->streams < STREAMS_MAX) {
        return true;
    }
    ec_reply_header(call->req, "Retry-After", "5");
    call_problem(call, 503, "too_many_streams", NULL, "too many open streams; try again later");
    return false;
}

static const struct {
    const char *constraint, *code, *field, *detail;
} conflicts[] = {
    {"project_slug_key", "slug_taken", "slug", "another project has this slug; choose another one"},
    {"environment_name_taken", "environment_exists", "name",
     "this project already has an environment of that name"},
    {"service_name_taken", "name_taken", "name",
     "another service of this project has this name; choose another one or change that service"},
    {"service_project_id_fkey", "project_gone", NULL, "the project was removed meanwhile"},
    {"environment_project_id_fkey", "project_gone", NULL, "the project was removed meanwhile"},
    {"channel_project_id_fkey", "project_gone", NULL, "the project was removed meanwhile"},
};

static void reply_failure(struct call *call, struct ec_err err, const char *constraint)
{
    for (size_t i = 0; i < EC_LEN(conflicts); i++) {
        if (strcmp(conflicts[i].constraint, constraint) == 0) {
            call_problem(call, 409, conflicts[i].code, conflicts[i].field, conflicts[i].detail);
            return;
        }
    }
    if (err.fate == EC_FATE_FATAL) {
        ec_log(EC_LOG_ERROR, ec_request_trace(call->req), "api.broken", "a statement cannot work",
               EC_T("path", ec_request_path(call->req)), EC_ERR(err));
    }
    ec_reply_error(call->req, err, err.fate == EC_FATE_RETRY ? "unavailable" : "database");
}

/* ---- database ---- */

static void on_rows(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct call *call = arg;
    if (ec_failed(err)) {
        reply_failure(call, err, ec_rows_constraint(rows));
        return;
    }
    call->then_rows(call, rows);
}

void call_query(struct call *call, const char *sql, const char *const *args, size_t arg_count,
                rows_fn then)
{
    call->then_rows = then;
    struct ec_err err = ec_store_exec(call->api->store, sql, args, arg_count, on_rows, call);
    if (ec_failed(err)) {
        reply_failure(call, err, "");
    }
}

static void on_batch(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct call *call = arg;
    if (ec_failed(err)) {
        reply_failure(call, err, ec_rows_constraint(ec_batch_rows(batch, 0)));
        return;
    }
    call->then_batch(call, batch);
}

void call_read(struct call *call, struct ec_batch *batch, batch_fn then)
{
    call->then_batch = then;
    struct ec_err err = ec_batch_run(batch, on_batch, call);
    if (ec_failed(err)) {
        reply_failure(call, err, "");
    }
}

void call_write(struct call *call, struct ec_batch *batch, batch_fn then)
{
    call_read(call, batch, then);
}

/* ---- input ---- */

json_t *call_body(struct call *call)
{
    struct ec_span body = ec_request_body(call->req);
    json_t *root = NULL;
    struct ec_err err = ec_json_parse(call->arena, body.len ? body : EC_SPAN("{}"), &root);
    if (ec_failed(err)) {
        call_problem(call, 400, "invalid_json", NULL, err.what);
        return NULL;
    }
    if (!json_is_object(root)) {
        json_decref(root);
        call_problem(call, 400, "invalid_json", NULL, "the body must be a JSON object");
        return NULL;
    }
    return root;
}

const char *body_text(struct call *call, const json_t *body, const char *name, size_t max)
{
    const json_t *value = json_object_get(body, name);
    size_t len = json_string_length(value);
    if (json_is_string(value) && len > 0 && len <= max && strlen(json_string_value(value)) == len) {
        return ec_arena_strdup(call->arena, json_string_value(value));
    }
    call_problem(call, 400, "invalid_field", name,
                 ec_arena_format(call->arena, "%s must be a text of 1 to %zu bytes", name, max));
    return NULL;
}

const char *call_limit(struct call *call, int otherwise)
{
    const char *text = ec_request_query(call->req, "limit");
    long value = text ? strtol(text, NULL, 10) : otherwise;
    if (value < 1 || value > 500) {
        value = value > 500 ? 500 : otherwise;
    }
    return ec_arena_format(call->arena, "%ld", value);
}

bool is_name(const char *text, size_t max)
{
    size_t len = strlen(text);
    if (len == 0 || len > max || text[0] == '-' || text[len - 1] == '-') {
        return false;
    }
    return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

bool is_commit(const char *text)
{
    size_t len = strlen(text);
    return len >= 7 && len <= 64 && strspn(text, "0123456789abcdef") == len;
}

Enclii__V1__Actor call_actor(const struct call *call)
{
    Enclii__V1__Actor actor = ENCLII__V1__ACTOR__INIT;
    actor.kind = ENCLII__V1__ACTOR_KIND__ACTOR_KIND_USER;
    actor.id = ec_arena_strdup(call->arena, call->who.token_id);
    actor.name = ec_arena_strdup(call->arena, call->who.name);
    return actor;
}

/* ---- what the path names ---- */

#define PROJECT_COLUMNS "p.id as project_id, p.slug as project_slug, p.name as project_name"
#define OF_SERVICE                                                                                 \
    ", s.id as service_id, s.name as service_name, s.removed_at is not null as removed"
#define OF_PROJECT ", '' as service_id, '' as service_name, false as removed"
#define OWNED_BY_SERVICE(table)                                                                    \
    "select x.id, " PROJECT_COLUMNS OF_SERVICE " from enclii." table                               \
    " x join enclii.service s on s.id = x.service_id join enclii.project p on p.id = s.project_id" \
    " where x.id = $1::uuid"

static const struct {
    const char *word, *param, *sql;
} kinds[] = {
    [KIND_PROJECT] = {"project", "slug",
                      "select p.id, " PROJECT_COLUMNS OF_PROJECT
                      " from enclii.project p where p.slug = $1"},
    [KIND_SERVICE] = {"service", "id",
                      "select s.id, " PROJECT_COLUMNS OF_SERVICE
                      " from enclii.service s join enclii.project p on p.id = s.project_id"
                      " where s.id = $1::uuid and s.removed_at is null"},
    [KIND_BUILD] = {"build", "id", OWNED_BY_SERVICE("build")},
    [KIND_RELEASE] = {"release", "id", OWNED_BY_SERVICE("release")},
    [KIND_DEPLOYMENT] = {"deployment", "id", OWNED_BY_SERVICE("deployment")},
    [KIND_CHANNEL] = {"channel", "id",
                      "select c.id, " PROJECT_COLUMNS OF_PROJECT
                      " from enclii.channel c join enclii.project p on p.id = c.project_id"
                      " where c.id = $1::uuid"},
};

static void run_handler(struct call *call)
{
    ec_request_route(call->req)->handler(call->api, call->req);
}

static void not_found(struct call *call, enum kind kind)
{
    call_problem(call, 404, "not_found", kinds[kind].param,
                 ec_arena_format(call->arena,
                                 "there is no such %s, or your token is for another "
                                 "project",
                                 kinds[kind].word));
}

static void on_subject(struct call *call, const struct ec_rows *rows)
{
    enum kind kind = NEEDS_KIND(ec_request_route(call->req)->tag);
    const char *scope = call->who.project_id;
    /* Foreign and missing look alike: a token learns nothing about other projects. */
    if (ec_rows_count(rows) == 0 ||
        (scope[0] && strcmp(scope, ec_rows_text(rows, 0, "project_id")) != 0)) {
        not_found(call, kind);
        return;
    }
    struct ec_arena *arena = call->arena;
    call->id = ec_arena_strdup(arena, ec_rows_text(rows, 0, "id"));
    call->project_id = ec_arena_strdup(arena, ec_rows_text(rows, 0, "project_id"));
    call->project_slug = ec_arena_strdup(arena, ec_rows_text(rows, 0, "project_slug"));
    call->project_name = ec_arena_strdup(arena, ec_rows_text(rows, 0, "project_name"));
    call->service_id = ec_arena_strdup(arena, ec_rows_text(rows, 0, "service_id"));
    call->service_name = ec_arena_strdup(arena, ec_rows_text(rows, 0, "service_name"));
    run_handler(call);
}

static void find_subject(struct call *call)
{
    enum kind kind = NEEDS_KIND(ec_request_route(call->req)->tag);
    if (kind == KIND_NONE) {
        run_handler(call);
        return;
    }
    const char *value = ec_request_param(call->req, kinds[kind].param);
    if (kind != KIND_PROJECT && !ec_id_valid(value)) {
        call_problem(call, 400, "invalid_id", kinds[kind].param,
                     "an id is a lower-case UUID, like 0190a6b0-0000-7000-8000-000000000000");
        return;
    }
    call_query(call, kinds[kind].sql, ARGS(value), on_subject);
}

/* ---- who asks ---- */

static void unauthenticated(struct call *call, const char *detail)
{
    ec_metric_add(&denied, "unauthenticated", 1);
    ec_reply_header(call->req, "WWW-Authenticate", "Bearer realm=\"enclii\"");
    call_problem(call, 401, "unauthenticated", NULL, detail);
}

static void on_denial_kept(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    (void)arg;
    (void)batch;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "audit.lost", "a refusal could not be recorded", EC_ERR(err));
    }
}

static void forbidden(struct call *call, enum role needed)
{
    ec_metric_add(&denied, "forbidden", 1);
    struct ec_batch *batch = ec_batch_new(call->api->store);
    audit_add(call, batch,
              &(struct audit){ec_request_method(call->req), "route", "", ec_request_path(call->req),
                              "denied"});
    /* The answer does not wait for the record. */
    ec_ignore(ec_batch_run(batch, on_denial_kept, NULL));
    call_problem(call, 403, "forbidden", NULL,
                 ec_arena_format(call->arena, "Required role: [%s], current role: %s",
                                 role_name(needed), role_name(call->who.role)));
}

static void authorize(struct call *call)
{
    enum role needed = NEEDS_ROLE(ec_request_route(call->req)->tag);
    if (call->who.role < needed) {
        forbidden(call, needed);
        return;
    }
    find_subject(call);
}

static void on_used(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    (void)arg;
    (void)rows;
    ec_ignore(err); /* last_used_at is a convenience: the next use tries again */
}

static void on_token(struct call *call, const struct ec_rows *rows)
{
    if (ec_rows_count(rows) == 0) {
        unauthenticated(call, "this token is unknown, expired or revoked; make a new one");
        return;
    }
    struct principal *who = &call->who;
    snprintf(who->token_id, sizeof(who->token_id), "%s", ec_rows_text(rows, 0, "id"));
    snprintf(who->name, sizeof(who->name), "%s", ec_rows_text(rows, 0, "name"));
    snprintf(who->project_id, sizeof(who->project_id), "%s", ec_rows_text(rows, 0, "project_id"));
    who->role = role_parse(ec_rows_text(rows, 0, "role"));
    auth_remember(call->api->auth, call->more, who);
    if (ec_rows_bool(rows, 0, "unseen")) {
        ec_ignore(
            ec_store_exec(call->api->store,
                          "update enclii.api_token set last_used_at = now() where id = $1::uuid",
                          ARGS(who->token_id), on_used, NULL)); /* as above */
    }
    authorize(call);
}

static void find_principal(struct call *call)
{
    const char *header = ec_request_header(call->req, "Authorization");
    if (!header || strncasecmp(header, "Bearer ", 7) != 0) {
        unauthenticated(call, "send an API token: Authorization: Bearer enclii_...");
        return;
    }
    struct ec_span token = ec_span_of(header + 7);
    if (!ec_token_form(token)) {
        unauthenticated(call, "this is no API token; it has the form enclii_ and 64 hex digits");
        return;
    }
    const char *hash = ec_token_hash_hex(call->arena, token);
    if (auth_cached(call->api->auth, hash, &call->who)) {
        authorize(call);
        return;
    }
    call->more = ec_arena_strdup(call->arena, hash);
    call_query(call,
               "select id, name, role, coalesce(project_id::text, '') as project_id,"
               " coalesce(last_used_at < now() - interval '1 minute', true) as unseen"
               " from enclii.api_token where hash = $1 and revoked_at is null"
               " and (expires_at is null or expires_at > now())",
               ARGS(hash), on_token);
}

bool call_before(void *state, struct ec_request *req)
{
    struct api *api = state;
    struct ec_arena *arena = ec_request_arena(req);
    struct call *call = ec_arena_alloc(arena, sizeof(*call));
    *call = (struct call){.api = api,
                          .req = req,
                          .arena = arena,
                          .id = "",
                          .project_id = "",
                          .project_slug = "",
                          .project_name = "",
                          .service_id = "",
                          .service_name = ""};
    ec_request_set_user(req, call);
    if (NEEDS_ROLE(ec_request_route(req)->tag) == ROLE_PUBLIC) {
        return true;
    }
    if (!api->prepared) {
        ec_reply_header(req, "Retry-After", "1");
        call_problem(call, 503, "starting", NULL, api->why_not);
        return false;
    }
    find_principal(call);
    return false;
}
