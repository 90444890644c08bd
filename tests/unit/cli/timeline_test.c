/* The bars of `enclii timeline`: where they begin, how long they are, never outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cli.h"

const struct command commands[] = {{NULL, NULL, NULL, NULL, NULL, false}}; /* main.c has them */

static void test_bars(void **state)
{
    (void)state;
    static const struct {
        struct bar bar;
        const char *text;
    } cases[] = {
        {{0, 100, 100, 4, BAR_STEP}, "████"},
        {{0, 50, 100, 4, BAR_STEP}, "██"},
        {{50, 25, 100, 4, BAR_STEP}, "  █"},
        {{25, 3, 100, 4, BAR_STEP}, " ▏"}, /* 3 % of 4 letters */
        {{0, 40, 100, 4, BAR_STEP}, "█▋"}, /* 1.6 letters, upwards to eighths */
        {{0, 0, 100, 4, BAR_STEP}, "▏"},   /* nothing is still there */
        {{50, 50, 100, 4, BAR_WAIT}, "  ░░"},
        {{10, 1, 100, 4, BAR_WAIT}, "░"},
        {{75, 0, 100, 4, BAR_POINT}, "   ·"},
        {{100, 0, 100, 4, BAR_POINT}, "   ·"}, /* the last moment is inside */
        {{100, 50, 100, 4, BAR_STEP}, "   █"}, /* and so is what would go beyond */
        {{-20, 30, 100, 4, BAR_STEP}, "▌"},
        {{0, 0, 0, 4, BAR_POINT}, "·"}, /* a story of one moment */
    };
    struct ec_arena *arena = ec_arena_new(1 << 16);
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        const char *text = timeline_bar(arena, &cases[i].bar);
        assert_string_equal(text, cases[i].text);
        assert_in_range(text_letters(text), 1, 4);
    }
    ec_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bars)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
