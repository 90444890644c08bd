/* A world of one project, made by hand: for tests of the deciders. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "decide.h"

#define PROJECT "00000000-0000-4000-8000-000000000001"
#define ENVIRONMENT "00000000-0000-4000-8000-000000000002"
#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NOW 1700000000000

/* Of all sequences of what can happen, the sanitizers see every so many: they are ten times slower,
 * and what they look for is the same in each. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEQUENCE_STEP 7
#else
#define SEQUENCE_STEP 1
#endif

static const struct rules test_rules = {
    "127.0.0.1:5000", 3, 5, 0, 0, 10000, "local", "[skip ci],[ci skip],[no ci]", 3600000};

static inline struct ec_span test_spec(struct world *world)
{
    Enclii__V1__ServiceSpec *spec = world_message(world, &enclii__v1__service_spec__descriptor);
    Enclii__V1__RouteSpec *route = world_message(world, &enclii__v1__route_spec__descriptor);
    spec->run = world_message(world, &enclii__v1__run_spec__descriptor);
    route->hostname = world_text(world, "shop.localhost");
    route->tls = true;
    spec->n_routes = 1;
    spec->routes = ec_arena_alloc(world->arena, sizeof *spec->routes);
    spec->routes[0] = route;
    return world_pack(world, &spec->base);
}

static inline struct service *test_service(struct world *world, int number, const char *project)
{
    return world_add_service(
        world, &(struct service){
                   .id = ec_arena_format(world->arena, "00000000-0000-4000-9000-%012d", number),
                   .project_id = world_text(world, project),
                   .project_slug = "acme",
                   .name = ec_arena_format(world->arena, "shop%d", number),
                   .repo_key = "h/acme/shop",
                   .repo_url = "http://h/acme/shop.git",
                   .branch = "main",
                   .environment = "production",
                   .auto_deploy = true,
                   .spec = test_spec(world)});
}

static inline struct world *test_world(void)
{
    struct world *world = world_new(&test_rules, NOW);
    world_add_environment(world, &(struct environment){.id = ENVIRONMENT,
                                                       .project_id = PROJECT,
                                                       .name = "production",
                                                       .target = "docker"});
    return world;
}

/* Runs an event as the engine does. cause NULL: a new id. */
static inline void test_event(struct world *world, const char *type, const char *cause_id,
                              const ProtobufCMessage *body)
{
    static int serial;
    char *name = ec_arena_format(world->arena, "dev.enclii.%s.v1", type);
    struct cause cause = {cause_id ? cause_id : ec_arena_format(world->arena, "event-%d", ++serial),
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "key"};
    const struct event_kind *kind = event_kind_find(name);
    if (!kind) {
        printf("no such event: %s\n", name);
        abort();
    }
    decide_event(world, kind, &cause, body);
}

static inline void test_push(struct world *world, const char *delivery, const char *sha)
{
    Enclii__V1__PushReceived *push = world_message(world, &enclii__v1__push_received__descriptor);
    push->head = world_message(world, &enclii__v1__commit__descriptor);
    push->head->sha = push->after = world_text(world, sha);
    push->ref = push->head->ref = world_text(world, "refs/heads/main");
    push->delivery_id = world_text(world, delivery);
    push->repo_key = world_text(world, "h/acme/shop");
    push->received_unix_ms = NOW;
    test_event(world, "push.received", ec_arena_format(world->arena, "push-%s", delivery),
               &push->base);
}
