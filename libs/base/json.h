/* JSON by jansson, with limits (bytes, duplicates refused, depth by the library) and short readers
 * that never fail: a missing or wrong-typed value gives the default. Paths are dotted: "a.b.c". */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

/* gives *ret_root (json_decref it). REJECT with line and column (text in `arena`) when malformed.
 */
EC_RESULT ec_json_parse(struct ec_arena *arena, struct ec_span text, json_t **ret_root);
void ec_json_freep(json_t **root); /* for ec_cleanup */

json_t *ec_json_at(const json_t *root, const char *path);       /* borrowed or NULL */
const char *ec_json_text(const json_t *root, const char *path); /* "" when absent */
int64_t ec_json_int(const json_t *root, const char *path, int64_t otherwise);
bool ec_json_bool(const json_t *root, const char *path, bool otherwise);

/* Compact dump into the arena. */
char *ec_json_dump(struct ec_arena *arena, const json_t *root);
