/* The batch consumer and the table consumer on an in-process cluster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "bus/internal.h"
#include "enclii/v1/repo.pb-c.h"
#include "support/kafka.h"

#define TYPE "dev.enclii.repo.bound.v1"

static const struct ec_route routes[] = {{TYPE, &enclii__v1__repo_bound__descriptor, NULL}};

struct seen {
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    int64_t stored[2]; /* the caller's database: next offset per partition */
    int batches, events, rejected, loads;
    bool down_at_reject;
    int fail_loads, fail_batches;
    int want;
    int64_t want_stored;
    char last[64];
    bool caught_up;
    int rows, removed;
};

static void setup(struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    seen->stored[0] = seen->stored[1] = -1;
    seen->loop = ec_loop_new();
    seen->kafka =
        test_kafka_start(seen->loop, "t:2", "t.b.dead:1", "t.tester.dead:1", "late:1", NULL);
    seen->bus = test_kafka_bus(seen->kafka, "tester");
}

static void teardown(struct seen *seen)
{
    test_kafka_close_bus(seen->kafka, seen->bus);
    test_kafka_stop(seen->kafka);
    ec_loop_free(seen->loop);
}

static void publish(struct seen *seen, const char *key, const char *id, const char *type)
{
    Enclii__V1__RepoBound repo = ENCLII__V1__REPO_BOUND__INIT;
    char name[64];
    snprintf(name, sizeof name, "%s", id);
    repo.full_name = name;
    test_kafka_publish(seen->kafka, seen->bus,
                       &(struct ec_message){.topic = "t",
                                            .key = key,
                                            .id = id,
                                            .type = type ? type : TYPE,
                                            .body = type ? &repo.base : NULL});
}

static void load_offsets(void *state, struct ec_offset *offsets, size_t count, void *token)
{
    struct seen *seen = state;
    bool fail = seen->loads++ < seen->fail_loads;
    for (size_t i = 0; i < count; i++) {
        offsets[i].next = seen->stored[offsets[i].partition];
    }
    ec_offsets_loaded(token, fail ? ec_retry(0, "database away") : ec_ok());
}

static bool rejects(struct seen *seen, struct ec_batch_in *batch)
{
    bool any = false;
    for (size_t i = 0; i < ec_batch_in_count(batch); i++) {
        if (strcmp(ec_event_id(ec_batch_in_event(batch, i)), "refuse") == 0) {
            ec_batch_in_reject(batch, i, "unknown service");
            seen->rejected++;
            any = true;
        }
    }
    if (any && seen->down_at_reject) {
        test_kafka_down(seen->kafka, true);
    }
    return any;
}

static void on_batch(void *state, struct ec_batch_in *batch)
{
    struct seen *seen = state;
    const struct ec_offset *offsets;
    seen->batches++;
    if (seen->fail_batches-- > 0) {
        ec_batch_in_finish(batch, ec_retry(0, "serialisation conflict"));
        return;
    }
    if (rejects(seen, batch)) {
        assert_int_equal(ec_batch_in_offsets(batch, &offsets), 0);
        ec_batch_in_finish(batch, ec_ok()); /* the rest of it comes again */
        return;
    }
    for (size_t i = 0; i < ec_batch_in_count(batch); i++) {
        struct ec_event *ev = ec_batch_in_event(batch, i);
        const Enclii__V1__RepoBound *repo = ec_event_body(ev);
        assert_string_equal(repo->full_name, ec_event_id(ev));
        seen->events++;
        snprintf(seen->last, sizeof seen->last, "%s", ec_event_id(ev));
    }
    size_t count = ec_batch_in_offsets(batch, &offsets);
    for (size_t i = 0; i < count; i++) {
        seen->stored[offsets[i].partition] = offsets[i].next;
    }
    ec_batch_in_finish(batch, ec_ok());
}

static bool enough_events(void *arg)
{
    const struct seen *seen = arg;
    return seen->events >= seen->want;
}

static bool all_stored(void *arg)
{
    const struct seen *seen = arg;
    return seen->stored[0] + seen->stored[1] >= seen->want_stored;
}

static bool has_rejected(void *arg)
{
    return ((const struct seen *)arg)->rejected > 0;
}

static bool enough_rows(void *arg)
{
    const struct seen *seen = arg;
    return seen->caught_up && seen->rows >= seen->want;
}

static void on_row(void *state, struct ec_event *ev)
{
    struct seen *seen = state;
    seen->rows++;
    seen->removed += ec_event_body(ev) == NULL;
}

static void on_caught_up(void *state)
{
    ((struct seen *)state)->caught_up = true;
}

static void offsets_come_from_the_caller(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    static const char *const topics[] = {"t", NULL};
    struct ec_consume_batch_spec spec = {.group = "b",
                                         .topics = topics,
                                         .routes = routes,
                                         .route_count = 1,
                                         .batch_max = 7,
                                         .state = &seen,
                                         .load_offsets = load_offsets,
                                         .on_batch = on_batch};
    for (int i = 0; i < 30; i++) {
        char id[16], key[16];
        snprintf(id, sizeof id, "id-%d", i);
        snprintf(key, sizeof key, "k%d", i);
        publish(&seen, key, id, TYPE);
    }
    publish(&seen, "k1", "refuse", TYPE);
    publish(&seen, "k1", "other", "dev.enclii.other.v1");
    test_kafka_publish_raw(seen.kafka, "t", "k1", "junk", 4);
    publish(&seen, "k1", "end", TYPE);
    seen.fail_loads = 1;
    seen.fail_batches = 1;
    seen.want = 31;
    assert_false(ec_failed(ec_bus_consume_batch(seen.bus, &spec, NULL)));
    assert_true(test_run_until(seen.loop, 15000, enough_events, &seen));
    assert_int_equal(seen.events, 31);
    assert_int_equal(seen.rejected, 1);
    assert_int_equal(seen.loads, 2);
    assert_true(seen.batches >= 32 / 7 + 1);
    assert_int_equal(seen.stored[0] + seen.stored[1], 34);
    test_kafka_close_bus(seen.kafka, seen.bus);

    /* The database forgot the last three records of one partition: exactly those come again,
     * whatever the broker believes was committed. */
    seen.bus = test_kafka_bus(seen.kafka, "tester");
    int part = seen.stored[0] >= 3 ? 0 : 1;
    seen.stored[part] -= 3;
    seen.events = 0;
    seen.want_stored = seen.stored[0] + seen.stored[1] + 4;
    publish(&seen, "k9", "news", TYPE);
    assert_false(ec_failed(ec_bus_consume_batch(seen.bus, &spec, NULL)));
    assert_true(test_run_until(seen.loop, 15000, all_stored, &seen));
    assert_in_range(seen.events, 2, 4); /* some of the three may be the refused ones */
    assert_int_equal(seen.stored[0] + seen.stored[1], seen.want_stored);
    teardown(&seen);
}

/* A crash before the broker has the letter must find the event again. */
static void no_offset_goes_past_a_letter_that_is_not_written(void **state)
{
    (void)state;
    static const char *const topics[] = {"t", NULL};
    struct seen seen;
    setup(&seen);
    seen.down_at_reject = true;
    publish(&seen, "k1", "refuse", TYPE);
    publish(&seen, "k1", "good", TYPE);
    publish(&seen, "k1", "refuse", TYPE);
    struct ec_consume_batch_spec spec = {.group = "b",
                                         .topics = topics,
                                         .routes = routes,
                                         .route_count = 1,
                                         .state = &seen,
                                         .load_offsets = load_offsets,
                                         .on_batch = on_batch};
    assert_false(ec_failed(ec_bus_consume_batch(seen.bus, &spec, NULL)));
    seen.want_stored = 2; /* the other partition has none */
    assert_true(test_run_until(seen.loop, 15000, has_rejected, &seen));
    assert_false(test_run_within(seen.loop, 1500, all_stored, &seen));
    assert_int_equal(seen.events, 0);
    seen.down_at_reject = false;
    test_kafka_down(seen.kafka, false);
    assert_true(test_run_until(seen.loop, 15000, all_stored, &seen));
    assert_int_equal(seen.rejected, 2);
    assert_int_equal(seen.events, 1);
    teardown(&seen);
}

static bool at_end(void *arg)
{
    return ec_consumer_at_end(arg);
}

/* Whoever concludes from what did not come has to know that everything was read. */
static void the_end_is_known(void **state)
{
    (void)state;
    static const char *const topics[] = {"t", NULL};
    struct seen seen;
    setup(&seen);
    struct ec_consume_batch_spec spec = {.group = "b",
                                         .topics = topics,
                                         .routes = routes,
                                         .route_count = 1,
                                         .ends = true,
                                         .state = &seen,
                                         .load_offsets = load_offsets,
                                         .on_batch = on_batch};
    struct ec_consumer *consumer;
    publish(&seen, "k1", "id-1", TYPE);
    assert_false(ec_failed(ec_bus_consume_batch(seen.bus, &spec, &consumer)));
    assert_false(ec_consumer_at_end(consumer));
    assert_true(test_run_until(seen.loop, 15000, at_end, consumer));
    assert_int_equal(seen.events, 1); /* not before that was given out */
    seen.fail_batches = 1000;
    publish(&seen, "k2", "id-2", TYPE);
    seen.want = 2;
    assert_false(test_run_within(seen.loop, 300, enough_events, &seen));
    assert_false(ec_consumer_at_end(consumer)); /* its batch is still tried */
    seen.fail_batches = 0;
    assert_true(test_run_until(seen.loop, 15000, enough_events, &seen));
    assert_true(test_run_until(seen.loop, 15000, at_end, consumer));
    teardown(&seen);
}

static void a_table_is_read_whole_and_followed(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    static const char *const topics[] = {"t", "late", NULL};
    publish(&seen, "a", "1", TYPE);
    publish(&seen, "b", "2", TYPE);
    publish(&seen, "a", "3", NULL); /* a tombstone */
    test_kafka_publish_raw(seen.kafka, "t", "c", "junk", 4);
    struct ec_consumer *table = NULL;
    assert_false(ec_failed(ec_bus_table(seen.bus,
                                        &(struct ec_table_spec){.topics = topics,
                                                                .routes = routes,
                                                                .route_count = 1,
                                                                .state = &seen,
                                                                .on_event = on_row,
                                                                .on_caught_up = on_caught_up},
                                        &table)));
    seen.want = 3;
    assert_true(test_run_until(seen.loop, 15000, enough_rows, &seen));
    assert_int_equal(seen.removed, 1);
    publish(&seen, "d", "4", TYPE);
    seen.want = 4;
    assert_true(test_run_until(seen.loop, 5000, enough_rows, &seen));
    ec_consumer_pause(table, true);
    publish(&seen, "e", "5", TYPE);
    seen.want = 5;
    assert_false(test_run_within(seen.loop, 300, enough_rows, &seen));
    ec_consumer_pause(table, false);
    assert_true(test_run_until(seen.loop, 5000, enough_rows, &seen));
    test_kafka_publish(seen.kafka, seen.bus,
                       &(struct ec_message){
                           .topic = "t", .key = "f", .id = "6", .type = TYPE, .raw = EC_SPAN("")});
    seen.want = 6;
    assert_true(test_run_until(seen.loop, 5000, enough_rows, &seen));
    assert_int_equal(seen.removed, 1); /* an empty message is no tombstone */
    teardown(&seen);
}

static void on_refused(void *arg, struct ec_err err)
{
    struct seen *seen = arg;
    seen->events = 1 + (int)err.fate;
}

static void a_dead_broker_is_told(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    publish(&seen, "a", "1", TYPE);
    assert_true(ec_bus_ready(seen.bus));
    test_kafka_close_bus(seen.kafka, seen.bus);
    struct ec_bus_spec spec = {
        .brokers = test_kafka_brokers(seen.kafka), .service = "tester", .publish_deadline_ms = 500};
    assert_false(ec_failed(ec_bus_open(seen.loop, &spec, &seen.bus)));
    test_kafka_down(seen.kafka, true);
    struct ec_message message = {
        .topic = "t", .key = "k", .type = TYPE, .id = "i", .raw = EC_SPAN("x")};
    assert_false(ec_failed(ec_bus_publish(seen.bus, &message, on_refused, &seen)));
    assert_int_equal(seen.events, 0); /* never before returning */
    seen.want = 1;
    assert_true(test_run_until(seen.loop, 5000, enough_events, &seen));
    assert_int_equal(seen.events, 1 + EC_FATE_RETRY);
    assert_false(ec_bus_ready(seen.bus));
    test_kafka_down(seen.kafka, false);
    teardown(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_come_from_the_caller),
        cmocka_unit_test(no_offset_goes_past_a_letter_that_is_not_written),
        cmocka_unit_test(the_end_is_known),
        cmocka_unit_test(a_table_is_read_whole_and_followed),
        cmocka_unit_test(a_dead_broker_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
