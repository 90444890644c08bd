/* Image references, challenges, token URLs and upload locations: good ones, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/address.h"
#include "oci/auth.h"
#include "oci/registry.h"

#define DIGEST "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static int setup(void **state)
{
    *state = ec_arena_new(1 << 20);
    return 0;
}

static int teardown(void **state)
{
    ec_arena_free(*state);
    return 0;
}

static void references_are_taken_apart(void **state)
{
    const struct {
        const char *text, *host, *repo, *tag, *digest;
    } cases[] = {
        {"127.0.0.1:5000/acme/shop", "127.0.0.1:5000", "acme/shop", "", ""},
        {"127.0.0.1:5000/acme/shop:v1", "127.0.0.1:5000", "acme/shop", "v1", ""},
        {"reg.example.com/a@" DIGEST, "reg.example.com", "a", "", DIGEST},
        {"localhost/a__b/c-d.e:V_1@" DIGEST, "localhost", "a__b/c-d.e", "V_1", DIGEST},
        {"[::1]:5000/a/b", "[::1]:5000", "a/b", "", ""},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        struct ec_ref ref;
        assert_int_equal(ec_ref_parse(*state, cases[i].text, &ref).fate, EC_FATE_OK);
        assert_string_equal(ref.host, cases[i].host);
        assert_string_equal(ref.repo, cases[i].repo);
        assert_string_equal(ref.tag, cases[i].tag);
        assert_string_equal(ref.digest, cases[i].digest);
        assert_string_equal(ec_ref_text(*state, &ref), cases[i].text);
    }
}

static void other_references_are_refused(void **state)
{
    const char *bad[] = {"",
                         "shop",
                         "shop:v1",
                         "acme/shop",
                         "127.0.0.1:5000/",
                         "a.b/Shop",
                         "a.b/shop/",
                         "a.b//shop",
                         "a.b/-shop",
                         "a.b/sh..op",
                         "a.b/sh___op",
                         "a.b/shop:",
                         "a.b/shop:-x",
                         "a.b/shop@sha256:12",
                         "a.b/shop@",
                         "a.b/../x",
                         "a.b/sh op",
                         "a b.c/shop",
                         "a.b/shop?x",
                         "ev il.b/shop"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        struct ec_ref ref;
        struct ec_err err = ec_ref_parse(*state, bad[i], &ref);
        if (err.fate != EC_FATE_REJECT) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

static void loopback_is_what_cannot_be_elsewhere(void **state)
{
    (void)state;
    assert_true(ec_host_loopback("127.0.0.1:5000"));
    assert_true(ec_host_loopback("localhost:5000"));
    assert_true(ec_host_loopback("[::1]:5000"));
    assert_false(ec_host_loopback("127.evil.example:5000"));
    assert_false(ec_host_loopback("localhost.evil.example"));
    assert_false(ec_host_loopback("10.0.0.1:5000"));
    assert_false(ec_host_loopback("[::2]"));
}

static void challenges_are_tokenised(void **state)
{
    struct ec_challenge ch;
    assert_true(ec_challenge_parse(*state,
                                   "Bearer realm=\"https://auth/token\",service=\"reg\","
                                   "scope=\"repository:team/app:pull,push\"",
                                   &ch));
    assert_true(ch.bearer);
    assert_string_equal(ch.realm, "https://auth/token");
    assert_string_equal(ch.service, "reg");
    assert_string_equal(ch.scope, "repository:team/app:pull,push");
    assert_true(ec_challenge_parse(*state, "Negotiate, basic REALM = \"a \\\"b\\\", c\"", &ch));
    assert_false(ch.bearer);
    assert_string_equal(ch.realm, "a \"b\", c");
    assert_true(ec_challenge_parse(*state, "Basic realm=x, BEARER realm=\"r\", error=\"e\"", &ch));
    assert_true(ch.bearer);
    assert_string_equal(ch.realm, "r");
    assert_string_equal(ch.error, "e");
}

static void other_challenges_are_none(void **state)
{
    const char *bad[] = {"",
                         ",,",
                         "Bearer",
                         "Bearer realm=",
                         "Bearer realm=\"x",
                         "Digest realm=\"x\"",
                         "\"Basic\"",
                         "Bearer service=\"x\""};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        struct ec_challenge ch;
        assert_false(ec_challenge_parse(*state, bad[i], &ch));
    }
}

static void token_urls_are_encoded(void **state)
{
    struct ec_challenge ch = {true, "https://auth/token", "my reg", "", ""};
    assert_string_equal(
        ec_token_url(*state, &ch, "repository:a/b:pull,push"),
        "https://auth/token?scope=repository%3Aa%2Fb%3Apull%2Cpush&service=my%20reg");
    ch.realm = "https://auth/token?x=1";
    ch.service = "";
    assert_string_equal(ec_token_url(*state, &ch, "s"), "https://auth/token?x=1&scope=s");
}

static void upload_locations_get_the_digest(void **state)
{
    char *url = NULL;
    assert_int_equal(ec_upload_url(*state, "/v2/a/blobs/uploads/1", DIGEST, &url).fate, EC_FATE_OK);
    assert_string_equal(url, "/v2/a/blobs/uploads/1?digest=sha256%3A"
                             "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    assert_int_equal(ec_upload_url(*state, "http://h/u?_state=x", "d", &url).fate, EC_FATE_OK);
    assert_string_equal(url, "http://h/u?_state=x&digest=d");
    assert_int_equal(ec_upload_url(*state, "ftp://h/u", "d", &url).fate, EC_FATE_REJECT);
    assert_int_equal(ec_upload_url(*state, "uploads/1", "d", &url).fate, EC_FATE_REJECT);
}

static struct ec_err read_config(void **state, const char *text, struct ec_docker_config **ret)
{
    char path[] = "/tmp/enclii-docker-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    struct ec_err err = ec_docker_config_read(*state, path, ret);
    unlink(path);
    return err;
}

static void docker_config_gives_passwords(void **state)
{
    struct ec_docker_config *config = NULL;
    const char *text = "{\"auths\":{\"127.0.0.1:5000\":{\"auth\":\"dXNlcjpzZWNyZXQ=\"},"
                       "\"https://reg.example.com\":{\"auth\":\"YTpi\"},\"helper.example\":{}}}";
    assert_int_equal(read_config(state, text, &config).fate, EC_FATE_OK);
    assert_true(
        ec_span_is(ec_secret_use(ec_docker_config_find(config, "127.0.0.1:5000")), "user:secret"));
    assert_true(ec_span_is(ec_secret_use(ec_docker_config_find(config, "reg.example.com")), "a:b"));
    assert_null(ec_docker_config_find(config, "helper.example"));
    assert_null(ec_docker_config_find(config, "other.example"));
    ec_docker_config_free(config);
    assert_int_equal(ec_docker_config_read(*state, "/nowhere/config.json", &config).fate,
                     EC_FATE_OK);
    ec_docker_config_free(config);
    config = NULL;
    assert_int_equal(
        read_config(state, "{\"auths\":{\"h\":{\"auth\":\"bm9jb2xvbg==\"}}}", &config).fate,
        EC_FATE_REJECT);
    assert_int_equal(read_config(state, "{", &config).fate, EC_FATE_REJECT);
    assert_null(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(references_are_taken_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(other_references_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(loopback_is_what_cannot_be_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(challenges_are_tokenised, setup, teardown),
        cmocka_unit_test_setup_teardown(other_challenges_are_none, setup, teardown),
        cmocka_unit_test_setup_teardown(token_urls_are_encoded, setup, teardown),
        cmocka_unit_test_setup_teardown(upload_locations_get_the_digest, setup, teardown),
        cmocka_unit_test_setup_teardown(docker_config_gives_passwords, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
