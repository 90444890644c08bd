/* Streams of live facts. One may be resumed with Last-Event-ID (topic-partition-offset, or
 * at-<unix ms> where nothing was sent yet); what is no longer in the hub's ring is announced by an
 * event "gap", after which a client reads the state again. Rings of two processes, or of one before
 * and after a restart, hold the facts of different topics in different orders: so a resumed stream
 * begins SLACK_MS before the last fact seen, and a fact may come twice, with the same id. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "hub.h"

#define STREAM_BUFFER_MAX_BYTES (512u << 10)
#define LOOK_MS 2000
#define SLACK_MS 2000 /* facts of two topics are apart by no more, for the same reader */

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

/* ---- what a stream shows ---- */

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

static void send_event(const struct stream *stream, const struct hub_event *event)
{
    const char *json = stream->scoped && event->own_json ? event->own_json : event->json;
    live_send(stream->out, event->id, NULL, ec_span_of(json));
}

void streams_tell(const struct hub *hub, const struct hub_event *event)
{
    for (const struct stream *at = hub->streams; at; at = at->next) {
        if (concerns(at, event) && (!event->early || event->unix_ms >= at->since_unix_ms)) {
            send_event(at, event);
        }
    }
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
    while (from > 0 && strcmp(hub_at(hub, from - 1)->id, id) != 0) {
        from--;
    }
    return from;
}

static void send_from(struct stream *stream, size_t from, const char *seen)
{
    const struct hub *hub = stream->hub;
    for (size_t i = 0; i < hub->count; i++) {
        const struct hub_event *event = hub_at(hub, i);
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
    char id[HUB_SHORT_MAX];
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
        since = from > 0 ? hub_at(stream->hub, from - 1)->unix_ms - SLACK_MS : 0;
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
    hub_copy(stream->commit, sizeof(stream->commit), commit ? commit : "");
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
        hub_copy(stream->service_id, sizeof(stream->service_id), call->service_id);
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
    hub_copy(stream->service_id, sizeof(stream->service_id), service ? service : "");
    hub_copy(stream->type, sizeof(stream->type), type ? type : "");
    hub_copy(stream->project_id, sizeof(stream->project_id), call->who.project_id);
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
