/* Verifies an image like a stranger would: knows only repo@digest, public keys, and what it
 * expects. Pulls every bundle that the registry lists for the image, checks each, and asks that
 * three kinds are there and good: a cosign signature, SLSA provenance that names the expected
 * commit and source, and an SBOM. Nothing of the answer depends on who made the bundles or what the
 * registry says of them. */
#pragma once

#include <jansson.h>

#include "oci/registry.h"
#include "trust/keyring.h"

struct ec_image_verify_spec {
    const struct ec_ref *image;   /* host, repo, digest */
    struct ec_keyring keys;       /* any of them; borrowed until the callback has returned */
    const char *expect_commit;    /* NULL or "": any */
    const char *expect_clone_url; /* likewise */
    const char *expect_builder_id;
};

struct ec_image_check {
    const char *name; /* "image", "signature", "provenance", "sbom" */
    bool ok;
    const char *detail; /* what was found, or why not */
};

struct ec_image_verdict {
    bool ok; /* all checks */
    struct ec_image_check checks[4];
    size_t check_count;
    const char *key_id;     /* of the key that made the signature; else of the one that signs now */
    const char *media_type; /* of the image's manifest */
    int64_t size_bytes;
    const char *signature_digest; /* of the referrers' manifests; "" when not good */
    const char *provenance_digest;
    const char *sbom_digest;
    const char *commit_sha; /* from the provenance; "" when not good */
    const char *source_uri;
    const char *builder_id;
    const char *sbom_format; /* "cyclonedx-json 1.6" */
    int32_t sbom_components;
    const json_t *sbom; /* the good documents themselves (predicates); NULL when not good */
    const json_t *provenance;
};

/* OK: there is a verdict, good or bad. RETRY: the registry could not be asked; no verdict (NULL).
 * Everything is borrowed until the callback returns. */
typedef void (*ec_image_verify_fn)(void *arg, struct ec_err err,
                                   const struct ec_image_verdict *verdict);
EC_RESULT ec_image_verify(struct ec_registry *registry, const struct ec_image_verify_spec *spec,
                          ec_image_verify_fn done, void *arg);

/* {"verified":true,"keyId":...,"checks":[{"name","ok","detail"}],...}: the form of API and CLI. The
 * caller decrefs it. */
json_t *ec_image_verdict_json(const struct ec_image_verdict *verdict);
