/* The local certificate authority. What goes into a certificate is decided here alone: nothing is
 * copied from outside but host names, which are checked letter by letter before they come near
 * OpenSSL's extension syntax. Serials are 127 random bits (positive, as RFC 5280 asks). */
#include "trust/ca.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "trust/key.h"
#include "trust/token.h"

#define ROOT_NAME "Enclii local CA"
#define ROOT_DAYS 3650
#define ROOT_RENEW_DAYS 365 /* more than EC_CA_DAYS */
#define BACKDATE_S 60       /* clocks that are a little behind still accept it */
#define SERIAL_BYTES 16
#define PEM_MAX_BYTES 262144

struct ec_ca {
    struct ec_key *key;
    X509 *root;
    char *root_pem;
    bool renewed;
};

/* What differs between the root and a leaf. */
struct draft {
    const char *common_name;
    int days;
    const char *basic_constraints;
    const char *key_usage;
    const char *extended_usage; /* NULL: none */
    const char *alt_names;      /* NULL: none */
    X509 *issuer;               /* NULL: itself */
    const struct ec_key *key;
    const struct ec_key *issuer_key;
};

void ec_ca_free(struct ec_ca *ca)
{
    if (ca) {
        ec_key_free(ca->key);
        X509_free(ca->root);
        free(ca->root_pem);
        free(ca);
    }
}

void ec_ca_freep(struct ec_ca **ca)
{
    ec_ca_free(*ca);
}

static void x509_freep(X509 **cert)
{
    X509_free(*cert);
}

static void bio_freep(BIO **bio)
{
    BIO_free(*bio);
}

const char *ec_ca_root_pem(const struct ec_ca *ca)
{
    return ca->root_pem;
}

static bool label_valid(const char *label, size_t len)
{
    if (len < 1 || len > 63 || label[0] == '-' || label[len - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = label[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) {
            return false;
        }
    }
    return true;
}

bool ec_hostname_valid(const char *hostname)
{
    if (!hostname || strlen(hostname) > 253) {
        return false;
    }
    const char *at = strncmp(hostname, "*.", 2) == 0 ? hostname + 2 : hostname;
    for (;;) {
        size_t len = strcspn(at, ".");
        if (!label_valid(at, len)) {
            return false;
        }
        if (at[len] == '\0') {
            return true;
        }
        at += len + 1;
    }
}

static bool set_serial(X509 *cert)
{
    unsigned char bytes[SERIAL_BYTES];
    if (ec_failed(ec_random_bytes(bytes, sizeof(bytes)))) {
        return false;
    }
    bytes[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool good = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return good;
}

static bool set_names(X509 *cert, const struct draft *draft)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    const unsigned char *name = (const unsigned char *)draft->common_name;
    if (name[0] && X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, name, -1, -1, 0) != 1) {
        return false;
    }
    X509 *issuer = draft->issuer ? draft->issuer : cert;
    return X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1;
}

static bool add_extension(X509 *cert, X509 *issuer, const char *name, const char *value)
{
    if (!value) {
        return true;
    }
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_nconf(NULL, &ctx, name, value);
    bool good = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return good;
}

static bool add_extensions(X509 *cert, const struct draft *draft)
{
    X509 *issuer = draft->issuer ? draft->issuer : cert;
    return add_extension(cert, issuer, "basicConstraints", draft->basic_constraints) &&
           add_extension(cert, issuer, "keyUsage", draft->key_usage) &&
           add_extension(cert, issuer, "extendedKeyUsage", draft->extended_usage) &&
           add_extension(cert, issuer, "subjectAltName", draft->alt_names) &&
           add_extension(cert, issuer, "subjectKeyIdentifier", "hash") &&
           add_extension(cert, issuer, "authorityKeyIdentifier", "keyid:always");
}

/* Not past its issuer's end: the day after, every client would refuse it. */
static bool set_end(X509 *cert, const struct draft *draft)
{
    ASN1_TIME *end = X509_getm_notAfter(cert);
    if (X509_time_adj_ex(end, draft->days, -BACKDATE_S, NULL) == NULL) {
        return false;
    }
    const ASN1_TIME *most = draft->issuer ? X509_get0_notAfter(draft->issuer) : end;
    return ASN1_TIME_compare(end, most) <= 0 || X509_set1_notAfter(cert, most) == 1;
}

static struct ec_err make_cert(const struct draft *draft, X509 **ret_cert)
{
    ec_cleanup(x509_freep) X509 *cert = X509_new();
    bool good = cert && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
                X509_set_pubkey(cert, ec_key_native(draft->key)) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(cert), -BACKDATE_S) != NULL &&
                set_end(cert, draft) && set_names(cert, draft) && add_extensions(cert, draft) &&
                X509_sign(cert, ec_key_native(draft->issuer_key), EVP_sha256()) > 0;
    ERR_clear_error();
    if (!good) {
        return ec_fatal(0, "OpenSSL cannot make a certificate");
    }
    *ret_cert = EC_TAKE(cert);
    return ec_ok();
}

static struct ec_err cert_pem(X509 *cert, struct ec_buf *out)
{
    ec_cleanup(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
    if (!bio || PEM_write_bio_X509(bio, cert) != 1) {
        return ec_fatal(0, "OpenSSL cannot write a certificate");
    }
    char *ptr = NULL;
    long len = BIO_get_mem_data(bio, &ptr);
    ec_buf_add(out, ptr, (size_t)len);
    return ec_ok();
}

static X509 *read_cert(struct ec_span pem)
{
    if (pem.len > PEM_MAX_BYTES) {
        return NULL;
    }
    ec_cleanup(bio_freep) BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    ERR_clear_error();
    return cert;
}

/* ---- the root ---- */

static struct ec_err save_root(struct ec_arena *arena, const char *path, struct ec_span pem)
{
    int code = ec_file_replace(&(struct ec_file_spec){path, 0644, true, &pem, 1});
    return code ? ec_retry_in(arena, code, "cannot write %s", path) : ec_ok();
}

static struct ec_err make_root(struct ec_arena *arena, const char *path, struct ec_ca *ca)
{
    struct draft draft = {
        .common_name = ROOT_NAME,
        .days = ROOT_DAYS,
        .basic_constraints = "critical,CA:TRUE,pathlen:0",
        .key_usage = "critical,keyCertSign,cRLSign",
        .key = ca->key,
        .issuer_key = ca->key,
    };
    EC_TRY(make_cert(&draft, &ca->root));
    ec_cleanup(ec_buf_done) struct ec_buf pem;
    ec_buf_init(&pem, PEM_MAX_BYTES);
    EC_TRY(cert_pem(ca->root, &pem));
    ca->root_pem = ec_strndup(pem.ptr, pem.len);
    return save_root(arena, path, ec_buf_span(&pem));
}

static struct ec_err load_root(struct ec_arena *arena, const char *path, struct ec_ca *ca)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *file = NULL;
    EC_TRY(ec_secret_read(path, &file));
    struct ec_span pem = ec_secret_use(file);
    ca->root = read_cert(pem);
    if (!ca->root || X509_check_private_key(ca->root, ec_key_native(ca->key)) != 1) {
        ERR_clear_error();
        return ec_reject_in(arena,
                            "%s is not the certificate of the ca.key beside it: restore the pair, "
                            "or remove both to start a new authority",
                            path);
    }
    ca->root_pem = ec_format("%.*s\n", (int)pem.len, pem.ptr);
    return ec_ok();
}

bool ec_ca_aged(const struct ec_ca *ca)
{
    int days = 0, seconds = 0;
    bool known = ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(ca->root)) == 1;
    return !known || days < ROOT_RENEW_DAYS;
}

bool ec_ca_renewed(const struct ec_ca *ca)
{
    return ca->renewed;
}

static bool is_ours(X509 *root)
{
    char name[sizeof ROOT_NAME + 1] = "";
    X509_NAME *subject = X509_get_subject_name(root);
    X509_NAME_get_text_by_NID(subject, NID_commonName, name, sizeof name);
    return strcmp(name, ROOT_NAME) == 0 && X509_NAME_cmp(subject, X509_get_issuer_name(root)) == 0;
}

static struct ec_err renew_root(struct ec_arena *arena, const char *path, struct ec_ca *ca)
{
    X509_free(EC_TAKE(ca->root));
    free(EC_TAKE(ca->root_pem));
    ca->renewed = true;
    return make_root(arena, path, ca);
}

struct ec_err ec_ca_open(struct ec_arena *arena, const char *dir, struct ec_ca **ret_ca)
{
    ec_cleanup(ec_ca_freep) struct ec_ca *ca = ec_alloc(sizeof(*ca));
    bool created = false;
    EC_TRY(ec_key_open(arena, ec_arena_format(arena, "%s/ca.key", dir), &ca->key, &created));
    const char *path = ec_arena_format(arena, "%s/ca.crt", dir);
    if (access(path, F_OK) == 0) {
        EC_TRY(load_root(arena, path, ca));
        if (ec_ca_aged(ca) && is_ours(ca->root)) {
            EC_TRY(renew_root(arena, path, ca));
        }
    } else {
        EC_TRY(make_root(arena, path, ca));
    }
    *ret_ca = EC_TAKE(ca);
    return ec_ok();
}

/* ---- leaves ---- */

static int64_t time_unix_ms(const ASN1_TIME *when)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(when, &tm) == 1 ? (int64_t)timegm(&tm) * 1000 : 0;
}

static char *serial_hex(struct ec_arena *arena, const X509 *cert)
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = number ? BN_bn2hex(number) : NULL;
    char *copy = ec_arena_strdup(arena, hex ? hex : "");
    OPENSSL_free(hex);
    BN_free(number);
    for (char *at = copy; *at; at++) {
        *at = (char)(*at >= 'A' && *at <= 'F' ? *at + 'a' - 'A' : *at);
    }
    return copy;
}

static struct ec_err alt_names(struct ec_arena *arena, const char *const *hostnames, size_t count,
                               bool critical, char **ret_value)
{
    if (count < 1 || count > EC_CA_HOSTNAMES_MAX) {
        return ec_reject("a certificate needs between 1 and 100 host names");
    }
    char *value = critical ? ec_arena_strdup(arena, "critical") : NULL;
    for (size_t i = 0; i < count; i++) {
        if (!ec_hostname_valid(hostnames[i])) {
            return ec_reject_in(arena,
                                "\"%.100s\" is no host name (lower-case letters, digits, "
                                "'-' and '.')",
                                hostnames[i] ? hostnames[i] : "");
        }
        value = ec_arena_format(arena, "%s%sDNS:%s", value ? value : "", value ? "," : "",
                                hostnames[i]);
    }
    *ret_value = value;
    return ec_ok();
}

struct ec_err ec_ca_issue(struct ec_arena *arena, const struct ec_ca *ca,
                          const char *const *hostnames, size_t count, struct ec_issued *ret_issued)
{
    char *names = NULL;
    /* A common name holds 64 bytes at most; without one the names must be critical (RFC 5280). */
    bool fits = count > 0 && hostnames[0] && strlen(hostnames[0]) <= 64;
    EC_TRY(alt_names(arena, hostnames, count, !fits, &names));
    if (X509_cmp_current_time(X509_get0_notAfter(ca->root)) <= 0) {
        return ec_reject(
            "the certificate of the local CA has ended: put a new ca.crt in its place");
    }
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    EC_TRY(ec_key_new(&key));
    struct draft draft = {
        .common_name = fits ? hostnames[0] : "",
        .days = EC_CA_DAYS,
        .basic_constraints = "critical,CA:FALSE",
        .key_usage = "critical,digitalSignature",
        .extended_usage = "serverAuth",
        .alt_names = names,
        .issuer = ca->root,
        .key = key,
        .issuer_key = ca->key,
    };
    ec_cleanup(x509_freep) X509 *cert = NULL;
    EC_TRY(make_cert(&draft, &cert));
    ec_cleanup(ec_buf_done) struct ec_buf pem;
    ec_buf_init(&pem, PEM_MAX_BYTES);
    EC_TRY(cert_pem(cert, &pem));
    ec_buf_add_text(&pem, ca->root_pem);
    struct ec_secret *key_pem = NULL;
    EC_TRY(ec_key_private_pem(key, &key_pem));
    *ret_issued = (struct ec_issued){
        .cert_pem = ec_arena_text(arena, ec_buf_span(&pem)),
        .key_pem = key_pem,
        .serial_hex = serial_hex(arena, cert),
        .not_before_unix_ms = time_unix_ms(X509_get0_notBefore(cert)),
        .not_after_unix_ms = time_unix_ms(X509_get0_notAfter(cert)),
    };
    return ec_ok();
}

/* ---- reading certificates ---- */

struct ec_err ec_cert_read(struct ec_arena *arena, struct ec_span pem,
                           struct ec_cert_info *ret_info)
{
    ec_cleanup(x509_freep) X509 *cert = read_cert(pem);
    if (!cert) {
        return ec_reject("this is no PEM certificate");
    }
    char issuer[256] = "";
    X509_NAME_get_text_by_NID(X509_get_issuer_name(cert), NID_commonName, issuer, sizeof(issuer));
    *ret_info = (struct ec_cert_info){
        .not_before_unix_ms = time_unix_ms(X509_get0_notBefore(cert)),
        .not_after_unix_ms = time_unix_ms(X509_get0_notAfter(cert)),
        .serial_hex = serial_hex(arena, cert),
        .issuer = ec_arena_strdup(arena, issuer),
    };
    return ec_ok();
}

bool ec_cert_covers(struct ec_span pem, const char *hostname)
{
    ec_cleanup(x509_freep) X509 *cert = read_cert(pem);
    return cert &&
           X509_check_host(cert, hostname, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
}

bool ec_cert_issued_by(const struct ec_ca *ca, struct ec_span pem)
{
    ec_cleanup(x509_freep) X509 *cert = read_cert(pem);
    bool good = cert && X509_verify(cert, ec_key_native(ca->key)) == 1;
    ERR_clear_error();
    return good;
}
