/* RFC 3339 both ways, durations for people, back-off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/mem.h"

static void rfc3339_examples(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-01-02T03:04:05.678Z", 1767323045678},
        {"1985-04-12T23:20:50.52Z", 482196050520},
        {"1996-12-19T16:39:57-08:00", 851042397000},
        {"1990-12-31T23:59:60Z", 662688000000},
        {"1937-01-01T12:00:27.87+00:20", -1}, /* before 1970: not ours */
        {"2000-02-29t00:00:00z", 951782400000},
        {"2024-02-29 12:00:00.123456789+05:30", 1709188200123},
        {"9999-12-31T23:59:59.999Z", 253402300799999},
    };
    for (size_t i = 0; i < EC_LEN(good); i++) {
        assert_int_equal(ec_rfc3339_parse(good[i].text), good[i].ms);
    }
}

static void rfc3339_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-13-02T03:04:05Z",
        "2026-00-02T03:04:05Z",
        "2026-02-29T03:04:05Z",
        "2100-02-29T03:04:05Z",
        "2026-01-32T03:04:05Z",
        "2026-01-02T24:04:05Z",
        "2026-01-02T03:60:05Z",
        "2026-01-02T03:04:61Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05Zx",
        "2026-01-02T03:04:05+5:30",
        "2026-01-02T03:04:05+24:00",
        "+026-01-02T03:04:05Z",
        "2026-1-02T03:04:05Z",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_int_equal(ec_rfc3339_parse(bad[i]), -1);
    }
    assert_int_equal(ec_rfc3339_parse(NULL), -1);
}

static void rfc3339_round_trips(void **state)
{
    (void)state;
    char text[EC_RFC3339_SIZE];
    for (int64_t ms = 0; ms < 253402300799999; ms += 86399999ll * 37) {
        ec_rfc3339(ms, text);
        assert_int_equal(ec_rfc3339_parse(text), ms);
    }
    ec_rfc3339(1767323045678, text);
    assert_string_equal(text, "2026-01-02T03:04:05.678Z");
    ec_rfc3339(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    ec_rfc3339(INT64_MIN, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
}

static void clocks_move(void **state)
{
    (void)state;
    int64_t mono = ec_mono_us();
    assert_true(ec_mono_us() >= mono);
    assert_in_range(ec_unix_ms(), 1700000000000, 253402300799999);
    assert_true(ec_mono_ms() <= ec_mono_us() / 1000);
}

static void durations_for_people(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4096);
    assert_string_equal(ec_duration_text(arena, 0), "0ms");
    assert_string_equal(ec_duration_text(arena, 420), "420ms");
    assert_string_equal(ec_duration_text(arena, 3290), "3.2s");
    assert_string_equal(ec_duration_text(arena, 245000), "4m05s");
    assert_string_equal(ec_duration_text(arena, 7380000), "2h03m");
    assert_string_equal(ec_duration_text(arena, -5), "0ms");
}

static void backoff_stays_below_its_ceiling(void **state)
{
    (void)state;
    uint32_t largest = 0;
    for (int round = 0; round < 200; round++) {
        struct ec_backoff backoff = {.first_ms = 100, .cap_ms = 1000};
        static const uint32_t ceilings[] = {100, 200, 400, 800, 1000, 1000};
        for (size_t i = 0; i < EC_LEN(ceilings); i++) {
            uint32_t ms = ec_backoff_next_ms(&backoff);
            assert_in_range(ms, 0, ceilings[i]);
            largest = ms > largest ? ms : largest;
        }
        ec_backoff_reset(&backoff);
        assert_in_range(ec_backoff_next_ms(&backoff), 0, 100);
    }
    assert_true(largest > 800);
    struct ec_backoff old = {.first_ms = 100, .cap_ms = 1000, .attempt = UINT32_MAX};
    assert_in_range(ec_backoff_next_ms(&old), 0, 1000);
    assert_int_equal(old.attempt, UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc3339_examples),     cmocka_unit_test(rfc3339_refuses),
        cmocka_unit_test(rfc3339_round_trips),  cmocka_unit_test(clocks_move),
        cmocka_unit_test(durations_for_people), cmocka_unit_test(backoff_stays_below_its_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
