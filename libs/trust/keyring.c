/* See keyring.h. */
#include "trust/keyring.h"

#include <string.h>

#define BEGIN "-----BEGIN "
#define BEGIN_PUBLIC "-----BEGIN PUBLIC KEY-----"
#define END_PUBLIC "-----END PUBLIC KEY-----"

struct ec_keyring ec_keyring_of(const struct ec_key *key)
{
    return (struct ec_keyring){.keys = {key}, .count = 1};
}

void ec_keyring_done(struct ec_keyring *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        ec_key_free((struct ec_key *)(uintptr_t)keys->keys[i]);
    }
    *keys = (struct ec_keyring){.count = 0};
}

static const char *find(struct ec_span text, const char *what)
{
    return memmem(text.ptr, text.len, what, strlen(what));
}

static struct ec_span from(struct ec_span text, const char *at)
{
    return (struct ec_span){at, text.len - (size_t)(at - text.ptr)};
}

/* One block, and what comes behind it. */
static struct ec_err add_block(struct ec_arena *arena, struct ec_span *left,
                               struct ec_keyring *keys)
{
    if (left->len < strlen(BEGIN_PUBLIC) ||
        memcmp(left->ptr, BEGIN_PUBLIC, strlen(BEGIN_PUBLIC)) != 0) {
        return ec_reject_in(arena, "block %zu is no public key (\"BEGIN PUBLIC KEY\")",
                            keys->count + 1);
    }
    const char *end = find(*left, END_PUBLIC);
    if (keys->count == EC_KEYRING_MAX || !end) {
        return end ? ec_reject_in(arena, "more than %d public keys", EC_KEYRING_MAX)
                   : ec_reject_in(arena, "public key %zu has no end", keys->count + 1);
    }
    end += strlen(END_PUBLIC);
    struct ec_key *key = NULL;
    struct ec_err err =
        ec_key_from_pem((struct ec_span){left->ptr, (size_t)(end - left->ptr)}, &key);
    if (ec_failed(err)) {
        return ec_reject_in(arena, "public key %zu: %s", keys->count + 1, err.what);
    }
    keys->keys[keys->count++] = key;
    *left = from(*left, end);
    return ec_ok();
}

struct ec_err ec_keyring_from_pem(struct ec_arena *arena, struct ec_span pem,
                                  struct ec_keyring *ret_keys)
{
    struct ec_keyring keys = {.count = 0};
    struct ec_err err = ec_ok();
    for (const char *at = find(pem, BEGIN); at && !ec_failed(err); at = find(pem, BEGIN)) {
        pem = from(pem, at); /* what stands between blocks is a comment */
        err = add_block(arena, &pem, &keys);
    }
    if (!ec_failed(err) && keys.count == 0) {
        err = ec_reject("no public key in PEM (\"BEGIN PUBLIC KEY\")");
    }
    if (ec_failed(err)) {
        ec_keyring_done(&keys);
        return err;
    }
    *ret_keys = keys;
    return ec_ok();
}
