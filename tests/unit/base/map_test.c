/* Maps against a plain array that does the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/map.h"
#include "base/mem.h"

#define KEYS 200

static void agrees_with_a_plain_array(void **state)
{
    (void)state;
    struct ec_map *map = ec_map_new(KEYS);
    int values[KEYS];
    bool in[KEYS] = {false};
    unsigned random = 1;
    for (int round = 0; round < 20000; round++) {
        random = random * 1103515245 + 12345;
        unsigned k = (random >> 8) % KEYS;
        char key[32];
        snprintf(key, sizeof(key), "key-%u-%s", k, k % 2 ? "longer than eight" : "");
        assert_ptr_equal(ec_map_get(map, key), in[k] ? &values[k] : NULL);
        if ((random >> 20) % 3 == 0) {
            assert_ptr_equal(ec_map_remove(map, key), in[k] ? &values[k] : NULL);
            in[k] = false;
        } else {
            assert_true(ec_map_put(map, key, &values[k]));
            in[k] = true;
        }
    }
    size_t count = 0;
    for (int k = 0; k < KEYS; k++) {
        count += in[k] ? 1 : 0;
    }
    assert_int_equal(ec_map_count(map), count);
    size_t walked = 0;
    void *value = NULL;
    for (size_t at = 0; ec_map_next(map, &at, NULL, &value); walked++) {
        assert_true(in[(int *)value - values]);
    }
    assert_int_equal(walked, count);
    ec_map_free(map, NULL);
}

static void is_full_at_its_maximum(void **state)
{
    (void)state;
    struct ec_map *map = ec_map_new(2);
    int value = 0, other = 0;
    assert_true(ec_map_put(map, "a", &value));
    assert_true(ec_map_put(map, "", &value));
    assert_false(ec_map_put(map, "b", &value));
    assert_null(ec_map_get(map, "b"));
    assert_true(ec_map_put(map, "a", &other)); /* replacing needs no room */
    assert_ptr_equal(ec_map_get(map, "a"), &other);
    assert_ptr_equal(ec_map_remove(map, ""), &value);
    assert_null(ec_map_remove(map, ""));
    assert_true(ec_map_put(map, "b", &value));
    assert_int_equal(ec_map_count(map), 2);
    ec_map_free(map, NULL);
}

static void a_walk_may_remove_what_it_sees(void **state)
{
    (void)state;
    struct ec_map *map = ec_map_new(100);
    for (int i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%d", i);
        ec_map_put(map, key, ec_strdup(key));
    }
    const char *key = NULL;
    void *value = NULL;
    int seen = 0;
    for (size_t at = 0; ec_map_next(map, &at, &key, &value); seen++) {
        assert_string_equal(key, value);
        if (seen % 2 == 0) {
            free(ec_map_remove(map, key));
        }
    }
    assert_int_equal(seen, 100);
    assert_int_equal(ec_map_count(map), 50);
    ec_map_free(map, free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_plain_array),
        cmocka_unit_test(is_full_at_its_maximum),
        cmocka_unit_test(a_walk_may_remove_what_it_sees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
