/* Build output: cleaning, batches, limits, masks; and the FROM lines of Dockerfiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/encode.h"
#include "base/mem.h"
#include "build_log.h"
#include "dockerfile.h"
#include "support/raw.h"

static void cleaned_as(const char *bytes, size_t len, const char *wanted)
{
    static char out[BUILD_LOG_LINE_MAX + 1];
    size_t n = clean_line((struct ec_span){bytes, len}, out);
    assert_string_equal(out, wanted);
    assert_int_equal(n, strlen(wanted));
}
#define CLEAN(bytes, wanted) cleaned_as(bytes, sizeof(bytes) - 1, wanted)

static void lines_are_cleaned(void **state)
{
    (void)state;
    CLEAN("plain\ttext", "plain\ttext");
    CLEAN("\033[1;31mred\033[0m end", "red end");
    CLEAN("\033]0;title\007after", "after");
    CLEAN("\033]8;;http://x\033\\link", "link");
    CLEAN("\033(Bx\033Mend", "xend");
    CLEAN("10%\r50%\r100%\r", "100%");
    CLEAN("null\0byte\b", "nullbyte");
    CLEAN("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    CLEAN("bad \xff\xc3", "bad \xef\xbf\xbd\xef\xbf\xbd");
    CLEAN("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* a surrogate */
    CLEAN("\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd");                 /* overlong */
    CLEAN("c1 \xc2\x9b"
          "31m",
          "c1 31m");
    CLEAN("\033", "");
    CLEAN("\033[", "");
    CLEAN("", "");
    static char long_line[20000], out[BUILD_LOG_LINE_MAX + 1];
    memset(long_line, 0xff, sizeof(long_line));
    assert_true(clean_line((struct ec_span){long_line, sizeof(long_line)}, out) <=
                BUILD_LOG_LINE_MAX);
}

struct sink {
    int batches, lasts;
    int64_t next_seq;
    size_t lines, biggest;
    bool cut;
    char last_text[BUILD_LOG_LINE_MAX + 1];
};
static struct sink sink;

static void on_flush(void *arg, int64_t first_seq, const struct build_log_line *lines, size_t count,
                     bool last, bool cut)
{
    struct sink *s = arg;
    assert_int_equal(first_seq, s->next_seq);
    s->next_seq += (int64_t)count;
    s->batches++;
    s->lasts += last;
    s->cut = cut;
    s->lines += count;
    s->biggest = count > s->biggest ? count : s->biggest;
    if (count > 0) {
        snprintf(s->last_text, sizeof(s->last_text), "%s", lines[count - 1].text);
        assert_string_equal(lines[0].step, "build");
    }
}

static struct ec_loop *loop;

static void log_open(struct build_log *log, size_t max_bytes)
{
    memset(&sink, 0, sizeof(sink));
    sink.next_seq = 1;
    build_log_init(log, loop, max_bytes, on_flush, &sink);
}

static void lines_go_in_batches(void **state)
{
    (void)state;
    struct build_log log;
    log_open(&log, 1 << 20);
    build_log_line(&log, "build", EC_SPAN("one"));
    assert_int_equal(sink.batches, 0);
    loop_for(loop, 200);
    assert_int_equal(sink.batches, 1);
    for (int i = 0; i < 150; i++) {
        build_log_line(&log, "build", EC_SPAN("many"));
    }
    assert_int_equal(sink.batches, 3);
    assert_int_equal(sink.biggest, 64);
    build_log_say(&log, "build", "done %d", 7);
    build_log_end(&log);
    build_log_end(&log);
    build_log_line(&log, "build", EC_SPAN("too late"));
    assert_int_equal(sink.lasts, 1);
    assert_int_equal(sink.lines, 152);
    assert_string_equal(sink.last_text, "==> done 7");
    assert_false(sink.cut);
    build_log_done(&log);
}

static void size_is_limited(void **state)
{
    (void)state;
    struct build_log log;
    char line[1001];
    memset(line, 'x', sizeof(line));
    log_open(&log, 100000);
    for (int i = 0; i < 100000; i++) {
        build_log_line(&log, "build", (struct ec_span){line, 999});
    }
    build_log_end(&log);
    assert_true(sink.cut);
    assert_int_equal(sink.lines, 101);
    assert_non_null(strstr(sink.last_text, "log cut here"));
    assert_true(log.tail_len > 0 && log.tail_len < BUILD_LOG_TAIL_MAX);
    build_log_done(&log);
}

static void secrets_are_masked(void **state)
{
    (void)state;
    struct build_log log;
    log_open(&log, 100000);
    build_log_mask(&log, EC_SPAN("s3cr3t:pw"));
    build_log_mask(&log, EC_SPAN("ab")); /* too short to be a secret */
    build_log_line(&log, "build", EC_SPAN("ab https://s3cr3t:pw@host s3cr3t:pw"));
    build_log_end(&log);
    assert_string_equal(sink.last_text, "ab https://***@host ***");
    assert_null(strstr(log.tail, "s3cr3t"));
    build_log_done(&log);
}

/* A line is cut at its limit; the half of a secret before the cut is not shown either. */
static void cut_secrets_are_masked(void **state)
{
    (void)state;
    struct build_log log;
    char line[BUILD_LOG_LINE_MAX + 100];
    memset(line, 'x', sizeof(line));
    memcpy(line + BUILD_LOG_LINE_MAX - 8, "s3cr3t:password", 15);
    log_open(&log, 100000);
    build_log_mask(&log, EC_SPAN("s3cr3t:password"));
    build_log_line(&log, "build", (struct ec_span){line, sizeof(line)});
    build_log_end(&log);
    assert_null(strstr(sink.last_text, "s3"));
    assert_true(strlen(sink.last_text) < BUILD_LOG_LINE_MAX);
    build_log_done(&log);
}

/* It is quoted in BuildFailed: half a character there would make the event unreadable. */
static void the_tail_is_utf8(void **state)
{
    (void)state;
    struct build_log log;
    char line[3002] = "x";
    for (size_t i = 1; i + 2 < sizeof(line); i += 3) {
        memcpy(line + i, "\xe2\x82\xac", 3);
    }
    log_open(&log, 100000);
    for (size_t len = 3001; len > 2950; len -= 3) {
        build_log_line(&log, "build", (struct ec_span){line, len});
        assert_true(ec_utf8_valid(ec_span_of(log.tail)));
    }
    build_log_end(&log);
    build_log_done(&log);
}

static void from_lines_are_read(void **state)
{
    (void)state;
    struct ec_arena *arena = ec_arena_new(1 << 20);
    const char *bases[DOCKERFILE_BASES_MAX];
    Enclii__V1__BuildSpec spec = ENCLII__V1__BUILD_SPEC__INIT;
    Enclii__V1__BuildSpec__ArgsEntry entry = ENCLII__V1__BUILD_SPEC__ARGS_ENTRY__INIT,
                                     *entries[] = {&entry};
    char key[] = "GO", value[] = "1.30";
    entry.key = key;
    entry.value = value;
    spec.n_args = 1;
    spec.args = entries;
    size_t n =
        dockerfile_bases(arena,
                         EC_SPAN("# FROM comment\nARG GO=1.26\nARG TAG=\"slim\"\n"
                                 "FROM --platform=linux/amd64 golang:${GO} AS Build\n"
                                 "RUN echo \\\n  FROM inside:run\n"
                                 "from debian:bookworm-$TAG as base\nFROM build\nFROM scratch\n"
                                 "FROM debian:bookworm-slim\nFROM node:${NODE:-20}\nFROM\n"),
                         &spec, bases);
    assert_int_equal(n, 3);
    assert_string_equal(bases[0], "golang:1.30");
    assert_string_equal(bases[1], "debian:bookworm-slim");
    assert_string_equal(bases[2], "node:20");
    assert_int_equal(dockerfile_bases(arena, EC_SPAN(""), NULL, bases), 0);
    assert_int_equal(dockerfile_bases(arena, EC_SPAN("FROM a"), NULL, bases), 1);
    ec_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_cleaned),      cmocka_unit_test(lines_go_in_batches),
        cmocka_unit_test(size_is_limited),        cmocka_unit_test(secrets_are_masked),
        cmocka_unit_test(cut_secrets_are_masked), cmocka_unit_test(the_tail_is_utf8),
        cmocka_unit_test(from_lines_are_read),
    };
    loop = ec_loop_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ec_loop_free(loop);
    return failed;
}
