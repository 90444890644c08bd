/* What the RUN lines of a stranger's build may reach, pure: addresses in, routes out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

struct network {
    uint32_t address; /* IPv4, host byte order; the machine's own may have bits beyond its mask */
    uint8_t bits;     /* of the mask */
};

#define NETWORKS_MAX 256 /* of a machine, and of a setting */

/* "10.1.2.3, 10.9.0.0/16" into ret[]; NULL, or what is wrong with it and what is wanted. */
const char *decide_networks(struct ec_arena *arena, const char *text,
                            struct network ret[NETWORKS_MAX], size_t *ret_count);
/* Lines for `ip -batch`: all private networks, `own` (addresses of this machine, each with its
 * network) and what else no public host answers on are closed; `reach` is open again where it is
 * more precise than what closes it. An address of this machine is never open. */
const char *decide_routes(struct ec_arena *arena, const struct network *own, size_t own_count,
                          const struct network *reach, size_t reach_count);
/* The resolver inside: slirp4netns asks the machine's in its name. */
extern const char network_resolver[];
