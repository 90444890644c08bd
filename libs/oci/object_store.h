/* Where documents are kept beside the registry (SBOMs, provenance): immutable objects by key. One
 * interface, drivers behind it: file:///folder today, s3:// later. An object is written whole or
 * not at all; writing other bytes under a key that exists is REJECTed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"
#include "net/loop.h"

#define EC_OBJECT_MAX_BYTES (16u << 20)

struct ec_object_store;

/* Exactly once, in a later turn. `bytes` (get) is borrowed until the callback returns. Not there:
 * REJECT with sys -ENOENT. */
typedef void (*ec_object_fn)(void *arg, struct ec_err err, struct ec_span bytes);

/* url: "file:///absolute/folder" (made if missing). */
EC_RESULT ec_object_store_open(struct ec_loop *loop, const char *url,
                               struct ec_object_store **ret_store);
/* Only when nothing is under way. Accepts NULL. */
void ec_object_store_close(struct ec_object_store *store);

/* Keys: "sbom/<name>.json": segments of letters, digits, '.', '_', '-', none beginning with '.'. */
bool ec_object_key_valid(const char *key);
EC_RESULT ec_object_put(struct ec_object_store *store, const char *key, struct ec_span bytes,
                        ec_object_fn done, void *arg); /* bytes are copied */
EC_RESULT ec_object_get(struct ec_object_store *store, const char *key, ec_object_fn done,
                        void *arg);
