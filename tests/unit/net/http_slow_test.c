/* net/http_server over real sockets: limits and deadlines, late replies, slow and vanished clients.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "http_world.h"
#include "net/http_private.h"

static bool is_handled(void *arg)
{
    (void)arg;
    return world.handled > 0;
}

static bool nobody_is_connected(void *arg)
{
    (void)arg;
    return world.server->conn_count == 0;
}

/* Who does not take his reply is sent away. */
static void test_slow_reader(void **state)
{
    (void)state;
    static char request[8 << 20];
    open_server(1500, 5000);
    int len =
        snprintf(request, sizeof(request),
                 "POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n%08000000d", 1);
    begin(&(struct raw){.send = request, .send_len = (size_t)len, .pause_ms = 20000});
    wait_until(is_handled, NULL); /* and nothing of the answer is read */
    wait_until(nobody_is_connected, NULL);
    raw_hurry(&raw);
    raw_wait(world.loop, &raw);
    assert_true(raw.read_len > 0 && raw.read_len < 8000000);
    assert_int_equal(world.handled, 1);
    close_server(100);
}

/* Answered by the deadline, but its handler still has the body: that memory counts until it lets
 * go.
 */
static void test_a_body_counts_while_its_handler_has_it(void **state)
{
    (void)state;
    char held[800], next[800];
    snprintf(
        held, sizeof(held),
        "POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 600\r\nConnection: close\r\n\r\n%0600d",
        1);
    snprintf(
        next, sizeof(next),
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 600\r\nConnection: close\r\n\r\n%0600d",
        1);
    bodies_max_bytes = 1000;
    open_server(2000, 300);
    bodies_max_bytes = 0;
    expect(held, " 503 ");
    assert_non_null(world.held);
    expect(next, "too many large bodies");
    ec_reply_empty(world.held, 200); /* too late for the client */
    expect(next, " 200 ");
    expect(held, " 503 ");
    close_server(0);
    ec_reply_empty(world.held, 200); /* after the server, too */
}

static void test_slow_sender(void **state)
{
    (void)state;
    open_server(400, 5000);
    expect("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", " 408 ");
    assert_true(raw.closed);
    ask("GET /hel"); /* not even a request line: closed, no words */
    assert_true(raw.closed);
    assert_int_equal(raw.reply_len, 0);
    expect("GET /hello/x HTTP/1.1\r\nHost: a\r\nX-Slow: ", "HTTP/1.1 408 ");
    assert_true(raw.closed);
    expect("GET /hello/x HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "); /* then it idles */
    assert_int_equal(raw_count(raw.reply, "HTTP/1.1 "), 1);
    assert_true(raw.closed);
    close_server(100);
}

static void test_late_reply(void **state)
{
    (void)state;
    open_server(5000, 5000);
    struct ec_timer *timer = ec_timer_new(world.loop, on_reply_late, NULL);
    ec_timer_start(timer, 100, 20);
    expect("GET /late HTTP/1.1\r\n" END, "\r\n\r\nat last");
    ec_timer_free(timer);
    close_server(100);
}

static void test_reply_deadline(void **state)
{
    (void)state;
    open_server(5000, 300);
    expect("GET /late HTTP/1.1\r\n" END, " 503 ");
    assert_non_null(strstr(raw.reply, "Retry-After: 1"));
    on_reply_late(NULL); /* dropped, and touches nothing freed */
    close_server(100);
}

static void test_client_gone(void **state)
{
    (void)state;
    open_server(5000, 5000);
    begin(&(struct raw){.send = "GET /late HTTP/1.1\r\nHost: a\r\n\r\n", .hang_up = true});
    raw_wait(world.loop, &raw);
    wait_until(is_held, NULL);
    loop_for(world.loop, 50); /* the server may learn of it, or not */
    on_reply_late(NULL);
    loop_for(world.loop, 50);
    close_server(100);
}

/* Neither idle, nor suspended, nor half-sent requests may spin the loop. */
static void test_idle_is_idle(void **state)
{
    (void)state;
    static struct raw half;
    open_server(5000, 5000);
    begin(&(struct raw){.send = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n", .read_ms = 600});
    half = (struct raw){
        .port = world.port,
        .send = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        .read_ms = 600,
    };
    raw_start(&half);
    wait_until(is_streaming, NULL);
    loop_for(world.loop, 100);
    clock_t began = clock();
    loop_for(world.loop, 400);
    double used_ms = (double)(clock() - began) * 1000 / CLOCKS_PER_SEC;
    assert_true(used_ms < 100);
    raw_wait(world.loop, &raw);
    raw_wait(world.loop, &half);
    close_server(100);
}

/* Connections above the limit wait until one is free. */
static void test_connection_limit(void **state)
{
    (void)state;
    static struct raw first;
    connections_max = 1;
    open_server(5000, 5000);
    connections_max = 0;
    first = (struct raw){.port = world.port, .send = "GET /late HTTP/1.1\r\n" END};
    raw_start(&first);
    wait_until(is_held, NULL);
    begin(&(struct raw){.send = "GET /hello/x HTTP/1.1\r\n" END, .read_ms = 10000});
    loop_for(world.loop, 300);
    assert_int_equal(world.handled, 0);
    on_reply_late(NULL);
    raw_wait(world.loop, &raw);
    assert_non_null(strstr(raw.reply, " 200 "));
    raw_wait(world.loop, &first);
    assert_non_null(strstr(first.reply, "at last"));
    close_server(100);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_slow_reader),      TEST(test_slow_sender),
        TEST(test_late_reply),       TEST(test_reply_deadline),
        TEST(test_client_gone),      TEST(test_idle_is_idle),
        TEST(test_connection_limit), TEST(test_a_body_counts_while_its_handler_has_it),
    };
    ec_log_setup("test", EC_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
