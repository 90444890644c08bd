/* SQL of the read side, and the way from a row of text to a struct. Only what can matter is read:
 * open rows of the services in question, and whatever the events name. */
#include "load.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "pulls.h"

/* The services in question: named by id ($1), bound to a pushed repository ($2), or of a build
 * ($3). */
#define SCOPE                                                                                      \
    "with scope as materialized (select id from enclii.service where id = any($1::uuid[]) union "  \
    "select id from enclii.service where repo_key = any($2::text[]) and removed_at is null union " \
    "select service_id from enclii.build where id = any($3::uuid[])) "

static const char services_sql[] =
    SCOPE "select s.id, s.project_id, p.slug, s.name, s.repo_key, s.repo_url, s.branch, "
          "s.environment, s.auto_deploy, s.removed_at is not null as removed, s.spec, s.releases, "
          "s.builds "
          "from enclii.service s join enclii.project p on p.id = s.project_id "
          "where s.id in (select id from scope) order by s.created_at, s.id";
static const char environments_sql[] = SCOPE
    "select e.id, e.project_id, e.name, e.target from enclii.environment e where e.project_id "
    "in (select project_id from enclii.service where id in (select id from scope))";
/* Of one commit, ended builds that say whether another one is needed. */
#define ENDED_BUILDS_MAX "1000"
#define PULL_COLUMNS "b.pull_request, b.trusted, b.author, b.author_association, b.approved_by"
static const char builds_sql[] = SCOPE
    "select b.id, b.service_id, b.number, b.delivery_id, b.spec, b.commit, b.actor, "
    "b.commit_sha, b.ref, b.state, b.attempt, b.builder_id, b.priority, b.reason, b.detail, "
    "b.digest, b.image_repo, b.trace, enclii.ms(b.push_received_at) as push_received, "
    "enclii.ms(b.queued_at) as queued, enclii.ms(b.leased_at) as leased, "
    "enclii.ms(b.started_at) as started, enclii.ms(b.finished_at) as finished, "
    "enclii.ms(b.heard_at) as heard, enclii.ms(b.deadline_at) as deadline, " PULL_COLUMNS ", b.cas "
    "from enclii.build b where b.service_id in (select id from scope) and b.deadline_at is "
    "not null union all "
    "select b.id, b.service_id, b.number, b.delivery_id, b.spec, b.commit, b.actor, "
    "b.commit_sha, b.ref, b.state, b.attempt, b.builder_id, b.priority, b.reason, b.detail, "
    "b.digest, b.image_repo, b.trace, enclii.ms(b.push_received_at), enclii.ms(b.queued_at), "
    "enclii.ms(b.leased_at), enclii.ms(b.started_at), enclii.ms(b.finished_at), "
    "enclii.ms(b.heard_at), 0, " PULL_COLUMNS ", b.cas "
    "from enclii.build b where b.deadline_at is null and b.id in (select unnest($3::uuid[]) "
    "union (select o.id from enclii.build o where o.commit_sha = any($4::text[]) and "
    "o.service_id in (select id from scope) order by o.number desc limit " ENDED_BUILDS_MAX
    ")) order by number";
/* $4 releases named, $5 deployments named, $6 whether somebody goes back, $7 commits approved. */
static const char releases_sql[] = SCOPE
    ", ids as (select id from enclii.release where service_id in (select id from scope) and "
    "deadline_at is not null union select unnest($4::uuid[]) union "
    "select id from enclii.release where commit_sha = any($7::text[]) and service_id in (select id "
    "from scope) union "
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
static const char deployments_sql[] =
    SCOPE ", ids as (select id from enclii.deployment where service_id in (select id from scope) "
          "and deadline_at is not null union select unnest($4::uuid[])) "
          "select d.id, d.service_id, d.environment_id, d.release_id, d.previous_release_id, "
          "d.state, d.weight, d.reason, d.detail, d.actor, d.rollback, d.urls, d.trace, "
          "d.replicas_ready, enclii.ms(d.push_received_at) as push_received, "
          "enclii.ms(d.created_at) as created, enclii.ms(d.finished_at) as finished, "
          "enclii.ms(d.deadline_at) as deadline, d.cas "
          "from enclii.deployment d where d.id in (select id from ids) order by d.created_at";
static const char desired_sql[] =
    SCOPE "select d.service_id, d.environment_id, d.revision, d.deployment_id, d.release_id, "
          "d.good_release_id, d.good_deployment_id, d.newest_build, "
          "case when $4::boolean then (select r.id from enclii.release r where "
          "r.service_id = d.service_id and r.number < (select number from enclii.release where "
          "id = d.release_id) and r.state = 'READY' and exists (select 1 from enclii.deployment x "
          "where x.release_id = r.id and x.environment_id = d.environment_id and "
          "x.state = 'HEALTHY') order by r.number desc limit 1) end as before "
          "from enclii.desired d where d.service_id in (select id from scope)";
/* A row found both ways is taken once (world_add_domain). */
static const char domains_sql[] =
    SCOPE "select hostname, service_id, environment_id, tls, state, issuer, fingerprint, reason, "
          "detail, enclii.ms(not_after) as not_after, enclii.ms(next_try_at) as next_try, "
          "enclii.ms(deadline_at) as deadline, cas from enclii.domain "
          "where service_id in (select id from scope) union all "
          "select hostname, service_id, environment_id, tls, state, issuer, fingerprint, reason, "
          "detail, enclii.ms(not_after), enclii.ms(next_try_at), enclii.ms(deadline_at), cas "
          "from enclii.domain where hostname = any($4::text[])";
static const char deliveries_sql[] =
    "select id, repo_key, ref, commit_sha, state, reason, detail, duplicates, trace, push, cas, "
    "enclii.ms(received_at) as received, enclii.ms(deadline_at) as deadline from enclii.delivery "
    "where id = any($1::text[]) union all select id, repo_key, ref, commit_sha, state, reason, "
    "detail, duplicates, trace, push, cas, enclii.ms(received_at), enclii.ms(deadline_at) from "
    "enclii.delivery where "
    "repo_key = any($2::text[]) and deadline_at is not null";
static const char repos_sql[] =
    "select repo_key, host_repo_id, clone_url, full_name, sealed_secret, sealed_previous_secret, "
    "sealed_for, hook_id from enclii.repo "
    "where repo_key = any($1::text[])";
static const char refs_sql[] =
    "select r.repo_key, r.ref, r.sha, r.gap_from, r.gap_to, enclii.ms(r.seen_at) as seen from "
    "unnest($1::text[]) as w(k) join enclii.ref r on r.repo_key = split_part(w.k, E'\\n', 1) and "
    "r.ref = split_part(w.k, E'\\n', 2)";
static const char inbox_sql[] =
    "select event_id from enclii.inbox where event_id = any($1::text[])";
static const char builders_sql[] =
    "select id, slots, draining, cached_repos, version, enclii.ms(heard_at) as heard "
    "from enclii.builder where id = any($1::text[]) or ($2::boolean and heard_at > now() - "
    "interval '1 minute') order by id";
static const char at_work_sql[] =
    "select s.project_id, b.builder_id, count(*) filter (where b.at_work) as count, "
    "enclii.ms(max(b.leased_at)) as leased from (select service_id, builder_id, leased_at, true as "
    "at_work from enclii.build where state in ('leased', 'running') union all (select service_id, "
    "builder_id, leased_at, false from enclii.build where leased_at is not null order by leased_at "
    "desc limit 500)) b join enclii.service s on s.id = b.service_id where $1::boolean group by 1, "
    "2";

/* Planned once, by index: each of these finds rows by key, and planning anew for each batch costs
 * more than it finds. */
static const char plan_sql[] = "select set_config('plan_cache_mode', 'force_generic_plan', true), "
                               "set_config('enable_seqscan', 'off', true)";

struct load {
    struct ec_store *store;
    const struct wanted *wanted;
    const struct rules *rules;
    struct world *world;
    struct queue_load *at_work;
    load_fn done;
    void *arg;
};

/* One row of an answer, with short readers. */
struct row {
    const struct ec_rows *rows;
    size_t at;
    struct world *world;
};

static const char *text(const struct row *row, const char *column)
{
    return ec_arena_strdup(row->world->arena, ec_rows_text(row->rows, row->at, column));
}

static int64_t number(const struct row *row, const char *column)
{
    return ec_rows_int(row->rows, row->at, column);
}

static bool flag(const struct row *row, const char *column)
{
    return ec_rows_bool(row->rows, row->at, column);
}

static struct ec_span bytes(const struct row *row, const char *column)
{
    return ec_rows_bytes(row->rows, row->at, column, row->world->arena);
}

static struct service *owner(const struct row *row)
{
    return world_service(row->world, ec_rows_text(row->rows, row->at, "service_id"));
}

static bool cell(const struct row *row, enum machine_kind kind, struct machine_cell *ret_cell)
{
    return machine_load(ret_cell, kind, ec_rows_text(row->rows, row->at, "state"),
                        number(row, "deadline"));
}

static void take_service(const struct row *row)
{
    int32_t releases = (int32_t)number(row, "releases");
    int32_t builds = (int32_t)number(row, "builds");
    world_add_service(row->world, &(struct service){
                                      .id = text(row, "id"),
                                      .project_id = text(row, "project_id"),
                                      .project_slug = text(row, "slug"),
                                      .name = text(row, "name"),
                                      .repo_key = text(row, "repo_key"),
                                      .repo_url = text(row, "repo_url"),
                                      .branch = text(row, "branch"),
                                      .environment = text(row, "environment"),
                                      .auto_deploy = flag(row, "auto_deploy"),
                                      .removed = flag(row, "removed"),
                                      .spec = bytes(row, "spec"),
                                      .releases = releases,
                                      .builds = builds,
                                      .releases_before = releases,
                                      .builds_before = builds,
                                  });
}

static void take_environment(const struct row *row)
{
    world_add_environment(row->world, &(struct environment){
                                          .id = text(row, "id"),
                                          .project_id = text(row, "project_id"),
                                          .name = text(row, "name"),
                                          .target = text(row, "target"),
                                      });
}

static void take_build(const struct row *row)
{
    struct build build = {
        .id = text(row, "id"),
        .service = owner(row),
        .number = (int32_t)number(row, "number"),
        .delivery_id = text(row, "delivery_id"),
        .spec = bytes(row, "spec"),
        .commit = bytes(row, "commit"),
        .actor = bytes(row, "actor"),
        .commit_sha = text(row, "commit_sha"),
        .ref = text(row, "ref"),
        .attempt = (int32_t)number(row, "attempt"),
        .builder_id = text(row, "builder_id"),
        .priority = (int32_t)number(row, "priority"),
        .reason = text(row, "reason"),
        .detail = text(row, "detail"),
        .digest = text(row, "digest"),
        .image_repo = text(row, "image_repo"),
        .trace = text(row, "trace"),
        .steps = "[]",
        .push_received_ms = number(row, "push_received"),
        .queued_ms = number(row, "queued"),
        .leased_ms = number(row, "leased"),
        .started_ms = number(row, "started"),
        .finished_ms = number(row, "finished"),
        .heard_ms = number(row, "heard"),
        .pull_request = (int32_t)number(row, "pull_request"),
        .trusted = flag(row, "trusted"),
        .author = text(row, "author"),
        .author_association = text(row, "author_association"),
        .approved_by = text(row, "approved_by"),
        .cas = number(row, "cas"),
    };
    if (build.service && cell(row, MACHINE_BUILD, &build.cell)) {
        world_add_build(row->world, &build);
    }
}

static void take_release(const struct row *row)
{
    struct release release = {
        .id = text(row, "id"),
        .service = owner(row),
        .build_id = text(row, "build_id"),
        .build_number = (int32_t)number(row, "build_number"),
        .number = (int32_t)number(row, "number"),
        .version = text(row, "version"),
        .reason = text(row, "reason"),
        .detail = text(row, "detail"),
        .commit = bytes(row, "commit"),
        .spec = bytes(row, "spec"),
        .commit_sha = text(row, "commit_sha"),
        .image_repo = text(row, "image_repo"),
        .digest = text(row, "digest"),
        .sbom_digest = text(row, "sbom_digest"),
        .provenance_digest = text(row, "provenance_digest"),
        .signature_digest = text(row, "signature_digest"),
        .sbom_object = text(row, "sbom_object"),
        .provenance_object = text(row, "provenance_object"),
        .sbom_format = text(row, "sbom_format"),
        .key_id = text(row, "key_id"),
        .sbom_components = (int32_t)number(row, "sbom_components"),
        .steps = "[]",
        .trace = text(row, "trace"),
        .push_received_ms = number(row, "push_received"),
        .created_ms = number(row, "created"),
        .ready_ms = number(row, "ready"),
        .pull_request = (int32_t)number(row, "pull_request"),
        .trusted = flag(row, "trusted"),
        .approved_by = text(row, "approved_by"),
        .cas = number(row, "cas"),
    };
    if (release.service && cell(row, MACHINE_RELEASE, &release.cell)) {
        world_add_release(row->world, &release);
    }
}

static void take_deployment(const struct row *row)
{
    struct deployment dep = {
        .id = text(row, "id"),
        .service = owner(row),
        .environment_id = text(row, "environment_id"),
        .release_id = text(row, "release_id"),
        .previous_release_id = text(row, "previous_release_id"),
        .weight = (int32_t)number(row, "weight"),
        .reason = text(row, "reason"),
        .detail = text(row, "detail"),
        .actor = bytes(row, "actor"),
        .rollback = flag(row, "rollback"),
        .steps = "[]",
        .urls = text(row, "urls"),
        .trace = text(row, "trace"),
        .push_received_ms = number(row, "push_received"),
        .created_ms = number(row, "created"),
        .finished_ms = number(row, "finished"),
        .replicas_ready = (int32_t)number(row, "replicas_ready"),
        .cas = number(row, "cas"),
    };
    if (dep.service && cell(row, MACHINE_DEPLOYMENT, &dep.cell)) {
        world_add_deployment(row->world, &dep);
    }
}

static void take_desired(const struct row *row)
{
    int64_t revision = number(row, "revision");
    world_add_desired(row->world, &(struct desired){
                                      .service = owner(row),
                                      .environment_id = text(row, "environment_id"),
                                      .revision = revision,
                                      .revision_before = revision,
                                      .deployment_id = text(row, "deployment_id"),
                                      .release_id = text(row, "release_id"),
                                      .good_release_id = text(row, "good_release_id"),
                                      .good_deployment_id = text(row, "good_deployment_id"),
                                      .before_release_id = text(row, "before"),
                                      .newest_build = (int32_t)number(row, "newest_build"),
                                  });
}

static void take_domain(const struct row *row)
{
    struct domain domain = {
        .hostname = text(row, "hostname"),
        .service = owner(row),
        .service_id = text(row, "service_id"),
        .environment_id = text(row, "environment_id"),
        .stored = true,
        .tls = flag(row, "tls"),
        .issuer = text(row, "issuer"),
        .fingerprint = text(row, "fingerprint"),
        .reason = text(row, "reason"),
        .detail = text(row, "detail"),
        .not_after_ms = number(row, "not_after"),
        .next_try_ms = number(row, "next_try"),
        .cas = number(row, "cas"),
    };
    if (cell(row, MACHINE_DOMAIN, &domain.cell)) {
        world_add_domain(row->world, &domain);
    }
}

static void take_delivery(const struct row *row)
{
    struct delivery delivery = {
        .id = text(row, "id"),
        .repo_key = text(row, "repo_key"),
        .ref = text(row, "ref"),
        .commit_sha = text(row, "commit_sha"),
        .pusher = "",
        .reason = text(row, "reason"),
        .detail = text(row, "detail"),
        .trace = text(row, "trace"),
        .host = "",
        .event = "",
        .action = "",
        .duplicates = (int32_t)number(row, "duplicates"),
        .received_ms = number(row, "received"),
        .cas = number(row, "cas"),
    };
    if (cell(row, MACHINE_DELIVERY, &delivery.cell)) {
        delivery.push = machine_ended(&delivery.cell) ? EC_SPAN("") : bytes(row, "push");
        world_add_delivery(row->world, &delivery);
    }
}

static void take_repo(const struct row *row)
{
    world_add_repo(row->world,
                   &(struct repo){.repo_key = text(row, "repo_key"),
                                  .host_repo_id = text(row, "host_repo_id"),
                                  .clone_url = text(row, "clone_url"),
                                  .full_name = text(row, "full_name"),
                                  .sealed_secret = bytes(row, "sealed_secret"),
                                  .sealed_previous_secret = bytes(row, "sealed_previous_secret"),
                                  .sealed_for = text(row, "sealed_for"),
                                  .hook_id = text(row, "hook_id"),
                                  .renamed_from = ""});
}

static void take_ref(const struct row *row)
{
    world_add_ref(row->world, &(struct git_ref){.repo_key = text(row, "repo_key"),
                                                .ref = text(row, "ref"),
                                                .sha = text(row, "sha"),
                                                .gap_from = text(row, "gap_from"),
                                                .gap_to = text(row, "gap_to"),
                                                .seen_ms = number(row, "seen")});
}

static void take_pull(const struct row *row)
{
    pulls_take(row->world, row->rows, row->at);
}

static void take_approval(const struct row *row)
{
    approvals_take(row->world, row->rows, row->at);
}

static void take_ci_run(const struct row *row)
{
    ci_runs_take(row->world, row->rows, row->at);
}

static void take_inbox(const struct row *row)
{
    ec_map_put(row->world->inbox, ec_rows_text(row->rows, row->at, "event_id"), row->world);
}

static void take_builder(const struct row *row)
{
    world_add_builder(row->world, &(struct builder){
                                      .id = text(row, "id"),
                                      .slots = (int32_t)number(row, "slots"),
                                      .draining = flag(row, "draining"),
                                      .cached_repos = text(row, "cached_repos"),
                                      .version = text(row, "version"),
                                      .heard_ms = number(row, "heard"),
                                  });
}

/* ---- the round trip ---- */

/* {"a","b"}: an array literal of ids and keys, in the arena. */
static const char *array(struct ec_arena *arena, const struct id_list *list)
{
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, (size_t)32 << 20);
    ec_buf_add_text(&out, "{");
    for (size_t i = 0; i < list->count; i++) {
        ec_buf_add_text(&out, i ? ",\"" : "\"");
        for (const char *at = list->ids[i]; *at; at++) {
            ec_buf_add(&out, "\\", *at == '"' || *at == '\\');
            ec_buf_add(&out, at, 1);
        }
        ec_buf_add_text(&out, "\"");
    }
    ec_buf_add_text(&out, "}");
    return ec_arena_text(arena, ec_buf_span(&out));
}

enum {
    AT_PLAN,
    AT_SERVICES,
    AT_ENVIRONMENTS,
    AT_BUILDS,
    AT_RELEASES,
    AT_DEPLOYMENTS,
    AT_DESIRED,
    AT_DOMAINS,
    AT_DELIVERIES,
    AT_INBOX,
    AT_BUILDERS,
    AT_REPOS,
    AT_REFS,
    AT_PULLS,
    AT_APPROVALS,
    AT_CI_RUNS,
    AT_WORK,
    AT_CLOCK,
};

static void (*const takers[])(const struct row *) = {
    [AT_SERVICES] = take_service,
    [AT_ENVIRONMENTS] = take_environment,
    [AT_BUILDS] = take_build,
    [AT_RELEASES] = take_release,
    [AT_DEPLOYMENTS] = take_deployment,
    [AT_DESIRED] = take_desired,
    [AT_DOMAINS] = take_domain,
    [AT_DELIVERIES] = take_delivery,
    [AT_INBOX] = take_inbox,
    [AT_BUILDERS] = take_builder,
    [AT_REPOS] = take_repo,
    [AT_REFS] = take_ref,
    [AT_PULLS] = take_pull,
    [AT_APPROVALS] = take_approval,
    [AT_CI_RUNS] = take_ci_run,
};

static void finish(struct load *load, struct ec_err err)
{
    if (ec_failed(err)) {
        world_free(load->world);
        load->world = NULL;
        load->at_work = NULL;
    }
    load->done(load->arg, err, load->world, load->at_work);
    free(load);
}

static void take_rows(struct world *world, const struct ec_rows *rows,
                      void (*take)(const struct row *))
{
    for (size_t at = 0; at < ec_rows_count(rows) && !world_too_large(world); at++) {
        take(&(struct row){rows, at, world});
    }
}

static void take_at_work(struct load *load, const struct ec_rows *rows)
{
    for (size_t at = 0; at < ec_rows_count(rows); at++) {
        struct row row = {rows, at, load->world};
        struct queue_load *item = ec_arena_alloc(load->world->arena, sizeof *item);
        *item = (struct queue_load){text(&row, "project_id"), text(&row, "builder_id"),
                                    (int32_t)number(&row, "count"), number(&row, "leased"),
                                    load->at_work};
        load->at_work = item;
    }
}

static void on_hostnames(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct load *load = arg;
    if (!ec_failed(err)) {
        take_rows(load->world, rows, take_domain);
    }
    finish(load, err);
}

static void want_routes(struct wanted *hosts, struct world *world, struct ec_span packed)
{
    const Enclii__V1__ServiceSpec *spec = world_spec(world, packed);
    for (size_t i = 0; i < spec->n_routes; i++) {
        want(hosts, &hosts->hostnames, spec->routes[i]->hostname);
    }
}

/* Who owns the host names that may be claimed now? */
static struct ec_err ask_hostnames(struct load *load)
{
    struct wanted *hosts = wanted_new(load->world->arena);
    for (const struct release *rel = load->world->first_release; rel; rel = rel->next) {
        want_routes(hosts, load->world, rel->spec);
    }
    const char *args[] = {"{}", "{}", "{}", array(load->world->arena, &hosts->hostnames)};
    bool any = hosts->hostnames.count > 0;
    wanted_done(hosts);
    if (!any) {
        finish(load, ec_ok());
        return ec_ok();
    }
    return ec_store_exec(load->store, domains_sql, args, EC_LEN(args), on_hostnames, load);
}

static void on_loaded(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct load *load = arg;
    if (ec_failed(err)) {
        finish(load, err);
        return;
    }
    load->world = world_new(load->rules, ec_rows_int(ec_batch_rows(batch, AT_CLOCK), 0, "now"));
    for (size_t i = AT_SERVICES; i < EC_LEN(takers); i++) {
        take_rows(load->world, ec_batch_rows(batch, i), takers[i]);
    }
    take_at_work(load, ec_batch_rows(batch, AT_WORK));
    if (world_too_large(load->world)) {
        finish(load, ec_reject("too many or too large rows belong to it"));
        return;
    }
    if (!load->wanted->deploys) {
        finish(load, ec_ok());
        return;
    }
    err = ask_hostnames(load);
    if (ec_failed(err)) {
        finish(load, err);
    }
}

/* A statement that would find nothing is not asked; its place in the answer stays. */
static void ask_if(struct ec_batch *batch, bool needed, const char *sql, const char *const *args,
                   size_t count)
{
    ec_batch_add(batch, needed ? sql : "select where false", args, needed ? count : 0);
}

EC_RESULT load_world(struct ec_store *store, const struct wanted *wanted, const struct rules *rules,
                     load_fn done, void *arg)
{
    struct load *load = ec_alloc(sizeof *load);
    *load =
        (struct load){.store = store, .wanted = wanted, .rules = rules, .done = done, .arg = arg};
    struct ec_batch *batch = ec_batch_new(store);
    struct ec_arena *arena = ec_batch_arena(batch);
    const char *services = array(arena, &wanted->services), *repos = array(arena, &wanted->repos);
    const char *builds = array(arena, &wanted->builds);
    const char *releases = array(arena, &wanted->releases);
    const char *deployments = array(arena, &wanted->deployments);
    const char *hostnames = array(arena, &wanted->hostnames);
    const char *commits = array(arena, &wanted->commits);
    const char *back = wanted->rollback ? "t" : "f", *queue = wanted->queue ? "t" : "f";
    ec_batch_add(batch, plan_sql, NULL, 0);
    ec_batch_add(batch, services_sql, (const char *[]){services, repos, builds}, 3);
    ec_batch_add(batch, environments_sql, (const char *[]){services, repos, builds}, 3);
    ec_batch_add(batch, builds_sql, (const char *[]){services, repos, builds, commits}, 4);
    ec_batch_add(batch, releases_sql,
                 (const char *[]){services, repos, builds, releases, deployments, back, commits},
                 7);
    ec_batch_add(batch, deployments_sql, (const char *[]){services, repos, builds, deployments}, 4);
    ec_batch_add(batch, desired_sql, (const char *[]){services, repos, builds, back}, 4);
    ec_batch_add(batch, domains_sql, (const char *[]){services, repos, builds, hostnames}, 4);
    ask_if(batch, wanted->deliveries.count > 0, deliveries_sql,
           (const char *[]){array(arena, &wanted->deliveries), repos}, 2);
    ask_if(batch, wanted->events.count > 0, inbox_sql,
           (const char *[]){array(arena, &wanted->events)}, 1);
    ask_if(batch, wanted->builders.count > 0 || wanted->queue, builders_sql,
           (const char *[]){array(arena, &wanted->builders), queue}, 2);
    ask_if(batch, wanted->repos.count > 0, repos_sql, (const char *[]){repos}, 1);
    ask_if(batch, wanted->refs.count > 0, refs_sql, (const char *[]){array(arena, &wanted->refs)},
           1);
    ask_if(batch, wanted->pulls.count + wanted->commits.count > 0, pulls_sql,
           (const char *[]){array(arena, &wanted->pulls), commits}, 2);
    ask_if(batch, wanted->commits.count > 0, approvals_sql, &commits, 1);
    ask_if(batch, wanted->ci_commits.count + wanted->deliveries.count > 0, ci_runs_sql,
           (const char *[]){array(arena, &wanted->ci_commits), array(arena, &wanted->deliveries)},
           2);
    ask_if(batch, wanted->queue, at_work_sql, (const char *[]){queue}, 1);
    ec_batch_add(batch, "select enclii.ms(clock_timestamp()) as now", NULL, 0);
    struct ec_err err = ec_batch_run(batch, on_loaded, load);
    if (ec_failed(err)) {
        free(load);
    }
    return err;
}
