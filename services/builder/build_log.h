/* The output of one build attempt on its way to enclii.build.logs: cleaned lines, numbered from 1
 * without gaps, in batches of at most BUILD_LOG_LINES lines or BUILD_LOG_WAIT_MS. Above `max_bytes`
 * one clear last line is written and the rest is dropped. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"
#include "net/loop.h"

#define BUILD_LOG_LINES 64
#define BUILD_LOG_WAIT_MS 100
#define BUILD_LOG_LINE_MAX 8192
#define BUILD_LOG_MASKS 8
#define BUILD_LOG_TAIL_MAX 4096

struct build_log_line {
    int64_t unix_ms;
    const char *step; /* a literal */
    char *text;
};

/* Called with each batch, in order; the lines are borrowed until it returns. */
typedef void (*build_log_flush_fn)(void *arg, int64_t first_seq, const struct build_log_line *lines,
                                   size_t count, bool last, bool cut);

struct build_log {
    struct build_log_line lines[BUILD_LOG_LINES];
    size_t count;
    int64_t next_seq; /* of the next line */
    size_t bytes, max_bytes;
    bool cut; /* the limit was reached */
    bool ended;
    struct ec_timer *timer;       /* runs while lines wait */
    char *masks[BUILD_LOG_MASKS]; /* texts that must not be shown */
    size_t mask_count;
    char tail[BUILD_LOG_TAIL_MAX]; /* the last lines of the running command, for verdicts */
    size_t tail_len;
    build_log_flush_fn flush;
    void *arg;
};

void build_log_init(struct build_log *log, struct ec_loop *loop, size_t max_bytes,
                    build_log_flush_fn flush, void *arg);
void build_log_done(struct build_log *log);
/* Every later occurrence of `text` (4 bytes or more) is shown as "***". */
void build_log_mask(struct build_log *log, struct ec_span text);
/* A line of a tool: cleaned, masked. `step` is a literal. */
void build_log_line(struct build_log *log, const char *step, struct ec_span line);
/* A line of our own, for people: "==> ...". */
void build_log_say(struct build_log *log, const char *step, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void build_log_tail_clear(struct build_log *log); /* a new command begins */
/* The last batch, also when nothing waits; nothing is taken afterwards. */
void build_log_end(struct build_log *log);

/* Pure: without escape sequences and control characters, what a carriage return overwrote left out,
 * invalid UTF-8 as U+FFFD, at most BUILD_LOG_LINE_MAX bytes. Gives the length; `out` gets a NUL. */
size_t clean_line(struct ec_span line, char out[BUILD_LOG_LINE_MAX + 1]);
