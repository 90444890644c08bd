/* Which changed paths a service watches. The patterns are those of .gitignore, with the sense
 * turned round (a match means "build"): the last pattern that matches decides, "!" excludes again,
 * a pattern with a slash inside is anchored at the root, one without matches at any depth, a
 * directory means everything below it, "*" stops at slashes and "**" does not. */
#include "decide.h"

#include <string.h>

struct walk {
    int fuel;
    bool whole; /* the pattern must take the whole text, not only a folder above */
};

/* One step of a glob; text and pattern are consumed from the front. Recursion is bounded by the
 * stars of one pattern; fuel bounds the work a hostile pattern can ask for, and is below zero when
 * it was not enough to tell. */
static bool glob(const char *pattern, const char *text, struct walk *walk)
{
    if (--walk->fuel < 0) {
        return false;
    }
    if (pattern[0] == 0) {
        return text[0] == 0 ||
               (text[0] == '/' && !walk->whole); /* the pattern names a directory above */
    }
    if (pattern[0] == '*' && pattern[1] == '*') {
        const char *rest = pattern + 2;
        if (rest[0] == '/' && glob(rest + 1, text, walk)) {
            return true; /* also matches no directory at all */
        }
        for (; text[0]; text++) {
            if (glob(rest, text, walk)) {
                return true;
            }
        }
        return glob(rest, text, walk);
    }
    if (pattern[0] == '*') {
        for (; text[0] && text[0] != '/'; text++) {
            if (glob(pattern + 1, text, walk)) {
                return true;
            }
        }
        return glob(pattern + 1, text, walk);
    }
    if (text[0] == 0 || (pattern[0] != text[0] && (pattern[0] != '?' || text[0] == '/'))) {
        return false;
    }
    return glob(pattern + 1, text + 1, walk);
}

bool paths_glob(const char *pattern, const char *text)
{
    return glob(pattern, text, &(struct walk){20000, true});
}

enum match { MATCH_NO, MATCH_YES, MATCH_UNKNOWN };

static enum match matches(const char *pattern, size_t len, const char *path)
{
    char text[1024];
    bool anchored =
        memchr(pattern, '/', len) != NULL && memchr(pattern, '/', len) != pattern + len - 1;
    bool folder = len > 0 && pattern[len - 1] == '/';
    if (len > 0 && pattern[0] == '/') {
        pattern++;
        len--;
    }
    len -= folder;
    if (len >= sizeof text) {
        return MATCH_UNKNOWN;
    }
    if (len == 0) {
        return folder ? MATCH_YES : MATCH_NO; /* "/" means everything */
    }
    memcpy(text, pattern, len);
    text[len] = 0;
    struct walk walk = {20000, false};
    if (glob(text, path, &walk)) {
        bool below = !folder || strlen(path) > len || strchr(text, '*') || strchr(text, '?');
        return below ? MATCH_YES : MATCH_NO;
    }
    for (const char *slash = anchored ? NULL : strchr(path, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        if (glob(text, slash + 1, &walk)) {
            return MATCH_YES;
        }
    }
    return walk.fuel < 0 ? MATCH_UNKNOWN : MATCH_NO;
}

bool paths_match(char *const *patterns, size_t pattern_count, const char *path)
{
    bool watched = false;
    bool only_exclusions = true;
    for (size_t i = 0; i < pattern_count; i++) {
        only_exclusions = only_exclusions && patterns[i][0] == '!';
    }
    watched = only_exclusions; /* "everything but these" */
    for (size_t i = 0; i < pattern_count; i++) {
        bool exclude = patterns[i][0] == '!';
        const char *pattern = patterns[i] + exclude;
        enum match match = matches(pattern, strlen(pattern), path);
        if (match == MATCH_YES || (match == MATCH_UNKNOWN && !exclude)) {
            watched = !exclude; /* what cannot be told is built rather than missed */
        }
    }
    return watched;
}
