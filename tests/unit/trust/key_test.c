/* Keys: a signature made by the openssl program verifies; files have their mode and their public
 * half. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/mem.h"
#include "trust/key.h"

/* openssl ecparam -name prime256v1 -genkey; openssl dgst -sha256 -sign over "hello" */
#define PUBLIC_PEM                                                                                 \
    "-----BEGIN PUBLIC KEY-----\n"                                                                 \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYo28VSbyFEoOmhsTTApt+7cYAQYl\n"                           \
    "s+TaKMeiHtQdU3kNG9J4hJo15Lts8XzDXepXZ3qgo1TOUb+sGJtk4e0jyQ==\n"                               \
    "-----END PUBLIC KEY-----\n"
#define PUBLIC_HINT "Esyg55IvsJUFh9f7ii1JTPkGPP1g4WrPHpKsVeLl7u8="
#define HELLO_SIGNATURE                                                                            \
    "MEUCIHmV1MVq1qjMVsoOWjtxyWLQfwrJAHa0FGrDwdAl/dDUAiEAs93R8qcM8ZdTq+2hQsAmW4IiMaQvURjVF9CJpKw"  \
    "lDEk="
#define P384_PEM                                                                                   \
    "-----BEGIN PUBLIC KEY-----\n"                                                                 \
    "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE9MZm7yCp3XoCJRoIXQuM/mW05VH3ZFQ8\n"                           \
    "74T+jqY7nss5naiPwb0IbyTJK+gQfZ3CeP/iX924WNd81lekRUAsaxPZiV97/6db\n"                           \
    "7nboezHgRE1ATsWWpXgBNpLMWZq7t2rf\n"                                                           \
    "-----END PUBLIC KEY-----\n"

static int setup(void **state)
{
    *state = ec_arena_new(4 << 20);
    return 0;
}

static int teardown(void **state)
{
    ec_arena_free(*state);
    return 0;
}

static void a_strangers_signature_verifies(void **state)
{
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    assert_int_equal(ec_key_from_pem(EC_SPAN(PUBLIC_PEM), &key).fate, EC_FATE_OK);
    assert_false(ec_key_is_private(key));
    assert_string_equal(ec_key_hint(key), PUBLIC_HINT);
    assert_string_equal(ec_key_public_pem(key), PUBLIC_PEM);
    struct ec_span signature = {0};
    assert_true(ec_unbase64(*state, EC_SPAN(HELLO_SIGNATURE), &signature));
    assert_true(ec_key_verify(key, EC_SPAN("hello"), signature));
    assert_false(ec_key_verify(key, EC_SPAN("hellp"), signature));
    assert_false(ec_key_verify(key, EC_SPAN("hello"), EC_SPAN("")));
    struct ec_span cut = {signature.ptr, signature.len - 1};
    assert_false(ec_key_verify(key, EC_SPAN("hello"), cut));
    struct ec_span made;
    assert_int_equal(ec_key_sign(*state, key, EC_SPAN("x"), &made).fate, EC_FATE_FATAL);
}

static void what_is_no_p256_key_is_refused(void **state)
{
    (void)state;
    struct ec_key *key = NULL;
    const struct ec_span bad[] = {
        EC_SPAN(""), EC_SPAN("hello"), EC_SPAN(P384_PEM),
        EC_SPAN("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
        EC_SPAN("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_int_equal(ec_key_from_pem(bad[i], &key).fate, EC_FATE_REJECT);
        assert_null(key);
    }
}

static void a_key_file_is_made_once_and_stays(void **state)
{
    char dir[] = "/tmp/enclii-key-XXXXXX";
    assert_non_null(mkdtemp(dir));
    const char *path = ec_arena_format(*state, "%s/signing.key", dir);
    const char *public_path = ec_arena_format(*state, "%s.pub", path);
    ec_cleanup(ec_key_freep) struct ec_key *first = NULL;
    ec_cleanup(ec_key_freep) struct ec_key *again = NULL;
    bool created = false;
    assert_int_equal(ec_key_open(*state, path, &first, &created).fate, EC_FATE_OK);
    assert_true(created);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    unlink(public_path);
    assert_int_equal(ec_key_open(*state, path, &again, &created).fate, EC_FATE_OK);
    assert_false(created);
    assert_int_equal(access(public_path, R_OK), 0);
    struct ec_span signature;
    assert_int_equal(ec_key_sign(*state, first, EC_SPAN("x"), &signature).fate, EC_FATE_OK);
    assert_true(ec_key_verify(again, EC_SPAN("x"), signature));
    unlink(path);
    unlink(public_path);
    assert_int_equal(rmdir(dir), 0); /* no temporary file was left */
}

static void a_broken_key_file_is_named(void **state)
{
    char path[] = "/tmp/enclii-key-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "garbage", 7), 7);
    close(fd);
    struct ec_key *key = NULL;
    bool created = false;
    struct ec_err err = ec_key_open(*state, path, &key, &created);
    assert_int_equal(err.fate, EC_FATE_REJECT);
    assert_non_null(strstr(err.what, path));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_strangers_signature_verifies, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_p256_key_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_file_is_made_once_and_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_key_file_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
