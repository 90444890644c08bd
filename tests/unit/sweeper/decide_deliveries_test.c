/* What a host's list of delivery attempts means: a table of situations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sweeper.h"

#define NOW 1000000000000
#define S(n) (NOW - (n)*1000LL)
#define NONE                                                                                       \
    {                                                                                              \
        NULL, NULL, NULL, 0, 0, 0, false, DELIVERY_OPEN                                            \
    }

struct row {
    const char *what;
    int status, older_status; /* of the newest attempt and the one before; -1 = none */
    int64_t at_ms;
    struct undelivered known; /* guid NULL = none */
    const char *want;
};

static const struct row rows[] = {
    {"got through", 202, -1, S(100), NONE, "taken"},
    {"failed", 500, -1, S(100), NONE, "open ask"},
    {"no answer", 0, -1, S(100), NONE, "open ask"},
    {"too many requests", 429, -1, S(100), NONE, "open ask"},
    {"too slow", 408, -1, S(100), NONE, "open ask"},
    {"young", 500, -1, S(29), NONE, "open"},
    {"old", 500, -1, S(73 * 3600), NONE, "given_up"},
    {"unknown repository", 404, -1, S(100), NONE, "refused"},
    {"bad signature", 401, -1, S(100), NONE, "refused"},
    {"failed, then got through", 202, 500, S(100), NONE, "taken"},
    {"got through, then failed", 500, 202, S(100), NONE, "taken"},
    {"failed, then refused", 404, 500, S(100), NONE, "refused"},
    {"asked, pause", 500, -1, S(100), {"g", "1", "push", 500, S(200), 1, false, 0}, "open"},
    {"asked, due", 500, -1, S(100), {"g", "1", "push", 500, S(200), 1, true, 0}, "open ask"},
    {"the fifth time, pause", 500, -1, S(99), {"g", "1", "push", 0, S(200), 5, false, 0}, "open"},
    {"the fifth time", 500, -1, S(99), {"g", "1", "push", 0, S(200), 5, true, 0}, "given_up"},
    {"not listed any more, due", -1, -1, 0, {"g", "1", "push", 0, S(99), 1, true, 0}, "open ask"},
    {"not listed any more, old", -1, -1, 0, {"g", "1", "p", 0, S(300000), 1, true, 0}, "given_up"},
    {"given up, and listed", 500, -1, S(99), {"g", "1", "p", 0, S(200), 5, true, 3}, "given_up"},
    {"given up, then by hand", 200, 500, S(99), {"g", "1", "p", 0, S(200), 5, true, 3}, "taken"},
    {"refused, and listed", 401, -1, S(99), {"g", "1", "p", 401, S(200), 0, true, 2}, "refused"},
    {"refused, then by hand", 202, 401, S(99), {"g", "1", "p", 401, S(200), 0, true, 2}, "taken"},
    {"refused, then failed", 502, 401, S(99), {"g", "1", "p", 401, S(200), 0, true, 2}, "open ask"},
};

static void what_follows_from_attempts(void **state)
{
    (void)state;
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        const struct row *row = &rows[i];
        ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 20);
        struct attempt attempts[2];
        size_t count = 0;
        if (row->status >= 0) {
            attempts[count++] = (struct attempt){"9", "g", "push", row->status, row->at_ms};
        }
        if (row->older_status >= 0) {
            attempts[count++] = (struct attempt){"8", "g", "push", row->older_status, S(150)};
        }
        struct verdicts verdicts;
        decide_deliveries(arena, attempts, count, &row->known, row->known.guid != NULL, NOW,
                          &verdicts);
        print_message("%s\n", row->what);
        assert_int_equal(verdicts.count, 1);
        const struct verdict *verdict = &verdicts.list[0];
        assert_string_equal(ec_arena_format(arena, "%s%s", decide_fate_name(verdict->delivery.fate),
                                            verdict->ask ? " ask" : ""),
                            row->want);
        assert_string_equal(verdict->delivery.attempt_id, count > 0 ? "9" : "1");
        assert_int_equal(verdict->known, row->known.guid != NULL);
    }
}

static void at_most_so_many_and_the_oldest_first(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4 << 20);
    struct attempt attempts[REDELIVERIES_MAX + 30];
    struct verdicts verdicts;
    size_t asked = 0;
    for (size_t i = 0; i < EC_LEN(attempts); i++) {
        const char *guid = ec_arena_format(arena, "g%03zu", i);
        attempts[i] = (struct attempt){guid, guid, "push", 502, S(60 + (int64_t)i)};
    }
    decide_deliveries(arena, attempts, EC_LEN(attempts), NULL, 0, NOW, &verdicts);
    assert_int_equal(verdicts.count, EC_LEN(attempts));
    assert_string_equal(verdicts.list[0].delivery.guid, "g079");
    for (size_t i = 0; i < verdicts.count; i++) {
        assert_int_equal(verdicts.list[i].ask, i < REDELIVERIES_MAX);
        assert_int_equal(verdicts.list[i].delivery.fate, DELIVERY_OPEN);
        asked += verdicts.list[i].ask;
    }
    assert_int_equal(asked, REDELIVERIES_MAX);
}

static void pauses_grow(void **state)
{
    (void)state;
    assert_int_equal(decide_again_ms(1000, 1), 1000);
    assert_int_equal(decide_again_ms(1000, 2), 2000);
    assert_int_equal(decide_again_ms(1000, 5), 16000);
    assert_int_equal(decide_again_ms(1000, 100), 32000);
    assert_int_equal(decide_fate_of("given_up"), DELIVERY_GIVEN_UP);
    assert_int_equal(decide_fate_of(""), DELIVERY_OPEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_follows_from_attempts),
        cmocka_unit_test(at_most_so_many_and_the_oldest_first),
        cmocka_unit_test(pauses_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
