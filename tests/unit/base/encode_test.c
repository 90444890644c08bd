/* Hex, base64, percent encoding and UTF-8 with the vectors of their RFCs and what must be refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/encode.h"
#include "base/mem.h"

static void hex(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    assert_string_equal(ec_hex(arena, EC_SPAN("\x00\x7f\xff")), "007fff");
    assert_string_equal(ec_hex(arena, EC_SPAN("")), "");
    unsigned char out[3] = {1, 2, 3};
    assert_true(ec_unhex(EC_SPAN("00aAfF"), out, 3));
    assert_memory_equal(out, "\x00\xaa\xff", 3);
    static const char *const bad[] = {"", "00aaf", "00aaff0", "00aaff00", "00aafg", "00aa f"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_false(ec_unhex(ec_span_of(bad[i]), out, 3));
    }
    assert_memory_equal(out, "\x00\xaa\xff", 3); /* untouched */
}

static void base64_vectors_of_rfc_4648(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    static const char *const vectors[][3] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"},
        {"fooba", "Zm9vYmE=", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+", "-__-"},
    };
    for (size_t i = 0; i < EC_LEN(vectors); i++) {
        struct ec_span bytes = ec_span_of(vectors[i][0]), back;
        assert_string_equal(ec_base64(arena, bytes), vectors[i][1]);
        assert_string_equal(ec_base64url(arena, bytes), vectors[i][2]);
        for (int form = 1; form <= 2; form++) {
            assert_true(ec_unbase64(arena, ec_span_of(vectors[i][form]), &back));
            assert_true(ec_span_eq(back, bytes));
        }
    }
}

static void base64_refuses_what_is_no_encoding(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    static const char *const bad[] = {"A",    "=",     "==",     "A===",   "Zg=",      "Zh==",
                                      "Zm9=", "Zm9v=", "Zm9v==", "Zm\n9v", "Zm9v====", "Z=g="};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        struct ec_span out = EC_SPAN("untouched");
        assert_false(ec_unbase64(arena, ec_span_of(bad[i]), &out));
        assert_true(ec_span_is(out, "untouched"));
    }
}

static void decoders_respect_the_arena(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64);
    char text[400];
    memset(text, 'A', sizeof(text));
    struct ec_span out;
    assert_false(ec_unbase64(arena, (struct ec_span){text, sizeof(text)}, &out));
    assert_false(ec_unpercent(arena, (struct ec_span){text, sizeof(text)}, &out));
}

static void percent(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    assert_string_equal(ec_percent(arena, EC_SPAN("a-b_c.d~/ ?%\xc3\xbc")),
                        "a-b_c.d~%2F%20%3F%25%C3%BC");
    struct ec_span back;
    assert_true(ec_unpercent(arena, EC_SPAN("a+b%2F%20%c3%BC"), &back));
    assert_true(ec_span_is(back, "a+b/ \xc3\xbc"));
    assert_false(ec_unpercent(arena, EC_SPAN("a%"), &back));
    assert_false(ec_unpercent(arena, EC_SPAN("a%2"), &back));
    assert_false(ec_unpercent(arena, EC_SPAN("a%2g"), &back));
}

static void utf8(void **state)
{
    (void)state;
    assert_true(ec_utf8_valid(EC_SPAN("")));
    assert_true(ec_utf8_valid(EC_SPAN("a\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80"
                                      "\xf4\x8f\xbf\xbf")));
    static const char *const bad[] = {
        "\x80",             /* continuation first */
        "\xc3",             /* cut */
        "\xc0\xaf",         /* too long a form of '/' */
        "\xe0\x9f\xbf",     /* too long */
        "\xf0\x8f\xbf\xbf", /* too long */
        "\xed\xa0\x80",     /* surrogate */
        "\xf4\x90\x80\x80", /* above U+10FFFF */
        "\xf8\x88\x80\x80", /* five bytes */
        "\xc3(",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_int_equal(ec_utf8_len(ec_span_of(bad[i])), 0);
    }
}

static void cleaned_as(const char *text, size_t max_bytes, const char *want)
{
    struct ec_arena *arena = ec_arena_new(4096);
    assert_string_equal(ec_text_clean(arena, ec_span_of(text), max_bytes), want);
    ec_arena_free(arena);
}

static void texts_of_strangers(void **state)
{
    (void)state;
    cleaned_as("", 10, "");
    cleaned_as("a\tb\nc", 10, "a\tb\nc");
    cleaned_as("\x1b[2J\x07\r\x7f\xc2\x9b", 100, " [2J    "); /* ESC, BEL, CR, DEL, CSI */
    cleaned_as("\xe4\xc3\xa4\xe2\x82", 100, "\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd");
    cleaned_as("\xe2\x82\xac\xe2\x82\xac", 5, "\xe2\x82\xac"); /* cut between characters */
    cleaned_as("\xff", 2, "");
    cleaned_as("abc", 0, "");
}

static void cut_characters_go(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", ""},
        {"ab", "ab"},
        {"a\xc3\xa4", "a\xc3\xa4"},
        {"a\xc3", "a"},
        {"a\xe2\x82", "a"},
        {"\xf0\x9f\x98", ""},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        char text[8];
        strcpy(text, rows[i][0]);
        ec_utf8_trim(text);
        assert_string_equal(text, rows[i][1]);
    }
}

static void secrets_compare(void **state)
{
    (void)state;
    assert_true(ec_span_eq_secret(EC_SPAN("abc"), EC_SPAN("abc")));
    assert_false(ec_span_eq_secret(EC_SPAN("abc"), EC_SPAN("abd")));
    assert_false(ec_span_eq_secret(EC_SPAN("abc"), EC_SPAN("ab")));
    assert_true(ec_span_eq_secret(EC_SPAN(""), EC_SPAN("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex),
        cmocka_unit_test(base64_vectors_of_rfc_4648),
        cmocka_unit_test(base64_refuses_what_is_no_encoding),
        cmocka_unit_test(decoders_respect_the_arena),
        cmocka_unit_test(percent),
        cmocka_unit_test(utf8),
        cmocka_unit_test(texts_of_strangers),
        cmocka_unit_test(cut_characters_go),
        cmocka_unit_test(secrets_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
