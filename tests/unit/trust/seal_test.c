/* Envelopes: what goes in comes out, and no changed byte, other key or other place opens one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "trust/seal.h"

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "100102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

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

static struct ec_span seal(struct ec_arena *arena, const char *key_hex, const char *context,
                           struct ec_span clear)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *key = ec_secret_new(ec_span_of(key_hex));
    struct ec_span sealed = {0};
    assert_int_equal(ec_seal(arena, key, context, clear, &sealed).fate, EC_FATE_OK);
    return sealed;
}

static struct ec_err unseal(const char *key_hex, const char *context, struct ec_span sealed,
                            struct ec_secret **ret_secret)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *key = ec_secret_new(ec_span_of(key_hex));
    return ec_unseal(key, context, sealed, ret_secret);
}

static void what_was_sealed_comes_out(void **state)
{
    const struct ec_span clears[] = {EC_SPAN(""), EC_SPAN("x"), EC_SPAN("a secret\0with a NUL")};
    for (size_t i = 0; i < EC_LEN(clears); i++) {
        struct ec_span sealed = seal(*state, KEY_A, "channel/1", clears[i]);
        assert_null(clears[i].len > 1 ? memmem(sealed.ptr, sealed.len, clears[i].ptr, clears[i].len)
                                      : NULL);
        ec_cleanup(ec_secret_freep) struct ec_secret *secret = NULL;
        assert_int_equal(unseal(KEY_A, "channel/1", sealed, &secret).fate, EC_FATE_OK);
        assert_true(ec_span_eq(ec_secret_use(secret), clears[i]));
    }
}

static void every_envelope_is_another_one(void **state)
{
    struct ec_span a = seal(*state, KEY_A, "c", EC_SPAN("same"));
    struct ec_span b = seal(*state, KEY_A, "c", EC_SPAN("same"));
    assert_false(ec_span_eq(a, b));
}

static void another_place_or_key_does_not_open_it(void **state)
{
    struct ec_span sealed = seal(*state, KEY_A, "channel/1", EC_SPAN("secret"));
    struct ec_secret *secret = NULL;
    assert_int_equal(unseal(KEY_A, "channel/2", sealed, &secret).fate, EC_FATE_REJECT);
    struct ec_err err = unseal(KEY_B, "channel/1", sealed, &secret);
    assert_int_equal(err.fate, EC_FATE_REJECT);
    assert_non_null(strstr(err.what, "another key"));
    assert_null(secret);
}

static void no_changed_byte_and_no_cut_opens(void **state)
{
    struct ec_span sealed = seal(*state, KEY_A, "c", EC_SPAN("secret"));
    struct ec_secret *secret = NULL;
    for (size_t i = 0; i < sealed.len; i++) {
        char *copy = ec_arena_text(*state, sealed);
        copy[i] ^= 1;
        struct ec_span changed = {copy, sealed.len};
        assert_int_equal(unseal(KEY_A, "c", changed, &secret).fate, EC_FATE_REJECT);
        struct ec_span cut = {sealed.ptr, i};
        assert_int_equal(unseal(KEY_A, "c", cut, &secret).fate, EC_FATE_REJECT);
    }
    assert_null(secret);
}

static void a_key_of_another_form_is_our_fault(void **state)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *key = ec_secret_new(EC_SPAN("0011"));
    struct ec_span sealed;
    assert_int_equal(ec_seal(*state, key, "c", EC_SPAN("x"), &sealed).fate, EC_FATE_FATAL);
}

static void a_secret_over_the_limit_is_refused(void **state)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *key = ec_secret_new(EC_SPAN(KEY_A));
    struct ec_span sealed;
    struct ec_span big = {ec_arena_alloc(*state, 65537), 65537};
    assert_int_equal(ec_seal(*state, key, "c", big, &sealed).fate, EC_FATE_REJECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_sealed_comes_out, setup, teardown),
        cmocka_unit_test_setup_teardown(every_envelope_is_another_one, setup, teardown),
        cmocka_unit_test_setup_teardown(another_place_or_key_does_not_open_it, setup, teardown),
        cmocka_unit_test_setup_teardown(no_changed_byte_and_no_cut_opens, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_of_another_form_is_our_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(a_secret_over_the_limit_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
