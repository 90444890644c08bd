/* hello, its real handlers over an in-process Kafka: what a service test looks like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../../services/hello/hello.h"
#include "base/metric.h"
#include "support/kafka.h"

static void greetings_by_table(void **state)
{
    (void)state;
    Enclii__V1__Commit head = ENCLII__V1__COMMIT__INIT;
    static const struct {
        const char *pusher;
        bool deleted, head;
        const char *want; /* NULL = nothing is said */
    } rows[] = {
        {"ann", false, true, "Hi, ann! acme/shop is now at 0123456"},
        {"", false, true, "Hi, stranger! acme/shop is now at 0123456"},
        {"ann", true, false, NULL},
        {"ann", true, true, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ec_arena *arena = ec_arena_new(4096);
        Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
        push.pusher = ec_arena_strdup(arena, rows[i].pusher);
        push.repo_full_name = ec_arena_strdup(arena, "acme/shop");
        push.after = ec_arena_strdup(arena, "0123456789abcdef0123456789abcdef01234567");
        push.deleted = rows[i].deleted;
        push.head = rows[i].head ? &head : NULL;
        const char *got = decide_greeting(arena, "Hi", &push);
        if (rows[i].want) {
            assert_string_equal(got, rows[i].want);
        } else {
            assert_null(got);
        }
        ec_arena_free(arena);
    }
}

static bool greeted(void *arg)
{
    return *((struct hello *)arg)->last != '\0';
}

static void a_push_is_greeted_and_a_bad_one_is_dead_lettered(void **state)
{
    (void)state;
    static const char *const topics[] = {"enclii.intake", NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.push.received.v1", &enclii__v1__push_received__descriptor, on_push_received}};
    struct hello hello = {.settings.greeting = "Hi"};
    struct ec_loop *loop = ec_loop_new();
    struct test_kafka *kafka =
        test_kafka_start(loop, "enclii.intake:1", "enclii.intake.hello.dead:1", NULL);
    struct ec_bus *bus = test_kafka_bus(kafka, "hello");
    Enclii__V1__Commit head = ENCLII__V1__COMMIT__INIT;
    Enclii__V1__PushReceived bad = ENCLII__V1__PUSH_RECEIVED__INIT;
    Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
    push.head = &head;
    push.ref = (char[]){"refs/heads/main"};
    push.repo_full_name = (char[]){"acme/shop"};
    push.after = (char[]){"0123456789"};
    struct ec_message message = {.topic = "enclii.intake",
                                 .key = "k",
                                 .id = "1",
                                 .type = "dev.enclii.push.received.v1",
                                 .body = &bad.base};
    test_kafka_publish(kafka, bus, &message);
    message.id = "2";
    message.body = &push.base;
    test_kafka_publish(kafka, bus, &message);
    assert_false(ec_failed(ec_bus_consume(bus,
                                          &(struct ec_consume_spec){.group = "hello",
                                                                    .topics = topics,
                                                                    .routes = routes,
                                                                    .route_count = 1,
                                                                    .state = &hello},
                                          NULL)));
    /* Same key: the good one is handled after the bad one's dead letter is written. */
    assert_true(test_run_until(loop, 15000, greeted, &hello));
    assert_string_equal(hello.last, "Hi, stranger! acme/shop is now at 0123456");
    assert_true(ec_metric_value(&greetings, NULL) == 1);
    test_kafka_close_bus(kafka, bus);
    test_kafka_stop(kafka);
    ec_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greetings_by_table),
        cmocka_unit_test(a_push_is_greeted_and_a_bad_one_is_dead_lettered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
