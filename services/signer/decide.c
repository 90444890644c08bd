/* What a release means: whether it can be signed at all, what its provenance says, why it is
 * refused. Pure functions of the event. */
#include <string.h>

#include "base/mem.h"
#include "signer.h"
#include "trust/digest.h"

#include "service/service.h"

const char *decide_refusal(const char *step_name)
{
    static const struct {
        const char *step, *reason;
    } reasons[] = {{"check", "digest_not_in_registry"}, {"sbom", "sbom_failed"},
                   {"provenance", "provenance_failed"}, {"sign", "sign_failed"},
                   {"store", "store_failed"},           {"verify", "self_verification_failed"}};
    for (size_t i = 0; i < EC_LEN(reasons); i++) {
        if (strcmp(reasons[i].step, step_name) == 0) {
            return reasons[i].reason;
        }
    }
    return "refused";
}

/* "host/prefix" covers itself and what is below it, not "host/prefix-of-others". */
static bool below(const char *repo, const char *registry)
{
    size_t len = strlen(registry);
    while (len > 0 && registry[len - 1] == '/') {
        len--;
    }
    return strncmp(repo, registry, len) == 0 && (len == 0 || repo[len] == '/');
}

struct ec_err decide_request_valid(struct ec_arena *arena,
                                   const Enclii__V1__ReleaseCreated *release, const char *registry)
{
    if (!release->release_id[0] || !release->build_id[0]) {
        return ec_reject("the release has no id or no build");
    }
    if (!release->commit || !release->commit->sha[0] || !release->clone_url[0]) {
        return ec_reject("the release names no source: commit and clone_url are needed");
    }
    if (!release->builder_id[0]) {
        return ec_reject("the release names no builder");
    }
    if (!ec_digest_valid(release->digest)) {
        return ec_reject_in(arena, "the image digest \"%.100s\" is not sha256:<64 hex digits>",
                            release->digest);
    }
    struct ec_ref ref;
    EC_TRY(ec_ref_parse(arena, release->image_repo, &ref));
    if (!below(release->image_repo, registry)) {
        return ec_reject_in(arena, "%.200s is not below %.200s (ENCLII_REGISTRY)",
                            release->image_repo, registry);
    }
    return ref.tag[0] || ref.digest[0] ? ec_reject("image_repo has a tag or digest of its own")
                                       : ec_ok();
}

char *decide_builder_uri(struct ec_arena *arena, const char *builder_id)
{
    return ec_arena_format(arena, "https://enclii.dev/builder/%s", builder_id);
}

void decide_provenance(struct ec_arena *arena, const Enclii__V1__ReleaseCreated *release,
                       struct ec_provenance *ret_facts)
{
    struct ec_material *materials =
        ec_arena_alloc(arena, sizeof(*materials) * (release->n_base_images + 1));
    for (size_t i = 0; i < release->n_base_images; i++) {
        const Enclii__V1__BaseImage *base = release->base_images[i];
        materials[i] = (struct ec_material){ec_image_purl(arena, base->reference), base->digest};
    }
    const Enclii__V1__BuildSpec *spec = release->build_spec;
    size_t arg_count = spec ? spec->n_args : 0;
    struct ec_pair *args = ec_arena_alloc(arena, sizeof(*args) * (arg_count + 1));
    for (size_t i = 0; i < arg_count; i++) {
        args[i] = (struct ec_pair){spec->args[i]->key, spec->args[i]->value};
    }
    *ret_facts = (struct ec_provenance){
        .builder_id = decide_builder_uri(arena, release->builder_id),
        .engine = release->engine,
        .platform_version = ec_version,
        .source_uri = ec_source_uri(arena, release->clone_url, release->commit->ref),
        .commit_sha = release->commit->sha,
        .build_type = spec ? spec->type : "",
        .dockerfile = spec ? spec->dockerfile : "",
        .context = spec ? spec->context : "",
        .target = spec ? spec->target : "",
        .args = args,
        .arg_count = arg_count,
        .materials = materials,
        .material_count = release->n_base_images,
        .invocation_id = ec_arena_format(arena, "%s/%d", release->build_id, release->attempt),
        .started_unix_ms = release->build_started_unix_ms,
        .finished_unix_ms = release->build_finished_unix_ms,
    };
}
