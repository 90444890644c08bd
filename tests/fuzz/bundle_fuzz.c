/* Bundles, statements, SBOMs and public keys as strangers may push them: nothing crashes, and
 * nothing that we did not sign is accepted. */

#include "base/json.h"
#include "base/mem.h"
#include "fuzz.h"
#include "trust/bundle.h"
#include "trust/ca.h"

#define DIGEST "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static const struct ec_key *fresh_key(void)
{
    static struct ec_key *key;
    if (!key && ec_failed(ec_key_new(&key))) {
        abort();
    }
    return key;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct ec_span text = {(const char *)bytes, len};
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 << 20);
    struct ec_statement statement = {0};
    if (!ec_failed(ec_bundle_verify(arena, ec_keyring_of(fresh_key()), text, DIGEST, &statement))) {
        abort(); /* a key that nobody else has signed this? */
    }
    if (!ec_failed(ec_statement_read(arena, text, DIGEST, &statement))) {
        json_decref(statement.root);
    }
    ec_cleanup(ec_json_freep) json_t *bom = NULL;
    int32_t components = 0;
    if (!ec_failed(ec_json_parse(arena, text, &bom))) {
        ec_ignore(ec_sbom_check(arena, bom, &components)); /* either answer is fine */
    }
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    ec_ignore(ec_key_from_pem(text, &key)); /* either answer is fine */
    struct ec_cert_info info;
    ec_ignore(ec_cert_read(arena, text, &info)); /* either answer is fine */
    (void)ec_cert_covers(text, "a.test");
    return 0;
}
