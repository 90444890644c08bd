/* What happens to the files: find out how they are built, build them, push the image by digest. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "builder.h"
#include "dockerfile.h"
#include "trust/digest.h"

#define DOCKERFILE_MAX_BYTES ((size_t)1024 * 1024)
#define LIST_DEADLINE_MS 30000

/* ---- detect ---- */

/* The real path of `relative`, if it lies inside the source folder (symbolic links may point
 * anywhere). */
static const char *real_inside(struct job *job, const char *relative)
{
    char *base = realpath(job->source_dir, NULL);
    char *full = realpath(ec_arena_format(job->arena, "%s/%s", job->source_dir, relative), NULL);
    size_t len = base ? strlen(base) : 0;
    bool inside = base && full && strncmp(full, base, len) == 0 && (full[len] == '/' || !full[len]);
    const char *result = inside ? ec_arena_strdup(job->arena, full) : NULL;
    free(base);
    free(full);
    return result;
}

static bool is_kind(const char *path, mode_t kind)
{
    struct stat info;
    return path && lstat(path, &info) == 0 && (info.st_mode & S_IFMT) == kind;
}

static const char *const *find_markers(struct job *job)
{
    const char **found = ec_arena_alloc(job->arena, 16 * sizeof(*found));
    size_t count = 0;
    for (size_t i = 0; build_markers[i] && count < 15; i++) {
        if (is_kind(ec_arena_format(job->arena, "%s/%s", job->context_path, build_markers[i]),
                    S_IFREG)) {
            found[count++] = build_markers[i];
        }
    }
    return found;
}

/* Buildah looks for it beside the Dockerfile, which it is given a copy of. */
static const char *find_ignore(struct job *job)
{
    static const char *const ends[] = {".containerignore", ".dockerignore"};
    const Enclii__V1__BuildSpec *spec = job->run->spec;
    for (size_t i = 0; i < EC_LEN(ends); i++) {
        const char *path =
            real_inside(job, ec_arena_format(job->arena, "%s/%s%s", build_context_of(spec),
                                             build_dockerfile_of(spec), ends[i]));
        if (is_kind(path, S_IFREG)) {
            return path;
        }
    }
    return NULL;
}

static void read_dockerfile(struct job *job)
{
    int fd = open(job->dockerfile_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *content = ec_alloc(DOCKERFILE_MAX_BYTES);
    ssize_t n = fd < 0 ? -1 : read(fd, content, DOCKERFILE_MAX_BYTES);
    if (n > 0) {
        struct ec_span text = {content, (size_t)n};
        job->base_count = dockerfile_bases(job->arena, text, job->run->spec, job->bases);
        layers_prepare(job, text, text.len < DOCKERFILE_MAX_BYTES);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(content);
}

struct ec_err start_detect(void *arg)
{
    struct job *job = arg;
    const Enclii__V1__BuildSpec *spec = job->run->spec;
    job_enter(job, "detect");
    job->context_path = real_inside(job, build_context_of(spec));
    struct tree_facts facts = {.context_there = is_kind(job->context_path, S_IFDIR)};
    if (facts.context_there) {
        job->dockerfile_path =
            real_inside(job, ec_arena_format(job->arena, "%s/%s", build_context_of(spec),
                                             build_dockerfile_of(spec)));
        facts.dockerfile_there = is_kind(job->dockerfile_path, S_IFREG);
        facts.found = find_markers(job);
    }
    job->plan = decide_build_type(job->arena, spec, &facts);
    if (!job->plan.dockerfile) {
        return job_fail(job, (struct verdict){ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_NOT_DETECTED,
                                              false, job->plan.detail});
    }
    build_log_say(&job->log, job->step, "building by %s", job->plan.detected_by);
    job->ignore_path = find_ignore(job);
    read_dockerfile(job);
    job_step_done(job, ec_ok());
    return ec_ok();
}

/* ---- build ---- */

/* Lines "registry/library/debian:bookworm-slim sha256:..."; the Dockerfile may name less of it. */
static void match_bases(struct job *job, const char *listing)
{
    for (const char *at = listing; *at;) {
        size_t len = strcspn(at, "\n");
        char *line = ec_arena_text(job->arena, (struct ec_span){at, len});
        char *space = strrchr(line, ' ');
        for (size_t i = 0; space && i < job->base_count; i++) {
            line[strcspn(line, " ")] = '\0'; /* the columns are padded */
            const char *name = job->bases[i], *tag = strrchr(name, ':');
            bool tagged = tag && !strchr(tag, '/');
            const char *wanted = tagged ? name : ec_arena_format(job->arena, "%s:latest", name);
            size_t have = strlen(line), want = strlen(wanted);
            if (have >= want && strcmp(line + have - want, wanted) == 0 &&
                (have == want || line[have - want - 1] == '/') && ec_digest_valid(space + 1)) {
                job->base_digests[i] = space + 1;
            }
        }
        at += len + (at[len] == '\n');
    }
    for (size_t i = 0; i < job->base_count; i++) { /* pinned in the Dockerfile itself */
        const char *pinned = strchr(job->bases[i], '@');
        if (pinned && ec_digest_valid(pinned + 1)) {
            job->base_digests[i] = pinned + 1;
        }
    }
}

/* Whether there is a base image whose digest the Dockerfile does not say. */
static bool needs_listing(const struct job *job)
{
    for (size_t i = 0; i < job->base_count; i++) {
        if (!strchr(job->bases[i], '@')) {
            return true;
        }
    }
    return false;
}

static void on_images(struct job *job, const struct ec_process_result *result)
{
    if (result->exit_code == 0 && job->captured.len > 0) {
        match_bases(job, job->captured.ptr);
    }
    /* Not knowing a base image's digest is no reason to fail. */
    job_step_done(job, result->cancelled ? ec_reject("cancelled") : ec_ok());
}

static void on_built(struct job *job, const struct ec_process_result *result)
{
    if (result->exit_code != 0) {
        job_step_done(
            job, job_fail(job, decide_build_end(job->arena, result, &job->limits, job->log.tail)));
        return;
    }
    job->image_id = job_read_file(job, job->image_id_file);
    if (!job->image_id) {
        job_step_done(job, ec_retry(0, "the build engine did not say which image it made"));
        return;
    }
    if (!needs_listing(job)) {
        match_bases(job, "");
        job_step_done(job, ec_ok());
        return;
    }
    struct ec_err err = job_run(job, &(struct command){
                                         .argv = job->builder->engine.images_argv(job),
                                         .env = job_env(job),
                                         .deadline_ms = job_deadline_ms(job, LIST_DEADLINE_MS),
                                         .capture = true,
                                         .ended = on_images,
                                     });
    if (ec_failed(err)) {
        job_step_done(job, err);
    }
}

static struct ec_err run_build(struct job *job)
{
    return job_run(job, &(struct command){
                            .argv = job->builder->engine.build_argv(job),
                            .env = job_env(job),
                            .cwd = job->context_path,
                            .deadline_ms = job_deadline_ms(job, job->limits.timeout_ms),
                            .memory_max_bytes = (uint64_t)job->limits.memory_max_bytes,
                            .pids_max = (uint64_t)job->builder->settings.pids_max,
                            .ended = on_built,
                        });
}

static struct ec_err pull_or_build(struct job *job);

static void on_pulled(struct job *job, const struct ec_process_result *result)
{
    struct ec_err err =
        result->exit_code == 0
            ? pull_or_build(job)
            : job_fail(job, decide_build_end(job->arena, result, &job->limits, job->log.tail));
    if (ec_failed(err)) {
        job_step_done(job, err);
    }
}

/* An untrusted job's base images come first, one after the other. Which of them the Dockerfile
 * really uses its build knows; one that begins like an option is none. */
static struct ec_err pull_or_build(struct job *job)
{
    while (job->bases_pulled < job->base_count && job->bases[job->bases_pulled][0] == '-') {
        job->bases_pulled++;
    }
    if (job->bases_pulled == job->base_count) {
        return run_build(job);
    }
    const char *base = job->bases[job->bases_pulled++];
    build_log_say(&job->log, job->step, "pulling %s", base);
    return job_run(job, &(struct command){
                            .argv = job->builder->engine.pull_argv(job, base),
                            .env = job_env(job),
                            .deadline_ms = job_deadline_ms(job, job->limits.timeout_ms),
                            .memory_max_bytes = (uint64_t)job->limits.memory_max_bytes,
                            .pids_max = (uint64_t)job->builder->settings.pids_max,
                            .ended = on_pulled,
                        });
}

struct ec_err start_build(void *arg)
{
    struct job *job = arg;
    job_enter(job, "build");
    EC_TRY(isolation_prepare(job));
    return !job->run->trusted && job->builder->engine.pull_argv ? pull_or_build(job)
                                                                : run_build(job);
}

/* ---- push, and beside it the image's size ---- */

static void end_push(struct job *job)
{
    if (job->pushed && !job->sizer) {
        job_step_done(job, job->push_err);
    }
}

static void on_size_line(void *arg, bool is_stderr, struct ec_span line)
{
    struct job *job = arg;
    if (!is_stderr) {
        ec_buf_add(&job->manifest, line.ptr, line.len);
    }
}

static void on_sized(void *arg, const struct ec_process_result *result)
{
    struct job *job = arg;
    json_t *manifest = NULL;
    struct ec_span text = ec_buf_span(&job->manifest);
    job->sizer = NULL;
    if (result->exit_code == 0 && !ec_failed(ec_json_parse(job->arena, text, &manifest))) {
        job->image_bytes = ec_json_int(manifest, "config.size", 0);
        size_t index;
        json_t *layer;
        json_array_foreach(json_object_get(manifest, "layers"), index, layer)
        {
            job->image_bytes += ec_json_int(layer, "size", 0);
        }
        json_decref(manifest);
    }
    end_push(job);
}

/* Not knowing the size is no reason to fail. */
static void start_sizing(struct job *job)
{
    struct ec_process_spec spec = {
        .argv = job->builder->engine.size_argv(job),
        .env = job_env(job),
        .deadline_ms = job_deadline_ms(job, LIST_DEADLINE_MS),
        .die_with_parent = true,
        .on_line = on_size_line,
        .on_exit = on_sized,
        .arg = job,
    };
    if (job->image_bytes > 0 || job->sizer || spec.deadline_ms == 0) {
        return;
    }
    ec_buf_clear(&job->manifest);
    ec_ignore(ec_process_start(job->builder->loop, &spec, &job->sizer));
}

static struct ec_err push_result(struct job *job, const struct ec_process_result *result)
{
    if (result->exit_code != 0) {
        bool over = result->timed_out && job_deadline_ms(job, 1) == 0;
        return over ? job_out_of_time(job)
                    : job_fail(job, decide_push_end(job->arena, result, job->log.tail));
    }
    job->digest = job_read_file(job, job->digest_file);
    if (!job->digest || !ec_digest_valid(job->digest)) {
        job->digest = NULL;
        return ec_retry(0, "the registry did not say which digest the image has");
    }
    return ec_ok();
}

static void on_pushed(struct job *job, const struct ec_process_result *result)
{
    job->push_err = push_result(job, result);
    job->pushed = true;
    end_push(job);
}

static bool is_loopback(const char *image_repo)
{
    return strncmp(image_repo, "127.", 4) == 0 || strncmp(image_repo, "localhost:", 10) == 0 ||
           strncmp(image_repo, "[::1]:", 6) == 0;
}

struct ec_err start_push(void *arg)
{
    struct job *job = arg;
    job_enter(job, "push");
    if (job->builder->settings.registry_insecure && !is_loopback(job->run->image_repo)) {
        return job_fail(job, (struct verdict){ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_PUSH, false,
                                              "ENCLII_REGISTRY_INSECURE=true is for registries on "
                                              "loopback only: give this registry TLS"});
    }
    build_log_say(&job->log, job->step, "pushing to %s", job->run->image_repo);
    unlink(job->digest_file);
    job->pushed = false;
    EC_TRY(job_run(job,
                   &(struct command){
                       .argv = job->builder->engine.push_argv(job),
                       .env = job_env(job),
                       .deadline_ms = job_deadline_ms(job, job->builder->settings.push_timeout_ms),
                       .ended = on_pushed,
                   }));
    start_sizing(job);
    return ec_ok();
}
