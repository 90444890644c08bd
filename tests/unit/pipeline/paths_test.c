/* Watched paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "decide.h"

static bool one(const char *pattern, const char *path)
{
    char *patterns[] = {ec_strdup(pattern)};
    bool is = paths_match(patterns, 1, path);
    free(patterns[0]);
    return is;
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *path;
        bool is;
    } rows[] = {
        {"src/", "src/main.c", true},
        {"src/", "lib/src/main.c", true},
        {"/src/", "lib/src/main.c", false},
        {"src", "src", true},
        {"src", "srcs/main.c", false},
        {"*.md", "docs/a.md", true},
        {"*.md", "docs/a.mdx", false},
        {"docs/*.md", "docs/a.md", true},
        {"docs/*.md", "docs/b/a.md", false},
        {"docs/**/a.md", "docs/a.md", true},
        {"docs/**/a.md", "docs/b/c/a.md", true},
        {"**/a.c", "x/y/a.c", true},
        {"a/**", "a/b/c", true},
        {"a/**", "b/a/c", false},
        {"?.c", "a.c", true},
        {"?.c", "ab.c", false},
        {"services/api/", "services/api/main.c", true},
        {"services/api/", "services/apis/main.c", false},
        {"", "a", false},
        {"/", "a", true},
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        if (one(rows[i].pattern, rows[i].path) != rows[i].is) {
            fail_msg("%s on %s is not %d", rows[i].pattern, rows[i].path, rows[i].is);
        }
    }
}

static void test_the_last_match_decides(void **state)
{
    (void)state;
    char *patterns[] = {ec_strdup("src/"), ec_strdup("!src/docs/"), ec_strdup("src/docs/api.md")};
    assert_true(paths_match(patterns, 3, "src/a.c"));
    assert_false(paths_match(patterns, 3, "src/docs/a.md"));
    assert_true(paths_match(patterns, 3, "src/docs/api.md"));
    assert_false(paths_match(patterns, 3, "README"));
    assert_true(paths_match(&patterns[1], 1, "README")); /* only exclusions: all but these */
    assert_false(paths_match(&patterns[1], 1, "src/docs/x"));
    for (size_t i = 0; i < 3; i++) {
        free(patterns[i]);
    }
}

/* What cannot be told within the work a pattern may cost is built rather than missed. */
static void test_hostile_pattern_ends(void **state)
{
    (void)state;
    char text[2000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    assert_true(one("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
    assert_true(
        one("**/**/**/**/**/**/**/**/**/b", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a"));
    assert_false(one("**/**/**/**/**/**/**/**/**/b", text));
    assert_true(one(text, text)); /* longer than any pattern may be */
    char *patterns[] = {ec_strdup("src/"), ec_strdup("!*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b")};
    assert_false(paths_match(patterns, 2, text));
    text[3] = '/';
    memcpy(text, "src", 3);
    assert_true(paths_match(patterns, 2, text)); /* nor does an exclusion hold by doubt */
    free(patterns[0]);
    free(patterns[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_the_last_match_decides),
        cmocka_unit_test(test_hostile_pattern_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
