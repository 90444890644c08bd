/* When a certificate is renewed and when a failed try is repeated. Pure. */
#pragma once

#include <stdint.h>

/* Two thirds of its life plus a jitter of at most a twentieth of it, taken from the host name: the
 * same after each restart, and different for each host, so that renewals never come all at once. */
int64_t decide_renew_at(const char *hostname, int64_t not_before_unix_ms,
                        int64_t not_after_unix_ms);
/* How long a served certificate is left alone: until it is to be renewed, but no longer than
 * look_every_ms; at least a second, for one that became due while it was looked at. */
int64_t decide_next_look_ms(int64_t now_unix_ms, int64_t renew_at_unix_ms, int64_t look_every_ms);
/* 5 s doubling to 1 h. failures counts from 1. */
int64_t decide_next_try_ms(uint32_t failures);
