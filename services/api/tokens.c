/* API tokens of people and machines. A token never gives more than its maker has: not a higher
 * role, not another project, not a longer life. Those who are no admins see and revoke what they
 * made, and themselves. */
#include <string.h>

#include "api.h"
#include "base/id.h"
#include "base/mem.h"
#include "trust/token.h"

#define ACTIVE_MAX 50 /* per maker */
#define TOKEN_COLUMNS                                                                              \
    "id name prefix role @scopes ?project_id created_at ?expires_at ?last_used_at !revoked"
/* clang-format off */
#define TOKEN_SQL \
    "select t.id, t.name, t.prefix, t.role, jsonb_build_array(t.role) as scopes," \
    " coalesce(t.project_id::text, '') as project_id, t.revoked_at is not null as revoked" \
    ", " TIME("t.created_at", "created_at") \
    ", " TIME("t.expires_at", "expires_at") \
    ", " TIME("t.last_used_at", "last_used_at") \
    " from enclii.api_token t"
/* clang-format on */
/* $1 project scope, $2 own id, $3 'admin' or not */
#define VISIBLE                                                                                    \
    IN_SCOPE("$1", "t.project_id")                                                                 \
    " and ($3 = 'admin' or t.id = $2::uuid or t.created_by = $2::uuid)"

/* clang-format off */
/* $1 maker, $2 project, $3 project scope */
static const char FACTS_SQL[] =
    "select count(*) as active, (select p.id from enclii.project p where p.slug = $2"
    "   and " IN_SCOPE("$3", "p.id") ") as project_id"
    " from enclii.api_token where created_by = $1::uuid and revoked_at is null"
    " and (expires_at is null or expires_at > now())";
/* clang-format on */

struct making {
    char *text; /* in the request's arena; wiped after the answer */
    struct ec_id id;
    const char *name, *role;
    const char *project; /* slug, "" = the maker's */
    const char *days;    /* until it ends, "" = never */
};

static void on_token_created(struct call *call, const struct ec_batch *batch)
{
    struct making *making = call->more;
    /* The one time it is shown. */
    call_reply(call, 201,
               json_pack("{s:s, s:s, s:s, s:s%, s:s, s:s}", "token", making->text, "id",
                         making->id.text, "name", making->name, "prefix", making->text,
                         (size_t)EC_TOKEN_PREFIX_LEN, "role", making->role, "expires_at",
                         ec_rows_text(ec_batch_rows(batch, 0), 0, "expires_at")));
    explicit_bzero(making->text, strlen(making->text));
}

/* The role asked for by `role` or the highest of `scopes`; NULL = answered. */
static const char *asked_role(struct call *call, const json_t *body)
{
    enum role role = json_object_get(body, "role") || json_object_get(body, "scopes")
                         ? role_parse(ec_json_text(body, "role"))
                         : call->who.role;
    const json_t *scope = NULL;
    size_t at = 0;
    json_array_foreach(json_object_get(body, "scopes"), at, scope)
    {
        enum role named =
            json_is_string(scope) ? role_parse(json_string_value(scope)) : ROLE_PUBLIC;
        role = named > role ? named : role;
    }
    if (role == ROLE_PUBLIC) {
        call_problem(call, 400, "invalid_field", "role", "role must be viewer, developer or admin");
        return NULL;
    }
    if (role > call->who.role) {
        call_problem(call, 403, "role_too_high", "role",
                     ec_arena_format(call->arena, "you are %s and cannot give the role %s",
                                     role_name(call->who.role), role_name(role)));
        return NULL;
    }
    return role_name(role);
}

/* What cannot be read is refused: taken for left out, it would make a token without an end, or for
 * every project. NULL = answered. */
static const char *asked_days(struct call *call, const json_t *body)
{
    const json_t *value = json_object_get(body, "expires_in_days");
    if (!value || json_is_null(value)) {
        return "";
    }
    json_int_t days = json_integer_value(value); /* 0 when it is none */
    if (days < 1 || days > 3650) {
        call_problem(call, 400, "invalid_field", "expires_in_days",
                     "expires_in_days must be a number from 1 to 3650; leave it out for no end");
        return NULL;
    }
    return ec_arena_format(call->arena, "%lld", (long long)days);
}

static const char *asked_project(struct call *call, const json_t *body)
{
    const json_t *value = json_object_get(body, "project");
    return !value || json_is_null(value) ? "" : body_text(call, body, "project", 63);
}

static void insert_token(struct call *call, struct making *making, const char *project_id)
{
    struct ec_span text = ec_span_of(making->text);
    const char *prefix =
        ec_arena_text(call->arena, (struct ec_span){text.ptr, EC_TOKEN_PREFIX_LEN});
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch,
                 "insert into enclii.api_token as t (id, name, prefix, hash, role, project_id,"
                 " created_by, expires_at) select $1::uuid, $2, $3, $4, $5, nullif($6, '')::uuid,"
                 " maker.id, least(now() + nullif($8, '')::int * interval '1 day',"
                 "  maker.expires_at) from enclii.api_token maker where maker.id = $7::uuid"
                 " returning " TIME("t.expires_at", "expires_at"),
                 ARGS(making->id.text, making->name, prefix, ec_token_hash_hex(call->arena, text),
                      making->role, project_id, call->who.token_id, making->days));
    audit_add(call, batch,
              &(struct audit){"token.create", "token", making->id.text, making->name, NULL});
    call_write(call, batch, on_token_created);
}

static void on_token_facts(struct call *call, const struct ec_rows *rows)
{
    struct making *making = call->more;
    const char *project_id = call->who.project_id;
    if (ec_rows_int(rows, 0, "active") >= ACTIVE_MAX) {
        call_problem(call, 409, "too_many_tokens", NULL,
                     "you have made 50 tokens that are still active; revoke some first");
        return;
    }
    if (making->project[0]) {
        project_id = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "project_id"));
        if (!project_id[0]) {
            call_problem(call, 404, "not_found", "project", "there is no such project");
            return;
        }
    }
    ec_cleanup(ec_secret_freep) struct ec_secret *token = NULL;
    struct ec_err err = ec_token_new(&token);
    if (ec_failed(err)) {
        ec_reply_error(call->req, err, "token_failed");
        return;
    }
    making->text = ec_arena_text(call->arena, ec_secret_use(token));
    insert_token(call, making, project_id);
}

void on_token_create(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    const char *name = body ? body_text(call, body, "name", 100) : NULL;
    const char *role = name ? asked_role(call, body) : NULL;
    if (!role) {
        return;
    }
    const char *days = asked_days(call, body);
    const char *project = days ? asked_project(call, body) : NULL;
    if (!project) {
        return;
    }
    struct making *making = ec_arena_alloc(call->arena, sizeof(*making));
    *making = (struct making){
        .id = ec_id_new(), .name = name, .role = role, .project = project, .days = days};
    call->more = making;
    call_query(call, FACTS_SQL, ARGS(call->who.token_id, making->project, call->who.project_id),
               on_token_facts);
}

static void on_tokens(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               render_list(rows, TOKEN_COLUMNS)); /* a bare array, as older clients want */
}

void on_token_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *all = ec_request_query(req, "include_revoked");
    call_query(call,
               TOKEN_SQL " where " VISIBLE " and ($4 = 'true' or t.revoked_at is null)"
                         " order by t.created_at desc limit $5::int",
               ARGS(call->who.project_id, call->who.token_id, role_name(call->who.role),
                    all ? all : "", call_limit(call, 100)),
               on_tokens);
}

static void on_token_deleted(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    auth_forget(call->api->auth);
    ec_reply_empty(call->req, 204);
}

static void on_token_seen(struct call *call, const struct ec_rows *rows)
{
    if (ec_rows_count(rows) == 0) {
        call_problem(call, 404, "not_found", "id", "there is no such active token of yours");
        return;
    }
    const char *id = ec_rows_text(rows, 0, "id");
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, "update enclii.api_token set revoked_at = now() where id = $1::uuid",
                 ARGS(id));
    audit_add(call, batch,
              &(struct audit){"token.revoke", "token", id, ec_rows_text(rows, 0, "name"), NULL});
    call_write(call, batch, on_token_deleted);
}

void on_token_delete(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *id = ec_request_param(req, "id");
    if (!ec_id_valid(id)) {
        call_problem(call, 400, "invalid_id", "id", "a token's id is a lower-case UUID");
        return;
    }
    call_query(call,
               "select t.id, t.name from enclii.api_token t where t.id = $4::uuid"
               " and t.revoked_at is null and " VISIBLE,
               ARGS(call->who.project_id, call->who.token_id, role_name(call->who.role), id),
               on_token_seen);
}
