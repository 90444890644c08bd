/* See git_ref.h. */
#include "base/git_ref.h"

#include <string.h>

#include "base/encode.h"

static bool has_bad_byte(struct ec_span ref)
{
    for (size_t i = 0; i < ref.len; i++) {
        unsigned char c = (unsigned char)ref.ptr[i];
        unsigned char next = i + 1 < ref.len ? (unsigned char)ref.ptr[i + 1] : 0;
        if (c <= ' ' || c == 0x7f || strchr("~^:?*[\\", c) || (c == 0xc2 && next < 0xa0)) {
            return true; /* the last: U+0080 to U+009F */
        }
        if ((c == '.' && next == '.') || (c == '@' && next == '{')) {
            return true;
        }
    }
    return false;
}

/* What stands between two slashes. */
static bool component_valid(struct ec_span part)
{
    bool locked = part.len >= 5 && memcmp(part.ptr + part.len - 5, ".lock", 5) == 0;
    return part.len > 0 && part.ptr[0] != '.' && !locked;
}

bool ec_git_ref_valid(struct ec_span ref)
{
    if (ref.len == 0 || ref.len > EC_GIT_REF_MAX_BYTES || has_bad_byte(ref) || ref.ptr[0] == '-' ||
        ref.ptr[ref.len - 1] == '.' || !ec_utf8_valid(ref) || ec_span_is(ref, "@")) {
        return false;
    }
    while (true) {
        const char *slash = memchr(ref.ptr, '/', ref.len);
        size_t len = slash ? (size_t)(slash - ref.ptr) : ref.len;
        if (!component_valid((struct ec_span){ref.ptr, len})) {
            return false;
        }
        if (!slash) {
            return true;
        }
        ref = (struct ec_span){slash + 1, ref.len - len - 1};
    }
}
