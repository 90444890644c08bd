/* A build's output, line by line: what goes into events is UTF-8 without anything that moves a
 * terminal, no masked text is in it, numbers have no gap, and the limits hold. Cleaning what is
 * clean changes nothing. The verdict that quotes the tail is fit for an event too. */
#include "base/mem.h"
#include "build_log.h"
#include "decide_build.h"
#include "fuzz.h"

#define MASK "s3cr3t-token"
#define MAX_BYTES 20000

struct seen {
    int64_t next_seq;
    size_t bytes;
};

static void on_flush(void *arg, int64_t first_seq, const struct build_log_line *lines, size_t count,
                     bool last, bool cut)
{
    struct seen *seen = arg;
    (void)last;
    (void)cut;
    check(first_seq == seen->next_seq && count <= BUILD_LOG_LINES);
    for (size_t i = 0; i < count; i++) {
        check_shown(lines[i].text, BUILD_LOG_LINE_MAX, false);
        check(!strstr(lines[i].text, MASK));
        seen->bytes += strlen(lines[i].text) + 1;
    }
    seen->next_seq += (int64_t)count;
}

static void check_clean(struct ec_span line)
{
    char once[BUILD_LOG_LINE_MAX + 1], twice[BUILD_LOG_LINE_MAX + 1];
    size_t len = clean_line(line, once);
    check(len == strlen(once));
    check(clean_line(ec_span_of(once), twice) <= len && strncmp(once, twice, strlen(twice)) == 0);
}

static void check_verdicts(struct ec_arena *arena, const char *tail)
{
    struct ec_process_result result = {.exit_code = 1};
    struct limits limits = {1 << 20, 1000};
    check_shown(tail, BUILD_LOG_TAIL_MAX, true);
    check(ec_utf8_valid(ec_span_of(decide_fetch_end(arena, &result, tail).detail)));
    check(ec_utf8_valid(ec_span_of(decide_build_end(arena, &result, &limits, tail).detail)));
    check(ec_utf8_valid(ec_span_of(decide_push_end(arena, &result, tail).detail)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct ec_loop *loop;
    loop = loop ? loop : ec_loop_new();
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    struct ec_span rest = span_of_input(bytes, len);
    struct seen seen = {.next_seq = 1};
    struct build_log log;
    build_log_init(&log, loop, MAX_BYTES, on_flush, &seen);
    build_log_mask(&log, EC_SPAN(MASK));
    while (rest.len > 0) {
        struct ec_span line = take_until(&rest, '\n');
        check_clean(line);
        build_log_line(&log, "build", line);
    }
    check_verdicts(arena, log.tail);
    build_log_end(&log);
    check(seen.bytes <= MAX_BYTES + 200);
    build_log_done(&log);
    uv_run(ec_loop_uv(loop), UV_RUN_NOWAIT); /* closes the log's timer */
    return 0;
}
