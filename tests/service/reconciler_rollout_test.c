/* The rollout's effects end when they end: meanwhile another release may be wanted, or none. What
 * an effect of before brought or failed at says nothing about what is wanted now. The target is a
 * table of our own that ends its effects when the test says so. */
#include <errno.h>
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
#include "bus/topics.h"
#include "reconciler.h"
#include "support/kafka.h"
#include "support/service_frame.h"

#define SERVICE "11111111-1111-7111-8111-111111111111"
#define PLACE "22222222-2222-7222-8222-222222222222"
#define KEY SERVICE ":" PLACE

/* ---- the target ---- */

static struct {
    char verb[16], about[128]; /* of the effect under way; "" = none */
    target_done_fn done;
    void *arg;
} effect;

static bool stopped;          /* the pull under way was told to end */
static char route_owner[128]; /* of the one host name there is; "" = nobody */

static struct ec_err begin(const char *verb, const char *about, target_done_fn done, void *arg)
{
    assert_string_equal(effect.verb, ""); /* one at a time */
    snprintf(effect.verb, sizeof effect.verb, "%s", verb);
    snprintf(effect.about, sizeof effect.about, "%s", about);
    effect.done = done;
    effect.arg = arg;
    return ec_ok();
}

static void end_effect(struct ec_err err)
{
    effect.verb[0] = '\0';
    effect.done(effect.arg, err);
}

static void observe(struct target *target, const char *key, struct target_view *ret_view)
{
    (void)target;
    (void)key;
    ret_view->count = 0;
}

static struct ec_err prepare(struct target *target, const char *image, uint32_t deadline_ms,
                             target_done_fn done, void *arg, struct target_prepare **ret_prepare)
{
    (void)target;
    assert_in_range(deadline_ms, 1000, 60000); /* of the deployment */
    *ret_prepare = (struct target_prepare *)&effect;
    stopped = false;
    return begin("pull", image, done, arg);
}

static void prepare_stop(struct target_prepare *prepare)
{
    assert_ptr_equal(prepare, &effect);
    stopped = true;
}

static struct ec_err apply(struct target *target, const struct target_goal *goal,
                           target_done_fn done, void *arg)
{
    (void)target;
    return begin("start", goal->release->image, done, arg);
}

static struct ec_err set_routes(struct target *target, const char *key,
                                Enclii__V1__RouteSpec *const *routes, size_t count)
{
    (void)target;
    if (count > 0 && *route_owner && strcmp(route_owner, key) != 0) {
        return ec_reject("another service has it");
    }
    if (count > 0 || strcmp(route_owner, key) == 0) {
        snprintf(route_owner, sizeof route_owner, "%s", count > 0 ? key : "");
    }
    assert_true(count == 0 || strcmp(routes[0]->hostname, "shop.example") == 0);
    return ec_ok();
}

static struct ec_err remove_all(struct target *target, const char *key,
                                const struct target_identity *identity, target_done_fn done,
                                void *arg)
{
    (void)target;
    return begin("remove", identity ? identity->text : key, done, arg);
}

static const char *away; /* the target is */

static const char *unready(struct target *target)
{
    (void)target;
    return away;
}

static struct ec_err no_logs(struct target *target, const char *key,
                             const struct target_identity *identity, int lines, target_logs_fn done,
                             void *arg)
{
    (void)target, (void)key, (void)identity, (void)lines, (void)done, (void)arg;
    return ec_reject("nothing of this version runs here");
}

static const struct target_ops ops = {.name = "docker",
                                      .observe = observe,
                                      .prepare = prepare,
                                      .prepare_stop = prepare_stop,
                                      .apply = apply,
                                      .set_routes = set_routes,
                                      .remove = remove_all,
                                      .logs = no_logs,
                                      .unready = unready};

/* ---- what is wanted ---- */

static struct test_kafka *kafka;
static struct reconciler rec = {.ops = &ops, .caught_up = true};
static int64_t revision, deadline_ms = 60000;

static void on_desired(void *state, struct ec_event *ev)
{
    (void)state;
    rollout_set(rollout_find(&rec, ec_event_key(ev)), ev);
}

static void want_at(const char *at, char *image, bool routed)
{
    char deployment[64], release_id[64], key[] = SERVICE, place[40], run_text[] = "docker";
    Enclii__V1__Desired desired = ENCLII__V1__DESIRED__INIT;
    Enclii__V1__DesiredRelease release = ENCLII__V1__DESIRED_RELEASE__INIT;
    Enclii__V1__RunSpec run = ENCLII__V1__RUN_SPEC__INIT;
    Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
    Enclii__V1__EnvironmentRef environment = ENCLII__V1__ENVIRONMENT_REF__INIT;
    snprintf(deployment, sizeof deployment, "dddddddd-0000-7000-8000-%012lld",
             (long long)++revision);
    snprintf(release_id, sizeof release_id, "eeeeeeee-0000-7000-8000-%012lld", (long long)revision);
    snprintf(place, sizeof place, "%s", at + strlen(SERVICE ":"));
    service.service_id = key;
    environment.environment_id = place;
    release.release_id = release_id;
    release.image = image;
    release.run = &run;
    desired.deployment_id = deployment;
    desired.revision = revision;
    desired.target = run_text;
    desired.service = &service;
    desired.environment = &environment;
    desired.release = &release;
    desired.deadline_unix_ms = ec_unix_ms() + deadline_ms;
    Enclii__V1__RouteSpec route = ENCLII__V1__ROUTE_SPEC__INIT, *routes[] = {&route};
    char hostname[] = "shop.example";
    route.hostname = hostname;
    desired.n_routes = routed;
    desired.routes = routes;
    test_kafka_publish(kafka, bus,
                       &(struct ec_message){.topic = EC_TOPIC_DESIRED,
                                            .key = at,
                                            .type = "dev.enclii.desired.v1",
                                            .id = ec_id_new().text,
                                            .body = image ? &desired.base : NULL});
}

static void want(char *image)
{
    want_at(KEY, image, false);
}

static bool is_at(void *about)
{
    return strcmp(effect.about, about) == 0 && effect.verb[0];
}

static bool wants(void *image)
{
    const struct rollout *ro = ec_map_get(rec.rollouts, KEY);
    const char *now = ro && ro->desired ? ro->desired->release->image : "";
    return strcmp(now, image) == 0;
}

static void the_failure_of_before_is_not_held_against_the_next(void **state)
{
    (void)state;
    static char a[] = "reg/a@sha256:1", b[] = "reg/b@sha256:2";
    want(a);
    assert_true(test_run_until(loop, 5000, is_at, a));
    want(b);
    assert_true(test_run_until(loop, 5000, wants, b));
    assert_true(stopped); /* a pull that hangs holds up no other release */
    end_effect(ec_reject("manifest unknown"));
    assert_true(test_run_until(loop, 5000, is_at, b));
    assert_string_equal(effect.verb, "pull");
    assert_null(((struct rollout *)ec_map_get(rec.rollouts, KEY))->failure);
}

static void the_success_of_before_neither(void **state)
{
    (void)state;
    static char c[] = "reg/c@sha256:3";
    want(c);
    assert_true(test_run_until(loop, 5000, wants, c));
    end_effect(ec_ok()); /* b is there; c is not */
    assert_true(test_run_until(loop, 5000, is_at, c));
    assert_string_equal(effect.verb, "pull");
}

static void wanted_again_while_it_goes(void **state)
{
    (void)state;
    static char none[] = "", key[] = KEY, d[] = "reg/d@sha256:4";
    want(NULL);
    assert_true(test_run_until(loop, 5000, wants, none));
    end_effect(ec_ok()); /* the pull of c */
    assert_true(test_run_until(loop, 5000, is_at, key));
    assert_string_equal(effect.verb, "remove");
    want(d);
    assert_true(test_run_until(loop, 5000, wants, d));
    end_effect(ec_ok());
    assert_true(test_run_until(loop, 5000, is_at, d));
    /* Its end is still to be told. */
    assert_false(((struct rollout *)ec_map_get(rec.rollouts, KEY))->reported);
}

static void what_a_pull_met_is_not_forgotten_when_time_is_short(void **state)
{
    (void)state;
    static char h[] = "reg/h@sha256:7";
    want(h);
    assert_true(test_run_until(loop, 5000, wants, h));
    end_effect(ec_ok()); /* the pull of d */
    assert_true(test_run_until(loop, 5000, is_at, h));
    end_effect(ec_retry(0, "connection refused"));
    assert_true(test_run_until(loop, 5000, is_at, h));
    end_effect(ec_retry(ETIMEDOUT, "not within 1 s"));
    const struct rollout *ro = ec_map_get(rec.rollouts, KEY);
    assert_string_equal(ro->fault, "connection refused");
    assert_true(test_run_until(loop, 10000, is_at, h));
    assert_string_equal(effect.verb, "pull");
}

static bool has_failed(void *arg)
{
    (void)arg;
    return ((struct rollout *)ec_map_get(rec.rollouts, KEY))->failure != NULL;
}

/* The engine was restarted, and took longer than the rollout had. */
static void an_engine_that_was_away_is_named(void **state)
{
    (void)state;
    static char f[] = "reg/f@sha256:6";
    deadline_ms = 3000;
    want(f);
    assert_true(test_run_until(loop, 5000, wants, f));
    end_effect(ec_ok()); /* the pull of h */
    assert_true(test_run_until(loop, 5000, is_at, f));
    end_effect(ec_ok()); /* pulled */
    assert_true(test_run_until(loop, 5000, is_at, f));
    assert_string_equal(effect.verb, "start");
    away = "the container engine does not answer";
    end_effect(ec_retry(0, "cannot connect"));
    test_run_for(loop, 3500);
    assert_false(has_failed(NULL)); /* nothing can be done now */
    away = NULL;
    assert_true(test_run_until(loop, 5000, has_failed, NULL));
    const struct rollout *ro = ec_map_get(rec.rollouts, KEY);
    assert_string_equal(ro->failure, "deadline");
    assert_string_equal(ro->detail,
                        "the rollout did not end within its deadline; what it met last: "
                        "the container engine does not answer");
    deadline_ms = 60000;
}

static bool is_owner(void *key)
{
    return strcmp(route_owner, key) == 0;
}

/* As the topic may be read from its beginning: the new owner's record before the one with which the
 * old one let go. */
static void a_route_goes_from_one_to_another(void **state)
{
    (void)state;
    static char e[] = "reg/e@sha256:5", old[] = SERVICE ":33333333-3333-7333-8333-333333333333";
    static char new[] = SERVICE ":44444444-4444-7444-8444-444444444444";
    rec.caught_up = false;
    want_at(old, e, true);
    assert_true(test_run_until(loop, 5000, is_owner, old));
    want_at(new, e, true);
    want_at(old, e, false);
    assert_true(test_run_until(loop, 5000, is_owner, new));
    assert_int_equal(rec.unrouted, 0);
}

static int start(void **state)
{
    static const char *const topics[] = {EC_TOPIC_DESIRED, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.desired.v1", &enclii__v1__desired__descriptor, NULL}};
    (void)state;
    loop = ec_loop_new();
    kafka = test_kafka_start(loop, EC_TOPIC_DESIRED ":1", EC_TOPIC_DEPLOYMENT_EVENTS ":1",
                             EC_TOPIC_DESIRED ".reconciler.dead:1", NULL);
    bus = test_kafka_bus(kafka, "reconciler");
    rec.rollouts = ec_map_new(KEYS_MAX);
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
    test_kafka_close_bus(kafka, bus);
    ec_map_free(rec.rollouts, rollout_free);
    test_kafka_stop(kafka);
    ec_loop_free(loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_failure_of_before_is_not_held_against_the_next),
        cmocka_unit_test(the_success_of_before_neither),
        cmocka_unit_test(wanted_again_while_it_goes),
        cmocka_unit_test(what_a_pull_met_is_not_forgotten_when_time_is_short),
        cmocka_unit_test(an_engine_that_was_away_is_named),
        cmocka_unit_test(a_route_goes_from_one_to_another),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
