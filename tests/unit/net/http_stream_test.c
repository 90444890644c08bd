/* net/http_server over real sockets: streams of events, and closing with work under way. */
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

#define EVENTS "GET /events HTTP/1.1\r\n" END
#define LATE "GET /late HTTP/1.1\r\nHost: a\r\n\r\n"

static void test_stream(void **state)
{
    (void)state;
    open_server(5000, 300);
    begin(&(struct raw){.send = EVENTS, .read_ms = 10000});
    wait_until(is_streaming, NULL);
    loop_for(world.loop, 500); /* longer than the reply deadline: streams are exempt */
    assert_non_null(world.stream);
    ec_stream_send(world.stream, "2", NULL, EC_SPAN("later"));
    ec_stream_end(world.stream);
    raw_wait(world.loop, &raw);
    assert_non_null(strstr(raw.reply, "text/event-stream"));
    assert_non_null(strstr(raw.reply, "id: 1\nevent: hello\ndata: one\ndata: two\n\n"));
    assert_non_null(strstr(raw.reply, "id: 2\ndata: later\n\n"));
    wait_until(stream_is_closed, NULL);
    assert_int_equal(world.streams_closed, 1);
    close_server(100);
}

static void test_stream_of_an_older_client(void **state)
{
    (void)state;
    open_server(5000, 5000);
    begin(&(struct raw){.send = "GET /events HTTP/1.0\r\n\r\n"});
    wait_until(is_streaming, NULL);
    ec_stream_end(world.stream);
    raw_wait(world.loop, &raw);
    assert_null(strstr(raw.reply, "chunked"));
    assert_non_null(strstr(raw.reply, "\r\n\r\nretry: 1000\n\nid: 1\n"));
    assert_true(raw.closed);
    close_server(100);
}

static void test_stream_peer_gone(void **state)
{
    (void)state;
    open_server(5000, 5000);
    begin(&(struct raw){.send = EVENTS, .pause_ms = 20000, .hang_up = true});
    wait_until(is_streaming, NULL);
    loop_for(world.loop, 100);
    assert_int_equal(world.streams_closed, 0);
    raw_hurry(&raw);
    wait_until(stream_is_closed, NULL);
    raw_wait(world.loop, &raw);
    assert_int_equal(world.streams_closed, 1);
    close_server(100);
}

#define PIECE_BYTES 8000
#define PIECES 2000 /* 16 MB: more than the two sockets hold */

/* Sends as much in a turn of the loop as the buffer has room for: who reads keeps up. */
static void fill_stream(void)
{
    static char piece[PIECE_BYTES];
    memset(piece, 'x', sizeof(piece));
    for (int i = 0; i < PIECES && world.stream; i++) {
        ec_stream_send(world.stream, NULL, NULL, (struct ec_span){piece, sizeof(piece)});
        if (i % 4 == 3) {
            loop_for(world.loop, 2);
        }
    }
}

/* Who is too slow is told so, behind what he was sent before. */
static void test_stream_slow_reader(void **state)
{
    (void)state;
    open_server(20000, 5000);
    begin(&(struct raw){.send = EVENTS, .pause_ms = 20000});
    wait_until(is_streaming, NULL);
    fill_stream();
    assert_int_equal(world.streams_closed, 0);
    raw_hurry(&raw);
    raw_wait(world.loop, &raw);
    assert_true(raw.closed);
    assert_true(raw.read_len < (size_t)PIECES * PIECE_BYTES);
    assert_non_null(strstr(raw.tail, "event: overflow"));
    assert_int_equal(world.streams_closed, 1);
    close_server(100);
}

/* Who reads nothing at all is sent away, although the stream goes on. */
static void test_stream_stuck_reader(void **state)
{
    (void)state;
    open_server(500, 5000);
    begin(&(struct raw){.send = EVENTS, .pause_ms = 20000, .hang_up = true});
    wait_until(is_streaming, NULL);
    fill_stream();
    wait_until(stream_is_closed, NULL);
    assert_false(raw.done); /* it was not he who hung up */
    raw_hurry(&raw);
    raw_wait(world.loop, &raw);
    assert_int_equal(world.streams_closed, 1);
    close_server(100);
}

static void test_close_with_waiting(void **state)
{
    (void)state;
    open_server(5000, 5000);
    begin(&(struct raw){.send = LATE, .read_ms = 10000});
    wait_until(is_held, NULL);
    int64_t began_ms = ec_mono_ms();
    close_server(200);
    assert_true(ec_mono_ms() - began_ms < 2500); /* half of the reply's deadline */
    raw_wait(world.loop, &raw);
    assert_non_null(strstr(raw.reply, " 503 "));
    on_reply_late(NULL); /* of a server that is gone */
}

static void test_close_finishes_replies(void **state)
{
    (void)state;
    open_server(5000, 5000);
    begin(&(struct raw){.send = LATE, .read_ms = 10000});
    wait_until(is_held, NULL);
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
    begin(&(struct raw){.send = EVENTS, .read_ms = 10000});
    wait_until(is_streaming, NULL);
    close_server(1000);
    raw_wait(world.loop, &raw);
    assert_true(raw.closed);
    assert_int_equal(world.streams_closed, 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_stream),
        TEST(test_stream_of_an_older_client),
        TEST(test_stream_peer_gone),
        TEST(test_stream_slow_reader),
        TEST(test_stream_stuck_reader),
        TEST(test_close_with_waiting),
        TEST(test_close_finishes_replies),
        TEST(test_close_ends_streams),
    };
    ec_log_setup("test", EC_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
