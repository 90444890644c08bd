/* SHA-256 and HMAC-SHA256 by OpenSSL, fetched once (implicit fetches are 3x slower, c.f. docs). */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/span.h"

#define EC_SHA256_BYTES 32

void ec_sha256(struct ec_span bytes, unsigned char ret_digest[EC_SHA256_BYTES]);
char *ec_sha256_hex(struct ec_arena *arena, struct ec_span bytes);    /* 64 lower-case digits */
char *ec_sha256_digest(struct ec_arena *arena, struct ec_span bytes); /* "sha256:<hex>" */
EC_RESULT ec_sha256_file(struct ec_arena *arena, const char *path, char **ret_hex,
                         int64_t *ret_bytes);
bool ec_digest_valid(const char *digest); /* "sha256:" and 64 lower-case hex digits */

void ec_hmac_sha256(const struct ec_secret *key, struct ec_span bytes,
                    unsigned char ret_mac[EC_SHA256_BYTES]);
char *ec_hmac_sha256_hex(struct ec_arena *arena, const struct ec_secret *key, struct ec_span bytes);
/* Constant time; `hex` must be exactly 64 digits. */
bool ec_hmac_sha256_check(const struct ec_secret *key, struct ec_span bytes, struct ec_span hex);
