/* Client of OCI registries (distribution specification 1.1), asynchronous, on ec_fetch. Whatever is
 * pulled by digest is checked against it; sizes have limits; tokens are cached; 408, 429, 5xx and
 * broken connections are tried three times with back-off, honouring Retry-After. Plain HTTP is
 * spoken to loopback hosts only, and only when `insecure` is set. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"
#include "net/fetch.h"
#include "oci/ref.h"

#define EC_MANIFEST_MAX_BYTES (4u << 20)
#define EC_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define EC_OCI_INDEX "application/vnd.oci.image.index.v1+json"

struct ec_registry;

struct ec_registry_spec {
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;     /* borrowed: close the registry before it */
    bool insecure;                  /* plain HTTP to loopback hosts */
    const char *docker_config_file; /* passwords; NULL or a missing file: none */
    uint32_t deadline_ms;           /* of each exchange; 0 = 20 s */
};

struct ec_oci_answer {
    int status; /* 0 when none came */
    struct ec_span body;
    const char *media_type; /* "" when not said */
    const char *digest;     /* GET: computed from the body; HEAD: the registry's word, maybe ""  */
    int64_t size_bytes;     /* GET: of the body; HEAD: Content-Length, -1 if not said */
    bool subject_known;     /* PUT of a manifest: the registry keeps its referrers (OCI-Subject) */
};
/* Exactly once, later. OK: 2xx. REJECT with status 404: not there. The answer is never NULL and is
 * borrowed until the callback returns, like err.what. */
typedef void (*ec_registry_fn)(void *arg, struct ec_err err, const struct ec_oci_answer *answer);

EC_RESULT ec_registry_open(const struct ec_registry_spec *spec, struct ec_registry **ret_registry);
/* What is under way ends with RETRY, new calls fail with it; the registry itself stays. */
void ec_registry_stop(struct ec_registry *registry);
/* The same, and the memory goes when the last callback has returned. */
void ec_registry_close(struct ec_registry *registry); /* accepts NULL */

/* `reference` is a tag or a digest. Images' host and repo are used, the rest of `image` is not. */
EC_RESULT ec_manifest_get(struct ec_registry *registry, const struct ec_ref *image,
                          const char *reference, ec_registry_fn done, void *arg);
EC_RESULT ec_manifest_head(struct ec_registry *registry, const struct ec_ref *image,
                           const char *reference, ec_registry_fn done, void *arg);
EC_RESULT ec_manifest_put(struct ec_registry *registry, const struct ec_ref *image,
                          const char *reference, const char *media_type, struct ec_span bytes,
                          ec_registry_fn done, void *arg);
EC_RESULT ec_blob_get(struct ec_registry *registry, const struct ec_ref *image, const char *digest,
                      size_t max_bytes, ec_registry_fn done, void *arg);
EC_RESULT ec_blob_head(struct ec_registry *registry, const struct ec_ref *image, const char *digest,
                       ec_registry_fn done, void *arg);
/* Uploads by one POST and one PUT unless the registry has it. The answer's digest is the blob's. */
EC_RESULT ec_blob_put(struct ec_registry *registry, const struct ec_ref *image,
                      struct ec_span bytes, ec_registry_fn done, void *arg);

/* Where an upload goes: `location` (absolute, or a path on the registry) with digest=... added. */
EC_RESULT ec_upload_url(struct ec_arena *arena, const char *location, const char *digest,
                        char **ret_url);
