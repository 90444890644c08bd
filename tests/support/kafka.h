/* A Kafka cluster inside the test program (librdkafka's mock cluster) and the loop turned by hand.
 * What the mock cannot do (transactions, retention, admin) is tested against a real broker
 * elsewhere.
 *
 *   struct test_kafka *kafka = test_kafka_start(loop, "enclii.intake:1", "enclii.repos:1", NULL);
 *   struct ec_bus *bus = test_kafka_bus(kafka, "webhook");
 *   test_run_until(loop, 5000, count_reached, &state);
 *   test_kafka_close_bus(kafka, bus);
 *   test_kafka_stop(kafka);
 */
#pragma once

#include <stdbool.h>

#include "bus/bus.h"
#include "net/loop.h"

struct test_kafka;

/* Topics as "name:partitions", NULL-ended. */
struct test_kafka *test_kafka_start(struct ec_loop *loop, ...) __attribute__((sentinel));
void test_kafka_topic(struct test_kafka *kafka, const char *name, int partitions); /* one more */
void test_kafka_stop(struct test_kafka *kafka);
const char *test_kafka_brokers(const struct test_kafka *kafka);
void test_kafka_down(struct test_kafka *kafka, bool down); /* brokers answer no more, or again */

/* The next heartbeat of a member is told that another one has its name. */
void test_kafka_fence(struct test_kafka *kafka);

/* The next write of a producer is refused for good. */
void test_kafka_refuse(struct test_kafka *kafka);

/* A bus with short waits. A FATAL error is kept for test_kafka_fatal. */
struct ec_bus *test_kafka_bus(struct test_kafka *kafka, const char *service);
void test_kafka_close_bus(struct test_kafka *kafka,
                          struct ec_bus *bus);                /* turns the loop till closed */
const char *test_kafka_fatal(const struct test_kafka *kafka); /* its text, or NULL */

/* Publishes and waits for the acknowledgement. */
void test_kafka_publish(struct test_kafka *kafka, struct ec_bus *bus,
                        const struct ec_message *message);
/* A record as no producer of ours would write it: without our headers. */
void test_kafka_publish_raw(struct test_kafka *kafka, const char *topic, const char *key,
                            const void *value, size_t len);
/* The same with headers of one's own (name, value, ..., NULL-ended); a key without ptr is none. */
void test_kafka_publish_record(struct test_kafka *kafka, const char *topic, struct ec_span key,
                               struct ec_span value, const char *const *headers);

/* Turns the loop until done(arg); gives done(arg). A machine that is busy with other things gets
 * more than limit_ms: only who fails waits so long. */
bool test_run_until(struct ec_loop *loop, int limit_ms, bool (*done)(void *arg), void *arg);
/* The same, but for no longer: what must not happen, or happens beside. */
bool test_run_within(struct ec_loop *loop, int ms, bool (*done)(void *arg), void *arg);
void test_run_for(struct ec_loop *loop, int ms);
bool test_is_true(void *flag); /* done: a bool */
