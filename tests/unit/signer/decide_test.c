/* Which releases may be signed at all, and what their provenance says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "signer.h"

#define DIGEST "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static Enclii__V1__Commit commit;
static Enclii__V1__ReleaseCreated release;

static int setup(void **state)
{
    *state = ec_arena_new(1 << 20);
    enclii__v1__commit__init(&commit);
    enclii__v1__release_created__init(&release);
    commit.sha = "0123456789012345678901234567890123456789";
    commit.ref = "refs/heads/main";
    release.commit = &commit;
    release.release_id = "r1";
    release.build_id = "b1";
    release.attempt = 2;
    release.builder_id = "builder-1";
    release.clone_url = "https://git.example/acme/shop.git";
    release.image_repo = "reg.example:5000/enclii/acme/shop";
    release.digest = DIGEST;
    return 0;
}

static int teardown(void **state)
{
    ec_arena_free(*state);
    return 0;
}

static enum ec_fate fate(void **state, const char *registry)
{
    return decide_request_valid(*state, &release, registry).fate;
}

static void only_images_of_our_registry(void **state)
{
    assert_int_equal(fate(state, ""), EC_FATE_OK);
    assert_int_equal(fate(state, "reg.example:5000"), EC_FATE_OK);
    assert_int_equal(fate(state, "reg.example:5000/enclii/"), EC_FATE_OK);
    assert_int_equal(fate(state, "reg.example:5000/enc"), EC_FATE_REJECT);
    assert_int_equal(fate(state, "other.example"), EC_FATE_REJECT);
}

static void a_field_that_provenance_needs_may_not_be_missing(void **state)
{
    char **needed[] = {&release.release_id, &release.build_id,   &release.builder_id,
                       &release.clone_url,  &release.image_repo, &release.digest,
                       &commit.sha};
    for (size_t i = 0; i < EC_LEN(needed); i++) {
        char *kept = *needed[i];
        *needed[i] = "";
        assert_int_equal(fate(state, ""), EC_FATE_REJECT);
        *needed[i] = kept;
    }
    release.commit = NULL;
    assert_int_equal(fate(state, ""), EC_FATE_REJECT);
}

static void repositories_come_without_tag_or_digest(void **state)
{
    release.image_repo = "reg.example:5000/shop:v1";
    assert_int_equal(fate(state, ""), EC_FATE_REJECT);
    release.image_repo = "reg.example:5000/shop@" DIGEST;
    assert_int_equal(fate(state, ""), EC_FATE_REJECT);
    release.image_repo = "reg.example:5000/../shop";
    assert_int_equal(fate(state, ""), EC_FATE_REJECT);
}

static void provenance_is_the_events(void **state)
{
    Enclii__V1__BaseImage base;
    enclii__v1__base_image__init(&base);
    base.reference = "debian:bookworm-slim";
    base.digest = DIGEST;
    Enclii__V1__BaseImage *bases[] = {&base};
    release.base_images = bases;
    release.n_base_images = 1;
    struct ec_provenance facts;
    decide_provenance(*state, &release, &facts);
    assert_string_equal(facts.builder_id, "https://enclii.dev/builder/builder-1");
    assert_string_equal(facts.source_uri, "git+https://git.example/acme/shop.git@refs/heads/main");
    assert_string_equal(facts.commit_sha, commit.sha);
    assert_string_equal(facts.invocation_id, "b1/2");
    assert_int_equal(facts.material_count, 1);
    assert_string_equal(facts.materials[0].uri, "pkg:docker/debian@bookworm-slim");
}

static void each_step_has_its_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sign_step_count; i++) {
        assert_string_not_equal(decide_refusal(sign_steps[i].name), "refused");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_images_of_our_registry, setup, teardown),
        cmocka_unit_test_setup_teardown(a_field_that_provenance_needs_may_not_be_missing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(repositories_come_without_tag_or_digest, setup, teardown),
        cmocka_unit_test_setup_teardown(provenance_is_the_events, setup, teardown),
        cmocka_unit_test_setup_teardown(each_step_has_its_reason, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
