/* Events of a stream, however its bytes arrive. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_an_event_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
