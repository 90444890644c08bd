/* Log lines are read back as JSON: whatever the values, one valid object per line. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

static char captured[64 * 1024];

static int catch_stderr(int ends[2])
{
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    int saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    return saved;
}

static const char *release_stderr(int ends[2], int saved)
{
    dup2(saved, STDERR_FILENO);
    ssize_t len = read(ends[0], captured, sizeof(captured) - 1);
    captured[len > 0 ? len : 0] = '\0';
    close(ends[0]);
    close(ends[1]);
    close(saved);
    return captured;
}

static json_t *parse_line(const char *text)
{
    size_t len = strlen(text);
    assert_true(len > 0 && len <= EC_LOG_LINE_MAX_BYTES);
    assert_ptr_equal(strchr(text, '\n'), text + len - 1);
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    return root;
}

#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static void a_line_has_its_fields(void **state)
{
    (void)state;
    ec_log_setup("tester", EC_LOG_INFO);
    int ends[2], saved = catch_stderr(ends);
    ec_log(EC_LOG_WARN, PARENT, "thing.happened", "a thing", EC_T("who", "me\n\"you\""),
           EC_N("count", -5), EC_T("none", NULL));
    ec_cleanup(ec_json_freep) json_t *line = parse_line(release_stderr(ends, saved));
    assert_string_equal(ec_json_text(line, "level"), "warn");
    assert_string_equal(ec_json_text(line, "service"), "tester");
    assert_string_equal(ec_json_text(line, "event"), "thing.happened");
    assert_string_equal(ec_json_text(line, "message"), "a thing");
    assert_string_equal(ec_json_text(line, "trace"), "0af7651916cd43dd8448eb211c80319c");
    assert_string_equal(ec_json_text(line, "who"), "me\n\"you\"");
    assert_int_equal(ec_json_int(line, "count", 0), -5);
    assert_true(json_is_null(ec_json_at(line, "none")));
    assert_int_equal(strlen(ec_json_text(line, "time")), 24);
    assert_null(ec_json_at(line, "cut"));
}

static void lower_levels_are_dropped(void **state)
{
    (void)state;
    ec_log_setup("tester", EC_LOG_WARN);
    int ends[2], saved = catch_stderr(ends);
    ec_log(EC_LOG_INFO, NULL, "thing.happened", "a thing");
    assert_string_equal(release_stderr(ends, saved), "");
    enum ec_log_level level = EC_LOG_INFO;
    assert_true(ec_log_level_parse("debug", &level));
    assert_int_equal(level, EC_LOG_DEBUG);
    assert_false(ec_log_level_parse("loud", &level));
    assert_int_equal(level, EC_LOG_DEBUG);
}

static void long_lines_are_cut_and_stay_json(void **state)
{
    (void)state;
    ec_log_setup("tester", EC_LOG_INFO);
    static const char fills[] = {'a', '\x01', '"', '\xff'};
    for (size_t f = 0; f < sizeof(fills); f++) {
        for (size_t len = EC_LOG_LINE_MAX_BYTES - 300; len < EC_LOG_LINE_MAX_BYTES + 10; len += 7) {
            ec_cleanup(ec_freep) char *value = ec_alloc(len + 1);
            memset(value, fills[f], len);
            int ends[2], saved = catch_stderr(ends);
            ec_log(EC_LOG_INFO, NULL, "thing.happened", "a thing", EC_T("value", value),
                   EC_N("after", 1));
            ec_cleanup(ec_json_freep) json_t *line = parse_line(release_stderr(ends, saved));
            assert_string_equal(ec_json_text(line, "event"), "thing.happened");
            assert_true(ec_json_bool(line, "cut", false) != (ec_json_int(line, "after", 0) == 1));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_its_fields),
        cmocka_unit_test(lower_levels_are_dropped),
        cmocka_unit_test(long_lines_are_cut_and_stay_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
