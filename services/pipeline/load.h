/* Reads the world that a batch of events touches: one round trip, and a second one only when
 * something may be deployed (who owns the host names of its routes). */
#pragma once

#include "decide.h"
#include "store/store.h"

typedef void (*load_fn)(void *arg, struct ec_err err, struct world *world,
                        const struct queue_load *load);
/* `wanted` and `rules` must live until done is called, which takes the world (NULL on error; free
 * it; REJECT: more than world_too_large). `load` is in the world's arena, and filled only when
 * wanted->queue is set. */
EC_RESULT load_world(struct ec_store *store, const struct wanted *wanted, const struct rules *rules,
                     load_fn done, void *arg);

/* What the leader looks for: overdue and silent rows, queued builds. */
typedef void (*find_fn)(void *arg, struct ec_err err, bool found);
/* Adds what was found to `wanted` (and wanted->queue when something waits). silence_ms 0: nobody is
 * called silent. */
EC_RESULT load_find(struct ec_store *store, struct wanted *wanted, int64_t silence_ms, find_fn done,
                    void *arg);
