/* The engine's log stream, cut anywhere, and hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "log_frames.h"

static void add_line(void *arg, bool error_stream, struct ec_span text)
{
    ec_buf_addf(arg, "%s%.*s|", error_stream ? "!" : "", (int)text.len, text.ptr);
}

/* Feeds the bytes in pieces of `step` and compares all lines. */
static void expect(struct ec_span bytes, size_t step, const char *want)
{
    static struct log_frames frames;
    memset(&frames, 0, sizeof frames);
    ec_cleanup(ec_buf_done) struct ec_buf out = {0};
    ec_buf_init(&out, 1u << 20);
    for (size_t at = 0; at < bytes.len; at += step) {
        size_t len = bytes.len - at < step ? bytes.len - at : step;
        log_frames_feed(&frames, (struct ec_span){bytes.ptr + at, len}, add_line, &out);
    }
    log_frames_end(&frames, add_line, &out);
    ec_buf_add(&out, "", 1);
    assert_string_equal(out.ptr, want);
}

#define BYTES(literal) ((struct ec_span){literal, sizeof(literal) - 1})

static void lines_are_the_same_however_the_stream_is_cut(void **state)
{
    (void)state;
    struct ec_span bytes =
        BYTES("\1\0\0\0\0\0\0\6one\ntw\2\0\0\0\0\0\0\4err\n\1\0\0\0\0\0\0\5o\r\nth"
              "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\3ree");
    for (size_t step = 1; step <= bytes.len; step++) {
        expect(bytes, step, "one|!err|two|three|");
    }
}

static void a_long_line_is_cut_and_the_next_is_whole(void **state)
{
    (void)state;
    static char bytes[8 + LOG_LINE_MAX_BYTES + 100 + 4];
    size_t payload = sizeof bytes - 8;
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, (char[]){1, 0, 0, 0, 0, 0, (char)(payload >> 8), (char)payload}, 8);
    memcpy(bytes + sizeof bytes - 4, "\nok\n", 4);
    static char want[LOG_LINE_MAX_BYTES + 8];
    memset(want, 'x', LOG_LINE_MAX_BYTES);
    strcpy(want + LOG_LINE_MAX_BYTES, "|ok|");
    expect((struct ec_span){bytes, sizeof bytes}, 1000, want);
}

static void what_is_no_frame_gives_nothing(void **state)
{
    (void)state;
    expect(BYTES("HTTP/1.1 500 Oops\n"), 5, "");
    expect(BYTES("\1\0\0\0\0\0\0\3ok\n\7\0\0\0\0\0\0\3no\n"), 4, "ok|");
    expect(BYTES("\1\0\0"), 1, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_the_same_however_the_stream_is_cut),
        cmocka_unit_test(a_long_line_is_cut_and_the_next_is_whole),
        cmocka_unit_test(what_is_no_frame_gives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
