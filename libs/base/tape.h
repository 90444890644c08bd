/* JSON read in place: one pass checks the whole text (RFC 8259, UTF-8, no NUL in texts) and leaves
 * a tape of nodes in document order; nothing is copied, nothing is allocated per value. For large
 * bodies of which few fields matter; where whole values are built or passed on, use base/json.h.
 *
 * The readers never fail: a missing value, or one of another kind, gives the default. A name that
 * stands twice in one object counts as missing: two readers must never see two different values. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

#define EC_TAPE_DEPTH_MAX 128

enum ec_tape_kind {
    EC_TAPE_NULL,
    EC_TAPE_FALSE,
    EC_TAPE_TRUE,
    EC_TAPE_INT,
    EC_TAPE_REAL,
    EC_TAPE_TEXT,
    EC_TAPE_LIST,
    EC_TAPE_OBJECT, /* its children alternate: name (a text), value */
};

struct ec_node {
    uint32_t at, len; /* where it stands in the text; of a text without its quotes */
    uint32_t next;    /* index of the first node that is not inside this one */
    uint8_t kind;
    bool escaped; /* a text with backslashes */
};

struct ec_tape {
    struct ec_span text; /* borrowed as long as the tape is used */
    struct ec_node *nodes;
    uint32_t count; /* nodes[0] is the root */
};

/* REJECT with line and column, or when the arena has no room for so many values. */
EC_RESULT ec_tape_read(struct ec_arena *arena, struct ec_span text, struct ec_tape *ret_tape);

/* All take the node to start from (NULL gives the default) and a dotted path: "a.b.0.c". */
const struct ec_node *ec_tape_root(const struct ec_tape *tape);
const struct ec_node *ec_tape_at(const struct ec_tape *tape, const struct ec_node *from,
                                 const char *path);
/* A copy without escapes, NUL-terminated; "" when absent. */
char *ec_tape_text(struct ec_arena *arena, const struct ec_tape *tape, const struct ec_node *from,
                   const char *path);
int64_t ec_tape_int(const struct ec_tape *tape, const struct ec_node *from, const char *path,
                    int64_t otherwise);
bool ec_tape_bool(const struct ec_tape *tape, const struct ec_node *from, const char *path,
                  bool otherwise);

/* The bytes of a text node as they stand (escapes included), borrowed; empty for other kinds. */
struct ec_span ec_tape_raw(const struct ec_tape *tape, const struct ec_node *node);
/* The first max_bytes of that very node's text as they stand, in whole escapes and characters. */
struct ec_node ec_tape_cut(const struct ec_tape *tape, const struct ec_node *node,
                           uint32_t max_bytes);
/* Text of that very node, without escapes; NULL when it is no text or the arena is full. */
char *ec_tape_copy(struct ec_arena *arena, const struct ec_tape *tape, const struct ec_node *node);
bool ec_tape_is(const struct ec_node *node, enum ec_tape_kind kind); /* false for NULL */

/* The items of a list: for (n = ec_tape_first(t, list); n; n = ec_tape_next(t, list, n)) ... */
const struct ec_node *ec_tape_first(const struct ec_tape *tape, const struct ec_node *list);
const struct ec_node *ec_tape_next(const struct ec_tape *tape, const struct ec_node *list,
                                   const struct ec_node *item);
size_t ec_tape_count(const struct ec_tape *tape, const struct ec_node *list);
