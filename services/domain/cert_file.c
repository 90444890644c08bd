/* Certificate files: the chain, then the key, as HAProxy wants them; written under another name and
 * renamed, so that a crash never leaves half a file. */
#include "domain.h"

#include <openssl/pem.h>
#include <string.h>
#include <sys/stat.h>

#include "base/encode.h"
#include "base/file.h"
#include "base/mem.h"
#include "trust/ca.h"

char *cert_path(struct ec_arena *arena, const struct domain *dom, const char *hostname)
{
    return ec_arena_format(arena, "%s/certs/%s.pem", dom->settings.haproxy_dir, hostname);
}

EC_RESULT cert_write(struct ec_arena *arena, const struct domain *dom, const char *hostname,
                     const char *chain_pem, const struct ec_secret *key_pem)
{
    const char *path = cert_path(arena, dom, hostname);
    mkdir(ec_arena_format(arena, "%s/certs", dom->settings.haproxy_dir), 0700);
    const struct ec_span parts[] = {ec_span_of(chain_pem), ec_secret_use(key_pem)};
    int code = ec_file_replace(&(struct ec_file_spec){path, 0600, false, parts, EC_LEN(parts)});
    return code ? ec_retry_in(arena, -code, "cannot write %s: %s", path, strerror(-code)) : ec_ok();
}

static EC_RESULT fingerprint_of(struct ec_arena *arena, struct ec_span pem,
                                char ret[FINGERPRINT_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    bool good = cert && X509_digest(cert, EVP_sha256(), digest, &len) == 1 && len == 32;
    X509_free(cert);
    BIO_free(bio);
    if (!good) {
        return ec_reject("not a PEM certificate");
    }
    char *hex = ec_hex(arena, (struct ec_span){(const char *)digest, len});
    memcpy(ret, hex, FINGERPRINT_SIZE);
    return ec_ok();
}

EC_RESULT cert_read(struct ec_arena *arena, const struct domain *dom, const char *hostname,
                    struct ec_secret **ret_pem, struct site_cert *ret_cert)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    struct ec_cert_info info;
    struct site_cert cert = {0};
    EC_TRY(ec_secret_read(cert_path(arena, dom, hostname), &pem));
    EC_TRY(ec_cert_read(arena, ec_secret_use(pem), &info));
    EC_TRY(fingerprint_of(arena, ec_secret_use(pem), cert.fingerprint));
    cert.not_before_unix_ms = info.not_before_unix_ms;
    cert.not_after_unix_ms = info.not_after_unix_ms;
    *ret_cert = cert;
    *ret_pem = EC_TAKE(pem);
    return ec_ok();
}
