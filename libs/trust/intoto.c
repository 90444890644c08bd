/* Makes and reads in-toto statements. Keys are written in a fixed order and nothing depends on the
 * clock, so the same facts always give the same bytes: a redelivered event signs nothing new. */
#include "trust/intoto.h"

#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"
#include "trust/digest.h"

#define STATEMENT_V01 "https://in-toto.io/Statement/v0.1"
#define SUBJECTS_MAX 100

static void add_text(json_t *object, const char *name, const char *value)
{
    if (value && value[0]) {
        json_object_set_new(object, name, json_string(value));
    }
}

static json_t *subjects(const char *repo, const char *digest)
{
    json_t *subject = json_object();
    add_text(subject, "name", repo);
    json_object_set_new(subject, "digest", json_pack("{s:s}", "sha256", digest + 7));
    return json_pack("[o]", subject);
}

/* Takes predicate. */
static struct ec_err write_statement(struct ec_arena *arena, json_t *subject,
                                     const char *predicate_type, json_t *predicate, char **ret_text)
{
    ec_cleanup(ec_json_freep) json_t *root =
        json_pack("{s:s, s:o, s:s, s:o}", "_type", EC_STATEMENT_V1, "subject", subject,
                  "predicateType", predicate_type, "predicate", predicate);
    if (!root) {
        /* jansson refuses texts that are not UTF-8: they came from a stranger's commit or spec. */
        return ec_reject("a statement's texts must be UTF-8");
    }
    *ret_text = ec_json_dump(arena, root);
    return ec_ok();
}

struct ec_err ec_statement_signature(struct ec_arena *arena, const char *digest, char **ret_text)
{
    if (!ec_digest_valid(digest)) {
        return ec_reject("the image digest is not sha256:<64 hex digits>");
    }
    return write_statement(arena, subjects(NULL, digest), EC_PREDICATE_COSIGN, json_object(),
                           ret_text);
}

struct ec_err ec_statement_sbom(struct ec_arena *arena, const char *repo, const char *digest,
                                json_t *bom, char **ret_text)
{
    if (!ec_digest_valid(digest)) {
        return ec_reject("the image digest is not sha256:<64 hex digits>");
    }
    return write_statement(arena, subjects(repo, digest), EC_PREDICATE_CYCLONEDX, json_incref(bom),
                           ret_text);
}

/* ---- provenance ---- */

char *ec_source_uri(struct ec_arena *arena, const char *clone_url, const char *ref)
{
    bool has_ref = ref && ref[0];
    return ec_arena_format(arena, "git+%s%s%s", clone_url, has_ref ? "@" : "", has_ref ? ref : "");
}

char *ec_image_purl(struct ec_arena *arena, const char *reference)
{
    const char *slash = strrchr(reference, '/');
    const char *name = slash ? slash + 1 : reference;
    size_t name_len = strcspn(name, ":@");
    const char *tag = name[name_len] == ':' ? name + name_len + 1 : "latest";
    size_t tag_len = strcspn(tag, "@");
    char *purl =
        ec_arena_format(arena, "pkg:docker/%.*s@%.*s", (int)name_len, name, (int)tag_len, tag);
    if (!slash) {
        return purl;
    }
    struct ec_span repo = {reference, (size_t)(name + name_len - reference)};
    return ec_arena_format(arena, "%s?repository_url=%s", purl, ec_percent(arena, repo));
}

static json_t *external_parameters(const struct ec_provenance *facts)
{
    json_t *source = json_object();
    add_text(source, "uri", facts->source_uri);
    if (facts->commit_sha && facts->commit_sha[0]) {
        json_object_set_new(source, "digest", json_pack("{s:s}", "gitCommit", facts->commit_sha));
    }
    json_t *parameters = json_object();
    json_object_set_new(parameters, "source", source);
    add_text(parameters, "type", facts->build_type);
    add_text(parameters, "dockerfile", facts->dockerfile);
    add_text(parameters, "context", facts->context);
    add_text(parameters, "target", facts->target);
    if (facts->arg_count > 0) {
        json_t *args = json_object();
        for (size_t i = 0; i < facts->arg_count; i++) {
            json_object_set_new(args, facts->args[i].name, json_string(facts->args[i].value));
        }
        json_object_set_new(parameters, "args", args);
    }
    return parameters;
}

static json_t *dependencies(const struct ec_provenance *facts)
{
    json_t *list = json_array();
    json_array_append_new(list, json_pack("{s:s, s:{s:s}}", "uri", facts->source_uri, "digest",
                                          "gitCommit", facts->commit_sha));
    for (size_t i = 0; i < facts->material_count; i++) {
        const struct ec_material *material = &facts->materials[i];
        json_t *entry = json_object();
        add_text(entry, "uri", material->uri);
        if (ec_digest_valid(material->digest)) {
            json_object_set_new(entry, "digest",
                                json_pack("{s:s}", "sha256", material->digest + 7));
        }
        json_array_append_new(list, entry);
    }
    return list;
}

static json_t *run_details(const struct ec_provenance *facts)
{
    json_t *version = json_object();
    add_text(version, "enclii", facts->platform_version);
    add_text(version, "engine", facts->engine);
    json_t *builder = json_object();
    add_text(builder, "id", facts->builder_id);
    json_object_set_new(builder, "version", version);
    json_t *metadata = json_object();
    char when[EC_RFC3339_SIZE];
    add_text(metadata, "invocationId", facts->invocation_id);
    if (facts->started_unix_ms > 0) {
        ec_rfc3339(facts->started_unix_ms, when);
        add_text(metadata, "startedOn", when);
    }
    if (facts->finished_unix_ms > 0) {
        ec_rfc3339(facts->finished_unix_ms, when);
        add_text(metadata, "finishedOn", when);
    }
    return json_pack("{s:o, s:o}", "builder", builder, "metadata", metadata);
}

static const char *missing_fact(const struct ec_provenance *facts)
{
    const char *needed[] = {facts->builder_id, facts->source_uri, facts->commit_sha,
                            facts->invocation_id};
    const char *why[] = {"provenance needs the builder's id", "provenance needs the source's URL",
                         "provenance needs the commit", "provenance needs the build's id"};
    for (size_t i = 0; i < EC_LEN(needed); i++) {
        if (!needed[i] || !needed[i][0]) {
            return why[i];
        }
    }
    return NULL;
}

struct ec_err ec_statement_provenance(struct ec_arena *arena, const char *repo, const char *digest,
                                      const struct ec_provenance *facts, char **ret_text)
{
    const char *missing = missing_fact(facts);
    if (missing) {
        return ec_reject(missing);
    }
    if (!ec_digest_valid(digest)) {
        return ec_reject("the image digest is not sha256:<64 hex digits>");
    }
    json_t *definition =
        json_pack("{s:s, s:o, s:o}", "buildType", EC_BUILD_TYPE, "externalParameters",
                  external_parameters(facts), "resolvedDependencies", dependencies(facts));
    json_t *predicate =
        json_pack("{s:o, s:o}", "buildDefinition", definition, "runDetails", run_details(facts));
    return write_statement(arena, subjects(repo, digest), EC_PREDICATE_SLSA, predicate, ret_text);
}

/* ---- reading ---- */

static bool has_subject(const json_t *subject, const char *hex)
{
    size_t count = json_array_size(subject);
    for (size_t i = 0; i < count && i < SUBJECTS_MAX; i++) {
        if (strcmp(ec_json_text(json_array_get(subject, i), "digest.sha256"), hex) == 0) {
            return true;
        }
    }
    return false;
}

static struct ec_err check_statement(struct ec_arena *arena, const json_t *root, const char *digest)
{
    const char *type = ec_json_text(root, "_type");
    if (strcmp(type, EC_STATEMENT_V1) != 0 && strcmp(type, STATEMENT_V01) != 0) {
        return ec_reject_in(arena, "the payload is no in-toto statement (_type \"%.80s\")", type);
    }
    if (!ec_json_text(root, "predicateType")[0]) {
        return ec_reject("the statement has no predicateType");
    }
    if (!has_subject(ec_json_at(root, "subject"), digest + 7)) {
        return ec_reject_in(arena, "the statement is about another image than %s", digest);
    }
    return ec_ok();
}

struct ec_err ec_statement_read(struct ec_arena *arena, struct ec_span text, const char *digest,
                                struct ec_statement *ret_statement)
{
    if (!ec_digest_valid(digest)) {
        return ec_reject("the image digest is not sha256:<64 hex digits>");
    }
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    EC_TRY(ec_json_parse(arena, text, &root));
    EC_TRY(check_statement(arena, root, digest));
    *ret_statement = (struct ec_statement){
        .predicate_type = ec_json_text(root, "predicateType"),
        .predicate = ec_json_at(root, "predicate"),
    };
    ret_statement->root = EC_TAKE(root);
    return ec_ok();
}

struct ec_err ec_sbom_check(struct ec_arena *arena, const json_t *bom, int32_t *ret_components)
{
    const char *version = ec_json_text(bom, "specVersion");
    if (strcmp(ec_json_text(bom, "bomFormat"), "CycloneDX") != 0) {
        return ec_reject("the SBOM's bomFormat is not CycloneDX");
    }
    if (strcmp(version, "1.5") != 0 && strcmp(version, "1.6") != 0) {
        return ec_reject_in(arena, "the SBOM's specVersion is \"%.20s\", not 1.5 or 1.6", version);
    }
    /* CycloneDX leaves an empty list out: an image of one static binary has no components. */
    const json_t *components = ec_json_at(bom, "components");
    if (components && !json_is_array(components)) {
        return ec_reject("the SBOM's components is no array");
    }
    size_t count = json_array_size(components);
    for (size_t i = 0; i < count; i++) {
        const json_t *component = json_array_get(components, i);
        if (!ec_json_text(component, "type")[0] || !ec_json_text(component, "name")[0]) {
            return ec_reject_in(arena, "the SBOM's component %zu has no type or no name", i);
        }
    }
    *ret_components = (int32_t)count;
    return ec_ok();
}
