/* A growing buffer that stops at its maximum. What fits is kept; the first byte that does not sets
 * `overflowed`, and from then on nothing is added until ec_buf_clear. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/encode.h"
#include "base/mem.h"
#include "base/plain.h"

/* What an empty buffer points to, so that ptr is a C string from the start without an allocation.
 */
static char empty_text[1];

void ec_buf_init(struct ec_buf *buf, size_t max_bytes)
{
    *buf = (struct ec_buf){.ptr = empty_text, .max_bytes = max_bytes};
}

void ec_buf_done(struct ec_buf *buf)
{
    if (buf->room_bytes > 0) {
        free(buf->ptr);
    }
    *buf = (struct ec_buf){.ptr = empty_text, .max_bytes = buf->max_bytes};
}

void ec_buf_clear(struct ec_buf *buf)
{
    buf->len = 0;
    buf->overflowed = false;
    if (buf->room_bytes > 0) {
        buf->ptr[0] = '\0';
    }
}

/* Room for `len` more bytes and the NUL; the caller has checked the maximum. */
static void make_room(struct ec_buf *buf, size_t len)
{
    size_t needed = buf->len + len + 1;
    if (needed <= buf->room_bytes) {
        return;
    }
    size_t room = buf->room_bytes > 0 ? buf->room_bytes : 64;
    while (room < needed) {
        room *= 2;
    }
    if (room - 1 > buf->max_bytes) {
        room = buf->max_bytes + 1;
    }
    buf->ptr = ec_grow(buf->room_bytes > 0 ? buf->ptr : NULL, room, 1);
    buf->room_bytes = room;
}

void ec_buf_add(struct ec_buf *buf, const void *bytes, size_t len)
{
    if (buf->overflowed || len == 0) {
        return;
    }
    size_t left = buf->max_bytes - buf->len;
    if (len > left) {
        buf->overflowed = true;
        len = left;
    }
    if (len == 0) {
        return;
    }
    make_room(buf, len);
    memcpy(buf->ptr + buf->len, bytes, len);
    buf->len += len;
    buf->ptr[buf->len] = '\0';
}

void ec_buf_add_text(struct ec_buf *buf, const char *text)
{
    ec_buf_add(buf, text, strlen(text));
}

void ec_buf_add_span(struct ec_buf *buf, struct ec_span span)
{
    ec_buf_add(buf, span.ptr, span.len);
}

void ec_buf_addf(struct ec_buf *buf, const char *format, ...)
{
    char small[256];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(small, sizeof(small), format, args);
    va_end(args);
    if (len < 0) {
        abort(); /* a format that libc refuses is our bug */
    }
    if ((size_t)len < sizeof(small)) {
        ec_buf_add(buf, small, (size_t)len);
        return;
    }
    ec_cleanup(ec_freep) char *large = ec_alloc((size_t)len + 1);
    va_start(args, format);
    vsnprintf(large, (size_t)len + 1, format, args);
    va_end(args);
    ec_buf_add(buf, large, (size_t)len);
}

static void add_escaped_byte(struct ec_buf *buf, unsigned char byte)
{
    switch (byte) {
    case '"':
        ec_buf_add(buf, "\\\"", 2);
        return;
    case '\\':
        ec_buf_add(buf, "\\\\", 2);
        return;
    case '\n':
        ec_buf_add(buf, "\\n", 2);
        return;
    case '\r':
        ec_buf_add(buf, "\\r", 2);
        return;
    case '\t':
        ec_buf_add(buf, "\\t", 2);
        return;
    default:
        ec_buf_addf(buf, "\\u%04x", byte);
    }
}

void ec_buf_add_json_text(struct ec_buf *buf, struct ec_span text)
{
    ec_buf_add(buf, "\"", 1);
    while (text.len > 0) {
        unsigned char byte = (unsigned char)text.ptr[0];
        size_t plain = ec_plain_len(text.ptr, text.len);
        size_t len = plain > 0 ? plain : ec_utf8_len(text);
        if (plain > 0) {
            ec_buf_add(buf, text.ptr, plain);
        } else if (len == 0) {
            ec_buf_add(buf, "\xef\xbf\xbd", 3); /* U+FFFD in place of a byte that is no UTF-8 */
            len = 1;
        } else if (byte < 0x20 || byte == '"' || byte == '\\' || byte == 0x7f) {
            add_escaped_byte(buf, byte);
        } else {
            ec_buf_add(buf, text.ptr, len);
        }
        text.ptr += len;
        text.len -= len;
    }
    ec_buf_add(buf, "\"", 1);
}

void ec_buf_drop_front(struct ec_buf *buf, size_t len)
{
    if (len >= buf->len) {
        buf->len = 0;
    } else {
        memmove(buf->ptr, buf->ptr + len, buf->len - len);
        buf->len -= len;
    }
    if (buf->room_bytes > 0) {
        buf->ptr[buf->len] = '\0';
    }
}

struct ec_span ec_buf_span(const struct ec_buf *buf)
{
    return (struct ec_span){buf->ptr, buf->len};
}
