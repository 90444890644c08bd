/* RSA keys that other parties' services give us: a GitHub App proves who it is with one. Signatures
 * are RSASSA-PKCS1-v1_5 over SHA-256 (RS256). About 1 ms with 2048 bits: done on the loop, for what
 * is rare. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

struct ec_rsa;

/* A private key in PEM, PKCS#1 or PKCS#8, not encrypted, of 2048 bits at least. */
EC_RESULT ec_rsa_from_pem(struct ec_span pem, struct ec_rsa **ret_key);
void ec_rsa_free(struct ec_rsa *key); /* accepts NULL */
EC_RESULT ec_rsa_sign(struct ec_arena *arena, const struct ec_rsa *key, struct ec_span bytes,
                      struct ec_span *ret_signature);
