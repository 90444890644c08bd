/* Which of the folders that builds leave are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "decide_cache.h"

static bool is_gone(const struct kept *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) == 0) {
            return list[i].gone;
        }
    }
    fail_msg("%s is lost", name);
    return false;
}

static void test_the_least_recently_used_goes_first(void **state)
{
    (void)state;
    struct kept list[] = {{"b", 10, 200, false, false},
                          {"c", 10, 300, false, false},
                          {"unknown", 10, 0, false, false},
                          {"a", 10, 100, false, false}};
    assert_int_equal(decide_evictions(list, 4, 20), 20);
    assert_true(is_gone(list, 4, "unknown"));
    assert_true(is_gone(list, 4, "a"));
    assert_false(is_gone(list, 4, "b"));
    assert_false(is_gone(list, 4, "c"));
}

static void test_what_fits_stays(void **state)
{
    (void)state;
    struct kept list[] = {{"a", 10, 1, false, true}, {"b", 10, 2, false, false}};
    assert_int_equal(decide_evictions(list, 2, 20), 20);
    assert_false(is_gone(list, 2, "a"));
    assert_int_equal(decide_evictions(list, 0, 0), 0);
}

static void test_what_has_a_job_stays(void **state)
{
    (void)state;
    struct kept list[] = {
        {"a", 50, 1, true, false}, {"b", 10, 2, false, false}, {"c", 10, 3, true, false}};
    assert_int_equal(decide_evictions(list, 3, 5), 60);
    assert_false(is_gone(list, 3, "a"));
    assert_true(is_gone(list, 3, "b"));
    assert_false(is_gone(list, 3, "c"));
}

static void test_images(void **state)
{
    (void)state;
    assert_int_equal(decide_prune(50, 1, 100), PRUNE_NOTHING);
    assert_int_equal(decide_prune(51, 1, 100), PRUNE_UNTAGGED);
    assert_int_equal(decide_prune(1, 64, 100), PRUNE_NOTHING);
    assert_int_equal(decide_prune(1, 65, 100), PRUNE_UNTAGGED);
    assert_int_equal(decide_prune(101, 1, 100), PRUNE_ALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_least_recently_used_goes_first),
        cmocka_unit_test(test_what_fits_stays),
        cmocka_unit_test(test_what_has_a_job_stays),
        cmocka_unit_test(test_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
