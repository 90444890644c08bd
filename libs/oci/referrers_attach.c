/* Attaching a referrer: two blobs, the manifest, and where the registry has no referrers API the
 * fallback tag's list. That list is read, changed and written under one turn per process; a lost
 * update by another process shows when it is read back, and is repeated. */
#include "oci/referrers.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "oci/exchange.h"
#include "trust/digest.h"

#define EMPTY_CONFIG "{}"
#define EMPTY_MEDIA_TYPE "application/vnd.oci.empty.v1+json"
#define UPDATES_MAX 3
/* UPDATES_MAX texts of a list that was read with EC_MANIFEST_MAX_BYTES and may have grown when it
 * was written anew ("1e9" becomes "1000000000.0"). */
#define ARENA_MAX_BYTES (64u << 20)

struct attach {
    struct ec_registry *registry;
    struct ec_arena *arena;
    struct ec_ref image;
    const char *tag;
    const char *artifact_type;
    json_t *annotations;
    char *manifest;
    const char *digest; /* of the manifest */
    bool has_turn;
    unsigned updates;
    ec_attached_fn done;
    void *arg;
};

static void finish(struct attach *attach, struct ec_err err)
{
    if (attach->has_turn) {
        ec_registry_turn_over(attach->registry);
    }
    attach->done(attach->arg, err, attach->digest);
    json_decref(attach->annotations);
    ec_arena_free(attach->arena);
    free(attach);
}

/* ---- the fallback tag ---- */

static void read_list(void *arg);

static bool list_names(const json_t *index, const char *digest)
{
    const json_t *manifests = ec_json_at(index, "manifests");
    for (size_t i = 0; i < json_array_size(manifests); i++) {
        if (strcmp(ec_json_text(json_array_get(manifests, i), "digest"), digest) == 0) {
            return true;
        }
    }
    return false;
}

static void on_list_written(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    (void)answer;
    struct attach *attach = arg;
    if (ec_failed(err)) {
        finish(attach, err);
        return;
    }
    read_list(attach); /* believe nobody: somebody else may have written after us */
}

static struct ec_err write_list(struct attach *attach, json_t *index)
{
    json_t *entry =
        json_pack("{s:s, s:s, s:I, s:s, s:O}", "mediaType", EC_OCI_MANIFEST, "digest",
                  attach->digest, "size", (json_int_t)strlen(attach->manifest), "artifactType",
                  attach->artifact_type, "annotations", attach->annotations);
    json_array_append_new(json_object_get(index, "manifests"), entry);
    const char *text = ec_json_dump(attach->arena, index);
    return ec_manifest_put(attach->registry, &attach->image, attach->tag, EC_OCI_INDEX,
                           ec_span_of(text), on_list_written, attach);
}

static struct ec_err parse_list(struct attach *attach, const struct ec_oci_answer *answer,
                                json_t **ret_index)
{
    if (answer->status == 404) {
        *ret_index = json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2, "mediaType", EC_OCI_INDEX,
                               "manifests");
        return ec_ok();
    }
    EC_TRY(ec_json_parse(attach->arena, answer->body, ret_index));
    if (!json_is_array(json_object_get(*ret_index, "manifests"))) {
        return ec_reject_in(attach->arena, "the tag %s of %s is no list of referrers", attach->tag,
                            attach->image.repo);
    }
    return ec_ok();
}

static void on_list_read(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct attach *attach = arg;
    ec_cleanup(ec_json_freep) json_t *index = NULL;
    if (!ec_failed(err) || answer->status == 404) {
        err = parse_list(attach, answer, &index);
    }
    if (ec_failed(err) || list_names(index, attach->digest)) {
        finish(attach, err);
        return;
    }
    if (attach->updates++ == UPDATES_MAX) {
        finish(attach, ec_retry(0, "the list of referrers does not keep our entry"));
        return;
    }
    err = write_list(attach, index);
    if (ec_failed(err)) {
        finish(attach, err);
    }
}

static void read_list(void *arg)
{
    struct attach *attach = arg;
    attach->has_turn = true;
    struct ec_err err =
        ec_manifest_get(attach->registry, &attach->image, attach->tag, on_list_read, attach);
    if (ec_failed(err)) {
        finish(attach, err);
    }
}

/* ---- blobs and manifest ---- */

static void on_manifest_put(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct attach *attach = arg;
    if (!ec_failed(err) && !answer->subject_known) {
        err = ec_registry_wait_turn(attach->registry, read_list, attach);
        if (!ec_failed(err)) {
            return;
        }
    }
    finish(attach, err);
}

static void on_config_put(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    (void)answer;
    struct attach *attach = arg;
    if (!ec_failed(err)) {
        err = ec_manifest_put(attach->registry, &attach->image, attach->digest, EC_OCI_MANIFEST,
                              ec_span_of(attach->manifest), on_manifest_put, attach);
    }
    if (ec_failed(err)) {
        finish(attach, err);
    }
}

static void on_content_put(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    (void)answer;
    struct attach *attach = arg;
    if (!ec_failed(err)) {
        err = ec_blob_put(attach->registry, &attach->image, EC_SPAN(EMPTY_CONFIG), on_config_put,
                          attach);
    }
    if (ec_failed(err)) {
        finish(attach, err);
    }
}

static json_t *descriptor(const char *media_type, const char *digest, size_t size_bytes)
{
    return json_pack("{s:s, s:s, s:I}", "mediaType", media_type, "digest", digest, "size",
                     (json_int_t)size_bytes);
}

static struct ec_err make_manifest(struct attach *attach, const struct ec_attach_spec *spec)
{
    attach->annotations = json_pack("{s:s, s:s, s:s}", "org.opencontainers.image.created",
                                    spec->created, "dev.sigstore.bundle.content", "dsse-envelope",
                                    EC_REFERRER_BUNDLE, spec->predicate_type);
    json_t *config =
        descriptor(EMPTY_MEDIA_TYPE, ec_sha256_digest(attach->arena, EC_SPAN(EMPTY_CONFIG)),
                   strlen(EMPTY_CONFIG));
    json_t *layer = descriptor(spec->artifact_type, ec_sha256_digest(attach->arena, spec->content),
                               spec->content.len);
    json_t *subject = descriptor(spec->subject_media_type, spec->subject_digest,
                                 (size_t)spec->subject_size_bytes);
    ec_cleanup(ec_json_freep) json_t *root =
        json_pack("{s:i, s:s, s:s, s:o, s:[o], s:o, s:O}", "schemaVersion", 2, "mediaType",
                  EC_OCI_MANIFEST, "artifactType", spec->artifact_type, "config", config, "layers",
                  layer, "subject", subject, "annotations", attach->annotations);
    if (!root) {
        return ec_reject("a referrer's texts must be UTF-8");
    }
    attach->manifest = ec_json_dump(attach->arena, root);
    attach->digest = ec_sha256_digest(attach->arena, ec_span_of(attach->manifest));
    return ec_ok();
}

struct ec_err ec_referrers_attach(struct ec_registry *registry, const struct ec_attach_spec *spec,
                                  ec_attached_fn done, void *arg)
{
    struct attach *attach = ec_alloc(sizeof(*attach));
    attach->registry = registry;
    attach->arena = ec_arena_new(ARENA_MAX_BYTES);
    attach->image.host = ec_arena_strdup(attach->arena, spec->image->host);
    attach->image.repo = ec_arena_strdup(attach->arena, spec->image->repo);
    attach->tag = ec_fallback_tag(attach->arena, spec->subject_digest);
    attach->artifact_type = ec_arena_strdup(attach->arena, spec->artifact_type);
    attach->done = done;
    attach->arg = arg;
    struct ec_err err = make_manifest(attach, spec);
    if (!ec_failed(err)) {
        err = ec_blob_put(registry, spec->image, spec->content, on_content_put, attach);
    }
    if (ec_failed(err)) {
        json_decref(attach->annotations);
        ec_arena_free(attach->arena);
        free(attach);
    }
    return err;
}
