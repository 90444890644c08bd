/* A delivery's proof: "<host>" on the first line, then its signature, webhook-id and
 * webhook-timestamp, a line each, then the body. Nobody signs without the secret; what is signed
 * with it is accepted, and not for another body. */
#include <stdio.h>

#include "base/mem.h"
#include "base/secret.h"
#include "fuzz.h"
#include "trust/digest.h"
#include "webhook.h"

#define NOW_MS 1700000000000

static void check_hmac(struct ec_arena *arena, const struct ec_secret *secret, struct ec_span body)
{
    const char *good = ec_arena_format(arena, "sha256=%s", ec_hmac_sha256_hex(arena, secret, body));
    struct incoming in = {.arena = arena, .body = body, .signature = good, .now_ms = NOW_MS};
    check(verify_github(&in, secret) && verify_gitea(&in, secret));
    in.signature = ec_arena_format(arena, "%s0", good);
    check(!verify_github(&in, secret));
    in.signature = good;
    in.body = EC_SPAN("another body that nobody signed");
    check(!verify_github(&in, secret));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    struct ec_secret *secret = ec_secret_new(EC_SPAN("whsec_c2VjcmV0IHRoYXQgbm9ib2R5IGtub3dz"));
    struct ec_span rest = span_of_input(bytes, len);
    struct ec_span host = take_until(&rest, '\n');
    struct incoming in = {.arena = arena, .now_ms = NOW_MS};
    in.signature = ec_arena_text(arena, take_until(&rest, '\n'));
    in.signed_id = ec_arena_text(arena, take_until(&rest, '\n'));
    in.signed_time = ec_arena_text(arena, take_until(&rest, '\n'));
    in.body = rest;
    in.json = rest;
    for (size_t i = 0; i < HOST_COUNT; i++) {
        if (host.len == 0 || ec_span_is(host, hosts[i].name)) {
            check(!hosts[i].verify(&in, secret));
        }
    }
    check_hmac(arena, secret, rest);
    if (decide_delivery_id(in.signed_id)) {
        check_shown(in.signed_id, 128, false);
    }
    ec_secret_free(secret);
    return 0;
}
