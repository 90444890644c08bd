/* Pure timing rules of certificates. */
#include "decide_renewal.h"

#define FIRST_TRY_MS 5000
#define TRY_CAP_MS 3600000
#define LOOK_LEAST_MS 1000

static uint32_t hash(const char *text)
{
    uint32_t value = 2166136261u; /* FNV-1a */
    for (; *text; text++) {
        value = (value ^ (unsigned char)*text) * 16777619u;
    }
    return value;
}

int64_t decide_renew_at(const char *hostname, int64_t not_before_unix_ms, int64_t not_after_unix_ms)
{
    int64_t life_ms = not_after_unix_ms - not_before_unix_ms;
    if (life_ms <= 0) {
        return not_before_unix_ms;
    }
    int64_t jitter_ms = (life_ms / 20) * (int64_t)(hash(hostname) % 1000) / 1000;
    return not_before_unix_ms + life_ms / 3 * 2 + jitter_ms;
}

int64_t decide_next_look_ms(int64_t now_unix_ms, int64_t renew_at_unix_ms, int64_t look_every_ms)
{
    int64_t wait_ms = renew_at_unix_ms - now_unix_ms;
    wait_ms = wait_ms < look_every_ms ? wait_ms : look_every_ms;
    return wait_ms > LOOK_LEAST_MS ? wait_ms : LOOK_LEAST_MS;
}

int64_t decide_next_try_ms(uint32_t failures)
{
    int64_t wait_ms = FIRST_TRY_MS;
    for (uint32_t i = 1; i < failures && wait_ms < TRY_CAP_MS; i++) {
        wait_ms *= 2;
    }
    return wait_ms < TRY_CAP_MS ? wait_ms : TRY_CAP_MS;
}
