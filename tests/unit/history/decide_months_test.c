/* Which months are made and dropped, and under what time an event is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "history.h"

#define DAY_MS ((int64_t)86400000)
#define MONTH(year, month) ((year)*12 + (month)-1)

static void test_month_of(void **state)
{
    (void)state;
    static const struct {
        const char *time;
        int month;
    } cases[] = {
        {"2026-01-01T00:00:00Z", MONTH(2026, 1)},
        {"2025-12-31T23:59:59.999Z", MONTH(2025, 12)},
        {"2024-02-29T12:00:00Z", MONTH(2024, 2)},
        {"2026-11-30T23:30:00-02:00", MONTH(2026, 12)},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        assert_int_equal(month_of(ec_rfc3339_parse(cases[i].time)), cases[i].month);
    }
    assert_int_equal(month_begin_ms(MONTH(2026, 1)), ec_rfc3339_parse("2026-01-01T00:00:00Z"));
    assert_int_equal(month_begin_ms(MONTH(2025, 12) + 1), month_begin_ms(MONTH(2026, 1)));
}

static void test_text(void **state)
{
    (void)state;
    char text[MONTH_TEXT_SIZE];
    int month = 0;
    month_text(MONTH(2026, 9), text);
    assert_string_equal(text, "2026-09-01");
    assert_true(month_parse(text, &month));
    assert_int_equal(month, MONTH(2026, 9));
    static const char *const bad[] = {"",           "2026-09",    "2026-13-01",
                                      "2026-00-01", "2026-09-02", "2026-09-01x"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_false(month_parse(bad[i], &month));
    }
}

static void test_plan(void **state)
{
    (void)state;
    struct history_settings settings = {.retention_ms = 90 * DAY_MS, .months_ahead = 2};
    struct months_plan plan;
    int64_t now = ec_rfc3339_parse("2026-11-15T00:00:00Z");
    decide_months(now, &settings, NULL, 0, &plan);
    assert_int_equal(plan.make_count, 3);
    assert_int_equal(plan.make[0], MONTH(2026, 11));
    assert_int_equal(plan.make[2], MONTH(2027, 1));
    assert_int_equal(plan.drop_count, 0);
    /* 90 days before is 17 August: all of July is older, August is not. */
    const int there[] = {MONTH(2026, 6),  MONTH(2026, 7),  MONTH(2026, 8),
                         MONTH(2026, 11), MONTH(2026, 12), MONTH(2027, 1)};
    decide_months(now, &settings, there, EC_LEN(there), &plan);
    assert_int_equal(plan.make_count, 0);
    assert_int_equal(plan.drop_count, 2);
    assert_int_equal(plan.drop[0], MONTH(2026, 6));
    assert_int_equal(plan.drop[1], MONTH(2026, 7));
}

/* To the millisecond: the month goes when its last moment is out, not before. */
static void test_the_edge_of_retention(void **state)
{
    (void)state;
    struct history_settings settings = {.retention_ms = 30 * DAY_MS, .months_ahead = 1};
    struct months_plan plan;
    const int there[] = {MONTH(2026, 9)};
    int64_t edge = month_begin_ms(MONTH(2026, 10)) + 30 * DAY_MS;
    decide_months(edge - 1, &settings, there, 1, &plan);
    assert_int_equal(plan.drop_count, 0);
    decide_months(edge, &settings, there, 1, &plan);
    assert_int_equal(plan.drop_count, 1);
}

static void test_time(void **state)
{
    (void)state;
    int64_t now = 1000 * DAY_MS;
    assert_int_equal(decide_time(now - 5, now, DAY_MS), now - 5);
    assert_int_equal(decide_time(now + 1000, now, DAY_MS), now + 1000); /* a little ahead */
    assert_int_equal(decide_time(now + 365 * DAY_MS, now, DAY_MS), now);
    assert_int_equal(decide_time(now - DAY_MS, now, DAY_MS), now - DAY_MS);
    assert_int_equal(decide_time(now - DAY_MS - 1, now, DAY_MS), 0);
    assert_int_equal(decide_time(0, now, DAY_MS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_month_of), cmocka_unit_test(test_text),
        cmocka_unit_test(test_plan),     cmocka_unit_test(test_the_edge_of_retention),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
