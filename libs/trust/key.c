/* P-256 keys by OpenSSL's provider API. The public forms (PEM, hint) are made once when a key is
 * loaded, since every bundle and answer carries them. A key file is written under a temporary name
 * and then linked to its real one, which fails if somebody else was first: half a key is never
 * seen. */
#include "trust/key.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/encode.h"
#include "base/file.h"
#include "base/mem.h"
#include "trust/digest.h"
#include "trust/pem.h"

struct ec_key {
    EVP_PKEY *pkey;
    bool is_private;
    char *public_pem;
    char hint[45]; /* base64 of 32 bytes */
};

void ec_key_free(struct ec_key *key)
{
    if (key) {
        EVP_PKEY_free(key->pkey);
        free(key->public_pem);
        free(key);
    }
}

void ec_key_freep(struct ec_key **key)
{
    ec_key_free(*key);
}

static void bio_freep(BIO **bio)
{
    BIO_free(*bio);
}

static struct ec_span bio_bytes(BIO *bio)
{
    char *ptr = NULL;
    long len = BIO_get_mem_data(bio, &ptr);
    return (struct ec_span){ptr, len > 0 ? (size_t)len : 0};
}

static struct ec_err make_public_forms(struct ec_key *key)
{
    ec_cleanup(bio_freep) BIO *pem = BIO_new(BIO_s_mem());
    ec_cleanup(bio_freep) BIO *der = BIO_new(BIO_s_mem());
    if (!pem || !der || PEM_write_bio_PUBKEY(pem, key->pkey) != 1 ||
        i2d_PUBKEY_bio(der, key->pkey) != 1) {
        return ec_fatal(0, "OpenSSL cannot write a public key");
    }
    struct ec_span text = bio_bytes(pem);
    unsigned char digest[EC_SHA256_BYTES];
    ec_sha256(bio_bytes(der), digest);
    key->public_pem = ec_strndup(text.ptr, text.len);
    EVP_EncodeBlock((unsigned char *)key->hint, digest, sizeof(digest));
    return ec_ok();
}

/* Takes pkey, also on error. */
static struct ec_err wrap(EVP_PKEY *pkey, bool is_private, struct ec_key **ret_key)
{
    ec_cleanup(ec_key_freep) struct ec_key *key = ec_alloc(sizeof(*key));
    key->pkey = pkey;
    key->is_private = is_private;
    char group[32] = "";
    if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_EC ||
        EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) != 1 ||
        strcmp(group, "prime256v1") != 0) {
        return ec_reject("the key is not an elliptic curve key on P-256 (prime256v1)");
    }
    EC_TRY(make_public_forms(key));
    *ret_key = EC_TAKE(key);
    return ec_ok();
}

struct ec_err ec_key_new(struct ec_key **ret_key)
{
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    return pkey ? wrap(pkey, true, ret_key) : ec_fatal(0, "OpenSSL cannot make a P-256 key");
}

struct ec_err ec_key_from_pem(struct ec_span pem, struct ec_key **ret_key)
{
    bool is_private = false;
    EVP_PKEY *pkey = NULL;
    EC_TRY(ec_pem_key(pem, &pkey, &is_private));
    if (!pkey) {
        return ec_reject("this is no PEM key: expected \"BEGIN PUBLIC KEY\" or an unencrypted "
                         "\"BEGIN PRIVATE KEY\"");
    }
    return wrap(pkey, is_private, ret_key);
}

bool ec_key_is_private(const struct ec_key *key)
{
    return key->is_private;
}

static void md_ctx_freep(EVP_MD_CTX **ctx)
{
    EVP_MD_CTX_free(*ctx);
}

struct ec_err ec_key_sign(struct ec_arena *arena, const struct ec_key *key, struct ec_span bytes,
                          struct ec_span *ret_signature)
{
    if (!key->is_private) {
        return ec_fatal(0, "a public key cannot sign");
    }
    ec_cleanup(md_ctx_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t len = 80; /* DER of two 32-byte numbers: at most 72 */
    unsigned char *signature = ec_arena_alloc(arena, len);
    if (!ctx || EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, key->pkey, NULL) != 1 ||
        EVP_DigestSign(ctx, signature, &len, (const unsigned char *)bytes.ptr, bytes.len) != 1) {
        ERR_clear_error();
        return ec_fatal(0, "OpenSSL cannot sign with this key");
    }
    *ret_signature = (struct ec_span){(const char *)signature, len};
    return ec_ok();
}

bool ec_key_verify(const struct ec_key *key, struct ec_span bytes, struct ec_span signature)
{
    ec_cleanup(md_ctx_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx &&
                EVP_DigestVerifyInit_ex(ctx, NULL, "SHA256", NULL, NULL, key->pkey, NULL) == 1 &&
                EVP_DigestVerify(ctx, (const unsigned char *)signature.ptr, signature.len,
                                 (const unsigned char *)bytes.ptr, bytes.len) == 1;
    ERR_clear_error();
    return good;
}

const char *ec_key_public_pem(const struct ec_key *key)
{
    return key->public_pem;
}

const char *ec_key_hint(const struct ec_key *key)
{
    return key->hint;
}

struct evp_pkey_st *ec_key_native(const struct ec_key *key)
{
    return key->pkey;
}

struct ec_err ec_key_private_pem(const struct ec_key *key, struct ec_secret **ret_pem)
{
    if (!key->is_private) {
        return ec_fatal(0, "a public key has no private half to write");
    }
    ec_cleanup(bio_freep) BIO *bio = BIO_new(BIO_s_secmem());
    if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) != 1) {
        return ec_fatal(0, "OpenSSL cannot write a private key");
    }
    *ret_pem = ec_secret_new(bio_bytes(bio));
    return ec_ok();
}

/* ---- files ---- */

/* Another process may be first: then its key is everybody's. */
static struct ec_err create_file(struct ec_arena *arena, const char *path)
{
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    EC_TRY(ec_key_new(&key));
    EC_TRY(ec_key_private_pem(key, &pem));
    struct ec_span bytes = ec_secret_use(pem);
    int code = ec_file_create(&(struct ec_file_spec){path, 0600, true, &bytes, 1});
    return code && code != -EEXIST ? ec_retry_in(arena, code, "cannot create the key file %s", path)
                                   : ec_ok();
}

static struct ec_err write_public_half(struct ec_arena *arena, const char *path,
                                       const struct ec_key *key)
{
    const char *target = ec_arena_format(arena, "%s.pub", path);
    struct ec_span bytes = ec_span_of(key->public_pem);
    int code = ec_file_replace(&(struct ec_file_spec){target, 0644, true, &bytes, 1});
    return code ? ec_retry_in(arena, code, "cannot write %s", target) : ec_ok();
}

struct ec_err ec_key_open(struct ec_arena *arena, const char *path, struct ec_key **ret_key,
                          bool *ret_created)
{
    bool created = access(path, F_OK) != 0 && errno == ENOENT;
    if (created) {
        EC_TRY(create_file(arena, path));
    }
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    EC_TRY(ec_secret_read(path, &pem));
    struct ec_err err = ec_key_from_pem(ec_secret_use(pem), &key);
    if (ec_failed(err)) {
        return ec_reject_in(arena, "%s: %s", path, err.what);
    }
    if (!key->is_private) {
        return ec_reject_in(arena, "%s holds a public key; the private one is needed", path);
    }
    err = write_public_half(arena, path, key);
    /* A key that is mounted read-only comes with its public half, or nobody here needs it. */
    bool mounted = !created && (err.sys == -EROFS || err.sys == -EACCES);
    if (ec_failed(err) && !mounted) {
        return err;
    }
    *ret_key = EC_TAKE(key);
    *ret_created = created;
    return ec_ok();
}
