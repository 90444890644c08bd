/* SHA-256 and HMAC against published vectors; refusals of malformed digests and signatures. */
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
#include "trust/digest.h"

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

static void sha256_matches_published_digests(void **state)
{
    assert_string_equal(ec_sha256_digest(*state, EC_SPAN("{}")),
                        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    assert_string_equal(ec_sha256_hex(*state, EC_SPAN("")),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void a_file_has_the_digest_of_its_bytes(void **state)
{
    char path[] = "/tmp/enclii-digest-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{}", 2), 2);
    close(fd);
    char *hex = NULL;
    int64_t bytes = 0;
    assert_int_equal(ec_sha256_file(*state, path, &hex, &bytes).fate, EC_FATE_OK);
    assert_string_equal(hex, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    assert_int_equal(bytes, 2);
    unlink(path);
    assert_int_equal(ec_sha256_file(*state, path, &hex, &bytes).fate, EC_FATE_RETRY);
}

static void digests_of_another_form_are_refused(void **state)
{
    (void)state;
    const char *good = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_true(ec_digest_valid(good));
    assert_false(ec_digest_valid(NULL));
    assert_false(ec_digest_valid(""));
    assert_false(ec_digest_valid(good + 7));
    assert_false(ec_digest_valid("sha256:44136fa355b3678a"));
    assert_false(
        ec_digest_valid("sha256:44136FA355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"));
    assert_false(ec_digest_valid(
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a0"));
}

static void hmac_is_githubs(void **state)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *key =
        ec_secret_new(EC_SPAN("It's a Secret to Everybody"));
    struct ec_span body = EC_SPAN("Hello, World!");
    struct ec_span mac =
        EC_SPAN("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    assert_string_equal(ec_hmac_sha256_hex(*state, key, body), mac.ptr);
    assert_true(ec_hmac_sha256_check(key, body, mac));
    assert_false(ec_hmac_sha256_check(key, EC_SPAN("Hello, World?"), mac));
    assert_false(ec_hmac_sha256_check(key, body, (struct ec_span){mac.ptr, 63}));
    assert_false(ec_hmac_sha256_check(key, body, EC_SPAN("")));
    struct ec_span bad =
        EC_SPAN("x57107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    assert_false(ec_hmac_sha256_check(key, body, bad));
}

static void an_empty_key_is_a_key(void **state)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *key = ec_secret_new(EC_SPAN(""));
    assert_string_equal(ec_hmac_sha256_hex(*state, key, EC_SPAN("")),
                        "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sha256_matches_published_digests, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_has_the_digest_of_its_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(digests_of_another_form_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(hmac_is_githubs, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_key_is_a_key, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
