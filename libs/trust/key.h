/* P-256 keys: the platform's signing key, keys of certificates, and strangers' public keys. Private
 * keys are PEM PKCS#8 files of mode 0600; public keys are PEM SPKI ("PUBLIC KEY", what cosign
 * reads). Signatures are ECDSA over SHA-256 in ASN.1 DER. 21 µs to sign, 62 µs to verify: done on
 * the loop. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/span.h"

#define EC_KEY_PEM_MAX_BYTES 16384

struct ec_key;
struct evp_pkey_st;

EC_RESULT ec_key_new(struct ec_key **ret_key); /* a fresh private key */
/* A private (PKCS#8 or SEC1) or public (SPKI) key. REJECT when it is not P-256. */
EC_RESULT ec_key_from_pem(struct ec_span pem, struct ec_key **ret_key);
/* Loads the private key in `path`. If there is none, makes one (mode 0600, complete or not there at
 * all; two processes that race end with the same key). Leaves the public half beside it as
 * "<path>.pub", unless an existing key is in a read-only folder. Reads and writes files: for
 * start-up. */
EC_RESULT ec_key_open(struct ec_arena *arena, const char *path, struct ec_key **ret_key,
                      bool *ret_created);
void ec_key_free(struct ec_key *key); /* accepts NULL */
void ec_key_freep(struct ec_key **key);

bool ec_key_is_private(const struct ec_key *key);
EC_RESULT ec_key_sign(struct ec_arena *arena, const struct ec_key *key, struct ec_span bytes,
                      struct ec_span *ret_signature);
bool ec_key_verify(const struct ec_key *key, struct ec_span bytes, struct ec_span signature);

const char *ec_key_public_pem(const struct ec_key *key); /* borrowed until ec_key_free */
/* cosign's hint: base64(SHA-256(SPKI DER)). Names the key in bundles, events and answers. */
const char *ec_key_hint(const struct ec_key *key); /* borrowed until ec_key_free */
EC_RESULT ec_key_private_pem(const struct ec_key *key, struct ec_secret **ret_pem);
struct evp_pkey_st *ec_key_native(const struct ec_key *key); /* OpenSSL's object, borrowed */
