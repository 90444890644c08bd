/* Amounts as people write them: durations, sizes (IEC and SI prefixes, as Kubernetes writes them),
 * shares of a CPU. Never negative; false when the text is not of that form or out of range. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

bool ec_amount_duration_ms(const char *text,
                           int64_t *ret_ms);                /* "90" (s), "250ms", "1h30m", "7d" */
bool ec_amount_bytes(const char *text, int64_t *ret_bytes); /* "512Mi", "64KiB", "1G", "1000" */
bool ec_amount_cpu_milli(const char *text, int64_t *ret_milli); /* "500m", "0.5", "2" */
/* A decimal number without sign or exponent at *at; moves it on. */
bool ec_amount_decimal(const char **at, double *ret);
