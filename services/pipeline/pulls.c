/* Pull requests, approvals and CI runs of a world: adding, finding, reading. */
#include "pulls.h"

#include <string.h>

/* A commit has few runs; what is beyond does not change the verdict of an honest host. */
#define CI_RUNS_MAX "2000"

const char pulls_sql[] =
    "select id, repo_key, number, state, title, url, ref, head_sha, base_ref, from_fork, draft, "
    "author, author_association, delivery_id, enclii.ms(host_updated_at) as host_updated "
    "from enclii.pull_request where id = any($1::text[]) or head_sha = any($2::text[])";
const char approvals_sql[] =
    "select service_id, pull_request, commit_sha, approved_by, approved_by_id, reason "
    "from enclii.approval where commit_sha = any($1::text[])";
const char ci_runs_sql[] =
    "select repo_key, sha, kind, run_id, name, status, conclusion, url, attempt "
    "from enclii.ci_run where sha = any(array(select unnest($1::text[]) union select commit_sha "
    "from "
    "enclii.delivery where id = any($2::text[]))) limit " CI_RUNS_MAX;

const char *pull_id(struct world *world, const char *repo_key, int64_t number)
{
    return ec_arena_format(world->arena, "%s#%lld", repo_key, (long long)number);
}

struct pull *world_pull(const struct world *world, const char *id)
{
    struct pull *row = world->first_pull;
    while (row && strcmp(row->id, id) != 0) {
        row = row->next;
    }
    return row;
}

struct pull *world_fork_of(const struct world *world, const struct service *svc, const char *sha)
{
    struct pull *row = world->first_pull;
    while (row && (!row->from_fork || strcmp(row->head_sha, sha) != 0 ||
                   strcmp(row->repo_key, svc->repo_key) != 0)) {
        row = row->next;
    }
    return row;
}

struct pull *world_add_pull(struct world *world, const struct pull *row)
{
    struct pull *copy = world_pull(world, row->id);
    if (!copy) {
        copy = ec_arena_alloc(world->arena, sizeof *copy);
        *copy = *row;
        copy->next = world->first_pull;
        world->first_pull = copy;
    }
    return copy;
}

struct approval *world_approval(const struct world *world, const struct service *svc,
                                int32_t pull_request, const char *sha)
{
    struct approval *row = world->first_approval;
    while (row && (row->service != svc || row->pull_request != pull_request ||
                   strcmp(row->commit_sha, sha) != 0)) {
        row = row->next;
    }
    return row;
}

struct approval *world_add_approval(struct world *world, const struct approval *row)
{
    struct approval *copy = world_approval(world, row->service, row->pull_request, row->commit_sha);
    if (!copy) {
        copy = ec_arena_alloc(world->arena, sizeof *copy);
        *copy = *row;
        copy->next = world->first_approval;
        world->first_approval = copy;
    }
    return copy;
}

struct ci_run *world_ci_run(const struct world *world, const struct ci_run *like)
{
    struct ci_run *row = world->first_ci_run;
    while (row &&
           (strcmp(row->run_id, like->run_id) != 0 || strcmp(row->kind, like->kind) != 0 ||
            strcmp(row->sha, like->sha) != 0 || strcmp(row->repo_key, like->repo_key) != 0)) {
        row = row->next;
    }
    return row;
}

struct ci_run *world_add_ci_run(struct world *world, const struct ci_run *row)
{
    struct ci_run *copy = world_ci_run(world, row);
    if (!copy) {
        copy = ec_arena_alloc(world->arena, sizeof *copy);
        *copy = *row;
        copy->next = world->first_ci_run;
        world->first_ci_run = copy;
    }
    return copy;
}

/* ---- reading ---- */

static const char *text(struct world *world, const struct ec_rows *rows, size_t at,
                        const char *column)
{
    return ec_arena_strdup(world->arena, ec_rows_text(rows, at, column));
}

void pulls_take(struct world *world, const struct ec_rows *rows, size_t at)
{
    world_add_pull(world, &(struct pull){
                              .id = text(world, rows, at, "id"),
                              .repo_key = text(world, rows, at, "repo_key"),
                              .number = (int32_t)ec_rows_int(rows, at, "number"),
                              .state = text(world, rows, at, "state"),
                              .title = text(world, rows, at, "title"),
                              .url = text(world, rows, at, "url"),
                              .ref = text(world, rows, at, "ref"),
                              .head_sha = text(world, rows, at, "head_sha"),
                              .base_ref = text(world, rows, at, "base_ref"),
                              .from_fork = ec_rows_bool(rows, at, "from_fork"),
                              .draft = ec_rows_bool(rows, at, "draft"),
                              .author = text(world, rows, at, "author"),
                              .author_association = text(world, rows, at, "author_association"),
                              .delivery_id = text(world, rows, at, "delivery_id"),
                              .host_updated_ms = ec_rows_int(rows, at, "host_updated"),
                          });
}

void approvals_take(struct world *world, const struct ec_rows *rows, size_t at)
{
    struct service *svc = world_service(world, ec_rows_text(rows, at, "service_id"));
    if (svc) { /* else of a service that is not in question */
        world_add_approval(world,
                           &(struct approval){
                               .service = svc,
                               .pull_request = (int32_t)ec_rows_int(rows, at, "pull_request"),
                               .commit_sha = text(world, rows, at, "commit_sha"),
                               .approved_by = text(world, rows, at, "approved_by"),
                               .approved_by_id = text(world, rows, at, "approved_by_id"),
                               .reason = text(world, rows, at, "reason"),
                           });
    }
}

void ci_runs_take(struct world *world, const struct ec_rows *rows, size_t at)
{
    world_add_ci_run(world, &(struct ci_run){
                                .repo_key = text(world, rows, at, "repo_key"),
                                .sha = text(world, rows, at, "sha"),
                                .kind = text(world, rows, at, "kind"),
                                .run_id = text(world, rows, at, "run_id"),
                                .name = text(world, rows, at, "name"),
                                .status = text(world, rows, at, "status"),
                                .conclusion = text(world, rows, at, "conclusion"),
                                .url = text(world, rows, at, "url"),
                                .attempt = ec_rows_int(rows, at, "attempt"),
                            });
}
