/* pipeline's one state. Everything that happens goes one way: events (or what the leader found) →
 * read the rows they touch (load.c) → decide in memory (decide_*.c) → write all of it with the
 * offsets in one transaction (commit.c). The relay publishes the outbox; the leader alone runs
 * queue, reaper, relay. */
#pragma once

#include "bus/bus.h"
#include "decide.h"
#include "net/loop.h"
#include "service/offsets.h"
#include "service/service.h"
#include "store/leader.h"

#define PIPELINE_GROUP "pipeline"
extern const struct ec_offset_table pipeline_offsets;
#define PIPELINE_BATCH_MAX 1000

struct pipeline_settings {
    const char *registry;       /* where builders push */
    int64_t attempts_max;       /* of one build */
    int64_t losses_max;         /* of its builders */
    int64_t builds_max;         /* at once; 0 = no limit */
    int64_t project_builds_max; /* at once per project; 0 = no limit */
    int64_t silence_ms;         /* after which a builder counts as gone */
    const char *domain_issuer;
    const char *skip_markers; /* parted by commas */
    int64_t ci_timeout_ms;    /* a push waits so long for the host's CI */
    const char *member;       /* of the consumer group; "" = a new one each time */
    /* How long rows about the past are kept; 0 = for ever. */
    int64_t keep_seen_ms, keep_deliveries_ms, keep_decisions_ms, keep_logs_ms, keep_audit_ms;
};

struct engine;
struct relay;
struct prune;

struct pipeline {
    struct pipeline_settings settings;
    struct rules rules;   /* the settings as the deciders see them */
    struct ec_loop *loop; /* these four are the owner's */
    struct ec_bus *bus;
    struct ec_store *store;
    const struct ec_store_spec *store_spec;
    struct ec_owner owner; /* of this struct: told when it fails, and when it has stopped */
    bool stopping;
    struct engine *engine;
    struct relay *relay;
    struct prune *prune;
    struct ec_leader *leader;     /* of queue, reaper and relay */
    struct ec_listener *listener; /* somebody wrote to the outbox */
    struct ec_consumer *consumer;
    bool migrated; /* the schema is in place; before that nothing is consumed */
};

/* ---- pipeline.c ---- */
/* Once the owner's fields and the settings are there. */
EC_RESULT pipeline_start(struct pipeline *pl);
/* Ends in order, then calls stopped. The engine stays until pipeline_free. */
void pipeline_stop(struct pipeline *pl);
void pipeline_free(struct pipeline *pl); /* after the bus has closed */

/* ---- engine.c: one batch or one look of the leader at a time ---- */
struct engine *engine_new(struct pipeline *pl);
void engine_free(struct engine *engine); /* only when engine_idle; accepts NULL */
bool engine_idle(const struct engine *engine);
/* Takes the batch: owes ec_batch_in_finish. */
void engine_batch(struct engine *engine, struct ec_batch_in *batch);
/* The leader should look for overdue rows and waiting builds, soon. */
void engine_look(struct engine *engine);
/* No new work begins; `stopped` is called once the running one has ended. */
void engine_stop(struct engine *engine, ec_call_fn stopped, void *arg);

/* ---- relay.c: outbox → Kafka ---- */
struct relay *relay_new(struct pipeline *pl);
void relay_free(struct relay *relay); /* only when relay_idle; accepts NULL */
bool relay_idle(const struct relay *relay);
void relay_wake(struct relay *relay); /* there may be rows */
void relay_stop(struct relay *relay, ec_call_fn stopped, void *arg);

/* ---- prune.c: retention, on the leader ---- */
struct prune *prune_new(struct pipeline *pl);
void prune_stop(struct prune *prune);
void prune_free(struct prune *prune); /* after the store has closed; accepts NULL */
