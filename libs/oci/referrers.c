/* Reading referrers: the API first, the fallback tag when there is none, then a referrer's content.
 */
#include "oci/referrers.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "oci/exchange.h"
#include "trust/digest.h"

#define TEXT_MAX_BYTES 255
#define LINK_MAX_BYTES 4096 /* once per page, and pages are as many as referrers at most */

struct listing {
    struct ec_registry *registry;
    struct ec_arena *arena;
    struct ec_ref image;
    const char *subject;
    struct ec_referrer list[EC_REFERRERS_MAX];
    size_t count;
    size_t seen; /* entries, those left out too */
    ec_referrers_fn done;
    void *arg;
};

static void finish_listing(struct listing *listing, struct ec_err err)
{
    listing->done(listing->arg, err, listing->list, ec_failed(err) ? 0 : listing->count);
    ec_arena_free(listing->arena);
    free(listing);
}

/* A stranger's text, cut: what is longer is nothing that we look for. */
static const char *short_copy(struct ec_arena *arena, const char *text)
{
    return ec_arena_text(arena, (struct ec_span){text, strnlen(text, TEXT_MAX_BYTES)});
}

static struct ec_err keep_referrers(struct listing *listing, struct ec_span index)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    EC_TRY(ec_json_parse(listing->arena, index, &root));
    const json_t *manifests = ec_json_at(root, "manifests");
    size_t count = json_array_size(manifests);
    if (count > EC_REFERRERS_MAX - listing->seen) {
        return ec_reject_in(listing->arena, "%s has more than %d referrers: remove old ones",
                            listing->subject, EC_REFERRERS_MAX);
    }
    listing->seen += count;
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(manifests, i);
        const json_t *annotations = json_object_get(entry, "annotations");
        const char *predicate = json_string_value(json_object_get(annotations, EC_REFERRER_BUNDLE));
        const char *digest = ec_json_text(entry, "digest");
        if (!ec_digest_valid(digest)) {
            continue; /* of another algorithm, or broken: nothing that we could check */
        }
        listing->list[listing->count++] = (struct ec_referrer){
            .digest = ec_arena_strdup(listing->arena, digest),
            .artifact_type = short_copy(listing->arena, ec_json_text(entry, "artifactType")),
            .predicate_type = short_copy(listing->arena, predicate ? predicate : ""),
        };
    }
    return ec_ok();
}

static void on_fallback(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct listing *listing = arg;
    if (answer->status == 404) {
        finish_listing(listing, ec_ok());
        return;
    }
    finish_listing(listing, ec_failed(err) ? err : keep_referrers(listing, answer->body));
}

static bool is_index(const struct ec_fetch_result *result)
{
    const char *type = ec_fetch_header(result, "content-type");
    return type && strncmp(type, EC_OCI_INDEX, strlen(EC_OCI_INDEX)) == 0;
}

static void on_api(void *arg, struct ec_err err, const struct ec_fetch_result *result);

static struct ec_err ask_api(struct listing *listing, const char *url)
{
    struct ec_exchange_spec spec = {
        .image = &listing->image,
        .method = "GET",
        .url = url,
        .accept = EC_OCI_INDEX,
        .body_max_bytes = EC_MANIFEST_MAX_BYTES,
    };
    return ec_exchange_start(listing->registry, &spec, on_api, listing);
}

/* `Link: </v2/...>; rel="next"`; NULL when this was the last page. */
static char *next_page(struct listing *listing, const struct ec_fetch_result *result)
{
    const char *link = ec_fetch_header(result, "link");
    if (!link || strlen(link) > LINK_MAX_BYTES || link[0] != '<' || link[1] != '/' ||
        !strstr(link, "rel=\"next\"")) {
        return NULL;
    }
    return ec_arena_text(listing->arena, (struct ec_span){link + 1, strcspn(link + 1, ">")});
}

static void on_api(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct listing *listing = arg;
    if (ec_failed(err) && (!result || err.fate == EC_FATE_RETRY)) {
        finish_listing(listing, err);
        return;
    }
    if (!ec_failed(err) && is_index(result)) {
        char *next = next_page(listing, result);
        size_t before = listing->seen;
        err = keep_referrers(listing, result->body);
        /* A page without entries ends it, or a registry could keep us for ever. */
        if (!ec_failed(err) && next && listing->seen > before) {
            err = ask_api(listing, next);
            if (!ec_failed(err)) {
                return;
            }
        }
        finish_listing(listing, err);
        return;
    }
    if (ec_failed(err) && (result->status == 401 || result->status == 403)) {
        finish_listing(listing, err);
        return;
    }
    err = ec_manifest_get(listing->registry, &listing->image,
                          ec_fallback_tag(listing->arena, listing->subject), on_fallback, listing);
    if (ec_failed(err)) {
        finish_listing(listing, err);
    }
}

struct ec_err ec_referrers_list(struct ec_registry *registry, const struct ec_ref *image,
                                const char *digest, ec_referrers_fn done, void *arg)
{
    struct listing *listing = ec_alloc(sizeof(*listing));
    listing->registry = registry;
    listing->arena = ec_arena_new(4u << 20);
    listing->image.host = ec_arena_strdup(listing->arena, image->host);
    listing->image.repo = ec_arena_strdup(listing->arena, image->repo);
    listing->subject = ec_arena_strdup(listing->arena, digest);
    listing->done = done;
    listing->arg = arg;
    struct ec_err err = ask_api(
        listing, ec_arena_format(listing->arena, "/v2/%s/referrers/%s", image->repo, digest));
    if (ec_failed(err)) {
        ec_arena_free(listing->arena);
        free(listing);
    }
    return err;
}

/* ---- the content of one ---- */

struct pull {
    struct ec_registry *registry;
    struct ec_arena *arena;
    struct ec_ref image;
    const char *media_type;
    size_t max_bytes;
    int64_t said_bytes;
    ec_registry_fn done;
    void *arg;
};

static void finish_pull(struct pull *pull, struct ec_err err, const struct ec_oci_answer *answer)
{
    pull->done(pull->arg, err, answer);
    ec_arena_free(pull->arena);
    free(pull);
}

static void on_layer(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct pull *pull = arg;
    if (!ec_failed(err) && answer->size_bytes != pull->said_bytes) {
        err = ec_reject("the referrer's layer has another size than its manifest says");
    }
    finish_pull(pull, err, answer);
}

static struct ec_err pull_layer(struct pull *pull, struct ec_span manifest)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    EC_TRY(ec_json_parse(pull->arena, manifest, &root));
    const json_t *layers = ec_json_at(root, "layers");
    const json_t *layer = json_array_get(layers, 0);
    const char *digest = ec_json_text(layer, "digest");
    pull->said_bytes = ec_json_int(layer, "size", -1);
    if (json_array_size(layers) != 1 || !ec_digest_valid(digest)) {
        return ec_reject("the referrer does not have exactly one layer with a sha256 digest");
    }
    if (strcmp(ec_json_text(layer, "mediaType"), pull->media_type) != 0) {
        return ec_reject_in(pull->arena, "the referrer's layer is no %s", pull->media_type);
    }
    if (pull->said_bytes < 0 || (uint64_t)pull->said_bytes > pull->max_bytes) {
        return ec_reject("the referrer's layer is over the size limit");
    }
    return ec_blob_get(pull->registry, &pull->image, digest, pull->max_bytes, on_layer, pull);
}

static void on_manifest(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct pull *pull = arg;
    if (!ec_failed(err)) {
        err = pull_layer(pull, answer->body);
    }
    if (ec_failed(err)) {
        finish_pull(pull, err, answer);
    }
}

struct ec_err ec_referrer_content(struct ec_registry *registry, const struct ec_ref *image,
                                  const char *digest, const char *media_type, size_t max_bytes,
                                  ec_registry_fn done, void *arg)
{
    struct pull *pull = ec_alloc(sizeof(*pull));
    pull->registry = registry;
    pull->arena = ec_arena_new(1u << 20);
    pull->image.host = ec_arena_strdup(pull->arena, image->host);
    pull->image.repo = ec_arena_strdup(pull->arena, image->repo);
    pull->media_type = ec_arena_strdup(pull->arena, media_type);
    pull->max_bytes = max_bytes;
    pull->done = done;
    pull->arg = arg;
    struct ec_err err = ec_manifest_get(registry, image, digest, on_manifest, pull);
    if (ec_failed(err)) {
        ec_arena_free(pull->arena);
        free(pull);
    }
    return err;
}
