/* DSSE envelopes, https://github.com/secure-systems-lab/dsse: what is signed is PAE(type, body), so
 * that a signature over one kind of document is none over another. Only one signature per envelope,
 * as sigstore bundles ask. */
#pragma once

#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"
#include "trust/keyring.h"

#define EC_DSSE_INTOTO "application/vnd.in-toto+json"

struct ec_dsse {
    char *payload_type;
    struct ec_span payload;   /* decoded */
    struct ec_span signature; /* decoded; DER */
};

/* "DSSEv1" SP len(type) SP type SP len(body) SP body, lengths in decimal bytes. */
struct ec_span ec_dsse_pae(struct ec_arena *arena, const char *type, struct ec_span body);
/* gives the envelope (json_decref it): payload and signature in base64, no keyid. */
EC_RESULT ec_dsse_sign(struct ec_arena *arena, const struct ec_key *key, const char *type,
                       struct ec_span body, json_t **ret_envelope);
/* Form only: REJECT says what is missing. Texts live in `arena`. */
EC_RESULT ec_dsse_read(struct ec_arena *arena, const json_t *envelope, struct ec_dsse *ret_dsse);
/* Over the decoded payload: parse exactly those bytes afterwards. Gives the key that signed it,
 * NULL when none of these did. */
const struct ec_key *ec_dsse_verify(struct ec_arena *arena, struct ec_keyring keys,
                                    const struct ec_dsse *dsse);
