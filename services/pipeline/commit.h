/* Writes a changed world back: all rows, facts, decisions, seen ids and the consumed offsets in one
 * transaction and one round trip. Every row is compared (cas, revision, number) before it is
 * swapped: if anybody was quicker the whole transaction ends with RETRY and the batch is decided
 * anew. */
#pragma once

#include "service/offsets.h"
#include "store/store.h"
#include "world.h"

struct commit_offsets {
    const struct ec_offset_table *table;
    const struct ec_offset *offsets;
    size_t count;
};
bool commit_has_work(const struct world *world);
/* offsets may be NULL. The world must live until `done` returns. REJECT: too large. */
EC_RESULT commit_world(struct ec_store *store, const struct world *world,
                       const struct commit_offsets *offsets, ec_batch_fn done, void *arg);
