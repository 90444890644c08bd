/* Settings: forms, files, and every fault at once with names and examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/secret.h"
#include "base/settings.h"

struct values {
    const char *text;
    int64_t number, timeout_ms, size_bytes;
    bool flag;
    struct ec_secret *secret;
    const char *url, *path;
};

#define AT(field) offsetof(struct values, field)
static const struct ec_setting table[] = {
    {"ENCLII_TEXT", EC_SETTING_TEXT, AT(text), "dflt", "A text.", "abc", 0, 0},
    {"ENCLII_NUMBER", EC_SETTING_INT, AT(number), "5", "A number.", "7", 1, 10},
    {"ENCLII_TIMEOUT", EC_SETTING_DURATION_MS, AT(timeout_ms), "30m", "A time.", "10s", 0, 0},
    {"ENCLII_SIZE", EC_SETTING_BYTES, AT(size_bytes), "64KiB", "A size.", "2GiB", 0, 0},
    {"ENCLII_FLAG", EC_SETTING_BOOL, AT(flag), "false", "A flag.", "true", 0, 0},
    {"ENCLII_KEY", EC_SETTING_SECRET, AT(secret), "", "A key.", NULL, 0, 0},
    {"ENCLII_URL", EC_SETTING_URL, AT(url), "", "A URL.", "http://x:1/", 0, 0},
    {"ENCLII_KEY_PATH", EC_SETTING_PATH, AT(path), "", "A path.", "/a/b", 0, 0},
    {0},
};
static const struct ec_setting more_table[] = {
    {"ENCLII_NEEDED", EC_SETTING_TEXT, 0, NULL, "Where it is", "here", 0, 0},
    {0},
};
static struct ec_arena *arena;
static struct values values;
static const char *needed;
static char file_path[64];

static int set_up(void **state)
{
    (void)state;
    arena = ec_arena_new(1 << 20);
    for (const struct ec_setting *row = table; row->name != NULL; row++) {
        ec_cleanup(ec_freep) char *file = ec_format("%s_FILE", row->name);
        unsetenv(row->name);
        unsetenv(file);
    }
    unsetenv("ENCLII_TIMOUT");
    setenv("ENCLII_NEEDED", "x", 1);
    strcpy(file_path, "/tmp/settings-test-XXXXXX");
    int fd = mkstemp(file_path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    ec_secret_freep(&values.secret);
    ec_arena_freep(&arena);
    return unlink(file_path);
}

static struct ec_err read_all(void)
{
    ec_secret_freep(&values.secret);
    const struct ec_setting *const tables[] = {table, more_table, NULL};
    void *const structs[] = {&values, &needed};
    return ec_settings_read(tables, structs, arena);
}

static void write_file(const char *content)
{
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static void defaults_hold(void **state)
{
    (void)state;
    setenv("ENCLII_NUMBER", "", 1); /* empty is not set */
    assert_false(ec_failed(read_all()));
    assert_string_equal(values.text, "dflt");
    assert_int_equal(values.number, 5);
    assert_int_equal(values.timeout_ms, 1800000);
    assert_int_equal(values.size_bytes, 65536);
    assert_false(values.flag);
    assert_null(values.secret);
    assert_string_equal(values.url, "");
    assert_string_equal(values.path, "");
    assert_string_equal(needed, "x");
}

static void values_are_read(void **state)
{
    (void)state;
    setenv("ENCLII_NUMBER", "10", 1);
    setenv("ENCLII_TIMEOUT", "250ms", 1);
    setenv("ENCLII_SIZE", "3", 1);
    setenv("ENCLII_FLAG", "true", 1);
    setenv("ENCLII_KEY", "hush", 1);
    setenv("ENCLII_URL", "file:///var/lib", 1);
    setenv("ENCLII_KEY_PATH", "/k", 1);
    assert_false(ec_failed(read_all()));
    assert_int_equal(values.number, 10);
    assert_int_equal(values.timeout_ms, 250);
    assert_int_equal(values.size_bytes, 3);
    assert_true(values.flag);
    assert_true(ec_span_is(ec_secret_use(values.secret), "hush"));
    assert_string_equal(values.url, "file:///var/lib");
    setenv("ENCLII_TIMEOUT", "7", 1);
    assert_false(ec_failed(read_all()));
    assert_int_equal(values.timeout_ms, 7000);
}

static void files_hold_values(void **state)
{
    (void)state;
    write_file("from file\n");
    setenv("ENCLII_KEY_FILE", file_path, 1);
    setenv("ENCLII_TEXT_FILE", file_path, 1);
    assert_false(ec_failed(read_all()));
    assert_true(ec_span_is(ec_secret_use(values.secret), "from file"));
    assert_string_equal(values.text, "from file");
    setenv("ENCLII_KEY", "also", 1);
    struct ec_err err = read_all();
    assert_int_equal(err.fate, EC_FATE_REJECT);
    assert_string_equal(err.what, "ENCLII_KEY and ENCLII_KEY_FILE are both set: leave one");
    unsetenv("ENCLII_KEY");
    setenv("ENCLII_KEY_FILE", "/nonexistent/file", 1);
    assert_non_null(strstr(read_all().what, "ENCLII_KEY_FILE names /nonexistent/file: "));
}

/* docker/make-secrets leaves the file of a token empty that nobody has written yet. */
static void an_empty_file_is_not_set(void **state)
{
    (void)state;
    for (int newline = 0; newline < 2; newline++) {
        write_file(newline ? "\n" : "");
        setenv("ENCLII_KEY_FILE", file_path, 1);
        setenv("ENCLII_TEXT_FILE", file_path, 1);
        setenv("ENCLII_NUMBER_FILE", file_path, 1);
        assert_false(ec_failed(read_all()));
        assert_null(values.secret);
        assert_string_equal(values.text, "dflt");
        assert_int_equal(values.number, 5);
    }
    unsetenv("ENCLII_NEEDED");
    setenv("ENCLII_NEEDED_FILE", file_path, 1);
    assert_non_null(strstr(read_all().what, "ENCLII_NEEDED must be a text"));
    unsetenv("ENCLII_NEEDED_FILE");
}

static void bad_values_are_named(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"ENCLII_NUMBER", "0"},           {"ENCLII_NUMBER", "11"},
        {"ENCLII_NUMBER", "5s"},          {"ENCLII_NUMBER", " 5"},
        {"ENCLII_NUMBER", "five"},        {"ENCLII_NUMBER", "99999999999999999999"},
        {"ENCLII_TIMEOUT", "10 s"},       {"ENCLII_TIMEOUT", "s"},
        {"ENCLII_TIMEOUT", "10parsecs"},  {"ENCLII_TIMEOUT", "9223372036854775807h"},
        {"ENCLII_SIZE", "64KB"},          {"ENCLII_FLAG", "yes"},
        {"ENCLII_URL", "localhost:9092"}, {"ENCLII_URL", "http://"},
        {"ENCLII_URL", "http://a b"},     {"ENCLII_KEY_PATH", "relative/path"},
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        setenv(bad[i][0], bad[i][1], 1);
        struct ec_err err = read_all();
        assert_int_equal(err.fate, EC_FATE_REJECT);
        assert_memory_equal(err.what, bad[i][0], strlen(bad[i][0]));
        assert_non_null(strstr(err.what, bad[i][1]));
        assert_non_null(strstr(err.what, "; for example "));
        unsetenv(bad[i][0]);
    }
    setenv("ENCLII_NUMBER", "11", 1);
    assert_string_equal(read_all().what, "ENCLII_NUMBER must be a whole number from 1 to 10, is "
                                         "\"11\"; for example ENCLII_NUMBER=7");
}

static void all_faults_are_told_at_once(void **state)
{
    (void)state;
    unsetenv("ENCLII_NEEDED");
    setenv("ENCLII_FLAG", "perhaps", 1);
    setenv("ENCLII_TIMOUT", "5", 1);
    const char *what = read_all().what;
    assert_non_null(strstr(what, "ENCLII_NEEDED is missing: Where it is; it is a text, for example "
                                 "here\n"));
    assert_non_null(strstr(what, "ENCLII_FLAG must be true or false, is \"perhaps\""));
    assert_non_null(strstr(what, "ENCLII_TIMOUT is no setting of this program: did you mean "
                                 "ENCLII_TIMEOUT?"));
}

static void secrets_are_not_shown(void **state)
{
    (void)state;
    write_file("hidden value");
    setenv("ENCLII_NUMBER_FILE", file_path, 1);
    struct ec_err err = read_all();
    assert_int_equal(err.fate, EC_FATE_REJECT);
    assert_null(strstr(err.what, "hidden")); /* a file may be a secret put in the wrong place */
}

static void secret_files_are_bounded(void **state)
{
    (void)state;
    struct ec_secret *secret = NULL;
    ec_cleanup(ec_freep) char *large = ec_alloc(64 * 1024 + 2);
    memset(large, 'x', 64 * 1024);
    write_file(large);
    assert_false(ec_failed(ec_secret_read(file_path, &secret)));
    assert_int_equal(ec_secret_use(secret).len, 64 * 1024);
    ec_secret_freep(&secret);
    assert_null(secret);
    large[64 * 1024] = 'x';
    write_file(large);
    assert_true(ec_failed(ec_secret_read(file_path, &secret)));
    assert_null(secret);
    assert_true(ec_failed(ec_secret_read("/tmp", &secret)));
}

static void test_the_table_is_told_to_programs(void **state)
{
    (void)state;
    json_t *list = json_array();
    ec_settings_list(table, list);
    ec_settings_list(more_table, list);
    assert_int_equal(json_array_size(list), EC_LEN(table) - 1 + 1);
    const json_t *number = json_array_get(list, 1), *needed_row = json_array_get(list, 8);
    assert_string_equal(json_string_value(json_object_get(number, "name")), "ENCLII_NUMBER");
    assert_string_equal(json_string_value(json_object_get(number, "default")), "5");
    assert_int_equal(json_integer_value(json_object_get(number, "max")), 10);
    assert_false(json_is_true(json_object_get(number, "required")));
    assert_true(json_is_true(json_object_get(needed_row, "required")));
    assert_null(json_object_get(needed_row, "default"));
    assert_true(json_is_true(json_object_get(json_array_get(list, 5), "secret")));
    json_decref(list);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_hold),
        TEST(test_the_table_is_told_to_programs),
        TEST(values_are_read),
        TEST(files_hold_values),
        TEST(an_empty_file_is_not_set),
        TEST(bad_values_are_named),
        TEST(secrets_are_not_shown),
        TEST(all_faults_are_told_at_once),
        TEST(secret_files_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
