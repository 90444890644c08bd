/* Starting and stopping: schema, leader, listener, consumer; and the offsets that live in our
 * database. */
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"

extern const struct ec_migration pipeline_migrations[];
extern const size_t pipeline_migration_count;

static const char *const topics[] = {
    EC_TOPIC_INTAKE,         EC_TOPIC_REQUESTS,          EC_TOPIC_BUILD_EVENTS,  EC_TOPIC_BUILDERS,
    EC_TOPIC_RELEASE_EVENTS, EC_TOPIC_DEPLOYMENT_EVENTS, EC_TOPIC_DOMAIN_EVENTS, NULL,
};

/* ---- offsets ---- */

const struct ec_offset_table pipeline_offsets = {"enclii", PIPELINE_GROUP};

static void load_offsets(void *state, struct ec_offset *offsets, size_t count, void *token)
{
    struct pipeline *pl = state;
    ec_offsets_load(pl->store, &pipeline_offsets, offsets, count, token);
}

static void on_batch(void *state, struct ec_batch_in *batch)
{
    struct pipeline *pl = state;
    engine_batch(pl->engine, batch);
}

/* ---- start ---- */

static void on_outbox(void *arg)
{
    struct pipeline *pl = arg;
    relay_wake(pl->relay);
    engine_look(pl->engine); /* whoever writes facts may have queued a build */
}

static EC_RESULT consume(struct pipeline *pl)
{
    static struct ec_route routes[64];
    const char *member = pl->settings.member;
    size_t count = 0;
    for (; count < event_kind_count && count < EC_LEN(routes); count++) {
        routes[count] =
            (struct ec_route){event_kinds[count].type, event_kinds[count].descriptor, NULL};
    }
    return ec_bus_consume_batch(pl->bus,
                                &(struct ec_consume_batch_spec){
                                    .group = PIPELINE_GROUP,
                                    .topics = topics,
                                    .routes = routes,
                                    .route_count = count,
                                    .batch_max = PIPELINE_BATCH_MAX,
                                    .member = member && *member ? member : NULL,
                                    .state = pl,
                                    .load_offsets = load_offsets,
                                    .on_batch = on_batch,
                                },
                                &pl->consumer);
}

static void migrate(void *arg);

static void on_migrated(void *arg, struct ec_err err)
{
    struct pipeline *pl = arg;
    if (err.fate == EC_FATE_RETRY && !pl->stopping) {
        ec_log(EC_LOG_WARN, NULL, "schema.not_ready", "trying again", EC_ERR(err));
        ec_loop_defer(pl->loop, migrate, pl);
        return;
    }
    if (pl->stopping) {
        return;
    }
    pl->migrated = !ec_failed(err);
    if (!ec_failed(err)) {
        err =
            ec_leader_open(pl->loop, pl->store_spec, "enclii.pipeline", on_outbox, pl, &pl->leader);
    }
    if (!ec_failed(err)) {
        err = ec_listener_open(pl->loop, pl->store_spec, "enclii_outbox", on_outbox, pl,
                               &pl->listener);
    }
    if (!ec_failed(err)) {
        err = consume(pl);
    }
    if (ec_failed(err)) {
        pl->owner.failed(pl->owner.arg, err);
    }
}

static void migrate(void *arg)
{
    struct pipeline *pl = arg;
    struct ec_err err = ec_store_migrate(pl->store, "enclii", pipeline_migrations,
                                         pipeline_migration_count, on_migrated, pl);
    if (ec_failed(err)) {
        pl->owner.failed(pl->owner.arg, err);
    }
}

struct ec_err pipeline_start(struct pipeline *pl)
{
    pl->rules = (struct rules){
        .registry = pl->settings.registry,
        .attempts_max = (int32_t)pl->settings.attempts_max,
        .losses_max = (int32_t)pl->settings.losses_max,
        .builds_max = (int32_t)pl->settings.builds_max,
        .project_builds_max = (int32_t)pl->settings.project_builds_max,
        .silence_ms = pl->settings.silence_ms,
        .domain_issuer = pl->settings.domain_issuer,
        .skip_markers = pl->settings.skip_markers,
        .ci_timeout_ms = pl->settings.ci_timeout_ms,
    };
    pl->engine = engine_new(pl);
    pl->relay = relay_new(pl);
    pl->prune = prune_new(pl);
    ec_loop_defer(pl->loop, migrate, pl);
    return ec_ok();
}

/* ---- stop: the running batch, then the rows the broker has, then the lock ---- */

static void on_relay_stopped(void *arg)
{
    struct pipeline *pl = arg;
    ec_listener_close(EC_TAKE(pl->listener));
    ec_leader_close(EC_TAKE(pl->leader));
    relay_free(EC_TAKE(pl->relay));
    pl->owner.stopped(pl->owner.arg);
}

static void on_engine_stopped(void *arg)
{
    struct pipeline *pl = arg;
    relay_stop(pl->relay, on_relay_stopped, pl);
}

void pipeline_stop(struct pipeline *pl)
{
    pl->stopping = true;
    if (pl->consumer) {
        ec_consumer_pause(pl->consumer, true);
    }
    prune_stop(pl->prune);
    engine_stop(pl->engine, on_engine_stopped, pl);
}

void pipeline_free(struct pipeline *pl)
{
    engine_free(EC_TAKE(pl->engine));
    prune_free(EC_TAKE(pl->prune));
}
