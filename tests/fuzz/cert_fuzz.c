/* PEM from files, routers and people: certificates, chains and keys. A key that is read prints as a
 * text that reads as the same key; a certificate covers no name that is not a host name. */
#include "base/mem.h"
#include "base/secret.h"
#include "fuzz.h"
#include "trust/ca.h"
#include "trust/key.h"

static void check_key(const struct ec_key *key)
{
    struct ec_key *again = NULL;
    check(!ec_failed(ec_key_from_pem(ec_span_of(ec_key_public_pem(key)), &again)));
    check(!ec_key_is_private(again) && strcmp(ec_key_hint(again), ec_key_hint(key)) == 0);
    ec_key_free(again);
    struct ec_secret *pem = NULL;
    check(ec_failed(ec_key_private_pem(key, &pem)) == !ec_key_is_private(key));
    if (pem) {
        check(!ec_failed(ec_key_from_pem(ec_secret_use(pem), &again)) && ec_key_is_private(again));
        ec_key_free(again);
        ec_secret_free(pem);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    struct ec_span pem = span_of_input(bytes, len);
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    if (!ec_failed(ec_key_from_pem(pem, &key))) {
        check_key(key);
    }
    struct ec_cert_info info;
    if (!ec_failed(ec_cert_read(arena, pem, &info))) {
        size_t digits = strlen(info.serial_hex);
        check(strspn(info.serial_hex, "-0123456789abcdefABCDEF") == digits);
        check(ec_utf8_valid(ec_span_of(info.issuer)));
    }
    check(!ec_cert_covers(pem, "") && !ec_cert_covers(pem, "*.*") && !ec_cert_covers(pem, "a b"));
    (void)ec_cert_covers(pem, "shop.localhost");
    return 0;
}
