/* The registry's verbs: each is one exchange, or three for an upload. What a peer says of its own
 * bytes is a hint only: digests are computed here. */
#include "oci/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "oci/exchange.h"
#include "trust/digest.h"

#define ACCEPT_MANIFESTS                                                                           \
    "application/vnd.oci.image.index.v1+json, "                                                    \
    "application/vnd.docker.distribution.manifest.list.v2+json, "                                  \
    "application/vnd.oci.image.manifest.v1+json, "                                                 \
    "application/vnd.docker.distribution.manifest.v2+json"
#define ERROR_BODY_MAX_BYTES 65536

/* One verb under way. */
struct call {
    struct ec_registry *registry;
    struct ec_arena *arena;
    struct ec_ref image;
    const char *want; /* digest that the body must have; NULL: any */
    bool head;
    struct ec_span bytes; /* an upload's, on the heap */
    ec_registry_fn done;
    void *arg;
};

static const char *header_or_empty(const struct ec_fetch_result *result, const char *name)
{
    const char *value = result ? ec_fetch_header(result, name) : NULL;
    return value ? value : "";
}

static struct call *new_call(struct ec_registry *registry, const struct ec_ref *image,
                             ec_registry_fn done, void *arg)
{
    struct call *call = ec_alloc(sizeof(*call));
    call->registry = registry;
    call->arena = ec_arena_new(1u << 20);
    call->image.host = ec_arena_strdup(call->arena, image->host);
    call->image.repo = ec_arena_strdup(call->arena, image->repo);
    call->done = done;
    call->arg = arg;
    return call;
}

static void free_call(struct call *call)
{
    free((void *)(uintptr_t)call->bytes.ptr);
    ec_arena_free(call->arena);
    free(call);
}

static void finish(struct call *call, struct ec_err err, const struct ec_oci_answer *answer)
{
    static const struct ec_oci_answer none = {.media_type = "", .digest = ""};
    call->done(call->arg, err, answer ? answer : &none);
    free_call(call);
}

/* The start failed: nobody will call back. */
static struct ec_err drop_if_failed(struct call *call, struct ec_err err)
{
    if (ec_failed(err)) {
        free_call(call);
    }
    return err;
}

static struct ec_err fill_answer(struct call *call, const struct ec_fetch_result *result,
                                 struct ec_oci_answer *answer)
{
    answer->body = result->body;
    answer->size_bytes = (int64_t)result->body.len;
    if (call->head) {
        const char *length = header_or_empty(result, "content-length");
        answer->size_bytes = length[0] ? strtoll(length, NULL, 10) : -1;
        return ec_ok();
    }
    answer->digest = ec_sha256_digest(call->arena, result->body);
    if (call->want && strcmp(answer->digest, call->want) != 0) {
        return ec_reject_in(call->arena, "registry %s sent other bytes (%s) for %s",
                            call->image.host, answer->digest, call->want);
    }
    return ec_ok();
}

static void on_read(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct call *call = arg;
    struct ec_oci_answer answer = {
        .status = result ? result->status : 0,
        .media_type = header_or_empty(result, "content-type"),
        .digest = header_or_empty(result, "docker-content-digest"),
        .size_bytes = -1,
    };
    if (!ec_failed(err)) {
        err = fill_answer(call, result, &answer);
    }
    finish(call, err, &answer);
}

/* GET or HEAD of /v2/<repo>/<kind>/<reference>. */
static struct ec_err start_read(struct call *call, const char *kind, const char *reference,
                                size_t max_bytes)
{
    bool manifest = strcmp(kind, "manifests") == 0;
    bool by_digest = ec_digest_valid(reference);
    if (!by_digest && !(manifest && ec_tag_valid(reference))) {
        return ec_reject("a manifest is asked for by tag or digest, a blob by digest");
    }
    call->want = by_digest && !call->head ? ec_arena_strdup(call->arena, reference) : NULL;
    struct ec_exchange_spec spec = {
        .image = &call->image,
        .method = call->head ? "HEAD" : "GET",
        .url = ec_arena_format(call->arena, "/v2/%s/%s/%s", call->image.repo, kind, reference),
        .accept = manifest ? ACCEPT_MANIFESTS : NULL,
        /* libcurl compares a HEAD's Content-Length with the limit, too. */
        .body_max_bytes = call->head ? SIZE_MAX : max_bytes,
    };
    return ec_exchange_start(call->registry, &spec, on_read, call);
}

struct ec_err ec_manifest_get(struct ec_registry *registry, const struct ec_ref *image,
                              const char *reference, ec_registry_fn done, void *arg)
{
    struct call *call = new_call(registry, image, done, arg);
    return drop_if_failed(call, start_read(call, "manifests", reference, EC_MANIFEST_MAX_BYTES));
}

struct ec_err ec_manifest_head(struct ec_registry *registry, const struct ec_ref *image,
                               const char *reference, ec_registry_fn done, void *arg)
{
    struct call *call = new_call(registry, image, done, arg);
    call->head = true;
    return drop_if_failed(call, start_read(call, "manifests", reference, 0));
}

struct ec_err ec_blob_get(struct ec_registry *registry, const struct ec_ref *image,
                          const char *digest, size_t max_bytes, ec_registry_fn done, void *arg)
{
    struct call *call = new_call(registry, image, done, arg);
    return drop_if_failed(call, start_read(call, "blobs", digest, max_bytes));
}

struct ec_err ec_blob_head(struct ec_registry *registry, const struct ec_ref *image,
                           const char *digest, ec_registry_fn done, void *arg)
{
    struct call *call = new_call(registry, image, done, arg);
    call->head = true;
    return drop_if_failed(call, start_read(call, "blobs", digest, 0));
}

/* ---- writing ---- */

static void on_written(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct call *call = arg;
    struct ec_oci_answer answer = {
        .status = result ? result->status : 0,
        .media_type = "",
        .digest = call->want,
        .subject_known = header_or_empty(result, "oci-subject")[0] != '\0',
    };
    finish(call, err, &answer);
}

struct ec_err ec_manifest_put(struct ec_registry *registry, const struct ec_ref *image,
                              const char *reference, const char *media_type, struct ec_span bytes,
                              ec_registry_fn done, void *arg)
{
    struct call *call = new_call(registry, image, done, arg);
    call->want = ec_sha256_digest(call->arena, bytes);
    struct ec_exchange_spec spec = {
        .image = &call->image,
        .push = true,
        .method = "PUT",
        .url = ec_arena_format(call->arena, "/v2/%s/manifests/%s", call->image.repo, reference),
        .content_type = media_type,
        .body = bytes,
        .body_max_bytes = ERROR_BODY_MAX_BYTES,
    };
    if (bytes.len > EC_MANIFEST_MAX_BYTES) {
        return drop_if_failed(call, ec_reject("a manifest may have at most 4 MiB"));
    }
    return drop_if_failed(call, ec_exchange_start(registry, &spec, on_written, call));
}

struct ec_err ec_upload_url(struct ec_arena *arena, const char *location, const char *digest,
                            char **ret_url)
{
    bool absolute = strncmp(location, "http://", 7) == 0 || strncmp(location, "https://", 8) == 0;
    if (!absolute && location[0] != '/') {
        return ec_reject_in(arena, "the registry sent the upload to \"%.200s\"", location);
    }
    *ret_url = ec_arena_format(arena, "%s%sdigest=%s", location, strchr(location, '?') ? "&" : "?",
                               ec_percent(arena, ec_span_of(digest)));
    return ec_ok();
}

static struct ec_err put_bytes(struct call *call, const char *location)
{
    char *url = NULL;
    EC_TRY(ec_upload_url(call->arena, location, call->want, &url));
    struct ec_exchange_spec spec = {
        .image = &call->image,
        .push = true,
        .method = "PUT",
        .url = url,
        .content_type = "application/octet-stream",
        .body = call->bytes,
        .body_max_bytes = ERROR_BODY_MAX_BYTES,
    };
    return ec_exchange_start(call->registry, &spec, on_written, call);
}

static void on_upload_opened(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct call *call = arg;
    if (!ec_failed(err)) {
        const char *location = header_or_empty(result, "location");
        err = location[0] ? put_bytes(call, location)
                          : ec_reject("the registry opened an upload without a Location");
        if (!ec_failed(err)) {
            return;
        }
    }
    finish(call, err, NULL);
}

static void on_looked_up(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct call *call = arg;
    if (!ec_failed(err)) {
        on_written(call, err, result);
        return;
    }
    if (result && result->status == 404) {
        struct ec_exchange_spec spec = {
            .image = &call->image,
            .push = true,
            .method = "POST",
            .url = ec_arena_format(call->arena, "/v2/%s/blobs/uploads/", call->image.repo),
            .body_max_bytes = ERROR_BODY_MAX_BYTES,
        };
        err = ec_exchange_start(call->registry, &spec, on_upload_opened, call);
        if (!ec_failed(err)) {
            return;
        }
    }
    finish(call, err, NULL);
}

struct ec_err ec_blob_put(struct ec_registry *registry, const struct ec_ref *image,
                          struct ec_span bytes, ec_registry_fn done, void *arg)
{
    struct call *call = new_call(registry, image, done, arg);
    call->want = ec_sha256_digest(call->arena, bytes);
    char *copy = ec_alloc(bytes.len + 1);
    memcpy(copy, bytes.ptr, bytes.len);
    call->bytes = (struct ec_span){copy, bytes.len};
    struct ec_exchange_spec spec = {
        .image = &call->image,
        .push = true,
        .method = "HEAD",
        .url = ec_arena_format(call->arena, "/v2/%s/blobs/%s", call->image.repo, call->want),
        .body_max_bytes = SIZE_MAX,
    };
    return drop_if_failed(call, ec_exchange_start(registry, &spec, on_looked_up, call));
}
