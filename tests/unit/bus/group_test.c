/* The group consumer on an in-process cluster: order per key, low-water offsets, retries, dead
 * letters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/internal.h"
#include "enclii/v1/intake.pb-c.h"
#include "support/kafka.h"

#define TYPE "dev.enclii.push.received.v1"
#define KEYS 5
#define COUNT 100

struct seen {
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    int handled; /* handler calls that ended OK */
    int running, running_most;
    int last[KEYS]; /* last sequence number per key */
    int disorder;
    int calls;
    int fail_until; /* calls of "retry" before it succeeds */
    int want;
    struct ec_err verdict;
    char trace[EC_TRACEPARENT_SIZE];
    char reason[256], origin[128];
    int dead;
};

static void setup(struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    seen->loop = ec_loop_new();
    seen->kafka = test_kafka_start(seen->loop, "t:2", "t.g.dead:1", "tomb:1", NULL);
    seen->bus = test_kafka_bus(seen->kafka, "tester");
}

static void teardown(struct seen *seen)
{
    if (seen->bus) {
        test_kafka_close_bus(seen->kafka, seen->bus);
    }
    test_kafka_stop(seen->kafka);
    ec_loop_free(seen->loop);
}

static void publish(struct seen *seen, const char *key, const char *id, int seq)
{
    Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
    char delivery[64];
    snprintf(delivery, sizeof delivery, "%s", id);
    push.delivery_id = delivery;
    push.received_unix_ms = seq;
    test_kafka_publish(
        seen->kafka, seen->bus,
        &(struct ec_message){.topic = "t", .key = key, .type = TYPE, .id = id, .body = &push.base});
}

static bool all_handled(void *arg)
{
    const struct seen *seen = arg;
    return seen->handled >= seen->want;
}

/* ---- lag ---- */

static struct ec_event *stuck;

static struct ec_err on_stuck(void *state, struct ec_event *ev)
{
    (void)state;
    if (stuck) {
        ec_event_finish(ev, ec_ok());
    } else {
        stuck = ev;
    }
    return ec_ok();
}

static bool lag_is_five(void *arg)
{
    (void)arg;
    ec_cleanup(ec_buf_done) struct ec_buf text;
    ec_buf_init(&text, 1 << 20);
    ec_metrics_print(&text);
    return strstr(text.ptr, "enclii_bus_consumer_lag{topic=\"t\"} 5\n") != NULL;
}

/* Nothing was ever finished, so no offset is known: that is when somebody must see it. */
static void a_consumer_that_is_stuck_from_the_start_shows_its_lag(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    for (int i = 0; i < 5; i++) {
        publish(&seen, "k1", "id", i);
    }
    static const struct ec_route routes[] = {
        {TYPE, &enclii__v1__push_received__descriptor, on_stuck}};
    static const char *const topics[] = {"t", NULL};
    assert_false(ec_failed(ec_bus_consume(
        seen.bus,
        &(struct ec_consume_spec){
            .group = "g", .topics = topics, .routes = routes, .route_count = 1, .state = &seen},
        NULL)));
    bool shown = test_run_within(seen.loop, 12000, lag_is_five, NULL);
    assert_non_null(stuck);
    ec_event_finish(stuck, ec_ok());
    teardown(&seen);
    assert_true(shown);
}

/* ---- order per key, keys in parallel ---- */

struct pending {
    struct seen *seen;
    struct ec_event *ev;
    struct ec_timer *timer;
};

static void on_later(void *arg)
{
    struct pending *pending = arg;
    pending->seen->running--;
    pending->seen->handled++;
    ec_timer_free(pending->timer);
    ec_event_finish(pending->ev, ec_ok());
    free(pending);
}

static struct ec_err on_slow(void *state, struct ec_event *ev)
{
    struct seen *seen = state;
    const Enclii__V1__PushReceived *push = ec_event_body(ev);
    int key = ec_event_key(ev)[1] - '0';
    struct pending *pending = ec_alloc(sizeof *pending);
    *pending = (struct pending){seen, ev, ec_timer_new(seen->loop, on_later, pending)};
    seen->disorder += push->received_unix_ms != seen->last[key] + 1;
    seen->last[key] = (int)push->received_unix_ms;
    seen->running++;
    seen->running_most = seen->running > seen->running_most ? seen->running : seen->running_most;
    ec_timer_start(pending->timer, (uint64_t)(1 + rand() % 4), 0);
    return ec_ok();
}

static void events_of_a_key_stay_in_order(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    for (int i = 0; i < COUNT; i++) {
        char key[8], id[16];
        snprintf(key, sizeof key, "k%d", i % KEYS);
        snprintf(id, sizeof id, "id-%d", i);
        publish(&seen, key, id, i / KEYS + 1);
    }
    static const struct ec_route routes[] = {
        {TYPE, &enclii__v1__push_received__descriptor, on_slow}};
    static const char *const topics[] = {"t", NULL};
    const struct ec_consume_spec spec = {.group = "g",
                                         .topics = topics,
                                         .routes = routes,
                                         .route_count = 1,
                                         .state = &seen,
                                         .inflight_max = 8};
    struct ec_consumer *consumer = NULL;
    assert_false(ec_failed(ec_bus_consume(seen.bus, &spec, &consumer)));
    seen.want = COUNT;
    assert_true(test_run_until(seen.loop, 15000, all_handled, &seen));
    assert_int_equal(seen.disorder, 0);
    assert_in_range(seen.running_most, 2, KEYS);
    assert_null(test_kafka_fatal(seen.kafka));

    /* A second instance of the same group after an orderly end sees nothing again. */
    test_kafka_close_bus(seen.kafka, seen.bus);
    seen.bus = test_kafka_bus(seen.kafka, "tester");
    assert_false(ec_failed(ec_bus_consume(seen.bus, &spec, NULL)));
    seen.handled = 0;
    seen.last[0] = 20;
    publish(&seen, "k0", "last", 21);
    seen.want = 1;
    assert_true(test_run_until(seen.loop, 15000, all_handled, &seen));
    assert_int_equal(seen.disorder, 0);
    teardown(&seen);
}

/* ---- retry, reject, undecodable ---- */

static struct ec_err on_verdict(void *state, struct ec_event *ev)
{
    struct seen *seen = state;
    seen->calls++;
    if (strcmp(ec_event_id(ev), "retry") == 0 && seen->calls <= seen->fail_until) {
        return ec_retry(0, "not yet");
    }
    if (strncmp(ec_event_id(ev), "bad", 3) == 0) {
        return seen->verdict;
    }
    snprintf(seen->trace, sizeof seen->trace, "%s", ec_event_trace(ev));
    seen->handled++;
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static struct ec_err on_dead(void *state, struct ec_event *ev)
{
    struct seen *seen = state;
    seen->dead++;
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static bool dead_seen(void *arg)
{
    return ((struct seen *)arg)->dead >= ((struct seen *)arg)->want;
}

static void what_fails_is_retried_or_dead_lettered(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    static const struct ec_route routes[] = {
        {TYPE, &enclii__v1__push_received__descriptor, on_verdict}};
    static const struct ec_route any[] = {{NULL, NULL, on_dead}};
    static const char *const topics[] = {"t", NULL};
    static const char *const dead_topics[] = {"t.g.dead", NULL};
    double dead_before = ec_metric_value(&bus_dead_letters, "t");
    seen.verdict = ec_reject("no such thing");
    seen.fail_until = 2;
    publish(&seen, "a", "retry", 1);
    publish(&seen, "a", "bad-1", 2);
    publish(&seen, "a", "good", 3);
    test_kafka_publish_raw(seen.kafka, "t", "x", "\xff\xff", 2); /* no CloudEvent */
    assert_false(ec_failed(ec_bus_consume(
        seen.bus,
        &(struct ec_consume_spec){
            .group = "g", .topics = topics, .routes = routes, .route_count = 1, .state = &seen},
        NULL)));
    assert_false(ec_failed(ec_bus_consume(seen.bus,
                                          &(struct ec_consume_spec){.group = "letters",
                                                                    .topics = dead_topics,
                                                                    .routes = any,
                                                                    .route_count = 1,
                                                                    .state = &seen,
                                                                    .letters = true},
                                          NULL)));
    seen.want = 2;
    assert_true(test_run_until(seen.loop, 15000, all_handled, &seen)); /* retry and good */
    seen.want = 2; /* the refused one and the raw one */
    assert_true(test_run_until(seen.loop, 15000, dead_seen, &seen));
    assert_int_equal(seen.calls, 3 + 1 + 1);
    assert_true(ec_trace_valid(seen.trace));
    assert_true(ec_metric_value(&bus_dead_letters, "t") - dead_before >= 2);
    teardown(&seen);
}

static void fatal_ends_the_bus(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    static const struct ec_route routes[] = {
        {TYPE, &enclii__v1__push_received__descriptor, on_verdict}};
    static const char *const topics[] = {"t", NULL};
    seen.verdict = ec_fatal(0, "disk on fire");
    publish(&seen, "a", "bad-2", 1);
    assert_false(ec_failed(ec_bus_consume(
        seen.bus,
        &(struct ec_consume_spec){
            .group = "g", .topics = topics, .routes = routes, .route_count = 1, .state = &seen},
        NULL)));
    while (!test_kafka_fatal(seen.kafka)) {
        uv_run(ec_loop_uv(seen.loop), UV_RUN_ONCE);
    }
    assert_string_equal(test_kafka_fatal(seen.kafka), "disk on fire");
    teardown(&seen);
}

static void limits_of_what_is_published(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    struct ec_message message = {.topic = "t", .key = "k", .type = TYPE, .id = "i"};
    message.raw = (struct ec_span){calloc(1, (8u << 20) + 1), (8u << 20) + 1};
    assert_int_equal(ec_bus_publish(seen.bus, &message, NULL, NULL).fate, EC_FATE_REJECT);
    free((void *)(uintptr_t)message.raw.ptr);
    char key[600];
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    message.raw = EC_SPAN("x");
    message.key = key;
    assert_int_equal(ec_bus_publish(seen.bus, &message, NULL, NULL).fate, EC_FATE_REJECT);
    teardown(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_consumer_that_is_stuck_from_the_start_shows_its_lag),
        cmocka_unit_test(events_of_a_key_stay_in_order),
        cmocka_unit_test(what_fails_is_retried_or_dead_lettered),
        cmocka_unit_test(fatal_ends_the_bus),
        cmocka_unit_test(limits_of_what_is_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
