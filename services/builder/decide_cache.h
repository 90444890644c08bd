/* Which of the folders that builds leave for the next ones are kept, pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct kept {
    char name[96];
    int64_t bytes;
    int64_t used_unix_s; /* the last use; 0 = not known */
    bool busy;           /* a job of its repository is here: it stays */
    bool gone;           /* out: it goes */
};

/* The least recently used go first, until the rest has max_bytes at most or all that is left is
 * busy. Sorts `list`, sets `gone`. Gives the bytes that stay. */
int64_t decide_evictions(struct kept *list, size_t count, int64_t max_bytes);

enum prune { PRUNE_NOTHING, PRUNE_UNTAGGED, PRUNE_ALL };

/* Of the image storage. Above the count, those without a tag go: each one makes every build slower.
 */
enum prune decide_prune(int64_t bytes, size_t images, int64_t max_bytes);
