/* Names of refs, against git-check-ref-format(1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/git_ref.h"
#include "base/mem.h"

static void names_that_git_takes(void **state)
{
    (void)state;
    static const char *const good[] = {"refs/heads/main", "main",    "refs/heads/fix/#42",
                                       "refs/tags/v1.0",  "a.b/c-d", "refs/heads/ünï-cödé",
                                       "refs/heads/a@b",  "a/@/b",   "refs/heads/{x}",
                                       "refs/heads/+x",   "x.locked"};
    for (size_t i = 0; i < EC_LEN(good); i++) {
        if (!ec_git_ref_valid(ec_span_of(good[i]))) {
            fail_msg("refused: %s", good[i]);
        }
    }
}

static void names_that_git_or_a_terminal_does_not(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "@",
                                      "/a",
                                      "a/",
                                      "a//b",
                                      "a/.b",
                                      ".a",
                                      "a.",
                                      "a..b",
                                      "a.lock",
                                      "a.lock/b",
                                      "a@{1}",
                                      "a b",
                                      "a~1",
                                      "a^",
                                      "a:b",
                                      "a?",
                                      "a*",
                                      "a[",
                                      "a\\b",
                                      "-a",
                                      "a\tb",
                                      "a\nb",
                                      "a\x7f",
                                      "a\xff",
                                      "a\xc2\x9b"
                                      "31m"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        if (ec_git_ref_valid(ec_span_of(bad[i]))) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    char lengthy[EC_GIT_REF_MAX_BYTES + 1];
    memset(lengthy, 'a', sizeof(lengthy));
    assert_true(ec_git_ref_valid((struct ec_span){lengthy, EC_GIT_REF_MAX_BYTES}));
    assert_false(ec_git_ref_valid((struct ec_span){lengthy, EC_GIT_REF_MAX_BYTES + 1}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_that_git_takes),
                                       cmocka_unit_test(names_that_git_or_a_terminal_does_not)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
