/* One delivery, from request to answer. The order of the checks is the contract: nothing about us
 * is told before the signature is good, and 202 only after the broker has the event. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "webhook.h"

struct ec_metric deliveries =
    EC_COUNTER("enclii_webhook_deliveries_total", "Deliveries of git hosts, by result.", "result");

/* A push that waits for the broker. */
struct delivery {
    struct ec_request *req; /* NULL once answered */
    struct ec_timer *deadline;
    struct ec_id event_id;
    const Enclii__V1__PushReceived *push; /* in the request's arena */
};

static void refuse(struct ec_request *req, int status, const char *result, const char *field,
                   const char *detail)
{
    ec_metric_add(&deliveries, result, 1);
    ec_log(EC_LOG_WARN, ec_request_trace(req), "delivery.refused", detail, EC_T("result", result),
           EC_T("field", field), EC_N("status", status), EC_T("peer", ec_request_peer(req)));
    ec_reply_problem(req, status, result, field, detail);
}

static void unavailable(struct ec_request *req, const char *result, const char *detail)
{
    ec_reply_header(req, "Retry-After", RETRY_AFTER_S);
    refuse(req, 503, result, NULL, detail);
}

/* ---- waiting for the broker ---- */

static void answer_accepted(struct delivery *delivery)
{
    const Enclii__V1__PushReceived *push = delivery->push;
    struct ec_request *req = delivery->req;
    char trace_id[33];
    ec_trace_id(ec_request_trace(req), trace_id);
    json_t *body =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "status", "accepted", "delivery_id",
                  push->delivery_id, "event_id", delivery->event_id.text, "repo", push->repo_key,
                  "ref", push->ref, "commit", push->after, "trace_id", trace_id);
    ec_metric_add(&deliveries, "accepted", 1);
    ec_log(EC_LOG_INFO, ec_request_trace(req), "delivery.accepted", "push is safe in the broker",
           EC_T("delivery", push->delivery_id), EC_T("repo", push->repo_key),
           EC_T("ref", push->ref), EC_T("commit", push->after));
    ec_reply_json(req, 202, body);
    json_decref(body);
}

static void on_push_published(void *arg, struct ec_err err)
{
    struct delivery *delivery = arg;
    if (delivery->req && ec_failed(err)) {
        unavailable(delivery->req, "unavailable",
                    "the event could not be stored; deliver it again");
    } else if (delivery->req) {
        answer_accepted(delivery);
    }
    ec_timer_free(delivery->deadline);
    free(delivery);
}

/* The event may still arrive later; the redelivery then has the same id and changes nothing. */
static void on_ack_too_late(void *arg)
{
    struct delivery *delivery = arg;
    unavailable(delivery->req, "unavailable", "the event was not stored in time; deliver it again");
    delivery->req = NULL;
    delivery->push = NULL;
}

static void publish_push(struct webhook *wh, struct ec_request *req,
                         const Enclii__V1__PushReceived *push)
{
    struct delivery *delivery = ec_alloc(sizeof *delivery);
    delivery->req = req;
    delivery->push = push;
    delivery->event_id = ec_id_derive(push->delivery_id, "push");
    const struct ec_message message = {.topic = EC_TOPIC_INTAKE,
                                       .key = push->repo_key,
                                       .type = "dev.enclii.push.received.v1",
                                       .subject = push->delivery_id,
                                       .id = delivery->event_id.text,
                                       .trace = ec_request_trace(req),
                                       .body = &push->base};
    struct ec_err err = ec_bus_publish(wh->bus, &message, on_push_published, delivery);
    if (err.fate == EC_FATE_REJECT) {
        free(delivery);
        refuse(req, 413, "too_large", NULL, "the push is too large to be stored");
        return;
    }
    if (ec_failed(err)) {
        free(delivery);
        unavailable(req, "unavailable", "too many deliveries are waiting; deliver it again");
        return;
    }
    delivery->deadline = ec_timer_new(wh->loop, on_ack_too_late, delivery);
    ec_timer_start(delivery->deadline, wh->ack_deadline_ms, 0);
}

/* ---- what was delivered ---- */

static void on_push(struct webhook *wh, struct ec_request *req, struct ec_span json)
{
    struct ec_arena *arena = ec_request_arena(req);
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    Enclii__V1__PushReceived *push = NULL;
    const char *delivery_id = ec_request_header(req, "X-GitHub-Delivery");
    struct ec_err err = ec_json_parse(arena, json, &root);
    if (ec_failed(err)) {
        refuse(req, 400, "malformed", "payload", err.what);
        return;
    }
    if (!decide_delivery_id(delivery_id)) {
        refuse(req, 400, "malformed", "X-GitHub-Delivery",
               "the header is missing or not printable text of at most 128 bytes");
        return;
    }
    struct push_fault fault = map_push(arena, root, &push);
    if (fault.field) {
        refuse(req, 400, "malformed", fault.field,
               ec_arena_format(arena, "%s %s", fault.field, fault.what));
        return;
    }
    if (!wh->repos_known) {
        unavailable(req, "starting", "the list of repositories is not read yet");
        return;
    }
    if (!repos_find(wh, push->repo_key)) {
        refuse(req, 404, "unknown_repo", "repository.clone_url",
               ec_arena_format(arena, "no service is bound to %s; bind one, then deliver again",
                               push->repo_key));
        return;
    }
    push->delivery_id = ec_arena_strdup(arena, delivery_id);
    push->received_unix_ms = ec_unix_ms();
    publish_push(wh, req, push);
}

static void answer_ignored(struct ec_request *req, const char *event)
{
    json_t *body = json_pack("{s:s, s:s}", "status", "ignored", "event", event ? event : "");
    ec_metric_add(&deliveries, "ignored", 1);
    ec_reply_json(req, 202, body);
    json_decref(body);
}

void on_github_delivery(void *state, struct ec_request *req)
{
    struct webhook *wh = state;
    struct ec_span body = ec_request_body(req), json = {"", 0};
    const char *event = ec_request_header(req, "X-GitHub-Event");
    const char *signature = ec_request_header(req, "X-Hub-Signature-256");
    if (!wh->settings.secret && wh->own_secrets == 0) {
        unavailable(req, "no_secret",
                    "no webhook secret is configured here (ENCLII_GITHUB_WEBHOOK_SECRET)");
        return;
    }
    enum payload payload =
        decide_payload(ec_request_arena(req), ec_request_header(req, "Content-Type"), body, &json);
    struct ec_span hex = decide_signature(signature);
    if (hex.len == 0 || !repos_signed(wh, ec_request_arena(req), body, json, hex)) {
        refuse(req, 401, signature ? "bad_signature" : "unsigned", "X-Hub-Signature-256",
               "the signature is missing or wrong: set the same secret at the git host and here");
        return;
    }
    if (payload == PAYLOAD_UNSUPPORTED) {
        refuse(req, 415, "unsupported_type", "Content-Type",
               "use application/json (or application/x-www-form-urlencoded)");
        return;
    }
    if (decide_event(event) == EVENT_PING) {
        json_t *pong = json_pack("{s:s}", "message", "pong");
        ec_metric_add(&deliveries, "ping", 1);
        ec_reply_json(req, 200, pong);
        json_decref(pong);
        return;
    }
    if (decide_event(event) == EVENT_OTHER) {
        answer_ignored(req, event);
        return;
    }
    if (payload == PAYLOAD_MALFORMED) {
        refuse(req, 400, "malformed", "payload", "the form has no readable field payload");
        return;
    }
    on_push(wh, req, json);
}
