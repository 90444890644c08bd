/* See kafka.h. */
#include "support/kafka.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define BROKERS 1
#define API_PRODUCE 0 /* of Kafka's protocol */
#define API_HEARTBEAT 12

struct test_kafka {
    struct ec_loop *loop;
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *cluster;
    rd_kafka_t *stranger; /* a producer that is not ours; made at first use */
    const char *fatal;
};

static void die(const char *what)
{
    fprintf(stderr, "test kafka: %s\n", what);
    abort();
}

struct test_kafka *test_kafka_start(struct ec_loop *loop, ...)
{
    char why[256], name[256];
    struct test_kafka *kafka = ec_alloc(sizeof *kafka);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    kafka->loop = loop;
    rd_kafka_conf_set(conf, "log_level", "3", why, sizeof why);
    kafka->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    kafka->cluster = kafka->rk ? rd_kafka_mock_cluster_new(kafka->rk, BROKERS) : NULL;
    if (!kafka->cluster) {
        die("the mock cluster does not start");
    }
    va_list topics;
    va_start(topics, loop);
    for (const char *topic; (topic = va_arg(topics, const char *));) {
        int partitions = 1;
        if (sscanf(topic, "%255[^:]:%d", name, &partitions) < 1) {
            die("topics are \"name:partitions\"");
        }
        test_kafka_topic(kafka, name, partitions);
    }
    va_end(topics);
    return kafka;
}

void test_kafka_topic(struct test_kafka *kafka, const char *name, int partitions)
{
    rd_kafka_mock_topic_create(kafka->cluster, name, partitions, BROKERS);
}

void test_kafka_stop(struct test_kafka *kafka)
{
    if (kafka->stranger) {
        rd_kafka_destroy(kafka->stranger);
    }
    rd_kafka_mock_cluster_destroy(kafka->cluster);
    rd_kafka_destroy(kafka->rk);
    free(kafka);
}

const char *test_kafka_brokers(const struct test_kafka *kafka)
{
    return rd_kafka_mock_cluster_bootstraps(kafka->cluster);
}

void test_kafka_down(struct test_kafka *kafka, bool down)
{
    for (int id = 1; id <= BROKERS; id++) {
        if (down) {
            rd_kafka_mock_broker_set_down(kafka->cluster, id);
        } else {
            rd_kafka_mock_broker_set_up(kafka->cluster, id);
        }
    }
}

void test_kafka_fence(struct test_kafka *kafka)
{
    rd_kafka_mock_push_request_errors(kafka->cluster, API_HEARTBEAT, 1,
                                      RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID);
}

void test_kafka_refuse(struct test_kafka *kafka)
{
    rd_kafka_mock_push_request_errors(kafka->cluster, API_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
}

static void on_fatal(void *arg, struct ec_err err)
{
    struct test_kafka *kafka = arg;
    kafka->fatal = err.what;
}

const char *test_kafka_fatal(const struct test_kafka *kafka)
{
    return kafka->fatal;
}

struct ec_bus *test_kafka_bus(struct test_kafka *kafka, const char *service)
{
    struct ec_bus *bus = NULL;
    const struct ec_bus_spec spec = {.brokers = test_kafka_brokers(kafka),
                                     .service = service,
                                     .fetch_wait_ms = 10,
                                     .session_timeout_ms = 3000,
                                     .fatal = on_fatal,
                                     .fatal_arg = kafka};
    if (ec_failed(ec_bus_open(kafka->loop, &spec, &bus))) {
        die("the bus does not open");
    }
    return bus;
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

bool test_is_true(void *flag)
{
    return *(bool *)flag;
}

void test_kafka_close_bus(struct test_kafka *kafka, struct ec_bus *bus)
{
    bool closed = false;
    /* A consumer that is killed leaves its timers: on a busy machine it gets the time to leave. */
    ec_bus_close(bus, 20000, set_true, &closed);
    if (!test_run_until(kafka->loop, 25000, test_is_true, &closed)) {
        die("the bus does not close");
    }
}

struct wait {
    bool over;
    struct ec_err err;
};

static void on_published(void *arg, struct ec_err err)
{
    struct wait *wait = arg;
    wait->over = true;
    wait->err = err;
}

void test_kafka_publish(struct test_kafka *kafka, struct ec_bus *bus,
                        const struct ec_message *message)
{
    struct wait wait = {0};
    if (ec_failed(ec_bus_publish(bus, message, on_published, &wait)) ||
        !test_run_until(kafka->loop, 10000, test_is_true, &wait.over) || ec_failed(wait.err)) {
        die(wait.err.what ? wait.err.what : "not published");
    }
}

static rd_kafka_t *stranger(struct test_kafka *kafka)
{
    char why[256];
    if (!kafka->stranger) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_set(conf, "bootstrap.servers", test_kafka_brokers(kafka), why, sizeof why);
        rd_kafka_conf_set(conf, "linger.ms", "0", why, sizeof why);
        kafka->stranger = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    }
    return kafka->stranger;
}

void test_kafka_publish_record(struct test_kafka *kafka, const char *topic, struct ec_span key,
                               struct ec_span value, const char *const *headers)
{
    rd_kafka_headers_t *list = rd_kafka_headers_new(8);
    for (size_t i = 0; headers && headers[i]; i += 2) {
        rd_kafka_header_add(list, headers[i], -1, headers[i + 1], -1);
    }
    void *copy = ec_alloc(value.len + 1);
    memcpy(copy, value.ptr, value.len);
    rd_kafka_resp_err_t code = rd_kafka_producev(
        stranger(kafka), RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY(key.ptr, key.len),
        RD_KAFKA_V_VALUE(copy, value.len), RD_KAFKA_V_HEADERS(list),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_FREE), RD_KAFKA_V_END);
    if (code || rd_kafka_flush(kafka->stranger, 10000)) {
        die("raw record not published");
    }
}

void test_kafka_publish_raw(struct test_kafka *kafka, const char *topic, const char *key,
                            const void *value, size_t len)
{
    test_kafka_publish_record(kafka, topic, ec_span_of(key), (struct ec_span){value, len}, NULL);
}

static void nothing(void *arg)
{
    (void)arg;
}

bool test_run_within(struct ec_loop *loop, int ms, bool (*done)(void *arg), void *arg)
{
    int64_t end_ms = ec_mono_ms() + ms;
    struct ec_timer *tick = ec_timer_new(loop, nothing, NULL); /* a turn never waits longer */
    ec_timer_start(tick, 10, 10);
    while (!done(arg) && ec_mono_ms() < end_ms) {
        uv_run(ec_loop_uv(loop), UV_RUN_ONCE);
    }
    ec_timer_free(tick);
    return done(arg);
}

#ifdef __SANITIZE_THREAD__
#define PATIENCE 6
#else
#define PATIENCE 3
#endif

bool test_run_until(struct ec_loop *loop, int limit_ms, bool (*done)(void *arg), void *arg)
{
    return test_run_within(loop, PATIENCE * limit_ms, done, arg);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

void test_run_for(struct ec_loop *loop, int ms)
{
    test_run_within(loop, ms, never, NULL);
}
