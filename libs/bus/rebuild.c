/* A consumer whose client broke for good, begun anew within the process. A static member is fenced
 * when another one joins under its name, or when a broker in trouble takes it for another;
 * librdkafka then refuses everything with that handle. So: what it had in hand is let go as if its
 * partitions were taken away (a batch that is being handled ends first), the handle is destroyed on
 * the worker pool, and after a wait a new one joins under the same name. Positions come from where
 * they always come from: the broker's commits, or the caller's database. Two processes that really
 * share a name would fence each other for ever; so after some times the process ends instead. */
#include "bus/internal.h"

#include "base/clock.h"
#include "base/log.h"

#define WITHIN_MS 600000
#define FIRST_WAIT_MS 200
#define STOP_LOOK_MS 20

struct ec_metric bus_rebuilt =
    EC_COUNTER("enclii_bus_consumers_rebuilt_total",
               "Consumers begun anew because their client broke (mostly: fenced).", "group");

bool decide_rebuild(const int64_t *broken_mono_ms, size_t count, int64_t now_mono_ms)
{
    size_t recent = 0;
    for (size_t i = 0; i < count; i++) {
        recent += broken_mono_ms[i] > 0 && now_mono_ms - broken_mono_ms[i] < WITHIN_MS;
    }
    return recent < count;
}

static void note_time(struct ec_consumer *c, int64_t now)
{
    if (now - c->broken_mono_ms[(c->broken_count + BUS_REBUILDS_MAX - 1) % BUS_REBUILDS_MAX] >=
        WITHIN_MS) {
        ec_backoff_reset(&c->again_backoff);
    }
    c->broken_mono_ms[c->broken_count++ % BUS_REBUILDS_MAX] = now;
}

void bus_consumer_broken(struct ec_consumer *c)
{
    char text[256] = "";
    if (c->life != BUS_LIVE) {
        return;
    }
    rd_kafka_resp_err_t cause = rd_kafka_fatal_error(c->source.rk, text, sizeof text);
    bool again = c->topics && decide_rebuild(c->broken_mono_ms, BUS_REBUILDS_MAX, ec_mono_ms());
    ec_log(again ? EC_LOG_WARN : EC_LOG_ERROR, NULL, "bus.broken", text, EC_N("code", cause),
           EC_T("group", c->group), EC_T("then", again ? "a new member" : "the process ends"));
    if (!again) {
        bus_fatal(c->bus, ec_fatal((int)cause, "bus: the Kafka client cannot go on"));
    }
    if (c->topics) {
        note_time(c, ec_mono_ms());
        c->life = BUS_BREAKING;
    }
}

void bus_rebuild_let_go(struct ec_consumer *c)
{
    c->life = BUS_LETTING_GO;
    c->kind->revoked(c, true);
}

/* On the worker pool: it waits for the handle's threads. */
static void destroy_old(void *arg)
{
    struct ec_consumer *c = arg;
    rd_kafka_destroy_flags(c->old, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void on_destroyed(void *arg)
{
    struct ec_consumer *c = arg;
    if (c->killed) {
        return; /* and its bus is gone */
    }
    c->old = NULL;
    c->life = BUS_RESTING;
    uint32_t wait_ms = c->stopping ? 0 : FIRST_WAIT_MS + ec_backoff_next_ms(&c->again_backoff);
    ec_timer_start(c->again, wait_ms, 0);
}

static void open_anew(struct ec_consumer *c)
{
    c->life = BUS_LIVE;
    struct ec_err err = bus_consumer_join(c);
    if (ec_failed(err)) {
        bus_fatal(c->bus, err);
        return;
    }
    ec_metric_add(&bus_rebuilt, c->group, 1);
    ec_log(EC_LOG_INFO, NULL, "bus.rebuilt", "joining the group anew", EC_T("group", c->group));
}

static void on_again(void *arg)
{
    struct ec_consumer *c = arg;
    if (c->life == BUS_ENDING) {
        if (ec_failed(ec_loop_work(c->bus->loop, destroy_old, on_destroyed, c))) {
            ec_timer_start(c->again, 100, 0); /* the pool is full */
        }
    } else if (!c->stopping && !c->bus->failed) {
        open_anew(c);
    } else if (c->stopping && c->kind->idle(c)) {
        bus_consumer_free(c);
    } else {
        ec_timer_start(c->again, STOP_LOOK_MS, 0);
    }
}

void bus_rebuild_end_old(struct ec_consumer *c)
{
    if (ec_consumer_assigned(c)) {
        return; /* a batch is still being handled; its end wakes us */
    }
    if (!c->again) {
        c->again = ec_timer_new(c->bus->loop, on_again, c);
    }
    c->old = c->source.rk;
    c->life = BUS_ENDING;
    bus_source_close(&c->source, false);
    on_again(c);
}
