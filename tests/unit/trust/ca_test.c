/* The local authority: its certificates verify by OpenSSL's own chain check, and nothing else does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "base/mem.h"
#include "trust/ca.h"

struct fixture {
    struct ec_arena *arena;
    struct ec_ca *ca;
    char dir[32];
};

static int setup(void **state)
{
    struct fixture *fx = ec_alloc(sizeof(*fx));
    fx->arena = ec_arena_new(4 << 20);
    strcpy(fx->dir, "/tmp/enclii-ca-XXXXXX");
    assert_non_null(mkdtemp(fx->dir));
    assert_int_equal(ec_ca_open(fx->arena, fx->dir, &fx->ca).fate, EC_FATE_OK);
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;
    ec_ca_free(fx->ca);
    unlink(ec_arena_format(fx->arena, "%s/ca.key", fx->dir));
    unlink(ec_arena_format(fx->arena, "%s/ca.key.pub", fx->dir));
    unlink(ec_arena_format(fx->arena, "%s/ca.crt", fx->dir));
    assert_int_equal(rmdir(fx->dir), 0);
    ec_arena_free(fx->arena);
    free(fx);
    return 0;
}

static X509 *read_pem(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(cert);
    return cert;
}

/* The result of a TLS client's check of a leaf under a root for a host name. */
static int chain_error(const char *root_pem, const char *leaf_pem, const char *hostname)
{
    X509 *root = read_pem(root_pem);
    X509 *leaf = read_pem(leaf_pem);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, root);
    X509_STORE_CTX_init(ctx, store, leaf, NULL);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set1_host(param, hostname, 0);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
    int code = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(root);
    X509_free(leaf);
    return code;
}

static void an_issued_certificate_is_accepted_by_a_client(void **state)
{
    struct fixture *fx = *state;
    const char *names[] = {"shop.example.test", "*.shop.example.test"};
    struct ec_issued issued;
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, names, 2, &issued).fate, EC_FATE_OK);
    ec_cleanup(ec_secret_freep) struct ec_secret *key = issued.key_pem;
    assert_true(ec_span_starts(ec_secret_use(key), "-----BEGIN PRIVATE KEY-----"));
    const char *root = ec_ca_root_pem(fx->ca);
    assert_int_equal(chain_error(root, issued.cert_pem, "shop.example.test"), X509_V_OK);
    assert_int_equal(chain_error(root, issued.cert_pem, "a.shop.example.test"), X509_V_OK);
    assert_int_equal(chain_error(root, issued.cert_pem, "other.example.test"),
                     X509_V_ERR_HOSTNAME_MISMATCH);
    struct ec_span pem = ec_span_of(issued.cert_pem);
    assert_true(ec_cert_covers(pem, "shop.example.test"));
    assert_false(ec_cert_covers(pem, "example.test"));
    assert_true(ec_cert_issued_by(fx->ca, pem));
    struct ec_cert_info info;
    assert_int_equal(ec_cert_read(fx->arena, pem, &info).fate, EC_FATE_OK);
    assert_string_equal(info.serial_hex, issued.serial_hex);
    assert_int_equal(info.not_after_unix_ms - info.not_before_unix_ms, 90LL * 86400 * 1000);
    int64_t now = ec_unix_ms();
    assert_true(info.not_before_unix_ms < now && now < info.not_after_unix_ms);
}

static void serials_differ_and_are_positive(void **state)
{
    struct fixture *fx = *state;
    const char *names[] = {"a.test"};
    struct ec_issued one, two;
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, names, 1, &one).fate, EC_FATE_OK);
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, names, 1, &two).fate, EC_FATE_OK);
    ec_secret_free(one.key_pem);
    ec_secret_free(two.key_pem);
    assert_string_not_equal(one.serial_hex, two.serial_hex);
    assert_true(one.serial_hex[0] != '-');
}

static void a_long_name_goes_without_common_name(void **state)
{
    struct fixture *fx = *state;
    const char *names[] = {
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.test"};
    assert_true(strlen(names[0]) > 64);
    struct ec_issued issued;
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, names, 1, &issued).fate, EC_FATE_OK);
    ec_secret_free(issued.key_pem);
    assert_int_equal(chain_error(ec_ca_root_pem(fx->ca), issued.cert_pem, names[0]), X509_V_OK);
}

static void what_is_no_host_name_is_refused(void **state)
{
    struct fixture *fx = *state;
    const char *bad[] = {"",       "a..b",   ".a",      "a.",         "A.test", "a_b.test",
                         "-a.com", "a-.com", "a,DNS:b", "*.*.a.test", "a b",    "a\nb"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        struct ec_issued issued;
        assert_int_equal(ec_ca_issue(fx->arena, fx->ca, &bad[i], 1, &issued).fate, EC_FATE_REJECT);
    }
    struct ec_issued none;
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, bad, 0, &none).fate, EC_FATE_REJECT);
}

static void the_authority_survives_a_restart(void **state)
{
    struct fixture *fx = *state;
    const char *names[] = {"a.test"};
    struct ec_issued issued;
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, names, 1, &issued).fate, EC_FATE_OK);
    ec_secret_free(issued.key_pem);
    ec_cleanup(ec_ca_freep) struct ec_ca *again = NULL;
    assert_int_equal(ec_ca_open(fx->arena, fx->dir, &again).fate, EC_FATE_OK);
    assert_string_equal(ec_ca_root_pem(again), ec_ca_root_pem(fx->ca));
    assert_true(ec_cert_issued_by(again, ec_span_of(issued.cert_pem)));
}

static void another_authority_of_the_same_name_is_not_ours(void **state)
{
    struct fixture *fx = *state;
    const char *key = ec_arena_format(fx->arena, "%s/ca.key", fx->dir);
    const char *names[] = {"a.test"};
    struct ec_issued issued;
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, names, 1, &issued).fate, EC_FATE_OK);
    ec_secret_free(issued.key_pem);
    unlink(key);
    struct ec_ca *mixed = NULL;
    struct ec_err err = ec_ca_open(fx->arena, fx->dir, &mixed);
    assert_int_equal(err.fate, EC_FATE_REJECT); /* new key, old certificate */
    assert_null(mixed);
    unlink(ec_arena_format(fx->arena, "%s/ca.crt", fx->dir));
    ec_cleanup(ec_ca_freep) struct ec_ca *other = NULL;
    assert_int_equal(ec_ca_open(fx->arena, fx->dir, &other).fate, EC_FATE_OK);
    assert_false(ec_cert_issued_by(other, ec_span_of(issued.cert_pem)));
    assert_int_not_equal(chain_error(ec_ca_root_pem(other), issued.cert_pem, "a.test"), X509_V_OK);
}

/* The root in the folder, as if it had been made long ago: `days` are left of it. */
static void age_root(struct fixture *fx, int days, const char *common_name)
{
    const char *path = ec_arena_format(fx->arena, "%s/ca.crt", fx->dir);
    FILE *file = fopen(ec_arena_format(fx->arena, "%s/ca.key", fx->dir), "re");
    assert_non_null(file);
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    assert_non_null(key);
    fclose(file);
    X509 *root = read_pem(ec_ca_root_pem(fx->ca));
    X509_NAME *name = X509_NAME_new();
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1,
                               -1, 0);
    X509_set_subject_name(root, name);
    X509_set_issuer_name(root, name);
    X509_NAME_free(name);
    X509_time_adj_ex(X509_getm_notAfter(root), days, 0, NULL);
    assert_true(X509_sign(root, key, EVP_sha256()) > 0);
    file = fopen(path, "we");
    assert_int_equal(PEM_write_X509(file, root), 1);
    fclose(file);
    X509_free(root);
    EVP_PKEY_free(key);
    ec_ca_free(EC_TAKE(fx->ca));
    assert_int_equal(ec_ca_open(fx->arena, fx->dir, &fx->ca).fate, EC_FATE_OK);
}

static int64_t issue_until(struct fixture *fx, struct ec_issued *ret_issued)
{
    const char *names[] = {"a.test"};
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, names, 1, ret_issued).fate, EC_FATE_OK);
    ec_secret_free(ret_issued->key_pem);
    return ret_issued->not_after_unix_ms;
}

static int64_t root_until(struct fixture *fx)
{
    struct ec_cert_info info;
    struct ec_span pem = ec_span_of(ec_ca_root_pem(fx->ca));
    assert_int_equal(ec_cert_read(fx->arena, pem, &info).fate, EC_FATE_OK);
    return info.not_after_unix_ms;
}

static void the_root_is_made_anew_in_its_last_year(void **state)
{
    struct fixture *fx = *state;
    struct ec_issued before, after;
    issue_until(fx, &before);
    const char *first_root = ec_arena_strdup(fx->arena, ec_ca_root_pem(fx->ca));
    age_root(fx, 400, "Enclii local CA");
    assert_false(ec_ca_renewed(fx->ca));
    age_root(fx, 200, "Enclii local CA");
    assert_true(ec_ca_renewed(fx->ca));
    assert_false(ec_ca_aged(fx->ca));
    assert_true(root_until(fx) > ec_unix_ms() + 3000LL * 86400000);
    issue_until(fx, &after);
    /* Whoever trusts either root accepts both certificates. */
    assert_true(ec_cert_issued_by(fx->ca, ec_span_of(before.cert_pem)));
    assert_int_equal(chain_error(ec_ca_root_pem(fx->ca), before.cert_pem, "a.test"), X509_V_OK);
    assert_int_equal(chain_error(first_root, after.cert_pem, "a.test"), X509_V_OK);
}

static void nothing_outlives_somebody_elses_root(void **state)
{
    struct fixture *fx = *state;
    struct ec_issued issued;
    const char *names[] = {"a.test"};
    age_root(fx, 30, "Acme root");
    assert_false(ec_ca_renewed(fx->ca)); /* it is theirs to renew */
    assert_true(ec_ca_aged(fx->ca));
    assert_int_equal(issue_until(fx, &issued), root_until(fx));
    age_root(fx, -1, "Acme root");
    assert_int_equal(ec_ca_issue(fx->arena, fx->ca, names, 1, &issued).fate, EC_FATE_REJECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_issued_certificate_is_accepted_by_a_client, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(serials_differ_and_are_positive, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_name_goes_without_common_name, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_host_name_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_root_is_made_anew_in_its_last_year, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_outlives_somebody_elses_root, setup, teardown),
        cmocka_unit_test_setup_teardown(the_authority_survives_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(another_authority_of_the_same_name_is_not_ours, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
