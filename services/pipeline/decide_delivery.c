/* How the delivery of a new commit ends, whether a push or a pull request brought it: some service
 * builds it, or none does and there is a reason. One row, one fact for the ledger. */
#include "decide.h"

#include <string.h>

#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"

const char *delivery_own_id(struct ec_arena *arena, const char *repo_key, const char *id)
{
    return ec_arena_format(arena, "%.90s~%s", id, ec_id_derive(repo_key, id).text);
}

/* A host that names its deliveries as we do could name one as another repository's. */
static bool looks_own(const char *id)
{
    const char *tilde = strrchr(id, '~');
    return tilde && ec_id_valid(tilde + 1);
}

struct delivery *delivery_find(const struct world *world, const char *repo_key, const char *id)
{
    const char *ids[] = {id, delivery_own_id(world->arena, repo_key, id)};
    for (size_t i = 0; i < EC_LEN(ids); i++) {
        struct delivery *row = world_delivery(world, ids[i]);
        if (row && strcmp(row->repo_key, repo_key) == 0) {
            return row;
        }
    }
    return NULL;
}

const char *delivery_row_id(struct world *world, const char *repo_key, const char *id)
{
    return world_delivery(world, id) || looks_own(id) ? delivery_own_id(world->arena, repo_key, id)
                                                      : world_text(world, id);
}

Enclii__V1__DeliveryAccepted *delivery_fact(struct world *world)
{
    size_t services = ec_map_count(world->services);
    Enclii__V1__DeliveryAccepted *fact =
        world_message(world, &enclii__v1__delivery_accepted__descriptor);
    fact->services = ec_arena_alloc(world->arena, services * sizeof *fact->services + 1);
    fact->build_ids = ec_arena_alloc(world->arena, services * sizeof *fact->build_ids + 1);
    return fact;
}

void delivery_add_build(struct world *world, Enclii__V1__DeliveryAccepted *fact,
                        const struct build *build)
{
    fact->services[fact->n_services++] = world_service_ref(world, build->service);
    fact->build_ids[fact->n_build_ids++] = world_text(world, build->id);
}

static void tell(struct world *world, const struct delivery *row, const char *type,
                 const ProtobufCMessage *body)
{
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_INTAKE,
                                          .key = row->repo_key,
                                          .type = type,
                                          .subject = row->id,
                                          .body = body});
}

void delivery_accept(struct world *world, struct delivery *row, Enclii__V1__Commit *commit,
                     Enclii__V1__DeliveryAccepted *fact)
{
    world_touch(&row->mark);
    machine_move(&row->cell, DELIVERY_ACCEPTED, world->now_ms, 0);
    fact->delivery_id = world_text(world, row->id);
    fact->repo_key = world_text(world, row->repo_key);
    fact->commit = commit;
    fact->received_unix_ms = row->received_ms;
    tell(world, row, "dev.enclii.delivery.accepted.v1", &fact->base);
}

void delivery_ignore(struct world *world, struct delivery *row, Enclii__V1__Commit *commit,
                     const struct filter *filter)
{
    Enclii__V1__DeliveryIgnored *fact =
        world_message(world, &enclii__v1__delivery_ignored__descriptor);
    world_touch(&row->mark);
    machine_move(&row->cell, DELIVERY_IGNORED, world->now_ms, 0);
    row->reason = filter->rule;
    row->detail = filter->detail;
    fact->delivery_id = world_text(world, row->id);
    fact->repo_key = world_text(world, row->repo_key);
    fact->commit = commit;
    fact->reason = world_text(world, filter->rule);
    fact->detail = world_text(world, filter->detail);
    tell(world, row, "dev.enclii.delivery.ignored.v1", &fact->base);
    world_why(world, &(struct why){NULL, "delivery", row->id, filter->rule, "IGNORED"}, "%s",
              filter->detail);
}
