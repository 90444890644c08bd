/* A build's output is a stranger's bytes shown in terminals and pages of others: everything but
 * text is taken out here, once, before anybody else sees it. */
#include "build_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"

#define MASK_MIN_BYTES 4

/* ---- cleaning ---- */

/* Length of the escape sequence at `at` (ECMA-48): CSI, OSC and other strings, two-byte forms. */
static size_t escape_len(const unsigned char *at, size_t len)
{
    size_t i = 2;
    if (len < 2) {
        return len;
    }
    if (at[1] == '[') {
        while (i < len && (at[i] < 0x40 || at[i] > 0x7e)) {
            i++;
        }
        return i < len ? i + 1 : len;
    }
    if (memchr("]PX^_", at[1], 5)) { /* ends with BEL or ESC \ */
        while (i < len && at[i] != 0x07 && at[i] != 0x1b) {
            i++;
        }
        return i < len && at[i] == 0x1b && i + 1 < len ? i + 2 : i < len ? i + 1 : len;
    }
    while (i <= len && at[i - 1] >= 0x20 && at[i - 1] <= 0x2f) {
        i++; /* intermediate bytes */
    }
    return i < len ? i : len;
}

/* Progress bars redraw their line after a carriage return: the last drawing is what a person saw.
 */
static struct ec_span last_drawing(struct ec_span line)
{
    while (line.len > 0 && line.ptr[line.len - 1] == '\r') {
        line.len--;
    }
    const char *cr = line.len > 0 ? memrchr(line.ptr, '\r', line.len) : NULL;
    if (cr) {
        size_t skip = (size_t)(cr + 1 - line.ptr);
        line = (struct ec_span){cr + 1, line.len - skip};
    }
    return line;
}

size_t clean_line(struct ec_span line, char out[BUILD_LOG_LINE_MAX + 1])
{
    struct ec_span rest = last_drawing(line);
    const unsigned char *at = (const unsigned char *)rest.ptr;
    size_t len = 0;
    for (size_t i = 0; i < rest.len && len + 4 <= BUILD_LOG_LINE_MAX;) {
        if (at[i] == 0x1b) {
            i += escape_len(at + i, rest.len - i);
        } else if (at[i] < 0x80) {
            if (at[i] == '\t' || (at[i] >= 0x20 && at[i] != 0x7f)) {
                out[len++] = (char)at[i];
            }
            i++;
        } else {
            size_t n = ec_utf8_len((struct ec_span){rest.ptr + i, rest.len - i});
            bool c1 = n == 2 && at[i] == 0xc2 && at[i + 1] < 0xa0; /* control characters too */
            if (n > 0 && !c1) {
                memcpy(out + len, at + i, n);
                len += n;
            } else if (n == 0) {
                memcpy(out + len, "\xef\xbf\xbd", 3);
                len += 3;
            }
            i += n > 0 ? n : 1;
        }
    }
    out[len] = '\0';
    return len;
}

/* ---- batches ---- */

static void flush(struct build_log *log, bool last)
{
    ec_timer_stop(log->timer);
    log->flush(log->arg, log->next_seq - (int64_t)log->count, log->lines, log->count, last,
               log->cut);
    for (size_t i = 0; i < log->count; i++) {
        free(log->lines[i].text);
    }
    log->count = 0;
}

static void on_timer(void *arg)
{
    flush(arg, false);
}

void build_log_init(struct build_log *log, struct ec_loop *loop, size_t max_bytes,
                    build_log_flush_fn flush_fn, void *arg)
{
    memset(log, 0, sizeof(*log));
    log->next_seq = 1;
    log->max_bytes = max_bytes;
    log->timer = ec_timer_new(loop, on_timer, log);
    log->flush = flush_fn;
    log->arg = arg;
}

void build_log_done(struct build_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        free(log->lines[i].text);
    }
    for (size_t i = 0; i < log->mask_count; i++) {
        explicit_bzero(log->masks[i], strlen(log->masks[i]));
        free(log->masks[i]);
    }
    ec_timer_free(log->timer);
}

void build_log_mask(struct build_log *log, struct ec_span text)
{
    if (text.len >= MASK_MIN_BYTES && log->mask_count < BUILD_LOG_MASKS) {
        log->masks[log->mask_count++] = ec_strndup(text.ptr, text.len);
    }
}

static void apply_masks(const struct build_log *log, char *text)
{
    for (size_t i = 0; i < log->mask_count; i++) {
        size_t len = strlen(log->masks[i]);
        char *at = text;
        while ((at = strstr(at, log->masks[i])) != NULL) {
            memcpy(at, "***", 3); /* a mask has at least 4 bytes */
            memmove(at + 3, at + len, strlen(at + len) + 1);
            at += 3;
        }
    }
}

/* A line that was cut may end within a mask: its beginning must not be shown either. */
static void mask_cut_end(const struct build_log *log, char *text)
{
    size_t text_len = strlen(text);
    for (size_t i = 0; i < log->mask_count; i++) {
        size_t len = strlen(log->masks[i]);
        for (len = len < text_len ? len : text_len; len > 0; len--) {
            if (memcmp(text + text_len - len, log->masks[i], len) == 0) {
                text[text_len -= len] = '\0';
                break;
            }
        }
    }
}

static bool inside_character(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* Cuts between characters: the tail ends up in events, which are UTF-8. */
static void tail_add(struct build_log *log, const char *text)
{
    size_t len = strlen(text);
    if (len > BUILD_LOG_TAIL_MAX / 2) {
        for (len = BUILD_LOG_TAIL_MAX / 2; inside_character(text[len]);) {
            len--;
        }
    }
    if (log->tail_len + len + 2 > BUILD_LOG_TAIL_MAX) {
        size_t keep =
            BUILD_LOG_TAIL_MAX / 2 - 2 < log->tail_len ? BUILD_LOG_TAIL_MAX / 2 - 2 : log->tail_len;
        while (keep > 0 && inside_character(log->tail[log->tail_len - keep])) {
            keep--;
        }
        memmove(log->tail, log->tail + log->tail_len - keep, keep);
        log->tail_len = keep;
    }
    memcpy(log->tail + log->tail_len, text, len);
    log->tail_len += len;
    log->tail[log->tail_len++] = '\n';
    log->tail[log->tail_len] = '\0';
}

static void add(struct build_log *log, const char *step, const char *text)
{
    log->lines[log->count++] = (struct build_log_line){ec_unix_ms(), step, ec_strdup(text)};
    log->next_seq++;
    if (log->count == BUILD_LOG_LINES) {
        flush(log, false);
    } else if (!ec_timer_active(log->timer)) {
        ec_timer_start(log->timer, BUILD_LOG_WAIT_MS, 0);
    }
}

void build_log_line(struct build_log *log, const char *step, struct ec_span line)
{
    char text[BUILD_LOG_LINE_MAX + 1];
    bool cut = clean_line(line, text) + 4 > BUILD_LOG_LINE_MAX;
    apply_masks(log, text);
    if (cut) {
        mask_cut_end(log, text);
    }
    tail_add(log, text);
    if (log->cut || log->ended) {
        return;
    }
    size_t len = strlen(text) + 1;
    if (log->bytes + len > log->max_bytes) {
        log->cut = true;
        snprintf(text, sizeof(text),
                 "==> log cut here: it reached its limit of %zu KiB; the build goes on",
                 log->max_bytes / 1024);
    }
    log->bytes += len;
    add(log, step, text);
}

void build_log_say(struct build_log *log, const char *step, const char *format, ...)
{
    char text[1024] = "==> ";
    va_list args;
    va_start(args, format);
    vsnprintf(text + 4, sizeof(text) - 4, format, args);
    va_end(args);
    char clean[BUILD_LOG_LINE_MAX + 1];
    clean_line(ec_span_of(text), clean);
    apply_masks(log, clean);
    if (!log->cut && !log->ended) {
        log->bytes += strlen(clean) + 1; /* our few lines may pass the limit */
        add(log, step, clean);
    }
}

void build_log_tail_clear(struct build_log *log)
{
    log->tail_len = 0;
    log->tail[0] = '\0';
}

void build_log_end(struct build_log *log)
{
    if (!log->ended) {
        log->ended = true;
        flush(log, true);
    }
}
