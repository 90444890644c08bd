/* net/http_server: the sweep of its connections, and a reply that is made just before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/http_server.h"
#include "support/raw.h"

#define SWEEP_PASSED_US 300000
#define STALL_US 3000000 /* longer than the deadline of requests */

static struct ec_request *held;

static void on_late(void *state, struct ec_request *req)
{
    (void)state;
    held = req;
}

/* The sweep is due before the connection of the other reply gets its turn. */
static void on_release(void *state, struct ec_request *req)
{
    (void)state;
    usleep(SWEEP_PASSED_US);
    ec_reply_text(EC_TAKE(held), 200, "text/plain", EC_SPAN("at last"));
    ec_reply_empty(req, 204);
}

static void on_stall(void *state, struct ec_request *req)
{
    (void)state;
    usleep(STALL_US);
    ec_reply_empty(req, 204);
}

static void on_quick(void *state, struct ec_request *req)
{
    (void)state;
    ec_reply_empty(req, 204);
}

static void on_closed(void *closed)
{
    *(volatile bool *)closed = true;
}

static void test_a_reply_made_before_the_sweep_goes_out(void **state)
{
    (void)state;
    static const struct ec_http_route routes[] = {{"GET", "/late", on_late, 0, 0},
                                                  {"GET", "/release", on_release, 0, 0}};
    struct ec_loop *loop = ec_loop_new();
    struct ec_http_server *server;
    struct ec_http_server_spec spec = {.listen = "127.0.0.1:0",
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .request_deadline_ms = 1000};
    assert_false(ec_failed(ec_http_server_open(loop, &spec, &server)));
    uint16_t port = ec_http_server_port(server);
    static struct raw late, release;
    late = (struct raw){.port = port, .send = "GET /late HTTP/1.1\r\nHost: a\r\n\r\n"};
    late.read_ms = 5000;
    late.read_max = 20;
    raw_start(&late);
    for (int i = 0; i < 500 && !held; i++) {
        loop_for(loop, 10);
    }
    assert_non_null(held);
    release = (struct raw){.port = port, .send = "GET /release HTTP/1.1\r\nHost: a\r\n\r\n"};
    release.read_max = 20;
    raw_run(loop, &release);
    raw_wait(loop, &late);
    assert_memory_equal(late.reply, "HTTP/1.1 200 OK", 15);
    volatile bool closed = false;
    ec_http_server_close(server, 0, on_closed, (void *)(uintptr_t)&closed);
    loop_until(loop, &closed, 3000);
    assert_true(closed);
    ec_loop_free(loop);
}

/* What they sent while nobody looked is looked at before anybody is late. */
static void test_a_loop_that_stood_still_closes_nobody(void **state)
{
    (void)state;
    static const struct ec_http_route routes[] = {{"GET", "/stall", on_stall, 0, 0},
                                                  {"GET", "/quick", on_quick, 0, 0}};
    struct ec_loop *loop = ec_loop_new();
    struct ec_http_server *server;
    struct ec_http_server_spec spec = {.listen = "127.0.0.1:0",
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .request_deadline_ms = 2000};
    assert_false(ec_failed(ec_http_server_open(loop, &spec, &server)));
    uint16_t port = ec_http_server_port(server);
    static struct raw quick, stall;
    quick = (struct raw){.port = port,
                         .send = "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n",
                         .pause_ms = 1000,
                         .send_more = "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n"};
    quick.read_ms = 8000;
    raw_start(&quick);
    loop_for(loop, 100);
    stall = (struct raw){.port = port, .send = "GET /stall HTTP/1.1\r\nHost: a\r\n\r\n"};
    stall.read_max = 20;
    raw_run(loop, &stall);
    raw_wait(loop, &quick);
    assert_int_equal(raw_count(quick.reply, "HTTP/1.1 204"), 2);
    volatile bool closed = false;
    ec_http_server_close(server, 0, on_closed, (void *)(uintptr_t)&closed);
    loop_until(loop, &closed, 3000);
    ec_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_reply_made_before_the_sweep_goes_out),
        cmocka_unit_test(test_a_loop_that_stood_still_closes_nobody)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
