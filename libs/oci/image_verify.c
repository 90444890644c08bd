/* The verification, in steps: the image's manifest by digest, the list of referrers, then the
 * bundles, WINDOW at a time but judged in the list's order. A bundle that does not verify never
 * hurts one that does (anybody who may push can add one); its reason is kept and told if no good
 * one of its kind is found. */
#include "oci/image_verify.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "oci/referrers.h"
#include "trust/bundle.h"
#include "trust/digest.h"

/* One bundle's decoded texts: at most three times EC_BUNDLE_MAX_BYTES. */
#define BUNDLE_ARENA_MAX_BYTES (4u * EC_BUNDLE_MAX_BYTES)
#define BUNDLES_MAX 50
#define WINDOW 4 /* bundles pulled and kept at once: an image signed by us has three */

enum { CHECK_IMAGE, CHECK_SIGNATURE, CHECK_PROVENANCE, CHECK_SBOM, CHECK_COUNT };

/* A bundle being pulled, or waiting to be judged. */
struct pulled {
    struct verify *vf;
    struct ec_err err;
    char *text; /* heap: the bundle, or why there is none */
    size_t len;
};

struct verify {
    struct ec_registry *registry;
    struct ec_arena *arena;
    struct ec_ref image;
    struct ec_keyring keys;
    const char *expect_commit;
    const char *expect_clone_url;
    const char *expect_builder_id;
    struct ec_referrer *bundles;
    size_t bundle_count;
    size_t at; /* the first bundle of the window */
    struct pulled window[WINDOW];
    size_t waiting; /* of the window, still under way */
    struct ec_image_verdict verdict;
    json_t *sbom, *provenance; /* what the verdict lends */
    ec_image_verify_fn done;
    void *arg;
};

static void finish(struct verify *vf, struct ec_err err)
{
    vf->verdict.ok = true;
    for (size_t i = 0; i < vf->verdict.check_count; i++) {
        vf->verdict.ok = vf->verdict.ok && vf->verdict.checks[i].ok;
    }
    vf->verdict.sbom = vf->sbom;
    vf->verdict.provenance = vf->provenance;
    vf->done(vf->arg, err, ec_failed(err) ? NULL : &vf->verdict);
    json_decref(vf->sbom);
    json_decref(vf->provenance);
    ec_arena_free(vf->arena);
    free(vf);
}

static void set_check(struct verify *vf, int which, bool ok, const char *detail)
{
    vf->verdict.checks[which].ok = ok;
    vf->verdict.checks[which].detail = ec_arena_strdup(vf->arena, detail);
}

/* ---- one bundle ---- */

/* A text of a stranger, cut to what people read. */
static char *cut(struct ec_arena *arena, const char *text)
{
    return ec_arena_text(arena, (struct ec_span){text, strnlen(text, 300)});
}

static bool source_is(const char *uri, const char *clone_url)
{
    size_t len = strlen(clone_url);
    return strncmp(uri, "git+", 4) == 0 && strncmp(uri + 4, clone_url, len) == 0 &&
           (uri[4 + len] == '\0' || uri[4 + len] == '@');
}

/* The commit that the provenance binds to this source. */
static const char *commit_of(const json_t *predicate, const char *source_uri)
{
    const json_t *list = ec_json_at(predicate, "buildDefinition.resolvedDependencies");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        if (strcmp(ec_json_text(entry, "uri"), source_uri) == 0) {
            return ec_json_text(entry, "digest.gitCommit");
        }
    }
    return "";
}

static void check_provenance(struct verify *vf, const struct ec_referrer *bundle, json_t *predicate)
{
    const char *source = ec_json_text(predicate, "buildDefinition.externalParameters.source.uri");
    const char *builder = ec_json_text(predicate, "runDetails.builder.id");
    const char *commit = commit_of(predicate, source);
    const char *why = NULL;
    if (!commit[0]) {
        why = "the provenance names no source commit";
    } else if (vf->expect_commit[0] && strcmp(commit, vf->expect_commit) != 0) {
        why = ec_arena_format(vf->arena, "built from commit %.64s, expected %.64s", commit,
                              vf->expect_commit);
    } else if (vf->expect_clone_url[0] && !source_is(source, vf->expect_clone_url)) {
        why = ec_arena_format(vf->arena, "built from %.200s, expected %.200s", source,
                              vf->expect_clone_url);
    } else if (vf->expect_builder_id[0] && strcmp(builder, vf->expect_builder_id) != 0) {
        why = ec_arena_format(vf->arena, "built by %.200s, expected %.200s", builder,
                              vf->expect_builder_id);
    }
    if (why) {
        set_check(vf, CHECK_PROVENANCE, false, why);
        return;
    }
    vf->provenance = json_incref(predicate);
    vf->verdict.provenance_digest = bundle->digest;
    vf->verdict.commit_sha = cut(vf->arena, commit);
    vf->verdict.source_uri = cut(vf->arena, source);
    vf->verdict.builder_id = cut(vf->arena, builder);
    set_check(vf, CHECK_PROVENANCE, true,
              ec_arena_format(vf->arena, "commit %.64s of %.200s", commit, source));
}

static void check_sbom(struct verify *vf, const struct ec_referrer *bundle, json_t *bom)
{
    int32_t components = 0;
    struct ec_err err = ec_sbom_check(vf->arena, bom, &components);
    if (ec_failed(err)) {
        set_check(vf, CHECK_SBOM, false, err.what);
        return;
    }
    vf->sbom = json_incref(bom);
    vf->verdict.sbom_digest = bundle->digest;
    vf->verdict.sbom_components = components;
    vf->verdict.sbom_format =
        ec_arena_format(vf->arena, "cyclonedx-json %s", ec_json_text(bom, "specVersion"));
    set_check(vf, CHECK_SBOM, true,
              ec_arena_format(vf->arena, "%s, %d components", vf->verdict.sbom_format, components));
}

static int check_of(const char *predicate_type)
{
    if (strcmp(predicate_type, EC_PREDICATE_COSIGN) == 0) {
        return CHECK_SIGNATURE;
    }
    if (strcmp(predicate_type, EC_PREDICATE_SLSA) == 0) {
        return CHECK_PROVENANCE;
    }
    return strcmp(predicate_type, EC_PREDICATE_CYCLONEDX) == 0 ? CHECK_SBOM : -1;
}

static void note_bad(struct verify *vf, const struct ec_referrer *bundle, const char *why)
{
    int which = check_of(bundle->predicate_type);
    if (which >= 0 && !vf->verdict.checks[which].ok) {
        set_check(vf, which, false,
                  ec_arena_format(vf->arena, "%.20s…: %.300s", bundle->digest, why));
    }
}

static void check_bundle(struct verify *vf, const struct ec_referrer *bundle, struct ec_span text)
{
    struct ec_arena *arena = ec_arena_new(BUNDLE_ARENA_MAX_BYTES);
    struct ec_statement statement = {0};
    struct ec_err err = ec_bundle_verify(arena, vf->keys, text, vf->image.digest, &statement);
    if (ec_failed(err)) {
        note_bad(vf, bundle, err.what);
        ec_arena_free(arena);
        return;
    }
    int which = check_of(statement.predicate_type);
    if (which >= 0 && !vf->verdict.checks[which].ok) {
        if (which == CHECK_SIGNATURE) {
            vf->verdict.signature_digest = bundle->digest;
            vf->verdict.key_id = statement.key_id;
            set_check(vf, which, true,
                      ec_arena_format(vf->arena, "signed by key %s", statement.key_id));
        } else if (which == CHECK_PROVENANCE) {
            check_provenance(vf, bundle, statement.predicate);
        } else {
            check_sbom(vf, bundle, statement.predicate);
        }
    }
    json_decref(statement.root);
    ec_arena_free(arena);
}

/* ---- the steps ---- */

static void pull_window(struct verify *vf);

static size_t window_size(const struct verify *vf)
{
    size_t left = vf->bundle_count - vf->at;
    return left < WINDOW ? left : WINDOW;
}

/* Whether to go on. */
static bool judge(struct verify *vf, const struct ec_referrer *bundle, struct pulled *pulled)
{
    if (pulled->err.fate == EC_FATE_RETRY) {
        finish(vf, pulled->err);
        return false;
    }
    if (ec_failed(pulled->err)) {
        note_bad(vf, bundle, pulled->err.what);
    } else {
        check_bundle(vf, bundle, (struct ec_span){pulled->text, pulled->len});
    }
    return true;
}

static void judge_window(struct verify *vf)
{
    struct pulled window[WINDOW];
    size_t first = vf->at, count = window_size(vf);
    bool go_on = true;
    memcpy(window, vf->window, sizeof(window)); /* vf may be gone when all is judged */
    vf->at += count;
    for (size_t i = 0; i < count && go_on; i++) {
        go_on = judge(vf, &vf->bundles[first + i], &window[i]);
    }
    for (size_t i = 0; i < count; i++) {
        free(window[i].text);
    }
    if (go_on) {
        pull_window(vf);
    }
}

static void on_bundle(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct pulled *pulled = arg;
    struct verify *vf = pulled->vf;
    struct ec_span text = ec_failed(err) ? ec_span_of(err.what) : answer->body;
    pulled->text = ec_alloc(text.len + 1);
    memcpy(pulled->text, text.ptr, text.len);
    pulled->len = text.len;
    pulled->err = (struct ec_err){err.fate, err.sys, pulled->text};
    if (--vf->waiting == 0) {
        judge_window(vf);
    }
}

static void pull_window(struct verify *vf)
{
    size_t count = window_size(vf);
    if (count == 0) {
        finish(vf, ec_ok());
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct pulled *pulled = &vf->window[i];
        *pulled = (struct pulled){.vf = vf};
        pulled->err =
            ec_referrer_content(vf->registry, &vf->image, vf->bundles[vf->at + i].digest,
                                EC_BUNDLE_MEDIA_TYPE, EC_BUNDLE_MAX_BYTES, on_bundle, pulled);
        vf->waiting += !ec_failed(pulled->err);
    }
    if (vf->waiting == 0) {
        judge_window(vf);
    }
}

static void keep_bundles(struct verify *vf, const struct ec_referrer *list, size_t count)
{
    vf->bundles = ec_arena_alloc(vf->arena, sizeof(*list) * (count + 1));
    /* New ones are at the end: when there are too many, look at those. */
    for (size_t i = count; i-- > 0 && vf->bundle_count < BUNDLES_MAX;) {
        /* An index made by other tools may leave the artifact type out: then look at it. */
        if (list[i].artifact_type[0] && strcmp(list[i].artifact_type, EC_BUNDLE_MEDIA_TYPE) != 0) {
            continue;
        }
        vf->bundles[vf->bundle_count++] = (struct ec_referrer){
            .digest = ec_arena_strdup(vf->arena, list[i].digest),
            .artifact_type = ec_arena_strdup(vf->arena, list[i].artifact_type),
            .predicate_type = ec_arena_strdup(vf->arena, list[i].predicate_type),
        };
    }
}

static void on_list(void *arg, struct ec_err err, const struct ec_referrer *list, size_t count)
{
    struct verify *vf = arg;
    if (err.fate == EC_FATE_RETRY) {
        finish(vf, err);
        return;
    }
    if (ec_failed(err)) {
        set_check(vf, CHECK_SIGNATURE, false, err.what);
        finish(vf, ec_ok());
        return;
    }
    keep_bundles(vf, list, count);
    pull_window(vf);
}

static void on_image(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    struct verify *vf = arg;
    if (err.fate == EC_FATE_RETRY) {
        finish(vf, err);
        return;
    }
    if (ec_failed(err)) {
        set_check(vf, CHECK_IMAGE, false, err.what);
        finish(vf, ec_ok());
        return;
    }
    vf->verdict.media_type = cut(vf->arena, answer->media_type);
    vf->verdict.size_bytes = answer->size_bytes;
    set_check(vf, CHECK_IMAGE, true, vf->image.digest);
    err = ec_referrers_list(vf->registry, &vf->image, vf->image.digest, on_list, vf);
    if (ec_failed(err)) {
        finish(vf, err);
    }
}

static void prepare_verdict(struct verify *vf)
{
    static const char *const names[CHECK_COUNT] = {"image", "signature", "provenance", "sbom"};
    static const char *const absent[CHECK_COUNT] = {"not looked at", "the image has no signature",
                                                    "the image has no provenance",
                                                    "the image has no SBOM"};
    struct ec_image_verdict *verdict = &vf->verdict;
    for (int i = 0; i < CHECK_COUNT; i++) {
        verdict->checks[i] = (struct ec_image_check){names[i], false, absent[i]};
    }
    verdict->check_count = CHECK_COUNT;
    verdict->key_id = ec_key_hint(vf->keys.keys[0]);
    verdict->media_type = verdict->signature_digest = verdict->provenance_digest = "";
    verdict->sbom_digest = verdict->commit_sha = verdict->source_uri = verdict->builder_id = "";
    verdict->sbom_format = "";
}

struct ec_err ec_image_verify(struct ec_registry *registry, const struct ec_image_verify_spec *spec,
                              ec_image_verify_fn done, void *arg)
{
    if (spec->keys.count == 0) {
        return ec_fatal(0, "verification needs a public key");
    }
    if (!ec_digest_valid(spec->image->digest)) {
        return ec_reject("verification needs the image's digest: repo@sha256:<64 hex digits>");
    }
    struct verify *vf = ec_alloc(sizeof(*vf));
    vf->registry = registry;
    vf->arena = ec_arena_new(4u << 20);
    vf->image.host = ec_arena_strdup(vf->arena, spec->image->host);
    vf->image.repo = ec_arena_strdup(vf->arena, spec->image->repo);
    vf->image.digest = ec_arena_strdup(vf->arena, spec->image->digest);
    vf->keys = spec->keys;
    const char *commit = spec->expect_commit;
    const char *url = spec->expect_clone_url;
    const char *builder = spec->expect_builder_id;
    vf->expect_commit = ec_arena_strdup(vf->arena, commit ? commit : "");
    vf->expect_clone_url = ec_arena_strdup(vf->arena, url ? url : "");
    vf->expect_builder_id = ec_arena_strdup(vf->arena, builder ? builder : "");
    vf->done = done;
    vf->arg = arg;
    prepare_verdict(vf);
    struct ec_err err = ec_manifest_get(registry, &vf->image, vf->image.digest, on_image, vf);
    if (ec_failed(err)) {
        ec_arena_free(vf->arena);
        free(vf);
    }
    return err;
}

/* Texts that were cut inside a character are no JSON. */
static json_t *text_or_mark(const char *text)
{
    json_t *value = json_string(text);
    return value ? value : json_string("(not readable as UTF-8)");
}

json_t *ec_image_verdict_json(const struct ec_image_verdict *verdict)
{
    json_t *checks = json_array();
    for (size_t i = 0; i < verdict->check_count; i++) {
        const struct ec_image_check *check = &verdict->checks[i];
        json_array_append_new(checks, json_pack("{s:s, s:b, s:o}", "name", check->name, "ok",
                                                check->ok, "detail", text_or_mark(check->detail)));
    }
    return json_pack("{s:b, s:s, s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:i}", "verified",
                     verdict->ok, "keyId", verdict->key_id, "checks", checks, "signatureDigest",
                     verdict->signature_digest, "provenanceDigest", verdict->provenance_digest,
                     "sbomDigest", verdict->sbom_digest, "commit",
                     text_or_mark(verdict->commit_sha), "source", text_or_mark(verdict->source_uri),
                     "builder", text_or_mark(verdict->builder_id), "sbomFormat",
                     verdict->sbom_format, "sbomComponents", verdict->sbom_components);
}
