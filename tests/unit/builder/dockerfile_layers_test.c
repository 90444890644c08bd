/* What the layer cache is told of a Dockerfile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "dockerfile.h"

#define MARK "LABEL dev.enclii.cache=m\n"

static struct ec_arena *arena;

static int set_up(void **state)
{
    (void)state;
    arena = ec_arena_new(1 << 22);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ec_arena_free(arena);
    return 0;
}

static void becomes(const char *text, const char *wanted)
{
    assert_string_equal(dockerfile_marked(arena, ec_span_of(text), "m"), wanted);
}

static void test_each_from_is_marked(void **state)
{
    (void)state;
    becomes("FROM a\nRUN x\n", "FROM a\n" MARK "RUN x\n");
    becomes("FROM a", "FROM a\n" MARK);
    becomes("# syntax=x\nARG V=1\n\n  from a AS b\nRUN x\nFROM b\nCOPY --from=b x x",
            "# syntax=x\nARG V=1\n\n  from a AS b\n" MARK "RUN x\nFROM b\n" MARK
            "COPY --from=b x x");
    becomes("FROM a\r\nRUN x\r\n", "FROM a\r\n" MARK "RUN x\r\n");
    /* An instruction ends where its last line ends. */
    becomes("FROM a \\\n  # why\n\n  AS b\nRUN x", "FROM a \\\n  # why\n\n  AS b\n" MARK "RUN x");
    becomes("FROM a \\  \nAS b\nRUN x", "FROM a \\  \nAS b\n" MARK "RUN x");
    becomes("# escape=`\nFROM a `\n AS b\nRUN x", "# escape=`\nFROM a `\n AS b\n" MARK "RUN x");
}

static void test_what_is_no_from_is_left_alone(void **state)
{
    (void)state;
    becomes("RUN echo \\\nFROM a\n", "RUN echo \\\nFROM a\n");
    becomes("# FROM a\nFROMAGE b\n", "# FROM a\nFROMAGE b\n");
    becomes("", "");
}

static bool mounts(const char *text)
{
    return dockerfile_mounts(ec_span_of(text));
}

static void test_mounts_whose_content_the_cache_does_not_see(void **state)
{
    (void)state;
    assert_true(mounts("RUN --mount=type=bind,target=/src make"));
    assert_true(mounts("run --mount=target=/src make"));
    assert_true(
        mounts("RUN --mount=type=cache,target=/c \\\n  --mount=type=bind,target=/src make"));
    assert_true(mounts("RUN --mount=type=cache,from=base,target=/c make"));
    assert_true(mounts("RUN --mount=type=$KIND,target=/c make"));
    assert_true(mounts("RUN --mount=type=cache,type=bind,target=/c make"));
    assert_true(mounts("RUN --mount type=bind,target=/src make"));
    assert_false(mounts("RUN --mount=type=cache,target=/root/.npm npm ci"));
    assert_false(mounts("RUN --mount=target=/root/.npm,type=cache npm ci"));
    assert_false(mounts("RUN --mount=type=secret,id=x --mount=type=tmpfs,target=/t make"));
    assert_false(mounts("# RUN --mount=type=bind,target=/src make\nCOPY . .\nRUN make"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_from_is_marked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_from_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mounts_whose_content_the_cache_does_not_see, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
