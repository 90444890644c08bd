/* Text forms of bytes. Decoders take what strangers send: their memory comes from ec_arena_try, and
 * a text that is not exactly one encoding of some bytes is refused (no stray bits, no stray
 * padding). */
#include "base/encode.h"

#include <string.h>

#include "base/plain.h"

static const char hex_digits[] = "0123456789abcdef";
static const char base64_standard[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *ec_hex(struct ec_arena *arena, struct ec_span bytes)
{
    char *text = ec_arena_alloc(arena, bytes.len * 2 + 1);
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char byte = (unsigned char)bytes.ptr[i];
        text[i * 2] = hex_digits[byte >> 4];
        text[i * 2 + 1] = hex_digits[byte & 15];
    }
    return text;
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

bool ec_unhex(struct ec_span text, unsigned char *out, size_t out_len)
{
    if (text.len / 2 != out_len || text.len % 2 != 0) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (hex_value(text.ptr[i]) < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < out_len; i++) {
        out[i] = (unsigned char)(hex_value(text.ptr[i * 2]) << 4 | hex_value(text.ptr[i * 2 + 1]));
    }
    return true;
}

static char *base64_with(struct ec_arena *arena, struct ec_span bytes, const char *alphabet,
                         bool pad)
{
    char *text = ec_arena_alloc(arena, (bytes.len + 2) / 3 * 4 + 1);
    char *out = text;
    for (size_t at = 0; at < bytes.len; at += 3) {
        size_t part = bytes.len - at < 3 ? bytes.len - at : 3;
        unsigned char in[3] = {0};
        memcpy(in, bytes.ptr + at, part);
        unsigned bits = (unsigned)in[0] << 16 | (unsigned)in[1] << 8 | in[2];
        for (size_t i = 0; i <= part; i++) {
            *out++ = alphabet[bits >> (18 - 6 * i) & 63];
        }
        for (size_t i = part; pad && i < 3; i++) {
            *out++ = '=';
        }
    }
    return text;
}

char *ec_base64(struct ec_arena *arena, struct ec_span bytes)
{
    return base64_with(arena, bytes, base64_standard, true);
}

char *ec_base64url(struct ec_arena *arena, struct ec_span bytes)
{
    return base64_with(arena, bytes, base64_url, false);
}

static int base64_value(char digit)
{
    if (digit >= 'A' && digit <= 'Z') {
        return digit - 'A';
    }
    if (digit >= 'a' && digit <= 'z') {
        return digit - 'a' + 26;
    }
    if (digit >= '0' && digit <= '9') {
        return digit - '0' + 52;
    }
    if (digit == '+' || digit == '-') {
        return 62;
    }
    return digit == '/' || digit == '_' ? 63 : -1;
}

/* Takes one or two '=' off the end; false when they do not fill up the last group of four. */
static bool strip_padding(struct ec_span *text)
{
    size_t whole = text->len;
    while (text->len > 0 && whole - text->len < 2 && text->ptr[text->len - 1] == '=') {
        text->len--;
    }
    return whole == text->len || whole % 4 == 0;
}

bool ec_unbase64(struct ec_arena *arena, struct ec_span text, struct ec_span *ret_bytes)
{
    if (!strip_padding(&text) || text.len % 4 == 1) {
        return false;
    }
    size_t len = text.len / 4 * 3 + (text.len % 4 > 0 ? text.len % 4 - 1 : 0);
    char *bytes = ec_arena_try(arena, len + 1);
    if (bytes == NULL) {
        return false;
    }
    unsigned bits = 0;
    size_t made = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = base64_value(text.ptr[i]);
        if (value < 0) {
            return false;
        }
        bits = (bits << 6 | (unsigned)value) & 0xffffff;
        if (i % 4 > 0) {
            bytes[made++] = (char)(bits >> (6 - i % 4 * 2) & 0xff);
        }
    }
    unsigned stray = text.len % 4 == 2 ? bits & 15 : text.len % 4 == 3 ? bits & 3 : 0;
    if (stray != 0) {
        return false;
    }
    *ret_bytes = (struct ec_span){bytes, len};
    return true;
}

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

char *ec_percent(struct ec_arena *arena, struct ec_span text)
{
    static const char digits[] = "0123456789ABCDEF"; /* RFC 3986 §2.1 wants upper case */
    char *encoded = ec_arena_alloc(arena, text.len * 3 + 1);
    char *out = encoded;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if (unreserved(text.ptr[i])) {
            *out++ = text.ptr[i];
        } else {
            *out++ = '%';
            *out++ = digits[byte >> 4];
            *out++ = digits[byte & 15];
        }
    }
    return encoded;
}

bool ec_unpercent(struct ec_arena *arena, struct ec_span text, struct ec_span *ret_text)
{
    char *bytes = ec_arena_try(arena, text.len + 1);
    if (bytes == NULL) {
        return false;
    }
    size_t made = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '%') {
            bytes[made++] = text.ptr[i];
            continue;
        }
        unsigned char byte = 0;
        if (text.len - i < 3 || !ec_unhex((struct ec_span){text.ptr + i + 1, 2}, &byte, 1)) {
            return false;
        }
        bytes[made++] = (char)byte;
        i += 2;
    }
    *ret_text = (struct ec_span){bytes, made};
    return true;
}

/* Least code point of each length: shorter forms of the same character are refused (RFC 3629). */
static const unsigned utf8_least[] = {0, 0, 0x80, 0x800, 0x10000};

size_t ec_utf8_len(struct ec_span text)
{
    if (text.len == 0) {
        return 0;
    }
    unsigned char first = (unsigned char)text.ptr[0];
    if (first < 0x80) {
        return 1;
    }
    size_t len = first >= 0xf0 && first < 0xf8   ? 4
                 : first >= 0xe0 && first < 0xf0 ? 3
                 : first >= 0xc0 && first < 0xe0 ? 2
                                                 : 0;
    if (len == 0 || len > text.len) {
        return 0;
    }
    unsigned code = first & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if ((byte & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (byte & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code < utf8_least[len] || code > 0x10ffff || surrogate ? 0 : len;
}

bool ec_utf8_valid(struct ec_span text)
{
    while (text.len > 0) {
        size_t len = ec_plain_len(text.ptr, text.len);
        len = len > 0 ? len : ec_utf8_len(text);
        if (len == 0) {
            return false;
        }
        text.ptr += len;
        text.len -= len;
    }
    return true;
}

void ec_utf8_trim(char *text)
{
    size_t len = strlen(text), at = len;
    while (at > 0 && len - at < 4 && ((unsigned char)text[at - 1] & 0xc0) == 0x80) {
        at--;
    }
    at -= at > 0; /* where the last character begins */
    if (ec_utf8_len((struct ec_span){text + at, len - at}) == 0) {
        text[at] = '\0';
    }
}

static bool is_control(const char *at, size_t len)
{
    unsigned char first = (unsigned char)at[0];
    bool c1 = len == 2 && first == 0xc2 && (unsigned char)at[1] < 0xa0;
    return c1 || first == 0x7f || (first < 0x20 && first != '\n' && first != '\t');
}

char *ec_text_clean(struct ec_arena *arena, struct ec_span text, size_t max_bytes)
{
    static const char unknown[] = "\xef\xbf\xbd";
    size_t room = text.len < max_bytes / 3 ? text.len * 3 : max_bytes;
    char *clean = ec_arena_alloc(arena, room + 1);
    size_t made = 0;
    while (text.len > 0) {
        size_t len = ec_plain_len(text.ptr, text.len < room - made ? text.len : room - made);
        len = len > 0 ? len : ec_utf8_len(text);
        struct ec_span piece = len == 0 ? EC_SPAN(unknown) : (struct ec_span){text.ptr, len};
        if (len > 0 && is_control(text.ptr, len)) {
            piece = EC_SPAN(" ");
        }
        if (piece.len > room - made) {
            break;
        }
        memcpy(clean + made, piece.ptr, piece.len);
        made += piece.len;
        text.ptr += len > 0 ? len : 1;
        text.len -= len > 0 ? len : 1;
    }
    return clean;
}
