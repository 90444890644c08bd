/* Optimal string alignment distance over three rows; words are short, so the plain way is enough.
 */
#include "base/nearest.h"

#include <ctype.h>

#include "base/mem.h"

#define WORD_MAX 64

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(struct ec_span a, struct ec_span b)
{
    size_t rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= b.len; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *before2 = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            int x = tolower((unsigned char)a.ptr[i - 1]), y = tolower((unsigned char)b.ptr[j - 1]);
            now[j] = least(least(before[j], now[j - 1]) + 1, before[j - 1] + (x == y ? 0 : 1));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b.ptr[j - 2]) &&
                y == tolower((unsigned char)a.ptr[i - 2])) {
                now[j] = least(now[j], before2[j - 2] + 1);
            }
        }
    }
    return rows[a.len % 3][b.len];
}

const char *ec_nearest(struct ec_span word, const char *const *known, size_t known_count)
{
    const char *nearest = NULL;
    /* A third of the word may be wrong, at least one letter. */
    size_t best = least(word.len, WORD_MAX) / 3 + 2;
    for (size_t i = 0; i < known_count; i++) {
        struct ec_span candidate = ec_span_of(known[i]);
        struct ec_span a = {word.ptr, least(word.len, WORD_MAX)};
        struct ec_span b = {candidate.ptr, least(candidate.len, WORD_MAX)};
        size_t d = distance(a, b);
        if (d < best) {
            best = d;
            nearest = known[i];
        }
    }
    return nearest;
}
