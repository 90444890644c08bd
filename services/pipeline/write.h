/* The statements of a commit: one per table and kind of change, whatever the number of rows.
 * Private to commit.c, which says their order. False: more than one statement may carry. */
#pragma once

#include "store/columns.h"
#include "store/store.h"
#include "world.h"

/* with u as (...) select ec_expect(rows, count(*)): RETRY unless every row was still as it was
 * read. */
#define COUNTED(sql, n)                                                                            \
    "with u as (" sql " returning 1) select ec_expect($" #n "::bigint, count(*)) from u"

bool write_add_seen(struct ec_batch *batch, const struct world *world);
bool write_add_deliveries(struct ec_batch *batch, const struct world *world);
bool write_update_deliveries(struct ec_batch *batch, const struct world *world);
bool write_update_services(struct ec_batch *batch, const struct world *world);
bool write_add_builds(struct ec_batch *batch, const struct world *world);
bool write_update_builds(struct ec_batch *batch, const struct world *world);
bool write_add_releases(struct ec_batch *batch, const struct world *world);
bool write_update_releases(struct ec_batch *batch, const struct world *world);
bool write_put_builders(struct ec_batch *batch, const struct world *world);
bool write_add_deployments(struct ec_batch *batch, const struct world *world);
bool write_update_deployments(struct ec_batch *batch, const struct world *world);
bool write_add_desired(struct ec_batch *batch, const struct world *world);
bool write_update_desired(struct ec_batch *batch, const struct world *world);
bool write_add_domains(struct ec_batch *batch, const struct world *world);
bool write_update_domains(struct ec_batch *batch, const struct world *world);
bool write_remove_domains(struct ec_batch *batch, const struct world *world);
bool write_add_refusals(struct ec_batch *batch, const struct world *world);
bool write_put_refs(struct ec_batch *batch, const struct world *world);
bool write_move_pulls(struct ec_batch *batch, const struct world *world);
bool write_put_pulls(struct ec_batch *batch, const struct world *world);
bool write_add_approvals(struct ec_batch *batch, const struct world *world);
bool write_put_ci_runs(struct ec_batch *batch, const struct world *world);
bool write_put_repos(struct ec_batch *batch, const struct world *world);
bool write_move_repos(struct ec_batch *batch, const struct world *world);
bool write_add_decisions(struct ec_batch *batch, const struct world *world);
bool write_add_facts(struct ec_batch *batch, const struct world *world);
