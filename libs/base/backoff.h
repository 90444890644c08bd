/* Exponential back-off with full jitter: 0..min(cap, first * 2^attempt). */
#pragma once

#include <stdint.h>

struct ec_backoff {
    uint32_t first_ms;
    uint32_t cap_ms;
    uint32_t attempt; /* 0 = nothing failed yet */
};

uint32_t ec_backoff_next_ms(struct ec_backoff *backoff); /* counts the attempt */
void ec_backoff_reset(struct ec_backoff *backoff);
