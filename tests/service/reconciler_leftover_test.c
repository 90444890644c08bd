/* What runs and is in no record: a topic that was emptied takes nothing down. The target is a table
 * of our own; Kafka is real enough to bring a tombstone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "bus/topics.h"
#include "reconciler.h"
#include "support/kafka.h"
#include "support/service_frame.h"

#define A "11111111-1111-7111-8111-111111111111:aaaaaaaa-2222-7222-8222-222222222222"
#define B "11111111-1111-7111-8111-111111111111:bbbbbbbb-2222-7222-8222-222222222222"
#define C "11111111-1111-7111-8111-111111111111:cccccccc-2222-7222-8222-222222222222"
#define GRACE_MS 300

static struct test_kafka *kafka;
static struct reconciler rec;

/* ---- the target ---- */

static const char *here[] = {A, B, C};
static char removed[400], kept[400];
static int completed;

static void observe(struct target *target, const char *key, struct target_view *ret_view)
{
    (void)target;
    (void)key;
    ret_view->count = 0;
}

static struct ec_err remove_all(struct target *target, const char *key,
                                const struct target_identity *identity, target_done_fn done,
                                void *arg)
{
    (void)target;
    assert_null(identity);
    strncat(removed, key, sizeof removed - strlen(removed) - 1);
    (void)done; /* it takes a while */
    (void)arg;
    return ec_ok();
}

static size_t keys(struct target *target, const char **ret_keys, size_t max)
{
    (void)target;
    assert_true(max >= 3);
    memcpy(ret_keys, here, sizeof here);
    return 3;
}

static void keep(struct target *target, const char *key)
{
    (void)target;
    assert_int_equal(completed, 0); /* before */
    strncat(kept, key, sizeof kept - strlen(kept) - 1);
}

static void complete(struct target *target)
{
    (void)target;
    completed++;
}

static const char *unready(struct target *target)
{
    (void)target;
    return NULL;
}

static const struct target_ops ops = {.name = "docker",
                                      .observe = observe,
                                      .remove = remove_all,
                                      .keys = keys,
                                      .keep = keep,
                                      .complete = complete,
                                      .unready = unready};

/* ---- the tests ---- */

static void on_desired(void *state, struct ec_event *ev)
{
    (void)state;
    rollout_set(rollout_find(&rec, ec_event_key(ev)), ev);
}

static bool is_removed(void *key)
{
    return strstr(removed, key) != NULL;
}

static void tombstone(const char *key)
{
    test_kafka_publish(kafka, bus,
                       &(struct ec_message){.topic = EC_TOPIC_DESIRED,
                                            .key = key,
                                            .type = "dev.enclii.desired.v1",
                                            .id = ec_id_new().text});
}

/* Made again by hand, or with a wrong retention: no record, and three services run. */
static void an_emptied_topic_takes_nothing_down(void **state)
{
    (void)state;
    leftovers_look(&rec);
    test_run_for(loop, 4 * GRACE_MS);
    assert_string_equal(removed, "");
    assert_int_equal(completed, 1);
    assert_int_equal(strlen(kept), 3 * strlen(A));
    assert_int_equal(rec.leftovers, 3);
}

static void who_is_said_to_be_gone_goes(void **state)
{
    (void)state;
    static char a[] = A, b[] = B;
    tombstone(A);
    assert_true(test_run_until(loop, 5000, is_removed, a));
    test_run_for(loop, 3 * GRACE_MS);
    assert_string_equal(removed, A); /* one is known, two are not */
    tombstone(B);
    assert_true(test_run_until(loop, 5000, is_removed, b));
}

/* Two are known, one is not: that is no accident of the topic. */
static void a_single_one_goes_after_its_time(void **state)
{
    (void)state;
    static char c[] = C;
    assert_true(test_run_until(loop, 5000, is_removed, c));
    assert_int_equal(rec.leftovers, 0);
    assert_int_equal(completed, 1);
}

static int start(void **state)
{
    static const char *const topics[] = {EC_TOPIC_DESIRED, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.desired.v1", &enclii__v1__desired__descriptor, NULL}};
    (void)state;
    loop = ec_loop_new();
    kafka = test_kafka_start(loop, EC_TOPIC_DESIRED ":1", EC_TOPIC_DEPLOYMENT_EVENTS ":1", NULL);
    bus = test_kafka_bus(kafka, "reconciler");
    rec = (struct reconciler){.ops = &ops, .caught_up = true, .is.leftover_grace_ms = GRACE_MS};
    rec.rollouts = ec_map_new(KEYS_MAX);
    leftovers_open(&rec);
    return ec_failed(ec_bus_table(bus,
                                  &(struct ec_table_spec){.topics = topics,
                                                          .routes = routes,
                                                          .route_count = EC_LEN(routes),
                                                          .on_event = on_desired},
                                  NULL));
}

static int stop(void **state)
{
    (void)state;
    ec_timer_free(rec.clean_timer);
    test_kafka_close_bus(kafka, bus);
    ec_map_free(rec.rollouts, rollout_free);
    test_kafka_stop(kafka);
    ec_loop_free(loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_emptied_topic_takes_nothing_down),
        cmocka_unit_test(who_is_said_to_be_gone_goes),
        cmocka_unit_test(a_single_one_goes_after_its_time),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
