/* Array literals of PostgreSQL: {"text with \" and \\",NULL,"..."}; see "8.15.6 Array input
 * syntax". */
#include "columns.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define ARRAY_MAX_BYTES ((size_t)64 << 20)

void columns_init(struct columns *cols, size_t width)
{
    assert(width > 0 && width <= COLUMNS_MAX);
    memset(cols, 0, sizeof *cols);
    cols->width = width;
    for (size_t i = 0; i < width; i++) {
        ec_buf_init(&cols->arrays[i], ARRAY_MAX_BYTES);
    }
}

void columns_done(struct columns *cols)
{
    for (size_t i = 0; i < cols->width; i++) {
        ec_buf_done(&cols->arrays[i]);
    }
}

static struct ec_buf *next(struct columns *cols)
{
    struct ec_buf *array = &cols->arrays[cols->at];
    ec_buf_add(array, cols->rows ? "," : "{", 1);
    if (++cols->at == cols->width) {
        cols->at = 0;
        cols->rows++;
    }
    return array;
}

/* Length of the UTF-8 sequence at `at`, or 0 if it is none (overlong, surrogate, cut, too large).
 */
static size_t utf8_len(const unsigned char *at)
{
    if (at[0] < 0x80) {
        return 1;
    }
    size_t len = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0; /* also stops at the NUL of a cut one */
        }
    }
    bool bad = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
               (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f);
    return bad ? 0 : len;
}

void columns_text(struct columns *cols, const char *text)
{
    struct ec_buf *array = next(cols);
    ec_buf_add(array, "\"", 1);
    const char *plain = text;
    const char *at = text;
    while (*at) {
        size_t len = utf8_len((const unsigned char *)at);
        if (len > 0 && *at != '"' && *at != '\\') {
            at += len;
            continue;
        }
        ec_buf_add(array, plain, (size_t)(at - plain));
        ec_buf_add(array, len == 0 ? "?" : *at == '"' ? "\\\"" : "\\\\", len == 0 ? 1 : 2);
        plain = ++at;
    }
    ec_buf_add(array, plain, (size_t)(at - plain));
    ec_buf_add(array, "\"", 1);
}

void columns_null(struct columns *cols)
{
    ec_buf_add(next(cols), "NULL", 4);
}

void columns_id(struct columns *cols, const char *id)
{
    if (*id) {
        ec_buf_add_text(next(cols), id);
    } else {
        columns_null(cols);
    }
}

void columns_int(struct columns *cols, int64_t number)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)number);
    ec_buf_add(next(cols), text, (size_t)len);
}

void columns_flag(struct columns *cols, bool flag)
{
    ec_buf_add(next(cols), flag ? "t" : "f", 1);
}

void columns_bytes(struct columns *cols, struct ec_span bytes)
{
    static const char digits[] = "0123456789abcdef";
    struct ec_buf *array = next(cols);
    char hex[512];
    ec_buf_add_text(array, "\"\\\\x");
    for (size_t at = 0; at < bytes.len;) {
        size_t used = 0;
        for (; at < bytes.len && used < sizeof hex; at++) {
            hex[used++] = digits[((unsigned char)bytes.ptr[at]) >> 4];
            hex[used++] = digits[((unsigned char)bytes.ptr[at]) & 15];
        }
        ec_buf_add(array, hex, used);
    }
    ec_buf_add(array, "\"", 1);
}

void columns_flush(struct columns *cols, struct ec_batch *batch, const char *sql, bool counted)
{
    if (cols->rows == 0) {
        return;
    }
    assert(cols->at == 0);
    const char *args[COLUMNS_MAX + 1];
    char count[24];
    for (size_t i = 0; i < cols->width; i++) {
        ec_buf_add(&cols->arrays[i], "}", 1);
        args[i] = cols->arrays[i].ptr;
    }
    snprintf(count, sizeof count, "%zu", cols->rows);
    args[cols->width] = count;
    ec_batch_add(batch, sql, args, cols->width + (counted ? 1 : 0));
}
