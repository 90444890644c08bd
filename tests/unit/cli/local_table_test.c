/* The component table of the local platform: every need exists, nothing waits for itself, every
 * placeholder is known, and ports move together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cli.h"
#include "local.h"

const struct command commands[] = {{NULL, NULL, NULL, NULL, NULL, false}};

static struct local opened(void)
{
    struct local local;
    setenv("ENCLII_HOME", "/tmp/no such home", 1);
    setenv("ENCLII_CACHE", "/tmp/no-cache", 1);
    assert_false(ec_failed(local_open(&local, ec_arena_new(8 << 20))));
    return local;
}

static size_t place_of(const char *name)
{
    for (size_t i = 0; i < local_component_count; i++) {
        if (strcmp(local_components[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("no component %s", name);
    return 0;
}

/* "down --purge" compares it with what the kernel lists as mounted. */
static void test_home_has_no_slash_at_its_end(void **state)
{
    (void)state;
    struct local local = opened();
    setenv("ENCLII_HOME", "/tmp/home//", 1);
    assert_false(ec_failed(local_open(&local, local.arena)));
    assert_string_equal(local.home, "/tmp/home");
    ec_arena_free(local.arena);
}

/* It comes before any file is written, and says which folder. */
static void test_a_name_that_cannot_be_quoted_is_refused(void **state)
{
    (void)state;
    struct local local = opened();
    struct ec_err err = local_check_machine(&local);
    assert_non_null(strstr(err.what, "is \"/tmp/no such home\""));
    local.home = "/var/lib/en-clii_2.0+x";
    err = local_check_machine(&local);
    assert_true(!ec_failed(err) || !strstr(err.what, "the folder's name"));
    ec_arena_free(local.arena);
}

/* Needs stand before: so there is no circle, and the display reads in order. */
static void test_needs_stand_before(void **state)
{
    (void)state;
    for (size_t i = 0; i < local_component_count; i++) {
        char list[256];
        snprintf(list, sizeof list, "%s", local_components[i].after);
        for (char *name = strtok(list, " "); name; name = strtok(NULL, " ")) {
            assert_in_range(place_of(name), 0, i - 1);
        }
    }
}

static void test_every_placeholder_is_known(void **state)
{
    (void)state;
    struct local local = opened();
    for (size_t i = 0; i < local_component_count; i++) {
        const struct component *component = &local_components[i];
        const char *const *argv = local_argv(&local, component);
        assert_non_null(argv[0]);
        for (size_t w = 0; argv[w] && !component->script; w++) {
            assert_null(strchr(argv[w], '{'));
        }
        const char *const *env = local_env(&local, component);
        for (size_t e = 0; env[e]; e++) {
            assert_non_null(strchr(env[e], '='));
            assert_null(strncmp(env[e], "ENCLII_", 7) == 0 ? strchr(env[e], '{') : NULL);
        }
        if (component->probe) {
            assert_null(strchr(local_expand(&local, component, component->probe), '{'));
        }
    }
    ec_arena_free(local.arena);
}

/* A folder with a space is one word: words are split before they are filled in. */
static void test_spaces_in_home(void **state)
{
    (void)state;
    struct local local = opened();
    const char *const *words =
        local_words(&local, &local_components[0], "program {home}/a  b{unknown}");
    assert_string_equal(words[1], "/tmp/no such home/a");
    assert_string_equal(words[2], "b{unknown}");
    assert_null(words[3]);
    ec_arena_free(local.arena);
}

static void test_every_process_is_marked(void **state)
{
    (void)state;
    struct local local = opened();
    for (size_t i = 0; i < local_component_count; i++) {
        const char *const *env = local_env(&local, &local_components[i]);
        size_t marks = 0;
        for (size_t e = 0; env[e]; e++) {
            marks += strcmp(env[e], LOCAL_MARK "=/tmp/no such home") == 0;
        }
        assert_int_equal(marks, 1);
    }
    ec_arena_free(local.arena);
}

static void test_ports(void **state)
{
    (void)state;
    struct local local;
    setenv("ENCLII_LOCAL_PORT_BASE", "35000", 1);
    setenv("ENCLII_LOCAL_GIT_PORT", "3999", 1);
    local = opened();
    assert_int_equal(local.ports[PORT_API], 35000);
    assert_int_equal(local.ports[PORT_KAFKA], 35007);
    assert_int_equal(local.ports[PORT_GIT], 3999);
    ec_arena_free(local.arena);
    setenv("ENCLII_LOCAL_GIT_PORT", "3999x", 1);
    struct ec_arena *arena = ec_arena_new(1 << 20);
    assert_true(ec_failed(local_open(&local, arena)));
    ec_arena_free(arena);
    unsetenv("ENCLII_LOCAL_GIT_PORT");
    unsetenv("ENCLII_LOCAL_PORT_BASE");
}

static void test_ports_do_not_meet(void **state)
{
    (void)state;
    struct local local = opened();
    for (int i = 0; i < PORT_COUNT; i++) {
        for (int j = i + 1; j < PORT_COUNT; j++) {
            assert_int_not_equal(local_ports[i].fallback, local_ports[j].fallback);
            assert_int_not_equal(local_ports[i].shift, local_ports[j].shift);
        }
    }
    ec_arena_free(local.arena);
}

static void test_router_config(void **state)
{
    (void)state;
    struct local local = opened();
    const char *text = local_router_config(&local);
    assert_non_null(strstr(text, "\nbackend be_000\n"));
    assert_non_null(strstr(text, "\nbackend be_199\n"));
    assert_non_null(strstr(text, "bind 127.0.0.1:8080\n"));
    assert_null(strchr(text, '@'));
    assert_null(strchr(text, '#'));
    ec_arena_free(local.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_home_has_no_slash_at_its_end),
        cmocka_unit_test(test_a_name_that_cannot_be_quoted_is_refused),
        cmocka_unit_test(test_needs_stand_before),
        cmocka_unit_test(test_every_placeholder_is_known),
        cmocka_unit_test(test_spaces_in_home),
        cmocka_unit_test(test_every_process_is_marked),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_ports_do_not_meet),
        cmocka_unit_test(test_router_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
