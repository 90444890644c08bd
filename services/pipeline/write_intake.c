/* SQL of the write side for intake: what was refused, and which repository is which. */
#include "base/mem.h"
#include "write.h"

bool write_add_refusals(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 11);
    for (const struct refusal *row = world->first_refusal; row; row = row->next) {
        const Enclii__V1__DeliveryRefused *fact = row->fact;
        ec_columns_id(&cols, fact->refusal_id);
        ec_columns_text(&cols, fact->delivery_id);
        ec_columns_text(&cols, fact->host);
        ec_columns_text(&cols, fact->event);
        ec_columns_text(&cols, fact->repo_key);
        ec_columns_int(&cols, fact->status);
        ec_columns_text(&cols, fact->reason);
        ec_columns_text(&cols, fact->detail);
        ec_columns_text(&cols, fact->peer);
        ec_columns_int(&cols, fact->body_bytes);
        ec_columns_int(&cols, fact->received_unix_ms);
    }
    return ec_columns_flush(
        &cols, batch,
        "insert into enclii.refused_delivery (id, delivery_id, host, event, repo_key, status, "
        "reason, detail, peer, body_bytes, received_at) select c1, c2, c3, c4, c5, c6, c7, c8, c9, "
        "c10, coalesce(enclii.at(c11), now()) from unnest($1::uuid[], $2::text[], $3::text[], "
        "$4::text[], "
        "$5::text[], $6::int[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[]) "
        "as c(c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11) on conflict do nothing",
        false);
}

/* Before the new names are written. Deliveries go along: the host sends them again by the new name.
 */
bool write_move_repos(struct ec_batch *batch, const struct world *world)
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
        "with r as (delete from enclii.repo where repo_key = any($1::text[])), "
        "d as (update enclii.delivery d set repo_key = c.now from unnest($1::text[], $2::text[]) "
        "as c(was, now) where d.repo_key = c.was) "
        "delete from enclii.ref where repo_key = any($1::text[])",
        false);
}

bool write_put_repos(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 8);
    for (const struct repo *row = world->first_repo; row; row = row->next) {
        if (row->mark == ROW_CHANGED) {
            ec_columns_text(&cols, row->repo_key);
            ec_columns_text(&cols, row->host_repo_id);
            ec_columns_text(&cols, row->clone_url);
            ec_columns_text(&cols, row->full_name);
            ec_columns_bytes(&cols, row->sealed_secret);
            ec_columns_bytes(&cols, row->sealed_previous_secret);
            ec_columns_text(&cols, row->sealed_for);
            ec_columns_text(&cols, row->hook_id);
        }
    }
    /* Secrets are the api's to change. One that it has set since this batch was read is not in the
     * binding that this batch publishes, which `webhook` would take as the last word: decided anew.
     */
    return ec_columns_flush(
        &cols, batch,
        "with u as (insert into enclii.repo as r (repo_key, host_repo_id, clone_url, full_name, "
        "sealed_secret, "
        "sealed_previous_secret, sealed_for, hook_id) select c1, c2, c3, c4, c5, c6, c7, c8 from "
        "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], "
        "$7::text[], $8::text[]) as c(c1, c2, c3, c4, c5, c6, c7, c8) order by c1 "
        "on conflict (repo_key) do update set host_repo_id = excluded.host_repo_id, "
        "clone_url = excluded.clone_url, full_name = excluded.full_name, updated_at = now() "
        "where (r.sealed_secret, r.sealed_previous_secret, r.sealed_for, r.hook_id) is not "
        "distinct from (excluded.sealed_secret, excluded.sealed_previous_secret, "
        "excluded.sealed_for, excluded.hook_id) returning 1) "
        "select ec_expect($9::bigint, count(*)) from u",
        true);
}

bool write_put_refs(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 6);
    for (const struct git_ref *row = world->first_ref; row; row = row->next) {
        if (row->mark == ROW_CHANGED) {
            ec_columns_text(&cols, row->repo_key);
            ec_columns_text(&cols, row->ref);
            ec_columns_text(&cols, row->sha);
            ec_columns_text(&cols, row->gap_from);
            ec_columns_text(&cols, row->gap_to);
            ec_columns_int(&cols, row->seen_ms);
        }
    }
    return ec_columns_flush(
        &cols, batch,
        "insert into enclii.ref (repo_key, ref, sha, gap_from, gap_to, seen_at) select c1, c2, c3, "
        "c4, c5, coalesce(enclii.at(c6), now()) from unnest($1::text[], $2::text[], $3::text[], "
        "$4::text[], $5::text[], $6::bigint[]) as c(c1, c2, c3, c4, c5, c6) order by c1, c2 "
        "on conflict (repo_key, ref) do update set sha = excluded.sha, gap_from = "
        "excluded.gap_from, gap_to = excluded.gap_to, seen_at = excluded.seen_at",
        false);
}
