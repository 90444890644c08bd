/* Paths as git prints them: one a line; those with odd characters in quotes, with C's escapes.
 * Pure. */
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "sweeper.h"

static const char escapes[] = "a\ab\bt\tn\nv\vf\fr\r\"\"\\\\";

/* The character behind a backslash at *at, which moves on; -1 when it is none of git's. */
static int unescape(struct ec_span text, size_t *at)
{
    size_t left = text.len - *at;
    const char *c = text.ptr + *at;
    if (left >= 3 && c[0] >= '0' && c[0] <= '3' && c[1] >= '0' && c[1] <= '7' && c[2] >= '0' &&
        c[2] <= '7') {
        *at += 3;
        return (c[0] - '0') * 64 + (c[1] - '0') * 8 + c[2] - '0';
    }
    for (size_t i = 0; left > 0 && i + 1 < sizeof escapes - 1; i += 2) {
        if (escapes[i] == c[0]) {
            *at += 1;
            return (unsigned char)escapes[i + 1];
        }
    }
    return -1;
}

/* False: it is no quoted path. */
static bool unquote(struct ec_span quoted, char *out, size_t *ret_len)
{
    struct ec_span text = {quoted.ptr + 1, quoted.len - 2};
    size_t len = 0;
    for (size_t at = 0; at < text.len;) {
        int c = (unsigned char)text.ptr[at++];
        if (c == '"') {
            return false;
        }
        if (c == '\\') {
            c = unescape(text, &at);
        }
        if (c <= 0) {
            return false;
        }
        out[len++] = (char)c;
    }
    *ret_len = len;
    return true;
}

/* A path that is no UTF-8 fits into no event: then the list is not whole. */
void decide_path(struct ec_arena *arena, struct paths *paths, struct ec_span line)
{
    char plain[4 * PATH_MAX_BYTES];
    if (line.len == 0 || paths->cut) {
        return;
    }
    if (line.len >= 2 && line.ptr[0] == '"' && line.ptr[line.len - 1] == '"' &&
        line.len <= sizeof plain) {
        size_t len = 0;
        bool good = unquote(line, plain, &len);
        line = (struct ec_span){plain, good ? len : 0};
    }
    bool fits = line.len > 0 && line.len <= PATH_MAX_BYTES && paths->count < PATHS_MAX &&
                paths->bytes + line.len < PATHS_MAX_BYTES;
    if (!fits || line.ptr[0] == '"' || memchr(line.ptr, '\0', line.len) || !ec_utf8_valid(line)) {
        paths->cut = true;
        return;
    }
    if (!paths->list) {
        paths->list = ec_arena_alloc(arena, PATHS_MAX * sizeof *paths->list);
    }
    paths->list[paths->count++] = ec_arena_text(arena, line);
    paths->bytes += line.len + 1;
}
