/* What the fuzzers share. A property that does not hold is a crash, so that libFuzzer keeps the
 * input. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static inline void check(bool good)
{
    if (!good) {
        abort();
    }
}

static inline struct ec_span span_of_input(const uint8_t *bytes, size_t len)
{
    return (struct ec_span){(const char *)bytes, len};
}

/* Takes what is before the mark (or all) off the front of the rest. */
static inline struct ec_span take_until(struct ec_span *rest, char mark)
{
    const char *end = rest->len > 0 ? memchr(rest->ptr, mark, rest->len) : NULL;
    struct ec_span part = {rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len};
    size_t eaten = end ? part.len + 1 : part.len;
    rest->ptr += eaten;
    rest->len -= eaten;
    return part;
}

/* UTF-8 without control characters (but \t, and with lines \n), not longer than promised. */
static inline void check_shown(const char *text, size_t max_bytes, bool lines)
{
    struct ec_span span = ec_span_of(text);
    check(span.len <= max_bytes && ec_utf8_valid(span));
    for (const char *c = text; *c; c++) {
        bool control = (unsigned char)*c < ' ' || *c == 0x7f;
        check(!control || *c == '\t' || (lines && *c == '\n'));
        check(!((unsigned char)c[0] == 0xc2 && (unsigned char)c[1] < 0xa0));
    }
}
