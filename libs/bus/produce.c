/* Out: one idempotent producer. Each accepted record has exactly one delivery report, which comes
 * as an event on the loop and ends the caller's wait. */
#include "bus/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

struct publish {
    ec_published_fn done;
    void *arg;
    int64_t started_us;
};

struct ec_metric bus_published =
    EC_COUNTER("enclii_bus_published_total", "Events published, by result.", "result");
struct ec_metric bus_publish_seconds = EC_HISTOGRAM(
    "enclii_bus_publish_seconds", "From publish to the broker's acknowledgement.", NULL);

static struct ec_err err_of(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return ec_ok();
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return ec_reject("bus: the event is larger than the topic allows");
    default:
        return ec_retry((int)code, rd_kafka_err2str(code));
    }
}

EC_RESULT bus_produce(struct ec_bus *bus, struct bus_record *record, ec_published_fn done,
                      void *arg)
{
    struct publish *wait = ec_alloc(sizeof *wait);
    *wait = (struct publish){done, arg, ec_mono_us()};
    rd_kafka_resp_err_t code = rd_kafka_producev(bus->producer.rk, RD_KAFKA_V_TOPIC(record->topic),
                                                 RD_KAFKA_V_KEY(record->key.ptr, record->key.len),
                                                 RD_KAFKA_V_VALUE(record->value, record->value_len),
                                                 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_FREE),
                                                 RD_KAFKA_V_HEADERS(record->headers),
                                                 RD_KAFKA_V_OPAQUE(wait), RD_KAFKA_V_END);
    if (code) {
        free(wait);
        free(record->value);
        rd_kafka_headers_destroy(record->headers);
        return err_of(code);
    }
    bus->waiting++;
    return ec_ok();
}

EC_RESULT ec_bus_publish(struct ec_bus *bus, const struct ec_message *message, ec_published_fn done,
                         void *arg)
{
    struct bus_record record = {.topic = message->topic, .key = ec_span_of(message->key)};
    record.value_len =
        message->body ? protobuf_c_message_get_packed_size(message->body) : message->raw.len;
    if (!message->key || record.key.len > BUS_KEY_MAX_BYTES) {
        return ec_reject("bus: an event needs a key of at most 512 bytes");
    }
    if (record.value_len > BUS_VALUE_MAX_BYTES) {
        return ec_reject("bus: an event may have at most 8 MiB");
    }
    if (bus->closing && bus->producer_closing) {
        return ec_retry(0, "bus: closed");
    }
    if (bus->waiting >= bus->spec.publish_waiting_max) {
        return ec_retry(0, "bus: too many events wait for the broker");
    }
    if (message->body || message->raw.ptr) { /* an empty message is no tombstone */
        record.value = ec_alloc(record.value_len + 1);
    }
    if (message->body) {
        protobuf_c_message_pack(message->body, record.value);
    } else if (record.value) {
        memcpy(record.value, message->raw.ptr, record.value_len);
    }
    record.headers =
        message->headers.ptr ? bus_headers_unpack(message->headers) : bus_headers_new(bus, message);
    return bus_produce(bus, &record, done, arg);
}

void ec_bus_purge(struct ec_bus *bus)
{
    rd_kafka_purge(bus->producer.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
}

static void on_report(struct ec_bus *bus, const rd_kafka_message_t *message)
{
    struct publish *wait = message->_private;
    struct ec_err err = err_of(message->err);
    bus->waiting--;
    ec_metric_add(&bus_published, ec_fate_name(err.fate), 1);
    if (ec_failed(err)) {
        ec_log(EC_LOG_DEBUG, NULL, "bus.not_published", err.what, EC_N("code", err.sys));
    } else {
        bus->up = true;
        ec_metric_observe_s(&bus_publish_seconds, NULL,
                            (double)(ec_mono_us() - wait->started_us) / 1e6);
    }
    if (wait->done) {
        wait->done(wait->arg, err);
    }
    free(wait);
}

static void tell_connection(struct ec_bus *bus, bool up)
{
    bus->up = up;
    if (bus->told && up == bus->told_up) {
        return;
    }
    bus->told = true;
    bus->told_up = up;
    ec_log(up ? EC_LOG_INFO : EC_LOG_WARN, NULL, up ? "bus.up" : "bus.down",
           up ? "connected to Kafka" : "no Kafka broker is reachable; trying on",
           EC_T("brokers", bus->spec.brokers));
}

void bus_producer_event(struct ec_bus *bus, rd_kafka_event_t *event)
{
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR: {
        const rd_kafka_message_t *message;
        while ((message = rd_kafka_event_message_next(event))) {
            on_report(bus, message);
        }
        break;
    }
    case RD_KAFKA_EVENT_STATS:
        /* The one fact we need of 12 kB of JSON: is any connection up? */
        tell_connection(bus, strstr(rd_kafka_event_stats(event), "\"state\":\"UP\"") != NULL);
        break;
    case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
        bus_dead_topic_answer(bus, event);
        break;
    default:
        (void)bus_source_common(bus, bus->producer.rk, event);
    }
}
