/* What hosts say besides pushes: a row of the ledger for each delivery, so that "what came of it"
 * has an answer; and repositories that move, whose services follow them by the host's own id. */
#include <string.h>

#include "base/mem.h"
#include "bus/topics.h"
#include "decide.h"
#include "enclii/v1/repo.pb-c.h"

/* Every message of a host begins with what deliveries have in common. */
static const Enclii__V1__DeliveryInfo *info_of(const void *body)
{
    const ProtobufCMessage *message = body;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, "delivery");
    return *(Enclii__V1__DeliveryInfo *const *)((const char *)body + field->offset);
}

struct delivery *decide_ledger(struct world *world, const Enclii__V1__DeliveryInfo *info,
                               uint8_t state, const char *reason, const char *detail)
{
    struct delivery *old = delivery_find(world, info->repo_key, info->delivery_id);
    if (old) {
        old->duplicates++;
        world_touch(&old->mark);
        return NULL;
    }
    struct delivery row = {.id = delivery_row_id(world, info->repo_key, info->delivery_id),
                           .repo_key = world_text(world, info->repo_key),
                           .ref = "",
                           .commit_sha = "",
                           .pusher = world_text(world, info->sender),
                           .reason = world_text(world, reason),
                           .detail = world_text(world, detail),
                           .trace = world_text(world, world->cause.trace),
                           .host = world_text(world, info->host),
                           .event = world_text(world, info->event),
                           .action = world_text(world, info->action),
                           .received_ms =
                               info->received_unix_ms ? info->received_unix_ms : world->now_ms,
                           .mark = ROW_NEW};
    machine_begin(&row.cell, MACHINE_DELIVERY, world->now_ms);
    machine_move(&row.cell, state, world->now_ms, 0);
    return world_add_delivery(world, &row);
}

void decide_host_event(struct world *world, const void *body)
{
    const ProtobufCMessage *message = body;
    if (message->descriptor == &enclii__v1__delivery_received__descriptor) {
        const Enclii__V1__DeliveryReceived *word = body;
        decide_ledger(world, word->delivery, DELIVERY_IGNORED, word->reason, word->detail);
        return;
    }
    decide_ledger(world, info_of(body), DELIVERY_ACCEPTED, "",
                  ec_arena_format(world->arena, "told as %s on %s", message->descriptor->short_name,
                                  EC_TOPIC_INTAKE));
}

void decide_refused(struct world *world, const void *body)
{
    world_add_refusal(world, body);
}

/* ---- repositories that move ---- */

static ProtobufCBinaryData sealed(struct ec_span bytes)
{
    return (ProtobufCBinaryData){bytes.len, (uint8_t *)(uintptr_t)bytes.ptr};
}

static void bind(struct world *world, const struct repo *repo)
{
    Enclii__V1__RepoBound *fact = world_message(world, &enclii__v1__repo_bound__descriptor);
    fact->repo_key = world_text(world, repo->repo_key);
    fact->clone_url = world_text(world, repo->clone_url);
    fact->full_name = world_text(world, repo->full_name);
    fact->host_repo_id = world_text(world, repo->host_repo_id);
    fact->sealed_secret = sealed(repo->sealed_secret);
    fact->sealed_previous_secret = sealed(repo->sealed_previous_secret);
    fact->sealed_for = world_text(world, repo->sealed_for);
    fact->hook_id = world_text(world, repo->hook_id);
    fact->renamed_from = world_text(world, repo->renamed_from);
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_REPOS,
                                          .key = repo->repo_key,
                                          .type = "dev.enclii.repo.bound.v1",
                                          .distinct = repo->repo_key,
                                          .body = &fact->base});
}

static size_t follow(struct world *world, const char *old_key, const struct repo *repo)
{
    size_t count = 0;
    for (struct service *svc = world->first_service; svc; svc = svc->next) {
        if (svc->removed || strcmp(svc->repo_key, old_key) != 0) {
            continue;
        }
        Enclii__V1__ServiceSpec *spec = world_spec(world, svc->spec);
        spec->repo_url = world_text(world, repo->clone_url);
        world_respec(world, svc, spec);
        svc->repo_key = repo->repo_key;
        svc->repo_url = repo->clone_url;
        world_why(
            world,
            &(struct why){svc->id, "delivery", world->cause.id, "repository_moved", "followed"},
            "the repository %s is now %s", old_key, repo->repo_key);
        count++;
    }
    return count;
}

/* What waits for something waits under the new name. */
static void follow_deliveries(struct world *world, const char *old_key, const char *new_key)
{
    for (struct delivery *row = world->first_delivery; row; row = row->next) {
        row->repo_key = strcmp(row->repo_key, old_key) == 0 ? new_key : row->repo_key;
    }
}

/* Somebody bound the repository by its new name already: what was set there, by the api, stays. */
static void keep_secrets(struct repo *row, const struct repo *there)
{
    row->sealed_secret = there->sealed_secret;
    row->sealed_previous_secret = there->sealed_previous_secret;
    row->sealed_for = there->sealed_for;
    row->hook_id = there->hook_id;
}

/* The services go where the repository went; deliveries under the old name are then unknown. */
static void move(struct world *world, const char *old_key, const struct repo *to)
{
    const struct repo *there = world_repo(world, to->repo_key);
    struct repo row = *to;
    if (there) {
        keep_secrets(&row, there);
    }
    row.renamed_from = world_text(world, old_key);
    row.mark = ROW_CHANGED;
    if (follow(world, old_key, &row) == 0) {
        return;
    }
    follow_deliveries(world, old_key, row.repo_key);
    struct repo *repo = world_add_repo(world, &row);
    *repo = (struct repo){.repo_key = repo->repo_key,
                          .host_repo_id = row.host_repo_id,
                          .clone_url = row.clone_url,
                          .full_name = row.full_name,
                          .sealed_secret = row.sealed_secret,
                          .sealed_previous_secret = row.sealed_previous_secret,
                          .sealed_for = row.sealed_for,
                          .hook_id = row.hook_id,
                          .renamed_from = row.renamed_from,
                          .mark = ROW_CHANGED,
                          .next = repo->next};
    bind(world, repo);
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_REPOS,
                                          .key = world_text(world, old_key),
                                          .type = "dev.enclii.repo.bound.v1",
                                          .distinct = old_key});
}

/* Services that build the default branch go on doing so under its new name. */
static void follow_branch(struct world *world, const Enclii__V1__RepositoryChanged *change)
{
    for (struct service *svc = world->first_service; svc; svc = svc->next) {
        if (svc->removed || strcmp(svc->repo_key, change->new_repo_key) != 0 ||
            strcmp(svc->branch, change->old_default_branch) != 0 || !*change->default_branch) {
            continue;
        }
        Enclii__V1__ServiceSpec *spec = world_spec(world, svc->spec);
        spec->branch = world_text(world, change->default_branch);
        world_respec(world, svc, spec);
        svc->branch = spec->branch;
        world_why(world,
                  &(struct why){svc->id, "delivery", world->cause.id, "default_branch_renamed",
                                "followed"},
                  "the default branch %s is now %s; say so in enclii.yaml too",
                  change->old_default_branch, change->default_branch);
    }
}

void decide_repository(struct world *world, const void *body)
{
    const Enclii__V1__RepositoryChanged *change = body;
    const Enclii__V1__DeliveryInfo *info = change->delivery;
    const struct repo *known = world_repo(world, info->repo_key);
    decide_ledger(world, info, DELIVERY_ACCEPTED, "",
                  ec_arena_format(world->arena, "the repository was %s", info->action));
    bool same = !known || !*known->host_repo_id || !*info->host_repo_id ||
                strcmp(known->host_repo_id, info->host_repo_id) == 0;
    if (*change->new_repo_key && strcmp(change->new_repo_key, info->repo_key) != 0 && same) {
        const struct repo none = {.sealed_for = "", .hook_id = ""};
        struct repo to = known ? *known : none;
        to.next = NULL;
        to.repo_key = world_text(world, change->new_repo_key);
        to.host_repo_id = world_text(world, info->host_repo_id);
        to.clone_url = world_text(world, change->new_clone_url);
        to.full_name = world_text(world, change->new_full_name);
        if (to.sealed_secret.len > 0 && !*to.sealed_for) {
            to.sealed_for = world_text(world, info->repo_key);
        }
        move(world, info->repo_key, &to);
    }
    if (*change->old_default_branch) {
        follow_branch(world, change);
    }
}

void decide_identity(struct world *world, const Enclii__V1__PushReceived *push)
{
    struct repo *repo = world_repo(world, push->repo_key);
    if (!*push->host_repo_id || (repo && *repo->host_repo_id)) {
        return;
    }
    if (!repo) {
        repo = world_add_repo(world, &(struct repo){.repo_key = world_text(world, push->repo_key),
                                                    .sealed_for = "",
                                                    .hook_id = "",
                                                    .renamed_from = ""});
    }
    repo->host_repo_id = world_text(world, push->host_repo_id);
    repo->clone_url = world_text(world, push->clone_url);
    repo->full_name = world_text(world, push->repo_full_name);
    repo->mark = ROW_CHANGED;
    bind(world, repo);
}
