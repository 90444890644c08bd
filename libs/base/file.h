/* Small files written whole: whoever reads one, or starts after a crash, finds what was there
 * before or all that is new. They block; not for a running loop but where the caller says why. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/span.h"

struct ec_file_spec {
    const char *path;
    mode_t mode;                 /* exactly; no umask */
    bool flushed;                /* to the disk, with its name: it has to survive a power cut */
    const struct ec_span *parts; /* one after the other */
    size_t part_count;
};
/* Both give 0 or -errno. What cannot be finished leaves nothing behind. */
int ec_file_replace(const struct ec_file_spec *spec);
int ec_file_create(const struct ec_file_spec *spec); /* -EEXIST: it is there already, untouched */
/* Removes a folder and all that is in it, as far as it can; follows no link and leaves what is
 * mounted into it. Blocks: for start-up and worker threads. */
void ec_file_remove_tree(const char *path);
