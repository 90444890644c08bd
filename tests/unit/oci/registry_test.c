/* The client against a real registry (docker-registry, fallback tags), and the whole verification:
 * signed images pass; unsigned ones, other keys, other commits and tampered bundles do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "net/fetch.h"
#include "net/loop.h"
#include "oci/image_verify.h"
#include "oci/referrers.h"
#include "support/registry.h"
#include "trust/bundle.h"
#include "trust/digest.h"

#define COMMIT "0123456789012345678901234567890123456789"
#define CLONE_URL "http://127.0.0.1/acme/shop.git"

struct fixture {
    struct test_registry *server;
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;
    struct ec_registry *registry;
    struct ec_arena *arena;
    struct ec_ref image;
    /* of the last answer */
    int pending;
    struct ec_err err;
    int status;
    char *body;
    char *digest;
    int64_t size_bytes;
    size_t count;
    struct ec_image_verdict verdict;
    char *why; /* details of failed checks */
};

static struct fixture fx;

static void open_client(const char *config_file)
{
    fx.loop = ec_loop_new();
    fx.arena = ec_arena_new(64 << 20);
    assert_int_equal(ec_fetcher_open(fx.loop, "test", 8, &fx.fetcher).fate, EC_FATE_OK);
    struct ec_registry_spec spec = {.loop = fx.loop,
                                    .fetcher = fx.fetcher,
                                    .insecure = true,
                                    .docker_config_file = config_file};
    assert_int_equal(ec_registry_open(&spec, &fx.registry).fate, EC_FATE_OK);
    fx.image = (struct ec_ref){.host = fx.server ? test_registry_host(fx.server) : "",
                               .repo = "acme/shop",
                               .tag = "",
                               .digest = ""};
}

static void close_client(void)
{
    ec_registry_close(fx.registry);
    ec_fetcher_close(fx.fetcher);
    ec_loop_run(fx.loop);
    ec_loop_free(fx.loop);
    ec_arena_free(fx.arena);
}

static int setup(void **state)
{
    (void)state;
    fx = (struct fixture){0};
    fx.server = test_registry_start(false);
    open_client(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_client();
    test_registry_free(fx.server);
    return 0;
}

#define SKIP_WITHOUT_REGISTRY()                                                                    \
    do {                                                                                           \
        if (!fx.server) {                                                                          \
            print_message("docker-registry is not installed\n");                                   \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

static void ended(void)
{
    if (--fx.pending == 0) {
        ec_loop_stop(fx.loop);
    }
}

static void on_answer(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    (void)arg;
    fx.err = err;
    fx.err.what = ec_arena_strdup(fx.arena, err.what);
    fx.status = answer->status;
    fx.body = ec_arena_text(fx.arena, answer->body);
    fx.digest = ec_arena_strdup(fx.arena, answer->digest);
    fx.size_bytes = answer->size_bytes;
    ended();
}

static void on_list(void *arg, struct ec_err err, const struct ec_referrer *list, size_t count)
{
    (void)arg;
    (void)list;
    fx.err = err;
    fx.count = count;
    ended();
}

static void on_attached(void *arg, struct ec_err err, const char *const *digests)
{
    (void)arg;
    if (ec_failed(err)) {
        print_message("attach: %s\n", err.what);
        fx.err = err;
        assert_null(digests);
    } else {
        fx.digest = ec_arena_strdup(fx.arena, digests[0]);
    }
    ended();
}

static void on_verdict(void *arg, struct ec_err err, const struct ec_image_verdict *verdict)
{
    (void)arg;
    fx.err = err;
    fx.why = ec_arena_strdup(fx.arena, "");
    if (verdict) {
        fx.verdict = *verdict;
        fx.verdict.commit_sha = ec_arena_strdup(fx.arena, verdict->commit_sha);
        for (size_t i = 0; i < verdict->check_count; i++) {
            if (!verdict->checks[i].ok) {
                fx.why = ec_arena_format(fx.arena, "%s%s: %s; ", fx.why, verdict->checks[i].name,
                                         verdict->checks[i].detail);
            }
        }
    }
    ended();
}

static void wait_for(struct ec_err started)
{
    assert_int_equal(started.fate, EC_FATE_OK);
    fx.pending++;
    ec_loop_run(fx.loop);
}

/* An image of no layers; gives its digest. */
static const char *push_image(void)
{
    wait_for(ec_blob_put(fx.registry, &fx.image, EC_SPAN("{\"architecture\":\"amd64\"}"), on_answer,
                         NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    const char *manifest = ec_arena_format(
        fx.arena,
        "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":{\"mediaType\":"
        "\"application/"
        "vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":24},\"layers\":[]}",
        EC_OCI_MANIFEST, fx.digest);
    const char *digest = ec_sha256_digest(fx.arena, ec_span_of(manifest));
    wait_for(ec_manifest_put(fx.registry, &fx.image, digest, EC_OCI_MANIFEST, ec_span_of(manifest),
                             on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    fx.size_bytes = (int64_t)strlen(manifest);
    fx.image.digest = digest;
    return digest;
}

static struct ec_attach_spec attach_spec(const struct ec_attachment *list, size_t count)
{
    return (struct ec_attach_spec){
        .image = &fx.image,
        .subject_digest = fx.image.digest,
        .subject_media_type = EC_OCI_MANIFEST,
        .subject_size_bytes = fx.size_bytes,
        .artifact_type = EC_BUNDLE_MEDIA_TYPE,
        .created = "2026-01-02T03:04:05Z",
        .list = list,
        .count = count,
    };
}

static void attach(const char *bundle, const char *predicate_type)
{
    struct ec_attachment one = {ec_span_of(bundle), predicate_type};
    struct ec_attach_spec spec = attach_spec(&one, 1);
    wait_for(ec_referrers_attach(fx.registry, &spec, on_attached, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
}

static char *bundle_of(const struct ec_key *key, const char *predicate_type, const char *digest)
{
    char *text = NULL;
    char *bundle = NULL;
    struct ec_err err = ec_ok();
    if (strcmp(predicate_type, EC_PREDICATE_COSIGN) == 0) {
        err = ec_statement_signature(fx.arena, digest, &text);
    } else if (strcmp(predicate_type, EC_PREDICATE_SLSA) == 0) {
        struct ec_provenance facts = {.builder_id = "https://enclii.dev/builder/b1",
                                      .source_uri = "git+" CLONE_URL "@refs/heads/main",
                                      .commit_sha = COMMIT,
                                      .invocation_id = "b/1"};
        err = ec_statement_provenance(fx.arena, "r", digest, &facts, &text);
    } else {
        ec_cleanup(ec_json_freep) json_t *bom =
            json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "bomFormat", "CycloneDX", "specVersion", "1.6",
                      "components", "type", "library", "name", "openssl");
        err = ec_statement_sbom(fx.arena, "r", digest, bom, &text);
    }
    assert_int_equal(err.fate, EC_FATE_OK);
    assert_int_equal(ec_bundle_make(fx.arena, key, ec_span_of(text), &bundle).fate, EC_FATE_OK);
    return bundle;
}

static void verify_any(struct ec_keyring keys, const char *commit)
{
    struct ec_image_verify_spec spec = {
        .image = &fx.image, .keys = keys, .expect_commit = commit, .expect_clone_url = CLONE_URL};
    wait_for(ec_image_verify(fx.registry, &spec, on_verdict, NULL));
}

static void verify(const struct ec_key *key, const char *commit)
{
    verify_any(ec_keyring_of(key), commit);
}

static void blobs_and_manifests_come_back_as_they_went(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    const char *digest = push_image();
    wait_for(ec_manifest_get(fx.registry, &fx.image, digest, on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(fx.digest, digest);
    wait_for(ec_manifest_head(fx.registry, &fx.image, digest, on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(fx.digest, digest);
    wait_for(ec_blob_put(fx.registry, &fx.image, EC_SPAN("hello"), on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    const char *blob = fx.digest;
    wait_for(ec_blob_put(fx.registry, &fx.image, EC_SPAN("hello"), on_answer, NULL)); /* again */
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    wait_for(ec_blob_head(fx.registry, &fx.image, blob, on_answer, NULL));
    assert_int_equal(fx.size_bytes, 5);
    wait_for(ec_blob_get(fx.registry, &fx.image, blob, 5, on_answer, NULL));
    assert_string_equal(fx.body, "hello");
    wait_for(ec_blob_get(fx.registry, &fx.image, blob, 4, on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_REJECT); /* over the limit */
}

static void what_is_not_there_is_404(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    wait_for(ec_manifest_get(fx.registry, &fx.image, "nothing", on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_REJECT);
    assert_int_equal(fx.status, 404);
    assert_non_null(strstr(fx.err.what, "404"));
    assert_int_equal(ec_manifest_get(fx.registry, &fx.image, "../x", on_answer, NULL).fate,
                     EC_FATE_REJECT);
    assert_int_equal(ec_blob_get(fx.registry, &fx.image, "tag", 5, on_answer, NULL).fate,
                     EC_FATE_REJECT);
}

static void a_registry_that_is_down_is_retried_then_reported(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    test_registry_down(fx.server);
    wait_for(ec_manifest_get(fx.registry, &fx.image, "v1", on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    test_registry_up(fx.server);
}

static void referrers_are_listed_also_when_many_are_added_at_once(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    const char *digest = push_image();
    wait_for(ec_referrers_list(fx.registry, &fx.image, digest, on_list, NULL));
    assert_int_equal(fx.count, 0);
    fx.err = ec_ok();
    for (int i = 0; i < 8; i++) {
        const char *content = ec_arena_format(fx.arena, "{\"n\":%d}", i);
        struct ec_attachment one = {ec_span_of(content), "p"};
        struct ec_attach_spec spec = attach_spec(&one, 1);
        assert_int_equal(ec_referrers_attach(fx.registry, &spec, on_attached, NULL).fate,
                         EC_FATE_OK);
        fx.pending++;
    }
    ec_loop_run(fx.loop);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    wait_for(ec_referrers_list(fx.registry, &fx.image, digest, on_list, NULL));
    assert_int_equal(fx.count, 8);
    attach("{\"n\":3}", "p"); /* the same again adds nothing */
    wait_for(ec_referrers_list(fx.registry, &fx.image, digest, on_list, NULL));
    assert_int_equal(fx.count, 8);
}

static void several_documents_go_in_one_call_and_twice_adds_nothing(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    const char *digest = push_image();
    const struct ec_attachment list[] = {
        {EC_SPAN("{\"n\":1}"), "p1"}, {EC_SPAN("{\"n\":2}"), "p2"}, {EC_SPAN("{\"n\":3}"), "p3"}};
    struct ec_attach_spec spec = attach_spec(list, 2);
    wait_for(ec_referrers_attach(fx.registry, &spec, on_attached, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    const char *first = fx.digest;
    spec.count = 3; /* two are there: one is added, in the order given */
    wait_for(ec_referrers_attach(fx.registry, &spec, on_attached, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(fx.digest, first);
    wait_for(ec_referrers_list(fx.registry, &fx.image, digest, on_list, NULL));
    assert_int_equal(fx.count, 3);
    wait_for(ec_referrer_content(fx.registry, &fx.image, first, EC_BUNDLE_MEDIA_TYPE, 100,
                                 on_answer, NULL));
    assert_string_equal(fx.body, "{\"n\":1}");
    spec.count = 0;
    assert_int_equal(ec_referrers_attach(fx.registry, &spec, on_attached, NULL).fate,
                     EC_FATE_REJECT);
    spec.count = EC_ATTACH_MAX + 1;
    assert_int_equal(ec_referrers_attach(fx.registry, &spec, on_attached, NULL).fate,
                     EC_FATE_REJECT);
}

static void attaching_while_the_registry_is_down_fails_once(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    push_image();
    test_registry_down(fx.server);
    const struct ec_attachment list[] = {{EC_SPAN("{}"), "p1"}, {EC_SPAN("[]"), "p2"}};
    struct ec_attach_spec spec = attach_spec(list, 2);
    wait_for(ec_referrers_attach(fx.registry, &spec, on_attached, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    test_registry_up(fx.server);
    fx.err = ec_ok();
    wait_for(ec_referrers_attach(fx.registry, &spec, on_attached, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
}

static void a_signed_image_is_verified_and_others_are_not(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    ec_cleanup(ec_key_freep) struct ec_key *other = NULL;
    assert_int_equal(ec_key_new(&key).fate, EC_FATE_OK);
    assert_int_equal(ec_key_new(&other).fate, EC_FATE_OK);
    const char *digest = push_image();
    verify(key, COMMIT);
    assert_false(fx.verdict.ok);
    assert_non_null(strstr(fx.why, "no signature"));
    attach(bundle_of(key, EC_PREDICATE_COSIGN, digest), EC_PREDICATE_COSIGN);
    attach(bundle_of(key, EC_PREDICATE_SLSA, digest), EC_PREDICATE_SLSA);
    verify(key, COMMIT);
    assert_false(fx.verdict.ok);
    assert_string_equal(fx.why, "sbom: the image has no SBOM; ");
    attach(bundle_of(key, EC_PREDICATE_CYCLONEDX, digest), EC_PREDICATE_CYCLONEDX);
    verify(key, COMMIT);
    assert_string_equal(fx.why, "");
    assert_true(fx.verdict.ok);
    assert_int_equal(fx.verdict.sbom_components, 1);
    assert_string_equal(fx.verdict.commit_sha, COMMIT);
    verify(other, COMMIT);
    assert_false(fx.verdict.ok);
    assert_non_null(strstr(fx.why, "not made by the key"));
    verify_any((struct ec_keyring){.keys = {other, key}, .count = 2}, COMMIT);
    assert_true(fx.verdict.ok);
    assert_string_equal(fx.verdict.key_id, ec_key_hint(key));
    verify(key, "1123456789012345678901234567890123456789");
    assert_false(fx.verdict.ok);
    assert_non_null(strstr(fx.why, "expected 1123"));
}

static void bad_bundles_neither_pass_nor_hurt_good_ones(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    ec_cleanup(ec_key_freep) struct ec_key *key = NULL;
    assert_int_equal(ec_key_new(&key).fate, EC_FATE_OK);
    const char *digest = push_image();
    const char *elsewhere =
        "sha256:55136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    /* Signed by us, but about another image; and one that only claims its kind in the annotation.
     */
    attach(bundle_of(key, EC_PREDICATE_COSIGN, elsewhere), EC_PREDICATE_COSIGN);
    attach(bundle_of(key, EC_PREDICATE_COSIGN, digest), EC_PREDICATE_SLSA);
    char *flipped = bundle_of(key, EC_PREDICATE_CYCLONEDX, digest);
    char *at = strstr(flipped, "\"sig\":\"") + 30;
    *at = *at == 'A' ? 'B' : 'A';
    attach(flipped, EC_PREDICATE_CYCLONEDX);
    attach("not even JSON", EC_PREDICATE_CYCLONEDX);
    verify(key, COMMIT);
    assert_false(fx.verdict.ok);
    assert_true(fx.verdict.checks[1].ok); /* the good signature, under whatever name */
    assert_false(fx.verdict.checks[2].ok);
    assert_false(fx.verdict.checks[3].ok);
    attach(bundle_of(key, EC_PREDICATE_SLSA, digest), EC_PREDICATE_SLSA);
    attach(bundle_of(key, EC_PREDICATE_CYCLONEDX, digest), EC_PREDICATE_CYCLONEDX);
    verify(key, COMMIT);
    assert_true(fx.verdict.ok);
}

static void passwords_come_from_the_docker_config(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    close_client();
    test_registry_free(fx.server);
    fx.server = test_registry_start(true);
    open_client(NULL);
    wait_for(ec_manifest_get(fx.registry, &fx.image, "v1", on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_REJECT);
    assert_non_null(strstr(fx.err.what, "password"));
    close_client();
    char path[] = "/tmp/enclii-docker-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    fprintf(file, "{\"auths\":{\"%s\":{\"auth\":\"dXNlcjpzZWNyZXQ=\"}}}",
            test_registry_host(fx.server));
    fclose(file);
    open_client(path);
    remove(path);
    push_image();
    wait_for(ec_manifest_get(fx.registry, &fx.image, fx.image.digest, on_answer, NULL));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blobs_and_manifests_come_back_as_they_went, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_404, setup, teardown),
        cmocka_unit_test_setup_teardown(a_registry_that_is_down_is_retried_then_reported, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(referrers_are_listed_also_when_many_are_added_at_once,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(several_documents_go_in_one_call_and_twice_adds_nothing,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(attaching_while_the_registry_is_down_fails_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_signed_image_is_verified_and_others_are_not, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(bad_bundles_neither_pass_nor_hurt_good_ones, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(passwords_come_from_the_docker_config, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
