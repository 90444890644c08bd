/* The other steps of signing a release: check the image, write the provenance, sign and attach,
 * store, read everything back. Each is safe to run again: what is there and good is left as it is.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "oci/referrers.h"
#include "signer.h"
#include "trust/bundle.h"
#include "trust/digest.h"

static const char *const predicate_types[DOC_COUNT] = {EC_PREDICATE_COSIGN, EC_PREDICATE_SLSA,
                                                       EC_PREDICATE_CYCLONEDX};

#define CONFIG_MAX_BYTES (4u << 20)

/* The text of an error lives until the callback returns; the flow looks at it a turn later. */
static void end_step(struct job *job, struct ec_err err)
{
    if (ec_failed(err)) {
        err.what = ec_arena_strdup(job->arena, err.what);
    }
    ec_flow_done(&job->flow, err);
}

/* ---- check: is the claimed image there, whole, and perhaps signed by us already? ---- */

static struct ec_err verify_image(struct job *job, ec_image_verify_fn done)
{
    struct ec_image_verify_spec spec = {
        .image = &job->image,
        .keys = ec_keyring_of(job->signer->key),
        .expect_commit = job->release->commit->sha,
        .expect_clone_url = job->release->clone_url,
        .expect_builder_id = decide_builder_uri(job->arena, job->release->builder_id),
    };
    return ec_image_verify(job->signer->registry, &spec, done, job);
}

static void on_looked(void *arg, struct ec_err err, const struct ec_image_verdict *verdict)
{
    struct job *job = arg;
    if (!ec_failed(err)) {
        const char *found[DOC_COUNT] = {verdict->signature_digest, verdict->provenance_digest,
                                        verdict->sbom_digest};
        for (int i = 0; i < DOC_COUNT; i++) {
            job->digests[i] = found[i][0] ? ec_arena_strdup(job->arena, found[i]) : NULL;
        }
        json_decref(job->sbom);
        job->sbom = json_incref((json_t *)(uintptr_t)verdict->sbom);
        job->sbom_components = verdict->sbom_components;
        job->sbom_version = ec_arena_strdup(job->arena, ec_json_text(verdict->sbom, "specVersion"));
        if (verdict->provenance) {
            job->provenance = ec_json_dump(job->arena, verdict->provenance);
        }
    }
    end_step(job, err);
}

static void on_config(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct job *job = arg;
    ec_cleanup(ec_json_freep) json_t *config = NULL;
    if (!ec_failed(err)) {
        err = ec_json_parse(job->arena, answer->body, &config);
    }
    if (!ec_failed(err) && answer->size_bytes != job->config_bytes) {
        err = ec_reject("the image's config has another size than its manifest says");
    }
    if (!ec_failed(err)) {
        job->detail = ec_arena_format(job->arena, "%.20s/%.20s", ec_json_text(config, "os"),
                                      ec_json_text(config, "architecture"));
        err = verify_image(job, on_looked);
    }
    if (ec_failed(err)) {
        job->refusal = "image_unreadable";
        end_step(job, err);
    }
}

static struct ec_err look_at_manifest(struct job *job, const struct ec_oci_answer *answer)
{
    ec_cleanup(ec_json_freep) json_t *manifest = NULL;
    EC_TRY(ec_json_parse(job->arena, answer->body, &manifest));
    const char *type = ec_json_text(manifest, "mediaType");
    const char *config = ec_json_text(manifest, "config.digest");
    job->config_bytes = ec_json_int(manifest, "config.size", -1);
    job->media_type = ec_arena_strdup(job->arena, type[0] ? type : answer->media_type);
    job->image_size_bytes = answer->size_bytes;
    if (!ec_digest_valid(config)) {
        return ec_reject(
            "the digest names no single image (a manifest with a config): multi-platform "
            "images are not built here");
    }
    return ec_blob_get(job->signer->registry, &job->image, config, CONFIG_MAX_BYTES, on_config,
                       job);
}

static void on_manifest(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct job *job = arg;
    if (!ec_failed(err)) {
        err = look_at_manifest(job, answer);
        job->refusal = "image_unreadable";
    }
    if (ec_failed(err)) {
        end_step(job, err);
    }
}

static struct ec_err start_check(void *arg)
{
    struct job *job = arg;
    job->refusal = "bad_request";
    EC_TRY(decide_request_valid(job->arena, job->release, job->signer->settings.registry));
    EC_TRY(ec_ref_parse(job->arena, job->release->image_repo, &job->image));
    job->image.digest = job->release->digest;
    job->refusal = NULL;
    return ec_manifest_get(job->signer->registry, &job->image, job->image.digest, on_manifest, job);
}

/* ---- provenance ---- */

static struct ec_err start_provenance(void *arg)
{
    struct job *job = arg;
    if (!job->digests[DOC_PROVENANCE]) {
        struct ec_provenance facts;
        decide_provenance(job->arena, job->release, &facts);
        char *text = NULL;
        EC_TRY(ec_statement_provenance(job->arena, job->release->image_repo, job->image.digest,
                                       &facts, &text));
        ec_cleanup(ec_json_freep) json_t *statement = NULL;
        EC_TRY(ec_json_parse(job->arena, ec_span_of(text), &statement));
        job->provenance = ec_json_dump(job->arena, ec_json_at(statement, "predicate"));
        job->statements[DOC_PROVENANCE] = text;
    }
    job->detail = ec_arena_format(job->arena, "commit %.12s", job->release->commit->sha);
    ec_flow_done(&job->flow, ec_ok());
    return ec_ok();
}

/* ---- sign: what is not there yet, attached in one go ---- */

static void on_attached(void *arg, struct ec_err err, const char *const *digests)
{
    struct job *job = arg;
    for (int i = 0, at = 0; i < DOC_COUNT && !ec_failed(err); i++) {
        if (!job->digests[i]) {
            job->digests[i] = ec_arena_strdup(job->arena, digests[at++]);
        }
    }
    end_step(job, err);
}

/* Made once per job: a second try attaches the same bytes, so nothing is there twice. */
static struct ec_err make_bundles(struct job *job)
{
    EC_TRY(ec_statement_signature(job->arena, job->image.digest, &job->statements[DOC_SIGNATURE]));
    for (int i = 0; i < DOC_COUNT; i++) {
        if (!job->digests[i] && !job->bundles[i]) {
            EC_TRY(ec_bundle_make(job->arena, job->signer->key, ec_span_of(job->statements[i]),
                                  &job->bundles[i]));
        }
    }
    if (!job->signed_at[0]) {
        ec_rfc3339(ec_unix_ms(), job->signed_at);
    }
    return ec_ok();
}

static struct ec_err start_sign(void *arg)
{
    struct job *job = arg;
    struct ec_attachment list[DOC_COUNT];
    struct ec_attach_spec spec = {
        .image = &job->image,
        .subject_digest = job->image.digest,
        .subject_media_type = job->media_type,
        .subject_size_bytes = job->image_size_bytes,
        .artifact_type = EC_BUNDLE_MEDIA_TYPE,
        .created = job->signed_at,
        .list = list,
    };
    EC_TRY(make_bundles(job));
    job->detail = ec_arena_format(job->arena, "key %s", ec_key_hint(job->signer->key));
    for (int i = 0; i < DOC_COUNT; i++) {
        if (!job->digests[i]) {
            list[spec.count++] =
                (struct ec_attachment){ec_span_of(job->bundles[i]), predicate_types[i]};
        }
    }
    if (spec.count == 0) {
        ec_flow_done(&job->flow, ec_ok());
        return ec_ok();
    }
    return ec_referrers_attach(job->signer->registry, &spec, on_attached, job);
}

/* ---- store ---- */

static void on_provenance_stored(void *arg, struct ec_err err, struct ec_span none)
{
    (void)none;
    struct job *job = arg;
    end_step(job, err);
}

static void on_sbom_stored(void *arg, struct ec_err err, struct ec_span none)
{
    (void)none;
    struct job *job = arg;
    if (!ec_failed(err)) {
        err = ec_object_put(job->signer->objects, job->provenance_object,
                            ec_span_of(job->provenance), on_provenance_stored, job);
    }
    if (ec_failed(err)) {
        end_step(job, err);
    }
}

/* Keys name the content: the same document is stored once, another one never replaces it. */
static char *object_key(struct job *job, const char *kind, const char *text)
{
    return ec_arena_format(job->arena, "%s/%s/%s.json", kind, job->image.digest + 7,
                           ec_sha256_hex(job->arena, ec_span_of(text)));
}

static struct ec_err start_store(void *arg)
{
    struct job *job = arg;
    const char *sbom = ec_json_dump(job->arena, job->sbom);
    job->sbom_object = object_key(job, "sbom", sbom);
    job->provenance_object = object_key(job, "provenance", job->provenance);
    job->detail = "SBOM and provenance";
    return ec_object_put(job->signer->objects, job->sbom_object, ec_span_of(sbom), on_sbom_stored,
                         job);
}

/* ---- verify: as a stranger would, and what the object store gives back ---- */

static void on_sbom_back(void *arg, struct ec_err err, struct ec_span bytes)
{
    struct job *job = arg;
    if (!ec_failed(err) && !ec_span_is(bytes, ec_json_dump(job->arena, job->sbom))) {
        err = ec_reject("the object store gave another SBOM back");
    }
    end_step(job, err);
}

static void on_provenance_back(void *arg, struct ec_err err, struct ec_span bytes)
{
    struct job *job = arg;
    if (!ec_failed(err) && !ec_span_is(bytes, job->provenance)) {
        err = ec_reject("the object store gave another provenance back");
    }
    if (!ec_failed(err)) {
        err = ec_object_get(job->signer->objects, job->sbom_object, on_sbom_back, job);
    }
    if (ec_failed(err)) {
        end_step(job, err);
    }
}

static struct ec_err judge(struct job *job, const struct ec_image_verdict *verdict)
{
    for (size_t i = 0; i < verdict->check_count; i++) {
        if (!verdict->checks[i].ok) {
            return ec_reject_in(job->arena, "%s: %s", verdict->checks[i].name,
                                verdict->checks[i].detail);
        }
    }
    if (!json_equal(verdict->sbom, job->sbom)) {
        return ec_reject("the SBOM that the registry serves is not the one that was made");
    }
    return ec_object_get(job->signer->objects, job->provenance_object, on_provenance_back, job);
}

static void on_verified(void *arg, struct ec_err err, const struct ec_image_verdict *verdict)
{
    struct job *job = arg;
    if (!ec_failed(err)) {
        err = judge(job, verdict);
    }
    if (ec_failed(err)) {
        end_step(job, err);
    }
}

static struct ec_err start_verify(void *arg)
{
    struct job *job = arg;
    job->detail = "read back and verified";
    return verify_image(job, on_verified);
}

/* ---- the table ---- */

const struct ec_step sign_steps[] = {
    /* name         start             tries */
    {"check", start_check, 3}, {"sbom", start_sbom, 2},   {"provenance", start_provenance, 1},
    {"sign", start_sign, 3},   {"store", start_store, 3}, {"verify", start_verify, 3},
};
const size_t sign_step_count = EC_LEN(sign_steps);
