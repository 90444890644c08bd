/* API tokens: "enclii_" + 64 hex digits of 32 random bytes; stored as SHA-256, shown once. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"

#define EC_TOKEN_PREFIX_LEN 16 /* shown to people: "enclii_1a2b3c4d5" */

EC_RESULT ec_token_new(struct ec_secret **ret_token);
bool ec_token_form(struct ec_span text); /* cheap check before any lookup */
char *ec_token_hash_hex(struct ec_arena *arena, struct ec_span token);
EC_RESULT ec_random_bytes(void *out, size_t len);
