/* Hex, base64, percent and UTF-8: what decodes encodes back to the same bytes. */

#include "base/encode.h"
#include "base/mem.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct ec_span text = {(const char *)bytes, len};
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    struct ec_span out = {0};
    /* One text per value: without padding, in either alphabet. */
    if (ec_unbase64(arena, text, &out)) {
        char *again = ec_base64url(arena, out);
        for (size_t i = 0; again[i] != '\0'; i++) {
            char c = bytes[i] == '+' ? '-' : bytes[i] == '/' ? '_' : (char)bytes[i];
            check(i < len && again[i] == c);
        }
    }
    check(ec_unbase64(arena, ec_span_of(ec_base64(arena, text)), &out) && ec_span_eq(out, text));
    check(ec_unbase64(arena, ec_span_of(ec_base64url(arena, text)), &out) && ec_span_eq(out, text));
    check(ec_unpercent(arena, ec_span_of(ec_percent(arena, text)), &out) && ec_span_eq(out, text));
    (void)ec_unpercent(arena, text, &out);
    unsigned char *raw = ec_arena_alloc(arena, len + 1);
    check(ec_unhex(ec_span_of(ec_hex(arena, text)), raw, len) &&
          (len == 0 || memcmp(raw, bytes, len) == 0));
    (void)ec_unhex(text, raw, len / 2);
    (void)ec_utf8_valid(text);
    return 0;
}
