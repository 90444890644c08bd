/* in-toto statements (v1) about one image: that it is signed (cosign), how it was built (SLSA v1),
 * and what is inside (CycloneDX). A statement is JSON text; its exact bytes are what is signed. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

#define EC_STATEMENT_V1 "https://in-toto.io/Statement/v1"
#define EC_PREDICATE_COSIGN "https://sigstore.dev/cosign/sign/v1"
#define EC_PREDICATE_SLSA "https://slsa.dev/provenance/v1"
#define EC_PREDICATE_CYCLONEDX "https://cyclonedx.org/bom"

#define EC_BUILD_TYPE "https://enclii.dev/buildtypes/dockerfile/v1"

/* One thing that went into the build: "pkg:docker/debian@bookworm-slim" with its digest. */
struct ec_material {
    const char *uri;
    const char *digest; /* "sha256:..."; empty or NULL when not known */
};

struct ec_pair {
    const char *name;
    const char *value;
};

/* What the control plane knows of a build. Empty texts are left out. */
struct ec_provenance {
    const char *builder_id;       /* URI of the builder, "https://enclii.dev/builder/<id>" */
    const char *engine;           /* "buildah 1.28.2" */
    const char *platform_version; /* ours */
    const char *source_uri;       /* "git+https://host/owner/repo@refs/heads/main" */
    const char *commit_sha;
    const char *build_type; /* of the spec: "dockerfile" */
    const char *dockerfile;
    const char *context;
    const char *target;
    const struct ec_pair *args;
    size_t arg_count;
    const struct ec_material *materials; /* base images */
    size_t material_count;
    const char *invocation_id; /* build id and attempt */
    int64_t started_unix_ms;
    int64_t finished_unix_ms;
};

/* cosign's own `sign` statement: an empty predicate. digest is "sha256:<hex>". */
EC_RESULT ec_statement_signature(struct ec_arena *arena, const char *digest, char **ret_text);
EC_RESULT ec_statement_provenance(struct ec_arena *arena, const char *repo, const char *digest,
                                  const struct ec_provenance *facts, char **ret_text);
/* The predicate is the whole SBOM document (borrowed). */
EC_RESULT ec_statement_sbom(struct ec_arena *arena, const char *repo, const char *digest,
                            json_t *bom, char **ret_text);

/* "git+<clone url>@<ref>": the form of a source in provenance. */
char *ec_source_uri(struct ec_arena *arena, const char *clone_url, const char *ref);
/* "docker.io/library/debian:bookworm" -> "pkg:docker/debian@bookworm", others with repository_url.
 */
char *ec_image_purl(struct ec_arena *arena, const char *reference);

struct ec_statement {
    json_t *root;               /* json_decref it */
    const char *predicate_type; /* borrowed from root, like the rest */
    json_t *predicate;
    const char *key_id; /* hint of the key that signed it; NULL when nobody looked */
};
/* Reads a statement (v1, or v0.1 as `cosign attest` writes it) and checks that one of its subjects
 * has this sha256 digest. REJECT says what is wrong. */
EC_RESULT ec_statement_read(struct ec_arena *arena, struct ec_span text, const char *digest,
                            struct ec_statement *ret_statement);

/* A CycloneDX document that we accept: bomFormat, specVersion 1.5 or 1.6, components an array whose
 * entries have type and name. */
EC_RESULT ec_sbom_check(struct ec_arena *arena, const json_t *bom, int32_t *ret_components);
