/* The command line: which words mean which command, and what is said about wrong ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cli.h"

static int nothing(struct cli *cli)
{
    (void)cli;
    return EXIT_OK;
}

/* In place of main.c's. */
const struct command commands[] = {
    {"service create", "", "file|f=", "make", nothing, false},
    {"service list", "", "", "list", nothing, false},
    {"deploy", "[SERVICE]", "commit|c= wait|w", "deploy", nothing, false},
    {"local repo", "NAME", "", "repo", nothing, true},
    {"logs", "", "follow|f lines|n#", "logs", nothing, false},
    {NULL, NULL, NULL, NULL, NULL, false},
};

static bool parse(struct cli *cli, const char *const *words, size_t count)
{
    char *argv[16] = {(char *)(uintptr_t) "enclii"};
    for (size_t i = 0; i < count; i++) {
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    *cli = (struct cli){.arena = ec_arena_new(1 << 20)};
    return args_parse(cli, (int)count + 1, argv);
}
#define PARSE(cli, ...)                                                                            \
    parse(cli, (const char *const[]){__VA_ARGS__},                                                 \
          sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

static void test_two_words(void **state)
{
    (void)state;
    struct cli cli;
    assert_true(PARSE(&cli, "service", "create", "-f", "x.yaml", "--output", "json"));
    assert_string_equal(cli.command->words, "service create");
    assert_string_equal(option(&cli, "file"), "x.yaml");
    assert_string_equal(option(&cli, "output"), "json");
    assert_null(option(&cli, "project"));
    ec_arena_free(cli.arena);
}

static void test_any_order(void **state)
{
    (void)state;
    struct cli cli;
    assert_true(PARSE(&cli, "deploy", "--commit=abc", "shop", "-w"));
    assert_int_equal(cli.arg_count, 1);
    assert_string_equal(cli.args[0], "shop");
    assert_string_equal(option(&cli, "commit"), "abc");
    assert_string_equal(option(&cli, "wait"), "");
    ec_arena_free(cli.arena);
}

static void test_last_option_wins(void **state)
{
    (void)state;
    struct cli cli;
    assert_true(PARSE(&cli, "deploy", "-c", "a", "-c", "b"));
    assert_string_equal(option(&cli, "commit"), "b");
    ec_arena_free(cli.arena);
}

static void test_refused(void **state)
{
    (void)state;
    struct cli cli;
    assert_false(PARSE(&cli, "deploj")); /* no such command */
    ec_arena_free(cli.arena);
    assert_false(PARSE(&cli, "service")); /* half a command */
    ec_arena_free(cli.arena);
    assert_false(PARSE(&cli, "deploy", "--force")); /* no such option */
    ec_arena_free(cli.arena);
    assert_false(PARSE(&cli, "deploy", "--commit")); /* a value is missing */
    ec_arena_free(cli.arena);
    assert_false(PARSE(&cli, "deploy", "--wait=yes")); /* a flag takes none */
    ec_arena_free(cli.arena);
    assert_false(PARSE(&cli, "deploy", "a", "b")); /* one word too many */
    ec_arena_free(cli.arena);
    assert_false(PARSE(&cli, "local", "repo")); /* NAME is missing */
    ec_arena_free(cli.arena);
    assert_true(PARSE(&cli, "local", "repo", "--help")); /* help needs nothing */
    ec_arena_free(cli.arena);
}

static void test_options_of_all_commands_stand_before_it_too(void **state)
{
    (void)state;
    struct cli cli;
    assert_true(PARSE(&cli, "-p", "demo", "--output=json", "service", "list"));
    assert_string_equal(cli.command->words, "service list");
    assert_string_equal(option(&cli, "project"), "demo");
    assert_string_equal(option(&cli, "output"), "json");
    ec_arena_free(cli.arena);
    assert_false(PARSE(&cli, "--commit", "abc", "deploy")); /* one of this command */
    ec_arena_free(cli.arena);
    assert_false(PARSE(&cli, "-p", "demo"));
    ec_arena_free(cli.arena);
}

static void test_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"abc", "", "0", "00", "-1", "5x", "1.5", "1234567890"};
    struct cli cli;
    assert_true(PARSE(&cli, "logs", "-f", "-n", "50"));
    assert_string_equal(option(&cli, "lines"), "50");
    ec_arena_free(cli.arena);
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_false(PARSE(&cli, "logs", "--lines", bad[i]));
        ec_arena_free(cli.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_words),
        cmocka_unit_test(test_options_of_all_commands_stand_before_it_too),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_last_option_wins),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
