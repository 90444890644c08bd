/* The public keys that a signature may be of: the one that signs now first, then those that signed
 * before it and are still trusted. A value; the keys in it belong to whoever made it. */
#pragma once

#include "trust/key.h"

#define EC_KEYRING_MAX 8

struct ec_keyring {
    const struct ec_key *keys[EC_KEYRING_MAX];
    size_t count;
};

/* The keyring of one key, which stays the caller's. */
struct ec_keyring ec_keyring_of(const struct ec_key *key);
/* One PEM public key ("BEGIN PUBLIC KEY") after another. REJECT says which is bad: a key that
 * cannot be read is never left out silently. ec_keyring_done frees the keys. */
EC_RESULT ec_keyring_from_pem(struct ec_arena *arena, struct ec_span pem,
                              struct ec_keyring *ret_keys);
void ec_keyring_done(struct ec_keyring *keys);
