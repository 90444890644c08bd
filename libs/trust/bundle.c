/* Sigstore bundle v0.3. The signature is checked before anything inside the payload is parsed, and
 * what is parsed are the very bytes that were checked. */
#include "trust/bundle.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "trust/dsse.h"

struct ec_err ec_bundle_make(struct ec_arena *arena, const struct ec_key *key,
                             struct ec_span statement, char **ret_text)
{
    if (statement.len > EC_STATEMENT_MAX_BYTES) {
        return ec_reject("a statement may have at most 11 MiB: the SBOM is too large to attach");
    }
    json_t *envelope = NULL;
    EC_TRY(ec_dsse_sign(arena, key, EC_DSSE_INTOTO, statement, &envelope));
    ec_cleanup(ec_json_freep) json_t *root = json_pack(
        "{s:s, s:{s:{s:s}}, s:o}", "mediaType", EC_BUNDLE_MEDIA_TYPE, "verificationMaterial",
        "publicKey", "hint", ec_key_hint(key), "dsseEnvelope", envelope);
    if (!root) {
        return ec_fatal(0, "cannot build a sigstore bundle");
    }
    *ret_text = ec_json_dump(arena, root);
    return ec_ok();
}

static struct ec_err check_form(struct ec_arena *arena, const json_t *root)
{
    const char *type = ec_json_text(root, "mediaType");
    if (strcmp(type, EC_BUNDLE_MEDIA_TYPE) != 0) {
        return ec_reject_in(arena, "the bundle's mediaType is \"%.100s\", not v0.3", type);
    }
    if (!ec_json_at(root, "dsseEnvelope")) {
        return ec_reject("the bundle has no dsseEnvelope");
    }
    if (!ec_json_at(root, "verificationMaterial.publicKey")) {
        return ec_reject("the bundle was not signed by a key (keyless is not accepted here)");
    }
    return ec_ok();
}

static struct ec_err of_another_key(struct ec_arena *arena, struct ec_keyring keys,
                                    const json_t *root)
{
    if (keys.count == 1) {
        return ec_reject_in(arena, "the signature was not made by the key %s over these bytes",
                            ec_key_hint(keys.keys[0]));
    }
    return ec_reject_in(arena,
                        "the signature was not made by any of the %zu known keys over these bytes; "
                        "the bundle names key %.64s",
                        keys.count, ec_json_text(root, "verificationMaterial.publicKey.hint"));
}

struct ec_err ec_bundle_verify(struct ec_arena *arena, struct ec_keyring keys, struct ec_span text,
                               const char *digest, struct ec_statement *ret_statement)
{
    if (text.len > EC_BUNDLE_MAX_BYTES) {
        return ec_reject("the bundle has more than 16 MiB");
    }
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    EC_TRY(ec_json_parse(arena, text, &root));
    EC_TRY(check_form(arena, root));
    struct ec_dsse dsse;
    EC_TRY(ec_dsse_read(arena, ec_json_at(root, "dsseEnvelope"), &dsse));
    if (strcmp(dsse.payload_type, EC_DSSE_INTOTO) != 0) {
        return ec_reject_in(arena, "the envelope holds \"%.80s\", not an in-toto statement",
                            dsse.payload_type);
    }
    const struct ec_key *key = ec_dsse_verify(arena, keys, &dsse);
    if (!key) {
        return of_another_key(arena, keys, root);
    }
    EC_TRY(ec_statement_read(arena, dsse.payload, digest, ret_statement));
    ret_statement->key_id = ec_key_hint(key);
    return ec_ok();
}
