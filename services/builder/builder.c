/* Commands in, heartbeats out. Every builder reads every command (its consumer group is its own)
 * and acts on those that name it. A command counts as done once it was accepted: if this process
 * dies, its heartbeats stop and pipeline gives the build to somebody else under the next attempt
 * number. */
#include "builder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/topics.h"
#include "service/service.h"

#define HEARTBEAT_MS 2000
#define HEARTBEAT_STARTING_MS 200 /* until slots are offered */
#define CACHED_REPOS_MAX 64
#define TRIM_IDLE_MS 15000          /* the caches are looked at when nothing ran for so long */
#define TRIM_LATEST_MS (10 * 60000) /* or at the first pause after so long; images are measured */
#define MEASURE_MS 60000            /* git caches and cache mounts, also when there is no pause */
#define DRAIN_MS 3500               /* of the 5 s that a service has to leave */
#define SETUP_DEADLINE_MS 60000

static struct ec_metric commands_total = EC_COUNTER(
    "enclii_builder_commands_total", "Build commands by what became of them.", "verdict");
static struct ec_metric running_builds =
    EC_GAUGE("enclii_builder_running", "Builds running on this builder.", NULL);

const struct ec_route builder_routes[] = {
    /* when this arrives            it carries                            we do */
    {"dev.enclii.build.run.v1", &enclii__v1__run_build__descriptor, on_run_build},
    {"dev.enclii.build.cancel.v1", &enclii__v1__cancel_build__descriptor, on_cancel_build},
};
const size_t builder_route_count = EC_LEN(builder_routes);

const char *builder_path(struct builder *b, const char *name)
{
    return ec_arena_format(b->arena, "%s/%s", b->settings.work_dir, name);
}

/* ---- heartbeats ---- */

/* A slot offered before commands reach us would be a lease that ends by timeout. */
const char *builder_unready(const struct builder *b)
{
    if (!b->ready) {
        return "leftovers of the last run are being removed";
    }
    bool joined = b->commands && ec_consumer_assigned(b->commands);
    return joined ? NULL : "joining the consumers of build.commands";
}

static void heartbeat_send(struct builder *b)
{
    Enclii__V1__BuilderHeartbeat beat = ENCLII__V1__BUILDER_HEARTBEAT__INIT;
    struct ec_arena *arena = ec_arena_new(1024 * 1024);
    Enclii__V1__RunningBuild **running =
        ec_arena_alloc(arena, (b->job_count + 1) * sizeof(*running));
    char *urls[CACHED_REPOS_MAX];
    for (struct job *job = b->jobs; job; job = job->next) {
        Enclii__V1__RunningBuild *one = ec_arena_alloc(arena, sizeof(*one));
        enclii__v1__running_build__init(one);
        one->build_id = job->run->build_id;
        one->attempt = job->run->attempt;
        one->step = (char *)(uintptr_t)job->step;
        one->since_unix_ms = job->began_unix_ms;
        if (!job->told) { /* an ended build frees its slot at once */
            running[beat.n_running++] = one;
        }
    }
    beat.builder_id = (char *)(uintptr_t)b->settings.builder_id;
    beat.slots = (int32_t)b->settings.slots;
    beat.running = running;
    beat.n_cached_repos = cache_urls(b, arena, urls, CACHED_REPOS_MAX);
    beat.cached_repos = urls;
    beat.draining = b->draining || b->trim_wanted || builder_unready(b) != NULL;
    beat.trusted_only = b->settings.trusted_only;
    beat.version = (char *)(uintptr_t)ec_version;
    struct ec_id id = ec_id_new();
    /* Nobody waits for a heartbeat: the next one says everything again. */
    ec_ignore(ec_bus_publish(b->bus,
                             &(struct ec_message){.topic = EC_TOPIC_BUILDERS,
                                                  .key = b->settings.builder_id,
                                                  .type = "dev.enclii.builder.heartbeat.v1",
                                                  .id = id.text,
                                                  .body = &beat.base},
                             NULL, NULL));
    ec_metric_set(&running_builds, NULL, (double)beat.n_running);
    ec_arena_free(arena);
}

static void on_heartbeat(void *arg)
{
    struct builder *b = arg;
    heartbeat_send(b);
    bool offers = b->draining || !builder_unready(b);
    ec_timer_start(b->heartbeat, offers ? HEARTBEAT_MS : HEARTBEAT_STARTING_MS, 0);
}

static void on_changed(void *arg)
{
    struct builder *b = arg;
    b->heartbeat_due = false;
    if (b->heartbeat) {
        heartbeat_send(b);
    }
}

void builder_changed(struct builder *b)
{
    if (!b->heartbeat_due && b->heartbeat) {
        b->heartbeat_due = true;
        ec_loop_defer(b->loop, on_changed, b);
    }
}

/* ---- commands ---- */

static void *arena_alloc(void *arena, size_t size)
{
    return ec_arena_try(arena, size);
}

static void arena_free(void *arena, void *memory)
{
    (void)arena;
    (void)memory; /* dies with the job */
}

static void refuse(struct builder *b, const Enclii__V1__RunBuild *run, const char *trace,
                   const char *detail, bool retryable)
{
    Enclii__V1__BuildFailed failed = ENCLII__V1__BUILD_FAILED__INIT;
    failed.build_id = run->build_id;
    failed.attempt = run->attempt;
    failed.builder_id = (char *)(uintptr_t)b->settings.builder_id;
    failed.reason = ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL;
    failed.detail = (char *)(uintptr_t)detail;
    failed.retryable = retryable;
    char cause[80];
    snprintf(cause, sizeof(cause), "%s/%d", run->build_id, run->attempt);
    struct ec_id id = ec_id_derive(cause, "refused");
    publish(b,
            &(struct ec_message){.topic = EC_TOPIC_BUILD_EVENTS,
                                 .key = run->service ? run->service->service_id : run->build_id,
                                 .type = "dev.enclii.build.failed.v1",
                                 .subject = run->build_id,
                                 .id = id.text,
                                 .trace = trace,
                                 .body = &failed.base},
            NULL, NULL);
}

static struct job *find_job(struct builder *b, const char *build_id)
{
    struct job *job = b->jobs;
    while (job && (strcmp(job->run->build_id, build_id) != 0 || job->told)) {
        job = job->next;
    }
    return job;
}

static int slots_free(const struct builder *b)
{
    int used = 0;
    for (const struct job *job = b->jobs; job; job = job->next) {
        used += !job->told;
    }
    return (int)b->settings.slots - used;
}

static const char *verdict_name(enum command_verdict verdict)
{
    static const char *const names[] = {"accepted", "not_ours", "duplicate",
                                        "stale",    "no_slot",  "invalid"};
    return names[verdict];
}

static void accept_build(struct builder *b, struct ec_event *ev)
{
    struct ec_arena *arena = ec_arena_new(JOB_ARENA_MAX);
    ProtobufCAllocator allocator = {arena_alloc, arena_free, arena};
    struct ec_span raw = ec_event_raw(ev);
    Enclii__V1__RunBuild *run =
        enclii__v1__run_build__unpack(&allocator, raw.len, (const uint8_t *)raw.ptr);
    job_start(b, run, arena, ec_event_trace(ev));
}

struct ec_err on_run_build(void *state, struct ec_event *ev)
{
    struct builder *b = state;
    const Enclii__V1__RunBuild *run = ec_event_body(ev);
    struct job *same = run ? find_job(b, run->build_id) : NULL;
    struct command_facts facts = {
        .builder_id = b->settings.builder_id,
        .now_unix_ms = ec_unix_ms(),
        .sent_unix_ms = ec_event_time_unix_ms(ev),
        .running_same_attempt = same && same->run->attempt >= run->attempt,
        .slots_free = slots_free(b) + (same != NULL),
        .draining = b->draining,
        .trusted_only = b->settings.trusted_only,
    };
    if (!run) {
        return ec_reject("build.run without a body");
    }
    enum command_verdict verdict = decide_command(run, &facts);
    const char *fault =
        verdict == COMMAND_ACCEPT ? decide_command_fault(run, b->settings.git_protocols) : NULL;
    verdict = fault ? COMMAND_INVALID : verdict;
    ec_metric_add(&commands_total, verdict_name(verdict), 1);
    if (verdict == COMMAND_ACCEPT) {
        if (same) {
            job_cancel(same, "a newer attempt of this build began");
        }
        accept_build(b, ev);
    } else if (verdict == COMMAND_INVALID) {
        refuse(b, run, ec_event_trace(ev), fault, false);
    } else if (verdict == COMMAND_NO_SLOT) {
        refuse(b, run, ec_event_trace(ev), "this builder has no free slot", true);
    }
    if (verdict != COMMAND_NOT_OURS) {
        ec_log(EC_LOG_INFO, ec_event_trace(ev), "build.command", verdict_name(verdict),
               EC_T("build", run->build_id), EC_N("attempt", run->attempt));
    }
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

struct ec_err on_cancel_build(void *state, struct ec_event *ev)
{
    struct builder *b = state;
    const Enclii__V1__CancelBuild *cancel = ec_event_body(ev);
    if (!cancel) {
        return ec_reject("build.cancel without a body");
    }
    struct job *job = find_job(b, cancel->build_id);
    bool ours = !cancel->builder_id[0] || strcmp(cancel->builder_id, b->settings.builder_id) == 0;
    if (ours && job && job->run->attempt <= cancel->attempt) {
        job_cancel(job, cancel->reason[0] ? cancel->reason : "cancelled");
    }
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

/* ---- start and stop ---- */

static void on_drained(void *arg)
{
    struct builder *b = arg;
    b->drained_now(b->drained_arg);
}

static void drain_step(struct builder *b)
{
    if (!b->drained || b->jobs) {
        return;
    }
    ec_timer_stop(b->drain_timer);
    publish_give_up(b); /* refusals at most: the jobs' own events are acknowledged */
    b->drained_now = b->drained;
    b->drained = NULL;
    ec_loop_defer(b->loop, on_drained, b);
}

/* Also when there is never a pause. */
static void look_at_caches(struct builder *b)
{
    int64_t now_ms = ec_mono_ms();
    bool images = b->jobs && now_ms - b->images_mono_ms > TRIM_LATEST_MS;
    if (now_ms - b->measured_mono_ms > MEASURE_MS && !b->measuring) {
        b->measured_mono_ms = now_ms;
        b->images_mono_ms = images ? now_ms : b->images_mono_ms;
        cache_trim(b, false, images);
    }
}

void builder_trim_wanted(struct builder *b)
{
    bool runs = false;
    for (const struct job *job = b->jobs; job; job = job->next) {
        runs = runs || job->flow_running || job->told;
    }
    builder_changed(b);
    if (b->trim_wanted && !b->draining && !runs) {
        cache_trim(b, true, true);
    }
}

void builder_job_gone(struct builder *b)
{
    builder_changed(b);
    if (b->drained) {
        drain_step(b);
        return;
    }
    if (b->trim_wanted) {
        builder_trim_wanted(b);
        return;
    }
    look_at_caches(b);
    if (!b->jobs) {
        bool late = ec_mono_ms() - b->trimmed_mono_ms > TRIM_LATEST_MS;
        ec_timer_start(b->trim_timer, late ? 1 : TRIM_IDLE_MS, 0);
    }
}

static void on_idle(void *arg)
{
    struct builder *b = arg;
    if (b->measuring) {
        ec_timer_start(b->trim_timer, TRIM_IDLE_MS, 0);
    } else if (!b->jobs) {
        b->trimmed_mono_ms = b->measured_mono_ms = b->images_mono_ms = ec_mono_ms();
        cache_trim(b, true, true);
    }
}

static void on_drain_over(void *arg)
{
    struct builder *b = arg;
    publish_give_up(b); /* jobs end with their last event */
    drain_step(b);
}

void builder_stop(struct builder *b, ec_call_fn drained, void *arg)
{
    b->draining = true;
    ec_githosts_close(EC_TAKE(b->githosts)); /* who waits for a credential waits no longer */
    b->drained = drained;
    b->drained_arg = arg;
    heartbeat_send(b);
    ec_timer_start(b->drain_timer, DRAIN_MS, 0);
    for (struct job *job = b->jobs; job; job = job->next) {
        job->handed_back = !job->told && !job->cancel_reason;
        job_cancel(job, "the builder is stopping; another one takes over");
    }
    drain_step(b);
}

void builder_done(struct builder *b)
{
    ec_timer_free(b->heartbeat);
    ec_timer_free(b->drain_timer);
    ec_timer_free(b->trim_timer);
    b->heartbeat = NULL;
    ec_secret_free(EC_TAKE(b->layers_key));
    ec_arena_free(b->arena);
}

static void on_ready(struct builder *b)
{
    b->ready = true;
    builder_changed(b);
    for (struct job *job = b->jobs; job; job = job->next) {
        job_begin(job);
    }
}

static void on_version_line(void *arg, bool is_stderr, struct ec_span line)
{
    struct builder *b = arg;
    if (!is_stderr && !b->engine_version[0] && line.len > 0) { /* "buildah version 1.28.2 (...)" */
        const char *digit = memchr(line.ptr, ' ', line.len);
        struct ec_span rest =
            digit ? (struct ec_span){digit + 1, line.len - (size_t)(digit + 1 - line.ptr)} : line;
        if (ec_span_starts(rest, "version ")) {
            rest = (struct ec_span){rest.ptr + 8, rest.len - 8};
        }
        const char *space = memchr(rest.ptr, ' ', rest.len);
        size_t len = space ? (size_t)(space - rest.ptr) : rest.len;
        snprintf(b->engine_version, sizeof(b->engine_version), "%s %.*s", b->engine.name, (int)len,
                 rest.ptr);
    }
}

static void on_tidied(void *arg, const struct ec_process_result *result)
{
    (void)result; /* what is left over is found again by the next start */
    on_ready(arg);
}

static void on_version(void *arg, const struct ec_process_result *result)
{
    struct builder *b = arg;
    if (result->exit_code != 0) {
        ec_log(EC_LOG_ERROR, NULL, "engine.broken",
               "the build engine does not run: builds will fail", EC_T("engine", b->engine.name),
               EC_N("exit", result->exit_code));
    }
    struct ec_process_spec spec = {.argv = b->engine.tidy_argv(b, b->arena),
                                   .env = b->engine.env,
                                   .deadline_ms = SETUP_DEADLINE_MS,
                                   .on_exit = on_tidied,
                                   .arg = b};
    struct ec_err err = ec_process_start(b->loop, &spec, NULL);
    if (ec_failed(err)) {
        on_ready(b);
    }
}

/* The jobs of a builder that was killed: its processes are gone (they die with it, and the rest of
 * their control groups with our first child), its folders go now. */
static void on_leftovers_removed(void *arg, const struct ec_process_result *result)
{
    (void)result;
    struct builder *b = arg;
    struct ec_process_spec spec = {.argv = b->engine.version_argv(b, b->arena),
                                   .env = b->engine.env,
                                   .deadline_ms = SETUP_DEADLINE_MS,
                                   .memory_max_bytes = (uint64_t)1 << 30,
                                   .on_line = on_version_line,
                                   .on_exit = on_version,
                                   .arg = b};
    struct ec_err err = ec_process_start(b->loop, &spec, NULL);
    if (ec_failed(err)) {
        ec_log(EC_LOG_ERROR, NULL, "engine.missing", "builds will fail", EC_ERR(err));
        on_ready(b);
    }
}

static EC_RESULT make_dirs(struct builder *b)
{
    static const char *const names[] = {"", "git", "jobs", "home", "tmp", "mounts"};
    for (size_t i = 0; i < EC_LEN(names); i++) {
        const char *path = builder_path(b, names[i]);
        if (mkdir(path, 0700) != 0 && access(path, W_OK) != 0) {
            return ec_fatal(0, ec_arena_format(b->arena,
                                               "the work folder %s cannot be made or "
                                               "written: create its parent, or set ENCLII_WORK_DIR",
                                               path));
        }
    }
    return ec_ok();
}

struct ec_err builder_start(struct builder *b)
{
    b->arena = ec_arena_new(1024 * 1024);
    if (!b->settings.builder_id[0]) {
        char *name = ec_arena_alloc(b->arena, 256);
        gethostname(name, 255);
        b->settings.builder_id = name;
    }
    EC_TRY(make_dirs(b));
    EC_TRY(isolation_open(b));
    EC_TRY(layers_open(b));
    EC_TRY(b->engine.open(b));
    EC_TRY(ec_githosts_open(b->loop, b->fetcher, &b->settings.githost, &b->githosts));
    b->heartbeat = ec_timer_new(b->loop, on_heartbeat, b);
    b->drain_timer = ec_timer_new(b->loop, on_drain_over, b);
    b->trim_timer = ec_timer_new(b->loop, on_idle, b);
    b->trimmed_mono_ms = b->measured_mono_ms = b->images_mono_ms = ec_mono_ms();
    const char **argv = ec_arena_alloc(b->arena, 6 * sizeof(*argv));
    argv[0] = "rm";
    argv[1] = "-rf";
    argv[2] = "--one-file-system";
    argv[3] = ec_arena_format(b->arena, "%s.old", builder_path(b, "jobs"));
    if (rename(builder_path(b, "jobs"), argv[3]) != 0) { /* an older .old is there: take both */
        argv[4] = builder_path(b, "jobs");
    }
    struct ec_process_spec spec = {
        .argv = argv, .deadline_ms = SETUP_DEADLINE_MS, .on_exit = on_leftovers_removed, .arg = b};
    EC_TRY(ec_process_start(b->loop, &spec, NULL));
    ec_timer_start(b->heartbeat, 1, 0);
    char *group = ec_arena_format(b->arena, "builder.%s", b->settings.builder_id);
    static const char *const topics[] = {EC_TOPIC_BUILD_COMMANDS, NULL};
    return ec_bus_consume(b->bus,
                          &(struct ec_consume_spec){.group = group,
                                                    .topics = topics,
                                                    .routes = builder_routes,
                                                    .route_count = builder_route_count,
                                                    .state = b,
                                                    .member = b->settings.builder_id},
                          &b->commands);
}
