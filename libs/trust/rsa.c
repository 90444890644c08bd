/* RSA by OpenSSL's provider API. */
#include "trust/rsa.h"

#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/mem.h"
#include "trust/pem.h"

#define BITS_MIN 2048
#define BITS_MAX 8192 /* a larger one would hold the loop for long */

struct ec_rsa {
    EVP_PKEY *pkey;
};

void ec_rsa_free(struct ec_rsa *key)
{
    if (key) {
        EVP_PKEY_free(key->pkey);
        free(key);
    }
}

struct ec_err ec_rsa_from_pem(struct ec_span pem, struct ec_rsa **ret_key)
{
    EVP_PKEY *pkey = NULL;
    bool is_private = false;
    EC_TRY(ec_pem_key(pem, &pkey, &is_private));
    if (!pkey || !is_private) {
        EVP_PKEY_free(pkey);
        return ec_reject("this is no PEM key: expected an unencrypted \"BEGIN RSA PRIVATE KEY\" or "
                         "\"BEGIN PRIVATE KEY\"");
    }
    int bits = EVP_PKEY_get_bits(pkey);
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA || bits < BITS_MIN || bits > BITS_MAX) {
        EVP_PKEY_free(pkey);
        return ec_reject("the key is not an RSA key of 2048 to 8192 bits");
    }
    struct ec_rsa *key = ec_alloc(sizeof(*key));
    key->pkey = pkey;
    *ret_key = key;
    return ec_ok();
}

struct ec_err ec_rsa_sign(struct ec_arena *arena, const struct ec_rsa *key, struct ec_span bytes,
                          struct ec_span *ret_signature)
{
    size_t len = (size_t)EVP_PKEY_get_size(key->pkey);
    unsigned char *signature = ec_arena_alloc(arena, len);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    /* The padding of RSA keys is PKCS#1 v1.5 unless said otherwise. */
    bool good =
        ctx && EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, key->pkey, NULL) == 1 &&
        EVP_DigestSign(ctx, signature, &len, (const unsigned char *)bytes.ptr, bytes.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    if (!good) {
        return ec_fatal(0, "OpenSSL cannot sign with this RSA key");
    }
    *ret_signature = (struct ec_span){(const char *)signature, len};
    return ec_ok();
}
