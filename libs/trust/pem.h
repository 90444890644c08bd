/* Keys in PEM, of any kind. For libs/trust. */
#pragma once

#include <openssl/evp.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/span.h"

#define EC_PEM_KEY_MAX_BYTES 16384

/* A private key, or a public one (SPKI); *ret_pkey is NULL when it is neither, or has a password.
 * REJECT: it is too large to be looked at. */
EC_RESULT ec_pem_key(struct ec_span pem, EVP_PKEY **ret_pkey, bool *ret_private);
