/* Comparison of secrets, kept out of line so that no compiler can shorten it. */
#include "base/span.h"

#include <openssl/crypto.h>

bool ec_span_eq_secret(struct ec_span a, struct ec_span b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}
