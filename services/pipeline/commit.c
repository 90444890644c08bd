/* A commit. The order of the statements matters twice: seen ids and counters come first, so that a
 * conflict is found before its consequences, and deployments end before others begin (only one may
 * be open per place). */
#include "commit.h"

#include "base/mem.h"
#include "write.h"

bool commit_has_work(const struct world *world)
{
    bool rows =
        world->fact_count || world->decision_count || world->seen_count || world->first_refusal;
    for (const struct build *row = world->first_build; row && !rows; row = row->next) {
        rows = row->mark != ROW_CLEAN;
    }
    for (const struct deployment *row = world->first_deployment; row && !rows; row = row->next) {
        rows = row->mark != ROW_CLEAN;
    }
    for (const struct delivery *row = world->first_delivery; row && !rows; row = row->next) {
        rows = row->mark != ROW_CLEAN;
    }
    for (const struct builder *row = world->first_builder; row && !rows; row = row->next) {
        rows = row->mark != ROW_CLEAN;
    }
    return rows;
}

EC_RESULT commit_world(struct ec_store *store, const struct world *world,
                       const struct commit_offsets *offsets, ec_batch_fn done, void *arg)
{
    static bool (*const writers[])(struct ec_batch *, const struct world *) = {
        write_add_seen,        write_add_deliveries,  write_update_deliveries,
        write_update_services, write_add_builds,      write_update_builds,
        write_add_releases,    write_update_releases, write_update_deployments,
        write_add_deployments, write_update_desired,  write_add_desired,
        write_remove_domains,  write_update_domains,  write_add_domains,
        write_put_builders,    write_add_refusals,    write_move_repos,
        write_put_repos,       write_put_refs,        write_move_pulls,
        write_put_pulls,       write_add_approvals,   write_put_ci_runs,
        write_add_decisions,   write_add_facts,
    };
    struct ec_batch *batch = ec_batch_new(store);
    bool fits = true;
    for (size_t i = 0; fits && i < EC_LEN(writers); i++) {
        fits = writers[i](batch, world);
    }
    if (!fits ||
        (offsets && !ec_offsets_put(batch, offsets->table, offsets->offsets, offsets->count))) {
        ec_batch_free(batch);
        return ec_reject(
            "what follows from it does not fit into one transaction (64 MiB a column): "
            "too many services of one repository, or too large specs");
    }
    return ec_batch_run(batch, done, arg);
}
