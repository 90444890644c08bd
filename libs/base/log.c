/* Log lines: built in memory, written by one write(2), so that lines of several processes on one
 * descriptor never mix. A line that would grow beyond its maximum stays valid JSON: the value that
 * does not fit is shortened, what follows is left out, and "cut":true says so. */
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"

#define TAIL_BYTES 32 /* room for ,"cut":true}\n */

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *service_name = "enclii";
static enum ec_log_level least_level = EC_LOG_INFO;

void ec_log_setup(const char *service, enum ec_log_level least)
{
    service_name = service;
    least_level = least;
}

bool ec_log_level_parse(const char *text, enum ec_log_level *ret_level)
{
    for (size_t i = 0; i < EC_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret_level = (enum ec_log_level)i;
            return true;
        }
    }
    return false;
}

static void add_key(struct ec_buf *line, const char *key)
{
    ec_buf_add_text(line, line->len > 1 ? "," : "");
    ec_buf_add_json_text(line, ec_span_of(key));
    ec_buf_add_text(line, ":");
}

/* False when it did not fit whole; then as much of it as surely fits is in the line, or nothing. */
static bool add_text(struct ec_buf *line, const char *key, const char *text)
{
    size_t began = line->len;
    add_key(line, key);
    if (text == NULL) {
        ec_buf_add_text(line, "null");
    } else {
        ec_buf_add_json_text(line, ec_span_of(text));
    }
    if (!line->overflowed) {
        return true;
    }
    line->len = began;
    line->overflowed = false;
    size_t left = line->max_bytes - began;
    size_t key_bytes = strlen(key) * 6 + 8;
    if (text != NULL && left > key_bytes) {
        add_key(line, key);
        /* One byte becomes six at most. */
        ec_buf_add_json_text(line, (struct ec_span){text, strnlen(text, (left - key_bytes) / 6)});
    }
    return false;
}

static bool add_number(struct ec_buf *line, const char *key, int64_t number)
{
    size_t began = line->len;
    add_key(line, key);
    ec_buf_addf(line, "%lld", (long long)number);
    if (line->overflowed) {
        line->len = began;
        line->overflowed = false;
        return false;
    }
    return true;
}

static bool add_pairs(struct ec_buf *line, const struct ec_log_pair *pairs)
{
    for (; pairs->kind != EC_LOG_END; pairs++) {
        bool whole = pairs->kind == EC_LOG_TEXT ? add_text(line, pairs->key, pairs->text)
                                                : add_number(line, pairs->key, pairs->number);
        if (!whole) {
            return false;
        }
    }
    return true;
}

static void write_line(const struct ec_buf *line)
{
    ssize_t written = 0;
    do {
        written = write(STDERR_FILENO, line->ptr, line->len);
    } while (written < 0 && errno == EINTR);
    /* A log that cannot be written (closed or full pipe) must not stop the work. */
}

void ec_log_write(enum ec_log_level level, const char *trace, const char *event,
                  const char *message, const struct ec_log_pair *pairs)
{
    if (level < least_level) {
        return;
    }
    int saved_errno = errno;
    char time_text[EC_RFC3339_SIZE], trace_id[33];
    ec_rfc3339(ec_unix_ms(), time_text);
    ec_trace_id(trace, trace_id);
    ec_cleanup(ec_buf_done) struct ec_buf line;
    ec_buf_init(&line, EC_LOG_LINE_MAX_BYTES - TAIL_BYTES);
    ec_buf_add_text(&line, "{");
    bool whole =
        add_text(&line, "time", time_text) && add_text(&line, "level", level_names[level]) &&
        add_text(&line, "service", service_name) && add_text(&line, "event", event) &&
        add_text(&line, "message", message) &&
        (trace_id[0] == '\0' || add_text(&line, "trace", trace_id)) && add_pairs(&line, pairs);
    line.max_bytes += TAIL_BYTES;
    ec_buf_add_text(&line, whole ? "}\n" : ",\"cut\":true}\n");
    write_line(&line);
    errno = saved_errno;
}
