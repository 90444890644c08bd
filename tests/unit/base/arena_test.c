/* Arenas: alignment, zeroing, the maximum, reset, formatting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/mem.h"

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 20);
    for (size_t size = 0; size < 3000; size = size * 2 + 1) {
        unsigned char *memory = ec_arena_alloc(arena, size);
        assert_int_equal((uintptr_t)memory % 16, 0);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(memory[i], 0);
        }
        memset(memory, 0xff, size);
    }
    ec_arena_reset(arena);
    assert_int_equal(ec_arena_used_bytes(arena), 0);
    const unsigned char *again = ec_arena_alloc(arena, 2048);
    for (size_t i = 0; i < 2048; i++) {
        assert_int_equal(again[i], 0); /* also memory that was used before the reset */
    }
}

static void try_stops_at_the_maximum(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1000);
    assert_null(ec_arena_try(arena, 1001));
    assert_null(ec_arena_try(arena, SIZE_MAX));
    assert_null(ec_arena_try(arena, SIZE_MAX - 7));
    assert_non_null(ec_arena_try(arena, 900));
    assert_null(ec_arena_try(arena, 32));
    assert_non_null(ec_arena_try(arena, 16));
    assert_null(ec_arena_try(arena, 16));
    assert_non_null(ec_arena_alloc(arena, 60)); /* the rest is kept for our own data */
    assert_null(ec_arena_try(arena, 1));
    ec_arena_reset(arena);
    assert_non_null(ec_arena_try(arena, 900));
}

static void one_item_larger_than_a_block_fits(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4 << 20);
    char *large = ec_arena_alloc(arena, 3 << 20);
    memset(large, 'x', 3 << 20);
    char *small = ec_arena_alloc(arena, 10);
    memset(small, 'y', 10);
    assert_int_equal(large[(3 << 20) - 1], 'x');
    ec_arena_reset(arena);
    ec_arena_reset(arena);
    assert_non_null(ec_arena_alloc(arena, 10));
}

static void texts(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 20);
    assert_null(ec_arena_strdup(arena, NULL));
    assert_string_equal(ec_arena_strdup(arena, ""), "");
    assert_string_equal(ec_arena_text(arena, (struct ec_span){"abcdef", 3}), "abc");
    assert_string_equal(ec_arena_text(arena, (struct ec_span){NULL, 0}), "");
    assert_string_equal(ec_arena_format(arena, "%s-%05d", "a", 42), "a-00042");
    assert_int_equal(strlen(ec_arena_format(arena, "%5000d", 1)), 5000);
    struct ec_span copy = ec_arena_copy(arena, EC_SPAN("a\0b"));
    assert_int_equal(copy.len, 3);
    assert_memory_equal(copy.ptr, "a\0b", 4);
}

static struct ec_err tries(struct ec_err err, bool *reached)
{
    EC_TRY(err);
    *reached = true;
    return ec_ok();
}

static void errors_carry_their_fate(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4096);
    struct ec_err err = ec_reject_in(arena, "port %d is taken", 80);
    assert_string_equal(err.what, "port 80 is taken");
    assert_string_equal(ec_fate_name(err.fate), "reject");
    bool reached = false;
    assert_string_equal(tries(err, &reached).what, "port 80 is taken");
    assert_false(reached);
    assert_false(ec_failed(tries(ec_ok(), &reached)));
    assert_true(reached);
    err = ec_retry_in(arena, 11, "%s is down", "kafka");
    assert_int_equal(err.sys, 11);
    assert_string_equal(ec_fate_name(err.fate), "retry");
    assert_string_equal(ec_fate_name(EC_FATE_FATAL), "fatal");
    assert_string_equal(ec_fate_name(EC_FATE_OK), "ok");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(try_stops_at_the_maximum),
        cmocka_unit_test(one_item_larger_than_a_block_fits),
        cmocka_unit_test(texts),
        cmocka_unit_test(errors_carry_their_fate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
