/* DSSE: the specification's own PAE example, signing, and envelopes that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "trust/dsse.h"

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

static void pae_is_the_specifications(void **state)
{
    struct ec_span pae =
        ec_dsse_pae(*state, "http://example.com/HelloWorld", EC_SPAN("hello world"));
    assert_true(ec_span_is(pae, "DSSEv1 29 http://example.com/HelloWorld 11 hello world"));
    assert_true(ec_span_is(ec_dsse_pae(*state, "", EC_SPAN("")), "DSSEv1 0  0 "));
}

static void only_the_signed_bytes_of_the_signed_type_verify(void **state)
{
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    ec_cleanup(ec_key_freep) struct ec_key *other = NULL;
    assert_int_equal(ec_key_new(&key).fate, EC_FATE_OK);
    assert_int_equal(ec_key_new(&other).fate, EC_FATE_OK);
    ec_cleanup(ec_json_freep) json_t *envelope = NULL;
    assert_int_equal(ec_dsse_sign(*state, key, "text/plain", EC_SPAN("body"), &envelope).fate,
                     EC_FATE_OK);
    struct ec_dsse dsse;
    assert_int_equal(ec_dsse_read(*state, envelope, &dsse).fate, EC_FATE_OK);
    assert_true(ec_span_is(dsse.payload, "body"));
    assert_ptr_equal(ec_dsse_verify(*state, ec_keyring_of(key), &dsse), key);
    assert_null(ec_dsse_verify(*state, ec_keyring_of(other), &dsse));
    struct ec_dsse changed = dsse;
    changed.payload = EC_SPAN("bodz");
    assert_null(ec_dsse_verify(*state, ec_keyring_of(key), &changed));
    changed = dsse;
    changed.payload_type = "text/html";
    assert_null(ec_dsse_verify(*state, ec_keyring_of(key), &changed));
}

static void malformed_envelopes_are_refused(void **state)
{
    static const char two_signatures[] = "{\"payload\":\"YQ==\",\"payloadType\":\"t\","
                                         "\"signatures\":[{\"sig\":\"YQ\"},{\"sig\":\"YQ\"}]}";
    const char *bad[] = {
        "{}",
        "[]",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[]}",
        two_signatures,
        "{\"payload\":\"?\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"\",\"signatures\":[{\"sig\":\"YQ==\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":7,\"signatures\":[{\"sig\":\"YQ==\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"\"}]}",
        "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[\"YQ==\"]}",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        ec_cleanup(ec_json_freep) json_t *envelope = NULL;
        assert_int_equal(ec_json_parse(*state, ec_span_of(bad[i]), &envelope).fate, EC_FATE_OK);
        struct ec_dsse dsse;
        assert_int_equal(ec_dsse_read(*state, envelope, &dsse).fate, EC_FATE_REJECT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pae_is_the_specifications, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_signed_bytes_of_the_signed_type_verify, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(malformed_envelopes_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
