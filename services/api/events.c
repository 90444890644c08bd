/* The hub: one reader per api process follows the topics with live facts, keeps the last RING_MAX
 * of them as JSON and hands each to the open streams it concerns. A stream may resume with
 * Last-Event-ID (topic-partition-offset, or at-<unix ms> where nothing was sent yet); what is no
 * longer in the ring is announced by an event "gap", after which a client reads the state again.
 * Rings of two processes, or of one before and after a restart, hold the facts of different topics
 * in different orders: so a resumed stream begins SLACK_MS before the last fact seen, and a fact
 * may come twice, with the same id. Facts about hosts and repositories carry no service: their
 * services are looked up first. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
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

#define RING_MAX 2000
#define TAIL_MS (10 * 60 * 1000)
#define STREAM_BUFFER_MAX_BYTES (512u << 10)
#define SHORT_MAX 128
#define LOOK_MS 2000
#define SLACK_MS 2000 /* facts of two topics are apart by no more, for the same reader */

struct hub_event {
    char id[SHORT_MAX];
    int64_t unix_ms; /* when it happened */
    bool early;      /* from before this process had read all there was */
    char *json;
    char *own_json;      /* for tokens of one project; NULL = the same */
    char *services;      /* "id id id": what it concerns */
    char type[64];       /* "build.queued" */
    char commit[72];     /* "" when not known */
    char subject[3][40]; /* build, release, deployment id: to find the commit of later facts */
};

struct stream {
    struct hub *hub;
    struct live *out;
    char service_id[EC_ID_SIZE]; /* "" = all that the token may see */
    char commit[72];             /* "" = all */
    char type[64];               /* "" = all; "build" = every "build.*" */
    int64_t since_unix_ms;       /* of early facts: those from then on */
    /* A token of one project sees the events of its services only. */
    char project_id[EC_ID_SIZE]; /* "" = all */
    bool scoped;                 /* the token is of one project */
    char *of_project;            /* its services, "id id"; NULL when project_id is "" */
    struct ec_timer *look;       /* for services made meanwhile */
    bool looking;
    struct stream *next;
};

struct hub_follower {
    char id[EC_ID_SIZE]; /* of the build or the reader */
    hub_log_fn fn;
    void *arg;
    struct hub_follower *next;
};

struct hub {
    struct api *api;
    struct hub_event *ring[RING_MAX];
    size_t first, count;
    bool caught_up; /* what comes now happens now */
    struct stream *streams;
    struct hub_follower *followers;
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

static struct hub_event *ring_at(const struct hub *hub, size_t index)
{
    return hub->ring[(hub->first + index) % RING_MAX];
}

static void event_free(struct hub_event *event)
{
    free(event->json);
    free(event->own_json);
    free(event->services);
    free(event);
}

static bool may_see(const struct stream *stream, const struct hub_event *event)
{
    bool may = !stream->project_id[0];
    for (const char *at = event->services; *at && !may; at += strcspn(at, " "), at += *at == ' ') {
        char id[EC_ID_SIZE];
        snprintf(id, sizeof(id), "%.*s", (int)strcspn(at, " "), at);
        may = ec_id_valid(id) && strstr(stream->of_project, id);
    }
    return may;
}

static bool has_type(const struct stream *stream, const struct hub_event *event)
{
    size_t len = strlen(stream->type);
    return len == 0 || (strncmp(event->type, stream->type, len) == 0 &&
                        (!event->type[len] || event->type[len] == '.'));
}

static bool concerns(const struct stream *stream, const struct hub_event *event)
{
    return strstr(event->services, stream->service_id) &&
           (!stream->commit[0] || strcmp(stream->commit, event->commit) == 0) &&
           has_type(stream, event) && may_see(stream, event);
}

static void send_event(struct stream *stream, const struct hub_event *event)
{
    const char *json = stream->scoped && event->own_json ? event->own_json : event->json;
    live_send(stream->out, event->id, NULL, ec_span_of(json));
}

/* A fact without a commit has that of the newest fact about the same build, release or deployment.
 */
static void find_commit(const struct hub *hub, struct hub_event *event)
{
    for (size_t i = hub->count; i-- > 0 && !event->commit[0];) {
        const struct hub_event *older = ring_at(hub, i);
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
    if (hub->count == RING_MAX) {
        event_free(ring_at(hub, 0));
        hub->first = (hub->first + 1) % RING_MAX;
        hub->count--;
    }
    hub->ring[(hub->first + hub->count++) % RING_MAX] = event;
    for (struct stream *at = hub->streams; at; at = at->next) {
        if (concerns(at, event) && (!event->early || event->unix_ms >= at->since_unix_ms)) {
            send_event(at, event);
        }
    }
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

static void copy_short(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
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
    copy_short(event->commit, sizeof(event->commit), commit);
    copy_short(event->subject[0], sizeof(event->subject[0]), ec_json_text(fields, "build_id"));
    copy_short(event->subject[1], sizeof(event->subject[1]), ec_json_text(fields, "release_id"));
    copy_short(event->subject[2], sizeof(event->subject[2]), ec_json_text(fields, "deployment_id"));
    const char *about =
        ec_json_text(fields, "subject_id"); /* notifications: a build or a deployment */
    if (about[0]) {
        copy_short(event->subject[0], sizeof(event->subject[0]), about);
        copy_short(event->subject[2], sizeof(event->subject[2]), about);
    }
    return event;
}

static void set_json(struct hub_event *event, struct ec_event *ev, json_t *fields)
{
    char time[EC_RFC3339_SIZE];
    ec_rfc3339(ec_event_time_unix_ms(ev), time);
    copy_short(event->type, sizeof(event->type), short_type(ec_event_arena(ev), ec_event_type(ev)));
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
        event_free(ring_at(hub, i));
    }
    free(hub);
}

/* ---- GET /v1/services/{id}/events and GET /v1/events ---- */

static void free_if_done(struct stream *stream)
{
    if (!stream->out && !stream->looking) {
        free(stream->of_project);
        free(stream);
    }
}

static void on_stream_closed(void *arg)
{
    struct stream *stream = arg;
    for (struct stream **at = &stream->hub->streams; *at; at = &(*at)->next) {
        if (*at == stream) {
            *at = stream->next;
            break;
        }
    }
    stream->out = NULL;
    ec_timer_free(EC_TAKE(stream->look));
    free_if_done(stream);
}

/* The place in the ring behind the fact of that id; 0 = it is not there. */
static size_t behind(const struct hub *hub, const char *id)
{
    size_t from = hub->count;
    while (from > 0 && strcmp(ring_at(hub, from - 1)->id, id) != 0) {
        from--;
    }
    return from;
}

static void send_from(struct stream *stream, size_t from, const char *seen)
{
    const struct hub *hub = stream->hub;
    for (size_t i = 0; i < hub->count; i++) {
        const struct hub_event *event = ring_at(hub, i);
        bool wanted = i >= from || event->unix_ms >= stream->since_unix_ms;
        if (wanted && strcmp(event->id, seen) != 0 && concerns(stream, event)) {
            send_event(stream, event);
        }
    }
}

/* A new stream: everything when asked for, else what happens from now on. It is told at once where
 * to resume, should it be cut off before anything happens. */
static void begin(struct stream *stream, bool all)
{
    char id[SHORT_MAX];
    int64_t now = ec_unix_ms();
    snprintf(id, sizeof(id), "at-%lld", (long long)now);
    live_send(stream->out, id, NULL, (struct ec_span){NULL, 0});
    stream->since_unix_ms = all ? 0 : now;
    if (all) {
        send_from(stream, 0, "");
    }
}

static void resume(struct stream *stream, const char *last)
{
    long long since = 0;
    size_t from = stream->hub->count;
    if (sscanf(last, "at-%15lld", &since) != 1) {
        from = behind(stream->hub, last);
        since = from > 0 ? ring_at(stream->hub, from - 1)->unix_ms - SLACK_MS : 0;
    }
    if (from == 0 && since == 0) {
        live_send(stream->out, NULL, "gap",
                  EC_SPAN("{\"type\":\"gap\",\"message\":\"older events are gone; read the "
                          "state again\"}"));
    }
    stream->since_unix_ms = since;
    send_from(stream, from, last);
}

/* False = answered. What was there at the start must be known, or the resumed and the curious are
 * shown half of it. */
static bool may_open(struct call *call)
{
    if (call->api->hub->caught_up) {
        return call_stream_room(call);
    }
    ec_reply_header(call->req, "Retry-After", "1");
    call_problem(call, 503, "starting", NULL,
                 "the latest events are being read after a start; try again in a moment");
    return false;
}

/* takes the stream, which says what it wants to see. */
static void open_stream(struct call *call, struct stream *stream)
{
    struct api *api = call->api;
    const char *commit = ec_request_query(call->req, "commit");
    const char *last = ec_request_header(call->req, "Last-Event-ID");
    const char *wants_all = ec_request_query(call->req, "replay");
    stream->hub = api->hub;
    stream->scoped = call->who.project_id[0] != 0;
    copy_short(stream->commit, sizeof(stream->commit), commit ? commit : "");
    last = last ? ec_arena_strdup(call->arena, last) : NULL;
    bool all = stream->commit[0] || (wants_all && strcmp(wants_all, "true") == 0);
    stream->next = api->hub->streams;
    api->hub->streams = stream;
    stream->out = live_open(call, STREAM_BUFFER_MAX_BYTES, on_stream_closed, stream);
    if (last) {
        resume(stream, last);
    } else {
        begin(stream, all);
    }
}

void on_service_events(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    if (may_open(call)) {
        struct stream *stream = ec_alloc(sizeof(*stream));
        copy_short(stream->service_id, sizeof(stream->service_id), call->service_id);
        open_stream(call, stream);
    }
}

/* ---- of a whole project ---- */

static const char of_project_sql[] = "select coalesce(string_agg(id::text, ' '), '') as ids from"
                                     " enclii.service where project_id = $1::uuid";

static void on_looked(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct stream *stream = arg;
    stream->looking = false;
    if (!ec_failed(err)) {
        free(stream->of_project);
        stream->of_project = ec_strdup(ec_rows_text(rows, 0, "ids"));
    }
    free_if_done(stream);
}

static void look_for_services(void *arg)
{
    struct stream *stream = arg;
    if (!stream->looking) {
        struct ec_err err = ec_store_exec(stream->hub->api->store, of_project_sql,
                                          ARGS(stream->project_id), on_looked, stream);
        stream->looking = !ec_failed(err); /* else the next tick asks */
    }
}

static struct stream *wanted_stream(const struct call *call)
{
    const char *service = ec_request_query(call->req, "service");
    const char *type = ec_request_query(call->req, "type");
    struct stream *stream = ec_alloc(sizeof(*stream));
    copy_short(stream->service_id, sizeof(stream->service_id), service ? service : "");
    copy_short(stream->type, sizeof(stream->type), type ? type : "");
    copy_short(stream->project_id, sizeof(stream->project_id), call->who.project_id);
    return stream;
}

static void on_services_of_project(struct call *call, const struct ec_rows *rows)
{
    if (may_open(call)) { /* it may have filled up meanwhile */
        struct stream *stream = wanted_stream(call);
        stream->of_project = ec_strdup(ec_rows_text(rows, 0, "ids"));
        stream->look = ec_timer_new(call->api->loop, look_for_services, stream);
        ec_timer_start(stream->look, LOOK_MS, LOOK_MS);
        open_stream(call, stream);
    }
}

void on_events(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *service = ec_request_query(req, "service");
    const char *type = ec_request_query(req, "type");
    if (service && !ec_id_valid(service)) {
        call_problem(call, 400, "invalid_field", "service", "service must be a service id");
    } else if (type && strlen(type) >= sizeof(((struct stream *)NULL)->type)) {
        call_problem(call, 400, "invalid_field", "type",
                     "type is an event type like build.queued, or its beginning like build");
    } else if (call->who.project_id[0]) {
        call_query(call, of_project_sql, ARGS(call->who.project_id), on_services_of_project);
    } else if (may_open(call)) {
        open_stream(call, wanted_stream(call));
    }
}
