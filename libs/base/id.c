/* UUIDs and trace ids. Version 7 ids of one thread only grow: within one millisecond, or when the
 * clock steps back, a 12-bit counter takes over and then the millisecond itself runs ahead. */
#include "base/id.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* UUIDv5 of "events.enclii.dev" in the DNS namespace of RFC 9562. Changing it changes every derived
 * id, so that replays would no longer be recognised. */
static const unsigned char event_namespace[16] = {
    0x33, 0x66, 0x10, 0xba, 0x5d, 0xeb, 0x56, 0xf1, 0xa8, 0x58, 0x87, 0xd9, 0x6f, 0x1d, 0xc5, 0x6e,
};

/* Fetched once: an implicit fetch per id takes locks and costs more than the digest. */
static EVP_MD *sha1;

__attribute__((constructor)) static void fetch_sha1(void)
{
    sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
}

__attribute__((destructor)) static void free_sha1(void)
{
    EVP_MD_free(sha1);
}

/* Random bytes from a store that is filled by one call to the kernel: a call for each id costs more
 * than the rest of it. For ids only, never for secrets. */
static void take_random(unsigned char *out, size_t count)
{
    static _Thread_local unsigned char store[1024];
    static _Thread_local size_t left;
    if (left < count) {
        arc4random_buf(store, sizeof(store));
        left = sizeof(store);
    }
    left -= count;
    memcpy(out, store + left, count);
}

static char *put_hex(char *out, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        *out++ = "0123456789abcdef"[bytes[i] >> 4];
        *out++ = "0123456789abcdef"[bytes[i] & 15];
    }
    return out;
}

static struct ec_id to_text(const unsigned char uuid[16])
{
    struct ec_id id;
    char *out = put_hex(id.text, uuid, 4);
    for (size_t at = 4; at < 10; at += 2) {
        *out++ = '-';
        out = put_hex(out, uuid + at, 2);
    }
    *out++ = '-';
    out = put_hex(out, uuid + 10, 6);
    *out = '\0';
    return id;
}

struct ec_id ec_id_new(void)
{
    static _Thread_local int64_t last_ms;
    static _Thread_local unsigned counter;
    unsigned char uuid[16];
    take_random(uuid, sizeof(uuid));
    int64_t now_ms = ec_unix_ms();
    if (now_ms > last_ms) {
        last_ms = now_ms;
        counter = (uuid[6] << 8 | uuid[7]) & 0x7ff; /* half of the range is left to count up */
    } else if (++counter > 0xfff) {
        last_ms++;
        counter = 0;
    }
    for (int i = 0; i < 6; i++) {
        uuid[i] = (unsigned char)(last_ms >> (40 - 8 * i));
    }
    uuid[6] = (unsigned char)(0x70 | counter >> 8);
    uuid[7] = (unsigned char)counter;
    uuid[8] = (unsigned char)(0x80 | (uuid[8] & 0x3f));
    return to_text(uuid);
}

struct ec_id ec_id_derive(const char *cause, const char *step)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    /* The newline keeps ("a", "bc") apart from ("ab", "c"): no step has one in it. */
    if (ctx == NULL || EVP_DigestInit_ex(ctx, sha1, NULL) != 1 ||
        EVP_DigestUpdate(ctx, event_namespace, sizeof(event_namespace)) != 1 ||
        EVP_DigestUpdate(ctx, cause, strlen(cause)) != 1 || EVP_DigestUpdate(ctx, "\n", 1) != 1 ||
        EVP_DigestUpdate(ctx, step, strlen(step)) != 1 ||
        EVP_DigestFinal_ex(ctx, hash, NULL) != 1) {
        fputs("id: OpenSSL has no SHA-1, which UUIDv5 is made of\n", stderr);
        abort();
    }
    EVP_MD_CTX_free(ctx);
    hash[6] = (unsigned char)(0x50 | (hash[6] & 0x0f));
    hash[8] = (unsigned char)(0x80 | (hash[8] & 0x3f));
    return to_text(hash);
}

static bool lower_hex(const char *text, size_t len)
{
    return strspn(text, "0123456789abcdef") >= len;
}

bool ec_id_valid(const char *text)
{
    if (text == NULL || strlen(text) != EC_ID_SIZE - 1) {
        return false;
    }
    static const struct {
        int at, len;
    } groups[] = {{0, 8}, {9, 4}, {14, 4}, {19, 4}, {24, 12}};
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        if (!lower_hex(text + groups[i].at, (size_t)groups[i].len)) {
            return false;
        }
    }
    return text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-';
}

struct ec_trace ec_trace_new(void)
{
    unsigned char bytes[24];
    struct ec_trace trace;
    take_random(bytes, sizeof(bytes));
    bytes[0] |= 1; /* all zero is no valid id */
    bytes[16] |= 1;
    memcpy(trace.parent, "00-", 3);
    char *out = put_hex(trace.parent + 3, bytes, 16);
    *out++ = '-';
    out = put_hex(out, bytes + 16, 8);
    memcpy(out, "-01", 4);
    return trace;
}

struct ec_trace ec_trace_child(const char *traceparent)
{
    struct ec_trace trace = ec_trace_new();
    if (ec_trace_valid(traceparent)) {
        memcpy(trace.parent + 3, traceparent + 3, 32);
    }
    return trace;
}

/* Versions above 00 may carry more after a further dash; ff is forbidden. */
bool ec_trace_valid(const char *traceparent)
{
    if (traceparent == NULL || strnlen(traceparent, 55) != 55) {
        return false;
    }
    const char *t = traceparent;
    if (t[2] != '-' || t[35] != '-' || t[52] != '-' || !lower_hex(t, 2) || !lower_hex(t + 3, 32) ||
        !lower_hex(t + 36, 16) || !lower_hex(t + 53, 2)) {
        return false;
    }
    if (strspn(t + 3, "0") >= 32 || strspn(t + 36, "0") >= 16 || memcmp(t, "ff", 2) == 0) {
        return false;
    }
    return t[55] == '\0' || (t[55] == '-' && memcmp(t, "00", 2) != 0);
}

void ec_trace_id(const char *traceparent, char ret_id[33])
{
    ret_id[0] = '\0';
    if (ec_trace_valid(traceparent)) {
        memcpy(ret_id, traceparent + 3, 32);
        ret_id[32] = '\0';
    }
}
