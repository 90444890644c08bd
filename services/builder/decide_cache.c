/* Least recently used first: what a repository left is worth as much as its next build is near. */
#include "decide_cache.h"

#include <stdlib.h>

#define IMAGES_MAX 64

static int older_first(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    return (x->used_unix_s > y->used_unix_s) - (x->used_unix_s < y->used_unix_s);
}

int64_t decide_evictions(struct kept *list, size_t count, int64_t max_bytes)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += list[i].bytes;
    }
    qsort(list, count, sizeof(*list), older_first);
    for (size_t i = 0; i < count; i++) {
        list[i].gone = bytes > max_bytes && !list[i].busy;
        bytes -= list[i].gone ? list[i].bytes : 0;
    }
    return bytes;
}

enum prune decide_prune(int64_t bytes, size_t images, int64_t max_bytes)
{
    if (bytes > max_bytes) {
        return PRUNE_ALL;
    }
    return bytes > max_bytes / 2 || images > IMAGES_MAX ? PRUNE_UNTAGGED : PRUNE_NOTHING;
}
