/* Bundles: made, verified, and refused for each single fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "trust/bundle.h"

#define HEX "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define OTHER "55136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

struct fixture {
    struct ec_arena *arena;
    struct ec_key *key;
    char *bundle;
};

static int setup(void **state)
{
    struct fixture *fx = ec_alloc(sizeof(*fx));
    fx->arena = ec_arena_new(64 << 20);
    assert_int_equal(ec_key_new(&fx->key).fate, EC_FATE_OK);
    char *text = NULL;
    assert_int_equal(ec_statement_signature(fx->arena, "sha256:" HEX, &text).fate, EC_FATE_OK);
    assert_int_equal(ec_bundle_make(fx->arena, fx->key, ec_span_of(text), &fx->bundle).fate,
                     EC_FATE_OK);
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;
    ec_key_free(fx->key);
    ec_arena_free(fx->arena);
    free(fx);
    return 0;
}

static enum ec_fate verify(struct fixture *fx, const char *text, const char *digest)
{
    struct ec_statement statement = {0};
    struct ec_err err =
        ec_bundle_verify(fx->arena, ec_keyring_of(fx->key), ec_span_of(text), digest, &statement);
    json_decref(statement.root);
    return err.fate;
}

static void a_bundle_verifies(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(verify(fx, fx->bundle, "sha256:" HEX), EC_FATE_OK);
    assert_int_equal(verify(fx, fx->bundle, "sha256:" OTHER), EC_FATE_REJECT);
}

static void another_key_does_not_verify_it(void **state)
{
    struct fixture *fx = *state;
    ec_cleanup(ec_key_freep) struct ec_key *other = NULL;
    assert_int_equal(ec_key_new(&other).fate, EC_FATE_OK);
    struct ec_statement statement = {0};
    struct ec_err err = ec_bundle_verify(fx->arena, ec_keyring_of(other), ec_span_of(fx->bundle),
                                         "sha256:" HEX, &statement);
    assert_int_equal(err.fate, EC_FATE_REJECT);
    assert_null(statement.root);
}

/* A change of any byte either breaks the check or changes nothing that counts (the hint). */
static void no_changed_byte_of_payload_or_signature_passes(void **state)
{
    struct fixture *fx = *state;
    size_t from = (size_t)(strstr(fx->bundle, "\"payload\":\"") - fx->bundle) + 11;
    size_t to = strlen(fx->bundle) - 6;
    for (size_t i = from; i < to; i += 3) {
        char *copy = ec_arena_strdup(fx->arena, fx->bundle);
        copy[i] = copy[i] == 'A' ? 'B' : 'A';
        assert_int_equal(verify(fx, copy, "sha256:" HEX), EC_FATE_REJECT);
    }
}

static char *replaced(struct fixture *fx, const char *from, const char *to)
{
    char *at = strstr(fx->bundle, from);
    assert_non_null(at);
    return ec_arena_format(fx->arena, "%.*s%s%s", (int)(at - fx->bundle), fx->bundle, to,
                           at + strlen(from));
}

static void other_forms_are_refused(void **state)
{
    struct fixture *fx = *state;
    const char *bad[] = {
        "",
        "{}",
        "[]",
        "null",
        replaced(fx, "v0.3", "v0.1"),
        replaced(fx, "dsseEnvelope", "messageSignature"),
        replaced(fx, "publicKey", "certificate"),
        replaced(fx, "vnd.in-toto+json", "vnd.other+json"),
        replaced(fx, "\"signatures\":[", "\"signatures\":[{\"sig\":\"YQ==\"},"),
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_int_equal(verify(fx, bad[i], "sha256:" HEX), EC_FATE_REJECT);
    }
}

static void a_signed_text_that_is_no_statement_is_refused(void **state)
{
    struct fixture *fx = *state;
    char *bundle = NULL;
    assert_int_equal(ec_bundle_make(fx->arena, fx->key, EC_SPAN("{\"a\":1}"), &bundle).fate,
                     EC_FATE_OK);
    assert_int_equal(verify(fx, bundle, "sha256:" HEX), EC_FATE_REJECT);
}

static void limits_hold(void **state)
{
    struct fixture *fx = *state;
    struct ec_span big = {ec_arena_alloc(fx->arena, EC_BUNDLE_MAX_BYTES + 1),
                          EC_BUNDLE_MAX_BYTES + 1};
    char *bundle = NULL;
    struct ec_statement statement;
    assert_int_equal(ec_bundle_make(fx->arena, fx->key, big, &bundle).fate, EC_FATE_REJECT);
    assert_int_equal(
        ec_bundle_verify(fx->arena, ec_keyring_of(fx->key), big, "sha256:" HEX, &statement).fate,
        EC_FATE_REJECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_bundle_verifies, setup, teardown),
        cmocka_unit_test_setup_teardown(another_key_does_not_verify_it, setup, teardown),
        cmocka_unit_test_setup_teardown(no_changed_byte_of_payload_or_signature_passes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(other_forms_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signed_text_that_is_no_statement_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(limits_hold, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
