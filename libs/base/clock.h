/* Two clocks: `unix` for people and events, `mono` for durations and deadlines. */
#pragma once

#include <stdint.h>

#include "base/arena.h"

int64_t ec_unix_ms(void);
int64_t ec_mono_ms(void);
int64_t ec_mono_us(void);

#define EC_RFC3339_SIZE 32
/* "2026-01-02T03:04:05.678Z" (RFC 3339, UTC). */
void ec_rfc3339(int64_t unix_ms, char ret_text[EC_RFC3339_SIZE]);
/* Accepts fractional seconds and offsets; -1 when it is no RFC 3339 time. */
int64_t ec_rfc3339_parse(const char *text);
/* "420ms", "3.2s", "4m05s", "2h03m": for people. */
char *ec_duration_text(struct ec_arena *arena, int64_t duration_ms);
