/* The router against a HAProxy of our own: what it is told is what requests meet. Skipped where
 * there is no HAProxy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "router_haproxy.h"
#include "support/haproxy.h"
#include "support/kafka.h"

static struct ec_loop *loop;
static struct router *router;
static char dir[] = "/tmp/enclii-router-XXXXXX";
static struct test_haproxy hap;

/* ---- what is wanted, and what is there ---- */

struct answer {
    bool came;
    struct ec_err err;
};

static void on_synced(void *arg, struct ec_err err)
{
    struct answer *answer = arg;
    *answer = (struct answer){true, {.fate = err.fate, .sys = err.sys}};
}

static struct ec_err sync_of(const char *key)
{
    struct answer answer = {0};
    router_sync(router, key, on_synced, &answer);
    assert_true(test_run_until(loop, 10000, test_is_true, &answer.came));
    return answer.err;
}

static void want(const char *key, const char *server, int at, int weight)
{
    struct router_server servers[] = {{.port = at, .weight = weight}};
    snprintf(servers[0].name, sizeof servers[0].name, "%s", server);
    router_set_servers(router, key, servers, 1);
}

static void assert_shown(const char *server, const char *wanted)
{
    char text[128];
    test_haproxy_shown(&hap, server, text, sizeof text);
    assert_string_equal(text, wanted);
}

static int count_lines(const char *name)
{
    char path[96], line[256];
    int count = 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        count++;
    }
    fclose(file);
    return count;
}

static void on_changed(void *arg)
{
    (void)arg;
}

/* ---- the tests ---- */

/* `docker restart` by hand, or an engine that starts again: the same container, another port. */
static void a_port_that_changed_is_followed(void **state)
{
    (void)state;
    if (hap.pid == 0) {
        skip();
    }
    want("a", "a-0", 20001, 5);
    assert_false(ec_failed(sync_of("a")));
    assert_shown("a-0", "127.0.0.1:20001 5");
    want("a", "a-0", 20002, 5);
    assert_false(ec_failed(sync_of("a")));
    assert_shown("a-0", "127.0.0.1:20002 5");
}

/* HAProxy has two backends here. Who gets none waits for one; nobody else waits with it. */
static void one_without_a_backend_holds_up_nobody(void **state)
{
    (void)state;
    if (hap.pid == 0) {
        skip();
    }
    want("b", "b-0", 20003, 1);
    assert_false(ec_failed(sync_of("b"))); /* it was first */
    want("c", "c-0", 20004, 1);
    assert_int_equal(sync_of("c").fate, EC_FATE_RETRY);
    want("b", "b-0", 20003, 9);
    assert_false(ec_failed(sync_of("b")));
    assert_shown("b-0", "127.0.0.1:20003 9");
    router_forget(router, "b");
    assert_false(ec_failed(sync_of("b")));
    assert_false(ec_failed(sync_of("c")));
    assert_shown("c-0", "127.0.0.1:20004 1");
}

static void nothing_is_confirmed_while_it_is_away(void **state)
{
    (void)state;
    if (hap.pid == 0) {
        skip();
    }
    test_haproxy_end(&hap);
    want("a", "a-0", 20005, 5);
    assert_int_equal(sync_of("a").fate, EC_FATE_RETRY);
    test_haproxy_again(&hap);
    assert_false(ec_failed(sync_of("a")));
    assert_shown("a-0", "127.0.0.1:20005 5");
}

/* Nobody knows any more what is wanted of "a" (its record is lost): it serves on, also when the
 * router is told that this is all. Another key that is told its route gets it. */
static void what_is_kept_stays(void **state)
{
    (void)state;
    if (hap.pid == 0) {
        skip();
    }
    static char at_shop[] = "shop.test/", at_blog[] = "blog.test/";
    char *const shop[] = {at_shop}, *const blog[] = {at_blog};
    assert_false(ec_failed(router_set_routes(router, "a", shop, 1)));
    assert_false(ec_failed(sync_of("a")));
    router_complete(router);
    assert_false(ec_failed(sync_of("a")));
    router_close(router); /* a new process, which hears of "b" only */
    test_run_for(loop, 50);
    assert_false(ec_failed(router_open(loop, hap.socket_path, dir, on_changed, NULL, &router)));
    assert_false(ec_failed(router_set_routes(router, "b", blog, 1)));
    assert_false(ec_failed(sync_of("b")));
    router_keep(router, "a", "a-0");
    router_complete(router);
    for (int i = 0; i < 3; i++) {
        assert_false(ec_failed(sync_of("b")));
    }
    assert_shown("a-0", "127.0.0.1:20005 5");
    assert_int_equal(count_lines("hosts.map"), 2);
    assert_false(ec_failed(router_set_routes(router, "b", shop, 1)));
    router_forget(router, "a");
    assert_false(ec_failed(sync_of("b")));
    assert_false(ec_failed(sync_of("b")));
    assert_shown("a-0", "");
    assert_int_equal(count_lines("hosts.map"), 1);
}

static int start(void **state)
{
    (void)state;
    loop = ec_loop_new();
    assert_non_null(mkdtemp(dir));
    test_haproxy_start(&hap, loop, dir, 2);
    return ec_failed(router_open(loop, hap.socket_path, dir, on_changed, NULL, &router));
}

static int stop(void **state)
{
    (void)state;
    router_complete(router);
    router_close(router);
    test_run_for(loop, 50);
    test_haproxy_end(&hap);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ec_loop_free(loop);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_port_that_changed_is_followed),
        cmocka_unit_test(one_without_a_backend_holds_up_nobody),
        cmocka_unit_test(nothing_is_confirmed_while_it_is_away),
        cmocka_unit_test(what_is_kept_stays),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
