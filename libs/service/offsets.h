/* Where a batch consumer stands, kept in PostgreSQL with the effects of what it has consumed: rows
 * of the table "<schema>.consumed" (consumer, topic, partition, next), one per partition. */
#pragma once

#include "bus/bus.h"
#include "store/store.h"

struct ec_offset_table {
    const char *schema;
    const char *group;
};

/* For ec_consume_batch_spec.load_offsets: reads them, then calls ec_offsets_loaded. */
void ec_offsets_load(struct ec_store *store, const struct ec_offset_table *table,
                     struct ec_offset *offsets, size_t count, void *token);
/* Into the transaction of the effects. Never backwards: an instance that lost the partition may
 * still be writing. False: they do not fit (as ec_columns_flush). */
bool ec_offsets_put(struct ec_batch *batch, const struct ec_offset_table *table,
                    const struct ec_offset *offsets, size_t count);
