/* GitHub's push payload → PushReceived. Says by name which field is missing or wrong. Pure. */
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "spec/spec.h"
#include "webhook.h"

#define TEXT_MAX_BYTES 1024
#define PATH_MAX_BYTES 4096

static const struct push_fault no_fault = {NULL, NULL};

static bool all_zeros(const char *sha)
{
    return sha[strspn(sha, "0")] == '\0';
}

/* SHA-1 and SHA-256 repositories. */
static bool is_sha(const char *sha)
{
    size_t len = strlen(sha);
    return (len == 40 || len == 64) && strspn(sha, "0123456789abcdef") == len;
}

/* The first line, cut between characters. */
static char *first_line(struct ec_arena *arena, const char *text)
{
    size_t len = strcspn(text, "\r\n");
    if (len > MESSAGE_MAX_BYTES) {
        len = MESSAGE_MAX_BYTES;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    return ec_arena_text(arena, (struct ec_span){text, len});
}

/* Texts of strangers that only people read are cut, not refused. */
static char *short_text(struct ec_arena *arena, const char *text)
{
    size_t len = strlen(text);
    while (len > TEXT_MAX_BYTES ||
           (len > 0 && len < strlen(text) && ((unsigned char)text[len] & 0xc0) == 0x80)) {
        len--;
    }
    return ec_arena_text(arena, (struct ec_span){text, len});
}

static struct push_fault need_sha(struct ec_arena *arena, const json_t *root, const char *field,
                                  char **ret_sha)
{
    const char *sha = ec_json_text(root, field);
    if (!is_sha(sha)) {
        return (struct push_fault){field, "must be 40 or 64 lower-case hex digits"};
    }
    *ret_sha = ec_arena_strdup(arena, sha);
    return no_fault;
}

static struct push_fault map_repo(struct ec_arena *arena, const json_t *root,
                                  Enclii__V1__PushReceived *push)
{
    const char *name = ec_json_text(root, "repository.full_name");
    const char *url = ec_json_text(root, "repository.clone_url");
    if (!*name || strlen(name) > TEXT_MAX_BYTES) {
        return (struct push_fault){"repository.full_name", "is missing or too long"};
    }
    char *key = strlen(url) <= TEXT_MAX_BYTES ? ec_repo_key(arena, url) : NULL;
    if (!key) {
        return (struct push_fault){"repository.clone_url", "is missing or no clone URL"};
    }
    push->repo_full_name = ec_arena_strdup(arena, name);
    push->clone_url = ec_arena_strdup(arena, url);
    push->repo_key = key;
    return no_fault;
}

static struct push_fault map_ref(struct ec_arena *arena, const json_t *root,
                                 Enclii__V1__PushReceived *push)
{
    const char *ref = ec_json_text(root, "ref");
    if (strncmp(ref, "refs/", 5) != 0 || strlen(ref) > TEXT_MAX_BYTES) {
        return (struct push_fault){"ref", "must begin with refs/"};
    }
    push->ref = ec_arena_strdup(arena, ref);
    struct push_fault fault = need_sha(arena, root, "before", &push->before);
    if (!fault.field) {
        fault = need_sha(arena, root, "after", &push->after);
    }
    if (!fault.field) {
        push->created = ec_json_bool(root, "created", false) || all_zeros(push->before);
        push->deleted = ec_json_bool(root, "deleted", false) || all_zeros(push->after);
        push->forced = ec_json_bool(root, "forced", false);
    }
    return fault;
}

/* What is to be built is always `after`; head_commit only describes it (and is null at times). */
static struct push_fault map_head(struct ec_arena *arena, const json_t *root,
                                  Enclii__V1__PushReceived *push)
{
    const json_t *head = ec_json_at(root, "head_commit");
    if (push->deleted) {
        return no_fault;
    }
    if (head && !json_is_null(head) && !json_is_object(head)) {
        return (struct push_fault){"head_commit", "must be an object or null"};
    }
    Enclii__V1__Commit *commit = ec_arena_alloc(arena, sizeof *commit);
    enclii__v1__commit__init(commit);
    int64_t time_ms = ec_rfc3339_parse(ec_json_text(head, "timestamp"));
    commit->sha = push->after;
    commit->ref = push->ref;
    commit->message = first_line(arena, ec_json_text(head, "message"));
    commit->author_name = short_text(arena, ec_json_text(head, "author.name"));
    commit->author_email = short_text(arena, ec_json_text(head, "author.email"));
    commit->committed_unix_ms = time_ms > 0 ? time_ms : 0;
    push->head = commit;
    return no_fault;
}

struct paths {
    struct ec_map *seen;
    char **list;
    size_t count;
    bool complete;
};

static void add_paths(struct paths *paths, const json_t *list)
{
    size_t index;
    json_t *item;
    json_array_foreach(list, index, item)
    {
        const char *path = json_string_value(item);
        if (!path || strlen(path) > PATH_MAX_BYTES || paths->count == PATHS_MAX) {
            paths->complete = false;
            continue;
        }
        if (!ec_map_get(paths->seen, path)) {
            char *borrowed = (char *)(uintptr_t)path; /* packing does not write */
            ec_map_put(paths->seen, path, borrowed);
            paths->list[paths->count++] = borrowed;
        }
    }
}

static size_t listed_paths(const json_t *commits)
{
    size_t count = 0, index;
    json_t *commit;
    json_array_foreach(commits, index, commit)
    {
        count += json_array_size(json_object_get(commit, "added")) +
                 json_array_size(json_object_get(commit, "modified")) +
                 json_array_size(json_object_get(commit, "removed"));
    }
    return count < PATHS_MAX ? count : PATHS_MAX;
}

/* The list is whole only when the host could list every commit between before and after. */
static struct push_fault map_paths(struct ec_arena *arena, const json_t *root,
                                   Enclii__V1__PushReceived *push)
{
    const json_t *commits = ec_json_at(root, "commits");
    if (commits && !json_is_array(commits)) {
        return (struct push_fault){"commits", "must be a list"};
    }
    size_t count = json_array_size(commits), index;
    json_t *commit;
    struct paths paths = {.seen = ec_map_new(PATHS_MAX)};
    paths.list = ec_arena_alloc(arena, (listed_paths(commits) + 1) * sizeof *paths.list);
    paths.complete = !push->forced && !push->created && count > 0 && count < COMMITS_MAX &&
                     ec_json_int(root, "total_commits", 0) <= (int64_t)count;
    json_array_foreach(commits, index, commit)
    {
        add_paths(&paths, json_object_get(commit, "added"));
        add_paths(&paths, json_object_get(commit, "modified"));
        add_paths(&paths, json_object_get(commit, "removed"));
    }
    ec_map_free(paths.seen, NULL);
    push->changed_paths = paths.list;
    push->n_changed_paths = paths.count;
    push->changed_paths_complete = paths.complete;
    return no_fault;
}

struct push_fault map_push(struct ec_arena *arena, const json_t *root,
                           Enclii__V1__PushReceived **ret_push)
{
    static struct push_fault (*const parts[])(struct ec_arena *, const json_t *,
                                              Enclii__V1__PushReceived *) = {map_repo, map_ref,
                                                                             map_head, map_paths};
    if (!json_is_object(root)) {
        return (struct push_fault){"payload", "must be a JSON object"};
    }
    Enclii__V1__PushReceived *push = ec_arena_alloc(arena, sizeof *push);
    enclii__v1__push_received__init(push);
    push->host = ec_arena_strdup(arena, "github");
    push->pusher = short_text(arena, ec_json_text(root, "pusher.name"));
    for (size_t i = 0; i < EC_LEN(parts); i++) {
        struct push_fault fault = parts[i](arena, root, push);
        if (fault.field) {
            return fault;
        }
    }
    *ret_push = push;
    return no_fault;
}
