/* JSON: limits and positions of faults, readers that never fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"

static void readers_give_values_or_defaults(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    struct ec_err err = ec_json_parse(
        arena, EC_SPAN("{\"a\":{\"b\":[{\"c\":\"x\"},7]},\"t\":true,\"n\":12345678901,\"e\":\"\"}"),
        &root);
    assert_false(ec_failed(err));
    assert_string_equal(ec_json_text(root, "a.b.0.c"), "x");
    assert_int_equal(ec_json_int(root, "a.b.1", 0), 7);
    assert_int_equal(ec_json_int(root, "n", 0), 12345678901);
    assert_int_equal(ec_json_int(root, "t", -3), -3);
    assert_true(ec_json_bool(root, "t", false));
    assert_true(ec_json_bool(root, "n", true));
    static const char *const absent[] = {"x",         "a.x", "a.b.2",  "a.b.c",
                                         "a.b.0.c.d", "t.x", "a.b.-1", "",
                                         ".",         "a.",  "a..b",   "a.b.0000000000"};
    for (size_t i = 0; i < EC_LEN(absent); i++) {
        assert_null(ec_json_at(root, absent[i]));
        assert_string_equal(ec_json_text(root, absent[i]), "");
    }
    assert_string_equal(ec_json_text(NULL, "a"), "");
    assert_string_equal(ec_json_dump(arena, ec_json_at(root, "a")), "{\"b\":[{\"c\":\"x\"},7]}");
    assert_string_equal(ec_json_dump(arena, ec_json_at(root, "a.b.1")), "7");
}

static void faults_say_where(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    static const char *const bad[] = {"",         "{",      "{\"a\":1,\n\"a\":2}", "[1,]", "nul",
                                      "\"\xff\"", "[1] []", "{\"a\":\"\\u0000\"}"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        json_t *root = NULL;
        struct ec_err err = ec_json_parse(arena, ec_span_of(bad[i]), &root);
        assert_int_equal(err.fate, EC_FATE_REJECT);
        assert_non_null(strstr(err.what, "line "));
        assert_null(root);
    }
    json_t *root = NULL;
    struct ec_err err = ec_json_parse(arena, EC_SPAN("{\"a\":1,\n\"a\":2}"), &root);
    assert_non_null(strstr(err.what, "line 2"));
    assert_non_null(strstr(err.what, "duplicate"));
}

static void depth_and_size_are_bounded(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    char deep[10000];
    memset(deep, '[', sizeof(deep));
    json_t *root = NULL;
    assert_int_equal(ec_json_parse(arena, (struct ec_span){deep, sizeof(deep)}, &root).fate,
                     EC_FATE_REJECT);
    struct ec_span huge = {deep, 33u << 20}; /* refused by its size alone, not read */
    assert_int_equal(ec_json_parse(arena, huge, &root).fate, EC_FATE_REJECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_give_values_or_defaults),
        cmocka_unit_test(faults_say_where),
        cmocka_unit_test(depth_and_size_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
