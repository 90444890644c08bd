/* A push becomes builds, or is ignored with a reason. One delivery row per push, one decision per
 * service of the repository, one fact for the ledger: accepted (with the builds) or ignored. */
#include "decide.h"

#include <string.h>

#include "base/mem.h"
#include "base/metric.h"
#include "bus/topics.h"

/* What a build keeps of the commit's message; the host keeps the rest. */
#define MESSAGE_MAX_BYTES 4096
#define KEPT_PUSH_MAX_BYTES 8192

static struct ec_metric deliveries =
    EC_COUNTER("enclii_deliveries_total", "Push deliveries by what became of them.", "outcome");

struct filter decide_paths(struct world *world, struct service *svc, char *const *paths,
                           size_t count)
{
    const Enclii__V1__ServiceSpec *spec = world_service_spec(world, svc);
    bool wanted = spec->n_watch_paths == 0;
    for (size_t i = 0; i < count && !wanted; i++) {
        wanted = paths_match(spec->watch_paths, spec->n_watch_paths, paths[i]);
    }
    if (wanted) {
        return (struct filter){NULL, NULL};
    }
    return (struct filter){"paths_not_watched",
                           ec_arena_format(world->arena,
                                           "none of the %zu changed files is under a watched path",
                                           count)};
}

static struct filter filter_paths(struct world *world, struct service *svc,
                                  const Enclii__V1__PushReceived *push)
{
    if (!push->changed_paths_complete || push->created) {
        return (struct filter){NULL, NULL}; /* the list does not say all that changed: build */
    }
    return decide_paths(world, svc, push->changed_paths, push->n_changed_paths);
}

static struct filter filter_service(struct world *world, struct service *svc,
                                    const Enclii__V1__PushReceived *push)
{
    if (!decide_branch(svc->branch, push->ref)) {
        return (struct filter){"branch_not_watched",
                               ec_arena_format(world->arena, "%s was pushed, the service builds %s",
                                               push->ref, svc->branch)};
    }
    for (const struct build *build = svc->first_build; build; build = build->next_of_service) {
        if (!machine_ended(&build->cell) && strcmp(build->commit_sha, push->after) == 0 &&
            strcmp(build->ref, push->ref) == 0) {
            return (struct filter){
                "already_building",
                ec_arena_format(world->arena, "build %s works on this commit", build->id)};
        }
    }
    return filter_paths(world, svc, push);
}

/* What holds for every service: the push itself says that there is nothing to build. */
static struct filter filter_push(struct world *world, const Enclii__V1__PushReceived *push)
{
    if (push->deleted) {
        return (struct filter){"ref_deleted",
                               ec_arena_format(world->arena, "%s was deleted", push->ref)};
    }
    const char *message = *push->message ? push->message : push->head->message;
    const char *marker = decide_skip_marker(world->arena, world->rules->skip_markers, message);
    if (marker) {
        return (struct filter){"skip_marker",
                               ec_arena_format(world->arena, "the commit message says %s", marker)};
    }
    return (struct filter){NULL, NULL};
}

void push_ignore(struct world *world, struct delivery *row, const Enclii__V1__PushReceived *push,
                 const struct filter *filter)
{
    delivery_ignore(world, row, push->head, filter);
    ec_metric_add(&deliveries, "ignored", 1);
}

/* At most max_bytes of a text, not in the middle of a character. */
static char *cut_text(struct world *world, const char *text, size_t max_bytes)
{
    char *copy = world_text(world, text);
    size_t len = strlen(copy);
    if (len > max_bytes) {
        for (len = max_bytes; len > 0 && ((unsigned char)copy[len] & 0xc0) == 0x80; len--) {
        }
        copy[len] = 0;
    }
    return copy;
}

static void build_service(struct world *world, struct service *svc,
                          const Enclii__V1__PushReceived *push, Enclii__V1__DeliveryAccepted *fact)
{
    Enclii__V1__Actor *actor = world_message(world, &enclii__v1__actor__descriptor);
    actor->kind = ENCLII__V1__ACTOR_KIND__ACTOR_KIND_GIT;
    actor->name = push->pusher;
    Enclii__V1__Commit commit = *push->head;
    commit.ref = push->ref;
    commit.sha = push->after;
    commit.message = cut_text(world, push->head->message, MESSAGE_MAX_BYTES);
    const struct build *build =
        decide_new_build(world, &(struct build_order){
                                    .service = svc,
                                    .commit = &commit,
                                    .actor = actor,
                                    .delivery_id = push->delivery_id,
                                    .priority = PRIORITY_PUSH,
                                    .push_received_ms = push->received_unix_ms,
                                    .wait_for_ci = world_service_spec(world, svc)->wait_for_ci,
                                });
    delivery_add_build(world, fact, build);
}

/* What it takes to deliver it again. A long list of paths is left out: a push without one builds.
 */
static struct ec_span keep_push(struct world *world, const Enclii__V1__PushReceived *push)
{
    Enclii__V1__PushReceived kept = *push;
    if (protobuf_c_message_get_packed_size(&push->base) > KEPT_PUSH_MAX_BYTES) {
        kept.n_changed_paths = 0;
        kept.changed_paths_complete = false;
    }
    return world_pack(world, &kept.base);
}

static struct delivery *new_delivery(struct world *world, const Enclii__V1__PushReceived *push)
{
    struct delivery row = {
        .id = world_text(world, push->delivery_id),
        .repo_key = world_text(world, push->repo_key),
        .ref = world_text(world, push->ref),
        .commit_sha = world_text(world, push->deleted ? push->before : push->after),
        .pusher = world_text(world, push->pusher),
        .reason = "",
        .detail = "",
        .trace = world_text(world, world->cause.trace),
        .host = world_text(world, push->host),
        .event = "push",
        .action = "",
        .push = keep_push(world, push),
        .recovered = push->recovered,
        .received_ms = push->received_unix_ms ? push->received_unix_ms : world->now_ms,
        .mark = ROW_NEW,
    };
    machine_begin(&row.cell, MACHINE_DELIVERY, world->now_ms);
    return world_add_delivery(world, &row);
}

/* Builds what each service of the repository wants of it; gives the reason when none wants any. */
static struct filter fan_out(struct world *world, const Enclii__V1__PushReceived *push,
                             Enclii__V1__DeliveryAccepted *fact)
{
    struct filter reason = {"no_service", "no service is bound to this repository"};
    for (struct service *svc = world->first_service; svc && !world_too_large(world);
         svc = svc->next) {
        if (strcmp(svc->repo_key, push->repo_key) != 0 || svc->removed) {
            continue;
        }
        struct filter filter = filter_service(world, svc, push);
        if (!filter.rule) {
            build_service(world, svc, push, fact);
            continue;
        }
        reason = filter;
        world_why(world,
                  &(struct why){svc->id, "delivery", push->delivery_id, filter.rule, "not built"},
                  "%s", filter.detail);
    }
    return reason;
}

void push_take(struct world *world, struct delivery *row, const Enclii__V1__PushReceived *push)
{
    Enclii__V1__DeliveryAccepted *fact = delivery_fact(world);
    struct filter filter = fan_out(world, push, fact);
    if (fact->n_services == 0) {
        push_ignore(world, row, push, &filter);
        return;
    }
    row->reason = row->detail = ""; /* it may have waited for something */
    delivery_accept(world, row, push->head, fact);
    ec_metric_add(&deliveries, "accepted", 1);
}

void decide_push(struct world *world, const void *body)
{
    Enclii__V1__PushReceived seen = *(const Enclii__V1__PushReceived *)body;
    const Enclii__V1__PushReceived *push = &seen;
    struct delivery *row = delivery_find(world, push->repo_key, push->delivery_id);
    if (row) { /* the host sent it again: its builds are under way or done */
        row->duplicates++;
        world_touch(&row->mark);
        world_why(world,
                  &(struct why){NULL, "delivery", row->id, "duplicate_delivery", "DUPLICATE"},
                  "this delivery was handled before and is %s", machine_text(&row->cell));
        ec_metric_add(&deliveries, "duplicate", 1);
        return;
    }
    seen.delivery_id =
        ec_arena_strdup(world->arena, delivery_row_id(world, push->repo_key, push->delivery_id));
    row = new_delivery(world, push);
    decide_identity(world, push);
    struct filter filter = decide_news(world, push);
    if (!filter.rule) {
        filter = filter_push(world, push);
    }
    if (filter.rule) {
        push_ignore(world, row, push, &filter);
        return;
    }
    if (!decide_compare_waits(world, row, &seen)) {
        push_take(world, row, &seen);
    }
}
