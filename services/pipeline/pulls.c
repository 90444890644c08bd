/* Pull requests, approvals and CI runs of a world: adding, finding, reading. */
#include "load_rows.h"

#include <string.h>

/* A commit has few runs; what is beyond does not change the verdict of an honest host. */
#define CI_RUNS_MAX "2000"

const char pulls_sql[] =
    "select id, repo_key, number, state, title, url, ref, head_sha, base_ref, from_fork, draft, "
    "author, author_association, delivery_id, asked_of, enclii.ms(host_updated_at) as host_updated "
    "from enclii.pull_request where id = any($1::text[]) or head_sha = any($2::text[])";
const char approvals_sql[] =
    "select service_id, pull_request, commit_sha, approved_by, approved_by_id, reason "
    "from enclii.approval where commit_sha = any(array(select unnest($1::text[]) union select "
    "head_sha from enclii.pull_request where id = any($2::text[])))";
const char ci_runs_sql[] =
    "select r.repo_key, r.sha, r.kind, r.run_id, r.name, r.status, r.conclusion, r.url, r.attempt "
    "from (select unnest($1::text[]) as sha union select commit_sha from enclii.delivery where id "
    "= any($2::text[])) w cross join lateral (select * from enclii.ci_run c where c.sha = w.sha "
    "limit " CI_RUNS_MAX ") r";

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

void take_pull(const struct row *row)
{
    world_add_pull(row->world, &(struct pull){
                                   .id = row_text(row, "id"),
                                   .repo_key = row_text(row, "repo_key"),
                                   .number = (int32_t)row_number(row, "number"),
                                   .state = row_text(row, "state"),
                                   .title = row_text(row, "title"),
                                   .url = row_text(row, "url"),
                                   .ref = row_text(row, "ref"),
                                   .head_sha = row_text(row, "head_sha"),
                                   .base_ref = row_text(row, "base_ref"),
                                   .from_fork = row_flag(row, "from_fork"),
                                   .draft = row_flag(row, "draft"),
                                   .author = row_text(row, "author"),
                                   .author_association = row_text(row, "author_association"),
                                   .delivery_id = row_text(row, "delivery_id"),
                                   .asked_of = row_text(row, "asked_of"),
                                   .host_updated_ms = row_number(row, "host_updated"),
                               });
}

void take_approval(const struct row *row)
{
    struct service *svc = world_service(row->world, ec_rows_text(row->rows, row->at, "service_id"));
    if (svc) { /* else of a service that is not in question */
        world_add_approval(row->world, &(struct approval){
                                           .service = svc,
                                           .pull_request = (int32_t)row_number(row, "pull_request"),
                                           .commit_sha = row_text(row, "commit_sha"),
                                           .approved_by = row_text(row, "approved_by"),
                                           .approved_by_id = row_text(row, "approved_by_id"),
                                           .reason = row_text(row, "reason"),
                                       });
    }
}

void take_ci_run(const struct row *row)
{
    world_add_ci_run(row->world, &(struct ci_run){
                                     .repo_key = row_text(row, "repo_key"),
                                     .sha = row_text(row, "sha"),
                                     .kind = row_text(row, "kind"),
                                     .run_id = row_text(row, "run_id"),
                                     .name = row_text(row, "name"),
                                     .status = row_text(row, "status"),
                                     .conclusion = row_text(row, "conclusion"),
                                     .url = row_text(row, "url"),
                                     .attempt = row_number(row, "attempt"),
                                 });
}
