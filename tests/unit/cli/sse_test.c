/* Events of a stream, however its bytes arrive, and what its end means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cli.h"

/* In place of main.c's. */
const struct command commands[] = {{NULL, NULL, NULL, NULL, NULL, false}};

static char said[256];

static bool on_event(void *arg, const struct sse_event *event)
{
    (void)arg;
    size_t len = strlen(said);
    snprintf(said + len, sizeof said - len, "[%s|%s|%s]", event->id, event->name, event->data);
    return strcmp(event->name, "end") != 0;
}

static bool feed(const char *text, size_t piece)
{
    struct sse_reader reader;
    bool go_on = true;
    said[0] = '\0';
    sse_init(&reader);
    for (size_t at = 0; go_on && at < strlen(text); at += piece) {
        size_t left = strlen(text) - at;
        go_on = sse_feed(&reader, (struct ec_span){text + at, left < piece ? left : piece},
                         on_event, NULL);
    }
    sse_done(&reader);
    return go_on;
}

static void test_pieces(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 80; piece += 7) {
        assert_true(
            feed("id: 1\nevent: log\ndata: a\ndata:b\n\n: quiet\n\n\ndata: c\r\n\r\nid: 2", piece));
        assert_string_equal(said, "[1|log|a\nb][|message|c]");
    }
}

static void test_end(void **state)
{
    (void)state;
    assert_false(feed("event: end\ndata: 0\n\ndata: late\n\n", 1000));
    assert_string_equal(said, "[|end|0]");
}

static void test_an_event_too_large(void **state)
{
    (void)state;
    static char large[SSE_EVENT_MAX_BYTES];
    struct sse_reader reader;
    memset(large, 'x', sizeof large);
    said[0] = '\0';
    sse_init(&reader);
    assert_true(sse_feed(&reader, EC_SPAN("data: "), on_event, NULL));
    assert_false(reader.waiting.overflowed);
    assert_true(sse_feed(&reader, (struct ec_span){large, sizeof large}, on_event, NULL));
    assert_true(reader.waiting.overflowed);
    assert_string_equal(said, "");
    sse_done(&reader);
}

/* Where to resume: also told by an id that comes without an event, not by an event without an id.
 */
static void test_the_last_id(void **state)
{
    (void)state;
    struct sse_reader reader;
    sse_init(&reader);
    assert_true(sse_feed(&reader, EC_SPAN("{\"detail\": \"not found\"}\n"), on_event, NULL));
    assert_false(reader.began);
    sse_done(&reader);
    sse_init(&reader);
    said[0] = '\0';
    assert_true(sse_feed(&reader, EC_SPAN("retry: 1000\n\nid: at-5\n\n"), on_event, NULL));
    assert_true(reader.began);
    assert_string_equal(reader.last_id, "at-5");
    assert_string_equal(said, "");
    assert_true(sse_feed(&reader, EC_SPAN("id: a-0-7\ndata: x\n\ndata: y\n\n"), on_event, NULL));
    assert_string_equal(reader.last_id, "a-0-7");
    sse_done(&reader);
}

static void test_what_the_end_of_a_connection_means(void **state)
{
    (void)state;
    const struct {
        struct stream_end end;
        enum stream_fate fate;
    } cases[] = {
        {{.no_answer = true}, STREAM_AGAIN},
        {{.status = 200}, STREAM_AGAIN},
        {{.status = 503}, STREAM_AGAIN},
        {{.status = 429}, STREAM_AGAIN},
        {{.no_answer = true, .lost_for_ms = 119999}, STREAM_AGAIN},
        {{.no_answer = true, .lost_for_ms = 120000}, STREAM_OVER},
        {{.status = 503, .lost_for_ms = 120000}, STREAM_OVER},
        {{.status = 200, .wanted_no_more = true}, STREAM_OVER},
        {{.no_answer = true, .wanted_no_more = true}, STREAM_OVER},
        {{.status = 401}, STREAM_OVER},
        {{.status = 404}, STREAM_OVER},
        {{.status = 500}, STREAM_OVER},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        assert_int_equal(decide_stream_end(&cases[i].end), cases[i].fate);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_an_event_too_large),
        cmocka_unit_test(test_the_last_id),
        cmocka_unit_test(test_what_the_end_of_a_connection_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
