/* net/http_server over real sockets: the rules that keep requests apart, and what is answered. */
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

static void test_refused(void **state)
{
    (void)state;
    open_server(5000, 5000);
    expect("POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 5\r\n" END "abcde",
           " 400 ");
    expect("POST /echo HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n" END "abc",
           " 400 ");
    expect("GET /hello/x HTTP/1.1\r\nHost: b\r\n" END, " 400 ");
    expect("GET /hello/%00x HTTP/1.1\r\n" END, " 400 ");
    expect("GET /none HTTP/1.1\r\n" END, " 404 ");
    expect("GET /hello/a%2Fb/c HTTP/1.1\r\n" END, " 404 ");
    expect("PUT /echo HTTP/1.1\r\nContent-Length: 0\r\n" END, " 405 ");
    expect("PUT /echo HTTP/1.1\r\nContent-Length: 0\r\n" END, "Allow: POST");
    expect("BREW /none HTTP/1.1\r\n" END, " 405 ");
    expect("GET /hello/x HTTP/1.1\r\nContent-Length: 3\r\n" END "abc", " 413 ");
    expect("POST /echo HTTP/1.1\r\nContent-Length: 1001\r\n" END, " 413 ");
    expect("GET /none HTTP/1.1\r\n" END, "application/problem+json");
    expect("GET /hello/x HTTP/1.1\r\nX-Deny: 1\r\n" END, " 401 ");
    assert_int_equal(world.handled, 0);
    close_server(100);
}

static void test_chunked_limit(void **state)
{
    (void)state;
    open_server(5000, 5000);
    char request[4000];
    int len = snprintf(request, sizeof(request),
                       "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END
                       "3e9\r\n%01001d\r\n0\r\n\r\n",
                       7);
    assert_true(len > 1001);
    expect(request, " 413 ");
    assert_int_equal(world.handled, 0);
    expect("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END "3\r\nabc\r\n0\r\n\r\n",
           "\r\n\r\nabc");
    assert_int_equal(world.handled, 1);
    close_server(100);
}

static void test_answers(void **state)
{
    (void)state;
    open_server(5000, 5000);
    expect("POST /echo?q=a+b%21 HTTP/1.1\r\nContent-Length: 5\r\n" END "hello", "\r\n\r\nhello");
    assert_non_null(strstr(raw.reply, "X-Query: a b!"));
    assert_non_null(strstr(raw.reply, "X-Request-Id: "));
    expect("GET /hello/x HTTP/1.1\r\ntraceparent: "
           "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\n" END,
           "X-Request-Id: 0123456789abcdef0123456789abcdef");
    expect("HEAD /hello/x HTTP/1.1\r\n" END, " 200 ");
    assert_non_null(strstr(raw.reply, "Content-Length: 0"));
    char request[300100];
    int len = snprintf(request, sizeof(request),
                       "POST /big HTTP/1.1\r\nContent-Length: 200000\r\n" END "%0200000d", 1);
    assert_true(len > 200000);
    expect(request, "00001");
    assert_true(raw.reply_len > 200000);
    close_server(100);
}

static void test_pipelining(void **state)
{
    (void)state;
    open_server(5000, 5000);
    expect("GET /hello/a HTTP/1.1\r\nHost: a\r\n\r\nGET /hello/b HTTP/1.1\r\nHost: a\r\n\r\nGET "
           "/hello/c HTTP/1.1\r\n" END,
           "HTTP/1.1 200");
    assert_int_equal(raw_count(raw.reply, "HTTP/1.1 200"), 3);
    assert_true(raw.closed);
    assert_true(raw.took_ms < 2000); /* no answer waited for a deadline */
    close_server(100);
}

/* In their order, also when the first answer is the last to be ready. */
static void test_pipelining_behind_a_late_reply(void **state)
{
    (void)state;
    open_server(5000, 5000);
    struct ec_timer *timer = ec_timer_new(world.loop, on_reply_late, NULL);
    ec_timer_start(timer, 100, 20);
    expect("GET /late HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\n"
           "Content-Length: 3\r\n\r\none\r\nPOST /echo HTTP/1.1\r\nContent-Length: 3\r\n" END "two",
           "\r\n\r\nat lastHTTP/1.1 200 OK\r\n");
    const char *one = strstr(raw.reply, "\r\n\r\none"), *two = strstr(raw.reply, "\r\n\r\ntwo");
    assert_true(one && two && one < two);
    assert_true(raw.closed);
    ec_timer_free(timer);
    close_server(100);
}

/* What follows a request that is refused for its form is not looked at: it may be another request
 * for a proxy that reads the first one differently. */
static void test_nothing_behind_a_bad_request(void **state)
{
    (void)state;
    open_server(5000, 5000);
    static const char *const bad[] = {
        "GET /hello/x HTTP/1.1\nHost: a\n\n",
        "GET /hello/x HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET /hello/x HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
        "GET /hello/x HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        "GET /hello/x HTTP/1.1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
        "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        char request[512];
        snprintf(request, sizeof request, "%sGET /hello/y HTTP/1.1\r\nHost: a\r\n\r\n", bad[i]);
        expect(request, "HTTP/1.1 400 Bad Request");
        assert_int_equal(raw_count(raw.reply, "HTTP/1.1 "), 1);
        assert_non_null(strstr(raw.reply, "Connection: close"));
        assert_true(raw.closed);
    }
    expect("GET /hello/x HTTP/2.0\r\n" END, " 505 ");
    assert_int_equal(world.handled, 0);
    close_server(100);
}

/* The refusal comes before all of it is read: hanging up then would reset the connection, and the
 * sender would see that instead. */
static void test_a_refusal_reaches_who_sends_more(void **state)
{
    (void)state;
    static char request[300 * 1024];
    open_server(5000, 5000);
    memset(request, 'a', sizeof(request));
    memcpy(request, "GET /hello/x HTTP/1.1\r\nHost: a\r\nX: ", 36);
    begin(&(struct raw){.send = request, .send_len = sizeof(request), .pause_ms = 200});
    raw_wait(world.loop, &raw);
    assert_int_equal(strncmp(raw.reply, "HTTP/1.1 431 ", 13), 0);
    assert_true(raw.closed);
    close_server(100);
}

static void test_expect_continue(void **state)
{
    (void)state;
    open_server(5000, 5000);
    begin(&(struct raw){
        .send = "POST /echo HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n" END,
        .pause_ms = 100,
        .send_more = "abc"});
    raw_wait(world.loop, &raw);
    assert_int_equal(strncmp(raw.reply, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", 40), 0);
    expect("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n" END,
           "HTTP/1.1 413 ");
    assert_null(strstr(raw.reply, "100 Continue"));
    expect("POST /echo HTTP/1.1\r\nExpect: miracles\r\nContent-Length: 3\r\n" END "abc", " 417 ");
    close_server(100);
}

static void test_older_client(void **state)
{
    (void)state;
    open_server(5000, 5000);
    expect("GET /hello/x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK");
    assert_true(raw.closed);
    close_server(100);
}

static void test_port_taken(void **state)
{
    (void)state;
    open_server(5000, 5000);
    char listen[32];
    snprintf(listen, sizeof(listen), "127.0.0.1:%u", world.port);
    struct ec_http_server *second = NULL;
    struct ec_http_server_spec spec = {.listen = listen, .routes = routes, .route_count = 1};
    struct ec_err err = ec_http_server_open(world.loop, &spec, &second);
    assert_int_equal(err.fate, EC_FATE_FATAL);
    assert_non_null(strstr(err.what, listen));
    spec.listen = "nonsense";
    assert_true(ec_failed(ec_http_server_open(world.loop, &spec, &second)));
    close_server(100);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refused),
        TEST(test_chunked_limit),
        TEST(test_answers),
        TEST(test_pipelining),
        TEST(test_pipelining_behind_a_late_reply),
        TEST(test_nothing_behind_a_bad_request),
        TEST(test_a_refusal_reaches_who_sends_more),
        TEST(test_expect_continue),
        TEST(test_older_client),
        TEST(test_port_taken),
    };
    ec_log_setup("test", EC_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
