/* Amounts: what is read, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/amount.h"
#include "base/mem.h"

struct row {
    const char *text;
    int64_t want; /* -1 = refused */
};

static void check(bool (*parse)(const char *, int64_t *), const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t got = -1;
        bool fine = parse(rows[i].text, &got);
        if (fine != (rows[i].want >= 0) || (fine && got != rows[i].want)) {
            fail_msg("\"%s\": %lld", rows[i].text, (long long)got);
        }
    }
}

static void durations(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"90", 90000},     {"250ms", 250}, {"1h30m", 5400000}, {"0.5s", 500},
        {"7d", 604800000}, {"", -1},       {"-5s", -1},        {"5 s", -1},
        {"s", -1},         {"1e3s", -1},   {"999999999d", -1}, {"0x10", -1},
        {"5sx", -1},       {"0m30", -1},   {"1m30", -1},       {"0", 0},
    };
    check(ec_amount_duration_ms, rows, EC_LEN(rows));
}

static void sizes(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"512Mi", 512LL << 20},
        {"64KiB", 65536},
        {"1G", 1000000000},
        {"1000", 1000},
        {"7B", 7},
        {"64KB", -1},
        {"Mi", -1},
        {"1.5Gi", 3LL << 29},
        {"-1", -1},
        {"1Mi ", -1},
    };
    check(ec_amount_bytes, rows, EC_LEN(rows));
}

static void cpus(void **state)
{
    (void)state;
    static const struct row rows[] = {{"500m", 500}, {"0.5", 500}, {"2", 2000}, {"2u", -1}};
    check(ec_amount_cpu_milli, rows, EC_LEN(rows));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
        cmocka_unit_test(cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
