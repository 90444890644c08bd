/* The one place that keeps the work folder below ENCLII_CACHE_MAX: git caches and cache mounts may
 * take a quarter each, images the rest. A worker thread measures; what goes is decided on the loop,
 * where it is known which repositories have a job, and is moved out of the way at once, so that a
 * job finds a folder whole or not at all; then it is deleted. So git caches and cache mounts are
 * cut while builds run, too. The image storage is only cut when none runs: when it is over its
 * share and the builder is never idle, new jobs wait for those that run. */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "builder.h"
#include "decide_cache.h"
#include "trust/digest.h"

#define KEPT_MAX                                                                                   \
    4096 /* folders of repositories; what is beyond is seen when those before are gone */
#define WALK_FDS 16
#define PRUNE_DEADLINE_MS 120000
#define REMOVE_DEADLINE_MS (10 * 60000) /* what is left then goes at the next start */

static struct ec_metric cache_bytes =
    EC_GAUGE("enclii_builder_cache_bytes",
             "Disk of git caches, cache mounts and images, when it was measured last.", "kind");
static struct ec_metric evicted_total = EC_COUNTER(
    "enclii_builder_cache_evicted_total",
    "Folders of repositories that went because their share of the disk was full.", "kind");

struct shelf {
    const char *kind; /* of the metrics */
    char *dir;
    bool marked; /* "enclii-url" in it tells the last use, else the folder itself */
    struct kept *list;
    size_t count;
};

struct trim {
    struct builder *builder;
    struct shelf git, mounts;
    char *storage_dir; /* NULL: images are not looked at */
    char *images_dir;
    int64_t storage_bytes;
    size_t images;
    bool idle; /* no job runs, and none begins before the end */
};

/* ---- on a worker thread ---- */

/* nftw has no argument. */
static _Thread_local int64_t walked_bytes;

static int add_size(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)path;
    (void)at;
    walked_bytes += kind == FTW_F || kind == FTW_D ? (int64_t)info->st_blocks * 512 : 0;
    return 0;
}

static int64_t size_of(const char *path)
{
    walked_bytes = 0;
    nftw(path, add_size, WALK_FDS, FTW_PHYS | FTW_MOUNT);
    return walked_bytes;
}

static size_t count_entries(const char *path)
{
    size_t count = 0;
    DIR *dir = opendir(path);
    struct dirent *entry = NULL;
    while (dir && (entry = readdir(dir)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    if (dir) {
        closedir(dir);
    }
    return count;
}

static void measure(struct shelf *shelf)
{
    DIR *dir = opendir(shelf->dir);
    struct dirent *entry = NULL;
    while (dir && shelf->count < KEPT_MAX && (entry = readdir(dir)) != NULL) {
        struct kept *kept = &shelf->list[shelf->count];
        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= sizeof(kept->name)) {
            continue; /* no name of ours */
        }
        char path[4200], mark[4300];
        struct stat info;
        snprintf(path, sizeof(path), "%s/%s", shelf->dir, entry->d_name);
        snprintf(mark, sizeof(mark), "%s/enclii-url", path);
        bool known = stat(shelf->marked ? mark : path, &info) == 0;
        *kept = (struct kept){.bytes = size_of(path), .used_unix_s = known ? info.st_mtime : 0};
        snprintf(kept->name, sizeof(kept->name), "%s", entry->d_name);
        shelf->count++;
    }
    if (dir) {
        closedir(dir);
    }
}

static void trim_work(void *arg)
{
    struct trim *trim = arg;
    measure(&trim->git);
    measure(&trim->mounts);
    if (trim->storage_dir) {
        trim->storage_bytes = size_of(trim->storage_dir);
        trim->images = trim->images_dir ? count_entries(trim->images_dir) : 0;
    }
}

/* ---- on the loop ---- */

/* Those of repositories with a job stay. */
static void mark_busy(const struct builder *b, struct shelf *shelf)
{
    struct ec_arena *arena = ec_arena_new(64 * 1024);
    for (const struct job *job = b->jobs; job; job = job->next) {
        const char *name = ec_sha256_hex(arena, ec_span_of(job->run->clone_url));
        for (size_t i = 0; i < shelf->count; i++) {
            shelf->list[i].busy = shelf->list[i].busy || strcmp(shelf->list[i].name, name) == 0;
        }
    }
    ec_arena_free(arena);
}

/* Into `out`, a folder that is deleted as a whole. */
static size_t evict(struct builder *b, struct shelf *shelf, int64_t max_bytes, const char *out)
{
    size_t moved = 0;
    struct ec_arena *arena = ec_arena_new(KEPT_MAX * (size_t)16 * 1024);
    mark_busy(b, shelf);
    int64_t left = decide_evictions(shelf->list, shelf->count, max_bytes);
    for (size_t i = 0; i < shelf->count; i++) {
        if (!shelf->list[i].gone) {
            continue;
        }
        const char *from = ec_arena_format(arena, "%s/%s", shelf->dir, shelf->list[i].name);
        const char *to = ec_arena_format(arena, "%s/%s-%zu", out, shelf->kind, i);
        mkdir(out, 0700);
        moved += rename(from, to) == 0;
    }
    ec_metric_set(&cache_bytes, shelf->kind, (double)left);
    ec_metric_add(&evicted_total, shelf->kind, (double)moved);
    if (moved > 0) {
        ec_log(EC_LOG_INFO, NULL, "cache.evicted", shelf->kind, EC_N("count", (int64_t)moved),
               EC_N("bytes_left", left), EC_N("bytes_max", max_bytes));
    }
    ec_arena_free(arena);
    return moved;
}

static void remove_tree(struct builder *b, const char *path)
{
    const char *const argv[] = {"rm", "-rf", "--one-file-system", path, NULL};
    struct ec_process_spec spec = {.argv = argv, .deadline_ms = REMOVE_DEADLINE_MS};
    ec_ignore(
        ec_process_start(b->loop, &spec, NULL)); /* below jobs/, which the next start empties */
}

static void trim_over(struct builder *b)
{
    b->trimming = b->trim_wanted = false;
    for (struct job *job = b->jobs; job; job = job->next) {
        job_begin(job);
    }
    builder_changed(b);
}

static void on_pruned(void *arg, const struct ec_process_result *result)
{
    (void)result; /* the next idle moment tries again */
    trim_over(arg);
}

static EC_RESULT prune(struct builder *b, bool all)
{
    struct ec_arena *arena = ec_arena_new(64 * 1024);
    struct ec_process_spec spec = {.argv = b->engine.prune_argv(b, arena, all),
                                   .env = b->engine.env,
                                   .deadline_ms = PRUNE_DEADLINE_MS,
                                   .on_exit = on_pruned,
                                   .arg = b};
    struct ec_err err = ec_process_start(b->loop, &spec, NULL);
    ec_arena_free(arena);
    ec_log(EC_LOG_INFO, NULL, "cache.pruned", all ? "all images" : "images without a tag");
    return err;
}

static void trim_images(struct trim *trim)
{
    struct builder *b = trim->builder;
    enum prune what =
        decide_prune(trim->storage_bytes, trim->images, b->settings.cache_max_bytes / 2);
    if (trim->storage_dir) {
        ec_metric_set(&cache_bytes, "images", (double)trim->storage_bytes);
    }
    if (!trim->idle) {
        b->trim_wanted = what == PRUNE_ALL;
        builder_trim_wanted(b); /* perhaps nothing runs any more */
    } else if (what == PRUNE_NOTHING || b->draining || ec_failed(prune(b, what == PRUNE_ALL))) {
        trim_over(b);
    }
}

static void trim_free(struct trim *trim)
{
    free(trim->git.dir);
    free(trim->git.list);
    free(trim->mounts.dir);
    free(trim->mounts.list);
    free(trim->storage_dir);
    free(trim->images_dir);
    free(trim);
}

static void on_measured(void *arg)
{
    struct trim *trim = arg;
    struct builder *b = trim->builder;
    int64_t quarter = b->settings.cache_max_bytes / 4;
    char *out = ec_format("%s/jobs/evicted-%u", b->settings.work_dir, b->evictions++);
    b->measuring = false;
    if (!b->draining &&
        evict(b, &trim->git, quarter, out) + evict(b, &trim->mounts, quarter, out) > 0) {
        remove_tree(b, out);
    }
    free(out);
    trim_images(trim);
    trim_free(trim);
}

static struct shelf shelf_of(const struct builder *b, const char *kind, const char *dir,
                             bool marked)
{
    return (struct shelf){.kind = kind,
                          .dir = ec_format("%s/%s", b->settings.work_dir, dir),
                          .marked = marked,
                          .list = ec_alloc(KEPT_MAX * sizeof(struct kept))};
}

void cache_trim(struct builder *b, bool idle, bool images)
{
    if (b->trimming || b->measuring || b->draining) {
        return;
    }
    struct trim *trim = ec_alloc(sizeof(*trim));
    *trim = (struct trim){.builder = b, .idle = idle};
    trim->git = shelf_of(b, "git", "git", true);
    trim->mounts = shelf_of(b, "mounts", "mounts", false);
    if (images) {
        const char *names = b->engine.images_dir;
        trim->storage_dir = ec_format("%s/storage", b->settings.work_dir);
        trim->images_dir = names ? ec_format("%s/%s", trim->storage_dir, names) : NULL;
    }
    b->trimming = idle;
    b->measuring = true;
    if (ec_failed(ec_loop_work(b->loop, trim_work, on_measured, trim))) {
        b->measuring = false;
        trim_free(trim);
        trim_over(b);
    }
}
