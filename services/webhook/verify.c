/* How each host proves that a delivery is its own. All of it over the raw bytes, none of it parses
 * the body, and each comparison of secrets takes the same time whatever differs. */
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "trust/digest.h"
#include "webhook.h"

#define CLOCK_SKEW_MS 300000 /* Standard Webhooks: five minutes either way */

static bool hex_of(const struct ec_secret *secret, struct ec_span body, const char *hex)
{
    size_t len = strlen(hex);
    return len == 64 && strspn(hex, "0123456789abcdef") == 64 &&
           ec_hmac_sha256_check(secret, body, (struct ec_span){hex, len});
}

static bool prefixed(const struct incoming *in, const struct ec_secret *secret)
{
    static const char prefix[] = "sha256=";
    return in->signature && strncmp(in->signature, prefix, sizeof prefix - 1) == 0 &&
           hex_of(secret, in->body, in->signature + sizeof prefix - 1);
}

bool verify_github(const struct incoming *in, const struct ec_secret *secret)
{
    return prefixed(in, secret);
}

bool verify_bitbucket(const struct incoming *in, const struct ec_secret *secret)
{
    return prefixed(in, secret);
}

/* Bare hex, and of the JSON even where that is wrapped in a form. */
bool verify_gitea(const struct incoming *in, const struct ec_secret *secret)
{
    if (!in->signature) {
        return false;
    }
    const char *hex = strncmp(in->signature, "sha256=", 7) == 0 ? in->signature + 7 : in->signature;
    return hex_of(secret, in->json.len > 0 ? in->json : in->body, hex) ||
           hex_of(secret, in->body, hex);
}

/* Both sides through the same HMAC: neither the content nor the length of the secret shows. */
static bool same_token(const char *token, const struct ec_secret *secret)
{
    unsigned char theirs[EC_SHA256_BYTES], ours[EC_SHA256_BYTES];
    ec_hmac_sha256(secret, ec_span_of(token), theirs);
    ec_hmac_sha256(secret, ec_secret_use(secret), ours);
    return ec_span_eq_secret((struct ec_span){(const char *)theirs, sizeof theirs},
                             (struct ec_span){(const char *)ours, sizeof ours});
}

/* The shared secret in clear; newer releases can sign as Standard Webhooks does. */
bool verify_gitlab(const struct incoming *in, const struct ec_secret *secret)
{
    if (in->signature && in->signed_id && in->signed_time &&
        strncmp(in->signature, "v1,", 3) == 0) {
        return verify_standard(in, secret);
    }
    return in->signature && same_token(in->signature, secret);
}

bool verify_bearer(const struct incoming *in, const struct ec_secret *secret)
{
    const char *token = in->signature;
    if (token && strncasecmp(token, "Bearer ", 7) == 0) {
        token += 7;
    }
    return token && same_token(token, secret);
}

/* "whsec_<base64>" stands for the bytes; anything else for itself. */
static struct ec_secret *signing_key(struct ec_arena *arena, const struct ec_secret *secret)
{
    struct ec_span text = ec_secret_use(secret), bytes;
    if (ec_span_starts(text, "whsec_") &&
        ec_unbase64(arena, (struct ec_span){text.ptr + 6, text.len - 6}, &bytes)) {
        return ec_secret_new(bytes);
    }
    return ec_secret_new(text);
}

static bool in_time(const char *seconds, int64_t now_ms)
{
    size_t len = strlen(seconds);
    if (len == 0 || len > 12 || strspn(seconds, "0123456789") != len) {
        return false;
    }
    int64_t away = strtoll(seconds, NULL, 10) * 1000 - now_ms;
    return away < CLOCK_SKEW_MS && away > -CLOCK_SKEW_MS;
}

/* https://www.standardwebhooks.com: "v1,<base64>" parted by spaces, over "<id>.<time>.<body>". */
bool verify_standard(const struct incoming *in, const struct ec_secret *secret)
{
    if (!in->signature || !in->signed_id || !in->signed_time ||
        !in_time(in->signed_time, in->now_ms)) {
        return false;
    }
    ec_cleanup(ec_secret_freep) struct ec_secret *key = signing_key(in->arena, secret);
    size_t head = strlen(in->signed_id) + strlen(in->signed_time) + 2;
    char *text = ec_arena_try(in->arena, head + in->body.len + 1);
    if (!text) {
        return false;
    }
    snprintf(text, head + 1, "%s.%s.", in->signed_id, in->signed_time);
    memcpy(text + head, in->body.ptr, in->body.len);
    unsigned char mac[EC_SHA256_BYTES];
    ec_hmac_sha256(key, (struct ec_span){text, head + in->body.len}, mac);
    bool good = false;
    for (const char *at = in->signature; *at && !good;) {
        size_t len = strcspn(at, " ");
        struct ec_span said;
        good = len > 3 && len < 80 && strncmp(at, "v1,", 3) == 0 &&
               ec_unbase64(in->arena, (struct ec_span){at + 3, len - 3}, &said) &&
               ec_span_eq_secret(said, (struct ec_span){(const char *)mac, sizeof mac});
        at += len + (at[len] == ' ');
    }
    return good;
}
