/* Projects and environments. A project is made with its environment "production". It can be removed
 * once nothing of it runs any more: the rows are what the pipeline needs to take running things
 * down. */
#include <string.h>

#include "api.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"

#define PROJECT_COLUMNS "id name slug created_at updated_at"
/* clang-format off */
#define PROJECT_SQL \
    "select p.id, p.name, p.slug" \
    ", " TIME("p.created_at", "created_at") \
    ", " TIME("p.updated_at", "updated_at") \
    " from enclii.project p"
/* clang-format on */
#define ENVIRONMENT_COLUMNS "id project_id name kube_namespace target created_at updated_at"
/* clang-format off */
#define ENVIRONMENT_SQL \
    "select e.id, e.project_id, e.name, e.kube_namespace, e.target" \
    ", " TIME("e.created_at", "created_at") \
    ", " TIME("e.updated_at", "updated_at") \
    " from enclii.environment e"
/* clang-format on */

static void add_environment(struct ec_batch *batch, const char *project_id, const char *slug,
                            const char *name)
{
    struct ec_id id = ec_id_new();
    ec_batch_add(batch,
                 "insert into enclii.environment (id, project_id, name, kube_namespace)"
                 " values ($1::uuid, $2::uuid, $3, 'enclii-' || $4 || '-' || $3)",
                 ARGS(id.text, project_id, name, slug));
    ec_batch_add(batch, ENVIRONMENT_SQL " where e.id = $1::uuid", ARGS(id.text));
}

static void on_project_created(struct call *call, const struct ec_batch *batch)
{
    size_t last = ec_batch_count(batch) - 1;
    call_reply(call, 201, render_row(ec_batch_rows(batch, last), 0, PROJECT_COLUMNS));
}

void on_project_create(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    if (call->who.project_id[0]) {
        call_problem(call, 403, "forbidden", NULL,
                     "this token is for one project; projects are made with a token for all");
        return;
    }
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    const char *slug = body ? body_text(call, body, "slug", 63) : NULL;
    if (!slug) {
        return;
    }
    if (!is_name(slug, 63)) {
        call_problem(call, 400, "invalid_field", "slug",
                     "slug must be 1 to 63 of a-z 0-9 -, not starting or ending with -");
        return;
    }
    const char *name = json_object_get(body, "name") ? body_text(call, body, "name", 100) : slug;
    if (!name) {
        return;
    }
    struct ec_id id = ec_id_new();
    call->project_id = ec_arena_strdup(call->arena, id.text);
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, "insert into enclii.project (id, slug, name) values ($1::uuid, $2, $3)",
                 ARGS(id.text, slug, name));
    add_environment(batch, id.text, slug, "production");
    audit_add(call, batch, &(struct audit){"project.create", "project", id.text, slug, NULL});
    ec_batch_add(batch, PROJECT_SQL " where p.id = $1::uuid", ARGS(id.text));
    call_write(call, batch, on_project_created);
}

static void on_projects(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               json_pack("{s:o, s:i}", "projects", render_list(rows, PROJECT_COLUMNS), "count",
                         (int)ec_rows_count(rows)));
}

void on_project_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call,
               PROJECT_SQL
               " where " IN_SCOPE("$1", "p.id") " order by p.created_at desc limit $2::int",
               ARGS(call->who.project_id, call_limit(call, 100)), on_projects);
}

static void on_project(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200, render_row(rows, 0, PROJECT_COLUMNS));
}

void on_project_get(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, PROJECT_SQL " where p.id = $1::uuid", ARGS(call->project_id), on_project);
}

/* ---- removal ---- */

static void on_project_deleted(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    call_reply(call, 200, json_pack("{s:s}", "message", "project removed"));
}

static void remove_project(struct call *call, const struct ec_rows *channels)
{
    struct ec_batch *batch = ec_batch_new(call->api->store);
    for (size_t i = 0; i < ec_rows_count(channels); i++) {
        outbox_add(call, batch,
                   &(struct outbox_row){.topic = EC_TOPIC_CHANNELS,
                                        .key = ec_rows_text(channels, i, "id"),
                                        .type = "dev.enclii.channel.set.v1"});
    }
    /* The count is taken again inside: a service made since the look would be lost silently. */
    ec_batch_add(
        batch,
        "with gone as (delete from enclii.project p where p.id = $1::uuid and not exists"
        " (select 1 from enclii.service s where s.project_id = p.id and s.removed_at is null)"
        " returning 1) select ec_expect(1, count(*)) from gone",
        ARGS(call->project_id));
    audit_add(
        call, batch,
        &(struct audit){"project.delete", "project", call->project_id, call->project_slug, NULL});
    auth_forget(call->api->auth);
    call_write(call, batch, on_project_deleted);
}

static void on_what_is_left(struct call *call, const struct ec_batch *batch)
{
    const struct ec_rows *left = ec_batch_rows(batch, 0);
    if (ec_rows_count(left) == 0) {
        remove_project(call, ec_batch_rows(batch, 1));
        return;
    }
    const char *name = ec_rows_text(left, 0, "name");
    call_problem(call, 409, "project_in_use", NULL,
                 ec_rows_bool(left, 0, "removed")
                     ? ec_arena_format(call->arena,
                                       "service %s is still being taken down; try again in a few "
                                       "seconds",
                                       name)
                     : ec_arena_format(call->arena,
                                       "the project has services (%s and maybe more); remove them "
                                       "first",
                                       name));
}

void on_project_delete(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch,
                 "select s.name, s.removed_at is not null as removed from enclii.service s"
                 " where s.project_id = $1::uuid and (s.removed_at is null or exists (select 1 from"
                 " enclii.desired d where d.service_id = s.id and d.release_id is not null))"
                 " order by s.removed_at nulls first limit 1",
                 ARGS(call->project_id));
    ec_batch_add(batch, "select id from enclii.channel where project_id = $1::uuid",
                 ARGS(call->project_id));
    call_read(call, batch, on_what_is_left);
}

/* ---- environments ---- */

static void on_environment_created(struct call *call, const struct ec_batch *batch)
{
    call_reply(call, 201, render_row(ec_batch_rows(batch, 1), 0, ENVIRONMENT_COLUMNS));
}

void on_environment_create(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    const char *name = body ? body_text(call, body, "name", 63) : NULL;
    if (!name) {
        return;
    }
    if (!is_name(name, 63)) {
        call_problem(call, 400, "invalid_field", "name",
                     "name must be 1 to 63 of a-z 0-9 -, not starting or ending with -");
        return;
    }
    struct ec_batch *batch = ec_batch_new(call->api->store);
    add_environment(batch, call->project_id, call->project_slug, name);
    audit_add(call, batch, &(struct audit){"environment.create", "environment", "", name, NULL});
    call_write(call, batch, on_environment_created);
}

static void on_environments(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200,
               json_pack("{s:o}", "environments", render_list(rows, ENVIRONMENT_COLUMNS)));
}

void on_environment_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call,
               ENVIRONMENT_SQL " where e.project_id = $1::uuid order by e.created_at limit $2::int",
               ARGS(call->project_id, call_limit(call, 100)), on_environments);
}

static void on_environment(struct call *call, const struct ec_rows *rows)
{
    if (ec_rows_count(rows) == 0) {
        call_problem(call, 404, "not_found", "environment",
                     "this project has no environment of that name");
        return;
    }
    call_reply(call, 200, render_row(rows, 0, ENVIRONMENT_COLUMNS));
}

void on_environment_get(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, ENVIRONMENT_SQL " where e.project_id = $1::uuid and e.name = $2",
               ARGS(call->project_id, ec_request_param(req, "environment")), on_environment);
}
