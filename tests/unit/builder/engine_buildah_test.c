/* What Buildah is told of a fork's build, and of one that is trusted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "builder.h"

static struct builder builder = {
    .settings = {.work_dir = "/builder",
                 .registry_auth_file = "/run/auth.json",
                 .untrusted_network = "isolated",
                 .untrusted_reach = ""},
    .isolate_file = "/builder/isolate",
    .program = "/bin/enclii-builder",
    .policy_file = "/builder/policy.json",
    .strict_policy_file = "/builder/strict-policy.json",
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
                value[] = "hunter2", url[] = "https://h/acme/shop.git";
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
    run.clone_url = url;
    builder.layers_key = ec_secret_new(EC_SPAN("key"));
    run.build_id = id;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ec_secret_free(EC_TAKE(builder.layers_key));
    ec_arena_free(arena);
    return 0;
}

static struct job job_of(bool trusted)
{
    run.trusted = trusted;
    return (struct job){.builder = &builder,
                        .arena = arena,
                        .run = &run,
                        .dir = "/builder/jobs/1",
                        .home_dir = "/builder/jobs/1/home",
                        .isolation = trusted ? "shared" : "isolated",
                        .isolation_dir = "/builder/jobs/1/apart",
                        .image_id_file = "/builder/jobs/1/image-id",
                        .digest_file = "/builder/jobs/1/digest",
                        .dockerfile_path = "/builder/jobs/1/src/Dockerfile",
                        .context_path = "/builder/jobs/1/src",
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
    assert_null(strstr(build, "/builder/policy.json"));
    assert_non_null(strstr(build, "--signature-policy /builder/strict-policy.json "));
    assert_non_null(strstr(build, "buildah --root /builder/jobs/1/storage --runroot "
                                  "/builder/jobs/1/run bud "));
    assert_non_null(strstr(build, "--layers=false "));
    assert_non_null(strstr(build, "--cap-drop=CAP_SYS_CHROOT "));
    assert_non_null(strstr(build, "sh /builder/isolate apart /bin/enclii-builder isolated "
                                  "/builder/jobs/1/apart +/builder/jobs/1/storage "
                                  "+/builder/jobs/1/run /builder/jobs/1/src "
                                  "/builder/strict-policy.json +/builder/jobs/1/home "
                                  "/builder/storage.conf "));
    /* All of Buildah is apart, ADD fetches, too; its bases come before that, without credentials.
     */
    assert_non_null(strstr(build, " -- buildah --root "));
    const char *pull = joined(engine_buildah.pull_argv(&job, "debian:12"));
    assert_string_equal(pull, "buildah --root /builder/jobs/1/storage --runroot "
                              "/builder/jobs/1/run pull --signature-policy "
                              "/builder/strict-policy.json -- debian:12 ");
    const char *env = joined(engine_buildah.job_env(&job));
    assert_non_null(strstr(env, "HOME=/builder/jobs/1/home "));
    assert_non_null(strstr(env, "TMPDIR=/builder/jobs/1/home "));
    assert_null(strstr(env, "hunter2"));
    /* The push is ours, after the fork's code has ended; it takes the image from its storage. */
    const char *push = joined(engine_buildah.push_argv(&job));
    assert_non_null(strstr(push, "--authfile /run/auth.json "));
    assert_non_null(strstr(push, "--root /builder/jobs/1/storage "));
}

static void write_tool(const char *dir, const char *name, const char *text)
{
    const char *path = ec_arena_format(arena, "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, 0700), 0);
}

/* What the command prints, with the tools of that folder in the place of the real ones. */
static const char *output_of(const char *const *argv, const char *dir, int *ret_status)
{
    int ends[2];
    char *text = ec_arena_alloc(arena, 4096);
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("PATH", ec_arena_format(arena, "%s:/usr/bin:/bin", dir), 1);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(ends[1]);
    size_t len = 0;
    ssize_t n;
    while (len < 4095 && (n = read(ends[0], text + len, 4095 - len)) > 0) {
        len += (size_t)n;
    }
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    *ret_status = WEXITSTATUS(status);
    return text;
}

extern const char isolate_script[];

static struct job job_apart(const char *dir, const char *network)
{
    builder.isolate_file = ec_arena_format(arena, "%s/isolate", dir);
    write_tool(dir, "isolate", isolate_script);
    struct job job = job_of(false);
    job.isolation = network;
    job.isolation_dir = ec_arena_format(arena, "%s/job/apart", dir);
    return job;
}

static void remove_all(const char *dir)
{
    builder.isolate_file = "/builder/isolate";
    ec_file_remove_tree(dir);
}

/* Whatever unshare lacks costs the build its network, or the build. */
static void test_what_cannot_be_kept_apart_is_not_built(void **state)
{
    (void)state;
    char dir[] = "/tmp/enclii-unit.XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct job job = job_apart(dir, "isolated");
    write_tool(dir, "buildah", "#!/bin/sh\necho \"built by $*\"\n");
    write_tool(dir, "unshare", "#!/bin/sh\nexit 1\n");
    int status = 0;
    const char *said = output_of(engine_buildah.build_argv(&job), dir, &status);
    assert_int_equal(status, 125);
    assert_non_null(strstr(said, "cannot be kept apart on this builder: it may not make networks"));
    assert_null(strstr(said, "built by"));
    remove_all(dir);
}

/* Its own network without a way out: the command that runs is always behind `unshare --net`. */
static void test_a_network_without_a_way_out(void **state)
{
    (void)state;
    char dir[] = "/tmp/enclii-unit.XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct job job = job_apart(dir, "none");
    write_tool(dir, "unshare",
               "#!/bin/sh\necho \"unshare $*\"\n"
               "while [ \"$1\" != -- ] && [ $# -gt 1 ]; do shift; done\n"
               "case \"$4\" in network) shift; exec \"$@\" ;; esac\n");
    int status = 0;
    const char *said = output_of(engine_buildah.build_argv(&job), dir, &status);
    assert_int_equal(status, 0);
    assert_non_null(strstr(said, "note: the RUN lines of this build have no network: "
                                 "ENCLII_UNTRUSTED_NETWORK=none\n"));
    assert_non_null(
        strstr(said, "unshare --net --pid --mount --ipc --fork --kill-child=KILL -- sh "));
    assert_non_null(strstr(said, "isolate inside /bin/enclii-builder none "));
    remove_all(dir);
}

static void test_trusted_code_shares_and_may_pull(void **state)
{
    (void)state;
    struct job job = job_of(true);
    job.layered = true;
    job.marked_path = "/builder/jobs/1/home/Dockerfile";
    job.ignore_path = "/builder/jobs/1/src/Dockerfile.dockerignore";
    const char *build = joined(engine_buildah.build_argv(&job));
    /* Apart, too, but with the machine's network, and what is kept from build to build to write. */
    static const char apart[] =
        "sh /builder/isolate apart /bin/enclii-builder shared /builder/jobs/1/apart "
        "+/builder/storage +/builder/run +/builder/jobs/1/src +/builder/mounts/";
    assert_int_equal(strncmp(build, apart, strlen(apart)), 0);
    assert_non_null(strstr(build, " -- buildah bud "));
    assert_non_null(strstr(build, "--cap-drop=CAP_SYS_CHROOT "));
    assert_null(strstr(build, "git"));
    assert_null(strstr(build, "layers-key"));
    assert_null(strstr(build, "+/builder "));
    assert_non_null(strstr(build, "--authfile /run/auth.json "));
    assert_non_null(strstr(build, "--build-arg NPM_TOKEN=hunter2 "));
    assert_non_null(strstr(build, "--layers=true "));
    assert_null(strstr(build, "--root"));
    assert_non_null(strstr(build, "--file /builder/jobs/1/home/Dockerfile --ignorefile "
                                  "/builder/jobs/1/src/Dockerfile.dockerignore "));
    /* The name of its image, and the folder of its cache mounts, are its repository's. */
    const char *tag = strstr(build, "--tag localhost/enclii/");
    const char *mounts = strstr(joined(engine_buildah.job_env(&job)), "TMPDIR=");
    assert_non_null(tag);
    assert_non_null(strstr(build, "/svc-1:cache "));
    static char other[] = "https://h/eve/shop.git";
    run.clone_url = other;
    assert_null(strstr(joined(engine_buildah.build_argv(&job)),
                       ec_arena_text(arena, (struct ec_span){tag, 60})));
    assert_null(strstr(joined(engine_buildah.job_env(&job)),
                       ec_arena_text(arena, (struct ec_span){mounts, strcspn(mounts, " ")})));
}

/* Our own environment holds the credentials of Kafka; Buildah gets a list of its own. */
static void test_the_environment_is_not_handed_down(void **state)
{
    (void)state;
    setenv("ENCLII_KAFKA_PASSWORD", "hunter2", 1);
    struct job job = job_of(false);
    assert_null(strstr(joined(engine_buildah.job_env(&job)), "hunter2"));
    assert_null(strstr(joined(tool_env(arena, "/builder/home", NULL)), "hunter2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_fork_builds_with_nothing_of_ours, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_kept_apart_is_not_built, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_network_without_a_way_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_trusted_code_shares_and_may_pull, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_environment_is_not_handed_down, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
