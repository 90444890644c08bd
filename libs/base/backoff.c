/* Full jitter: many processes that lost the same dependency come back spread out, not in step. */
#include "base/backoff.h"

#include <stdlib.h>

uint32_t ec_backoff_next_ms(struct ec_backoff *backoff)
{
    uint64_t ceiling = backoff->cap_ms;
    if (backoff->attempt < 32) {
        uint64_t grown = (uint64_t)backoff->first_ms << backoff->attempt;
        ceiling = grown < ceiling ? grown : ceiling;
    }
    if (backoff->attempt < UINT32_MAX) {
        backoff->attempt++;
    }
    return ceiling < UINT32_MAX ? arc4random_uniform((uint32_t)ceiling + 1) : arc4random();
}

void ec_backoff_reset(struct ec_backoff *backoff)
{
    backoff->attempt = 0;
}
