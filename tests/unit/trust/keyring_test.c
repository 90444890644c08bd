/* Lists of public keys: in their order, and whole or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "trust/keyring.h"

static struct ec_err read_list(struct ec_arena *arena, const char *text, struct ec_keyring *keys)
{
    *keys = (struct ec_keyring){.count = 0};
    return ec_keyring_from_pem(arena, ec_span_of(text), keys);
}

static void keys_keep_their_order(void **state)
{
    ec_cleanup(ec_key_freep) struct ec_key *first = NULL;
    ec_cleanup(ec_key_freep) struct ec_key *second = NULL;
    assert_int_equal(ec_key_new(&first).fate, EC_FATE_OK);
    assert_int_equal(ec_key_new(&second).fate, EC_FATE_OK);
    struct ec_keyring keys;
    char *text = ec_arena_format(*state, "signs since May\n%s\n# until May:\n%s",
                                 ec_key_public_pem(first), ec_key_public_pem(second));
    assert_int_equal(read_list(*state, text, &keys).fate, EC_FATE_OK);
    assert_int_equal(keys.count, 2);
    assert_string_equal(ec_key_hint(keys.keys[0]), ec_key_hint(first));
    assert_string_equal(ec_key_hint(keys.keys[1]), ec_key_hint(second));
    ec_keyring_done(&keys);
    assert_int_equal(keys.count, 0);
}

static void one_bad_key_spoils_the_list(void **state)
{
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    ec_cleanup(ec_secret_freep) struct ec_secret *private = NULL;
    assert_int_equal(ec_key_new(&key).fate, EC_FATE_OK);
    assert_int_equal(ec_key_private_pem(key, &private).fate, EC_FATE_OK);
    const char *good = ec_key_public_pem(key);
    const char *bad[] = {
        "",
        "no PEM",
        ec_arena_format(*state, "%s-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                        good),
        ec_arena_format(*state, "%s-----BEGIN PUBLIC KEY-----\nAAAA\n", good),
        ec_arena_format(*state, "%s%s", good, ec_secret_use(private).ptr),
        ec_arena_format(*state, "%s%s%s%s%s%s%s%s%s", good, good, good, good, good, good, good,
                        good, good),
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        struct ec_keyring keys;
        assert_int_equal(read_list(*state, bad[i], &keys).fate, EC_FATE_REJECT);
        assert_int_equal(keys.count, 0);
    }
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_keep_their_order),
        cmocka_unit_test(one_bad_key_spoils_the_list),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
