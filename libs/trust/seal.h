/* Envelopes for secrets at rest and on topics: AES-256-GCM with a fresh data key per secret,
 * wrapped by the platform's key (ENCLII_SEAL_KEY, 32 bytes as 64 hex digits). `context` is
 * authenticated and must be the same when opening (e.g. "channel/<id>"): an envelope cannot be
 * moved to another place. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/span.h"

EC_RESULT ec_seal(struct ec_arena *arena, const struct ec_secret *key, const char *context,
                  struct ec_span clear, struct ec_span *ret_sealed);
EC_RESULT ec_unseal(const struct ec_secret *key, const char *context, struct ec_span sealed,
                    struct ec_secret **ret_secret);
