/* What Buildah is told of a fork's build, and of one that is trusted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "builder.h"

static struct builder builder = {
    .settings = {.work_dir = "/work", .registry_auth_file = "/run/auth.json"},
    .policy_file = "/work/policy.json",
    .strict_policy_file = "/work/strict-policy.json",
};

static struct ec_arena *arena;
static Enclii__V1__RunBuild run = ENCLII__V1__RUN_BUILD__INIT;
static Enclii__V1__BuildSpec spec = ENCLII__V1__BUILD_SPEC__INIT;
static Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
static Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
static Enclii__V1__BuildSpec__ArgsEntry arg = ENCLII__V1__BUILD_SPEC__ARGS_ENTRY__INIT;

static int set_up(void **state)
{
    static char sha[] = "abc", id[] = "svc-1", repo[] = "r/x", key[] = "NPM_TOKEN",
                value[] = "hunter2";
    static Enclii__V1__BuildSpec__ArgsEntry *args[] = {&arg};
    (void)state;
    arena = ec_arena_new(1 << 20);
    commit.sha = sha;
    service.service_id = id;
    arg.key = key;
    arg.value = value;
    spec.args = args;
    spec.n_args = 1;
    run.commit = &commit;
    run.service = &service;
    run.spec = &spec;
    run.image_repo = repo;
    run.build_id = id;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ec_arena_free(arena);
    return 0;
}

static struct job job_of(bool trusted)
{
    run.trusted = trusted;
    return (struct job){.builder = &builder,
                        .arena = arena,
                        .run = &run,
                        .dir = "/work/jobs/1",
                        .home_dir = "/work/jobs/1/home",
                        .image_id_file = "/work/jobs/1/image-id",
                        .digest_file = "/work/jobs/1/digest",
                        .dockerfile_path = "/work/jobs/1/src/Dockerfile",
                        .context_path = "/work/jobs/1/src",
                        .image_id = "image"};
}

static const char *joined(const char *const *list)
{
    char *text = ec_arena_strdup(arena, "");
    for (; *list; list++) {
        text = ec_arena_format(arena, "%s%s ", text, *list);
    }
    return text;
}

static void test_a_fork_builds_with_nothing_of_ours(void **state)
{
    (void)state;
    struct job job = job_of(false);
    const char *build = joined(engine_buildah.build_argv(&job));
    assert_null(strstr(build, "auth"));
    assert_null(strstr(build, "hunter2"));
    assert_null(strstr(build, "NPM_TOKEN"));
    assert_null(strstr(build, "/work/policy.json"));
    assert_non_null(strstr(build, "--signature-policy /work/strict-policy.json "));
    assert_non_null(strstr(build, "buildah --root /work/jobs/1/storage --runroot "
                                  "/work/jobs/1/run bud "));
    assert_non_null(strstr(build, "--layers=false "));
    assert_int_equal(strncmp(build, "sh -c if unshare --pid ", 23), 0);
    const char *env = joined(engine_buildah.untrusted_env(&job));
    assert_non_null(strstr(env, "HOME=/work/jobs/1/home "));
    assert_non_null(strstr(env, "TMPDIR=/work/jobs/1/home "));
    assert_null(strstr(env, "hunter2"));
    /* The push is ours, after the fork's code has ended; it takes the image from its storage. */
    const char *push = joined(engine_buildah.push_argv(&job));
    assert_non_null(strstr(push, "--authfile /run/auth.json "));
    assert_non_null(strstr(push, "--root /work/jobs/1/storage "));
}

static void test_trusted_code_shares_and_may_pull(void **state)
{
    (void)state;
    struct job job = job_of(true);
    const char *build = joined(engine_buildah.build_argv(&job));
    assert_int_equal(strncmp(build, "buildah bud ", 12), 0);
    assert_non_null(strstr(build, "--authfile /run/auth.json "));
    assert_non_null(strstr(build, "--build-arg NPM_TOKEN=hunter2 "));
    assert_non_null(strstr(build, "--layers=true "));
    assert_null(strstr(build, "--root"));
}

/* Our own environment holds the credentials of Kafka; Buildah gets a list of its own. */
static void test_the_environment_is_not_handed_down(void **state)
{
    (void)state;
    setenv("ENCLII_KAFKA_PASSWORD", "hunter2", 1);
    struct job job = job_of(false);
    assert_null(strstr(joined(engine_buildah.untrusted_env(&job)), "hunter2"));
    assert_null(strstr(joined(tool_env(arena, "/work/home", NULL)), "hunter2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_fork_builds_with_nothing_of_ours, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_trusted_code_shares_and_may_pull, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_environment_is_not_handed_down, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
