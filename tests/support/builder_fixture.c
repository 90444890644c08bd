/* See builder_fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "support/builder_fixture.h"

struct builder_fixture test_builder;
static struct builder_fixture *const fx = &test_builder;

/* ---- the fake tool ---- */

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
    builder->engine.env = tool_env(builder->arena, fx->dir, NULL);
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
    return script(arena, "[ \"$2\" = some ] || : > $1/pruned", fx->dir, all ? "all" : "some");
}
static const char *const *fake_build(struct job *job)
{
    return script(job->arena, fx->build_script, job->image_id_file, job->context_path);
}
static const char *const *fake_images(struct job *job)
{
    return script(job->arena, "echo docker.example/library/debian:bookworm-slim '   '" DIGEST, "",
                  "");
}
static const char *const *fake_push(struct job *job)
{
    return script(job->arena, fx->push_script, job->digest_file, fx->dir);
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
        fx->running_now = (int)beat->n_running;
        for (size_t i = 0; i < beat->n_running; i++) {
            if (strcmp(beat->running[i]->build_id, fx->seen.build_id) == 0) {
                fx->seen.heartbeats_with_it++;
                snprintf(fx->seen.last_step, sizeof(fx->seen.last_step), "%s",
                         beat->running[i]->step);
            }
        }
        return;
    }
    if (strcmp(ec_event_subject(ev), fx->seen.build_id) != 0) {
        return;
    }
    if (strcmp(type, "dev.enclii.build.started.v1") == 0) {
        fx->seen.started++;
    } else if (strcmp(type, "dev.enclii.build.step.v1") == 0) {
        const Enclii__V1__BuildStepFinished *step = body;
        fx->seen.steps++;
        strcat(fx->seen.step_names, step->step->name);
        strcat(fx->seen.step_names, " ");
    } else if (strcmp(type, "dev.enclii.build.failed.v1") == 0) {
        const Enclii__V1__BuildFailed *failed = body;
        fx->seen.failed++;
        fx->seen.reason = failed->reason;
        fx->seen.retryable = failed->retryable;
        snprintf(fx->seen.detail, sizeof(fx->seen.detail), "%s", failed->detail);
    } else if (strcmp(type, "dev.enclii.build.succeeded.v1") == 0) {
        const Enclii__V1__BuildSucceeded *done = body;
        fx->seen.succeeded++;
        snprintf(fx->seen.digest, sizeof(fx->seen.digest), "%s", done->digest);
        snprintf(fx->seen.sha, sizeof(fx->seen.sha), "%s", done->commit_sha);
        snprintf(fx->seen.detected, sizeof(fx->seen.detected), "%s", done->detected_by);
        snprintf(fx->seen.engine, sizeof(fx->seen.engine), "%s", done->engine);
        if (done->n_base_images > 0) {
            snprintf(fx->seen.base, sizeof(fx->seen.base), "%s", done->base_images[0]->reference);
            snprintf(fx->seen.base_digest, sizeof(fx->seen.base_digest), "%s",
                     done->base_images[0]->digest);
        }
        fx->seen.image_bytes = done->image_bytes;
    } else if (strcmp(type, "dev.enclii.build.log.v1") == 0) {
        const Enclii__V1__BuildLog *log = body;
        fx->seen.seq_ok = fx->seen.seq_ok && log->first_seq == fx->seen.next_seq;
        fx->seen.next_seq += (int64_t)log->n_lines;
        fx->seen.lines_after_last += fx->seen.last;
        fx->seen.last = fx->seen.last || log->last;
        fx->seen.cut = log->cut;
        for (size_t i = 0; i < log->n_lines; i++) {
            size_t used = strlen(fx->seen.log);
            snprintf(fx->seen.log + used, sizeof(fx->seen.log) - used, "%s\n", log->lines[i]->text);
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

void build_ask(const char *builder_id, int32_t attempt, int64_t age_ms)
{
    Enclii__V1__RunBuild run = ENCLII__V1__RUN_BUILD__INIT;
    Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    char ref[] = "refs/heads/main", svc[] = "svc-1", image[] = "127.0.0.1:5000/acme/shop";
    service.service_id = svc;
    commit.sha = fx->sha;
    commit.ref = ref;
    run.build_id = fx->seen.build_id;
    run.attempt = attempt;
    run.builder_id = (char *)(uintptr_t)builder_id;
    run.service = &service;
    run.commit = &commit;
    run.clone_url = fx->clone_url;
    run.image_repo = image;
    run.trusted = fx->trusted;
    run.spec = &fx->spec;
    struct ec_id id = ec_id_new();
    test_kafka_publish(fx->kafka, fx->watch_bus,
                       &(struct ec_message){.topic = EC_TOPIC_BUILD_COMMANDS,
                                            .key = "svc-1",
                                            .type = "dev.enclii.build.run.v1",
                                            .id = id.text,
                                            .body = &run.base,
                                            .time_unix_ms = ec_unix_ms() - age_ms});
}

void build_cancel(void)
{
    Enclii__V1__CancelBuild cancel = ENCLII__V1__CANCEL_BUILD__INIT;
    char reason[] = "superseded by a newer push", builder[] = "b1";
    cancel.build_id = fx->seen.build_id;
    cancel.attempt = 1;
    cancel.builder_id = builder;
    cancel.reason = reason;
    struct ec_id id = ec_id_new();
    test_kafka_publish(fx->kafka, fx->watch_bus,
                       &(struct ec_message){.topic = EC_TOPIC_BUILD_COMMANDS,
                                            .key = "svc-1",
                                            .type = "dev.enclii.build.cancel.v1",
                                            .id = id.text,
                                            .body = &cancel.base});
}

bool build_ended(void *arg)
{
    (void)arg;
    return fx->seen.succeeded + fx->seen.failed > 0 && fx->seen.last && fx->running_now == 0 &&
           !fx->builder.jobs;
}

bool build_failed(void *arg)
{
    (void)arg;
    return fx->seen.failed > 0;
}

bool build_log_has(void *text)
{
    return strstr(fx->seen.log, text) != NULL;
}

void build_begin(void)
{
    struct ec_id id = ec_id_new();
    memset(&fx->seen, 0, sizeof(fx->seen));
    snprintf(fx->seen.build_id, sizeof(fx->seen.build_id), "%s", id.text);
    fx->seen.next_seq = 1;
    fx->seen.seq_ok = true;
    enclii__v1__build_spec__init(&fx->spec);
    snprintf(fx->clone_url, sizeof(fx->clone_url), "file://%s", fx->repo);
    fx->build_script = "cat $2/hello.txt; echo building; echo image-1 > $1";
    fx->push_script = "printf " DIGEST " > $1";
}

void build_run_to_end(void)
{
    build_ask("b1", 1, 0);
    if (!test_run_until(fx->loop, 10000, build_ended, NULL)) {
        fail_msg("not ended: started %d succeeded %d failed %d last %d running %d\n%s",
                 fx->seen.started, fx->seen.succeeded, fx->seen.failed, fx->seen.last,
                 fx->running_now, fx->seen.log);
    }
    assert_int_equal(fx->seen.started, 1);
    assert_int_equal(fx->seen.succeeded + fx->seen.failed, 1);
    assert_true(fx->seen.seq_ok);
    assert_int_equal(fx->seen.lines_after_last, 0);
}

int build_shell(const char *format, ...)
{
    char command[2000];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    return system(command);
}

static bool is_ready(void *arg)
{
    (void)arg;
    return fx->builder.ready;
}

static void make_repo(void)
{
    snprintf(fx->repo, sizeof(fx->repo), "%s/repo", fx->dir);
    assert_int_equal(
        build_shell("mkdir -p %s/web && cd %s && git init -q -b main . && echo hello from "
                    "the commit > hello.txt && "
                    "echo '{}' > web/package.json && ln -s /etc/passwd leak && "
                    "printf 'FROM debian:bookworm-slim\\nCOPY hello.txt /\\n' > Dockerfile "
                    "&& git add -A && "
                    "git -c user.name=t -c user.email=t@t commit -q -m first && git "
                    "rev-parse HEAD > %s/sha",
                    fx->repo, fx->repo, fx->dir),
        0);
    char path[100];
    snprintf(path, sizeof(path), "%s/sha", fx->dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(fx->sha, sizeof(fx->sha), file));
    fx->sha[strcspn(fx->sha, "\n")] = '\0';
    fclose(file);
}

/* One server that wants a password, which only the file of hosts knows. */
static void write_hosts(void)
{
    snprintf(fx->password, sizeof(fx->password), "pass-%d-word", (int)getpid());
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4096);
    const char *both = ec_arena_format(arena, "deploy:%s", fx->password);
    snprintf(fx->basic, sizeof(fx->basic), "%s", ec_base64(arena, ec_span_of(both)));
    fx->git_server = test_git_server_start("deploy", fx->password);
    const char *host = fx->git_server ? test_git_server_host(fx->git_server) : "127.0.0.1:1";
    snprintf(fx->hosts_file, sizeof(fx->hosts_file), "%s/hosts.json", fx->dir);
    assert_int_equal(build_shell("printf %4$s > %1$s/token; printf '{\"hosts\": [{\"server\": "
                                 "\"%2$s\", \"kind\": \"git\", \"user\": \"deploy\", "
                                 "\"token_file\": \"%1$s/token\"}]}' > %3$s",
                                 fx->dir, host, fx->hosts_file, fx->password),
                     0);
    if (fx->git_server) {
        assert_int_equal(
            build_shell("mkdir %1$s/acme && git clone -q --bare %2$s %1$s/acme/shop.git && "
                        "git -C %1$s/acme/shop.git config uploadpack.allowFilter true && "
                        "git -C %1$s/acme/shop.git config uploadpack.allowAnySHA1InWant "
                        "true",
                        test_git_server_root(fx->git_server), fx->repo),
            0);
    }
}

int builder_fixture_open(void **state)
{
    (void)state;
    fx->trusted = true;
    strcpy(fx->dir, "/tmp/ec_builder_test.XXXXXX");
    assert_non_null(mkdtemp(fx->dir));
    make_repo();
    build_shell("mkdir -p %s/scratch/jobs/left-over/deep", fx->dir);
    fx->loop = ec_loop_new();
    fx->kafka = test_kafka_start(fx->loop, "enclii.build.commands:1", "enclii.build.events:1",
                                 "enclii.build.logs:1", "enclii.builders:1", NULL);
    fx->bus = test_kafka_bus(fx->kafka, "builder");
    fx->watch_bus = test_kafka_bus(fx->kafka, "watch");
    static char work[100];
    snprintf(work, sizeof(work), "%s/scratch", fx->dir);
    write_hosts();
    fx->builder = (struct builder){.loop = fx->loop, .bus = fx->bus, .engine = fake};
    fx->builder.settings = (struct builder_settings){
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
        .untrusted_network = "none",
        .untrusted_reach = "",
        .git_protocols = "file:http",
        .githost = {.hosts_file = fx->hosts_file},
    };
    static const char *const topics[] = {EC_TOPIC_BUILD_EVENTS, EC_TOPIC_BUILD_LOGS,
                                         EC_TOPIC_BUILDERS, NULL};
    struct ec_err err = ec_bus_table(fx->watch_bus,
                                     &(struct ec_table_spec){.topics = topics,
                                                             .routes = watch_routes,
                                                             .route_count = EC_LEN(watch_routes),
                                                             .on_event = on_event},
                                     NULL);
    assert_false(ec_failed(err));
    err = builder_start(&fx->builder);
    assert_string_equal(err.what ? err.what : "", "");
    assert_true(test_run_until(fx->loop, 5000, is_ready, NULL));
    return 0;
}

static bool is_stopped(void *arg)
{
    (void)arg;
    return fx->stopped;
}

static void on_stopped(void *arg)
{
    (void)arg;
    fx->stopped = true;
}

void builder_fixture_stop(void)
{
    builder_stop(&fx->builder, on_stopped, NULL);
    assert_true(test_run_until(fx->loop, 5000, is_stopped, NULL));
}

int builder_fixture_close(void **state)
{
    (void)state;
    if (!fx->stopped) {
        builder_fixture_stop();
    }
    builder_done(&fx->builder);
    test_git_server_free(fx->git_server);
    test_kafka_close_bus(fx->kafka, fx->bus);
    test_kafka_close_bus(fx->kafka, fx->watch_bus);
    test_kafka_stop(fx->kafka);
    ec_loop_free(fx->loop);
    return build_shell("rm -rf %s", fx->dir);
}
