/* How we set up librdkafka, in one place. The reason is beside each value that is not the default.
 */
#include "bus/internal.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"

struct pair {
    const char *name;
    const char *value; /* NULL = leave the default */
};

static EC_RESULT apply(rd_kafka_conf_t *conf, const struct pair *pairs, size_t count)
{
    char why[256];
    for (size_t i = 0; i < count; i++) {
        if (pairs[i].value && rd_kafka_conf_set(conf, pairs[i].name, pairs[i].value, why,
                                                sizeof why) != RD_KAFKA_CONF_OK) {
            ec_log(EC_LOG_ERROR, NULL, "bus.setting_refused", why, EC_T("name", pairs[i].name));
            return ec_fatal(0, "bus: the Kafka client refuses a setting (logged above)");
        }
    }
    return ec_ok();
}

static EC_RESULT apply_common(rd_kafka_conf_t *conf, const struct ec_bus_spec *spec)
{
    const struct pair pairs[] = {
        {"bootstrap.servers", spec->brokers},
        {"client.id", spec->service},
        {"log.queue", "true"},            /* logs come to our thread as events */
        {"socket.nagle.disable", "true"}, /* else up to 40 ms per small request */
        {"broker.address.family", "v4"}, /* "localhost" would first try ::1, where nobody listens */
        {"reconnect.backoff.max.ms", "1000"},
        {"topic.metadata.refresh.interval.ms", "60000"}, /* also keeps one connection in use */
        {"security.protocol", spec->tls_ca_file ? "ssl" : NULL},
        {"ssl.ca.location", spec->tls_ca_file},
        {"ssl.certificate.location", spec->tls_cert_file},
        {"ssl.key.location", spec->tls_key_file},
    };
    return apply(conf, pairs, EC_LEN(pairs));
}

static EC_RESULT make(rd_kafka_type_t type, rd_kafka_conf_t *conf, rd_kafka_t **ret_rk)
{
    char why[256];
    *ret_rk = rd_kafka_new(type, conf, why, sizeof why);
    if (!*ret_rk) {
        rd_kafka_conf_destroy(conf);
        ec_log(EC_LOG_ERROR, NULL, "bus.client_refused", why);
        return ec_fatal(0, "bus: the Kafka client does not start (logged above)");
    }
    return ec_ok();
}

EC_RESULT bus_conf_producer(const struct ec_bus_spec *spec, rd_kafka_t **ret_rk)
{
    char deadline[16], linger[16];
    snprintf(deadline, sizeof deadline, "%u", spec->publish_deadline_ms);
    snprintf(linger, sizeof linger, "%u", spec->linger_ms);
    const struct pair pairs[] = {
        {"enable.idempotence", "true"}, /* acks=all, no duplicates and no reordering by resending */
        {"linger.ms", linger},
        {"message.timeout.ms", deadline},
        {"compression.type", "lz4"},
        {"queue.buffering.max.kbytes", "65536"}, /* bounds our memory */
        {"message.max.bytes", "8912896"},        /* BUS_VALUE_MAX_BYTES and room for headers */
        {"partitioner", "murmur2_random"},       /* as the Java clients do */
        {"statistics.interval.ms", "1000"},      /* readiness */
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct ec_err err = apply_common(conf, spec);
    if (!ec_failed(err)) {
        err = apply(conf, pairs, EC_LEN(pairs));
    }
    if (ec_failed(err)) {
        rd_kafka_conf_destroy(conf);
        return err;
    }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG |
                                       RD_KAFKA_EVENT_STATS);
    return make(RD_KAFKA_PRODUCER, conf, ret_rk);
}

EC_RESULT bus_conf_consumer(const struct ec_bus_spec *spec, const struct bus_consumer_conf *want,
                            rd_kafka_t **ret_rk)
{
    char session[16], wait[16];
    snprintf(session, sizeof session, "%u",
             spec->session_timeout_ms ? spec->session_timeout_ms : 10000);
    snprintf(wait, sizeof wait, "%u", spec->fetch_wait_ms ? spec->fetch_wait_ms : 500);
    const struct pair pairs[] = {
        {"group.id", want->group},
        /* Eager: cooperative-sticky of librdkafka 2.0 aborts on an early close. */
        {"partition.assignment.strategy", "range"},
        {"session.timeout.ms", session},
        {"heartbeat.interval.ms", spec->session_timeout_ms ? "500" : "3000"},
        {"enable.auto.offset.store", "false"}, /* only a finished event counts */
        {"enable.auto.commit", want->commit ? "true" : "false"},
        {"auto.commit.interval.ms", "1000"},
        {"auto.offset.reset", want->latest ? "latest" : "earliest"},
        {"allow.auto.create.topics", "false"},
        {"enable.partition.eof", want->eof ? "true" : "false"},
        {"fetch.wait.max.ms", wait},
        {"fetch.error.backoff.ms", "100"},
        {"queued.min.messages",
         "2000"}, /* the defaults are made for one big consumer per process */
        {"queued.max.messages.kbytes", "16384"},
        {"fetch.message.max.bytes",
         "1048576"}, /* per partition and fetch; bigger records come alone */
        {"statistics.interval.ms", "0"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    struct ec_err err = apply_common(conf, spec);
    if (!ec_failed(err)) {
        err = apply(conf, pairs, EC_LEN(pairs));
    }
    if (!ec_failed(err) && want->letters) {
        err = apply(conf, &(struct pair){"topic.metadata.refresh.interval.ms", "10000"}, 1);
    }
    if (!ec_failed(err) && want->member) {
        err = apply(conf, &(struct pair){"group.instance.id", want->member}, 1);
    }
    if (ec_failed(err)) {
        rd_kafka_conf_destroy(conf);
        return err;
    }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_REBALANCE |
                                       RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_ERROR |
                                       RD_KAFKA_EVENT_LOG);
    return make(RD_KAFKA_CONSUMER, conf, ret_rk);
}
