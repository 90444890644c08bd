/* What registries and people write: references, authentication challenges, upload locations. A
 * reference that is accepted comes back as the same text and holds nothing that a path or a header
 * could be bent with. */

#include "base/mem.h"
#include "fuzz.h"
#include "net/address.h"
#include "oci/auth.h"
#include "oci/object_store.h"
#include "oci/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len > 65536) {
        return 0; /* headers are shorter: libs/net sees to it */
    }
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 << 20);
    char *text = ec_arena_text(arena, (struct ec_span){(const char *)bytes, len});
    struct ec_ref ref;
    if (!ec_failed(ec_ref_parse(arena, text, &ref))) {
        check(strcmp(ec_ref_text(arena, &ref), text) == 0);
        check(!strstr(ref.repo, "..") && !strpbrk(ref.repo, " \r\n?#%@:"));
        check(!strpbrk(ref.host, "/ \r\n?#%@"));
    }
    struct ec_challenge challenge;
    if (ec_challenge_parse(arena, text, &challenge)) {
        check(!challenge.bearer || challenge.realm[0]);
        (void)ec_token_url(arena, &challenge, "repository:a:pull");
    }
    char *url = NULL;
    if (!ec_failed(ec_upload_url(arena, text, "sha256:0", &url))) {
        check(strstr(url, "digest=sha256%3A0") != NULL);
    }
    (void)ec_host_loopback(text);
    if (ec_object_key_valid(text)) {
        check(text[0] != '/' && text[0] != '.' && !strstr(text, "/."));
    }
    return 0;
}
