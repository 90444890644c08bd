/* The bus: one producer and any number of consumers on one loop, opened together and closed in
 * order (consumers first, because their last events may publish; then the producer, once all is
 * written). */
#include "bus/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"

#define CLOSE_TICK_MS 20
#define DEAD_TOPICS_MAX 1024
#define ARENA_BYTES (1u << 20)

static void close_step(struct ec_bus *bus);

static void on_producer_turn(void *arg)
{
    struct ec_bus *bus = arg;
    unsigned left = BUS_TURN_BUDGET;
    for (; left > 0; left--) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(bus->producer.control, 0);
        if (!event) {
            break;
        }
        bus_producer_event(bus, event);
        rd_kafka_event_destroy(event);
    }
    if (left == 0) {
        bus_source_wake(&bus->producer);
    }
    if (bus->closing) {
        close_step(bus);
    }
}

static EC_RESULT check_spec(const struct ec_bus_spec *spec)
{
    int tls = !!spec->tls_ca_file + !!spec->tls_cert_file + !!spec->tls_key_file;
    if (!spec->brokers || !*spec->brokers || !spec->service) {
        return ec_fatal(0, "bus: brokers (host:port,...) and service are needed");
    }
    if (tls != 0 && tls != 3) {
        return ec_fatal(0, "bus: TLS needs all three: CA file, certificate file and key file");
    }
    return ec_ok();
}

static bool writes(const struct ec_topic *topic, const char *service)
{
    size_t len = strlen(service);
    for (const char *at = topic->writers; *at; at += strcspn(at, ",") + (strchr(at, ',') != NULL)) {
        if (strncmp(at, service, len) == 0 && (at[len] == ',' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

/* The first event to a topic would wait up to a second for the client to ask who leads it. */
static void warm_up(struct ec_bus *bus)
{
    for (size_t i = 0; i < ec_topic_count && bus->warm_count < BUS_WARM_MAX; i++) {
        rd_kafka_topic_t *topic =
            writes(&ec_topics[i], bus->spec.service)
                ? rd_kafka_topic_new(bus->producer.rk, ec_topics[i].name, NULL)
                : NULL;
        if (topic) {
            bus->warm[bus->warm_count++] = topic;
        }
    }
}

EC_RESULT ec_bus_open(struct ec_loop *loop, const struct ec_bus_spec *spec, struct ec_bus **ret_bus)
{
    EC_TRY(check_spec(spec));
    struct ec_bus *bus = ec_alloc(sizeof *bus);
    bus->loop = loop;
    bus->arena = ec_arena_new(ARENA_BYTES);
    bus->spec = *spec;
    bus->spec.brokers = ec_arena_strdup(bus->arena, spec->brokers);
    bus->spec.service = ec_arena_strdup(bus->arena, spec->service);
    bus->spec.tls_ca_file = ec_arena_strdup(bus->arena, spec->tls_ca_file);
    bus->spec.tls_cert_file = ec_arena_strdup(bus->arena, spec->tls_cert_file);
    bus->spec.tls_key_file = ec_arena_strdup(bus->arena, spec->tls_key_file);
    bus->spec.publish_waiting_max = spec->publish_waiting_max ? spec->publish_waiting_max : 10000;
    bus->spec.publish_deadline_ms = spec->publish_deadline_ms ? spec->publish_deadline_ms : 30000;
    bus->source_name = ec_arena_format(bus->arena, "/enclii/%s", spec->service);
    bus->dead_topics = ec_map_new(DEAD_TOPICS_MAX);
    rd_kafka_t *rk = NULL;
    struct ec_err err = bus_conf_producer(&bus->spec, &rk);
    if (!ec_failed(err)) {
        err = bus_source_open(&bus->producer, loop, rk, false, on_producer_turn, bus);
    }
    if (ec_failed(err)) {
        ec_map_free(bus->dead_topics, NULL);
        ec_arena_free(bus->arena);
        free(bus);
        return err;
    }
    warm_up(bus);
    *ret_bus = bus;
    return ec_ok();
}

bool ec_bus_ready(const struct ec_bus *bus)
{
    return bus->up && !bus->closing;
}

void bus_fatal(struct ec_bus *bus, struct ec_err err)
{
    if (bus->failed) {
        return;
    }
    bus->failed = true;
    if (bus->spec.fatal) {
        bus->spec.fatal(bus->spec.fatal_arg, err);
        return;
    }
    ec_log(EC_LOG_ERROR, NULL, "bus.fatal", "leaving", EC_ERR(err));
    exit(1);
}

/* ---- closing ---- */

static void finish_close(struct ec_bus *bus)
{
    ec_call_fn closed = bus->closed;
    void *arg = bus->closed_arg;
    if (bus->waiting > 0) {
        ec_log(EC_LOG_WARN, NULL, "bus.unwritten", "events were not acknowledged before the end",
               EC_N("count", bus->waiting));
    }
    ec_timer_free(bus->deadline);
    while (bus->warm_count > 0) {
        rd_kafka_topic_destroy(bus->warm[--bus->warm_count]);
    }
    bus_source_close(&bus->producer, true);
    while (bus->kept_count > 0) {
        ec_arena_free(bus->kept[--bus->kept_count]);
    }
    ec_map_free(bus->dead_topics, NULL);
    ec_arena_free(bus->arena);
    free(bus);
    closed(arg);
}

/* Called in every turn of the producer while closing. */
static void close_step(struct ec_bus *bus)
{
    bool late = ec_mono_ms() >= bus->close_by_mono_ms;
    if (late && bus->waiting > 0 && !bus->producer_closing) {
        ec_bus_purge(bus);
        bus->producer_closing = true; /* one more turn for the reports of what was purged */
        return;
    }
    if (!bus->consumers && (bus->waiting == 0 || bus->producer_closing)) {
        finish_close(bus);
    }
}

void bus_consumer_gone(struct ec_bus *bus, struct ec_consumer *consumer)
{
    for (struct ec_consumer **at = &bus->consumers; *at; at = &(*at)->next) {
        if (*at == consumer) {
            *at = consumer->next;
            break;
        }
    }
    bus_source_wake(&bus->producer);
}

static void on_deadline(void *arg)
{
    struct ec_bus *bus = arg;
    while (bus->consumers) {
        struct ec_consumer *c = bus->consumers;
        bus->consumers = c->next;
        bus_consumer_kill(c);
    }
    bus_dead_mute(bus);
    bus_source_wake(&bus->producer);
}

void ec_bus_close(struct ec_bus *bus, uint32_t grace_ms, ec_call_fn closed, void *arg)
{
    bus->closing = true;
    bus->closed = closed;
    bus->closed_arg = arg;
    bus->close_by_mono_ms = ec_mono_ms() + grace_ms;
    for (struct ec_consumer *c = bus->consumers; c; c = c->next) {
        bus_consumer_stop(c);
    }
    bus->deadline = ec_timer_new(bus->loop, on_deadline, bus);
    ec_timer_start(bus->deadline, grace_ms, 0);
    bus_source_tick(&bus->producer, CLOSE_TICK_MS);
    bus_source_wake(&bus->producer);
}
