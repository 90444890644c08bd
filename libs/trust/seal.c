/* Envelopes. Layout, all lengths fixed but the last ciphertext:
 *   "EC1" | key id 4 | iv 12 | data key sealed by the platform's key 32 | tag 16 | iv 12 | text |
 * tag 16 The key id (start of the key's SHA-256 under a label) tells a wrong key from a damaged
 * envelope. Both layers authenticate the head and the context, so no part can be moved to another
 * envelope. */
#include "trust/seal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/encode.h"
#include "base/mem.h"
#include "trust/digest.h"
#include "trust/token.h"

#define KEY_BYTES 32
#define IV_BYTES 12
#define TAG_BYTES 16
#define HEAD_BYTES 7 /* "EC1" and the key id */
#define WRAP_AT HEAD_BYTES
#define TEXT_AT (WRAP_AT + IV_BYTES + KEY_BYTES + TAG_BYTES)
#define OVERHEAD_BYTES (TEXT_AT + IV_BYTES + TAG_BYTES)
#define CLEAR_MAX_BYTES 65536
#define CONTEXT_MAX_BYTES 512

struct layer {
    EVP_CIPHER_CTX *ctx;
    const unsigned char *key;
    const unsigned char *head; /* HEAD_BYTES */
    const char *context;
};

static bool start_layer(const struct layer *layer, const unsigned char *iv, int encrypting)
{
    static EVP_CIPHER *aes256gcm;
    if (!aes256gcm) {
        aes256gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    }
    int len = 0;
    return EVP_CipherInit_ex2(layer->ctx, aes256gcm, layer->key, iv, encrypting, NULL) == 1 &&
           EVP_CipherUpdate(layer->ctx, NULL, &len, layer->head, HEAD_BYTES) == 1 &&
           EVP_CipherUpdate(layer->ctx, NULL, &len, (const unsigned char *)layer->context,
                            (int)strlen(layer->context)) == 1;
}

/* Writes iv, ciphertext and tag at `out`. */
static struct ec_err seal_layer(const struct layer *layer, struct ec_span clear, unsigned char *out)
{
    EC_TRY(ec_random_bytes(out, IV_BYTES));
    int len = 0;
    unsigned char *text = out + IV_BYTES;
    if (!start_layer(layer, out, 1) ||
        EVP_CipherUpdate(layer->ctx, text, &len, (const unsigned char *)clear.ptr,
                         (int)clear.len) != 1 ||
        EVP_CipherFinal_ex(layer->ctx, text + len, &len) != 1 ||
        EVP_CIPHER_CTX_ctrl(layer->ctx, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, text + clear.len) != 1) {
        return ec_fatal(0, "AES-256-GCM failed to seal");
    }
    return ec_ok();
}

/* `in` is iv, ciphertext and tag; what comes out counts only when true is returned. */
static bool open_layer(const struct layer *layer, const unsigned char *in, size_t text_len,
                       unsigned char *out)
{
    unsigned char tag[TAG_BYTES];
    memcpy(tag, in + IV_BYTES + text_len, TAG_BYTES);
    int len = 0;
    return start_layer(layer, in, 0) &&
           EVP_CipherUpdate(layer->ctx, out, &len, in + IV_BYTES, (int)text_len) == 1 &&
           EVP_CIPHER_CTX_ctrl(layer->ctx, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) == 1 &&
           EVP_CipherFinal_ex(layer->ctx, out + len, &len) == 1;
}

static struct ec_err read_key(const struct ec_secret *key, unsigned char ret_key[KEY_BYTES])
{
    if (!key || !ec_unhex(ec_secret_use(key), ret_key, KEY_BYTES)) {
        return ec_fatal(0, "ENCLII_SEAL_KEY is not 64 hex digits: make one with `openssl rand "
                           "-hex 32`");
    }
    return ec_ok();
}

static void make_head(const unsigned char key[KEY_BYTES], unsigned char ret_head[HEAD_BYTES])
{
    static const char label[] = "enclii seal key id";
    unsigned char text[sizeof(label) + KEY_BYTES];
    unsigned char digest[EC_SHA256_BYTES];
    memcpy(text, label, sizeof(label));
    memcpy(text + sizeof(label), key, KEY_BYTES);
    ec_sha256((struct ec_span){(const char *)text, sizeof(text)}, digest);
    OPENSSL_cleanse(text, sizeof(text));
    memcpy(ret_head, "EC1", 3);
    memcpy(ret_head + 3, digest, HEAD_BYTES - 3);
}

static struct ec_err seal_both(EVP_CIPHER_CTX *ctx, const unsigned char *key, const char *context,
                               struct ec_span clear, unsigned char *out)
{
    unsigned char data_key[KEY_BYTES];
    EC_TRY(ec_random_bytes(data_key, sizeof(data_key)));
    const struct layer outer = {ctx, key, out, context};
    const struct layer inner = {ctx, data_key, out, context};
    struct ec_err err =
        seal_layer(&outer, (struct ec_span){(const char *)data_key, KEY_BYTES}, out + WRAP_AT);
    if (!ec_failed(err)) {
        err = seal_layer(&inner, clear, out + TEXT_AT);
    }
    OPENSSL_cleanse(data_key, sizeof(data_key));
    return err;
}

struct ec_err ec_seal(struct ec_arena *arena, const struct ec_secret *key, const char *context,
                      struct ec_span clear, struct ec_span *ret_sealed)
{
    if (clear.len > CLEAR_MAX_BYTES || strlen(context) > CONTEXT_MAX_BYTES) {
        return ec_reject("a secret may have at most 64 KiB");
    }
    unsigned char kek[KEY_BYTES];
    EC_TRY(read_key(key, kek));
    unsigned char *out = ec_arena_alloc(arena, OVERHEAD_BYTES + clear.len);
    make_head(kek, out);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    struct ec_err err = ctx ? seal_both(ctx, kek, context, clear, out)
                            : ec_fatal(0, "OpenSSL gave no cipher context");
    EVP_CIPHER_CTX_free(ctx);
    OPENSSL_cleanse(kek, sizeof(kek));
    EC_TRY(err);
    *ret_sealed = (struct ec_span){(const char *)out, OVERHEAD_BYTES + clear.len};
    return ec_ok();
}

static struct ec_err open_both(EVP_CIPHER_CTX *ctx, const unsigned char *key, const char *context,
                               struct ec_span sealed, unsigned char *out)
{
    const unsigned char *in = (const unsigned char *)sealed.ptr;
    unsigned char data_key[KEY_BYTES];
    const struct layer outer = {ctx, key, in, context};
    const struct layer inner = {ctx, data_key, in, context};
    bool good = open_layer(&outer, in + WRAP_AT, KEY_BYTES, data_key) &&
                open_layer(&inner, in + TEXT_AT, sealed.len - OVERHEAD_BYTES, out);
    OPENSSL_cleanse(data_key, sizeof(data_key));
    return good ? ec_ok() : ec_reject("this envelope was damaged, or belongs to another place");
}

struct ec_err ec_unseal(const struct ec_secret *key, const char *context, struct ec_span sealed,
                        struct ec_secret **ret_secret)
{
    if (sealed.len < OVERHEAD_BYTES || sealed.len > OVERHEAD_BYTES + CLEAR_MAX_BYTES ||
        memcmp(sealed.ptr, "EC1", 3) != 0) {
        return ec_reject("this is no envelope of ours");
    }
    unsigned char kek[KEY_BYTES];
    EC_TRY(read_key(key, kek));
    unsigned char head[HEAD_BYTES];
    make_head(kek, head);
    if (memcmp(head, sealed.ptr, HEAD_BYTES) != 0) {
        OPENSSL_cleanse(kek, sizeof(kek));
        return ec_reject("sealed with another key than this ENCLII_SEAL_KEY");
    }
    size_t clear_len = sealed.len - OVERHEAD_BYTES;
    unsigned char *clear = ec_alloc(clear_len + 1);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    struct ec_err err = ctx ? open_both(ctx, kek, context, sealed, clear)
                            : ec_fatal(0, "OpenSSL gave no cipher context");
    if (!ec_failed(err)) {
        *ret_secret = ec_secret_new((struct ec_span){(const char *)clear, clear_len});
    }
    EVP_CIPHER_CTX_free(ctx);
    OPENSSL_cleanse(kek, sizeof(kek));
    OPENSSL_cleanse(clear, clear_len);
    free(clear);
    return err;
}
