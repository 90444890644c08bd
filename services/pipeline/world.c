/* Rows of one batch in memory: maps by id for finding, lists in order for writing, chains per
 * service for deciding. No SQL here and no rules: load.c fills a world, decide_*.c change it,
 * commit.c writes. */
#include "world.h"

#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/mem.h"

#define DETAIL_MAX_BYTES 2000

static void *arena_alloc(void *arena, size_t size_bytes)
{
    return ec_arena_try(arena, size_bytes);
}

static void arena_free(void *arena, void *memory)
{
    (void)arena;
    (void)memory; /* dies with the arena */
}

static struct ec_map **maps_of(struct world *world, size_t at)
{
    struct ec_map **maps[] = {&world->services, &world->environments, &world->builds,
                              &world->releases, &world->deployments,  &world->desireds,
                              &world->domains,  &world->deliveries,   &world->builders,
                              &world->inbox,    &world->repos,        &world->refs};
    return at < EC_LEN(maps) ? maps[at] : NULL;
}

struct world *world_new(const struct rules *rules, int64_t now_ms)
{
    struct ec_arena *arena = ec_arena_new(WORLD_ARENA_MAX_BYTES);
    struct world *world = ec_arena_alloc(arena, sizeof *world);
    world->arena = arena;
    world->allocator = (ProtobufCAllocator){arena_alloc, arena_free, arena};
    world->rules = rules;
    world->now_ms = now_ms;
    world->cause = (struct cause){"", "", ""};
    for (size_t i = 0; maps_of(world, i); i++) {
        *maps_of(world, i) = ec_map_new(WORLD_ROWS_MAX);
    }
    world->service_end = &world->first_service;
    world->environment_end = &world->first_environment;
    world->build_end = &world->first_build;
    world->release_end = &world->first_release;
    world->deployment_end = &world->first_deployment;
    world->desired_end = &world->first_desired;
    world->domain_end = &world->first_domain;
    world->delivery_end = &world->first_delivery;
    world->builder_end = &world->first_builder;
    world->refusal_end = &world->first_refusal;
    world->repo_end = &world->first_repo;
    world->ref_end = &world->first_ref;
    world->fact_end = &world->first_fact;
    world->decision_end = &world->first_decision;
    world->seen_end = &world->first_seen;
    return world;
}

bool world_too_large(const struct world *world)
{
    return ec_arena_used_bytes(world->arena) > WORLD_MAX_BYTES;
}

void world_free(struct world *world)
{
    if (!world) {
        return;
    }
    for (size_t i = 0; maps_of(world, i); i++) {
        ec_map_free(*maps_of(world, i), NULL);
    }
    ec_arena_free(world->arena);
}

void world_freep(struct world **world)
{
    world_free(*world);
}

/* ---- adding ---- */

/* Gives the row that has this key: the one there, or a copy of `row` (then *ret_added). */
static void *put_row(struct world *world, struct ec_map *map, const char *key,
                     const struct ec_span *row, bool *ret_added)
{
    void *found = ec_map_get(map, key);
    *ret_added = !found;
    if (found) {
        return found;
    }
    void *copy = ec_arena_alloc(world->arena, row->len);
    memcpy(copy, row->ptr, row->len);
    ec_map_put(map, key, copy);
    return copy;
}

#define ROW_BYTES(row) (&(struct ec_span){(const char *)(row), sizeof *(row)})

struct service *world_add_service(struct world *world, const struct service *row)
{
    bool added;
    struct service *copy = put_row(world, world->services, row->id, ROW_BYTES(row), &added);
    if (added) {
        *world->service_end = copy;
        world->service_end = &copy->next;
    }
    return copy;
}

struct environment *world_add_environment(struct world *world, const struct environment *row)
{
    bool added;
    struct environment *copy = put_row(world, world->environments, row->id, ROW_BYTES(row), &added);
    if (added) {
        *world->environment_end = copy;
        world->environment_end = &copy->next;
    }
    return copy;
}

struct build *world_add_build(struct world *world, const struct build *row)
{
    bool added;
    struct build *copy = put_row(world, world->builds, row->id, ROW_BYTES(row), &added);
    if (added) {
        copy->next_of_service = copy->service->first_build;
        copy->service->first_build = copy;
        *world->build_end = copy;
        world->build_end = &copy->next;
    }
    return copy;
}

struct release *world_add_release(struct world *world, const struct release *row)
{
    bool added;
    struct release *copy = put_row(world, world->releases, row->id, ROW_BYTES(row), &added);
    if (added) {
        copy->next_of_service = copy->service->first_release;
        copy->service->first_release = copy;
        *world->release_end = copy;
        world->release_end = &copy->next;
    }
    return copy;
}

struct deployment *world_add_deployment(struct world *world, const struct deployment *row)
{
    bool added;
    struct deployment *copy = put_row(world, world->deployments, row->id, ROW_BYTES(row), &added);
    if (added) {
        copy->next_of_service = copy->service->first_deployment;
        copy->service->first_deployment = copy;
        *world->deployment_end = copy;
        world->deployment_end = &copy->next;
    }
    return copy;
}

static char *desired_key(struct ec_arena *arena, const char *service_id, const char *environment_id)
{
    return ec_arena_format(arena, "%s:%s", service_id, environment_id);
}

struct desired *world_add_desired(struct world *world, const struct desired *row)
{
    bool added;
    char *key = desired_key(world->arena, row->service->id, row->environment_id);
    struct desired *copy = put_row(world, world->desireds, key, ROW_BYTES(row), &added);
    if (added) {
        copy->next_of_service = copy->service->first_desired;
        copy->service->first_desired = copy;
        *world->desired_end = copy;
        world->desired_end = &copy->next;
    }
    return copy;
}

struct domain *world_add_domain(struct world *world, const struct domain *row)
{
    bool added;
    struct domain *copy = put_row(world, world->domains, row->hostname, ROW_BYTES(row), &added);
    if (!added) {
        return copy;
    }
    if (copy->service) {
        copy->next_of_service = copy->service->first_domain;
        copy->service->first_domain = copy;
    }
    *world->domain_end = copy;
    world->domain_end = &copy->next;
    return copy;
}

struct delivery *world_add_delivery(struct world *world, const struct delivery *row)
{
    bool added;
    struct delivery *copy = put_row(world, world->deliveries, row->id, ROW_BYTES(row), &added);
    if (added) {
        *world->delivery_end = copy;
        world->delivery_end = &copy->next;
    }
    return copy;
}

struct builder *world_add_builder(struct world *world, const struct builder *row)
{
    bool added;
    struct builder *copy = put_row(world, world->builders, row->id, ROW_BYTES(row), &added);
    if (added) {
        *world->builder_end = copy;
        world->builder_end = &copy->next;
    }
    return copy;
}

struct repo *world_add_repo(struct world *world, const struct repo *row)
{
    bool added;
    struct repo *copy = put_row(world, world->repos, row->repo_key, ROW_BYTES(row), &added);
    if (added) {
        *world->repo_end = copy;
        world->repo_end = &copy->next;
    }
    return copy;
}

static char *ref_key(struct ec_arena *arena, const char *repo_key, const char *ref)
{
    return ec_arena_format(arena, "%s\n%s", repo_key, ref);
}

struct git_ref *world_add_ref(struct world *world, const struct git_ref *row)
{
    bool added;
    char *key = ref_key(world->arena, row->repo_key, row->ref);
    struct git_ref *copy = put_row(world, world->refs, key, ROW_BYTES(row), &added);
    if (added) {
        *world->ref_end = copy;
        world->ref_end = &copy->next;
    }
    return copy;
}

void world_add_refusal(struct world *world, const Enclii__V1__DeliveryRefused *fact)
{
    struct refusal *row = ec_arena_alloc(world->arena, sizeof *row);
    row->fact = fact;
    *world->refusal_end = row;
    world->refusal_end = &row->next;
}

/* ---- finding ---- */

struct git_ref *world_ref(const struct world *world, const char *repo_key, const char *ref)
{
    return ec_map_get(world->refs, ref_key(world->arena, repo_key, ref));
}

struct repo *world_repo(const struct world *world, const char *repo_key)
{
    return ec_map_get(world->repos, repo_key);
}

struct service *world_service(const struct world *world, const char *id)
{
    return ec_map_get(world->services, id);
}

struct build *world_build(const struct world *world, const char *id)
{
    return ec_map_get(world->builds, id);
}

struct release *world_release(const struct world *world, const char *id)
{
    return ec_map_get(world->releases, id);
}

struct deployment *world_deployment(const struct world *world, const char *id)
{
    return ec_map_get(world->deployments, id);
}

struct desired *world_desired(const struct world *world, const char *service_id,
                              const char *environment_id)
{
    return ec_map_get(world->desireds, desired_key(world->arena, service_id, environment_id));
}

struct domain *world_domain(const struct world *world, const char *hostname)
{
    return ec_map_get(world->domains, hostname);
}

struct delivery *world_delivery(const struct world *world, const char *id)
{
    return ec_map_get(world->deliveries, id);
}

struct builder *world_builder(const struct world *world, const char *id)
{
    return ec_map_get(world->builders, id);
}

struct environment *world_environment(const struct world *world, const char *id)
{
    return ec_map_get(world->environments, id);
}

struct environment *world_environment_named(const struct world *world, const char *project_id,
                                            const char *name)
{
    for (struct environment *env = world->first_environment; env; env = env->next) {
        if (strcmp(env->project_id, project_id) == 0 && strcmp(env->name, name) == 0) {
            return env;
        }
    }
    return NULL;
}

struct deployment *world_open_deployment(const struct service *service, const char *environment_id)
{
    for (struct deployment *dep = service->first_deployment; dep; dep = dep->next_of_service) {
        if (strcmp(dep->environment_id, environment_id) == 0 && !machine_ended(&dep->cell)) {
            return dep;
        }
    }
    return NULL;
}

void world_touch(enum row_mark *mark)
{
    if (*mark == ROW_CLEAN) {
        *mark = ROW_CHANGED;
    }
}

bool world_saw(const struct world *world, const char *event_id)
{
    return ec_map_get(world->inbox, event_id) != NULL;
}

void world_see(struct world *world, const char *event_id)
{
    struct seen *seen = ec_arena_alloc(world->arena, sizeof *seen);
    seen->event_id = ec_arena_strdup(world->arena, event_id);
    *world->seen_end = seen;
    world->seen_end = &seen->next;
    world->seen_count++;
    ec_map_put(world->inbox, event_id, seen);
}

/* ---- what comes out ---- */

void world_fact(struct world *world, const struct fact_spec *spec)
{
    const char *subject = spec->subject ? spec->subject : spec->key;
    char *step = ec_arena_format(world->arena, "%s/%s/%s", spec->type, subject,
                                 spec->distinct ? spec->distinct : "");
    struct ec_id id = ec_id_derive(world->cause.id, step);
    struct fact *fact = ec_arena_alloc(world->arena, sizeof *fact);
    fact->topic = spec->topic;
    fact->key = ec_arena_strdup(world->arena, spec->key);
    fact->type = spec->type;
    fact->subject = ec_arena_strdup(world->arena, subject);
    fact->event_id = ec_arena_strdup(world->arena, id.text);
    fact->trace = ec_arena_strdup(world->arena, spec->trace ? spec->trace : world->cause.trace);
    fact->tombstone = !spec->body;
    if (spec->body) {
        fact->body = world_pack(world, spec->body);
    }
    *world->fact_end = fact;
    world->fact_end = &fact->next;
    world->fact_count++;
}

void world_why(struct world *world, const struct why *why, const char *format, ...)
{
    char detail[DETAIL_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    struct decision *decision = ec_arena_alloc(world->arena, sizeof *decision);
    decision->service_id = ec_arena_strdup(world->arena, why->service_id ? why->service_id : "");
    decision->subject_kind = why->kind;
    decision->subject_id = ec_arena_strdup(world->arena, why->id);
    decision->rule = why->rule;
    decision->outcome = why->outcome;
    decision->detail = ec_arena_strdup(world->arena, detail);
    *world->decision_end = decision;
    world->decision_end = &decision->next;
    world->decision_count++;
}
