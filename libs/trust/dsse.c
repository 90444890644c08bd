/* DSSE: pre-authentication encoding, signing and reading of envelopes. */
#include "trust/dsse.h"

#include <string.h>

#include "base/encode.h"
#include "base/json.h"

struct ec_span ec_dsse_pae(struct ec_arena *arena, const char *type, struct ec_span body)
{
    const char *head = ec_arena_format(arena, "DSSEv1 %zu %s %zu ", strlen(type), type, body.len);
    size_t head_len = strlen(head);
    char *pae = ec_arena_alloc(arena, head_len + body.len);
    memcpy(pae, head, head_len);
    memcpy(pae + head_len, body.ptr, body.len);
    return (struct ec_span){pae, head_len + body.len};
}

struct ec_err ec_dsse_sign(struct ec_arena *arena, const struct ec_key *key, const char *type,
                           struct ec_span body, json_t **ret_envelope)
{
    struct ec_span signature;
    EC_TRY(ec_key_sign(arena, key, ec_dsse_pae(arena, type, body), &signature));
    *ret_envelope =
        json_pack("{s:s, s:s, s:[{s:s}]}", "payload", ec_base64(arena, body), "payloadType", type,
                  "signatures", "sig", ec_base64(arena, signature));
    return *ret_envelope ? ec_ok() : ec_fatal(0, "cannot build a DSSE envelope");
}

struct ec_err ec_dsse_read(struct ec_arena *arena, const json_t *envelope, struct ec_dsse *ret_dsse)
{
    const json_t *signatures = ec_json_at(envelope, "signatures");
    if (json_array_size(signatures) != 1) {
        return ec_reject("DSSE envelope: exactly one signature is expected");
    }
    struct ec_dsse dsse = {0};
    const char *type = ec_json_text(envelope, "payloadType");
    const char *signature = ec_json_text(json_array_get(signatures, 0), "sig");
    if (!ec_unbase64(arena, ec_span_of(ec_json_text(envelope, "payload")), &dsse.payload) ||
        !ec_unbase64(arena, ec_span_of(signature), &dsse.signature)) {
        return ec_reject("DSSE envelope: payload or signature is not base64");
    }
    if (!type[0] || dsse.payload.len == 0 || dsse.signature.len == 0) {
        return ec_reject("DSSE envelope: payloadType, payload or signature is empty");
    }
    dsse.payload_type = ec_arena_strdup(arena, type);
    *ret_dsse = dsse;
    return ec_ok();
}

const struct ec_key *ec_dsse_verify(struct ec_arena *arena, struct ec_keyring keys,
                                    const struct ec_dsse *dsse)
{
    struct ec_span pae = ec_dsse_pae(arena, dsse->payload_type, dsse->payload);
    for (size_t i = 0; i < keys.count; i++) {
        if (ec_key_verify(keys.keys[i], pae, dsse->signature)) {
            return keys.keys[i];
        }
    }
    return NULL;
}
