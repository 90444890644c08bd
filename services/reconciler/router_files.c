/* The assignment of backends, kept so that a restarted reconciler and a restarted HAProxy agree
 * with what clients see. Losing the files costs nothing but a new assignment: both are made again
 * from the desired state. */
#include "router_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#define ROUTES_MAX 20000

static struct router_slot *find_slot(const struct router_files *files, const char *backend)
{
    for (size_t i = 0; i < files->pool_count; i++) {
        if (strcmp(files->pool[i].backend, backend) == 0) {
            return &files->pool[i];
        }
    }
    return NULL;
}

static void give_slot(struct router_files *files, struct router_slot *slot, const char *key)
{
    slot->key = ec_strdup(key);
    (void)ec_map_put(files->keys, key, slot);
}

static struct router_slot *add_slot(struct router_files *files, const char *backend)
{
    struct router_slot *slot = &files->pool[files->pool_count++];
    snprintf(slot->backend, sizeof slot->backend, "%s", backend);
    return slot;
}

static void read_backends(struct router_files *files)
{
    ec_cleanup(ec_freep) char *path = ec_format("%s/backends.map", files->dir);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return; /* a first start */
    }
    char line[512], key[400], backend[16];
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%399s %15s", key, backend) != 2 || strncmp(backend, "be_", 3) != 0 ||
            find_slot(files, backend) != NULL || ec_map_get(files->keys, key) != NULL ||
            files->pool_count == ROUTER_POOL_MAX) {
            continue;
        }
        give_slot(files, add_slot(files, backend), key);
    }
    fclose(file);
}

void router_files_init(struct router_files *files, const char *dir)
{
    *files = (struct router_files){.dir = dir};
    files->pool = ec_alloc(ROUTER_POOL_MAX * sizeof *files->pool);
    files->keys = ec_map_new(ROUTER_POOL_MAX);
    files->routes = ec_map_new(ROUTES_MAX);
    read_backends(files);
}

void router_files_done(struct router_files *files)
{
    for (size_t i = 0; i < files->pool_count; i++) {
        free(files->pool[i].key);
    }
    free(files->pool);
    ec_map_free(files->keys, NULL);
    ec_map_free(files->routes, free);
}

void router_files_pool(struct router_files *files, const char *backend)
{
    bool ours = strncmp(backend, "be_", 3) == 0 && strcmp(backend, "be_none") != 0 &&
                strlen(backend) < sizeof files->pool->backend;
    if (ours && files->pool_count < ROUTER_POOL_MAX && find_slot(files, backend) == NULL) {
        add_slot(files, backend);
        files->dirty = true;
    }
}

const char *router_files_backend(struct router_files *files, const char *key)
{
    struct router_slot *slot = ec_map_get(files->keys, key);
    for (size_t i = 0; i < files->pool_count && slot == NULL; i++) {
        if (files->pool[i].key == NULL) {
            slot = &files->pool[i];
            give_slot(files, slot, key);
            files->dirty = true;
        }
    }
    if (slot == NULL) {
        return NULL;
    }
    slot->told = true;
    return slot->backend;
}

const char *router_files_key(const struct router_files *files, const char *backend)
{
    const struct router_slot *slot = find_slot(files, backend);
    return slot ? slot->key : NULL;
}

static void drop_routes(struct router_files *files, const char *key)
{
    const char *route;
    void *owner;
    for (size_t at = 0; ec_map_next(files->routes, &at, &route, &owner);) {
        if (strcmp(owner, key) == 0) {
            (void)ec_map_remove(files->routes, route);
            free(owner);
            files->dirty = true;
        }
    }
}

struct ec_err router_files_set(struct router_files *files, const char *key, char *const *routes,
                               size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *owner = ec_map_get(files->routes, routes[i]);
        const struct router_slot *slot = owner ? ec_map_get(files->keys, owner) : NULL;
        bool yields = slot != NULL && slot->kept;
        if (owner != NULL && strcmp(owner, key) != 0 && !yields) {
            return ec_reject("another service has this host name and path already");
        }
    }
    drop_routes(files, key);
    for (size_t i = 0; i < count; i++) {
        free(ec_map_remove(files->routes, routes[i])); /* the same route twice in one list */
        char *owner = ec_strdup(key);
        if (!ec_map_put(files->routes, routes[i], owner)) {
            free(owner);
            return ec_reject("there are too many routes");
        }
    }
    files->dirty = true;
    (void)router_files_backend(files, key);
    struct router_slot *slot = ec_map_get(files->keys, key);
    if (slot != NULL) {
        slot->kept = false;
    }
    return ec_ok();
}

void router_files_keep(struct router_files *files, const char *key, const char *backend)
{
    struct router_slot *slot = ec_map_get(files->keys, key);
    if (slot == NULL && backend != NULL) { /* backends.map was lost */
        slot = find_slot(files, backend);
        if (slot == NULL || slot->key != NULL) {
            return;
        }
        give_slot(files, slot, key);
        files->dirty = true;
    }
    if (slot != NULL) {
        slot->told = slot->kept = true;
    }
}

bool router_files_kept(const struct router_files *files, const char *backend)
{
    const struct router_slot *slot = find_slot(files, backend);
    return slot != NULL && slot->kept;
}

void router_files_adopt(struct router_files *files, const char *route, const char *backend)
{
    const struct router_slot *slot = find_slot(files, backend);
    if (slot == NULL || !slot->kept || ec_map_get(files->routes, route) != NULL) {
        return;
    }
    char *owner = ec_strdup(slot->key);
    if (!ec_map_put(files->routes, route, owner)) {
        free(owner);
        return;
    }
    files->dirty = true;
}

void router_files_forget(struct router_files *files, const char *key)
{
    drop_routes(files, key);
    struct router_slot *slot = ec_map_remove(files->keys, key);
    if (slot != NULL) {
        free(slot->key);
        slot->key = NULL;
        slot->told = slot->kept = false;
        files->dirty = true;
    }
}

void router_files_prune(struct router_files *files)
{
    for (size_t i = 0; i < files->pool_count; i++) {
        struct router_slot *slot = &files->pool[i];
        if (slot->key != NULL && !slot->told) {
            ec_cleanup(ec_freep) char *key = ec_strdup(slot->key);
            router_files_forget(files, key);
        }
    }
}

bool router_files_next(struct router_files *files, size_t *at, const char **ret_route,
                       void **ret_backend)
{
    void *key;
    while (ec_map_next(files->routes, at, ret_route, &key)) {
        const char *backend = router_files_backend(files, key);
        if (backend != NULL) {
            *ret_backend = ((struct router_slot *)ec_map_get(files->keys, key))->backend;
            return true;
        }
    }
    return false;
}

const char *router_files_route(const struct router_files *files, const char *route)
{
    return ec_map_get(files->routes, route);
}

static void replace_file(struct router_files *files, const char *name, struct ec_span text)
{
    ec_cleanup(ec_freep) char *path = ec_format("%s/%s", files->dir, name);
    int code = ec_file_replace(&(struct ec_file_spec){path, 0644, false, &text, 1});
    if (code != 0) {
        files->dirty = true; /* tried again with every look */
    }
    if (code != 0 && !files->failing) {
        files->failing = true;
        ec_log(EC_LOG_ERROR, NULL, "router.file_failed", "cannot write a router file",
               EC_T("path", path), EC_T("error", strerror(-code)));
    }
}

void router_files_save(struct router_files *files)
{
    if (!files->dirty) {
        return;
    }
    files->dirty = false;
    ec_cleanup(ec_buf_done) struct ec_buf text = {0};
    ec_buf_init(&text, 4u << 20);
    for (size_t i = 0; i < files->pool_count; i++) {
        if (files->pool[i].key != NULL) {
            ec_buf_addf(&text, "%s %s\n", files->pool[i].key, files->pool[i].backend);
        }
    }
    replace_file(files, "backends.map", ec_buf_span(&text));
    ec_buf_clear(&text);
    const char *route;
    void *backend;
    for (size_t at = 0; router_files_next(files, &at, &route, &backend);) {
        ec_buf_addf(&text, "%s %s\n", route, (const char *)backend);
    }
    replace_file(files, "hosts.map", ec_buf_span(&text));
    files->failing = files->failing && files->dirty;
}
