/* Buffers: growth, the maximum, JSON texts, dropping from the front. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"

static void grows_and_stays_a_text(void **state)
{
    (void)state;
    ec_cleanup(ec_buf_done) struct ec_buf buf;
    ec_buf_init(&buf, 1 << 20);
    assert_string_equal(buf.ptr, "");
    for (int i = 0; i < 1000; i++) {
        ec_buf_addf(&buf, "%03d,", i);
    }
    assert_int_equal(buf.len, 4000);
    assert_int_equal(strlen(buf.ptr), 4000);
    assert_memory_equal(buf.ptr + 3992, "998,999,", 9);
    ec_buf_addf(&buf, "%900d", 7); /* longer than the small buffer inside */
    assert_int_equal(buf.len, 4900);
    assert_false(buf.overflowed);
    ec_buf_clear(&buf);
    assert_string_equal(buf.ptr, "");
}

static void keeps_what_fits_then_nothing(void **state)
{
    (void)state;
    ec_cleanup(ec_buf_done) struct ec_buf buf;
    ec_buf_init(&buf, 5);
    ec_buf_add_text(&buf, "abc");
    ec_buf_add_text(&buf, "defg");
    assert_string_equal(buf.ptr, "abcde");
    assert_true(buf.overflowed);
    ec_buf_drop_front(&buf, 3);
    ec_buf_add_text(&buf, "x");
    assert_string_equal(buf.ptr, "de");
    ec_buf_clear(&buf);
    assert_false(buf.overflowed);
    ec_buf_add_text(&buf, "12345");
    assert_false(buf.overflowed);
    ec_buf_add_text(&buf, "");
    assert_false(buf.overflowed);
    ec_buf_add_text(&buf, "6");
    assert_true(buf.overflowed);
    assert_string_equal(buf.ptr, "12345");
}

static void drops_from_the_front(void **state)
{
    (void)state;
    ec_cleanup(ec_buf_done) struct ec_buf buf;
    ec_buf_init(&buf, 100);
    ec_buf_drop_front(&buf, 3);
    ec_buf_add_text(&buf, "abcdef");
    ec_buf_drop_front(&buf, 4);
    assert_true(ec_span_is(ec_buf_span(&buf), "ef"));
    ec_buf_drop_front(&buf, 50);
    assert_string_equal(buf.ptr, "");
}

static void json_text_cannot_be_broken_out_of(void **state)
{
    (void)state;
    ec_cleanup(ec_buf_done) struct ec_buf buf;
    ec_buf_init(&buf, 1000);
    ec_buf_add_json_text(&buf, EC_SPAN("a\"b\\c\n\r\t\x01\x7f\0z"));
    assert_string_equal(buf.ptr, "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u007f\\u0000z\"");
    ec_buf_clear(&buf);
    ec_buf_add_json_text(&buf, EC_SPAN("gr\xc3\xbc\xc3\x9f\xff\xc3"));
    assert_string_equal(buf.ptr, "\"gr\xc3\xbc\xc3\x9f\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void done_accepts_a_zeroed_buffer(void **state)
{
    (void)state;
    struct ec_buf buf = {0};
    ec_buf_done(&buf);
    ec_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_stays_a_text),
        cmocka_unit_test(keeps_what_fits_then_nothing),
        cmocka_unit_test(drops_from_the_front),
        cmocka_unit_test(json_text_cannot_be_broken_out_of),
        cmocka_unit_test(done_accepts_a_zeroed_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
