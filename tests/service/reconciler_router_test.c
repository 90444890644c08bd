/* The router against a HAProxy of our own: what it is told is what requests meet. Skipped where
 * there is no HAProxy. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "net/http_server.h"
#include "router_haproxy.h"
#include "support/kafka.h"
#include "support/port.h"

#define PROGRAM "/usr/sbin/haproxy"
#define POOL 2

static struct ec_loop *loop;
static struct router *router;
static char dir[] = "/tmp/enclii-router-XXXXXX";
static char socket_path[64];
static int port;
static pid_t haproxy;

/* ---- HAProxy ---- */

static bool answers(void *at)
{
    return test_port_answers(*(int *)at);
}

static void write_file(const char *name, const char *text)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void haproxy_start(void)
{
    char config[1024], path[96];
    snprintf(config, sizeof config,
             "global\n stats socket %s mode 600 level admin\n"
             "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n"
             "frontend f\n bind 127.0.0.1:%d\n use_backend %%[path,map_str(%s/hosts.map,be_none)]\n"
             "backend be_none\n http-request return status 404\n"
             "backend be_000\n balance roundrobin\nbackend be_001\n balance roundrobin\n",
             socket_path, port, dir);
    write_file("haproxy.cfg", config);
    snprintf(path, sizeof path, "%s/haproxy.cfg", dir);
    haproxy = fork();
    if (haproxy == 0) {
        execl(PROGRAM, "haproxy", "-q", "-db", "-f", path, (char *)NULL);
        _exit(127);
    }
    assert_true(test_run_until(loop, 5000, answers, &port));
}

static void haproxy_end(void)
{
    kill(haproxy, SIGTERM);
    waitpid(haproxy, NULL, 0);
    haproxy = 0;
}

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

/* What HAProxy itself says of a server: "127.0.0.1:40123 7", or "" when it has none. */
static void shown(const char *server, char *ret_text, size_t size)
{
    char command[160];
    snprintf(command, sizeof command, "echo 'show stat -1 4 -1' | socat - UNIX-CONNECT:%s",
             socket_path);
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    char line[2048];
    snprintf(ret_text, size, "%s", "");
    while (fgets(line, sizeof line, pipe) != NULL) {
        char *field = line, *fields[80] = {0};
        for (int i = 0; i < 80 && field != NULL; i++) {
            fields[i] = strsep(&field, ",");
        }
        if (fields[73] != NULL && strcmp(fields[1], server) == 0) {
            snprintf(ret_text, size, "%s %s", fields[73], fields[18]);
        }
    }
    pclose(pipe);
}

static void assert_shown(const char *server, const char *wanted)
{
    char text[128];
    shown(server, text, sizeof text);
    assert_string_equal(text, wanted);
}

/* ---- the tests ---- */

/* `docker restart` by hand, or an engine that starts again: the same container, another port. */
static void a_port_that_changed_is_followed(void **state)
{
    (void)state;
    if (haproxy == 0) {
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
    if (haproxy == 0) {
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
    if (haproxy == 0) {
        skip();
    }
    haproxy_end();
    want("a", "a-0", 20005, 5);
    assert_int_equal(sync_of("a").fate, EC_FATE_RETRY);
    haproxy_start();
    assert_false(ec_failed(sync_of("a")));
    assert_shown("a-0", "127.0.0.1:20005 5");
}

static void on_changed(void *arg)
{
    (void)arg;
}

static int start(void **state)
{
    (void)state;
    loop = ec_loop_new();
    assert_non_null(mkdtemp(dir));
    snprintf(socket_path, sizeof socket_path, "%s/haproxy.sock", dir);
    write_file("hosts.map", "");
    port = test_free_port();
    if (access(PROGRAM, X_OK) == 0) {
        haproxy_start();
    }
    return ec_failed(router_open(loop, socket_path, dir, on_changed, NULL, &router));
}

static int stop(void **state)
{
    (void)state;
    router_complete(router);
    router_close(router);
    test_run_for(loop, 50);
    if (haproxy > 0) {
        haproxy_end();
    }
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
    };
    return cmocka_run_group_tests(tests, start, stop);
}
