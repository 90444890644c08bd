/* net/http_server over real sockets: the rules that keep requests apart, limits, late replies,
 * streams and closing. */
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
#include "net/http_server.h"
#include "support/raw.h"

struct world {
    struct ec_loop *loop;
    struct ec_http_server *server;
    uint16_t port;
    int handled;
    struct ec_request *held; /* asked "/late": replied by the test */
    struct ec_stream *stream;
    int streams_closed;
    volatile bool closed;
};
static struct world world;
static struct raw raw;
static uint32_t connections_max; /* of the server opened next; 0 = as usual */

static void on_echo(void *state, struct ec_request *req)
{
    struct world *w = state;
    w->handled++;
    ec_reply_header(req, "X-Query",
                    ec_request_query(req, "q") ? ec_request_query(req, "q") : "none");
    ec_reply_text(req, 200, "text/plain", ec_request_body(req));
    ec_reply_text(req, 500, "text/plain", EC_SPAN("a second reply")); /* must be dropped */
}

static void on_late(void *state, struct ec_request *req)
{
    ((struct world *)state)->held = req;
}

static void on_stream_closed(void *arg)
{
    struct world *w = arg;
    w->streams_closed++;
    w->stream = NULL;
}

static void on_events(void *state, struct ec_request *req)
{
    struct world *w = state;
    w->stream = ec_reply_stream(req, 64 * 1024, on_stream_closed, w);
    ec_stream_send(w->stream, "1", "hello", EC_SPAN("one\ntwo"));
}

static bool before(void *state, struct ec_request *req)
{
    (void)state;
    if (ec_request_header(req, "x-deny")) {
        ec_reply_problem(req, 401, "unauthenticated", NULL, "say who you are");
        return false;
    }
    return true;
}

static const struct ec_http_route routes[] = {
    {"GET", "/hello/{name}", on_echo, 0, 0}, {"POST", "/echo", on_echo, 1000, 0},
    {"POST", "/big", on_echo, 8 << 20, 0},   {"GET", "/late", on_late, 0, 0},
    {"GET", "/events", on_events, 0, 0},
};

static void open_server(uint32_t request_ms, uint32_t reply_ms)
{
    struct ec_http_server_spec spec = {.listen = "127.0.0.1:0",
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .state = &world,
                                       .request_deadline_ms = request_ms,
                                       .reply_deadline_ms = reply_ms,
                                       .connections_max = connections_max,
                                       .before = before};
    assert_false(ec_failed(ec_http_server_open(world.loop, &spec, &world.server)));
    world.port = ec_http_server_port(world.server);
}

static void on_closed(void *arg)
{
    (void)arg;
    world.closed = true;
}

static void close_server(uint32_t grace_ms)
{
    world.closed = false;
    ec_http_server_close(world.server, grace_ms, on_closed, NULL);
    loop_until(world.loop, &world.closed, 3000);
    world.server = NULL;
    assert_true(world.closed);
}

static int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    world.loop = ec_loop_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (world.server) { /* the test failed half-way */
        close_server(0);
    }
    ec_loop_free(world.loop);
    return 0;
}

static const char *ask(const char *request)
{
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = request;
    raw_run(world.loop, &raw);
    return raw.reply;
}

static void expect(const char *request, const char *part)
{
    const char *reply = ask(request);
    if (!strstr(reply, part)) {
        fail_msg("asked:\n%s\nwanted: %s\ngot:\n%s", request, part, reply);
    }
}

#define END "Host: a\r\nConnection: close\r\n\r\n"

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
    assert_true(raw.took_ms < 500);
    close_server(100);
}

/* Until "/late" was asked. */
static void loop_until_held(void)
{
    for (int i = 0; i < 500 && !world.held; i++) {
        loop_for(world.loop, 10);
    }
    assert_non_null(world.held);
}

static void on_reply_late(void *arg)
{
    (void)arg;
    if (world.held) { /* on a slow machine the request may come after the first tick */
        ec_reply_text(EC_TAKE(world.held), 200, "text/plain", EC_SPAN("at last"));
    }
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

static void test_expect_continue(void **state)
{
    (void)state;
    open_server(5000, 5000);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "POST /echo HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n" END;
    raw.pause_ms = 100;
    raw.send_more = "abc";
    raw_run(world.loop, &raw);
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
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /events HTTP/1.0\r\n\r\n";
    raw_start(&raw);
    loop_for(world.loop, 100);
    ec_stream_end(world.stream);
    raw_wait(world.loop, &raw);
    assert_null(strstr(raw.reply, "chunked"));
    assert_non_null(strstr(raw.reply, "\r\n\r\nretry: 1000\n\nid: 1\n"));
    assert_true(raw.closed);
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
    memset(&first, 0, sizeof(first));
    first.port = world.port;
    first.send = "GET /late HTTP/1.1\r\n" END;
    raw_start(&first);
    loop_for(world.loop, 50);
    struct ec_timer *timer = ec_timer_new(world.loop, on_reply_late, NULL);
    ec_timer_start(timer, 300, 0);
    expect("GET /hello/x HTTP/1.1\r\n" END, " 200 ");
    assert_true(raw.took_ms > 200);
    raw_wait(world.loop, &first);
    assert_non_null(strstr(first.reply, "at last"));
    ec_timer_free(timer);
    close_server(100);
}

/* Who does not take his reply is sent away. */
static void test_slow_reader(void **state)
{
    (void)state;
    static char request[8 << 20];
    open_server(500, 5000);
    int len =
        snprintf(request, sizeof(request),
                 "POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n%08000000d", 1);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = request;
    raw.send_len = (size_t)len;
    raw.pause_ms = 2000; /* reads nothing meanwhile */
    raw_run(world.loop, &raw);
    assert_true(raw.reply_len < 8000000);
    assert_int_equal(world.handled, 1);
    close_server(100);
}

static void test_slow_sender(void **state)
{
    (void)state;
    open_server(400, 5000);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
    raw_run(world.loop, &raw);
    assert_non_null(strstr(raw.reply, " 408 "));
    assert_true(raw.closed);
    assert_true(raw.took_ms < 1500);
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
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /late HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.pause_ms = 50;
    raw.hang_up = true;
    raw_run(world.loop, &raw);
    loop_for(world.loop, 50);
    assert_non_null(world.held);
    on_reply_late(NULL);
    loop_for(world.loop, 50);
    close_server(100);
}

static void test_stream(void **state)
{
    (void)state;
    open_server(5000, 300);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.read_ms = 700;
    raw_start(&raw);
    loop_for(world.loop, 500); /* longer than the reply deadline: streams are exempt */
    assert_non_null(world.stream);
    ec_stream_send(world.stream, "2", NULL, EC_SPAN("later"));
    loop_for(world.loop, 100);
    ec_stream_end(world.stream);
    raw_wait(world.loop, &raw);
    assert_non_null(strstr(raw.reply, "text/event-stream"));
    assert_non_null(strstr(raw.reply, "id: 1\nevent: hello\ndata: one\ndata: two\n\n"));
    assert_non_null(strstr(raw.reply, "id: 2\ndata: later\n\n"));
    assert_int_equal(world.streams_closed, 1);
    close_server(100);
}

static void test_stream_peer_gone(void **state)
{
    (void)state;
    open_server(5000, 5000);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.pause_ms = 50;
    raw.hang_up = true;
    raw_run(world.loop, &raw);
    loop_for(world.loop, 700);
    assert_int_equal(world.streams_closed, 1);
    close_server(100);
}

static void test_stream_slow_reader(void **state)
{
    (void)state;
    static char piece[8000];
    memset(piece, 'x', sizeof(piece));
    open_server(5000, 5000);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.pause_ms = 1000; /* reads nothing meanwhile */
    raw.hang_up = true;
    raw_start(&raw);
    loop_for(world.loop, 100);
    for (int i = 0; i < 2000 && world.stream; i++) { /* 16 MB */
        ec_stream_send(world.stream, NULL, NULL, (struct ec_span){piece, sizeof(piece)});
        if (i % 50 == 0) {
            loop_for(world.loop, 2);
        }
    }
    raw_wait(world.loop, &raw);
    loop_for(world.loop, 700);
    assert_int_equal(world.streams_closed, 1);
    close_server(100);
}

/* Nor is he kept because the stream goes on. */
static void test_stream_stuck_reader(void **state)
{
    (void)state;
    static char piece[4000];
    memset(piece, 'x', sizeof(piece));
    open_server(500, 5000);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.pause_ms = 2500; /* reads nothing, and does not hang up */
    raw.hang_up = true;
    raw_start(&raw);
    loop_for(world.loop, 100);
    int64_t began_ms = ec_mono_ms();
    while (world.stream && ec_mono_ms() - began_ms < 2000) {
        for (int i = 0; i < 100 && world.stream; i++) { /* fills the socket, then the buffer */
            ec_stream_send(world.stream, NULL, NULL, (struct ec_span){piece, sizeof(piece)});
        }
        loop_for(world.loop, 20);
    }
    assert_int_equal(world.streams_closed, 1);
    raw_wait(world.loop, &raw);
    close_server(100);
}

static void test_close_with_waiting(void **state)
{
    (void)state;
    open_server(5000, 5000);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /late HTTP/1.1\r\nHost: a\r\n\r\n";
    raw_start(&raw);
    loop_until_held();
    int64_t began_ms = ec_mono_ms();
    close_server(200);
    assert_true(ec_mono_ms() - began_ms < 1000);
    raw_wait(world.loop, &raw);
    assert_non_null(strstr(raw.reply, " 503 "));
    on_reply_late(NULL); /* of a server that is gone */
}

static void test_close_finishes_replies(void **state)
{
    (void)state;
    open_server(5000, 5000);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /late HTTP/1.1\r\nHost: a\r\n\r\n";
    raw_start(&raw);
    loop_until_held();
    struct ec_timer *timer = ec_timer_new(world.loop, on_reply_late, NULL);
    ec_timer_start(timer, 200, 0);
    close_server(2000);
    ec_timer_free(timer);
    raw_wait(world.loop, &raw);
    assert_non_null(strstr(raw.reply, "at last"));
    assert_non_null(strstr(raw.reply, "Connection: close"));
}

static void test_close_ends_streams(void **state)
{
    (void)state;
    open_server(5000, 5000);
    memset(&raw, 0, sizeof(raw));
    raw.port = world.port;
    raw.send = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n";
    raw_start(&raw);
    loop_for(world.loop, 100);
    close_server(1000);
    raw_wait(world.loop, &raw);
    assert_true(raw.closed);
    assert_int_equal(world.streams_closed, 1);
}

/* Neither idle, nor suspended, nor half-sent requests may spin the loop. */
static void test_idle_is_idle(void **state)
{
    (void)state;
    static struct raw others[2];
    open_server(5000, 5000);
    memset(others, 0, sizeof(others));
    others[0].port = others[1].port = world.port;
    others[0].send = "GET /events HTTP/1.1\r\nHost: a\r\n\r\n";
    others[1].send = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
    others[0].read_ms = others[1].read_ms = 600;
    raw_start(&others[0]);
    raw_start(&others[1]);
    loop_for(world.loop, 100);
    clock_t began = clock();
    loop_for(world.loop, 400);
    double used_ms = (double)(clock() - began) * 1000 / CLOCKS_PER_SEC;
    assert_true(used_ms < 100);
    raw_wait(world.loop, &others[0]);
    raw_wait(world.loop, &others[1]);
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
        TEST(test_expect_continue),
        TEST(test_older_client),
        TEST(test_connection_limit),
        TEST(test_slow_reader),
        TEST(test_slow_sender),
        TEST(test_late_reply),
        TEST(test_reply_deadline),
        TEST(test_client_gone),
        TEST(test_stream),
        TEST(test_stream_peer_gone),
        TEST(test_stream_slow_reader),
        TEST(test_stream_stuck_reader),
        TEST(test_close_with_waiting),
        TEST(test_close_finishes_replies),
        TEST(test_close_ends_streams),
        TEST(test_port_taken),
        TEST(test_idle_is_idle),
    };
    ec_log_setup("test", EC_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
