/* SQL of the write side, second half: deployments, desired state, domains, decisions, outbox. */
#include "base/mem.h"
#include "write.h"

bool write_add_deployments(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 16);
    for (const struct deployment *row = world->first_deployment; row; row = row->next) {
        if (row->mark != ROW_NEW) {
            continue;
        }
        ec_columns_id(&cols, row->id);
        ec_columns_id(&cols, row->service->id);
        ec_columns_id(&cols, row->environment_id);
        ec_columns_id(&cols, row->release_id);
        ec_columns_id(&cols, row->previous_release_id);
        ec_columns_text(&cols, machine_text(&row->cell));
        ec_columns_int(&cols, row->weight);
        ec_columns_text(&cols, row->reason);
        ec_columns_text(&cols, row->detail);
        ec_columns_bytes(&cols, row->actor);
        ec_columns_flag(&cols, row->rollback);
        ec_columns_text(&cols, row->trace);
        ec_columns_int(&cols, row->push_received_ms);
        ec_columns_int(&cols, row->created_ms);
        ec_columns_int(&cols, row->finished_ms);
        ec_columns_int(&cols, row->cell.deadline_unix_ms);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("insert into enclii.deployment (id, service_id, environment_id, "
                "release_id, previous_release_id, state, weight, reason, detail, actor, "
                "rollback, trace, push_received_at, created_at, finished_at, deadline_at) "
                "select id, service_id, environment_id, release_id, previous_release_id, "
                "state, weight, reason, detail, actor, rollback, trace, "
                "enclii.at(push_received_at), enclii.at(created_at), "
                "enclii.at(finished_at), enclii.at(deadline_at) from unnest($1::uuid[], "
                "$2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::int[], "
                "$8::text[], $9::text[], $10::bytea[], $11::boolean[], $12::text[], "
                "$13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[]) as c(id, "
                "service_id, environment_id, release_id, previous_release_id, state, "
                "weight, reason, detail, actor, rollback, trace, push_received_at, "
                "created_at, finished_at, deadline_at) on conflict do nothing ",
                17),
        true);
}

bool write_update_deployments(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 12);
    for (const struct deployment *row = world->first_deployment; row; row = row->next) {
        if (row->mark != ROW_CHANGED) {
            continue;
        }
        ec_columns_id(&cols, row->id);
        ec_columns_int(&cols, row->cas);
        ec_columns_text(&cols, machine_text(&row->cell));
        ec_columns_int(&cols, row->weight);
        ec_columns_text(&cols, row->reason);
        ec_columns_text(&cols, row->detail);
        ec_columns_text(&cols, row->steps);
        ec_columns_flag(&cols, row->steps_replace);
        ec_columns_text(&cols, row->urls);
        ec_columns_int(&cols, row->replicas_ready);
        ec_columns_int(&cols, row->finished_ms);
        ec_columns_int(&cols, row->cell.deadline_unix_ms);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("update enclii.deployment t set state = c.state, weight = c.weight, "
                "reason = c.reason, detail = c.detail, steps = case when c.replace then "
                "c.steps::jsonb else t.steps || c.steps::jsonb end, urls = c.urls::jsonb, "
                "replicas_ready = c.replicas_ready, finished_at = "
                "enclii.at(c.finished_at), deadline_at = enclii.at(c.deadline_at), cas = "
                "t.cas + 1 from unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], "
                "$5::text[], $6::text[], $7::text[], $8::boolean[], $9::text[], "
                "$10::int[], $11::bigint[], $12::bigint[]) as c(id, cas, state, weight, "
                "reason, detail, steps, replace, urls, replicas_ready, finished_at, "
                "deadline_at) where t.id = c.id and t.cas = c.cas ",
                13),
        true);
}

/* Columns 1 to 8 of both statements. */
static void add_desired_row(struct ec_columns *cols, const struct desired *row)
{
    ec_columns_id(cols, row->service->id);
    ec_columns_id(cols, row->environment_id);
    ec_columns_int(cols, row->revision);
    ec_columns_id(cols, row->deployment_id);
    ec_columns_id(cols, row->release_id);
    ec_columns_id(cols, row->good_release_id);
    ec_columns_id(cols, row->good_deployment_id);
    ec_columns_int(cols, row->newest_build);
}

bool write_add_desired(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 8);
    for (const struct desired *row = world->first_desired; row; row = row->next) {
        if (row->mark != ROW_NEW) {
            continue;
        }
        add_desired_row(&cols, row);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("insert into enclii.desired (service_id, environment_id, revision, "
                "deployment_id, release_id, good_release_id, good_deployment_id, "
                "newest_build) select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], "
                "$4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::int[]) on conflict "
                "do nothing ",
                9),
        true);
}

bool write_update_desired(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 9);
    for (const struct desired *row = world->first_desired; row; row = row->next) {
        if (row->mark != ROW_CHANGED) {
            continue;
        }
        add_desired_row(&cols, row);
        ec_columns_int(&cols, row->revision_before);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("update enclii.desired t set revision = c.revision, deployment_id = "
                "c.deployment_id, release_id = c.release_id, good_release_id = "
                "c.good_release_id, good_deployment_id = c.good_deployment_id, "
                "newest_build = c.newest_build from unnest($1::uuid[], $2::uuid[], "
                "$3::bigint[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::int[], "
                "$9::bigint[]) as c(service_id, environment_id, revision, deployment_id, "
                "release_id, good_release_id, good_deployment_id, newest_build, "
                "revision_before) where t.service_id = c.service_id and t.environment_id "
                "= c.environment_id and t.revision = c.revision_before ",
                10),
        true);
}

/* Columns 1 to 12 of both statements. */
static void add_domain_row(struct ec_columns *cols, const struct domain *row)
{
    ec_columns_text(cols, row->hostname);
    ec_columns_id(cols, row->service_id);
    ec_columns_id(cols, row->environment_id);
    ec_columns_flag(cols, row->tls);
    ec_columns_text(cols, machine_text(&row->cell));
    ec_columns_text(cols, row->issuer);
    ec_columns_text(cols, row->fingerprint);
    ec_columns_int(cols, row->not_after_ms);
    ec_columns_text(cols, row->reason);
    ec_columns_text(cols, row->detail);
    ec_columns_int(cols, row->next_try_ms);
    ec_columns_int(cols, row->cell.deadline_unix_ms);
}

bool write_add_domains(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 12);
    for (const struct domain *row = world->first_domain; row; row = row->next) {
        if (!(!row->stored && row->mark != ROW_REMOVED)) {
            continue;
        }
        add_domain_row(&cols, row);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("insert into enclii.domain (hostname, service_id, environment_id, tls, "
                "state, issuer, fingerprint, not_after, reason, detail, next_try_at, "
                "deadline_at) select hostname, service_id, environment_id, tls, state, "
                "issuer, fingerprint, enclii.at(not_after), reason, detail, "
                "enclii.at(next_try_at), enclii.at(deadline_at) from unnest($1::text[], "
                "$2::uuid[], $3::uuid[], $4::boolean[], $5::text[], $6::text[], "
                "$7::text[], $8::bigint[], $9::text[], $10::text[], $11::bigint[], "
                "$12::bigint[]) as c(hostname, service_id, environment_id, tls, state, "
                "issuer, fingerprint, not_after, reason, detail, next_try_at, "
                "deadline_at) on conflict do nothing ",
                13),
        true);
}

bool write_update_domains(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 13);
    for (const struct domain *row = world->first_domain; row; row = row->next) {
        if (!(row->stored && (row->mark == ROW_CHANGED || row->mark == ROW_NEW))) {
            continue;
        }
        add_domain_row(&cols, row);
        ec_columns_int(&cols, row->cas);
    }
    return ec_columns_flush(
        &cols, batch,
        COUNTED("update enclii.domain t set service_id = c.service_id, environment_id = "
                "c.environment_id, tls = c.tls, state = c.state, issuer = c.issuer, "
                "fingerprint = c.fingerprint, not_after = enclii.at(c.not_after), reason "
                "= c.reason, detail = c.detail, next_try_at = enclii.at(c.next_try_at), "
                "deadline_at = enclii.at(c.deadline_at), updated_at = now(), cas = t.cas "
                "+ 1 from unnest($1::text[], $2::uuid[], $3::uuid[], $4::boolean[], "
                "$5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[], "
                "$10::text[], $11::bigint[], $12::bigint[], $13::bigint[]) as c(hostname, "
                "service_id, environment_id, tls, state, issuer, fingerprint, not_after, "
                "reason, detail, next_try_at, deadline_at, cas) where t.hostname = "
                "c.hostname and t.cas = c.cas ",
                14),
        true);
}

bool write_remove_domains(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 1);
    for (const struct domain *row = world->first_domain; row; row = row->next) {
        if (!(row->stored && row->mark == ROW_REMOVED)) {
            continue;
        }
        ec_columns_text(&cols, row->hostname);
    }
    return ec_columns_flush(&cols, batch,
                            "delete from enclii.domain t using unnest($1::text[]) as c(hostname) "
                            "where t.hostname = c.hostname ",
                            false);
}

bool write_add_decisions(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 6);
    for (const struct decision *row = world->first_decision; row; row = row->next) {
        ec_columns_id(&cols, row->service_id);
        ec_columns_text(&cols, row->subject_kind);
        ec_columns_text(&cols, row->subject_id);
        ec_columns_text(&cols, row->rule);
        ec_columns_text(&cols, row->outcome);
        ec_columns_text(&cols, row->detail);
    }
    return ec_columns_flush(
        &cols, batch,
        "insert into enclii.decision (service_id, subject_kind, subject_id, rule, "
        "outcome, detail) select c1, c2, c3, c4, c5, c6 from unnest($1::uuid[], "
        "$2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) with "
        "ordinality as c(c1, c2, c3, c4, c5, c6, n) order by n ",
        false);
}

bool write_add_facts(struct ec_batch *batch, const struct world *world)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 7);
    for (const struct fact *row = world->first_fact; row; row = row->next) {
        ec_columns_text(&cols, row->topic);
        ec_columns_text(&cols, row->key);
        ec_columns_text(&cols, row->type);
        ec_columns_text(&cols, row->subject);
        ec_columns_text(&cols, row->event_id);
        ec_columns_text(&cols, row->trace);
        if (row->tombstone) {
            ec_columns_null(&cols);
        } else {
            ec_columns_bytes(&cols, row->body);
        }
    }
    return ec_columns_flush(
        &cols, batch,
        "insert into enclii.outbox (topic, key, type, subject, event_id, trace, "
        "body) select c1, c2, c3, c4, c5, c6, c7 from unnest($1::text[], "
        "$2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[]) "
        "with ordinality as c(c1, c2, c3, c4, c5, c6, c7, n) order by n ",
        false);
}
