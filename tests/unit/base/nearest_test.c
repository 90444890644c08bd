/* Nearest names: what a typo meant, and silence when nothing is near. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/nearest.h"

static void typos_find_their_word(void **state)
{
    (void)state;
    static const char *const known[] = {"port", "replicas", "healthCheck", "command", "env"};
    static const char *const typos[][2] = {
        {"prot", "port"},        {"Port", "port"},
        {"replica", "replicas"}, {"healthcheck", "healthCheck"},
        {"comand", "command"},   {"enV", "env"},
        {"xyz", NULL},           {"", NULL},
        {"somethingElse", NULL},
    };
    for (size_t i = 0; i < EC_LEN(typos); i++) {
        const char *found = ec_nearest(ec_span_of(typos[i][0]), known, EC_LEN(known));
        if (typos[i][1] == NULL) {
            assert_null(found);
        } else {
            assert_non_null(found);
            assert_string_equal(found, typos[i][1]);
        }
    }
    assert_null(ec_nearest(EC_SPAN("port"), known, 0));
}

static void long_words_are_safe(void **state)
{
    (void)state;
    char word[1000];
    memset(word, 'a', sizeof(word));
    static const char *const known[] = {
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "b"};
    assert_ptr_equal(ec_nearest((struct ec_span){word, sizeof(word)}, known, 2), known[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(typos_find_their_word),
        cmocka_unit_test(long_words_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
