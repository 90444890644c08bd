/* history, its real code, over the mock cluster and a real PostgreSQL: events become rows once,
 * whatever comes again; bad ones go to the dead letters alone; months come and go with a clock that
 * the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/deployment.pb-c.h"
#include "history.h"
#include "support/kafka.h"
#include "support/pg.h"

#define TRACEPARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#define SERVICE_ID "00000000-0000-4000-8000-000000000051"
#define BUILD_ID "00000000-0000-4000-8000-0000000000b1"
#define DAY_MS ((int64_t)86400000)

static struct test_pg *pg;
static struct ec_loop *loop;
static struct test_kafka *kafka;
static struct ec_bus *bus; /* of the running service, and of the test */
static struct ec_store *store;
static struct history hi;
static int64_t clock_ms; /* 0 = the real one */
static bool stopped, closed, failed;

static int64_t moved_clock(void)
{
    return clock_ms ? clock_ms : ec_unix_ms();
}

static void on_failed(void *owner, struct ec_err err)
{
    (void)owner;
    fprintf(stderr, "history failed: %s\n", err.what);
    failed = true;
}

static void set_true(void *flag)
{
    *(bool *)flag = true;
}

static void on_stopped(void *owner)
{
    (void)owner;
    stopped = true;
}

static void service_up(void)
{
    bus = test_kafka_bus(kafka, "history");
    struct ec_store_spec spec = {.url = test_pg_url(pg), .application_name = "history"};
    assert_false(ec_failed(ec_store_open(loop, &spec, &store)));
    hi = (struct history){
        .settings = {.retention_ms = 90 * DAY_MS, .months_ahead = 2},
        .loop = loop,
        .bus = bus,
        .store = store,
        .owner.failed = on_failed,
        .owner.stopped = on_stopped,
        .now_unix_ms = moved_clock,
    };
    assert_false(ec_failed(history_start(&hi)));
    assert_true(test_run_until(loop, 10000, test_is_true, &hi.ready));
}

static void service_down(void)
{
    stopped = closed = false;
    history_stop(&hi);
    assert_true(test_run_until(loop, 5000, test_is_true, &stopped));
    test_kafka_close_bus(kafka, bus);
    ec_store_close(store, set_true, &closed);
    assert_true(test_run_until(loop, 5000, test_is_true, &closed));
    assert_false(failed);
}

static void publish(const char *topic, const char *type, int n, int64_t time_ms)
{
    char id[64], build[] = BUILD_ID;
    snprintf(id, sizeof id, "event-%d", n);
    Enclii__V1__BuildStarted body = ENCLII__V1__BUILD_STARTED__INIT;
    body.build_id = build;
    body.attempt = n;
    struct ec_message message = {.topic = topic,
                                 .key = SERVICE_ID,
                                 .type = type,
                                 .subject = BUILD_ID,
                                 .id = id,
                                 .trace = TRACEPARENT,
                                 .body = &body.base,
                                 .time_unix_ms = time_ms};
    test_kafka_publish(kafka, bus, &message);
}

struct wait {
    const char *sql;
    long at_least;
};

static bool has_come(void *arg)
{
    const struct wait *wait = arg;
    return atol(test_pg_value(pg, wait->sql)) >= wait->at_least;
}

static void wait_rows(long count)
{
    struct wait wait = {"select count(*) from history.event", count};
    if (!test_run_until(loop, 15000, has_come, &wait)) {
        fail_msg("%s rows instead of %ld", test_pg_value(pg, wait.sql), count);
    }
}

static void test_events_become_rows(void **state)
{
    (void)state;
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 1, 0);
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.exploded.v1", 20, 0); /* to the dead letters */
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 2, 0);
    wait_rows(2);
    assert_string_equal(
        test_pg_value(pg, "select concat_ws(' ', topic, position, type, subject, key, trace,"
                          " service_id, body->>'attempt', raw_bytes = length(raw)) from"
                          " history.event where id = 'event-1'"),
        EC_TOPIC_BUILD_EVENTS " 0 dev.enclii.build.started.v1 " BUILD_ID " " SERVICE_ID
                              " 0af7651916cd43dd8448eb211c80319c " SERVICE_ID " 1 t");
    assert_string_equal(test_pg_value(pg, "select count(*) from history.event where about @> "
                                          "array['" BUILD_ID "']"),
                        "2");
}

/* The offsets are part of the transaction: a restart goes on behind them, and reading from the
 * beginning (somebody removed them) meets its own rows. */
static void test_reading_again_changes_nothing(void **state)
{
    (void)state;
    assert_string_equal(test_pg_value(pg, "select next from history.consumed where topic = "
                                          "'" EC_TOPIC_BUILD_EVENTS "'"),
                        "3");
    service_down();
    test_pg_sql(pg, "delete from history.consumed");
    service_up();
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 3, 0);
    wait_rows(3);
    assert_string_equal(test_pg_value(pg, "select count(*) from history.event"), "3");
    assert_string_equal(test_pg_value(pg, "select next from history.consumed where topic = "
                                          "'" EC_TOPIC_BUILD_EVENTS "'"),
                        "4");
}

static void test_bad_bytes_cost_themselves_only(void **state)
{
    (void)state;
    test_kafka_publish_raw(kafka, EC_TOPIC_BUILD_EVENTS, SERVICE_ID, "\xff\xff\xff", 3);
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 4, 0);
    wait_rows(4);
    assert_string_equal(test_pg_value(pg, "select count(*) from history.event"), "4");
}

/* PostgreSQL refuses one row: a check that only it violates stands for whatever it may find. */
static void test_a_refused_row_goes_alone(void **state)
{
    (void)state;
    test_pg_sql(pg, "alter table history.event add constraint odd check (id <> 'event-6')");
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 5, 0);
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 6, 0);
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 7, 0);
    wait_rows(6);
    assert_string_equal(test_pg_value(pg, "select count(*) from history.event where id in "
                                          "('event-5', 'event-7')"),
                        "2");
    test_pg_sql(pg, "alter table history.event drop constraint odd");
}

static void test_the_database_away(void **state)
{
    (void)state;
    test_pg_down(pg);
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 8, 0);
    test_run_within(loop, 500, test_is_true, &failed);
    test_pg_up(pg);
    wait_rows(7);
    assert_false(failed);
}

static const char *months(void)
{
    return test_pg_value(pg, "select string_agg(to_char(first, 'YYYY-MM'), ' ' order by first)"
                             " from history.months");
}

static bool tended(void *arg)
{
    (void)arg;
    return !hi.tending;
}

static void tend_at(const char *time)
{
    clock_ms = ec_rfc3339_parse(time);
    months_tend(&hi);
    assert_true(test_run_until(loop, 5000, tended, NULL));
}

static void test_months_come_and_go(void **state)
{
    (void)state;
    service_down();
    test_pg_sql(pg, "drop schema history cascade");
    clock_ms = ec_rfc3339_parse("2031-01-31T23:59:59Z");
    service_up();
    assert_string_equal(months(), "2031-01 2031-02 2031-03");
    tend_at("2031-02-01T00:00:00Z");
    assert_string_equal(months(), "2031-01 2031-02 2031-03 2031-04");
    /* An event from before us makes its month; one out of retention is not kept; one from the
     * future is kept under the time it came. */
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 21,
            ec_rfc3339_parse("2030-12-24T18:00:00Z"));
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 22,
            ec_rfc3339_parse("2030-06-01T00:00:00Z"));
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 23,
            ec_rfc3339_parse("2077-01-01T00:00:00Z"));
    wait_rows(2);
    assert_string_equal(months(), "2030-12 2031-01 2031-02 2031-03 2031-04");
    assert_string_equal(test_pg_value(pg, "select string_agg(id, ' ' order by at) from "
                                          "history.event"),
                        "event-21 event-23");
    assert_string_equal(test_pg_value(pg, "select tableoid::regclass from history.event where id = "
                                          "'event-23'"),
                        "history.event_2031_02");
    tend_at("2031-03-31T23:00:00Z"); /* December ended 90 days before the first of April */
    assert_string_equal(test_pg_value(pg, "select count(*) from history.event"), "2");
    tend_at("2031-04-01T00:00:00Z");
    assert_string_equal(months(), "2031-01 2031-02 2031-03 2031-04 2031-05 2031-06");
    assert_string_equal(test_pg_value(pg, "select id from history.event"), "event-23");
    clock_ms = 0;
}

/* Another instance dropped the month that this one counts on: it is made again. */
static void test_a_month_that_vanished(void **state)
{
    (void)state;
    clock_ms = ec_rfc3339_parse("2031-04-02T00:00:00Z");
    test_pg_sql(pg, "select history.drop_month('2031-04-01')");
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.started.v1", 31,
            ec_rfc3339_parse("2031-04-01T12:00:00Z"));
    struct wait wait = {"select count(*) from history.event where id = 'event-31'", 1};
    assert_true(test_run_until(loop, 15000, has_come, &wait));
    clock_ms = 0;
}

static int close_all(void **state)
{
    (void)state;
    service_down();
    test_kafka_stop(kafka);
    ec_loop_free(loop);
    test_pg_free(pg);
    return 0;
}

/* What the body hides is nowhere in the row. */
static void test_hidden_values_are_not_kept_packed(void **state)
{
    (void)state;
    Enclii__V1__RunSpec__EnvEntry entry = ENCLII__V1__RUN_SPEC__ENV_ENTRY__INIT;
    Enclii__V1__RunSpec__EnvEntry *env[] = {&entry};
    char name[] = "DATABASE_URL", value[] = "postgres://hunter2";
    entry.key = name;
    entry.value = value;
    Enclii__V1__RunSpec run = ENCLII__V1__RUN_SPEC__INIT;
    run.env = env;
    run.n_env = 1;
    Enclii__V1__DesiredRelease release = ENCLII__V1__DESIRED_RELEASE__INIT;
    release.run = &run;
    Enclii__V1__Desired desired = ENCLII__V1__DESIRED__INIT;
    desired.release = &release;
    struct ec_message message = {.topic = EC_TOPIC_DESIRED,
                                 .key = SERVICE_ID ":" BUILD_ID,
                                 .type = "dev.enclii.desired.v1",
                                 .id = "event-hidden",
                                 .body = &desired.base};
    test_kafka_publish(kafka, bus, &message);
    struct wait wait = {"select count(*) from history.event where id = 'event-hidden'", 1};
    assert_true(test_run_until(loop, 15000, has_come, &wait));
    assert_string_equal(
        test_pg_value(pg, "select concat_ws(' ', body->'release'->'run'->'env'->0->>'value',"
                          " raw is null, raw_bytes > 0) from history.event"
                          " where id = 'event-hidden'"),
        "*** t t");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_become_rows),
        cmocka_unit_test(test_reading_again_changes_nothing),
        cmocka_unit_test(test_bad_bytes_cost_themselves_only),
        cmocka_unit_test(test_a_refused_row_goes_alone),
        cmocka_unit_test(test_the_database_away),
        cmocka_unit_test(test_months_come_and_go),
        cmocka_unit_test(test_a_month_that_vanished),
        cmocka_unit_test(test_hidden_values_are_not_kept_packed),
    };
    ec_log_setup("test", EC_LOG_ERROR);
    pg = test_pg_start();
    if (!pg) {
        print_message("SKIP: PostgreSQL is not installed\n");
        return 0;
    }
    loop = ec_loop_new();
    kafka =
        test_kafka_start(loop, "enclii.intake:1", "enclii.requests:1", "enclii.build.commands:1",
                         "enclii.build.events:1", "enclii.release.events:1", "enclii.desired:1",
                         "enclii.deployment.events:1", "enclii.domains:1", "enclii.domain.events:1",
                         "enclii.notification.events:1", "enclii.audit:1",
                         "enclii.build.events.history.dead:1", NULL);
    service_up();
    return cmocka_run_group_tests(tests, NULL, close_all);
}
