/* The hub: one reader per api process follows the topics with live facts, keeps the last
 * HUB_RING_MAX of them as JSON and hands each to the open streams (events.c), and log lines to
 * those who follow them. Facts about hosts and repositories carry no service: their services are
 * looked up first. */
#include "hub.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/catalog.h"
#include "bus/topics.h"
#include "enclii/v1/app_log.pb-c.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/domain.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/notification.pb-c.h"
#include "enclii/v1/release.pb-c.h"

#define TAIL_MS (10 * 60 * 1000)

struct hub_follower {
    char id[EC_ID_SIZE]; /* of the build or the reader */
    hub_log_fn fn;
    void *arg;
    struct hub_follower *next;
};

/* ---- followers of log lines ---- */

struct hub_follower *hub_follow_logs(struct hub *hub, const char *id, hub_log_fn fn, void *arg)
{
    struct hub_follower *follower = ec_alloc(sizeof(*follower));
    snprintf(follower->id, sizeof(follower->id), "%s", id);
    follower->fn = fn;
    follower->arg = arg;
    follower->next = hub->followers;
    hub->followers = follower;
    return follower;
}

void hub_unfollow(struct hub *hub, struct hub_follower *follower)
{
    for (struct hub_follower **at = &hub->followers; *at; at = &(*at)->next) {
        if (*at == follower) {
            *at = follower->next;
            free(follower);
            return;
        }
    }
}

static void tell_followers(struct hub *hub, const char *id, const void *log)
{
    struct hub_follower *next = NULL;
    for (struct hub_follower *at = hub->followers; at; at = next) {
        next = at->next; /* it may leave while being told */
        if (strcmp(at->id, id) == 0) {
            at->fn(at->arg, log);
        }
    }
}

/* ---- the ring ---- */

struct hub_event *hub_at(const struct hub *hub, size_t index)
{
    return hub->ring[(hub->first + index) % HUB_RING_MAX];
}

static void event_free(struct hub_event *event)
{
    free(event->json);
    free(event->own_json);
    free(event->services);
    free(event);
}

/* A fact without a commit has that of the newest fact about the same build, release or deployment.
 */
static void find_commit(const struct hub *hub, struct hub_event *event)
{
    for (size_t i = hub->count; i-- > 0 && !event->commit[0];) {
        const struct hub_event *older = hub_at(hub, i);
        for (size_t s = 0; s < EC_LEN(event->subject); s++) {
            if (event->subject[s][0] && strcmp(event->subject[s], older->subject[s]) == 0) {
                memcpy(event->commit, older->commit, sizeof(event->commit));
            }
        }
    }
}

/* takes the event */
static void ring_add(struct hub *hub, struct hub_event *event)
{
    if (hub->count == HUB_RING_MAX) {
        event_free(hub_at(hub, 0));
        hub->first = (hub->first + 1) % HUB_RING_MAX;
        hub->count--;
    }
    hub->ring[(hub->first + hub->count++) % HUB_RING_MAX] = event;
    streams_tell(hub, event);
}

/* ---- from Kafka ---- */

/* "dev.enclii.build.queued.v1" → "build.queued" */
static const char *short_type(struct ec_arena *arena, const char *type)
{
    const char *prefix = "dev.enclii.";
    type += strncmp(type, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0;
    size_t len = strlen(type);
    return ec_arena_text(arena, (struct ec_span){type, len > 3 ? len - 3 : len});
}

static struct hub_event *new_event(const struct ec_event *ev, const json_t *fields)
{
    struct hub_event *event = ec_alloc(sizeof(*event));
    snprintf(event->id, sizeof(event->id), "%s-%d-%lld", ec_event_topic(ev), ec_event_partition(ev),
             (long long)ec_event_offset(ev));
    event->unix_ms = ec_event_time_unix_ms(ev);
    const char *commit = ec_json_text(fields, "commit.sha");
    if (!commit[0]) {
        commit = ec_json_text(fields, "head.sha");
    }
    hub_copy(event->commit, sizeof(event->commit), commit);
    hub_copy(event->subject[0], sizeof(event->subject[0]), ec_json_text(fields, "build_id"));
    hub_copy(event->subject[1], sizeof(event->subject[1]), ec_json_text(fields, "release_id"));
    hub_copy(event->subject[2], sizeof(event->subject[2]), ec_json_text(fields, "deployment_id"));
    const char *about =
        ec_json_text(fields, "subject_id"); /* notifications: a build or a deployment */
    if (about[0]) {
        hub_copy(event->subject[0], sizeof(event->subject[0]), about);
        hub_copy(event->subject[2], sizeof(event->subject[2]), about);
    }
    return event;
}

static void set_json(struct hub_event *event, struct ec_event *ev, json_t *fields)
{
    char time[EC_RFC3339_SIZE];
    ec_rfc3339(ec_event_time_unix_ms(ev), time);
    hub_copy(event->type, sizeof(event->type), short_type(ec_event_arena(ev), ec_event_type(ev)));
    json_object_set_new(fields, "type", json_string(event->type));
    json_object_set_new(fields, "time", json_string(time));
    if (event->commit[0] && !json_object_get(fields, "commit")) {
        json_object_set_new(fields, "commit", json_pack("{s:s}", "sha", event->commit));
    }
    event->json = ec_strdup(ec_json_dump(ec_event_arena(ev), fields));
    if (leave_out_foreign(fields)) {
        event->own_json = ec_strdup(ec_json_dump(ec_event_arena(ev), fields));
    }
}

/* The services of a host name or repository come from the database; the event waits for them. */
struct lookup {
    struct hub *hub;
    struct hub_event *event;
};

static void on_services_found(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct lookup *lookup = arg;
    lookup->event->services = ec_strdup(ec_failed(err) ? "" : ec_rows_text(rows, 0, "ids"));
    if (lookup->hub->api->hub) {
        ring_add(lookup->hub, lookup->event); /* of no service: for those who see everything */
    } else {
        event_free(lookup->event);
    }
    free(lookup);
}

static void find_services(struct hub *hub, struct hub_event *event, const char *sql,
                          const char *key)
{
    struct lookup *lookup = ec_alloc(sizeof(*lookup));
    *lookup = (struct lookup){hub, event};
    struct ec_err err = ec_store_exec(hub->api->store, sql, ARGS(key), on_services_found, lookup);
    if (ec_failed(err)) {
        event_free(event); /* a live view may miss one; the state is in the database */
        free(lookup);
    }
}

static const char by_repo[] = "select coalesce(string_agg(id::text, ' '), '') as ids from"
                              " enclii.service where repo_key = $1 and removed_at is null";
static const char by_host[] = "select coalesce(string_agg(service_id::text, ' '), '') as ids from"
                              " enclii.domain where hostname = $1";

static void on_event(void *state, struct ec_event *ev)
{
    struct hub *hub = state;
    const ProtobufCMessage *body = ec_event_body(ev);
    const char *topic = ec_event_topic(ev);
    if (!body) {
        return;
    }
    if (strcmp(topic, EC_TOPIC_BUILD_LOGS) == 0) {
        tell_followers(hub, ((const Enclii__V1__BuildLog *)body)->build_id, body);
        return;
    }
    if (strcmp(topic, EC_TOPIC_APP_LOGS) == 0) {
        tell_followers(hub, ((const Enclii__V1__AppLog *)body)->reader_id, body);
        return;
    }
    ec_cleanup(ec_json_freep) json_t *fields = ec_message_json(body);
    struct hub_event *event = new_event(ev, fields);
    event->early = !hub->caught_up;
    find_commit(hub, event);
    set_json(event, ev, fields);
    if (strcmp(topic, EC_TOPIC_INTAKE) == 0) {
        find_services(hub, event, by_repo, ec_event_key(ev));
    } else if (strcmp(topic, EC_TOPIC_DOMAIN_EVENTS) == 0) {
        find_services(hub, event, by_host, ec_event_key(ev));
    } else {
        const char *service = ec_json_text(fields, "service_id");
        bool notified = strcmp(topic, EC_TOPIC_NOTIFICATION_EVENTS) == 0;
        event->services = ec_strdup(notified ? service : ec_event_key(ev));
        ring_add(hub, event);
    }
}

static void on_caught_up(void *state)
{
    struct hub *hub = state;
    hub->caught_up = true;
}

EC_RESULT hub_open(struct api *api)
{
    static const char *const topics[] = {
        EC_TOPIC_INTAKE,        EC_TOPIC_BUILD_EVENTS,        EC_TOPIC_BUILD_LOGS,
        EC_TOPIC_APP_LOGS,      EC_TOPIC_RELEASE_EVENTS,      EC_TOPIC_DEPLOYMENT_EVENTS,
        EC_TOPIC_DOMAIN_EVENTS, EC_TOPIC_NOTIFICATION_EVENTS, NULL,
    };
    api->hub = ec_alloc(sizeof(*api->hub));
    api->hub->api = api;
    struct ec_table_spec spec = {
        .topics = topics,
        .routes = ec_catalog,
        .route_count = ec_catalog_count,
        .state = api->hub,
        .on_event = on_event,
        .on_caught_up = on_caught_up,
        .tail_ms = TAIL_MS,
    };
    return ec_bus_table(api->bus, &spec, NULL);
}

void hub_free(struct hub *hub)
{
    for (size_t i = 0; hub && i < hub->count; i++) {
        event_free(hub_at(hub, i));
    }
    free(hub);
}
