/* How much of a text needs no look: printable ASCII without the quote and the backslash. Most bytes
 * of most texts are such, so they are passed over sixteen at a time. */
#pragma once

#include <stddef.h>

#ifdef __SSE2__
#include <emmintrin.h>

/* A bit for each of sixteen bytes that needs a look. A byte of no ASCII is negative, and so below
 * the space. */
static inline unsigned ec_plain_mask16(const char *at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    __m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i low = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
    __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
    return (unsigned)_mm_movemask_epi8(
        _mm_or_si128(_mm_or_si128(quote, slash), _mm_or_si128(low, del)));
}
#else

/* The same without vector instructions. */
static inline unsigned ec_plain_mask16(const char *at)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < 16; i++) {
        unsigned char byte = (unsigned char)at[i];
        mask |= (unsigned)(byte < 0x20 || byte >= 0x7f || byte == '"' || byte == '\\') << i;
    }
    return mask;
}
#endif

/* How many bytes at the beginning of `at` need no look. */
static inline size_t ec_plain_len(const char *at, size_t len)
{
    size_t done = 0;
    while (len - done >= 16) {
        unsigned mask = ec_plain_mask16(at + done);
        if (mask != 0) {
            return done + (size_t)__builtin_ctz(mask);
        }
        done += 16;
    }
    while (done < len) {
        unsigned char byte = (unsigned char)at[done];
        if (byte < 0x20 || byte >= 0x7f || byte == '"' || byte == '\\') {
            break;
        }
        done++;
    }
    return done;
}
