/* One bare git repository per clone URL, kept between builds of trusted commits and used by one job
 * at a time; and the one place that keeps the work folder below ENCLII_CACHE_MAX. Measuring and
 * deleting happen on a worker thread once no job has run for a while; jobs that arrive meanwhile
 * wait for it. */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "builder.h"
#include "trust/digest.h"

#define REPOS_MAX 4096 /* looked at when trimming */
#define IMAGES_MAX 64  /* above, those without a tag go: each one makes every build slower */
#define WALK_FDS 16
#define PRUNE_DEADLINE_MS 120000

/* ---- one repository ---- */

static void remove_locks(struct job *job)
{
    static const char *const names[] = {"shallow.lock", "HEAD.lock", "config.lock",
                                        "packed-refs.lock"};
    for (size_t i = 0; i < EC_LEN(names); i++) { /* of a git that was killed; nobody else is here */
        unlink(ec_arena_format(job->arena, "%s/%s", job->git_dir, names[i]));
    }
}

/* "url" beside git's files: for heartbeats. Its time is the last use: for the least recently used.
 */
static void note_use(struct job *job)
{
    FILE *file = fopen(ec_arena_format(job->arena, "%s/enclii-url", job->git_dir), "we");
    if (file) {
        const char *at = strstr(job->run->clone_url, "://");
        const char *user = at ? strchr(at, '@') : NULL;
        fprintf(file, "%s\n", user ? "" : job->run->clone_url); /* never with credentials */
        fclose(file);
    }
}

void cache_take(struct job *job)
{
    if (job->git_dir) {
        return; /* a retry keeps what it holds */
    }
    char *name = ec_sha256_hex(job->arena, ec_span_of(job->run->clone_url));
    job->git_dir = ec_arena_format(job->arena, "%s/git/%s", job->builder->settings.work_dir, name);
    bool busy = !job->run->trusted;
    for (struct job *other = job->builder->jobs; other; other = other->next) {
        busy = busy ||
               (other != job && other->git_cached && strcmp(other->git_dir, job->git_dir) == 0);
    }
    job->git_cached = !busy;
    if (busy) {
        job->git_dir = ec_arena_format(job->arena, "%s/git", job->dir);
    } else {
        remove_locks(job);
    }
}

bool cache_made(struct job *job)
{
    const char *mark = ec_arena_format(job->arena, "%s/enclii-url", job->git_dir);
    return job->git_cached && access(mark, F_OK) == 0;
}

void cache_release(struct job *job)
{
    if (job->git_cached) {
        note_use(job);
        job->git_cached = false;
        job->git_dir = NULL; /* another job may have it now: who wants it again takes it again */
    }
}

void cache_set_aside(struct job *job)
{
    if (rename(job->git_dir, ec_arena_format(job->arena, "%s/git-damaged", job->dir)) != 0) {
        unlink(ec_arena_format(job->arena, "%s/enclii-url", job->git_dir));
    }
    job->git_cached = false;
    job->git_dir = NULL;
}

size_t cache_urls(struct builder *b, struct ec_arena *arena, char **ret_urls, size_t max)
{
    size_t count = 0;
    DIR *dir = opendir(ec_arena_format(arena, "%s/git", b->settings.work_dir));
    struct dirent *entry = NULL;
    while (dir && count < max && (entry = readdir(dir)) != NULL) {
        FILE *file = fopen(
            ec_arena_format(arena, "%s/git/%s/enclii-url", b->settings.work_dir, entry->d_name),
            "re");
        char url[2100];
        if (file && fgets(url, sizeof(url), file) && url[0] != '\n') {
            url[strcspn(url, "\n")] = '\0';
            ret_urls[count++] = ec_arena_strdup(arena, url);
        }
        if (file) {
            fclose(file);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return count;
}

/* ---- all of it ---- */

struct repo {
    char path[512];
    int64_t bytes;
    time_t used;
};

struct trim {
    struct builder *builder;
    char *git_dir, *mounts_dir, *storage_dir, *images_dir;
    int64_t max_bytes;
    int64_t storage_bytes;
    size_t images;
};

/* nftw has no argument; the one worker that trims uses this. */
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

static int older_first(const void *a, const void *b)
{
    const struct repo *x = a, *y = b;
    return (x->used > y->used) - (x->used < y->used);
}

static size_t list_repos(const char *dir_path, bool marked, struct repo *repos, int64_t *ret_bytes)
{
    size_t count = 0;
    DIR *dir = opendir(dir_path);
    struct dirent *entry = NULL;
    while (dir && count < REPOS_MAX && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        struct repo *repo = &repos[count++];
        char mark[600];
        struct stat info;
        snprintf(repo->path, sizeof(repo->path), "%s/%s", dir_path, entry->d_name);
        snprintf(mark, sizeof(mark), "%s/enclii-url", repo->path);
        /* Cache mounts have no mark; their folder changes with each build. */
        bool known = stat(mark, &info) == 0 || (!marked && stat(repo->path, &info) == 0);
        repo->used = known ? info.st_mtime : 0;
        repo->bytes = size_of(repo->path);
        *ret_bytes += repo->bytes;
    }
    if (dir) {
        closedir(dir);
    }
    return count;
}

/* The least recently used repositories' go first. */
static void trim_repos(const char *dir_path, bool marked, int64_t max_bytes)
{
    struct repo *repos = ec_alloc(REPOS_MAX * sizeof(*repos));
    int64_t bytes = 0;
    size_t count = list_repos(dir_path, marked, repos, &bytes);
    qsort(repos, count, sizeof(*repos), older_first);
    for (size_t i = 0; i < count && bytes > max_bytes; i++) {
        ec_file_remove_tree(repos[i].path);
        bytes -= repos[i].bytes;
    }
    free(repos);
}

/* Git caches and cache mounts may take a quarter each, images the rest. On a worker thread. */
static void trim_work(void *arg)
{
    struct trim *trim = arg;
    trim_repos(trim->git_dir, true, trim->max_bytes / 4);
    trim_repos(trim->mounts_dir, false, trim->max_bytes / 4);
    trim->storage_bytes = size_of(trim->storage_dir);
    trim->images = trim->images_dir ? count_entries(trim->images_dir) : 0;
}

static void trim_over(struct builder *b)
{
    b->trimming = false;
    for (struct job *job = b->jobs; job; job = job->next) {
        job_begin(job);
    }
}

static void on_pruned(void *arg, const struct ec_process_result *result)
{
    (void)result; /* the next idle moment tries again */
    trim_over(arg);
}

static void on_trimmed(void *arg)
{
    struct trim *trim = arg;
    struct builder *b = trim->builder;
    int64_t storage_max = trim->max_bytes / 2;
    bool all = trim->storage_bytes > storage_max;
    bool some = trim->storage_bytes > storage_max / 2 || trim->images > IMAGES_MAX;
    free(trim->git_dir);
    free(trim->mounts_dir);
    free(trim->storage_dir);
    free(trim->images_dir);
    free(trim);
    if (some && !b->draining) {
        struct ec_arena *arena = ec_arena_new(64 * 1024);
        struct ec_process_spec spec = {.argv = b->engine.prune_argv(b, arena, all),
                                       .env = b->engine.env,
                                       .deadline_ms = PRUNE_DEADLINE_MS,
                                       .on_exit = on_pruned,
                                       .arg = b};
        struct ec_err err = ec_process_start(b->loop, &spec, NULL);
        ec_arena_free(arena);
        ec_log(EC_LOG_INFO, NULL, "cache.pruned", all ? "all images" : "images without a tag");
        if (!ec_failed(err)) {
            return;
        }
    }
    trim_over(b);
}

void cache_trim(struct builder *b)
{
    if (b->trimming || b->draining) {
        return;
    }
    struct trim *trim = ec_alloc(sizeof(*trim));
    trim->builder = b;
    trim->git_dir = ec_format("%s/git", b->settings.work_dir);
    trim->mounts_dir = ec_format("%s/mounts", b->settings.work_dir);
    trim->storage_dir = ec_format("%s/storage", b->settings.work_dir);
    const char *images = b->engine.images_dir;
    trim->images_dir = images ? ec_format("%s/%s", trim->storage_dir, images) : NULL;
    trim->max_bytes = b->settings.cache_max_bytes;
    b->trimming = true;
    if (ec_failed(ec_loop_work(b->loop, trim_work, on_trimmed, trim))) {
        trim->max_bytes = INT64_MAX;
        on_trimmed(trim);
    }
}
