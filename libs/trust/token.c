/* API tokens. 256 random bits need no slow hash: nobody can guess them, so SHA-256 is enough to
 * keep a stolen table from being usable. */
#include "trust/token.h"

#include <stdio.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "trust/digest.h"

#define TOKEN_MARK "enclii_"
#define TOKEN_RANDOM_BYTES 32
#define TOKEN_LEN (sizeof(TOKEN_MARK) - 1 + 2 * TOKEN_RANDOM_BYTES)

struct ec_err ec_random_bytes(void *out, size_t len)
{
    if (len > INT32_MAX || RAND_bytes(out, (int)len) != 1) {
        return ec_fatal(0, "the system's random generator gave nothing");
    }
    return ec_ok();
}

struct ec_err ec_token_new(struct ec_secret **ret_token)
{
    unsigned char random[TOKEN_RANDOM_BYTES];
    EC_TRY(ec_random_bytes(random, sizeof(random)));
    char text[TOKEN_LEN + 1] = TOKEN_MARK;
    for (size_t i = 0; i < sizeof(random); i++) {
        snprintf(text + sizeof(TOKEN_MARK) - 1 + 2 * i, 3, "%02x", random[i]);
    }
    *ret_token = ec_secret_new((struct ec_span){text, TOKEN_LEN});
    OPENSSL_cleanse(random, sizeof(random));
    OPENSSL_cleanse(text, sizeof(text));
    return ec_ok();
}

bool ec_token_form(struct ec_span text)
{
    if (text.len != TOKEN_LEN || !ec_span_starts(text, TOKEN_MARK)) {
        return false;
    }
    for (size_t i = sizeof(TOKEN_MARK) - 1; i < text.len; i++) {
        char c = text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return true;
}

char *ec_token_hash_hex(struct ec_arena *arena, struct ec_span token)
{
    return ec_sha256_hex(arena, token);
}
