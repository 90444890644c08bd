/* services/domain/decide_renewal.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "decide_renewal.h"

#define DAY_MS 86400000LL

static void test_renewal_is_between_two_thirds_and_the_end(void **state)
{
    (void)state;
    const char *names[] = {"a.test", "b.test", "shop.apps.localhost", "x"};
    for (int i = 0; i < 4; i++) {
        int64_t at = decide_renew_at(names[i], 0, 90 * DAY_MS);
        assert_true(at >= 60 * DAY_MS);
        assert_true(at <= 65 * DAY_MS);
        assert_int_equal(at, decide_renew_at(names[i], 0, 90 * DAY_MS));
    }
}

static void test_hosts_do_not_renew_all_at_once(void **state)
{
    (void)state;
    assert_true(decide_renew_at("a.test", 0, 90 * DAY_MS) !=
                decide_renew_at("b.test", 0, 90 * DAY_MS));
}

static void test_an_expired_or_odd_certificate_is_renewed_now(void **state)
{
    (void)state;
    assert_int_equal(decide_renew_at("a.test", 5000, 5000), 5000);
    assert_int_equal(decide_renew_at("a.test", 5000, 1000), 5000);
}

static void test_a_certificate_that_became_due_is_looked_at_soon(void **state)
{
    (void)state;
    assert_int_equal(decide_next_look_ms(1000000, 9000000, 600000), 600000);
    assert_int_equal(decide_next_look_ms(1000000, 1300000, 600000), 300000);
    assert_int_equal(decide_next_look_ms(1000000, 1000000, 600000), 1000);
    assert_int_equal(decide_next_look_ms(1000004, 1000000, 600000), 1000); /* not never */
}

static void test_tries_back_off_to_an_hour(void **state)
{
    (void)state;
    assert_int_equal(decide_next_try_ms(1), 5000);
    assert_int_equal(decide_next_try_ms(2), 10000);
    assert_int_equal(decide_next_try_ms(100), 3600000);
    assert_int_equal(decide_next_try_ms(4000000000u), 3600000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_renewal_is_between_two_thirds_and_the_end),
        cmocka_unit_test(test_hosts_do_not_renew_all_at_once),
        cmocka_unit_test(test_an_expired_or_odd_certificate_is_renewed_now),
        cmocka_unit_test(test_a_certificate_that_became_due_is_looked_at_soon),
        cmocka_unit_test(test_tries_back_off_to_an_hour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
