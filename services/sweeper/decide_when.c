/* When to look again, and what git's words mean. Pure. */
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "sweeper.h"

/* Both looks, and finding out what a push changed, have to end within the interval: the pause is
 * shorter than what is left by up to a fifth, which is also the jitter that parts repositories that
 * were bound together. */
int64_t decide_period_ms(int64_t interval_ms, int64_t grace_ms, double dice)
{
    int64_t room_ms = interval_ms - grace_ms;
    int64_t period_ms = (int64_t)((double)room_ms * (0.75 + 0.15 * dice));
    return period_ms > 0 ? period_ms : 1;
}

int64_t decide_back_off_ms(int64_t period_ms, int failures)
{
    int64_t wait_ms = period_ms;
    for (int i = 1; i < failures && wait_ms < BACK_OFF_MAX_MS; i++) {
        wait_ms *= 2;
    }
    return wait_ms < BACK_OFF_MAX_MS ? wait_ms : BACK_OFF_MAX_MS;
}

bool decide_url_secret(const char *clone_url)
{
    const char *host = strstr(clone_url, "://");
    const char *user_end = host ? memchr(host + 3, '@', strcspn(host + 3, "/")) : NULL;
    return user_end && memchr(host + 3, ':', (size_t)(user_end - host - 3));
}

/* git's reason is on the first line that begins so; else on its last one. */
static struct ec_span telling_line(const char *words)
{
    struct ec_span last = {"", 0};
    for (const char *line = words; *line;) {
        size_t len = strcspn(line, "\n");
        struct ec_span span = {line, len};
        if (ec_span_starts(span, "fatal: ") || ec_span_starts(span, "ERROR: ") ||
            ec_span_starts(span, "remote: ")) {
            return span;
        }
        last = len > 0 ? span : last;
        line += len + (line[len] == '\n');
    }
    return last;
}

char *decide_git_error(struct ec_arena *arena, const char *clone_url, const char *words,
                       const struct ec_process_result *result)
{
    if (result->timed_out) {
        return ec_arena_strdup(arena, "git took too long; is the git host reachable?");
    }
    if (result->cancelled) {
        return ec_arena_strdup(arena, "cancelled");
    }
    if (result->signal == 25 /* SIGXFSZ */) {
        return ec_arena_strdup(arena, "more would come than may here (ENCLII_SWEEP_FETCH_MAX)");
    }
    if (clone_url && decide_url_secret(clone_url)) {
        return ec_arena_strdup(
            arena, "git failed; its words are left out, because the clone URL holds a password");
    }
    char *line = ec_text_clean(arena, telling_line(words), ERROR_MAX_BYTES);
    return *line ? line : ec_arena_format(arena, "git ended with status %d", result->exit_code);
}
