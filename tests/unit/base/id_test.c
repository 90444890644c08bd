/* Ids: order of version 7, known values of version 5, trace context. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"

static void new_ids_grow(void **state)
{
    (void)state;
    struct ec_id last = ec_id_new();
    for (int i = 0; i < 20000; i++) { /* many per millisecond: the counter overflows too */
        struct ec_id id = ec_id_new();
        assert_true(ec_id_valid(id.text));
        assert_int_equal(id.text[14], '7');
        assert_non_null(strchr("89ab", id.text[19]));
        assert_true(strcmp(last.text, id.text) < 0);
        last = id;
    }
}

static void new_ids_carry_the_time(void **state)
{
    (void)state;
    int64_t before = ec_unix_ms();
    struct ec_id id = ec_id_new();
    char hex[13] = {0};
    memcpy(hex, id.text, 8);
    memcpy(hex + 8, id.text + 9, 4);
    int64_t ms = strtoll(hex, NULL, 16);
    assert_in_range(ms, before, ec_unix_ms() + 100); /* ids of the test before may have run ahead */
}

/* Made by Python: uuid5(uuid5(NAMESPACE_DNS, "events.enclii.dev"), "delivery-1\npush"). */
static void derived_ids_are_known(void **state)
{
    (void)state;
    struct ec_id id = ec_id_derive("delivery-1", "push");
    assert_string_equal(id.text, "fda895e4-9f56-514c-a15d-2c2a4d13d3eb");
    assert_true(ec_id_valid(id.text));
    assert_string_equal(ec_id_derive("delivery-1", "push").text, id.text);
    assert_string_not_equal(ec_id_derive("delivery-1", "build").text, id.text);
    assert_string_not_equal(ec_id_derive("a", "bc").text, ec_id_derive("ab", "c").text);
}

static void ids_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "fda895e4-9f56-514c-a15d-2c2a4d13d3e",
        "fda895e4-9f56-514c-a15d-2c2a4d13d3ebb",
        "FDA895E4-9F56-514C-A15D-2C2A4D13D3EB",
        "fda895e4.9f56.514c.a15d.2c2a4d13d3eb",
        "fda895e4-9f56-514c-a15d-2c2a4d13d3eg",
        "fda895e49-f56-514c-a15d-2c2a4d13d3eb",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_false(ec_id_valid(bad[i]));
    }
    assert_false(ec_id_valid(NULL));
}

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static void traces(void **state)
{
    (void)state;
    assert_true(ec_trace_valid(PARENT));
    struct ec_trace child = ec_trace_child(PARENT);
    assert_true(ec_trace_valid(child.parent));
    assert_memory_equal(child.parent, PARENT, 36);
    assert_string_not_equal(child.parent, PARENT);
    char id[33];
    ec_trace_id(child.parent, id);
    assert_string_equal(id, "0af7651916cd43dd8448eb211c80319c");
    struct ec_trace fresh = ec_trace_child("rubbish");
    assert_true(ec_trace_valid(fresh.parent));
    ec_trace_id("rubbish", id);
    assert_string_equal(id, "");
    /* a later version may carry more */
    assert_true(ec_trace_valid("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"));
}

static void bad_traces(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        PARENT "-more",
        PARENT "0",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_false(ec_trace_valid(bad[i]));
    }
    assert_false(ec_trace_valid(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_ids_grow),
        cmocka_unit_test(new_ids_carry_the_time),
        cmocka_unit_test(derived_ids_are_known),
        cmocka_unit_test(ids_are_checked),
        cmocka_unit_test(traces),
        cmocka_unit_test(bad_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
