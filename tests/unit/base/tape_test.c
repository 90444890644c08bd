/* JSON read in place: what is JSON and what is not (as jansson says), readers that never fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/tape.h"

static struct ec_tape tape_of(struct ec_arena *arena, const char *text)
{
    struct ec_tape tape = {0};
    assert_false(ec_failed(ec_tape_read(arena, ec_span_of(text), &tape)));
    return tape;
}

static void readers_give_values_or_defaults(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    struct ec_tape t = tape_of(
        arena, " {\"a\":{\"b\":[{\"c\":\"x\"},7, []]},\"t\":true,\"n\":-12345678901,"
               "\"e\":\"\",\"u\":\"\\u20ac\\ud83d\\ude00\\n\\\"/\",\"twice\":1,\"twice\":2} ");
    const struct ec_node *root = ec_tape_root(&t);
    assert_string_equal(ec_tape_text(arena, &t, root, "a.b.0.c"), "x");
    assert_int_equal(ec_tape_int(&t, root, "a.b.1", 0), 7);
    assert_int_equal(ec_tape_int(&t, root, "n", 0), -12345678901);
    assert_int_equal(ec_tape_int(&t, root, "t", -3), -3);
    assert_true(ec_tape_bool(&t, root, "t", false));
    assert_true(ec_tape_bool(&t, root, "n", true));
    assert_string_equal(ec_tape_text(arena, &t, root, "u"), "\xe2\x82\xac\xf0\x9f\x98\x80\n\"/");
    assert_int_equal(ec_tape_int(&t, root, "twice", 9), 9); /* which of the two? none */
    static const char *const absent[] = {"x",   "a.x",    "a.b.3", "a.b.c",          "a.b.0.c.d",
                                         "t.x", "a.b.-1", "a..b",  "a.b.0000000000", "e.f"};
    for (size_t i = 0; i < EC_LEN(absent); i++) {
        assert_null(ec_tape_at(&t, root, absent[i]));
        assert_string_equal(ec_tape_text(arena, &t, root, absent[i]), "");
    }
    assert_string_equal(ec_tape_text(arena, &t, NULL, "a"), "");
    const struct ec_node *list = ec_tape_at(&t, root, "a.b");
    assert_int_equal(ec_tape_count(&t, list), 3);
    assert_int_equal(ec_tape_count(&t, ec_tape_at(&t, root, "a.b.2")), 0);
    assert_int_equal(ec_tape_count(&t, root), 0);
    assert_null(ec_tape_copy(arena, &t, list));
}

static void what_is_json(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
    } rows[] = {
        {"1", true},
        {"-0.5e+3", true},
        {"\"x\"", true},
        {"[]", true},
        {"{}", true},
        {"[1,[2,{}]]", true},
        {"null", true},
        {" [ true , false ] ", true},
        {"{\"a\":1,\"b\":2}", true},
        {"", false},
        {" ", false},
        {"[", false},
        {"[1", false},
        {"[1,]", false},
        {"[,1]", false},
        {"[1 2]", false},
        {"{", false},
        {"{\"a\"", false},
        {"{\"a\":", false},
        {"{\"a\":1", false},
        {"{\"a\":1,}", false},
        {"{a:1}", false},
        {"{1:1}", false},
        {"[}", false},
        {"{]", false},
        {"[1]]", false},
        {"1 2", false},
        {"01", false},
        {"-", false},
        {"1.", false},
        {".5", false},
        {"1e", false},
        {"+1", false},
        {"tru", false},
        {"nulll", false},
        {"NaN", false},
        {"\"", false},
        {"\"\\", false},
        {"\"\\x\"", false},
        {"\"\\u12\"", false},
        {"\"\\u0000\"", false},
        {"\"\\ud800\"", false},
        {"\"\\udc00\"", false},
        {"\"\\ud800\\u0041\"", false},
        {"\"\t\"", false},
        {"\"\xff\"", false},
        {"\"\xc3\xa4\"", true},
        {"\"\xc0\x80\"", false},
        {"'x'", false},
        {"[1]x", false},
        {"\"12345678\xed\xa0\x80\"", false},
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
        ec_cleanup(ec_json_freep) json_t *root = NULL;
        struct ec_tape t = {0};
        bool good = !ec_failed(ec_tape_read(arena, ec_span_of(rows[i].text), &t));
        bool other = !ec_failed(ec_json_parse(arena, ec_span_of(rows[i].text), &root));
        if (good != rows[i].good || other != rows[i].good) {
            fail_msg("row %zu, %s: tape %d, jansson %d", i, rows[i].text, good, other);
        }
    }
}

static void limits_and_places(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    struct ec_tape t = {0};
    char deep[2 * EC_TAPE_DEPTH_MAX + 4] = "";
    memset(deep, '[', EC_TAPE_DEPTH_MAX);
    memset(deep + EC_TAPE_DEPTH_MAX, ']', EC_TAPE_DEPTH_MAX);
    assert_false(ec_failed(ec_tape_read(arena, ec_span_of(deep), &t)));
    memset(deep, '[', EC_TAPE_DEPTH_MAX + 1);
    assert_true(ec_failed(ec_tape_read(arena, ec_span_of(deep), &t)));
    struct ec_err err = ec_tape_read(arena, EC_SPAN("{\n \"a\": 1,\n \"b\": x}"), &t);
    assert_string_equal(err.what, "bad JSON at line 3, column 7: something that is no value");
    ec_cleanup(ec_arena_freep) struct ec_arena *small = ec_arena_new(4096);
    char many[4000];
    memset(many, '[', 1);
    for (size_t i = 1; i + 2 < sizeof many; i += 2) {
        memcpy(many + i, "0,", 2);
    }
    memcpy(many + sizeof many - 2, "0]", 2);
    many[sizeof many - 1] = ']';
    err = ec_tape_read(small, (struct ec_span){many, sizeof many}, &t);
    assert_int_equal(err.fate, EC_FATE_REJECT);
}

static void a_part_of_a_text(void **state)
{
    (void)state;
    static const char json[] = "\"a\\n\\u00e4\\ud83d\\ude00\xc3\xa4z\"";
    static const struct {
        uint32_t most;
        const char *is;
    } rows[] = {{0, ""},
                {1, "a"},
                {2, "a"},
                {3, "a\n"},
                {8, "a\n"},
                {9, "a\n\xc3\xa4"},
                {20, "a\n\xc3\xa4"},
                {21, "a\n\xc3\xa4\xf0\x9f\x98\x80"},
                {22, "a\n\xc3\xa4\xf0\x9f\x98\x80"},
                {23, "a\n\xc3\xa4\xf0\x9f\x98\x80\xc3\xa4"},
                {24, "a\n\xc3\xa4\xf0\x9f\x98\x80\xc3\xa4z"},
                {99, "a\n\xc3\xa4\xf0\x9f\x98\x80\xc3\xa4z"}};
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    struct ec_tape t = {0};
    assert_false(ec_failed(ec_tape_read(arena, ec_span_of(json), &t)));
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        struct ec_node cut = ec_tape_cut(&t, ec_tape_root(&t), rows[i].most);
        assert_string_equal(ec_tape_copy(arena, &t, &cut), rows[i].is);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_give_values_or_defaults),
        cmocka_unit_test(what_is_json),
        cmocka_unit_test(limits_and_places),
        cmocka_unit_test(a_part_of_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
