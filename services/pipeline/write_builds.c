/* SQL of the write side, first half: seen ids, deliveries, services, builds, releases, builders. */
#include "base/mem.h"
#include "write.h"

bool write_add_seen(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 1);
    for (const struct seen *row = world->first_seen; row; row = row->next) {
        ec_columns_text(&cols, row->event_id);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("insert into enclii.inbox (event_id) select * from unnest($1::text[]) on "
                "conflict do nothing ",
                2),
        true);
}

bool write_add_deliveries(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 18);
    for (const struct delivery *row = world->first_delivery; row; row = row->next) {
        if (row->mark != ROW_NEW) {
            continue;
        }
        ec_columns_text(&cols, row->id);
        ec_columns_text(&cols, row->repo_key);
        ec_columns_text(&cols, row->ref);
        ec_columns_text(&cols, row->commit_sha);
        ec_columns_text(&cols, row->pusher);
        ec_columns_text(&cols, machine_text(&row->cell));
        ec_columns_text(&cols, row->reason);
        ec_columns_text(&cols, row->detail);
        ec_columns_text(&cols, row->trace);
        ec_columns_int(&cols, row->received_ms);
        ec_columns_int(&cols, row->duplicates);
        ec_columns_text(&cols, row->host);
        ec_columns_text(&cols, row->event);
        ec_columns_text(&cols, row->action);
        ec_columns_flag(&cols, row->recovered);
        ec_columns_bytes(&cols, row->push);
        ec_columns_int(&cols, row->cell.deadline_unix_ms);
        ec_columns_int(&cols, row->pull_request);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED(
            "insert into enclii.delivery (id, repo_key, ref, commit_sha, pusher, "
            "state, reason, detail, trace, received_at, duplicates, host, event, action, "
            "recovered, push, deadline_at, pull_request) select c1, c2, c3, c4, c5, c6, c7, c8, "
            "c9, "
            "enclii.at(c10), c11, "
            "c12, c13, c14, c15, c16, enclii.at(c17), c18 from unnest($1::text[], "
            "$2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], "
            "$8::text[], $9::text[], $10::bigint[], $11::int[], $12::text[], $13::text[], "
            "$14::text[], $15::boolean[], $16::bytea[], $17::bigint[], $18::int[]) as c(c1, c2, "
            "c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18) on "
            "conflict do nothing ",
            19),
        true);
}

bool write_update_deliveries(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 7);
    for (const struct delivery *row = world->first_delivery; row; row = row->next) {
        if (row->mark != ROW_CHANGED) {
            continue;
        }
        ec_columns_text(&cols, row->id);
        ec_columns_int(&cols, row->cas);
        ec_columns_int(&cols, row->duplicates);
        ec_columns_text(&cols, machine_text(&row->cell));
        ec_columns_text(&cols, row->reason);
        ec_columns_text(&cols, row->detail);
        ec_columns_int(&cols, row->cell.deadline_unix_ms);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("update enclii.delivery t set duplicates = c.duplicates, state = c.state, reason = "
                "c.reason, detail = c.detail, deadline_at = enclii.at(c.deadline_at), cas = "
                "t.cas + 1 from unnest($1::text[], $2::bigint[], $3::int[], $4::text[], "
                "$5::text[], $6::text[], $7::bigint[]) as c(id, cas, duplicates, state, reason, "
                "detail, deadline_at) where t.id = c.id and t.cas = c.cas ",
                8),
        true);
}

/* What the api writes meanwhile stays: another repository, a removal. */
bool write_update_services(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 10);
    for (const struct service *row = world->first_service; row; row = row->next) {
        if (row->mark != ROW_CHANGED) {
            continue;
        }
        ec_columns_id(&cols, row->id);
        ec_columns_int(&cols, row->releases_before);
        ec_columns_int(&cols, row->builds_before);
        ec_columns_int(&cols, row->releases);
        ec_columns_int(&cols, row->builds);
        ec_columns_flag(&cols, row->removed);
        ec_columns_text(&cols, row->repo_key);
        ec_columns_text(&cols, row->repo_url);
        ec_columns_text(&cols, row->respec ? row->branch : "");
        ec_columns_bytes(&cols, row->respec ? row->spec : EC_SPAN(""));
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED(
            "update enclii.service t set releases = c.releases, builds = c.builds, "
            "repo_key = case when c.branch = '' then t.repo_key else c.repo_key end, "
            "repo_url = case when c.branch = '' then t.repo_url else c.repo_url end, "
            "branch = case when c.branch = '' then t.branch else c.branch end, "
            "spec = case when c.branch = '' then t.spec else c.spec end, "
            "removed_at = case when c.removed then coalesce(t.removed_at, now()) "
            "else t.removed_at end "
            "from unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[], "
            "$6::boolean[], $7::text[], $8::text[], $9::text[], $10::bytea[]) as c(id, "
            "releases_before, builds_before, "
            "releases, builds, removed, repo_key, repo_url, branch, spec) where t.id = c.id and "
            "t.releases = c.releases_before and t.builds = c.builds_before ",
            11),
        true);
}

bool write_add_builds(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 24);
    for (const struct build *row = world->first_build; row; row = row->next) {
        if (row->mark != ROW_NEW) {
            continue;
        }
        ec_columns_id(&cols, row->id);
        ec_columns_id(&cols, row->service->id);
        ec_columns_int(&cols, row->number);
        ec_columns_text(&cols, row->delivery_id);
        ec_columns_bytes(&cols, row->spec);
        ec_columns_bytes(&cols, row->commit);
        ec_columns_text(&cols, row->commit_sha);
        ec_columns_text(&cols, row->ref);
        ec_columns_bytes(&cols, row->actor);
        ec_columns_text(&cols, machine_text(&row->cell));
        ec_columns_int(&cols, row->priority);
        ec_columns_text(&cols, row->reason);
        ec_columns_text(&cols, row->detail);
        ec_columns_text(&cols, row->image_repo);
        ec_columns_text(&cols, row->trace);
        ec_columns_int(&cols, row->push_received_ms);
        ec_columns_int(&cols, row->queued_ms);
        ec_columns_int(&cols, row->finished_ms);
        ec_columns_int(&cols, row->cell.deadline_unix_ms);
        ec_columns_int(&cols, row->pull_request);
        ec_columns_flag(&cols, row->trusted);
        ec_columns_text(&cols, row->author);
        ec_columns_text(&cols, row->author_association);
        ec_columns_text(&cols, row->approved_by);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("insert into enclii.build (id, service_id, number, delivery_id, spec, "
                "commit, commit_sha, ref, actor, state, priority, reason, detail, "
                "image_repo, trace, push_received_at, queued_at, finished_at, "
                "deadline_at, pull_request, trusted, author, author_association, approved_by) "
                "select id, service_id, number, delivery_id, spec, commit, "
                "commit_sha, ref, actor, state, priority, reason, detail, image_repo, "
                "trace, enclii.at(push_received_at), enclii.at(queued_at), "
                "enclii.at(finished_at), enclii.at(deadline_at), pull_request, trusted, author, "
                "author_association, approved_by from unnest($1::uuid[], "
                "$2::uuid[], $3::int[], $4::text[], $5::bytea[], $6::bytea[], $7::text[], "
                "$8::text[], $9::bytea[], $10::text[], $11::int[], $12::text[], "
                "$13::text[], $14::text[], $15::text[], $16::bigint[], $17::bigint[], "
                "$18::bigint[], $19::bigint[], $20::int[], $21::boolean[], $22::text[], "
                "$23::text[], $24::text[]) as c(id, service_id, number, delivery_id, "
                "spec, commit, commit_sha, ref, actor, state, priority, reason, detail, "
                "image_repo, trace, push_received_at, queued_at, finished_at, "
                "deadline_at, pull_request, trusted, author, author_association, approved_by) on "
                "conflict do nothing ",
                25),
        true);
}

bool write_update_builds(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 19);
    for (const struct build *row = world->first_build; row; row = row->next) {
        if (row->mark != ROW_CHANGED) {
            continue;
        }
        ec_columns_id(&cols, row->id);
        ec_columns_int(&cols, row->cas);
        ec_columns_text(&cols, machine_text(&row->cell));
        ec_columns_int(&cols, row->attempt);
        ec_columns_text(&cols, row->builder_id);
        ec_columns_int(&cols, row->priority);
        ec_columns_text(&cols, row->reason);
        ec_columns_text(&cols, row->detail);
        ec_columns_text(&cols, row->digest);
        ec_columns_text(&cols, row->steps);
        ec_columns_flag(&cols, row->steps_replace);
        ec_columns_int(&cols, row->leased_ms);
        ec_columns_int(&cols, row->started_ms);
        ec_columns_int(&cols, row->finished_ms);
        ec_columns_int(&cols, row->heard_ms);
        ec_columns_int(&cols, row->cell.deadline_unix_ms);
        ec_columns_int(&cols, row->queued_ms);
        ec_columns_text(&cols, row->approved_by);
        ec_columns_int(&cols, row->losses);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED(
            "update enclii.build t set state = c.state, attempt = c.attempt, "
            "builder_id = c.builder_id, priority = c.priority, reason = c.reason, "
            "detail = c.detail, digest = c.digest, steps = case when c.replace then "
            "c.steps::jsonb else t.steps || c.steps::jsonb end, leased_at = "
            "enclii.at(c.leased_at), started_at = enclii.at(c.started_at), "
            "finished_at = enclii.at(c.finished_at), heard_at = "
            "enclii.at(c.heard_at), deadline_at = enclii.at(c.deadline_at), queued_at = "
            "enclii.at(c.queued_at), approved_by = c.approved_by, "
            "losses = c.losses, cas = "
            "t.cas + 1 from unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], "
            "$5::text[], $6::int[], $7::text[], $8::text[], $9::text[], $10::text[], "
            "$11::boolean[], $12::bigint[], $13::bigint[], $14::bigint[], "
            "$15::bigint[], $16::bigint[], $17::bigint[], $18::text[], $19::int[]) as c(id, cas, "
            "state, "
            "attempt, builder_id, "
            "priority, reason, detail, digest, steps, replace, leased_at, started_at, "
            "finished_at, heard_at, deadline_at, queued_at, approved_by, losses) where t.id = c.id "
            "and t.cas = c.cas ",
            20),
        true);
}

bool write_add_releases(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 22);
    for (const struct release *row = world->first_release; row; row = row->next) {
        if (row->mark != ROW_NEW) {
            continue;
        }
        ec_columns_id(&cols, row->id);
        ec_columns_id(&cols, row->service->id);
        ec_columns_id(&cols, row->build_id);
        ec_columns_int(&cols, row->build_number);
        ec_columns_int(&cols, row->push_received_ms);
        ec_columns_int(&cols, row->number);
        ec_columns_text(&cols, row->version);
        ec_columns_text(&cols, machine_text(&row->cell));
        ec_columns_text(&cols, row->reason);
        ec_columns_text(&cols, row->detail);
        ec_columns_bytes(&cols, row->commit);
        ec_columns_text(&cols, row->commit_sha);
        ec_columns_text(&cols, row->image_repo);
        ec_columns_text(&cols, row->digest);
        ec_columns_bytes(&cols, row->spec);
        ec_columns_text(&cols, row->steps);
        ec_columns_text(&cols, row->trace);
        ec_columns_int(&cols, row->created_ms);
        ec_columns_int(&cols, row->cell.deadline_unix_ms);
        ec_columns_int(&cols, row->pull_request);
        ec_columns_flag(&cols, row->trusted);
        ec_columns_text(&cols, row->approved_by);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("insert into enclii.release (id, service_id, build_id, build_number, "
                "push_received_at, number, version, state, reason, detail, commit, "
                "commit_sha, image_repo, digest, spec, steps, trace, created_at, "
                "deadline_at, pull_request, trusted, approved_by) select id, service_id, build_id, "
                "build_number, enclii.at(push_received_at), number, version, state, reason, "
                "detail, commit, commit_sha, image_repo, digest, spec, steps::jsonb, trace, "
                "enclii.at(created_at), enclii.at(deadline_at), pull_request, trusted, approved_by "
                "from unnest($1::uuid[], "
                "$2::uuid[], $3::uuid[], $4::int[], $5::bigint[], $6::int[], $7::text[], "
                "$8::text[], $9::text[], $10::text[], $11::bytea[], $12::text[], "
                "$13::text[], $14::text[], $15::bytea[], $16::text[], $17::text[], "
                "$18::bigint[], $19::bigint[], $20::int[], $21::boolean[], $22::text[]) as c(id, "
                "service_id, build_id, "
                "build_number, push_received_at, number, version, state, reason, detail, "
                "commit, commit_sha, image_repo, digest, spec, steps, trace, created_at, "
                "deadline_at, pull_request, trusted, approved_by) on conflict do nothing ",
                23),
        true);
}

bool write_update_releases(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 18);
    for (const struct release *row = world->first_release; row; row = row->next) {
        if (row->mark != ROW_CHANGED) {
            continue;
        }
        ec_columns_id(&cols, row->id);
        ec_columns_int(&cols, row->cas);
        ec_columns_text(&cols, machine_text(&row->cell));
        ec_columns_text(&cols, row->reason);
        ec_columns_text(&cols, row->detail);
        ec_columns_text(&cols, row->sbom_digest);
        ec_columns_text(&cols, row->provenance_digest);
        ec_columns_text(&cols, row->signature_digest);
        ec_columns_text(&cols, row->sbom_object);
        ec_columns_text(&cols, row->provenance_object);
        ec_columns_text(&cols, row->sbom_format);
        ec_columns_int(&cols, row->sbom_components);
        ec_columns_text(&cols, row->key_id);
        ec_columns_text(&cols, row->steps);
        ec_columns_flag(&cols, row->steps_replace);
        ec_columns_int(&cols, row->ready_ms);
        ec_columns_int(&cols, row->cell.deadline_unix_ms);
        ec_columns_text(&cols, row->approved_by);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("update enclii.release t set state = c.state, reason = c.reason, detail = "
                "c.detail, sbom_digest = c.sbom_digest, provenance_digest = "
                "c.provenance_digest, signature_digest = c.signature_digest, sbom_object "
                "= c.sbom_object, provenance_object = c.provenance_object, sbom_format = "
                "c.sbom_format, sbom_components = c.sbom_components, key_id = c.key_id, "
                "steps = case when c.replace then c.steps::jsonb else t.steps || "
                "c.steps::jsonb end, ready_at = enclii.at(c.ready_at), deadline_at = "
                "enclii.at(c.deadline_at), approved_by = c.approved_by, cas = t.cas + 1 from "
                "unnest($1::uuid[], "
                "$2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], "
                "$7::text[], $8::text[], $9::text[], $10::text[], $11::text[], "
                "$12::int[], $13::text[], $14::text[], $15::boolean[], $16::bigint[], "
                "$17::bigint[], $18::text[]) as c(id, cas, state, reason, detail, sbom_digest, "
                "provenance_digest, signature_digest, sbom_object, provenance_object, "
                "sbom_format, sbom_components, key_id, steps, replace, ready_at, "
                "deadline_at, approved_by) where t.id = c.id and t.cas = c.cas ",
                19),
        true);
}

bool write_put_builders(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 7);
    for (const struct builder *row = world->first_builder; row; row = row->next) {
        if (!(row->mark != ROW_CLEAN)) {
            continue;
        }
        ec_columns_text(&cols, row->id);
        ec_columns_int(&cols, row->slots);
        ec_columns_flag(&cols, row->draining);
        ec_columns_text(&cols, row->cached_repos);
        ec_columns_text(&cols, row->version);
        ec_columns_int(&cols, row->heard_ms);
        ec_columns_flag(&cols, row->trusted_only);
    }
    return ec_columns_flush(
        &cols, batch,
        "insert into enclii.builder (id, slots, draining, cached_repos, version, "
        "heard_at, trusted_only) select id, slots, draining, cached_repos::jsonb, version, "
        "enclii.at(heard_at), trusted_only from unnest($1::text[], $2::int[], $3::boolean[], "
        "$4::text[], $5::text[], $6::bigint[], $7::boolean[]) as c(id, slots, draining, "
        "cached_repos, version, heard_at, trusted_only) order by id on conflict (id) do update "
        "set slots = excluded.slots, draining = excluded.draining, cached_repos = "
        "excluded.cached_repos, version = excluded.version, heard_at = "
        "excluded.heard_at, trusted_only = excluded.trusted_only ",
        false);
}
