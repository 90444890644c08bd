/* Reads the world of a batch: one batch of statements, then, if something may be deployed, one
 * more. */
#include "load.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "load_rows.h"

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
        *item = (struct queue_load){row_text(&row, "project_id"), row_text(&row, "builder_id"),
                                    (int32_t)row_number(&row, "count"), row_number(&row, "leased"),
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
    ask_if(batch, wanted->pulls.count + wanted->commits.count > 0, approvals_sql,
           (const char *[]){commits, array(arena, &wanted->pulls)}, 2);
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
