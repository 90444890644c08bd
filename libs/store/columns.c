/* Array literals of PostgreSQL: {"text with \" and \\",NULL,"..."}; see "8.15.6 Array input
 * syntax". */
#include "store/columns.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "store/internal.h"

#define ARRAY_MAX_BYTES ((size_t)64 << 20)

void ec_columns_init(struct ec_columns *cols, size_t width)
{
    assert(width > 0 && width <= EC_COLUMNS_MAX);
    memset(cols, 0, sizeof *cols);
    cols->width = width;
    for (size_t i = 0; i < width; i++) {
        ec_buf_init(&cols->arrays[i], ARRAY_MAX_BYTES);
    }
}

void ec_columns_done(struct ec_columns *cols)
{
    for (size_t i = 0; i < cols->width; i++) {
        ec_buf_done(&cols->arrays[i]);
    }
}

static struct ec_buf *next(struct ec_columns *cols)
{
    struct ec_buf *array = &cols->arrays[cols->at];
    ec_buf_add(array, cols->rows ? "," : "{", 1);
    if (++cols->at == cols->width) {
        cols->at = 0;
        cols->rows++;
    }
    return array;
}

void ec_columns_text(struct ec_columns *cols, const char *text)
{
    struct ec_buf *array = next(cols);
    ec_buf_add(array, "\"", 1);
    const char *plain = text;
    const char *at = text;
    const char *end = text + strlen(text);
    while (at < end) {
        size_t len = ec_utf8_len((struct ec_span){at, (size_t)(end - at)});
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

void ec_columns_null(struct ec_columns *cols)
{
    ec_buf_add(next(cols), "NULL", 4);
}

void ec_columns_id(struct ec_columns *cols, const char *id)
{
    if (*id) {
        ec_buf_add_text(next(cols), id);
    } else {
        ec_columns_null(cols);
    }
}

void ec_columns_int(struct ec_columns *cols, int64_t number)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)number);
    ec_buf_add(next(cols), text, (size_t)len);
}

void ec_columns_flag(struct ec_columns *cols, bool flag)
{
    ec_buf_add(next(cols), flag ? "t" : "f", 1);
}

void ec_columns_bytes(struct ec_columns *cols, struct ec_span bytes)
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

bool ec_columns_flush(struct ec_columns *cols, struct ec_batch *batch, const char *sql,
                      bool counted)
{
    if (cols->rows == 0) {
        return true;
    }
    assert(cols->at == 0);
    const char *args[EC_COLUMNS_MAX + 1];
    char count[24];
    size_t bytes = ec_arena_used_bytes(batch->arena) + strlen(sql);
    for (size_t i = 0; i < cols->width; i++) {
        ec_buf_add(&cols->arrays[i], "}", 1);
        if (cols->arrays[i].overflowed) {
            return false;
        }
        args[i] = cols->arrays[i].ptr;
        bytes += cols->arrays[i].len;
    }
    if (bytes > BATCH_MAX_BYTES - BATCH_SPARE_BYTES) {
        return false;
    }
    snprintf(count, sizeof count, "%zu", cols->rows);
    args[cols->width] = count;
    ec_batch_add(batch, sql, args, cols->width + (counted ? 1 : 0));
    return true;
}
