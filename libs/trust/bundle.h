/* Sigstore bundles v0.3 (JSON) that hold one DSSE envelope with an in-toto statement, signed by a
 * key: what cosign 3 writes and reads. Certificates and log entries (keyless) are not read yet: a
 * bundle that has no public key hint is REJECTed with that reason. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"
#include "trust/intoto.h"
#include "trust/keyring.h"

#define EC_BUNDLE_MEDIA_TYPE "application/vnd.dev.sigstore.bundle.v0.3+json"
#define EC_BUNDLE_MAX_BYTES (16u << 20)
#define EC_STATEMENT_MAX_BYTES (11u << 20) /* base64 makes 4/3 of it */

/* Signs the statement's exact bytes and gives the bundle's JSON text. */
EC_RESULT ec_bundle_make(struct ec_arena *arena, const struct ec_key *key, struct ec_span statement,
                         char **ret_text);

/* All checks of one bundle, in this order: size, form, media type, one signature by one of these
 * keys over the statement, statement type, subject digest. OK gives the statement. REJECT says
 * which failed. */
EC_RESULT ec_bundle_verify(struct ec_arena *arena, struct ec_keyring keys, struct ec_span text,
                           const char *digest, struct ec_statement *ret_statement);
