/* When a host says "not now": in which order its headers count, and for how long to wait. */
#include <stdlib.h>
#include <string.h>

#include "githost/githost_private.h"

#define WAIT_MIN_S 60   /* when it does not say how long */
#define WAIT_MAX_S 3600 /* limits are per hour: a later time is a wrong clock, or a mistake */

/* A number of seconds; -1 = absent, or a date. */
static int64_t number(const char *text)
{
    char *end = NULL;
    int64_t value = text ? strtoll(text, &end, 10) : -1;
    return text && end != text && *end == '\0' && value >= 0 ? value : -1;
}

static int64_t bounded_ms(int64_t wait_s)
{
    wait_s = wait_s < 1 ? 1 : wait_s > WAIT_MAX_S ? WAIT_MAX_S : wait_s;
    return wait_s * 1000;
}

struct limit_verdict decide_limit(const struct limit_facts *facts)
{
    int64_t after_s = number(facts->retry_after), reset_s = number(facts->reset);
    bool used_up = number(facts->remaining) == 0;
    bool refused = facts->status == 429 ||
                   (facts->status == 403 && (after_s >= 0 || used_up || facts->says_limit));
    if (refused && after_s >= 0) {
        return (struct limit_verdict){true, bounded_ms(after_s)};
    }
    /* Also of an answer that still came through. Refused behind the time that it names: clocks
     * differ, and it would be asked again every second. */
    if (used_up && reset_s >= 0 && !(refused && reset_s <= facts->now_unix_s)) {
        return (struct limit_verdict){refused, bounded_ms(reset_s - facts->now_unix_s)};
    }
    if (refused) {
        unsigned doublings = facts->strikes < 6 ? facts->strikes : 6;
        return (struct limit_verdict){true, bounded_ms((int64_t)WAIT_MIN_S << doublings)};
    }
    return (struct limit_verdict){false, 0};
}
