/* One bare git repository per clone URL, kept between builds of trusted commits and used by one job
 * at a time. How much of them is kept: cache_trim.c. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "builder.h"
#include "trust/digest.h"

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
