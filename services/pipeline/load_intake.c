/* What came in, where from, and who builds. */
#include "load_rows.h"

const char deliveries_sql[] =
    "select id, repo_key, ref, commit_sha, pusher, state, reason, detail, duplicates, trace, push, "
    "pull_request, cas, enclii.ms(received_at) as received, enclii.ms(deadline_at) as deadline "
    "from "
    "enclii.delivery "
    "where id = any($1::text[]) union all select id, repo_key, ref, commit_sha, pusher, state, "
    "reason, "
    "detail, duplicates, trace, push, pull_request, cas, enclii.ms(received_at), "
    "enclii.ms(deadline_at) from "
    "enclii.delivery where "
    "repo_key = any($2::text[]) and deadline_at is not null";
const char repos_sql[] =
    "select repo_key, host_repo_id, clone_url, full_name, sealed_secret, sealed_previous_secret, "
    "sealed_for, hook_id from enclii.repo "
    "where repo_key = any($1::text[])";
const char refs_sql[] =
    "select r.repo_key, r.ref, r.sha, r.gap_from, r.gap_to, enclii.ms(r.seen_at) as seen from "
    "unnest($1::text[]) as w(k) join enclii.ref r on r.repo_key = split_part(w.k, E'\\n', 1) and "
    "r.ref = split_part(w.k, E'\\n', 2)";
const char inbox_sql[] = "select event_id from enclii.inbox where event_id = any($1::text[])";
const char builders_sql[] =
    "select id, slots, draining, trusted_only, cached_repos, version, enclii.ms(heard_at) as heard "
    "from enclii.builder where id = any($1::text[]) or ($2::boolean and heard_at > now() - "
    "interval '1 minute') order by id";

void take_delivery(const struct row *row)
{
    struct delivery delivery = {
        .id = row_text(row, "id"),
        .repo_key = row_text(row, "repo_key"),
        .ref = row_text(row, "ref"),
        .commit_sha = row_text(row, "commit_sha"),
        .pusher = row_text(row, "pusher"),
        .reason = row_text(row, "reason"),
        .detail = row_text(row, "detail"),
        .trace = row_text(row, "trace"),
        .host = "",
        .event = "",
        .action = "",
        .duplicates = (int32_t)row_number(row, "duplicates"),
        .pull_request = (int32_t)row_number(row, "pull_request"),
        .received_ms = row_number(row, "received"),
        .cas = row_number(row, "cas"),
    };
    if (machine_load(&delivery.cell, MACHINE_DELIVERY, ec_rows_text(row->rows, row->at, "state"),
                     row_number(row, "deadline"))) {
        delivery.push = machine_ended(&delivery.cell) ? EC_SPAN("") : row_bytes(row, "push");
        world_add_delivery(row->world, &delivery);
    }
}

void take_repo(const struct row *row)
{
    world_add_repo(row->world, &(struct repo){.repo_key = row_text(row, "repo_key"),
                                              .host_repo_id = row_text(row, "host_repo_id"),
                                              .clone_url = row_text(row, "clone_url"),
                                              .full_name = row_text(row, "full_name"),
                                              .sealed_secret = row_bytes(row, "sealed_secret"),
                                              .sealed_previous_secret =
                                                  row_bytes(row, "sealed_previous_secret"),
                                              .sealed_for = row_text(row, "sealed_for"),
                                              .hook_id = row_text(row, "hook_id"),
                                              .renamed_from = ""});
}

void take_ref(const struct row *row)
{
    world_add_ref(row->world, &(struct git_ref){.repo_key = row_text(row, "repo_key"),
                                                .ref = row_text(row, "ref"),
                                                .sha = row_text(row, "sha"),
                                                .gap_from = row_text(row, "gap_from"),
                                                .gap_to = row_text(row, "gap_to"),
                                                .seen_ms = row_number(row, "seen")});
}

void take_inbox(const struct row *row)
{
    ec_map_put(row->world->inbox, ec_rows_text(row->rows, row->at, "event_id"), row->world);
}

void take_builder(const struct row *row)
{
    world_add_builder(row->world, &(struct builder){
                                      .id = row_text(row, "id"),
                                      .slots = (int32_t)row_number(row, "slots"),
                                      .draining = row_flag(row, "draining"),
                                      .trusted_only = row_flag(row, "trusted_only"),
                                      .cached_repos = row_text(row, "cached_repos"),
                                      .version = row_text(row, "version"),
                                      .heard_ms = row_number(row, "heard"),
                                  });
}
