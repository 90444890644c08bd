/* DSSE envelopes and in-toto statements, with the input as what is signed: what we sign is accepted
 * and comes back byte for byte; one changed bit, another type or another key is not. */
#include "base/json.h"
#include "base/mem.h"
#include "fuzz.h"
#include "trust/bundle.h"
#include "trust/dsse.h"

#define DIGEST "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static const struct ec_key *a_key(bool other)
{
    static struct ec_key *keys[2];
    check(keys[other] || !ec_failed(ec_key_new(&keys[other])));
    return keys[other];
}

static void check_envelope(struct ec_arena *arena, struct ec_span body)
{
    ec_cleanup(ec_json_freep) json_t *envelope = NULL;
    struct ec_dsse dsse;
    check(!ec_failed(ec_dsse_sign(arena, a_key(false), EC_DSSE_INTOTO, body, &envelope)));
    struct ec_err err = ec_dsse_read(arena, envelope, &dsse);
    check(ec_failed(err) == (body.len == 0));
    if (ec_failed(err)) {
        return;
    }
    check(ec_span_eq(dsse.payload, body));
    check(ec_dsse_verify(arena, ec_keyring_of(a_key(false)), &dsse) &&
          !ec_dsse_verify(arena, ec_keyring_of(a_key(true)), &dsse));
    char *changed = (char *)(uintptr_t)dsse.payload.ptr; /* the arena's, so ours */
    changed[body.len / 2] ^= 1;
    check(!ec_dsse_verify(arena, ec_keyring_of(a_key(false)), &dsse));
    changed[body.len / 2] ^= 1;
    dsse.payload_type = ec_arena_strdup(arena, "application/vnd.in-toto");
    check(!ec_dsse_verify(arena, ec_keyring_of(a_key(false)), &dsse));
}

/* Signed by us, so that the statement inside is really read. */
static void check_bundle(struct ec_arena *arena, struct ec_span statement)
{
    char *text = NULL;
    struct ec_statement read = {0}, alone = {0};
    check(!ec_failed(ec_bundle_make(arena, a_key(false), statement, &text)));
    struct ec_err err =
        ec_bundle_verify(arena, ec_keyring_of(a_key(false)), ec_span_of(text), DIGEST, &read);
    struct ec_err plain = ec_statement_read(arena, statement, DIGEST, &alone);
    check(ec_failed(err) == (ec_failed(plain) || statement.len == 0));
    if (!ec_failed(err)) {
        check(read.predicate_type[0] && json_equal(read.root, alone.root) == 1);
        json_decref(read.root);
    }
    if (!ec_failed(plain)) {
        json_decref(alone.root);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 << 20);
    struct ec_span input = span_of_input(bytes, len);
    check_envelope(arena, input);
    check_bundle(arena, input);
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    struct ec_dsse dsse;
    if (!ec_failed(ec_json_parse(arena, input, &root)) &&
        !ec_failed(ec_dsse_read(arena, root, &dsse))) {
        check(dsse.payload.len > 0 && dsse.signature.len > 0 && dsse.payload_type[0]);
        check(!ec_dsse_verify(arena, ec_keyring_of(a_key(false)), &dsse));
    }
    return 0;
}
