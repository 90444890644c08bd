/* SHA-256 and HMAC-SHA256. The algorithms are fetched from OpenSSL once, before main: an implicit
 * fetch per call takes locks and costs three times the digest of a short text. Contexts are made
 * per call, so every function may run on libuv's pool too (files are hashed there). A failure of
 * these primitives can only mean a broken OpenSSL: it ends the process. */
#include "trust/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/encode.h"
#include "base/mem.h"

#define FILE_PIECE_BYTES 65536

static EVP_MD *sha256;
static EVP_MAC_CTX *hmac; /* with its digest, without a key: copied for each use */

__attribute__((constructor)) static void fetch_algorithms(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    char digest_name[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    hmac = mac ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac);
    if (!sha256 || !hmac || EVP_MAC_CTX_set_params(hmac, params) != 1) {
        abort();
    }
}

__attribute__((destructor)) static void free_algorithms(void)
{
    EVP_MD_free(sha256);
    EVP_MAC_CTX_free(hmac);
}

static void must(int ok)
{
    if (ok != 1) {
        abort();
    }
}

void ec_sha256(struct ec_span bytes, unsigned char ret_digest[EC_SHA256_BYTES])
{
    must(EVP_Digest(bytes.ptr, bytes.len, ret_digest, NULL, sha256, NULL));
}

static struct ec_span digest_span(const unsigned char digest[EC_SHA256_BYTES])
{
    return (struct ec_span){(const char *)digest, EC_SHA256_BYTES};
}

char *ec_sha256_hex(struct ec_arena *arena, struct ec_span bytes)
{
    unsigned char digest[EC_SHA256_BYTES];
    ec_sha256(bytes, digest);
    return ec_hex(arena, digest_span(digest));
}

char *ec_sha256_digest(struct ec_arena *arena, struct ec_span bytes)
{
    return ec_arena_format(arena, "sha256:%s", ec_sha256_hex(arena, bytes));
}

static struct ec_err hash_descriptor(struct ec_arena *arena, int fd, const char *path,
                                     unsigned char ret_digest[EC_SHA256_BYTES], int64_t *ret_bytes)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    char *piece = ec_alloc(FILE_PIECE_BYTES);
    if (!ctx) {
        abort();
    }
    must(EVP_DigestInit_ex(ctx, sha256, NULL));
    int64_t total = 0;
    ssize_t got;
    while ((got = read(fd, piece, FILE_PIECE_BYTES)) != 0) {
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            break;
        }
        must(EVP_DigestUpdate(ctx, piece, (size_t)got));
        total += got;
    }
    int code = errno;
    must(EVP_DigestFinal_ex(ctx, ret_digest, NULL));
    EVP_MD_CTX_free(ctx);
    free(piece);
    if (got < 0) {
        return ec_retry_in(arena, -code, "cannot read %s", path);
    }
    *ret_bytes = total;
    return ec_ok();
}

struct ec_err ec_sha256_file(struct ec_arena *arena, const char *path, char **ret_hex,
                             int64_t *ret_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return ec_retry_in(arena, -errno, "cannot open %s", path);
    }
    unsigned char digest[EC_SHA256_BYTES];
    struct ec_err err = hash_descriptor(arena, fd, path, digest, ret_bytes);
    close(fd);
    EC_TRY(err);
    *ret_hex = ec_hex(arena, digest_span(digest));
    return ec_ok();
}

bool ec_digest_valid(const char *digest)
{
    if (!digest || strncmp(digest, "sha256:", 7) != 0) {
        return false;
    }
    const char *hex = digest + 7;
    return strspn(hex, "0123456789abcdef") == 64 && hex[64] == '\0';
}

void ec_hmac_sha256(const struct ec_secret *key, struct ec_span bytes,
                    unsigned char ret_mac[EC_SHA256_BYTES])
{
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(hmac);
    if (!ctx) {
        abort();
    }
    struct ec_span raw = ec_secret_use(key);
    /* A NULL key would mean "keep the last one": an empty key still needs an address. */
    const char *key_bytes = raw.len ? raw.ptr : "";
    size_t len = 0;
    must(EVP_MAC_init(ctx, (const unsigned char *)key_bytes, raw.len, NULL));
    must(EVP_MAC_update(ctx, (const unsigned char *)bytes.ptr, bytes.len));
    must(EVP_MAC_final(ctx, ret_mac, &len, EC_SHA256_BYTES));
    EVP_MAC_CTX_free(ctx);
}

char *ec_hmac_sha256_hex(struct ec_arena *arena, const struct ec_secret *key, struct ec_span bytes)
{
    unsigned char mac[EC_SHA256_BYTES];
    ec_hmac_sha256(key, bytes, mac);
    return ec_hex(arena, digest_span(mac));
}

bool ec_hmac_sha256_check(const struct ec_secret *key, struct ec_span bytes, struct ec_span hex)
{
    unsigned char said[EC_SHA256_BYTES];
    if (hex.len != 2 * EC_SHA256_BYTES || !ec_unhex(hex, said, sizeof(said))) {
        return false;
    }
    unsigned char mac[EC_SHA256_BYTES];
    ec_hmac_sha256(key, bytes, mac);
    return ec_span_eq_secret(digest_span(mac), digest_span(said));
}
