/* Attaching referrers to one image: all blobs at once, then all manifests at once, and where the
 * registry has no referrers API the fallback tag's list. That list is read, changed and written
 * under one turn per process; a lost update by another process shows when it is read back, and is
 * repeated. */
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

/* One document on its way. */
struct item {
    json_t *annotations;
    char *manifest;
    const char *digest; /* of the manifest */
};

struct attach {
    struct ec_registry *registry;
    struct ec_arena *arena;
    struct ec_ref image;
    const char *tag;
    const char *artifact_type;
    struct item items[EC_ATTACH_MAX];
    size_t count;
    size_t waiting;    /* exchanges of this stage under way */
    struct ec_err err; /* the first that failed in this stage; its text is in the arena */
    bool unlisted;     /* the registry keeps no list of its own */
    bool has_turn;
    unsigned updates;
    ec_attached_fn done;
    void *arg;
};

static void free_attach(struct attach *attach)
{
    for (size_t i = 0; i < attach->count; i++) {
        json_decref(attach->items[i].annotations);
    }
    ec_arena_free(attach->arena);
    free(attach);
}

static void finish(struct attach *attach, struct ec_err err)
{
    const char *digests[EC_ATTACH_MAX];
    if (attach->has_turn) {
        ec_registry_turn_over(attach->registry);
    }
    for (size_t i = 0; i < attach->count; i++) {
        digests[i] = attach->items[i].digest;
    }
    attach->done(attach->arg, err, ec_failed(err) ? NULL : digests);
    free_attach(attach);
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

/* How many of ours the list lacked; they are in it now. */
static size_t complete_list(struct attach *attach, json_t *index)
{
    size_t added = 0;
    for (size_t i = 0; i < attach->count; i++) {
        const struct item *item = &attach->items[i];
        if (list_names(index, item->digest)) {
            continue;
        }
        json_t *entry =
            json_pack("{s:s, s:s, s:I, s:s, s:O}", "mediaType", EC_OCI_MANIFEST, "digest",
                      item->digest, "size", (json_int_t)strlen(item->manifest), "artifactType",
                      attach->artifact_type, "annotations", item->annotations);
        json_array_append_new(json_object_get(index, "manifests"), entry);
        added++;
    }
    return added;
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
    if (ec_failed(err) || complete_list(attach, index) == 0) {
        finish(attach, err);
        return;
    }
    if (attach->updates++ == UPDATES_MAX) {
        finish(attach, ec_retry(0, "the list of referrers does not keep our entries"));
        return;
    }
    err = ec_manifest_put(attach->registry, &attach->image, attach->tag, EC_OCI_INDEX,
                          ec_span_of(ec_json_dump(attach->arena, index)), on_list_written, attach);
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

/* ---- blobs, then manifests: each stage ends when its last exchange has ---- */

static void note(struct attach *attach, struct ec_err err)
{
    if (ec_failed(err) && !ec_failed(attach->err)) {
        attach->err = err;
        attach->err.what = ec_arena_strdup(attach->arena, err.what);
    }
}

/* Counts an exchange that was started, or notes that it was not. */
static void started(struct attach *attach, struct ec_err err)
{
    attach->waiting += !ec_failed(err);
    note(attach, err);
}

static void on_manifest_put(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct attach *attach = arg;
    note(attach, err);
    attach->unlisted = attach->unlisted || (!ec_failed(err) && !answer->subject_known);
    if (--attach->waiting > 0) {
        return;
    }
    if (!ec_failed(attach->err) && attach->unlisted) {
        note(attach, ec_registry_wait_turn(attach->registry, read_list, attach));
        if (!ec_failed(attach->err)) {
            return;
        }
    }
    finish(attach, attach->err);
}

static void on_blob_put(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    (void)answer;
    struct attach *attach = arg;
    note(attach, err);
    if (--attach->waiting > 0) {
        return;
    }
    for (size_t i = 0; i < attach->count && !ec_failed(attach->err); i++) {
        const struct item *item = &attach->items[i];
        started(attach,
                ec_manifest_put(attach->registry, &attach->image, item->digest, EC_OCI_MANIFEST,
                                ec_span_of(item->manifest), on_manifest_put, attach));
    }
    if (attach->waiting == 0) {
        finish(attach, attach->err);
    }
}

static json_t *descriptor(const char *media_type, const char *digest, size_t size_bytes)
{
    return json_pack("{s:s, s:s, s:I}", "mediaType", media_type, "digest", digest, "size",
                     (json_int_t)size_bytes);
}

static struct ec_err make_manifest(struct attach *attach, const struct ec_attach_spec *spec,
                                   const struct ec_attachment *document, struct item *item)
{
    item->annotations = json_pack("{s:s, s:s, s:s}", "org.opencontainers.image.created",
                                  spec->created, "dev.sigstore.bundle.content", "dsse-envelope",
                                  EC_REFERRER_BUNDLE, document->predicate_type);
    json_t *config =
        descriptor(EMPTY_MEDIA_TYPE, ec_sha256_digest(attach->arena, EC_SPAN(EMPTY_CONFIG)),
                   strlen(EMPTY_CONFIG));
    json_t *layer =
        descriptor(spec->artifact_type, ec_sha256_digest(attach->arena, document->content),
                   document->content.len);
    json_t *subject = descriptor(spec->subject_media_type, spec->subject_digest,
                                 (size_t)spec->subject_size_bytes);
    ec_cleanup(ec_json_freep) json_t *root =
        json_pack("{s:i, s:s, s:s, s:o, s:[o], s:o, s:O}", "schemaVersion", 2, "mediaType",
                  EC_OCI_MANIFEST, "artifactType", spec->artifact_type, "config", config, "layers",
                  layer, "subject", subject, "annotations", item->annotations);
    if (!root) {
        return ec_reject("a referrer's texts must be UTF-8");
    }
    item->manifest = ec_json_dump(attach->arena, root);
    item->digest = ec_sha256_digest(attach->arena, ec_span_of(item->manifest));
    return ec_ok();
}

static struct ec_err start(struct attach *attach, const struct ec_attach_spec *spec)
{
    if (spec->count < 1 || spec->count > EC_ATTACH_MAX) {
        return ec_reject("between one and eight documents are attached at once");
    }
    for (size_t i = 0; i < spec->count; i++) {
        attach->count++;
        EC_TRY(make_manifest(attach, spec, &spec->list[i], &attach->items[i]));
    }
    EC_TRY(ec_blob_put(attach->registry, spec->image, EC_SPAN(EMPTY_CONFIG), on_blob_put, attach));
    attach->waiting = 1;
    for (size_t i = 0; i < spec->count; i++) {
        started(attach, ec_blob_put(attach->registry, spec->image, spec->list[i].content,
                                    on_blob_put, attach));
    }
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
    struct ec_err err = start(attach, spec);
    if (ec_failed(err)) {
        free_attach(attach);
    }
    return err;
}
