/* Releases and their evidence. A build that has no release yet, or never got one, is shown as one
 * too (building or failed), because older clients follow a build by its release; its id is the one
 * that the release will have. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/id.h"
#include "base/mem.h"
#include "oci/image_verify.h"
#include "oci/object_store.h"

static json_t *render_unborn(const struct ec_rows *rows, size_t row)
{
    const char *build = ec_rows_text(rows, row, "id");
    const char *state = ec_rows_text(rows, row, "state");
    bool open = strcmp(state, "waiting") == 0 || strcmp(state, "queued") == 0 ||
                strcmp(state, "leased") == 0 || strcmp(state, "running") == 0 ||
                strcmp(state, "SUCCEEDED") == 0;
    json_t *object = render_row(rows, row, "service_id git_sha ?reason ?detail created_at");
    struct ec_id id = ec_id_derive(build, "release");
    json_object_set_new(object, "id", json_string(id.text));
    json_object_set_new(object, "build_id", json_string(build));
    json_object_set_new(object, "version", json_string(""));
    json_object_set_new(object, "image_uri", json_string(""));
    json_object_set_new(object, "status", json_string(open ? "building" : "failed"));
    json_object_set_new(object, "state", json_string(state));
    json_object_set(object, "updated_at", json_object_get(object, "created_at"));
    if (!open) {
        json_object_set_new(object, "error_message",
                            json_sprintf("%s: %s", ec_rows_text(rows, row, "reason"),
                                         ec_rows_text(rows, row, "detail")));
    }
    return object;
}

/* Both lists are newest first; together too, and cut together. */
static void on_releases(struct call *call, const struct ec_batch *batch)
{
    const struct ec_rows *releases = ec_batch_rows(batch, 1), *builds = ec_batch_rows(batch, 2);
    json_t *list = json_array();
    size_t r = 0, b = 0, limit = strtoul(call->more, NULL, 10);
    while (r + b < limit && (r < ec_rows_count(releases) || b < ec_rows_count(builds))) {
        bool unborn =
            r == ec_rows_count(releases) ||
            (b < ec_rows_count(builds) && strcmp(ec_rows_text(builds, b, "created_at"),
                                                 ec_rows_text(releases, r, "created_at")) > 0);
        json_array_append_new(list, unborn ? render_unborn(builds, b++)
                                           : render_release(releases, r++, call->arena));
    }
    call_reply(call, 200,
               json_pack("{s:o, s:i}", "releases", list, "count", (int)json_array_size(list)));
}

void on_release_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    char *limit = ec_arena_strdup(call->arena, call_limit(call, 20));
    call->more = limit;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, PLAN_ANEW, NULL, 0);
    ec_batch_add(batch,
                 ec_arena_format(call->arena,
                                 "%s where x.service_id = $1::uuid order by x.number desc"
                                 " limit $2::int",
                                 RELEASE_SQL),
                 ARGS(call->service_id, limit));
    /* No release is older than its build, so what has none and is among the newest `limit` of the
     * answer is a build among the newest `limit`. */
    ec_batch_add(batch,
                 ec_arena_format(call->arena,
                                 "%s where x.id in (select id from enclii.build"
                                 " where service_id = $1::uuid order by queued_at desc"
                                 " limit $2::int) and r.id is null order by x.queued_at desc",
                                 BUILD_SQL),
                 ARGS(call->service_id, limit));
    call_read(call, batch, on_releases);
}

static void on_release(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200, render_release(rows, 0, call->arena));
}

void on_release_get(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, ec_arena_format(call->arena, "%s where x.id = $1::uuid", RELEASE_SQL),
               ARGS(call->id), on_release);
}

/* ---- evidence from the object store ---- */

static void on_object(void *arg, struct ec_err err, struct ec_span bytes)
{
    struct call *call = arg;
    if (err.fate == EC_FATE_REJECT) {
        call_problem(call, 404, "object_missing", NULL,
                     "the object store does not hold this document any more");
    } else if (ec_failed(err)) {
        ec_reply_error(call->req, err, "object_store");
    } else {
        ec_reply_text(call->req, 200, "application/json", bytes);
    }
}

static void on_object_key(struct call *call, const struct ec_rows *rows)
{
    const char *key = ec_rows_text(rows, 0, "key");
    if (!key[0]) {
        call_problem(call, 404, "not_signed_yet", NULL,
                     ec_arena_format(call->arena, "release %s is %s: it has no such document yet",
                                     ec_rows_text(rows, 0, "version"),
                                     ec_rows_text(rows, 0, "state")));
        return;
    }
    struct ec_err err = ec_object_get(call->api->objects, key, on_object, call);
    if (ec_failed(err)) {
        ec_reply_error(call->req, err, "object_store");
    }
}

static void give_object(struct call *call, const char *sql)
{
    if (!call->api->objects) {
        call_problem(call, 503, "no_object_store", NULL,
                     "this installation has no ENCLII_OBJECT_STORE");
        return;
    }
    call_query(call, sql, ARGS(call->id), on_object_key);
}

void on_release_sbom(void *state, struct ec_request *req)
{
    give_object(call_of(state, req), "select sbom_object as key, version, state"
                                     " from enclii.release where id = $1::uuid");
}

void on_release_provenance(void *state, struct ec_request *req)
{
    give_object(call_of(state, req), "select provenance_object as key, version, state"
                                     " from enclii.release where id = $1::uuid");
}

/* ---- verification, as a stranger would do it ---- */

static void on_verified(void *arg, struct ec_err err, const struct ec_image_verdict *verdict)
{
    struct call *call = arg;
    if (ec_failed(err)) {
        ec_reply_error(call->req, err, "registry_unreachable");
        return;
    }
    json_t *body = ec_image_verdict_json(verdict);
    json_object_set_new(body, "release_id", json_string(call->id));
    json_object_set_new(body, "image", json_string(call->more));
    call_reply(call, 200, body);
}

/* The registry's host is ours, whatever a row says: we connect nowhere else for anybody. */
static bool is_ours(const struct api *api, const char *image)
{
    size_t len = strlen(api->settings.registry);
    return strncmp(image, api->settings.registry, len) == 0 && image[len] == '/';
}

static void verify(struct call *call, const struct ec_rows *rows)
{
    struct ec_arena *arena = call->arena;
    char *image = ec_arena_format(arena, "%s@%s", ec_rows_text(rows, 0, "image_repo"),
                                  ec_rows_text(rows, 0, "digest"));
    call->more = image;
    if (!ec_rows_text(rows, 0, "digest")[0]) {
        call_problem(call, 404, "not_built_yet", NULL, "this release has no image yet");
        return;
    }
    struct ec_ref *ref = ec_arena_alloc(arena, sizeof(*ref));
    struct ec_err err = ec_ref_parse(arena, image, ref);
    if (ec_failed(err) || !is_ours(call->api, image)) {
        call_problem(call, 409, "foreign_image", NULL,
                     ec_arena_format(arena, "%s is not in this platform's registry (%s)", image,
                                     call->api->settings.registry));
        return;
    }
    struct ec_image_verify_spec spec = {
        .image = ref,
        .keys = call->api->keys, /* read: see on_release_verify */
        .expect_commit = ec_arena_strdup(arena, ec_rows_text(rows, 0, "commit_sha")),
    };
    err = ec_image_verify(call->api->oci, &spec, on_verified, call);
    if (ec_failed(err)) {
        ec_reply_error(call->req, err, "verification_failed");
    }
}

void on_release_verify(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    if (!call->api->oci) {
        call_problem(call, 503, "verification_off", NULL,
                     "verification needs ENCLII_REGISTRY and ENCLII_SIGNING_PUBLIC_KEY_FILE");
        return;
    }
    struct ec_err err = api_read_keys(call->api, call->arena);
    if (ec_failed(err)) {
        call_problem(call, 503, "verification_off", NULL,
                     ec_arena_format(call->arena,
                                     "the signer's public keys cannot be read "
                                     "(ENCLII_SIGNING_PUBLIC_KEY_FILE): %s",
                                     err.what));
        return;
    }
    call_query(call,
               "select image_repo, digest, commit_sha from enclii.release where id = $1::uuid",
               ARGS(call->id), verify);
}
