/* A push of any host → PushReceived. The parts are shared; map_push itself reads what GitHub, Gitea
 * and Forgejo send. Says by name which field is missing or wrong. Pure. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/git_ref.h"
#include "base/mem.h"
#include "webhook.h"

#define SUBJECT_MAX_BYTES 200
#define MESSAGE_MAX_BYTES 4096
#define PATH_MAX_BYTES 4096

Enclii__V1__PushReceived *push_new(const struct mapping *m)
{
    Enclii__V1__PushReceived *push = map_message(m, &enclii__v1__push_received__descriptor);
    push->delivery_id = ec_arena_strdup(m->arena, m->delivery_id);
    push->host = ec_arena_strdup(m->arena, m->host->name);
    push->repo_key = ec_arena_strdup(m->arena, m->repo_key);
    push->repo_full_name = map_cut(m->arena, m->claim.full_name, TEXT_MAX_BYTES);
    push->clone_url = ec_arena_strdup(m->arena, m->claim.url);
    push->host_repo_id = ec_arena_strdup(m->arena, m->claim.id);
    push->default_branch = map_cut(m->arena, m->claim.default_branch, TEXT_MAX_BYTES);
    push->received_unix_ms = m->received_ms;
    return push;
}

struct fault push_ref(const struct mapping *m, Enclii__V1__PushReceived *push, const char *ref,
                      const char *before, const char *after)
{
    static const char need_sha[] = "must be 40 or 64 lower-case hex digits";
    if (strncmp(ref, "refs/", 5) != 0 || !ec_git_ref_valid(ec_span_of(ref))) {
        return (struct fault){"ref", "must begin with refs/ and be a name that git allows"};
    }
    if (!map_is_sha(before)) {
        return (struct fault){"before", need_sha};
    }
    if (!map_is_sha(after)) {
        return (struct fault){"after", need_sha};
    }
    push->ref = ec_arena_strdup(m->arena, ref);
    push->before = ec_arena_strdup(m->arena, before);
    push->after = ec_arena_strdup(m->arena, after);
    push->created = map_all_zeros(before);
    push->deleted = map_all_zeros(after);
    return no_fault;
}

/* As long as whoever commits makes it: only the part that is kept is copied. */
static const char *message_of(const struct mapping *m, const struct ec_node *commit)
{
    const struct ec_node *node = ec_tape_at(m->tape, commit, "message");
    if (!ec_tape_is(node, EC_TAPE_TEXT)) {
        return "";
    }
    struct ec_node cut = ec_tape_cut(m->tape, node, 6 * MESSAGE_MAX_BYTES);
    const char *text = ec_tape_copy(m->arena, m->tape, &cut);
    return text ? text : "";
}

/* What is to be built is always `after`; the commit only describes it (and is null at times). */
void push_head(const struct mapping *m, Enclii__V1__PushReceived *push, const struct ec_node *node)
{
    if (push->deleted) {
        return;
    }
    const char *message = message_of(m, node);
    const char *when = map_text(m, node, "timestamp");
    int64_t time_ms = ec_rfc3339_parse(*when ? when : map_text(m, node, "date"));
    Enclii__V1__Commit *commit = map_message(m, &enclii__v1__commit__descriptor);
    commit->sha = push->after;
    commit->ref = push->ref;
    size_t first_line = strcspn(message, "\r\n");
    commit->message =
        map_cut(m->arena, ec_arena_text(m->arena, (struct ec_span){message, first_line}),
                SUBJECT_MAX_BYTES);
    commit->author_name = map_text(m, node, "author.name");
    commit->author_email = map_text(m, node, "author.email");
    commit->committed_unix_ms = time_ms > 0 ? time_ms : 0;
    push->head = commit;
    push->message = map_cut(m->arena, message, MESSAGE_MAX_BYTES);
}

/* ---- changed paths: each once, in the order of the commits ---- */

struct paths {
    const struct ec_tape *tape;
    uint32_t *slots; /* index of a path's node + 1; 0 = free */
    size_t mask;
    uint64_t seed;
    uint32_t *nodes; /* of the paths kept */
    size_t count;
    size_t bytes;
    bool complete;
};

static uint64_t seed_once(void)
{
    static uint64_t seed;
    if (seed == 0 && getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        abort();
    }
    return seed | 1;
}

/* Who pushes chooses the names, but not the seed. */
static uint64_t hash_of(struct ec_span text, uint64_t seed)
{
    uint64_t hash = seed ^ text.len;
    while (text.len > 0) {
        uint64_t word = 0;
        size_t part = text.len < sizeof word ? text.len : sizeof word;
        memcpy(&word, text.ptr, part);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
        text.ptr += part;
        text.len -= part;
    }
    return hash * seed >> 20;
}

static void add_path(struct paths *paths, const struct ec_node *node)
{
    struct ec_span text = ec_tape_raw(paths->tape, node);
    if (!ec_tape_is(node, EC_TAPE_TEXT) || text.len > PATH_MAX_BYTES || paths->count == PATHS_MAX) {
        paths->complete = false;
        return;
    }
    size_t slot = hash_of(text, paths->seed) & paths->mask;
    while (paths->slots[slot]) {
        const struct ec_node *other = &paths->tape->nodes[paths->slots[slot] - 1];
        if (ec_span_eq(text, ec_tape_raw(paths->tape, other))) {
            return;
        }
        slot = (slot + 1) & paths->mask;
    }
    uint32_t index = (uint32_t)(node - paths->tape->nodes);
    paths->slots[slot] = index + 1;
    paths->nodes[paths->count++] = index;
    paths->bytes += text.len + 1;
}

static void add_paths(struct paths *paths, const struct ec_node *list)
{
    const struct ec_tape *tape = paths->tape;
    for (const struct ec_node *n = ec_tape_first(tape, list); n; n = ec_tape_next(tape, list, n)) {
        add_path(paths, n);
    }
}

static const char *const changes[] = {"added", "modified", "removed"};

/* More than the paths can be: every value inside the commits. Counting them would look up each list
 * twice. */
static size_t paths_at_most(const struct ec_tape *tape, const struct ec_node *commits)
{
    size_t values =
        ec_tape_is(commits, EC_TAPE_LIST) ? commits->next - (size_t)(commits - tape->nodes) : 0;
    return values < PATHS_MAX ? values : PATHS_MAX;
}

/* One block for all of them: a push can change thousands of files. False: the arena is full. */
static bool copy_paths(const struct mapping *m, const struct paths *paths,
                       Enclii__V1__PushReceived *push)
{
    char *room = ec_arena_try_raw(m->arena, paths->bytes + 1);
    push->changed_paths = ec_arena_try(m->arena, (paths->count + 1) * sizeof(char *));
    if (!room || !push->changed_paths) {
        return false;
    }
    for (size_t i = 0; i < paths->count; i++) {
        const struct ec_node *node = &paths->tape->nodes[paths->nodes[i]];
        struct ec_span raw = ec_tape_raw(paths->tape, node);
        push->changed_paths[i] = room;
        if (node->escaped) {
            push->changed_paths[i] = ec_tape_copy(m->arena, paths->tape, node);
        } else {
            memcpy(room, raw.ptr, raw.len);
            room[raw.len] = '\0';
            room += raw.len + 1;
        }
        if (!push->changed_paths[i]) {
            return false;
        }
    }
    push->n_changed_paths = paths->count;
    return true;
}

/* The list is whole only when the host could list every commit between before and after, and says
 * that the push was not forced: of what a forced one took away no commit tells. */
void push_paths(const struct mapping *m, Enclii__V1__PushReceived *push,
                const struct ec_node *commits, int64_t listed)
{
    bool onwards = ec_tape_is(ec_tape_at(m->tape, m->root, "forced"), EC_TAPE_FALSE);
    size_t count = ec_tape_count(m->tape, commits);
    size_t most = paths_at_most(m->tape, commits), room = 16;
    while (room < most * 2) {
        room *= 2;
    }
    struct paths paths = {.tape = m->tape, .mask = room - 1, .seed = seed_once()};
    paths.slots = ec_arena_try(m->arena, room * sizeof *paths.slots);
    paths.nodes = ec_arena_try_raw(m->arena, (most + 1) * sizeof *paths.nodes);
    if (!paths.slots || !paths.nodes) {
        return;
    }
    paths.complete = onwards && !push->created && !push->deleted && count > 0 &&
                     count < COMMITS_MAX && listed <= (int64_t)count;
    for (const struct ec_node *n = ec_tape_first(m->tape, commits); n;
         n = ec_tape_next(m->tape, commits, n)) {
        for (size_t i = 0; i < EC_LEN(changes); i++) {
            add_paths(&paths, ec_tape_at(m->tape, n, changes[i]));
        }
    }
    push->changed_paths_complete = copy_paths(m, &paths, push) && paths.complete;
}

/* ---- GitHub, Gitea, Forgejo ---- */

static const char *exact(const struct mapping *m, const char *path)
{
    const char *text = map_short(m->arena, m->tape, ec_tape_at(m->tape, m->root, path));
    return text ? text : "";
}

struct fault map_push(struct mapping *m, const struct event_row *row)
{
    (void)row;
    const struct ec_tape *tape = m->tape;
    const struct ec_node *head = ec_tape_at(tape, m->root, "head_commit");
    const struct ec_node *commits = ec_tape_at(tape, m->root, "commits");
    Enclii__V1__PushReceived *push = push_new(m);
    struct fault fault = push_ref(m, push, exact(m, "ref"), exact(m, "before"), exact(m, "after"));
    if (fault.field) {
        return fault;
    }
    if (strcmp(push->before, push->after) == 0) { /* what Gitea calls a test delivery */
        return map_ignore(m, "ping", "a push that moves nothing: the host's test delivery");
    }
    push->created |= ec_tape_bool(tape, m->root, "created", false);
    push->deleted |= ec_tape_bool(tape, m->root, "deleted", false);
    push->forced = ec_tape_bool(tape, m->root, "forced", false);
    if (head && !ec_tape_is(head, EC_TAPE_NULL) && !ec_tape_is(head, EC_TAPE_OBJECT)) {
        return (struct fault){"head_commit", "must be an object or null"};
    }
    if (commits && !ec_tape_is(commits, EC_TAPE_NULL) && !ec_tape_is(commits, EC_TAPE_LIST)) {
        return (struct fault){"commits", "must be a list"};
    }
    push->pusher = map_text(m, m->root, "pusher.name");
    if (!*push->pusher) {
        push->pusher = map_text(m, m->root, "pusher.login"); /* Gitea has an empty name at times */
    }
    push_head(m, push, head);
    push_paths(m, push, commits, ec_tape_int(tape, m->root, "total_commits", 0));
    map_out(m, "dev.enclii.push.received.v1", push->repo_key, &push->base);
    return no_fault;
}
