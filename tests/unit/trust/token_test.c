/* API tokens: form, freshness, and what is stored of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "trust/digest.h"
#include "trust/token.h"

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

static void a_new_token_has_its_form_and_is_new(void **state)
{
    (void)state;
    ec_cleanup(ec_secret_freep) struct ec_secret *a = NULL;
    ec_cleanup(ec_secret_freep) struct ec_secret *b = NULL;
    assert_int_equal(ec_token_new(&a).fate, EC_FATE_OK);
    assert_int_equal(ec_token_new(&b).fate, EC_FATE_OK);
    assert_int_equal(ec_secret_use(a).len, 71);
    assert_true(ec_token_form(ec_secret_use(a)));
    assert_false(ec_span_eq(ec_secret_use(a), ec_secret_use(b)));
}

static void other_forms_are_refused(void **state)
{
    char text[] = "enclii_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    assert_true(ec_token_form(ec_span_of(text)));
    assert_string_equal(ec_token_hash_hex(*state, ec_span_of(text)),
                        ec_sha256_hex(*state, ec_span_of(text)));
    assert_false(ec_token_form((struct ec_span){text, 70}));
    assert_false(ec_token_form(EC_SPAN("")));
    text[20] = 'G';
    assert_false(ec_token_form(ec_span_of(text)));
    text[20] = 'a';
    text[0] = 'E';
    assert_false(ec_token_form(ec_span_of(text)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_token_has_its_form_and_is_new, setup, teardown),
        cmocka_unit_test_setup_teardown(other_forms_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
