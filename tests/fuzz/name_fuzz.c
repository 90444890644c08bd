/* Small texts that decide who somebody is or what is meant: API tokens, digests, host names,
 * repository keys, sealed secrets. */
#include "base/mem.h"
#include "base/secret.h"
#include "fuzz.h"
#include "spec/spec.h"
#include "trust/ca.h"
#include "trust/digest.h"
#include "trust/seal.h"
#include "trust/token.h"

static void check_repo_key(struct ec_arena *arena, const char *text)
{
    const char *key = ec_repo_key(arena, text);
    if (!key) {
        return;
    }
    const char *slash = strchr(key, '/');
    check(slash && slash > key && slash[1] && strlen(key) <= strlen(text));
    check(key[0] != '-' && !strpbrk(key, " \t\r\n@?#%\\\x7f\x1b") && !strstr(key, "//"));
    bool url = memchr(key, '.', (size_t)(slash - key)) || strchr(slash + 1, '/');
    const char *again = ec_repo_key(arena, key);
    check(!url || (again && strcmp(again, key) == 0));
    const char *https = ec_repo_key(arena, ec_arena_format(arena, "https://%s", key));
    check(!https || !url || strstr(key, ":443/") || strcmp(https, key) == 0);
}

static void check_seal(struct ec_arena *arena, struct ec_span input)
{
    struct ec_secret *key =
        ec_secret_new(EC_SPAN("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"));
    struct ec_secret *opened = NULL;
    check(ec_failed(ec_unseal(key, "a", input, &opened))); /* nobody else has the key */
    struct ec_span sealed;
    if (!ec_failed(ec_seal(arena, key, "a", input, &sealed))) {
        check(ec_failed(ec_unseal(key, "b", sealed, &opened)));
        check(!ec_failed(ec_unseal(key, "a", sealed, &opened)));
        check(ec_span_eq(ec_secret_use(opened), input));
        ec_secret_free(opened);
        char *changed = (char *)(uintptr_t)sealed.ptr;
        changed[sealed.len / 2] ^= 1;
        check(ec_failed(ec_unseal(key, "a", sealed, &opened)));
    }
    ec_secret_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    struct ec_span input = span_of_input(bytes, len);
    const char *text = ec_arena_text(arena, input);
    check(!ec_token_form(input) || (len == 71 && strlen(ec_token_hash_hex(arena, input)) == 64));
    if (ec_digest_valid(text)) {
        check(strlen(text) == 71 && strspn(text + 7, "0123456789abcdef") == 64);
    }
    if (ec_hostname_valid(text)) {
        check(strlen(text) <= 253 && !strstr(text, "..") && text[0] != '-' && text[0] != '.');
        check(strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.*") == strlen(text));
        check(!strchr(text + 1, '*'));
    }
    check_repo_key(arena, text);
    check_seal(arena, input);
    return 0;
}
