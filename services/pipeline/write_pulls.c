/* SQL of the write side: pull requests, approvals, CI runs. One repository's words come through one
 * partition, so the last writer is right; rows are put in the order of their keys, so that two
 * instances cannot wait for each other. */
#include "base/mem.h"
#include "pulls.h"
#include "write.h"

bool write_put_pulls(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 16);
    for (const struct pull *row = world->first_pull; row; row = row->next) {
        if (row->mark == ROW_CLEAN) {
            continue;
        }
        ec_columns_text(&cols, row->id);
        ec_columns_text(&cols, row->repo_key);
        ec_columns_int(&cols, row->number);
        ec_columns_text(&cols, row->state);
        ec_columns_text(&cols, row->title);
        ec_columns_text(&cols, row->url);
        ec_columns_text(&cols, row->ref);
        ec_columns_text(&cols, row->head_sha);
        ec_columns_text(&cols, row->base_ref);
        ec_columns_flag(&cols, row->from_fork);
        ec_columns_flag(&cols, row->draft);
        ec_columns_text(&cols, row->author);
        ec_columns_text(&cols, row->author_association);
        ec_columns_text(&cols, row->delivery_id);
        ec_columns_int(&cols, row->host_updated_ms);
        ec_columns_text(&cols, row->asked_of);
    }
    return ec_columns_flush(
        &cols, batch,
        "insert into enclii.pull_request (id, repo_key, number, state, title, url, ref, head_sha, "
        "base_ref, from_fork, draft, author, author_association, delivery_id, host_updated_at, "
        "asked_of) "
        "select c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, enclii.at(c15), c16 "
        "from "
        "unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], "
        "$7::text[], $8::text[], $9::text[], $10::boolean[], $11::boolean[], $12::text[], "
        "$13::text[], $14::text[], $15::bigint[], $16::text[]) as c(c1, c2, c3, c4, c5, c6, c7, "
        "c8, "
        "c9, c10, c11, c12, c13, c14, c15, c16) order by c1 on conflict (id) do update set state = "
        "excluded.state, title = excluded.title, url = excluded.url, ref = excluded.ref, head_sha "
        "= excluded.head_sha, base_ref = excluded.base_ref, from_fork = excluded.from_fork, draft "
        "= excluded.draft, author = excluded.author, author_association = "
        "excluded.author_association, delivery_id = excluded.delivery_id, asked_of = "
        "excluded.asked_of, "
        "host_updated_at = "
        "excluded.host_updated_at, updated_at = now()",
        false);
}

bool write_add_approvals(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 6);
    for (const struct approval *row = world->first_approval; row; row = row->next) {
        if (row->mark != ROW_NEW) {
            continue;
        }
        ec_columns_id(&cols, row->service->id);
        ec_columns_int(&cols, row->pull_request);
        ec_columns_text(&cols, row->commit_sha);
        ec_columns_text(&cols, row->approved_by);
        ec_columns_text(&cols, row->approved_by_id);
        ec_columns_text(&cols, row->reason);
    }
    return ec_columns_flush(
        &cols, batch,
        "insert into enclii.approval (service_id, pull_request, commit_sha, approved_by, "
        "approved_by_id, reason) select * from unnest($1::uuid[], $2::int[], $3::text[], "
        "$4::text[], $5::text[], $6::text[]) as c(c1, c2, c3, c4, c5, c6) order by c1, c2, c3 on "
        "conflict do nothing",
        false);
}

/* A word about an earlier attempt never takes the place of a later one. */
bool write_put_ci_runs(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 9);
    for (const struct ci_run *row = world->first_ci_run; row; row = row->next) {
        if (row->mark == ROW_CLEAN) {
            continue;
        }
        ec_columns_text(&cols, row->repo_key);
        ec_columns_text(&cols, row->sha);
        ec_columns_text(&cols, row->kind);
        ec_columns_text(&cols, row->run_id);
        ec_columns_text(&cols, row->name);
        ec_columns_text(&cols, row->status);
        ec_columns_text(&cols, row->conclusion);
        ec_columns_text(&cols, row->url);
        ec_columns_int(&cols, row->attempt);
    }
    return ec_columns_flush(
        &cols, batch,
        "insert into enclii.ci_run (repo_key, sha, kind, run_id, name, status, conclusion, url, "
        "attempt) select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], "
        "$5::text[], $6::text[], $7::text[], $8::text[], $9::int[]) as c(c1, c2, c3, c4, c5, c6, "
        "c7, c8, c9) order by c1, c2, c3, c4 on conflict (repo_key, sha, kind, run_id) do update "
        "set name = excluded.name, status = excluded.status, conclusion = excluded.conclusion, "
        "url = excluded.url, attempt = excluded.attempt, updated_at = now() where ci_run.attempt "
        "<= excluded.attempt",
        false);
}

/* Pull requests go where their repository goes. */
bool write_move_pulls(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 2);
    for (const struct repo *row = world->first_repo; row; row = row->next) {
        if (row->mark == ROW_CHANGED && *row->renamed_from) {
            ec_columns_text(&cols, row->renamed_from);
            ec_columns_text(&cols, row->repo_key);
        }
    }
    return ec_columns_flush(
        &cols, batch,
        "update enclii.pull_request t set repo_key = c.new, id = c.new || '#' || t.number from "
        "unnest($1::text[], $2::text[]) as c(old, new) where t.repo_key = c.old and not exists "
        "(select 1 from enclii.pull_request o where o.id = c.new || '#' || t.number)",
        false);
}
