/* Statements: exact text of the cosign statement, the fields of provenance, reading and refusing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "trust/intoto.h"

#define HEX "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define OTHER "55136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static int setup(void **state)
{
    *state = ec_arena_new(4 << 20);
    return 0;
}

static int teardown(void **state)
{
    ec_arena_free(*state);
    return 0;
}

static const struct ec_material materials[] = {
    {"pkg:docker/debian@bookworm-slim", "sha256:" HEX},
    {"pkg:docker/alpine@3.20", ""},
};
static const struct ec_pair args[] = {{"VERSION", "1"}};
static const struct ec_provenance facts = {
    .builder_id = "https://enclii.dev/builder/b1",
    .engine = "buildah 1.28.2",
    .platform_version = "0.1.0",
    .source_uri = "git+http://127.0.0.1/acme/shop.git@refs/heads/main",
    .commit_sha = "0123456789012345678901234567890123456789",
    .dockerfile = "Dockerfile",
    .args = args,
    .arg_count = 1,
    .materials = materials,
    .material_count = 2,
    .invocation_id = "build-1/2",
    .started_unix_ms = 1767323045000,
    .finished_unix_ms = 1767323105000,
};

static void the_signature_statement_is_cosigns(void **state)
{
    char *text = NULL;
    assert_int_equal(ec_statement_signature(*state, "sha256:" HEX, &text).fate, EC_FATE_OK);
    assert_string_equal(
        text, "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{\"digest\":{\"sha256\":"
              "\"" HEX "\"}}],\"predicateType\":\"https://sigstore.dev/cosign/sign/v1\","
              "\"predicate\":{}}");
    assert_int_equal(ec_statement_signature(*state, "sha256:xyz", &text).fate, EC_FATE_REJECT);
}

static void provenance_says_what_the_control_plane_knows(void **state)
{
    char *text = NULL;
    assert_int_equal(
        ec_statement_provenance(*state, "host/acme/shop", "sha256:" HEX, &facts, &text).fate,
        EC_FATE_OK);
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    assert_int_equal(ec_json_parse(*state, ec_span_of(text), &root).fate, EC_FATE_OK);
    const json_t *definition = ec_json_at(root, "predicate.buildDefinition");
    assert_string_equal(ec_json_text(definition, "externalParameters.source.uri"),
                        facts.source_uri);
    assert_string_equal(ec_json_text(definition, "externalParameters.args.VERSION"), "1");
    const json_t *list = ec_json_at(definition, "resolvedDependencies");
    assert_int_equal(json_array_size(list), 3);
    assert_string_equal(ec_json_text(json_array_get(list, 0), "digest.gitCommit"),
                        facts.commit_sha);
    assert_string_equal(ec_json_text(json_array_get(list, 1), "digest.sha256"), HEX);
    assert_null(json_object_get(json_array_get(list, 2), "digest"));
    const json_t *run = ec_json_at(root, "predicate.runDetails");
    assert_string_equal(ec_json_text(run, "builder.id"), facts.builder_id);
    assert_string_equal(ec_json_text(run, "metadata.invocationId"), "build-1/2");
    assert_true(strncmp(ec_json_text(run, "metadata.startedOn"), "2026-01-02T03:04:05", 19) == 0);
}

static void provenance_without_a_commit_is_refused(void **state)
{
    struct ec_provenance less = facts;
    less.commit_sha = "";
    char *text = NULL;
    assert_int_equal(ec_statement_provenance(*state, "r", "sha256:" HEX, &less, &text).fate,
                     EC_FATE_REJECT);
}

static void the_same_facts_give_the_same_bytes(void **state)
{
    char *a = NULL;
    char *b = NULL;
    assert_int_equal(ec_statement_provenance(*state, "r", "sha256:" HEX, &facts, &a).fate,
                     EC_FATE_OK);
    assert_int_equal(ec_statement_provenance(*state, "r", "sha256:" HEX, &facts, &b).fate,
                     EC_FATE_OK);
    assert_string_equal(a, b);
}

static void a_statement_about_another_image_is_refused(void **state)
{
    char *text = NULL;
    assert_int_equal(ec_statement_signature(*state, "sha256:" HEX, &text).fate, EC_FATE_OK);
    struct ec_statement statement;
    assert_int_equal(ec_statement_read(*state, ec_span_of(text), "sha256:" HEX, &statement).fate,
                     EC_FATE_OK);
    assert_string_equal(statement.predicate_type, EC_PREDICATE_COSIGN);
    json_decref(statement.root);
    assert_int_equal(ec_statement_read(*state, ec_span_of(text), "sha256:" OTHER, &statement).fate,
                     EC_FATE_REJECT);
}

static void what_is_no_statement_is_refused(void **state)
{
    const char *bad[] = {
        "",
        "7",
        "{}",
        "[]",
        "{\"_type\":\"x\",\"subject\":[],\"predicateType\":\"p\"}",
        "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[],\"predicateType\":\"p\"}",
        "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{\"digest\":{\"sha256\":"
        "\"" HEX "\"}}]}",
        "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":{\"digest\":{\"sha256\":"
        "\"" HEX "\"}},\"predicateType\":\"p\"}",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        struct ec_statement statement;
        assert_int_equal(
            ec_statement_read(*state, ec_span_of(bad[i]), "sha256:" HEX, &statement).fate,
            EC_FATE_REJECT);
    }
}

static void sboms_are_checked(void **state)
{
    const struct {
        const char *text;
        int components; /* -1: refused */
    } cases[] = {
        {"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":[{\"type\":"
         "\"library\",\"name\":\"a\"}]}",
         1},
        {"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\"}", 0},
        {"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.7\",\"components\":[]}", -1},
        {"{\"bomFormat\":\"SPDX\",\"specVersion\":\"1.6\",\"components\":[]}", -1},
        {"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":{}}", -1},
        {"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":[{\"type\":"
         "\"library\"}]}",
         -1},
        {"[]", -1},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        ec_cleanup(ec_json_freep) json_t *bom = NULL;
        assert_int_equal(ec_json_parse(*state, ec_span_of(cases[i].text), &bom).fate, EC_FATE_OK);
        int32_t components = -1;
        struct ec_err err = ec_sbom_check(*state, bom, &components);
        assert_int_equal(err.fate, cases[i].components < 0 ? EC_FATE_REJECT : EC_FATE_OK);
        assert_int_equal(components, cases[i].components);
    }
}

static void package_urls_of_images(void **state)
{
    assert_string_equal(ec_image_purl(*state, "debian:bookworm-slim"),
                        "pkg:docker/debian@bookworm-slim");
    assert_string_equal(ec_image_purl(*state, "debian"), "pkg:docker/debian@latest");
    assert_string_equal(ec_image_purl(*state, "127.0.0.1:5000/acme/base:1@sha256:" HEX),
                        "pkg:docker/base@1?repository_url=127.0.0.1%3A5000%2Facme%2Fbase");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_signature_statement_is_cosigns, setup, teardown),
        cmocka_unit_test_setup_teardown(provenance_says_what_the_control_plane_knows, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(provenance_without_a_commit_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_facts_give_the_same_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_statement_about_another_image_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_no_statement_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(sboms_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(package_urls_of_images, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
