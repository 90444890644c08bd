/* The builder with real git, real processes and a mock Kafka; only the image tool is a shell
 * script. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "builder.h"
#include "bus/topics.h"
#include "support/git_server.h"
#include "support/kafka.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define STEPS_MAX 64

/* What came out for the build under test. */
struct seen {
    char build_id[40];
    int started, succeeded, failed, steps;
    char step_names[200];
    Enclii__V1__BuildFailure reason;
    bool retryable;
    char detail[1000];
    char digest[80], sha[80], detected[100], engine[80], base[100], base_digest[100];
    int64_t image_bytes;
    int64_t next_seq;
    bool seq_ok, last, cut;
    int lines_after_last;
    char log[60000];
    int heartbeats_with_it;
    char last_step[40];
};

static struct ec_loop *loop;
static struct test_kafka *kafka;
static struct ec_bus *bus, *watch_bus;
static struct builder b;
static struct seen seen;
static int running_now;
static char dir[64], repo[100], sha[64], clone_url[200];
static struct test_git_server *git_server; /* NULL: not installed */
static bool trusted = true;

/* ---- the fake tool ---- */

static const char *build_script, *push_script;

static const char *const *script(struct ec_arena *arena, const char *text, const char *a,
                                 const char *c)
{
    const char **argv = ec_arena_alloc(arena, 8 * sizeof(*argv));
    const char *words[] = {"sh", "-c", text, "sh", a, c};
    memcpy(argv, words, sizeof(words));
    return argv;
}

static struct ec_err fake_open(struct builder *builder)
{
    builder->engine.env = tool_env(builder->arena, dir, NULL);
    return ec_ok();
}
static const char *const *fake_version(struct builder *builder, struct ec_arena *arena)
{
    (void)builder;
    return script(arena, "echo fake version 1.2.3 '(x)'", "", "");
}
static const char *const *fake_tidy(struct builder *builder, struct ec_arena *arena)
{
    (void)builder;
    return script(arena, "true", "", "");
}
static const char *const *fake_prune(struct builder *builder, struct ec_arena *arena, bool all)
{
    (void)builder;
    (void)all;
    return script(arena, "true", "", "");
}
static const char *const *fake_build(struct job *job)
{
    return script(job->arena, build_script, job->image_id_file, job->context_path);
}
static const char *const *fake_images(struct job *job)
{
    return script(job->arena, "echo docker.example/library/debian:bookworm-slim '   '" DIGEST, "",
                  "");
}
static const char *const *fake_push(struct job *job)
{
    return script(job->arena, push_script, job->digest_file, dir);
}
static const char *const *fake_size(struct job *job)
{
    return script(job->arena,
                  "echo '{\"config\":{\"size\":10},\"layers\":[{\"size\":5},{\"size\":7}]}'", "",
                  "");
}

static const struct engine fake = {
    .name = "fake",
    .open = fake_open,
    .version_argv = fake_version,
    .tidy_argv = fake_tidy,
    .prune_argv = fake_prune,
    .build_argv = fake_build,
    .images_argv = fake_images,
    .push_argv = fake_push,
    .size_argv = fake_size,
};

/* ---- watching ---- */

static void on_event(void *state, struct ec_event *ev)
{
    (void)state;
    const void *body = ec_event_body(ev);
    const char *type = ec_event_type(ev);
    if (strcmp(type, "dev.enclii.builder.heartbeat.v1") == 0) {
        const Enclii__V1__BuilderHeartbeat *beat = body;
        running_now = (int)beat->n_running;
        for (size_t i = 0; i < beat->n_running; i++) {
            if (strcmp(beat->running[i]->build_id, seen.build_id) == 0) {
                seen.heartbeats_with_it++;
                snprintf(seen.last_step, sizeof(seen.last_step), "%s", beat->running[i]->step);
            }
        }
        return;
    }
    if (strcmp(ec_event_subject(ev), seen.build_id) != 0) {
        return;
    }
    if (strcmp(type, "dev.enclii.build.started.v1") == 0) {
        seen.started++;
    } else if (strcmp(type, "dev.enclii.build.step.v1") == 0) {
        const Enclii__V1__BuildStepFinished *step = body;
        seen.steps++;
        strcat(seen.step_names, step->step->name);
        strcat(seen.step_names, " ");
    } else if (strcmp(type, "dev.enclii.build.failed.v1") == 0) {
        const Enclii__V1__BuildFailed *failed = body;
        seen.failed++;
        seen.reason = failed->reason;
        seen.retryable = failed->retryable;
        snprintf(seen.detail, sizeof(seen.detail), "%s", failed->detail);
    } else if (strcmp(type, "dev.enclii.build.succeeded.v1") == 0) {
        const Enclii__V1__BuildSucceeded *done = body;
        seen.succeeded++;
        snprintf(seen.digest, sizeof(seen.digest), "%s", done->digest);
        snprintf(seen.sha, sizeof(seen.sha), "%s", done->commit_sha);
        snprintf(seen.detected, sizeof(seen.detected), "%s", done->detected_by);
        snprintf(seen.engine, sizeof(seen.engine), "%s", done->engine);
        if (done->n_base_images > 0) {
            snprintf(seen.base, sizeof(seen.base), "%s", done->base_images[0]->reference);
            snprintf(seen.base_digest, sizeof(seen.base_digest), "%s",
                     done->base_images[0]->digest);
        }
        seen.image_bytes = done->image_bytes;
    } else if (strcmp(type, "dev.enclii.build.log.v1") == 0) {
        const Enclii__V1__BuildLog *log = body;
        seen.seq_ok = seen.seq_ok && log->first_seq == seen.next_seq;
        seen.next_seq += (int64_t)log->n_lines;
        seen.lines_after_last += seen.last;
        seen.last = seen.last || log->last;
        seen.cut = log->cut;
        for (size_t i = 0; i < log->n_lines; i++) {
            size_t used = strlen(seen.log);
            snprintf(seen.log + used, sizeof(seen.log) - used, "%s\n", log->lines[i]->text);
        }
    }
}

static const struct ec_route watch_routes[] = {
    {"dev.enclii.build.started.v1", &enclii__v1__build_started__descriptor, NULL},
    {"dev.enclii.build.step.v1", &enclii__v1__build_step_finished__descriptor, NULL},
    {"dev.enclii.build.failed.v1", &enclii__v1__build_failed__descriptor, NULL},
    {"dev.enclii.build.succeeded.v1", &enclii__v1__build_succeeded__descriptor, NULL},
    {"dev.enclii.build.log.v1", &enclii__v1__build_log__descriptor, NULL},
    {"dev.enclii.builder.heartbeat.v1", &enclii__v1__builder_heartbeat__descriptor, NULL},
};

/* ---- asking ---- */

static Enclii__V1__BuildSpec spec;

static void run_build_as(const char *builder_id, int32_t attempt, int64_t age_ms)
{
    Enclii__V1__RunBuild run = ENCLII__V1__RUN_BUILD__INIT;
    Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    char ref[] = "refs/heads/main", svc[] = "svc-1", image[] = "127.0.0.1:5000/acme/shop";
    service.service_id = svc;
    commit.sha = sha;
    commit.ref = ref;
    run.build_id = seen.build_id;
    run.attempt = attempt;
    run.builder_id = (char *)(uintptr_t)builder_id;
    run.service = &service;
    run.commit = &commit;
    run.clone_url = clone_url;
    run.image_repo = image;
    run.trusted = trusted;
    run.spec = &spec;
    struct ec_id id = ec_id_new();
    test_kafka_publish(kafka, watch_bus,
                       &(struct ec_message){.topic = EC_TOPIC_BUILD_COMMANDS,
                                            .key = "svc-1",
                                            .type = "dev.enclii.build.run.v1",
                                            .id = id.text,
                                            .body = &run.base,
                                            .time_unix_ms = ec_unix_ms() - age_ms});
}

static void cancel_build(void)
{
    Enclii__V1__CancelBuild cancel = ENCLII__V1__CANCEL_BUILD__INIT;
    char reason[] = "superseded by a newer push", builder[] = "b1";
    cancel.build_id = seen.build_id;
    cancel.attempt = 1;
    cancel.builder_id = builder;
    cancel.reason = reason;
    struct ec_id id = ec_id_new();
    test_kafka_publish(kafka, watch_bus,
                       &(struct ec_message){.topic = EC_TOPIC_BUILD_COMMANDS,
                                            .key = "svc-1",
                                            .type = "dev.enclii.build.cancel.v1",
                                            .id = id.text,
                                            .body = &cancel.base});
}

static bool ended(void *arg)
{
    (void)arg;
    return seen.succeeded + seen.failed > 0 && seen.last && running_now == 0 && !b.jobs;
}

static bool failed(void *arg)
{
    (void)arg;
    return seen.failed > 0;
}

static bool log_has(void *text)
{
    return strstr(seen.log, text) != NULL;
}

static void begin(void)
{
    struct ec_id id = ec_id_new();
    memset(&seen, 0, sizeof(seen));
    snprintf(seen.build_id, sizeof(seen.build_id), "%s", id.text);
    seen.next_seq = 1;
    seen.seq_ok = true;
    enclii__v1__build_spec__init(&spec);
    snprintf(clone_url, sizeof(clone_url), "file://%s", repo);
    build_script = "cat $2/hello.txt; echo building; echo image-1 > $1";
    push_script = "printf " DIGEST " > $1";
}

static void run_to_end(void)
{
    run_build_as("b1", 1, 0);
    if (!test_run_until(loop, 10000, ended, NULL)) {
        fail_msg("not ended: started %d succeeded %d failed %d last %d running %d\n%s",
                 seen.started, seen.succeeded, seen.failed, seen.last, running_now, seen.log);
    }
    assert_int_equal(seen.started, 1);
    assert_int_equal(seen.succeeded + seen.failed, 1);
    assert_true(seen.seq_ok);
    assert_int_equal(seen.lines_after_last, 0);
}

static int shell(const char *format, ...)
{
    char command[2000];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    return system(command);
}

/* ---- tests ---- */

#define PASSWORD "pass-4711-word"
static char hosts_file[100];

/* Nothing of it is in the build's environment, its files, its log, or what is kept on disk. */
static void private_repositories_are_fetched(void **state)
{
    (void)state;
    if (!git_server) {
        skip();
    }
    for (int i = 0; i < 3; i++) { /* anew, from the warm cache, and for a fork */
        begin();
        trusted = i < 2;
        snprintf(clone_url, sizeof(clone_url), "http://%s/acme/shop.git",
                 test_git_server_host(git_server));
        build_script = "env; cat $2/hello.txt; ls -a $2; cat /proc/*/environ 2>/dev/null | tr "
                       "'\\0' '\\n' | grep GIT_CONFIG_VALUE; echo image-1 > $1";
        run_to_end();
        assert_string_equal(seen.detail, "");
        assert_int_equal(seen.succeeded, 1);
        assert_non_null(strstr(seen.log, "hello from the commit"));
        assert_null(strstr(seen.log, "GIT_CONFIG"));
        assert_null(strstr(seen.log, "Basic"));
        assert_null(strstr(seen.log, PASSWORD));
    }
    trusted = true;
    assert_non_null(strstr(test_git_server_log(git_server), "200 POST /acme/shop.git/"));
    assert_int_not_equal(shell("grep -rqE '" PASSWORD "|ZGVwbG95OnBhc3M' %s/scratch", dir), 0);
}

/* The same server by another name is another server: nothing is sent to it. */
static void a_credential_is_for_its_host_only(void **state)
{
    (void)state;
    if (!git_server) {
        skip();
    }
    begin();
    snprintf(clone_url, sizeof(clone_url), "http://localhost%s/acme/shop.git",
             strchr(test_git_server_host(git_server), ':'));
    run_to_end();
    assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_FETCH);
    assert_false(seen.retryable);
    assert_non_null(strstr(seen.detail, "the git host refuses access"));
}

static void commit_becomes_digest(void **state)
{
    (void)state;
    begin();
    run_to_end();
    assert_string_equal(seen.detail, "");
    assert_string_equal(seen.step_names, "fetch detect build push ");
    assert_string_equal(seen.digest, DIGEST);
    assert_string_equal(seen.sha, sha);
    assert_string_equal(seen.detected, "Dockerfile");
    assert_string_equal(seen.engine, "fake 1.2.3");
    assert_string_equal(seen.base, "debian:bookworm-slim");
    assert_string_equal(seen.base_digest, DIGEST);
    assert_int_equal(seen.image_bytes, 22);
    assert_true(seen.heartbeats_with_it > 0);
    assert_non_null(strstr(seen.log, "hello from the commit"));
    assert_int_equal(shell("test -z \"$(ls %s/scratch/jobs)\"", dir), 0);
    begin(); /* again, from the warm cache */
    run_to_end();
    assert_int_equal(seen.succeeded, 1);
}

/* git's cache is neither written, as the first to ask for the repository, nor read. */
static void untrusted_builds_share_no_git_cache(void **state)
{
    (void)state;
    shell("rm -rf %s/scratch/git/*", dir);
    trusted = false;
    begin();
    run_to_end();
    assert_int_equal(seen.succeeded, 1);
    assert_int_equal(shell("test -z \"$(ls %s/scratch/git)\"", dir), 0);
    trusted = true;
    begin();
    run_to_end();
    assert_int_equal(seen.succeeded, 1);
    assert_int_equal(shell("cd %s/scratch/git/* && echo broken > HEAD", dir), 0);
    trusted = false;
    begin();
    run_to_end();
    assert_int_equal(seen.succeeded, 1);
    assert_int_equal(
        shell("grep -q broken %s/scratch/git/*/HEAD && rm -rf %s/scratch/git/*", dir, dir), 0);
    trusted = true;
}

static void missing_dockerfile_is_explained(void **state)
{
    (void)state;
    begin();
    char context[] = "web";
    spec.context = context;
    run_to_end();
    assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_NOT_DETECTED);
    assert_non_null(strstr(seen.detail, "package.json"));
    assert_false(seen.retryable);
    begin();
    char leak[] = "leak"; /* a symbolic link to a file of this machine */
    spec.dockerfile = leak;
    run_to_end();
    assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_NOT_DETECTED);
}

static void failing_build_is_explained(void **state)
{
    (void)state;
    begin();
    build_script = "printf '\\033[31merror: no such thing\\033[0m\\n' >&2; exit 3";
    run_to_end();
    assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_BUILD);
    assert_non_null(strstr(seen.detail, "exit code 3: error: no such thing"));
    begin();
    build_script = "sleep 30";
    spec.timeout_ms = 700;
    run_to_end();
    assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_TIMED_OUT);
    begin();
    build_script = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}";
    spec.memory_max_bytes = 64 << 20;
    run_to_end();
    if (access("/sys/fs/cgroup/memory", W_OK) == 0) {
        assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_OUT_OF_MEMORY);
        assert_non_null(strstr(seen.detail, "64 MiB"));
    }
}

static void unknown_commit_is_explained(void **state)
{
    (void)state;
    begin();
    char right[64];
    strcpy(right, sha);
    memset(sha, '7', 40);
    run_to_end();
    strcpy(sha, right);
    assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_FETCH);
    assert_false(seen.retryable);
}

static void push_is_tried_again(void **state)
{
    (void)state;
    begin();
    push_script = "if mkdir $2/push-1 2>/dev/null; then echo 'connection refused' >&2; exit 1; fi; "
                  "printf " DIGEST " > $1";
    run_to_end();
    assert_int_equal(seen.succeeded, 1);
    assert_non_null(strstr(seen.log, "connection refused"));
    begin();
    push_script = "echo 'unauthorized: authentication required' >&2; exit 1";
    run_to_end();
    assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_PUSH);
    assert_false(seen.retryable);
}

static void cancel_kills_the_tree(void **state)
{
    (void)state;
    begin();
    build_script = "trap '' TERM; sh -c 'trap \"\" TERM; echo pid $$; while :; do sleep 0.1; done' "
                   "& wait; wait";
    run_build_as("b1", 1, 0);
    assert_true(test_run_until(loop, 8000, log_has, "pid "));
    int pid = atoi(strstr(seen.log, "pid ") + 4);
    assert_int_equal(kill(pid, 0), 0);
    int64_t began_ms = ec_mono_ms();
    cancel_build();
    cancel_build(); /* idempotent */
    assert_true(test_run_until(loop, 5000, failed, NULL));
    assert_true(ec_mono_ms() - began_ms < 2000);
    assert_int_equal(shell("! grep -q '^State:.[RSD]' /proc/%d/status 2>/dev/null", pid), 0);
    assert_true(test_run_until(loop, 5000, ended, NULL));
    assert_int_equal(seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_CANCELLED);
    assert_string_equal(seen.detail, "superseded by a newer push");
}

static bool counted(void *arg)
{
    (void)arg;
    return running_now == 1 && strcmp(seen.last_step, "build") == 0;
}

static void commands_for_others_and_no_slot(void **state)
{
    (void)state;
    begin();
    run_build_as("b2", 1, 0);
    run_build_as("b1", 1, 60000); /* stale */
    test_run_until(loop, 300, ended, NULL);
    assert_int_equal(seen.started + seen.failed, 0);
    build_script = "sleep 20";
    run_build_as("b1", 1, 0);
    run_build_as("b1", 1, 0); /* doubled */
    assert_true(test_run_until(loop, 5000, counted, NULL));
    assert_int_equal(seen.started, 1);
    struct seen first = seen;
    begin();
    run_build_as("b1", 1, 0); /* another build: the only slot is taken */
    assert_true(test_run_until(loop, 5000, failed, NULL));
    assert_true(seen.retryable);
    seen = first;
    cancel_build();
    assert_true(test_run_until(loop, 5000, ended, NULL));
    assert_int_equal(seen.started, 1);
    assert_int_equal(seen.failed, 1);
}

static void long_output_is_cut(void **state)
{
    (void)state;
    begin();
    build_script =
        "yes 'a line of a build that never stops talking' | head -c 3000000; echo image-1 > $1";
    run_to_end();
    assert_int_equal(seen.succeeded, 1);
    assert_true(seen.cut);
    assert_true(seen.next_seq > 20000 && seen.next_seq < 25000);
}

static volatile bool drained;
static void on_drained(void *arg)
{
    (void)arg;
    drained = true;
}

static bool is_drained(void *arg)
{
    (void)arg;
    return drained;
}

static bool not_running(void *arg)
{
    (void)arg;
    return seen.failed > 0 && seen.last;
}

static void stopping_hands_back(void **state)
{
    (void)state;
    begin();
    build_script = "sleep 20";
    run_build_as("b1", 1, 0);
    assert_true(test_run_until(loop, 5000, counted, NULL));
    int64_t began_ms = ec_mono_ms();
    builder_stop(&b, on_drained, NULL);
    assert_true(test_run_until(loop, 5000, is_drained, NULL));
    assert_true(ec_mono_ms() - began_ms < 3000);
    assert_true(test_run_until(loop, 2000, not_running, NULL));
    assert_true(seen.retryable);
    builder_done(&b);
}

static bool is_ready(void *arg)
{
    (void)arg;
    return b.ready;
}

static void make_repo(void)
{
    snprintf(repo, sizeof(repo), "%s/repo", dir);
    assert_int_equal(shell("mkdir -p %s/web && cd %s && git init -q -b main . && echo hello from "
                           "the commit > hello.txt && "
                           "echo '{}' > web/package.json && ln -s /etc/passwd leak && "
                           "printf 'FROM debian:bookworm-slim\\nCOPY hello.txt /\\n' > Dockerfile "
                           "&& git add -A && "
                           "git -c user.name=t -c user.email=t@t commit -q -m first && git "
                           "rev-parse HEAD > %s/sha",
                           repo, repo, dir),
                     0);
    char path[100];
    snprintf(path, sizeof(path), "%s/sha", dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(sha, sizeof(sha), file));
    sha[strcspn(sha, "\n")] = '\0';
    fclose(file);
}

/* One server that wants a password, which only the file of hosts knows. */
static void write_hosts(void)
{
    git_server = test_git_server_start("deploy", PASSWORD);
    const char *host = git_server ? test_git_server_host(git_server) : "127.0.0.1:1";
    snprintf(hosts_file, sizeof(hosts_file), "%s/hosts.json", dir);
    assert_int_equal(shell("printf " PASSWORD " > %1$s/token; printf '{\"hosts\": [{\"server\": "
                           "\"%2$s\", \"kind\": \"git\", \"user\": \"deploy\", "
                           "\"token_file\": \"%1$s/token\"}]}' > %3$s",
                           dir, host, hosts_file),
                     0);
    if (git_server) {
        assert_int_equal(shell("mkdir %1$s/acme && git clone -q --bare %2$s %1$s/acme/shop.git && "
                               "git -C %1$s/acme/shop.git config uploadpack.allowFilter true && "
                               "git -C %1$s/acme/shop.git config uploadpack.allowAnySHA1InWant "
                               "true",
                               test_git_server_root(git_server), repo),
                         0);
    }
}

static int group_setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/ec_builder_test.XXXXXX");
    assert_non_null(mkdtemp(dir));
    make_repo();
    shell("mkdir -p %s/scratch/jobs/left-over/deep", dir);
    loop = ec_loop_new();
    kafka = test_kafka_start(loop, "enclii.build.commands:1", "enclii.build.events:1",
                             "enclii.build.logs:1", "enclii.builders:1", NULL);
    bus = test_kafka_bus(kafka, "builder");
    watch_bus = test_kafka_bus(kafka, "watch");
    static char work[100];
    snprintf(work, sizeof(work), "%s/scratch", dir);
    write_hosts();
    b = (struct builder){.loop = loop, .bus = bus, .engine = fake};
    b.settings = (struct builder_settings){
        .builder_id = "b1",
        .slots = 1,
        .work_dir = work,
        .build_timeout_ms = 60000,
        .fetch_timeout_ms = 10000,
        .push_timeout_ms = 10000,
        .clone_max_bytes = 1 << 28,
        .log_max_bytes = 1 << 20,
        .cache_max_bytes = 1 << 30,
        .memory_max_bytes = 1 << 30,
        .pids_max = 1000,
        .registry_insecure = true,
        .registry_auth_file = "",
        .git_protocols = "file:http",
        .githost = {.hosts_file = hosts_file},
    };
    static const char *const topics[] = {EC_TOPIC_BUILD_EVENTS, EC_TOPIC_BUILD_LOGS,
                                         EC_TOPIC_BUILDERS, NULL};
    struct ec_err err = ec_bus_table(watch_bus,
                                     &(struct ec_table_spec){.topics = topics,
                                                             .routes = watch_routes,
                                                             .route_count = EC_LEN(watch_routes),
                                                             .on_event = on_event},
                                     NULL);
    assert_false(ec_failed(err));
    err = builder_start(&b);
    assert_string_equal(err.what ? err.what : "", "");
    assert_true(test_run_until(loop, 5000, is_ready, NULL));
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    test_git_server_free(git_server);
    test_kafka_close_bus(kafka, bus);
    test_kafka_close_bus(kafka, watch_bus);
    test_kafka_stop(kafka);
    ec_loop_free(loop);
    return shell("rm -rf %s", dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_becomes_digest),
        cmocka_unit_test(untrusted_builds_share_no_git_cache),
        cmocka_unit_test(missing_dockerfile_is_explained),
        cmocka_unit_test(failing_build_is_explained),
        cmocka_unit_test(unknown_commit_is_explained),
        cmocka_unit_test(push_is_tried_again),
        cmocka_unit_test(cancel_kills_the_tree),
        cmocka_unit_test(commands_for_others_and_no_slot),
        cmocka_unit_test(long_output_is_cut),
        cmocka_unit_test(private_repositories_are_fetched),
        cmocka_unit_test(a_credential_is_for_its_host_only),
        cmocka_unit_test(stopping_hands_back), /* last: it ends the builder */
    };
    ec_log_setup("test", EC_LOG_WARN);
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
