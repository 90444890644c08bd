/* What was refused goes to the ledger too, so that the owner of a repository can see why the host's
 * deliveries do nothing. Anybody can make us refuse something: so only a few a second are told,
 * texts are cut, and nobody waits for the broker. The metric counts all of them. */
#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "base/metric.h"
#include "webhook.h"

#define TOLD_PER_SECOND 10
#define TOLD_PER_HOUR 500 /* kept for 30 days: never more than 360,000 rows */

static struct ec_metric untold =
    EC_COUNTER("enclii_webhook_refusals_untold_total",
               "Refusals that were counted but not written to the ledger: too many at once.", NULL);

bool budget_take(struct budget *budget, int64_t period, int most)
{
    if (period != budget->period) {
        *budget = (struct budget){period, 0};
    }
    if (budget->used >= most) {
        return false;
    }
    budget->used++;
    return true;
}

static bool may_tell(struct webhook *wh)
{
    int64_t now_ms = ec_mono_ms();
    return budget_take(&wh->refusals, now_ms / 1000, TOLD_PER_SECOND) &&
           budget_take(&wh->refusals_of_hour, now_ms / 3600000, TOLD_PER_HOUR);
}

static char *cut(struct ec_arena *arena, const char *text)
{
    char *copy = map_cut(arena, text ? text : "", 256);
    if (!ec_utf8_valid(ec_span_of(copy))) {
        copy[0] = '\0'; /* header bytes are not text by themselves */
    }
    return copy;
}

void refusal_tell(struct webhook *wh, struct ec_request *req, const struct refusal *refusal)
{
    struct ec_arena *arena = ec_request_arena(req);
    if (!may_tell(wh)) {
        ec_metric_add(&untold, NULL, 1);
        return;
    }
    struct ec_id id = ec_id_new();
    Enclii__V1__DeliveryRefused fact = ENCLII__V1__DELIVERY_REFUSED__INIT;
    fact.refusal_id = id.text;
    fact.delivery_id = cut(arena, refusal->delivery_id);
    fact.host = cut(arena, refusal->host->name);
    fact.event = cut(arena, refusal->event);
    fact.repo_key = cut(arena, refusal->repo_key);
    fact.status = refusal->status;
    fact.reason = cut(arena, refusal->reason);
    fact.detail = cut(arena, refusal->detail);
    fact.peer = cut(arena, ec_request_peer(req));
    fact.body_bytes = (int64_t)ec_request_body(req).len;
    fact.received_unix_ms = ec_unix_ms();
    struct ec_err err =
        ec_bus_publish(wh->bus,
                       &(struct ec_message){.topic = EC_TOPIC_INTAKE,
                                            .key = *fact.repo_key ? fact.repo_key : "refused",
                                            .type = "dev.enclii.delivery.refused.v1",
                                            .subject = id.text,
                                            .id = id.text,
                                            .trace = ec_request_trace(req),
                                            .body = &fact.base},
                       NULL, NULL);
    if (ec_failed(err)) {
        ec_metric_add(&untold, NULL, 1);
    }
}
