/* Referrers: manifests that say "I belong to this image" (distribution specification, "Listing
 * Referrers"). Registries without that API keep a list under the tag sha256-<hex> that clients
 * update themselves; here one update at a time runs per process, and each is read back. */
#pragma once

#include "oci/registry.h"

#define EC_REFERRERS_MAX 500
#define EC_REFERRER_BUNDLE "dev.sigstore.bundle.predicateType"

struct ec_referrer {
    const char *digest; /* of the referrer's manifest */
    const char *artifact_type;
    const char
        *predicate_type; /* its annotation; "" when absent. A claim: the bundle itself counts */
};

/* The list and err.what are borrowed until the callback returns. No referrers is OK and 0. */
typedef void (*ec_referrers_fn)(void *arg, struct ec_err err, const struct ec_referrer *list,
                                size_t count);
/* At most EC_REFERRERS_MAX of them; more is REJECTed, since what counts could be beyond. */
EC_RESULT ec_referrers_list(struct ec_registry *registry, const struct ec_ref *image,
                            const char *digest, ec_referrers_fn done, void *arg);

#define EC_ATTACH_MAX 8
struct ec_attachment {
    struct ec_span content;
    const char *predicate_type;
};
struct ec_attach_spec {
    const struct ec_ref *image;
    const char *subject_digest; /* the image's manifest */
    const char *subject_media_type;
    int64_t subject_size_bytes;
    const char *artifact_type; /* also the layers' media type */
    const char *created;       /* RFC 3339 */
    const struct ec_attachment *list;
    size_t count; /* 1 to EC_ATTACH_MAX */
};
/* Pushes contents, config and manifests at once, then sees to it that the list names them all: it
 * is changed once. The same documents again add nothing. All of the spec is copied. OK: `digests`
 * are the manifests', in the spec's order, borrowed until the callback returns; NULL when it
 * failed. */
typedef void (*ec_attached_fn)(void *arg, struct ec_err err, const char *const *digests);
EC_RESULT ec_referrers_attach(struct ec_registry *registry, const struct ec_attach_spec *spec,
                              ec_attached_fn done, void *arg);

/* Pulls a referrer's single layer: manifest, then blob, both checked by digest. */
EC_RESULT ec_referrer_content(struct ec_registry *registry, const struct ec_ref *image,
                              const char *digest, const char *media_type, size_t max_bytes,
                              ec_registry_fn done, void *arg);
