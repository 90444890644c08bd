/* A static member that is fenced is begun anew within the process: nothing is lost, what was in
 * hand counts once, and who is fenced again and again ends. (Against a real broker:
 * tests/integration/fence_test.sh.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/internal.h"
#include "enclii/v1/repo.pb-c.h"
#include "support/kafka.h"

#define TYPE "dev.enclii.repo.bound.v1"
#define IDS_MAX 64

extern struct ec_metric bus_rebuilt;

struct seen {
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    struct ec_consumer *consumer;
    int times[IDS_MAX]; /* per event: how often it had its effect */
    int published, want;
    double rebuilt, want_rebuilt;
    /* batch */
    int64_t stored;
    struct ec_batch_in *held;
    bool hold, fail;
    int loads;
};

static void setup(struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    seen->stored = -1;
    seen->loop = ec_loop_new();
    seen->kafka = test_kafka_start(seen->loop, "t:1", NULL);
    seen->bus = test_kafka_bus(seen->kafka, "tester");
}

static void teardown(struct seen *seen)
{
    test_kafka_close_bus(seen->kafka, seen->bus);
    test_kafka_stop(seen->kafka);
    ec_loop_free(seen->loop);
}

static void publish(struct seen *seen, int count)
{
    for (int i = 0; i < count; i++) {
        char id[16];
        Enclii__V1__RepoBound repo = ENCLII__V1__REPO_BOUND__INIT;
        snprintf(id, sizeof id, "%d", seen->published++);
        repo.full_name = id;
        test_kafka_publish(
            seen->kafka, seen->bus,
            &(struct ec_message){
                .topic = "t", .key = "k", .id = id, .type = TYPE, .body = &repo.base});
    }
}

static void count(struct seen *seen, const struct ec_event *ev)
{
    seen->times[atoi(ec_event_id(ev)) % IDS_MAX]++;
}

static bool all_had_effect(void *arg)
{
    const struct seen *seen = arg;
    for (int i = 0; i < seen->published; i++) {
        if (seen->times[i] == 0) {
            return false;
        }
    }
    return true;
}

static void wait_all(struct seen *seen)
{
    assert_true(test_run_until(seen->loop, 15000, all_had_effect, seen));
}

static bool is_rebuilt(void *arg)
{
    const struct seen *seen = arg;
    return ec_metric_value(&bus_rebuilt, "g") >= seen->want_rebuilt;
}

static void fence(struct seen *seen)
{
    seen->rebuilt = ec_metric_value(&bus_rebuilt, "g");
    seen->want_rebuilt = seen->rebuilt + 1;
    test_kafka_fence(seen->kafka);
}

static void wait_rebuilt(struct seen *seen)
{
    assert_true(test_run_until(seen->loop, 15000, is_rebuilt, seen));
    assert_null(test_kafka_fatal(seen->kafka));
}

/* ---- who reads ---- */

static struct ec_err on_one(void *state, struct ec_event *ev)
{
    count(state, ev);
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static const char *const topics[] = {"t", NULL};

static void read_as_group(struct seen *seen)
{
    static const struct ec_route routes[] = {{TYPE, &enclii__v1__repo_bound__descriptor, on_one}};
    assert_false(ec_failed(ec_bus_consume(seen->bus,
                                          &(struct ec_consume_spec){.group = "g",
                                                                    .topics = topics,
                                                                    .routes = routes,
                                                                    .route_count = 1,
                                                                    .state = seen,
                                                                    .member = "one"},
                                          &seen->consumer)));
}

static void load_offsets(void *state, struct ec_offset *offsets, size_t count_of, void *token)
{
    struct seen *seen = state;
    seen->loads++;
    for (size_t i = 0; i < count_of; i++) {
        offsets[i].next = seen->stored;
    }
    ec_offsets_loaded(token, ec_ok());
}

/* The caller's transaction: effects and offsets together. */
static void commit(struct seen *seen, struct ec_batch_in *batch)
{
    const struct ec_offset *offsets;
    for (size_t i = 0; i < ec_batch_in_count(batch); i++) {
        count(seen, ec_batch_in_event(batch, i));
    }
    if (ec_batch_in_offsets(batch, &offsets) == 1) {
        seen->stored = offsets[0].next;
    }
    ec_batch_in_finish(batch, ec_ok());
}

static void on_batch(void *state, struct ec_batch_in *batch)
{
    struct seen *seen = state;
    if (seen->hold) {
        seen->held = batch;
    } else if (seen->fail) {
        ec_batch_in_finish(batch, ec_retry(0, "database away"));
    } else {
        commit(seen, batch);
    }
}

static void read_as_batch(struct seen *seen)
{
    static const struct ec_route routes[] = {{TYPE, &enclii__v1__repo_bound__descriptor, NULL}};
    assert_false(
        ec_failed(ec_bus_consume_batch(seen->bus,
                                       &(struct ec_consume_batch_spec){.group = "g",
                                                                       .topics = topics,
                                                                       .routes = routes,
                                                                       .route_count = 1,
                                                                       .state = seen,
                                                                       .load_offsets = load_offsets,
                                                                       .on_batch = on_batch,
                                                                       .member = "one"},
                                       &seen->consumer)));
}

static void assert_each_once(const struct seen *seen)
{
    for (int i = 0; i < seen->published; i++) {
        assert_int_equal(seen->times[i], 1);
    }
}

/* ---- tests ---- */

static void a_group_goes_on(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    publish(&seen, 5);
    read_as_group(&seen);
    wait_all(&seen);
    fence(&seen);
    publish(&seen, 5); /* comes by the old member or by the new one */
    wait_rebuilt(&seen);
    publish(&seen, 5);
    wait_all(&seen);
    fence(&seen); /* and again */
    wait_rebuilt(&seen);
    publish(&seen, 5);
    wait_all(&seen);
    teardown(&seen);
}

static bool is_held(void *arg)
{
    return ((const struct seen *)arg)->held != NULL;
}

static void a_batch_in_hand_counts_once(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    seen.hold = true;
    publish(&seen, 5);
    read_as_batch(&seen);
    assert_true(test_run_until(seen.loop, 15000, is_held, &seen));
    fence(&seen);
    publish(&seen, 5);
    test_run_for(seen.loop, 2500);   /* the heartbeat was long ago */
    assert_false(is_rebuilt(&seen)); /* its transaction may still change the offsets */
    assert_true(seen.consumer->life == BUS_LETTING_GO);
    seen.hold = false;
    commit(&seen, seen.held);
    wait_rebuilt(&seen);
    wait_all(&seen);
    assert_each_once(&seen);
    assert_int_equal(seen.loads, 2);
    assert_int_equal(seen.stored, 10);
    teardown(&seen);
}

static void a_batch_that_waits_comes_anew(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    seen.fail = true;
    publish(&seen, 5);
    read_as_batch(&seen);
    test_run_for(seen.loop, 1000);
    fence(&seen);
    wait_rebuilt(&seen);
    seen.fail = false;
    publish(&seen, 5);
    wait_all(&seen);
    assert_each_once(&seen);
    teardown(&seen);
}

static bool has_failed(void *arg)
{
    return test_kafka_fatal(((const struct seen *)arg)->kafka) != NULL;
}

static void too_often_ends_the_process(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    publish(&seen, 1);
    read_as_group(&seen);
    wait_all(&seen);
    for (size_t i = 0; i < BUS_REBUILDS_MAX; i++) {
        seen.consumer->broken_mono_ms[i] = ec_mono_ms() - 1000;
    }
    fence(&seen);
    assert_true(test_run_until(seen.loop, 15000, has_failed, &seen));
    assert_false(is_rebuilt(&seen));
    int64_t began = ec_mono_ms();
    teardown(&seen); /* a handle that broke does not hold up the end */
    assert_in_range(ec_mono_ms() - began, 0, 15000);
}

static void an_end_while_it_rests(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    publish(&seen, 1);
    read_as_group(&seen);
    wait_all(&seen);
    seen.consumer->again_backoff.attempt = 20; /* it would rest for long */
    seen.consumer->broken_mono_ms[BUS_REBUILDS_MAX - 1] = ec_mono_ms() - 1000;
    fence(&seen);
    for (int i = 0; i < 100 && seen.consumer->life != BUS_RESTING; i++) {
        test_run_for(seen.loop, 50);
    }
    int64_t began = ec_mono_ms();
    teardown(&seen);
    assert_in_range(ec_mono_ms() - began, 0, 15000);
}

static void how_often_is_too_often(void **state)
{
    (void)state;
    const int64_t now = 10000000, minute = 60000;
    const int64_t never_before[] = {0, 0, 0}, lately[] = {now - 1, now - 2, now - 9 * minute},
                  once_long_ago[] = {now - 1, now - 10 * minute, now - 2},
                  first_ones[] = {now - 1, 0, 0};
    assert_true(decide_rebuild(never_before, 3, now));
    assert_true(decide_rebuild(never_before, 3, 5)); /* the machine has just started */
    assert_true(decide_rebuild(first_ones, 3, now));
    assert_true(decide_rebuild(once_long_ago, 3, now));
    assert_false(decide_rebuild(lately, 3, now));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(how_often_is_too_often),
        cmocka_unit_test(a_group_goes_on),
        cmocka_unit_test(a_batch_in_hand_counts_once),
        cmocka_unit_test(a_batch_that_waits_comes_anew),
        cmocka_unit_test(too_often_ends_the_process),
        cmocka_unit_test(an_end_while_it_rests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
