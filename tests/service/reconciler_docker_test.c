/* The docker target between a container engine that does what the test says and a HAProxy of our
 * own: what happens when one of them is away, slow, or did something by itself. Skipped where there
 * is no HAProxy. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "docker.h"
#include "net/http_server.h"
#include "support/engine_double.h"
#include "support/haproxy.h"
#include "support/kafka.h"

#define KEY "s:e"
#define OLD "old/1"
#define NEW "new/1"

static struct ec_loop *loop;
static struct ec_fetcher *fetcher;
static struct target *target, *targets[32]; /* they live as long as the process */
static int target_count;
static struct engine_double engine;
static struct test_haproxy hap;
static struct ec_http_server *app, *other; /* what containers listen with */
static char dir[64];
static struct ec_request *slow[2];
static int slow_count;

static int stop(void **state);

/* ---- helpers ---- */

struct end {
    bool came;
    enum ec_fate fate;
    char what[200];
};

static void on_end(void *arg, struct ec_err err)
{
    struct end *end = arg;
    assert_false(end->came); /* once */
    *end = (struct end){.came = true, .fate = err.fate};
    snprintf(end->what, sizeof end->what, "%s", err.what ? err.what : "");
}

static void wait_for(struct end *end)
{
    assert_true(test_run_until(loop, 10000, test_is_true, &end->came));
}

static struct target_version see(const char *identity)
{
    struct target_view view;
    target_docker_ops.observe(target, KEY, &view);
    for (size_t i = 0; i < view.count; i++) {
        if (strcmp(view.versions[i].identity.text, identity) == 0) {
            return view.versions[i];
        }
    }
    return (struct target_version){.total = 0};
}

static bool is_ready(void *identity)
{
    return see(identity).ready > 0;
}

static bool is_reached(void *arg)
{
    (void)arg;
    return target_docker_ops.unready(target) == NULL;
}

static bool is_lost(void *arg)
{
    return !is_reached(arg);
}

static void give_all_to(const char *identity)
{
    struct end end = {0};
    struct target_share share = {.percent = 100};
    snprintf(share.identity.text, sizeof share.identity.text, "%s", identity);
    assert_false(ec_failed(target_docker_ops.shift_traffic(target, KEY, &share, 1, on_end, &end)));
    wait_for(&end);
    assert_int_equal(end.fate, EC_FATE_OK);
}

struct shown {
    const char *server;
    char wanted[64], text[64];
};

static bool is_shown(void *arg)
{
    struct shown *shown = arg;
    test_haproxy_shown(&hap, shown->server, shown->text, sizeof shown->text);
    return strcmp(shown->text, shown->wanted) == 0;
}

static void wait_shown(const char *server, int port, int weight)
{
    struct shown shown = {.server = server};
    if (port > 0) {
        snprintf(shown.wanted, sizeof shown.wanted, "127.0.0.1:%d %d", port, weight);
    }
    if (!test_run_until(loop, 3000, is_shown, &shown)) {
        fail_msg("%s is shown as \"%s\", wanted: \"%s\"", server, shown.text, shown.wanted);
    }
}

/* One version, healthy, with all traffic. */
static void begin_with(int weight)
{
    engine_double_add(&engine, "old-0", KEY, OLD);
    engine_double_tell(&engine);
    assert_true(test_run_until(loop, 10000, is_reached, NULL));
    assert_true(test_run_until(loop, 10000, is_ready, (void *)(uintptr_t)OLD));
    give_all_to(OLD);
    wait_shown("old-0", engine.port, weight);
}

static void begin(void)
{
    begin_with(200);
}

/* ---- the tests ---- */

/* `docker restart` by hand: between two looks it was away, came back, and has another port. */
static void a_container_started_again_is_followed(void **state)
{
    (void)state;
    begin();
    int port = ec_http_server_port(other);
    engine.containers[0].port = port;
    engine_double_tell(&engine);
    wait_shown("old-0", port, 200);
    assert_true(test_run_until(loop, 3000, is_ready, (void *)(uintptr_t)OLD));
}

/* What it was before says nothing about what it is now. */
static void a_container_started_again_has_to_show_that_it_is_well(void **state)
{
    (void)state;
    begin();
    engine.containers[0].port = 1; /* nobody listens there */
    engine_double_tell(&engine);
    test_run_for(loop, 300);
    assert_int_equal(see(OLD).ready, 0);
    assert_int_equal(see(OLD).total, 1);
}

static void nothing_is_stopped_while_the_router_is_away(void **state)
{
    (void)state;
    struct target_identity old = {OLD};
    struct end first = {0}, second = {0};
    begin();
    test_haproxy_end(&hap);
    assert_false(ec_failed(target_docker_ops.remove(target, KEY, &old, on_end, &first)));
    wait_for(&first);
    assert_int_equal(first.fate, EC_FATE_RETRY);
    engine_double_tell(&engine);
    test_run_for(loop, 300);
    assert_int_equal(engine.stops + engine.deletes, 0);
    assert_int_equal(see(OLD).total, 1); /* so that the removal is tried again */
    test_haproxy_again(&hap);
    assert_true(test_run_until(loop, 10000, is_reached, NULL));
    assert_false(ec_failed(target_docker_ops.remove(target, KEY, &old, on_end, &second)));
    wait_for(&second);
    assert_int_equal(second.fate, EC_FATE_OK);
    test_run_for(loop, 300);
    assert_int_equal(engine.count, 0);
}

/* The router is slow, and the list of containers is read meanwhile. */
static void nothing_is_stopped_before_the_router_has_let_go(void **state)
{
    (void)state;
    struct target_identity old = {OLD};
    struct end end = {0};
    begin();
    kill(hap.pid, SIGSTOP);
    assert_false(ec_failed(target_docker_ops.remove(target, KEY, &old, on_end, &end)));
    engine_double_tell(&engine);
    test_run_for(loop, 500);
    assert_false(end.came);
    int stopped = engine.stops + engine.deletes;
    kill(hap.pid, SIGCONT);
    wait_for(&end);
    assert_int_equal(stopped, 0);
    test_run_for(loop, 300);
    assert_int_equal(engine.stops, 1); /* gently */
    assert_int_equal(engine.count, 0);
}

static void an_engine_that_comes_back_is_taken_up_again(void **state)
{
    (void)state;
    begin();
    engine_double_go(&engine, true);
    assert_true(test_run_until(loop, 10000, is_lost, NULL));
    assert_int_equal(see(OLD).weight_percent, 100); /* what serves goes on */
    engine_double_go(&engine, false);
    assert_true(test_run_until(loop, 10000, is_reached, NULL));
    assert_int_equal(see(OLD).ready, 1);
    engine.containers[0].port = ec_http_server_port(other);
    test_run_for(loop, 1500); /* its events are read again */
    engine_double_tell(&engine);
    wait_shown("old-0", ec_http_server_port(other), 200);
}

/* The list that is under way was made before the change that the event tells of. */
static void what_changes_while_the_list_is_read_is_seen(void **state)
{
    (void)state;
    begin();
    engine.holds_lists = true;
    engine_double_tell(&engine);
    test_run_for(loop, 50);
    engine.containers[0].port = ec_http_server_port(other);
    engine_double_tell(&engine);
    test_run_for(loop, 50);
    engine_double_release(&engine);
    struct shown shown = {.server = "old-0"};
    snprintf(shown.wanted, sizeof shown.wanted, "127.0.0.1:%d 200", ec_http_server_port(other));
    assert_true(test_run_within(loop, 4000, is_shown, &shown)); /* not only in 5 s, as always */
}

static void on_page(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    *(int *)arg = ec_failed(err) ? -1 : result->status;
}

static bool two_wait(void *arg)
{
    (void)arg;
    return slow_count == 2;
}

static bool is_count(void *count)
{
    return engine.count == *(int *)count;
}

/* Fewer replicas: whose request is under way gets its answer. */
static void a_replica_too_many_ends_its_requests(void **state)
{
    (void)state;
    static char host[] = "x", none[] = "";
    Enclii__V1__RouteSpec route = ENCLII__V1__ROUTE_SPEC__INIT, *routes[] = {&route};
    Enclii__V1__RunSpec run = ENCLII__V1__RUN_SPEC__INIT;
    Enclii__V1__DesiredRelease release = ENCLII__V1__DESIRED_RELEASE__INIT;
    struct target_goal goal = {.key = KEY, .identity = {OLD}, .release = &release};
    struct end end = {0};
    char url[64];
    int pages[2] = {0}, one = 1;
    route.hostname = host;
    route.path = none;
    release.run = &run;
    run.replicas = 1;
    assert_false(ec_failed(target_docker_ops.set_routes(target, KEY, routes, 1)));
    engine.port = ec_http_server_port(other);
    strcpy(engine_double_add(&engine, "old-1", KEY, OLD)->replica, "1");
    engine.port = ec_http_server_port(app);
    begin_with(100);
    wait_shown("old-1", ec_http_server_port(other), 100);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/slow", hap.port);
    for (int i = 0; i < 2; i++) {
        assert_false(ec_failed(ec_fetch_start(fetcher, &(struct ec_fetch_spec){.url = url}, on_page,
                                              &pages[i], NULL)));
    }
    assert_true(test_run_until(loop, 5000, two_wait, NULL));
    assert_false(ec_failed(target_docker_ops.apply(target, &goal, on_end, &end)));
    wait_for(&end);
    assert_int_equal(see(OLD).total, 1);
    wait_shown("old-1", ec_http_server_port(other), 0);
    test_run_for(loop, 300);
    assert_int_equal(engine.stops + engine.deletes, 0);
    for (int i = 0; i < 2; i++) {
        ec_reply_text(slow[i], 200, "text/plain", ec_span_of("late\n"));
    }
    assert_true(test_run_until(loop, 10000, is_count, &one));
    assert_int_equal(pages[0], 200);
    assert_int_equal(pages[1], 200);
    assert_string_equal(engine.containers[0].replica, "0");
}

/* As many keys as there are pull requests in a year. */
static void a_key_that_is_gone_is_forgotten(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 12000; i++) {
        char key[32];
        snprintf(key, sizeof key, "preview:%d", i);
        assert_false(ec_failed(target_docker_ops.set_routes(target, key, NULL, 0)));
        if (i % 3000 == 2999) {
            engine_double_tell(&engine);
            test_run_for(loop, 100);
        }
    }
    assert_int_equal(see(OLD).ready, 1);
}

static void a_pull_that_hangs_ends_in_its_time(void **state)
{
    (void)state;
    struct target_prepare *prepare = NULL;
    struct end late = {0}, stopped = {0};
    begin();
    engine.image = false;
    engine.pull_hangs = true;
    assert_false(ec_failed(
        target_docker_ops.prepare(target, "reg/a@sha256:1", 1000, on_end, &late, &prepare)));
    wait_for(&late);
    assert_int_equal(late.fate, EC_FATE_RETRY);
    assert_string_equal(late.what, "the image was not fetched within 1 s: its registry is slow, or "
                                   "does not answer the container engine");
    assert_false(ec_failed(
        target_docker_ops.prepare(target, "reg/a@sha256:1", 60000, on_end, &stopped, &prepare)));
    test_run_for(loop, 100);
    assert_int_equal(engine.pulls, 2);
    target_docker_ops.prepare_stop(prepare);
    assert_true(test_run_within(loop, 1000, test_is_true, &stopped.came));
}

/* Twenty layers tell of their progress for minutes. */
static void a_pull_may_say_a_lot(void **state)
{
    (void)state;
    struct target_prepare *prepare = NULL;
    struct end fine = {0}, bad = {0};
    begin();
    engine.image = false;
    engine.pull_bytes = 9 << 20;
    assert_false(ec_failed(
        target_docker_ops.prepare(target, "reg/a@sha256:1", 60000, on_end, &fine, &prepare)));
    wait_for(&fine);
    assert_int_equal(fine.fate, EC_FATE_OK);
    engine.image = false;
    strcpy(engine.pull_end, "{\"error\":\"manifest unknown\"}\n{}\n{}\n");
    assert_false(ec_failed(
        target_docker_ops.prepare(target, "reg/a@sha256:1", 60000, on_end, &bad, &prepare)));
    wait_for(&bad);
    assert_int_equal(bad.fate, EC_FATE_REJECT);
    assert_string_equal(bad.what, "manifest unknown");
}

static bool is_creating(void *arg)
{
    (void)arg;
    return engine.creates == 1;
}

static struct end at_the_end;

/* Its end comes when the process stops, and finds a target that is closed. */
static void the_process_ends_while_a_container_is_made(void **state)
{
    (void)state;
    static Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
    static Enclii__V1__EnvironmentRef environment = ENCLII__V1__ENVIRONMENT_REF__INIT;
    Enclii__V1__RunSpec run = ENCLII__V1__RUN_SPEC__INIT;
    Enclii__V1__DesiredRelease release = ENCLII__V1__DESIRED_RELEASE__INIT;
    struct target_goal goal = {.key = KEY,
                               .identity = {NEW},
                               .deployment_id = "d",
                               .service = &service,
                               .environment = &environment,
                               .release = &release};
    begin();
    release.run = &run;
    engine.create_hangs = true;
    at_the_end = (struct end){0};
    assert_false(ec_failed(target_docker_ops.apply(target, &goal, on_end, &at_the_end)));
    assert_true(test_run_until(loop, 5000, is_creating, NULL));
}

static int stop_and_see(void **state)
{
    int failed = stop(state);
    assert_int_equal(at_the_end.fate, EC_FATE_RETRY);
    return failed;
}

/* ---- frame ---- */

static void on_slow(void *state, struct ec_request *req)
{
    (void)state;
    slow[slow_count++] = req;
}

static void on_hello(void *state, struct ec_request *req)
{
    (void)state;
    ec_reply_text(req, 200, "text/plain", ec_span_of("well\n"));
}

static void on_changed(void *arg, const char *key)
{
    (void)arg;
    (void)key;
}

static struct ec_http_server *serve(void)
{
    static const struct ec_http_route routes[] = {{"GET", "/", on_hello, 0, 0},
                                                  {"GET", "/slow", on_slow, 0, 0}};
    struct ec_http_server *server = NULL;
    assert_false(ec_failed(ec_http_server_open(
        loop,
        &(struct ec_http_server_spec){.listen = "127.0.0.1:0", .routes = routes, .route_count = 2},
        &server)));
    return server;
}

static int start(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/enclii-docker-XXXXXX");
    assert_non_null(mkdtemp(dir));
    loop = ec_loop_new();
    if (!test_haproxy_start(&hap, loop, dir, 2)) {
        skip();
    }
    app = serve();
    other = serve();
    engine_double_start(&engine, loop, dir);
    engine.port = ec_http_server_port(app);
    assert_false(ec_failed(ec_fetcher_open(loop, "test", 32, &fetcher)));
    return ec_failed(
        target_docker_open(&(struct target_docker_settings){.loop = loop,
                                                            .fetcher = fetcher,
                                                            .docker_socket = engine.path,
                                                            .haproxy_socket = hap.socket_path,
                                                            .haproxy_dir = dir,
                                                            .instance = "test",
                                                            .changed = on_changed},
                           &target));
}

static void on_closed(void *arg)
{
    *(int *)arg += 1;
}

static bool are_closed(void *closed)
{
    return *(int *)closed == 2;
}

static int stop(void **state)
{
    (void)state;
    static int closed;
    closed = 0;
    assert_string_equal(engine.unexpected, "");
    targets[target_count++] = target;
    target_docker_ops.close(target);
    test_run_for(loop, 20); /* what is under way ends later, with the fetcher */
    ec_fetcher_close(fetcher);
    ec_http_server_close(app, 0, on_closed, &closed);
    ec_http_server_close(other, 0, on_closed, &closed);
    assert_true(test_run_until(loop, 5000, are_closed, &closed));
    engine_double_stop(&engine);
    test_haproxy_end(&hap);
    test_run_for(loop, 50);
    ec_loop_free(loop);
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_container_started_again_is_followed),
        CASE(a_container_started_again_has_to_show_that_it_is_well),
        CASE(nothing_is_stopped_while_the_router_is_away),
        CASE(nothing_is_stopped_before_the_router_has_let_go),
        CASE(what_changes_while_the_list_is_read_is_seen),
        CASE(a_replica_too_many_ends_its_requests),
        CASE(a_key_that_is_gone_is_forgotten),
        CASE(a_pull_that_hangs_ends_in_its_time),
        CASE(a_pull_may_say_a_lot),
        cmocka_unit_test_setup_teardown(the_process_ends_while_a_container_is_made, start,
                                        stop_and_see),
        CASE(an_engine_that_comes_back_is_taken_up_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
