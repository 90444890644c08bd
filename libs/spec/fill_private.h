/* Private to fill*.c: one value and where it was found, and the ways to find it. */
#pragma once

#include <string.h>

#include "base/mem.h"
#include "spec/internal.h"

#define MIB (INT64_C(1) << 20)

struct filler {
    struct report *report;
    const struct node *spec; /* the map below `spec`, or NULL */
    const struct node *document;
    Enclii__V1__ServiceSpec *out;
};

/* A value and the path it was found at. */
struct found {
    const struct node *node; /* NULL: not written */
    const char *path;
};

/* The first of the NULL-ended paths (below `spec`) that is written with that kind of node. */
struct found spec_first_of(struct filler *f, enum node_kind kind, const char *const *paths);
#define PATHS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A quantity read by `parse`, within bounds[0]..bounds[1]. */
int64_t spec_amount_of(struct filler *f, struct found found, bool (*parse)(const char *, int64_t *),
                       const int64_t bounds[2], const char *form);
/* "must be <form>, is ..." */
void spec_fault_form(struct filler *f, struct found found, const char *form);
/* true, false, or {enabled: ...}; `otherwise` when neither is written. */
bool spec_switched(const struct node *node, bool otherwise);
char *spec_copy(struct filler *f, const char *text); /* into the arena of the result */

void spec_fill_env(struct filler *f);
void spec_fill_args(struct filler *f);
void spec_fill_rollout(struct filler *f);
void spec_fill_routes(struct filler *f);
