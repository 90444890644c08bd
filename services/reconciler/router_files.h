/* Which backend of the pool a key has, which routes lead to it, and the two files that keep both:
 * backends.map ("key backend", ours) and hosts.map ("host/path/ backend", read by HAProxy when it
 * starts). Files are replaced whole, by rename. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/map.h"

#define ROUTER_POOL_MAX 1000

struct router_slot {
    char backend[16];
    char *key; /* NULL = free */
    bool told; /* somebody asked for it in this process */
    bool kept; /* what it should have is not known: what it has stays */
};

struct router_files {
    const char *dir; /* borrowed */
    struct router_slot *pool;
    size_t pool_count;
    bool pool_ready;       /* HAProxy's own list was read */
    struct ec_map *keys;   /* key → struct router_slot */
    struct ec_map *routes; /* route → key (own copy) */
    bool dirty;
    bool failing; /* the last try to write was no good, and that was said */
};

void router_files_init(struct router_files *files, const char *dir); /* reads backends.map */
void router_files_done(struct router_files *files);
/* HAProxy has this backend; others than be_... are ignored. */
void router_files_pool(struct router_files *files, const char *backend);
/* The key's backend, taken from the pool if it has none; NULL when none is free. */
const char *router_files_backend(struct router_files *files, const char *key);
const char *router_files_key(const struct router_files *files, const char *backend);
/* Replaces the routes of the key. REJECT when another key has one of them. */
EC_RESULT router_files_set(struct router_files *files, const char *key, char *const *routes,
                           size_t count);
/* The key keeps its backend, or the one it is seen in (may be NULL), and the routes that lead
 * there. Another key that is told one of these gets it. */
void router_files_keep(struct router_files *files, const char *key, const char *backend);
bool router_files_kept(const struct router_files *files, const char *backend);
/* HAProxy has this route: a kept key's is noted as its own. */
void router_files_adopt(struct router_files *files, const char *route, const char *backend);
void router_files_forget(struct router_files *files, const char *key);
void router_files_prune(struct router_files *files); /* forgets keys nobody asked for */
/* Walks (route, backend); routes whose key has no backend yet are left out. */
bool router_files_next(struct router_files *files, size_t *at, const char **ret_route,
                       void **ret_backend);
const char *router_files_route(const struct router_files *files, const char *route); /* its key */
void router_files_save(struct router_files *files); /* if something changed */
