/* Services and what belongs to them. */
#include "load_rows.h"

/* The services in question: named by id ($1), bound to a pushed repository ($2), or of a build
 * ($3). */
#define SCOPE                                                                                      \
    "with scope as materialized (select id from enclii.service where id = any($1::uuid[]) union "  \
    "select id from enclii.service where repo_key = any($2::text[]) and removed_at is null union " \
    "select service_id from enclii.build where id = any($3::uuid[])) "

const char services_sql[] =
    SCOPE "select s.id, s.project_id, p.slug, s.name, s.repo_key, s.repo_url, s.branch, "
          "s.environment, s.auto_deploy, s.removed_at is not null as removed, s.spec, s.releases, "
          "s.builds "
          "from enclii.service s join enclii.project p on p.id = s.project_id "
          "where s.id in (select id from scope) order by s.created_at, s.id";
const char environments_sql[] = SCOPE
    "select e.id, e.project_id, e.name, e.target from enclii.environment e where e.project_id "
    "in (select project_id from enclii.service where id in (select id from scope))";
/* Of one commit, ended builds that say whether another one is needed. */
#define ENDED_BUILDS_MAX "1000"
#define PULL_COLUMNS "b.pull_request, b.trusted, b.author, b.author_association, b.approved_by"
const char builds_sql[] = SCOPE
    "select b.id, b.service_id, b.number, b.delivery_id, b.spec, b.commit, b.actor, "
    "b.commit_sha, b.ref, b.state, b.attempt, b.losses, b.builder_id, b.priority, b.reason, "
    "b.detail, "
    "b.digest, b.image_repo, b.trace, enclii.ms(b.push_received_at) as push_received, "
    "enclii.ms(b.queued_at) as queued, enclii.ms(b.leased_at) as leased, "
    "enclii.ms(b.started_at) as started, enclii.ms(b.finished_at) as finished, "
    "enclii.ms(b.heard_at) as heard, enclii.ms(b.deadline_at) as deadline, " PULL_COLUMNS ", b.cas "
    "from enclii.build b where b.service_id in (select id from scope) and b.deadline_at is "
    "not null union all "
    "select b.id, b.service_id, b.number, b.delivery_id, b.spec, b.commit, b.actor, "
    "b.commit_sha, b.ref, b.state, b.attempt, b.losses, b.builder_id, b.priority, b.reason, "
    "b.detail, "
    "b.digest, b.image_repo, b.trace, enclii.ms(b.push_received_at), enclii.ms(b.queued_at), "
    "enclii.ms(b.leased_at), enclii.ms(b.started_at), enclii.ms(b.finished_at), "
    "enclii.ms(b.heard_at), 0, " PULL_COLUMNS ", b.cas "
    "from enclii.build b where b.deadline_at is null and b.id in (select unnest($3::uuid[]) "
    "union select o.id from (select unnest($4::text[]) as sha) w cross join lateral (select i.id "
    "from (select id, service_id, number from enclii.build where commit_sha = w.sha offset 0) i "
    "where i.service_id in (select id from scope) order by i.number desc limit " ENDED_BUILDS_MAX
    ") o) order by number";
/* $4 releases named, $5 deployments named, $6 whether somebody goes back, $7 commits approved. */
const char releases_sql[] = SCOPE
    ", ids as (select id from enclii.release where service_id in (select id from scope) and "
    "deadline_at is not null union select unnest($4::uuid[]) union "
    "select o.id from (select id, service_id from enclii.release where commit_sha = "
    "any($7::text[]) offset 0) o where o.service_id in (select id from scope) union "
    "select unnest(array[d.release_id, d.good_release_id]) from enclii.desired d where "
    "d.service_id in (select id from scope) union "
    "select d.release_id from enclii.deployment d where d.id = any($5::uuid[]) union "
    "select d.release_id from enclii.deployment d where d.service_id in (select id from scope) "
    "and d.deadline_at is not null union "
    "select r.id from enclii.release r join enclii.desired d on d.service_id = r.service_id "
    "where $6::boolean and r.service_id in (select id from scope) and r.state = 'READY' and "
    "exists (select 1 from enclii.deployment x where x.release_id = r.id and "
    "x.state = 'HEALTHY')) "
    "select r.id, r.service_id, r.build_id, r.build_number, r.number, r.version, r.state, "
    "r.reason, r.detail, r.commit, r.spec, r.commit_sha, r.image_repo, r.digest, "
    "r.sbom_digest, r.provenance_digest, r.signature_digest, r.sbom_object, "
    "r.provenance_object, r.sbom_format, r.key_id, r.sbom_components, r.trace, "
    "r.pull_request, r.trusted, r.approved_by, enclii.ms(r.push_received_at) as push_received, "
    "enclii.ms(r.created_at) as created, "
    "enclii.ms(r.ready_at) as ready, enclii.ms(r.deadline_at) as deadline, r.cas "
    "from enclii.release r where r.id in (select id from ids) order by r.number";
const char deployments_sql[] =
    SCOPE ", ids as (select id from enclii.deployment where service_id in (select id from scope) "
          "and deadline_at is not null union select unnest($4::uuid[])) "
          "select d.id, d.service_id, d.environment_id, d.release_id, d.previous_release_id, "
          "d.state, d.weight, d.reason, d.detail, d.actor, d.rollback, d.urls, d.trace, "
          "d.replicas_ready, enclii.ms(d.push_received_at) as push_received, "
          "enclii.ms(d.created_at) as created, enclii.ms(d.finished_at) as finished, "
          "enclii.ms(d.deadline_at) as deadline, d.cas "
          "from enclii.deployment d where d.id in (select id from ids) order by d.created_at";
const char desired_sql[] =
    SCOPE "select d.service_id, d.environment_id, d.revision, d.deployment_id, d.release_id, "
          "d.good_release_id, d.good_deployment_id, d.newest_build, "
          "case when $4::boolean then (select r.id from enclii.release r where "
          "r.service_id = d.service_id and r.number < (select number from enclii.release where "
          "id = d.release_id) and r.state = 'READY' and exists (select 1 from enclii.deployment x "
          "where x.release_id = r.id and x.environment_id = d.environment_id and "
          "x.state = 'HEALTHY') order by r.number desc limit 1) end as before "
          "from enclii.desired d where d.service_id in (select id from scope)";
/* A row found both ways is taken once (world_add_domain). */
const char domains_sql[] =
    SCOPE "select hostname, service_id, environment_id, tls, state, issuer, fingerprint, reason, "
          "detail, enclii.ms(not_after) as not_after, enclii.ms(next_try_at) as next_try, "
          "enclii.ms(deadline_at) as deadline, cas from enclii.domain "
          "where service_id in (select id from scope) union all "
          "select hostname, service_id, environment_id, tls, state, issuer, fingerprint, reason, "
          "detail, enclii.ms(not_after), enclii.ms(next_try_at), enclii.ms(deadline_at), cas "
          "from enclii.domain where hostname = any($4::text[])";

const char *row_text(const struct row *row, const char *column)
{
    return ec_arena_strdup(row->world->arena, ec_rows_text(row->rows, row->at, column));
}

int64_t row_number(const struct row *row, const char *column)
{
    return ec_rows_int(row->rows, row->at, column);
}

bool row_flag(const struct row *row, const char *column)
{
    return ec_rows_bool(row->rows, row->at, column);
}

struct ec_span row_bytes(const struct row *row, const char *column)
{
    return ec_rows_bytes(row->rows, row->at, column, row->world->arena);
}

static struct service *row_owner(const struct row *row)
{
    return world_service(row->world, ec_rows_text(row->rows, row->at, "service_id"));
}

static bool row_cell(const struct row *row, enum machine_kind kind, struct machine_cell *ret_cell)
{
    return machine_load(ret_cell, kind, ec_rows_text(row->rows, row->at, "state"),
                        row_number(row, "deadline"));
}

void take_service(const struct row *row)
{
    int32_t releases = (int32_t)row_number(row, "releases");
    int32_t builds = (int32_t)row_number(row, "builds");
    world_add_service(row->world, &(struct service){
                                      .id = row_text(row, "id"),
                                      .project_id = row_text(row, "project_id"),
                                      .project_slug = row_text(row, "slug"),
                                      .name = row_text(row, "name"),
                                      .repo_key = row_text(row, "repo_key"),
                                      .repo_url = row_text(row, "repo_url"),
                                      .branch = row_text(row, "branch"),
                                      .environment = row_text(row, "environment"),
                                      .auto_deploy = row_flag(row, "auto_deploy"),
                                      .removed = row_flag(row, "removed"),
                                      .spec = row_bytes(row, "spec"),
                                      .releases = releases,
                                      .builds = builds,
                                      .releases_before = releases,
                                      .builds_before = builds,
                                  });
}

void take_environment(const struct row *row)
{
    world_add_environment(row->world, &(struct environment){
                                          .id = row_text(row, "id"),
                                          .project_id = row_text(row, "project_id"),
                                          .name = row_text(row, "name"),
                                          .target = row_text(row, "target"),
                                      });
}

void take_build(const struct row *row)
{
    struct build build = {
        .id = row_text(row, "id"),
        .service = row_owner(row),
        .number = (int32_t)row_number(row, "number"),
        .delivery_id = row_text(row, "delivery_id"),
        .spec = row_bytes(row, "spec"),
        .commit = row_bytes(row, "commit"),
        .actor = row_bytes(row, "actor"),
        .commit_sha = row_text(row, "commit_sha"),
        .ref = row_text(row, "ref"),
        .attempt = (int32_t)row_number(row, "attempt"),
        .losses = (int32_t)row_number(row, "losses"),
        .builder_id = row_text(row, "builder_id"),
        .priority = (int32_t)row_number(row, "priority"),
        .reason = row_text(row, "reason"),
        .detail = row_text(row, "detail"),
        .digest = row_text(row, "digest"),
        .image_repo = row_text(row, "image_repo"),
        .trace = row_text(row, "trace"),
        .steps = "[]",
        .push_received_ms = row_number(row, "push_received"),
        .queued_ms = row_number(row, "queued"),
        .leased_ms = row_number(row, "leased"),
        .started_ms = row_number(row, "started"),
        .finished_ms = row_number(row, "finished"),
        .heard_ms = row_number(row, "heard"),
        .pull_request = (int32_t)row_number(row, "pull_request"),
        .trusted = row_flag(row, "trusted"),
        .author = row_text(row, "author"),
        .author_association = row_text(row, "author_association"),
        .approved_by = row_text(row, "approved_by"),
        .cas = row_number(row, "cas"),
    };
    if (build.service && row_cell(row, MACHINE_BUILD, &build.cell)) {
        world_add_build(row->world, &build);
    }
}

void take_release(const struct row *row)
{
    struct release release = {
        .id = row_text(row, "id"),
        .service = row_owner(row),
        .build_id = row_text(row, "build_id"),
        .build_number = (int32_t)row_number(row, "build_number"),
        .number = (int32_t)row_number(row, "number"),
        .version = row_text(row, "version"),
        .reason = row_text(row, "reason"),
        .detail = row_text(row, "detail"),
        .commit = row_bytes(row, "commit"),
        .spec = row_bytes(row, "spec"),
        .commit_sha = row_text(row, "commit_sha"),
        .image_repo = row_text(row, "image_repo"),
        .digest = row_text(row, "digest"),
        .sbom_digest = row_text(row, "sbom_digest"),
        .provenance_digest = row_text(row, "provenance_digest"),
        .signature_digest = row_text(row, "signature_digest"),
        .sbom_object = row_text(row, "sbom_object"),
        .provenance_object = row_text(row, "provenance_object"),
        .sbom_format = row_text(row, "sbom_format"),
        .key_id = row_text(row, "key_id"),
        .sbom_components = (int32_t)row_number(row, "sbom_components"),
        .steps = "[]",
        .trace = row_text(row, "trace"),
        .push_received_ms = row_number(row, "push_received"),
        .created_ms = row_number(row, "created"),
        .ready_ms = row_number(row, "ready"),
        .pull_request = (int32_t)row_number(row, "pull_request"),
        .trusted = row_flag(row, "trusted"),
        .approved_by = row_text(row, "approved_by"),
        .cas = row_number(row, "cas"),
    };
    if (release.service && row_cell(row, MACHINE_RELEASE, &release.cell)) {
        world_add_release(row->world, &release);
    }
}

void take_deployment(const struct row *row)
{
    struct deployment dep = {
        .id = row_text(row, "id"),
        .service = row_owner(row),
        .environment_id = row_text(row, "environment_id"),
        .release_id = row_text(row, "release_id"),
        .previous_release_id = row_text(row, "previous_release_id"),
        .weight = (int32_t)row_number(row, "weight"),
        .reason = row_text(row, "reason"),
        .detail = row_text(row, "detail"),
        .actor = row_bytes(row, "actor"),
        .rollback = row_flag(row, "rollback"),
        .steps = "[]",
        .urls = row_text(row, "urls"),
        .trace = row_text(row, "trace"),
        .push_received_ms = row_number(row, "push_received"),
        .created_ms = row_number(row, "created"),
        .finished_ms = row_number(row, "finished"),
        .replicas_ready = (int32_t)row_number(row, "replicas_ready"),
        .cas = row_number(row, "cas"),
    };
    if (dep.service && row_cell(row, MACHINE_DEPLOYMENT, &dep.cell)) {
        world_add_deployment(row->world, &dep);
    }
}

void take_desired(const struct row *row)
{
    int64_t revision = row_number(row, "revision");
    world_add_desired(row->world, &(struct desired){
                                      .service = row_owner(row),
                                      .environment_id = row_text(row, "environment_id"),
                                      .revision = revision,
                                      .revision_before = revision,
                                      .deployment_id = row_text(row, "deployment_id"),
                                      .release_id = row_text(row, "release_id"),
                                      .good_release_id = row_text(row, "good_release_id"),
                                      .good_deployment_id = row_text(row, "good_deployment_id"),
                                      .before_release_id = row_text(row, "before"),
                                      .newest_build = (int32_t)row_number(row, "newest_build"),
                                  });
}

void take_domain(const struct row *row)
{
    struct domain domain = {
        .hostname = row_text(row, "hostname"),
        .service = row_owner(row),
        .service_id = row_text(row, "service_id"),
        .environment_id = row_text(row, "environment_id"),
        .stored = true,
        .tls = row_flag(row, "tls"),
        .issuer = row_text(row, "issuer"),
        .fingerprint = row_text(row, "fingerprint"),
        .reason = row_text(row, "reason"),
        .detail = row_text(row, "detail"),
        .not_after_ms = row_number(row, "not_after"),
        .next_try_ms = row_number(row, "next_try"),
        .cas = row_number(row, "cas"),
    };
    if (row_cell(row, MACHINE_DOMAIN, &domain.cell)) {
        world_add_domain(row->world, &domain);
    }
}
