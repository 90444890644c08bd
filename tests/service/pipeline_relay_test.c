/* The outbox relay, when the broker does not take a row: its key waits, in order, and nobody else
 * does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/pipeline_fixture.h"

/* More than a broker takes (libs/bus/conf.c), and more rows behind it than the relay reads ahead.
 */
#define TOO_LARGE "convert_to(repeat('x', 9500000), 'UTF8')"
#define BEHIND 3000

static void put(struct pl_fixture *fix, const char *key, int count, const char *body)
{
    char sql[400];
    snprintf(sql, sizeof sql,
             "insert into enclii.outbox (topic, key, type, event_id, body) select "
             "'enclii.desired', '%s', "
             "'dev.enclii.desired.v1', (had + n)::text, %s from generate_series(1, %d) n, (select "
             "count(*) as had from enclii.outbox) s",
             key, body, count);
    test_pg_sql(fix->pg, sql);
}

static void test_a_row_that_is_not_taken_holds_back_its_own_key_only(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    put(fix, "stuck \"\\ {}", 1, TOO_LARGE);
    put(fix, "stuck \"\\ {}", BEHIND, "'\\x'");
    put(fix, "other", 100, "'\\x'");
    pl_becomes(fix, "select count(*) from enclii.outbox where key = 'other'", "0");
    put(fix, "other", 1500, "'\\x'");
    pl_becomes(fix, "select count(*) from enclii.outbox where key = 'other'", "0");
    pl_stays(fix, "select count(*) from enclii.outbox", "3001");
}

struct readout {
    const char *keys; /* those that begin so; also the group's name */
    int count;
    bool in_order, all;
};

static bool is_assigned(void *consumer)
{
    return ec_consumer_assigned(consumer);
}

static struct ec_err see(void *state, struct ec_event *ev)
{
    struct readout *read = state;
    if (strncmp(ec_event_key(ev), read->keys, strlen(read->keys)) == 0) {
        read->in_order = read->in_order && atoi(ec_event_id(ev)) == ++read->count;
        read->all = read->count == BEHIND + 1;
    }
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static bool has_read(void *read)
{
    return ((struct readout *)read)->count > 0;
}

/* A consumer of what the relay publishes. */
static struct ec_bus *watch(struct pl_fixture *fix, struct readout *read)
{
    static const char *const topics[] = {"enclii.desired", NULL};
    static const struct ec_route every = {.handler = see};
    const struct ec_consume_spec spec = {.group = read->keys,
                                         .topics = topics,
                                         .routes = &every,
                                         .route_count = 1,
                                         .state = read,
                                         .inflight_max = 1,
                                         .letters = true};
    struct ec_consumer *consumer = NULL;
    struct ec_bus *bus = test_kafka_bus(fix->kafka, "watch");
    assert_false(ec_failed(ec_bus_consume(bus, &spec, &consumer)));
    assert_true(test_run_until(fix->loop, 10000, is_assigned, consumer));
    return bus;
}

/* By then the floor of reading was above rows that are left in the table. */
static void test_what_waited_behind_it_goes_in_order_once_it_is_taken(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    struct readout read = {"one", .in_order = true};
    struct ec_bus *bus = watch(fix, &read);
    test_kafka_refuse(fix->kafka);
    put(fix, "one", 1, "'\\x'");
    test_run_for(fix->loop, 100);
    put(fix, "one", BEHIND, "'\\x'");
    assert_true(test_run_until(fix->loop, 20000, test_is_true, &read.all));
    assert_true(read.in_order);
    pl_becomes(fix, "select count(*) from enclii.outbox", "0");
    test_kafka_close_bus(fix->kafka, bus);
}

/* The leader's session ends while the broker is away. Another process leads, publishes the row and
 * a newer one of its key, and deletes both: here the test does. */
static void test_who_does_not_lead_any_more_publishes_nothing_late(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    struct readout read = {"late", .in_order = true};
    struct ec_bus *bus = watch(fix, &read);
    test_kafka_down(fix->kafka, true);
    put(fix, "late", 1, "'\\x'");
    test_run_for(fix->loop, 1500);
    test_pg_sql(fix->pg, "delete from enclii.outbox where key = 'late'");
    test_pg_sql(fix->pg,
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'");
    test_run_for(fix->loop, 1500);
    test_kafka_down(fix->kafka, false);
    put(fix, "later", 1, "'\\x'");
    pl_becomes(fix, "select count(*) from enclii.outbox where key = 'later'", "0");
    assert_true(test_run_until(fix->loop, 20000, has_read, &read));
    test_run_for(fix->loop, 500);
    assert_int_equal(read.count, 1);
    test_kafka_close_bus(fix->kafka, bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_row_that_is_not_taken_holds_back_its_own_key_only,
                               pl_one_service),
        cmocka_unit_test_setup(test_who_does_not_lead_any_more_publishes_nothing_late,
                               pl_one_service),
        cmocka_unit_test_setup(test_what_waited_behind_it_goes_in_order_once_it_is_taken,
                               pl_one_service),
    };
    return cmocka_run_group_tests(tests, pl_set_up, pl_tear_down);
}
