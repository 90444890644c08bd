/* Which refs a service builds, and which commits say that they are not to be built. Pure texts. */
#include <string.h>

#include "base/mem.h"
#include "decide.h"

/* The next part of a list with commas, without spaces around it; NULL at the end. */
static const char *next_part(struct ec_arena *arena, const char **at)
{
    while (**at) {
        size_t len = strcspn(*at, ",");
        const char *begin = *at;
        *at += len + ((*at)[len] == ',');
        while (len > 0 && *begin == ' ') {
            begin++;
            len--;
        }
        while (len > 0 && begin[len - 1] == ' ') {
            len--;
        }
        if (len > 0) {
            return ec_arena_text(arena, (struct ec_span){begin, len});
        }
    }
    return NULL;
}

/* A rule names a branch, unless it begins with refs/: so no tag deploys by accident. */
bool decide_branch(const char *rule, const char *ref)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(16384);
    const char *part;
    if (strlen(rule) > 1024) {
        return false;
    }
    while ((part = next_part(arena, &rule))) {
        bool whole = strncmp(part, "refs/", 5) == 0;
        if (paths_glob(whole ? part : ec_arena_format(arena, "refs/heads/%s", part), ref)) {
            return true;
        }
    }
    return false;
}

/* GitHub's trailer, on a line of its own. */
static bool skip_trailer(const char *message)
{
    for (const char *line = message; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncasecmp(line, "skip-checks:", 12) == 0) {
            line += 12 + strspn(line + 12, " ");
            return strncasecmp(line, "true", 4) == 0;
        }
    }
    return false;
}

const char *decide_skip_marker(struct ec_arena *arena, const char *markers, const char *message)
{
    const char *part, *at = markers ? markers : "";
    bool any = *at != '\0';
    while ((part = next_part(arena, &at))) {
        if (strcasestr(message, part)) {
            return part;
        }
    }
    return any && skip_trailer(message) ? "skip-checks: true" : NULL;
}
