/* A hash map from text to pointer: open addressing, copies its keys, never its values. Created with
 * the most entries it may hold: ec_map_put says false when full, so that no peer chooses our
 * memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct ec_map;

struct ec_map *ec_map_new(size_t max_entries);
void ec_map_free(struct ec_map *map, void (*free_value)(void *)); /* free_value may be NULL */
void *ec_map_get(const struct ec_map *map, const char *key);
bool ec_map_put(struct ec_map *map, const char *key, void *value); /* replaces; value not NULL */
void *ec_map_remove(struct ec_map *map, const char *key);          /* gives the value or NULL */
size_t ec_map_count(const struct ec_map *map);

/* Walks all entries: for (size_t at = 0; ec_map_next(map, &at, &key, &value);) ...
 * Removing the entry just seen is allowed, nothing else may change. key and value may be NULL. */
bool ec_map_next(const struct ec_map *map, size_t *at, const char **key, void **value);
