/* The SBOM step: Syft reads the image from the registry in a process of its own and writes
 * CycloneDX JSON. What it made is checked and kept by image digest until the release is decided, so
 * that a second try costs nothing. Files are read on libuv's pool. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "net/address.h"
#include "signer.h"
#include "trust/bundle.h"
#include "trust/digest.h"

#define SYFT_MEMORY_MAX_BYTES (2ull << 30)

/* One file being read off the loop. */
struct reading {
    struct job *job;
    char *path;
    char *keep_as; /* rename it to this when it is good; NULL: it is the cache's */
    char *bytes;
    size_t len;
    int code;
};

static char *cache_path(struct job *job)
{
    return ec_arena_format(job->arena, "%s/sbom/%s.json", job->signer->settings.work_dir,
                           job->image.digest + 7);
}

void forget_sbom(struct job *job)
{
    if (job->image.digest && ec_digest_valid(job->image.digest)) {
        unlink(cache_path(job));
    }
}

/* ---- the document ---- */

static struct ec_err take_document(struct job *job, struct ec_span text)
{
    ec_cleanup(ec_json_freep) json_t *bom = NULL;
    int32_t components = 0;
    EC_TRY(ec_json_parse(job->arena, text, &bom));
    EC_TRY(ec_sbom_check(job->arena, bom, &components));
    EC_TRY(ec_statement_sbom(job->arena, job->release->image_repo, job->image.digest, bom,
                             &job->statements[DOC_SBOM]));
    job->sbom_version = ec_arena_strdup(job->arena, ec_json_text(bom, "specVersion"));
    job->sbom_components = components;
    job->sbom = EC_TAKE(bom);
    job->detail = ec_arena_format(job->arena, "%d components", components);
    return ec_ok();
}

/* ---- reading it ---- */

static void read_file(void *arg)
{
    struct reading *rd = arg;
    FILE *file = fopen(rd->path, "rbe");
    if (!file) {
        rd->code = -errno;
        return;
    }
    struct stat info;
    if (fstat(fileno(file), &info) == 0 && info.st_size <= EC_STATEMENT_MAX_BYTES) {
        rd->bytes = ec_alloc((size_t)info.st_size + 1);
        rd->len = fread(rd->bytes, 1, (size_t)info.st_size, file);
    } else {
        rd->code = -EFBIG;
    }
    fclose(file);
}

static void free_reading(struct reading *rd)
{
    free(rd->path);
    free(rd->keep_as);
    free(rd->bytes);
    free(rd);
}

static struct ec_err run_syft(struct job *job);

static void on_read(void *arg)
{
    struct reading *rd = arg;
    struct job *job = rd->job;
    struct ec_err err = ec_ok();
    if (rd->code) {
        err = rd->code == -EFBIG ? ec_reject("the SBOM has more than 11 MiB")
                                 : ec_retry(rd->code, "Syft's output cannot be read");
    } else {
        err = take_document(job, (struct ec_span){rd->bytes, rd->len});
    }
    bool cached = rd->keep_as == NULL;
    if (cached && ec_failed(err)) {
        unlink(rd->path); /* not there yet, or damaged: make it anew */
        err = run_syft(job);
        if (ec_failed(err)) {
            ec_flow_done(&job->flow, err);
        }
        free_reading(rd);
        return;
    }
    if (!cached && (ec_failed(err) || rename(rd->path, rd->keep_as) != 0)) {
        unlink(rd->path);
    }
    free_reading(rd);
    ec_flow_done(&job->flow, err);
}

static struct ec_err start_reading(struct job *job, const char *path, const char *keep_as)
{
    struct reading *rd = ec_alloc(sizeof(*rd));
    rd->job = job;
    rd->path = ec_strdup(path);
    rd->keep_as = keep_as ? ec_strdup(keep_as) : NULL;
    struct ec_err err = ec_loop_work(job->signer->loop, read_file, on_read, rd);
    if (ec_failed(err)) {
        free_reading(rd);
    }
    return err;
}

/* ---- Syft ---- */

static void on_syft_line(void *arg, bool is_stderr, struct ec_span line)
{
    (void)is_stderr;
    struct job *job = arg;
    if (line.len > 0) {
        size_t len = line.len < 300 ? line.len : 300;
        free(job->syft_says);
        job->syft_says = ec_strndup(line.ptr, len);
    }
}

/* Is the registry at fault, or the image? */
static void on_registry_asked(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    (void)answer;
    struct job *job = arg;
    const char *says = job->syft_says ? job->syft_says : "it said nothing";
    bool last = job->flow.tries >= sign_steps[job->flow.at].tries_max;
    if (err.fate == EC_FATE_RETRY || !last) {
        ec_flow_done(&job->flow, ec_retry_in(job->arena, err.sys, "Syft failed: %s", says));
        return;
    }
    ec_flow_done(&job->flow, ec_reject_in(job->arena, "Syft failed twice: %s", says));
}

/* OK: on_registry_asked will tell. */
static struct ec_err syft_error(struct job *job, const struct ec_process_result *result)
{
    if (result->cancelled) {
        return ec_retry(0, "the signer is stopping");
    }
    if (result->timed_out) {
        return ec_reject_in(job->arena, "Syft was not done after %lld s (ENCLII_SYFT_TIMEOUT)",
                            (long long)(job->signer->settings.syft_timeout_ms / 1000));
    }
    if (result->out_of_memory) {
        return ec_reject("Syft needs more than 2 GiB of memory for this image");
    }
    return ec_manifest_head(job->signer->registry, &job->image, job->image.digest,
                            on_registry_asked, job);
}

static void on_syft_exit(void *arg, const struct ec_process_result *result)
{
    struct job *job = arg;
    job->syft = NULL;
    bool good = result->exit_code == 0;
    struct ec_err err =
        good ? start_reading(job, job->syft_output, cache_path(job)) : syft_error(job, result);
    if (!good || ec_failed(err)) {
        unlink(job->syft_output);
    }
    if (ec_failed(err)) {
        ec_flow_done(&job->flow, err);
    }
}

static struct ec_err run_syft(struct job *job)
{
    if (job->signer->stopping) {
        return ec_retry(0, "the signer is stopping");
    }
    const struct settings *settings = &job->signer->settings;
    struct ec_arena *arena = job->arena;
    const char *dir = settings->work_dir;
    job->syft_output = ec_arena_format(arena, "%s/tmp/%s.json", dir, job->release->release_id);
    const char *config = settings->docker_config_file;
    const char *slash = strrchr(config, '/');
    const bool plain = settings->registry_insecure && ec_host_loopback(job->image.host);
    const char *argv[] = {
        settings->syft,
        "scan",
        ec_arena_format(arena, "registry:%s@%s", job->release->image_repo, job->image.digest),
        "-o",
        ec_arena_format(arena, "cyclonedx-json@1.6=%s", job->syft_output),
        NULL,
    };
    const char *path = getenv("PATH");
    const char *env[] = {
        ec_arena_format(arena, "PATH=%s", path ? path : "/usr/local/bin:/usr/bin:/bin"),
        ec_arena_format(arena, "HOME=%s", dir),
        ec_arena_format(arena, "TMPDIR=%s/tmp", dir),
        ec_arena_format(arena, "XDG_CACHE_HOME=%s/cache", dir),
        "SYFT_CHECK_FOR_APP_UPDATE=false",
        "SYFT_FILE_METADATA_SELECTION=none", /* newer versions list every file else */
        plain ? "SYFT_REGISTRY_INSECURE_USE_HTTP=true" : "SYFT_REGISTRY_INSECURE_USE_HTTP=false",
        slash ? ec_arena_format(arena, "DOCKER_CONFIG=%.*s", (int)(slash - config), config)
              : "LANG=C.UTF-8",
        NULL,
    };
    struct ec_process_spec spec = {
        .argv = argv,
        .env = env,
        .cwd = dir,
        .deadline_ms = (uint32_t)settings->syft_timeout_ms,
        .memory_max_bytes = SYFT_MEMORY_MAX_BYTES,
        .die_with_parent = true,
        .on_line = on_syft_line,
        .on_exit = on_syft_exit,
        .arg = job,
    };
    struct ec_err err = ec_process_start(job->signer->loop, &spec, &job->syft);
    /* A missing program is our installation's fault, not the image's. */
    return err.fate == EC_FATE_REJECT ? ec_retry(err.sys, err.what) : err;
}

struct ec_err start_sbom(void *arg)
{
    struct job *job = arg;
    if (job->sbom) {
        job->detail = "a good one is attached already";
        ec_flow_done(&job->flow, ec_ok());
        return ec_ok();
    }
    return start_reading(job, cache_path(job), NULL);
}
