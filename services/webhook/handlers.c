/* One delivery, from request to answer, for every host. The order of the checks is the contract:
 * nothing about us is told before the signature is good, and 2xx only after the broker has the
 * events. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "trust/digest.h"
#include "webhook.h"

struct ec_metric deliveries =
    EC_COUNTER("enclii_webhook_deliveries_total", "Deliveries of git hosts, by result.", "result");
static struct ec_metric by_host =
    EC_COUNTER("enclii_webhook_host_deliveries_total", "Verified deliveries, by host.", "host");

/* One delivery while it is looked at; in the request's arena. */
struct delivery {
    struct webhook *wh;
    struct ec_request *req;
    const struct host *host;
    struct incoming in;
    enum payload payload;
    struct ec_tape tape;
    struct ec_err read; /* of the tape */
    const struct repo *repo;
    bool id_sent; /* by the host; else it is ours */
    struct mapping map;
};

/* Events that wait for the broker; outlives the request. */
struct pending {
    struct ec_request *req; /* NULL once answered */
    struct delivery *delivery;
    struct ec_timer *deadline;
    size_t owed; /* acknowledgements to come */
    bool failed;
    struct ec_id first_id;
};

static const char *first_header(struct ec_request *req, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count && names[i]; i++) {
        const char *value = ec_request_header(req, names[i]);
        if (value) {
            return value;
        }
    }
    return NULL;
}

/* ---- refusing ---- */

static void refuse(struct delivery *d, int status, const char *result, const char *field,
                   const char *detail)
{
    struct ec_request *req = d->req;
    ec_metric_add(&deliveries, result, 1);
    ec_log(EC_LOG_WARN, ec_request_trace(req), "delivery.refused", detail, EC_T("result", result),
           EC_T("field", field), EC_N("status", status), EC_T("peer", ec_request_peer(req)));
    refusal_tell(d->wh, req,
                 &(struct refusal){.host = d->host,
                                   .event = d->map.event,
                                   .delivery_id = d->map.delivery_id,
                                   .repo_key = d->map.claim.key,
                                   .status = status,
                                   .reason = result,
                                   .detail = detail});
    ec_reply_problem(req, status, result, field, detail);
}

static void unavailable(struct delivery *d, const char *result, const char *detail)
{
    ec_reply_header(d->req, "Retry-After", RETRY_AFTER_S);
    refuse(d, 503, result, NULL, detail);
}

/* ---- answering, after the broker's word ---- */

static void add_member(struct ec_buf *body, const char *name, const char *value)
{
    ec_buf_add_text(body, body->len > 1 ? "," : "");
    ec_buf_add_json_text(body, ec_span_of(name));
    ec_buf_add_text(body, ":");
    ec_buf_add_json_text(body, ec_span_of(value));
}

/* Written by hand: a tree of JSON values for every answer is a tenth of the time of a delivery. */
static void write_answer(struct ec_buf *body, const struct pending *pending)
{
    const struct mapping *m = &pending->delivery->map;
    char trace_id[33];
    ec_trace_id(ec_request_trace(pending->req), trace_id);
    ec_buf_add_text(body, "{");
    add_member(body, "status", m->ignored ? "ignored" : "accepted");
    add_member(body, "event", m->event);
    add_member(body, "delivery_id", m->delivery_id);
    add_member(body, "event_id", pending->first_id.text);
    add_member(body, "trace_id", trace_id);
    if (m->repo_key) {
        add_member(body, "repo", m->repo_key);
    }
    if (m->ignored) {
        add_member(body, "reason", m->ignored);
        add_member(body, "detail", m->ignored_detail);
    } else if (m->out[0].body->descriptor == &enclii__v1__push_received__descriptor) {
        const Enclii__V1__PushReceived *push = (const void *)m->out[0].body;
        add_member(body, "ref", push->ref);
        add_member(body, "commit", push->after);
    }
    ec_buf_add_text(body, "}");
}

/* One line per delivery while they come at a human pace; a flood is told by the metric. */
static bool may_log(struct webhook *wh)
{
    return budget_take(&wh->logged, ec_mono_ms() / 1000, LOGGED_PER_SECOND);
}

static void answer(const struct pending *pending)
{
    const struct delivery *d = pending->delivery;
    const struct mapping *m = &d->map;
    bool ping = m->ignored && strcmp(m->ignored, "ping") == 0;
    ec_metric_add(&deliveries, ping ? "ping" : m->ignored ? "ignored" : "accepted", 1);
    if (may_log(d->wh)) {
        ec_log(EC_LOG_INFO, ec_request_trace(d->req),
               m->ignored ? "delivery.ignored" : "delivery.accepted",
               m->ignored ? m->ignored_detail : "it is safe in the broker",
               EC_T("host", d->host->name), EC_T("event", m->event),
               EC_T("delivery", m->delivery_id), EC_T("repo", m->repo_key));
    }
    if (ping) {
        ec_reply_text(d->req, 200, "application/json", EC_SPAN("{\"message\":\"pong\"}"));
        return;
    }
    ec_cleanup(ec_buf_done) struct ec_buf body;
    ec_buf_init(&body, 64 * 1024);
    write_answer(&body, pending);
    ec_reply_text(d->req, 202, "application/json", ec_buf_span(&body));
}

static void on_published(void *arg, struct ec_err err)
{
    struct pending *pending = arg;
    pending->failed |= ec_failed(err);
    if (--pending->owed > 0) {
        return;
    }
    if (pending->req && pending->failed) {
        unavailable(pending->delivery, "unavailable",
                    "the event could not be stored; deliver it again");
    } else if (pending->req) {
        answer(pending);
    }
    ec_timer_free(pending->deadline);
    free(pending);
}

/* The events may still arrive later; the redelivery then has the same ids and changes nothing. */
static void on_ack_too_late(void *arg)
{
    struct pending *pending = arg;
    unavailable(pending->delivery, "unavailable",
                "the event was not stored in time; deliver it again");
    pending->req = NULL;
    pending->delivery = NULL;
}

static struct ec_err publish_one(struct delivery *d, struct pending *pending,
                                 const struct outgoing *out)
{
    /* Hosts' ids are unique among their own: nobody's event may pass for another repository's. */
    const char *cause = ec_arena_format(d->in.arena, "%s %s", out->key, d->map.delivery_id);
    struct ec_id id = ec_id_derive(cause, out->step);
    if (pending->owed == 0) {
        pending->first_id = id;
    }
    const struct ec_message message = {.topic = EC_TOPIC_INTAKE,
                                       .key = out->key,
                                       .type = out->type,
                                       .subject = d->map.delivery_id,
                                       .id = id.text,
                                       .trace = ec_request_trace(d->req),
                                       .body = out->body};
    return ec_bus_publish(d->wh->bus, &message, on_published, pending);
}

static void publish(struct delivery *d)
{
    struct pending *pending = ec_alloc(sizeof *pending);
    struct ec_err err = ec_ok();
    pending->req = d->req;
    pending->delivery = d;
    for (size_t i = 0; i < d->map.out_count && !ec_failed(err); i++) {
        err = publish_one(d, pending, &d->map.out[i]);
        pending->owed += !ec_failed(err);
    }
    if (!ec_failed(err)) {
        pending->deadline = ec_timer_new(d->wh->loop, on_ack_too_late, pending);
        ec_timer_start(pending->deadline, d->wh->ack_deadline_ms, 0);
        return;
    }
    if (err.fate == EC_FATE_REJECT) {
        refuse(d, 413, "too_large", NULL, "the push is too large to be stored");
    } else {
        unavailable(d, "unavailable", "too many deliveries are waiting; deliver it again");
    }
    pending->req = NULL; /* those of several that were taken come again with the same ids */
    if (pending->owed == 0) {
        free(pending);
    }
}

/* A delivery that nothing follows from is recorded all the same, before it is answered. */
static void record_ignored(struct mapping *m)
{
    Enclii__V1__DeliveryReceived *fact = map_message(m, &enclii__v1__delivery_received__descriptor);
    fact->delivery = map_info(m, "");
    fact->reason = ec_arena_strdup(m->arena, m->ignored);
    fact->detail = ec_arena_strdup(m->arena, m->ignored_detail);
    m->out_count = 0;
    map_out(m, "dev.enclii.delivery.received.v1",
            m->repo_key ? m->repo_key : ec_arena_format(m->arena, "%s/other", m->host->name),
            &fact->base);
}

/* ---- looking at it ---- */

/* GitHub compatible hosts also send GitHub's headers: their own ones say who it really is. */
static const struct host *host_of(struct ec_request *req)
{
    int id = ec_request_route(req)->tag;
    if (id == HOST_GITHUB && first_header(req, hosts[HOST_GITEA].event_headers, 4)) {
        return &hosts[HOST_GITEA];
    }
    return &hosts[id];
}

static const char *id_of(struct delivery *d)
{
    const char *id = first_header(d->req, d->host->id_headers, EC_LEN(d->host->id_headers));
    d->id_sent = id != NULL;
    if (id || d->host == &hosts[HOST_GITHUB]) {
        return id;
    }
    /* Hosts without an id send the same bytes again. */
    return ec_arena_format(d->in.arena, "%s-%.32s", d->host->name,
                           ec_sha256_hex(d->in.arena, d->in.body));
}

/* A ref that goes there, back, and there again is pushed three times, the first and the third in
 * the same words: without an id of the host each arrival is one, and what comes twice is told by
 * where the ref is (services/pipeline/decide_news.c). */
static void part_pushes(struct delivery *d)
{
    struct mapping *m = &d->map;
    const struct event_row *row = host_event(d->host, m->event);
    if (!d->id_sent && row && row->needs_repo) {
        m->delivery_id =
            ec_arena_format(m->arena, "%s-%lld", m->delivery_id, (long long)m->received_ms);
    }
}

static void look(struct delivery *d)
{
    struct ec_request *req = d->req;
    struct ec_arena *arena = ec_request_arena(req);
    const struct host *host = d->host;
    const char *event = first_header(req, host->event_headers, EC_LEN(host->event_headers));
    d->in = (struct incoming){
        .arena = arena,
        .body = ec_request_body(req),
        .json = {"", 0},
        .signature = first_header(req, host->signature_headers, EC_LEN(host->signature_headers)),
        .signed_id = ec_request_header(req, "webhook-id"),
        .signed_time = ec_request_header(req, "webhook-timestamp"),
        .now_ms = ec_unix_ms()};
    d->payload = decide_payload(arena, ec_request_header(req, "Content-Type"), host->form,
                                d->in.body, &d->in.json);
    d->map.arena = arena;
    d->map.tape = &d->tape;
    d->map.host = host;
    d->map.event = event ? event : "";
    d->map.delivery_id = id_of(d);
    d->map.received_ms = d->in.now_ms;
}

/* Reads what the body says it is. Before the signature is known to be good, this only chooses the
 * secret that decides. */
static void read_claim(struct delivery *d)
{
    struct mapping *m = &d->map;
    d->read = d->payload == PAYLOAD_JSON ? ec_tape_read(m->arena, d->in.json, &d->tape)
                                         : ec_reject("the form has no readable field payload");
    if (ec_failed(d->read)) {
        return;
    }
    m->root = ec_tape_root(&d->tape);
    m->claim = d->host->claim(m->arena, d->host, &d->tape);
    d->repo = repos_find(d->wh, m->arena, &m->claim);
    /* A copy: the binding may be replaced (a new secret) while the broker is waited for. */
    m->repo_key = d->repo ? ec_arena_strdup(m->arena, d->repo->key) : NULL;
    if (d->host->event_path) {
        m->event = map_text(m, m->root, d->host->event_path);
        if (!*m->event && ec_tape_at(&d->tape, m->root, "events")) {
            m->event = "notification";
        }
    }
}

static bool trusted(struct delivery *d)
{
    struct webhook *wh = d->wh;
    bool own = wh->own_secrets > 0;
    if (!wh->settings.secret && !own) {
        unavailable(d, "no_secret",
                    "no webhook secret is configured here (ENCLII_GITHUB_WEBHOOK_SECRET)");
        return false;
    }
    if (!wh->repos_known) { /* nor is it known which secret holds */
        unavailable(d, "starting", "the list of repositories is not read yet");
        return false;
    }
    if (own) {
        read_claim(d);
    }
    if (!d->in.signature || !repos_signed(wh, d->host, d->repo, &d->in)) {
        refuse(d, 401, d->in.signature ? "bad_signature" : "unsigned",
               d->host->signature_headers[0],
               "the signature is missing or wrong: set the same secret at the git host and here");
        return false;
    }
    if (!own) {
        read_claim(d);
    }
    return true;
}

static bool readable(struct delivery *d)
{
    if (d->payload == PAYLOAD_UNSUPPORTED) {
        refuse(d, 415, "unsupported_type", "Content-Type",
               d->host->form ? "use application/json (or application/x-www-form-urlencoded)"
                             : "use application/json");
        return false;
    }
    if (ec_failed(d->read)) {
        refuse(d, 400, "malformed", "payload", d->read.what);
        return false;
    }
    if (!ec_tape_is(d->map.root, EC_TAPE_OBJECT)) {
        refuse(d, 400, "malformed", "payload", "payload must be a JSON object");
        return false;
    }
    if (!decide_delivery_id(d->map.delivery_id)) {
        refuse(d, 400, "malformed", d->host->id_headers[0],
               "the header is missing or not printable text of at most 128 bytes");
        return false;
    }
    return true;
}

/* A body about a repository is for a bound one, or nobody here knows what to do with it. A ping
 * comes before anything is bound. */
static bool known(struct delivery *d)
{
    const struct mapping *m = &d->map;
    const struct event_row *row = host_event(d->host, m->event);
    if (d->repo || (row && row->map == map_ping)) {
        return true;
    }
    if (m->claim.key) {
        refuse(d, 404, "unknown_repo", d->host->paths[0],
               ec_arena_format(m->arena, "no service is bound to %s; bind one, then deliver again",
                               m->claim.key));
        return false;
    }
    if (row && row->needs_repo) {
        refuse(d, 400, "malformed", d->host->paths[0],
               ec_arena_format(m->arena, "%s is missing or no clone URL", d->host->paths[0]));
        return false;
    }
    return true;
}

/* What never became a delivery: a body over the limit, a smuggling header. */
void on_refused(void *state, struct ec_request *req, int status, const char *code,
                const char *detail)
{
    const struct ec_http_route *route = ec_request_route(req);
    ec_metric_add(&deliveries, code, 1);
    refusal_tell(
        state, req,
        &(struct refusal){
            .host = &hosts[route->tag], .status = status, .reason = code, .detail = detail});
}

void on_delivery(void *state, struct ec_request *req)
{
    struct delivery *d = ec_arena_alloc(ec_request_arena(req), sizeof *d);
    d->wh = state;
    d->req = req;
    d->host = host_of(req);
    look(d);
    if (!trusted(d) || !readable(d) || !known(d)) {
        return;
    }
    ec_metric_add(&by_host, d->host->name, 1);
    part_pushes(d);
    struct fault fault = decide_delivery(&d->map);
    if (fault.field) {
        refuse(d, 400, "malformed", fault.field,
               ec_arena_format(d->map.arena, "%s %s", fault.field, fault.what));
        return;
    }
    if (d->map.ignored) {
        record_ignored(&d->map);
    }
    publish(d);
}
