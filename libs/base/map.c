/* Open addressing with linear probing. A removed entry leaves a grave, so that a walk may remove
 * what it has just seen; graves go when the table is rebuilt. The hash is SipHash-1-3 with a key
 * drawn at start: strangers choose keys (host names, delivery ids) but cannot choose collisions. */
#include "base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define FIRST_ROOM 16

struct entry {
    char *key; /* NULL: free or grave */
    void *value;
    uint64_t hash;
    bool grave;
};

struct ec_map {
    struct entry *entries;
    size_t room;  /* power of two */
    size_t count; /* entries with a key */
    size_t graves;
    size_t max_entries;
    uint64_t seed[2];
};

static inline uint64_t rotate(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static uint64_t hash_of(const struct ec_map *map, const char *key, size_t len)
{
    uint64_t v[4] = {map->seed[0] ^ 0x736f6d6570736575u, map->seed[1] ^ 0x646f72616e646f6du,
                     map->seed[0] ^ 0x6c7967656e657261u, map->seed[1] ^ 0x7465646279746573u};
    uint64_t last = (uint64_t)len << 56;
    for (size_t at = 0; at <= len; at += 8) {
        uint64_t word = 0;
        size_t part = len - at < 8 ? len - at : 8;
        memcpy(&word, key + at, part);
        if (part < 8) {
            word |= last;
        }
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct ec_map *ec_map_new(size_t max_entries)
{
    struct ec_map *map = ec_alloc(sizeof(*map));
    map->max_entries = max_entries;
    map->room = FIRST_ROOM;
    map->entries = ec_alloc(map->room * sizeof(*map->entries));
    arc4random_buf(map->seed, sizeof(map->seed));
    return map;
}

void ec_map_free(struct ec_map *map, void (*free_value)(void *))
{
    if (map == NULL) {
        return;
    }
    for (size_t i = 0; i < map->room; i++) {
        if (map->entries[i].key != NULL && free_value != NULL) {
            free_value(map->entries[i].value);
        }
        free(map->entries[i].key);
    }
    free(map->entries);
    free(map);
}

static struct entry *find(const struct ec_map *map, const char *key, uint64_t hash)
{
    for (size_t i = hash & (map->room - 1);; i = (i + 1) & (map->room - 1)) {
        struct entry *entry = &map->entries[i];
        if (entry->key == NULL && !entry->grave) {
            return NULL;
        }
        if (entry->key != NULL && entry->hash == hash && strcmp(entry->key, key) == 0) {
            return entry;
        }
    }
}

static struct entry *find_free(struct entry *entries, size_t room, uint64_t hash)
{
    size_t i = hash & (room - 1);
    while (entries[i].key != NULL) {
        i = (i + 1) & (room - 1);
    }
    return &entries[i];
}

/* Keeps the table at most 3/4 full of entries and graves, so that every probe ends. */
static void rebuild_if_crowded(struct ec_map *map)
{
    if ((map->count + map->graves + 1) * 4 <= map->room * 3) {
        return;
    }
    size_t room = map->room;
    while ((map->count + 1) * 2 > room) {
        room *= 2;
    }
    struct entry *entries = ec_alloc(room * sizeof(*entries));
    for (size_t i = 0; i < map->room; i++) {
        if (map->entries[i].key != NULL) {
            *find_free(entries, room, map->entries[i].hash) = map->entries[i];
        }
    }
    free(map->entries);
    map->entries = entries;
    map->room = room;
    map->graves = 0;
}

void *ec_map_get(const struct ec_map *map, const char *key)
{
    struct entry *entry = find(map, key, hash_of(map, key, strlen(key)));
    return entry != NULL ? entry->value : NULL;
}

bool ec_map_put(struct ec_map *map, const char *key, void *value)
{
    uint64_t hash = hash_of(map, key, strlen(key));
    struct entry *entry = find(map, key, hash);
    if (entry != NULL) {
        entry->value = value;
        return true;
    }
    if (map->count >= map->max_entries) {
        return false;
    }
    rebuild_if_crowded(map);
    entry = find_free(map->entries, map->room, hash);
    map->graves -= entry->grave ? 1 : 0;
    *entry = (struct entry){.key = ec_strdup(key), .value = value, .hash = hash};
    map->count++;
    return true;
}

void *ec_map_remove(struct ec_map *map, const char *key)
{
    struct entry *entry = find(map, key, hash_of(map, key, strlen(key)));
    if (entry == NULL) {
        return NULL;
    }
    void *value = entry->value;
    free(entry->key);
    *entry = (struct entry){.grave = true};
    map->count--;
    map->graves++;
    return value;
}

size_t ec_map_count(const struct ec_map *map)
{
    return map->count;
}

bool ec_map_next(const struct ec_map *map, size_t *at, const char **key, void **value)
{
    for (; *at < map->room; (*at)++) {
        const struct entry *entry = &map->entries[*at];
        if (entry->key != NULL) {
            (*at)++;
            if (key != NULL) {
                *key = entry->key;
            }
            if (value != NULL) {
                *value = entry->value;
            }
            return true;
        }
    }
    return false;
}
