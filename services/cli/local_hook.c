/* The git server's side: the post-receive hook of a repository (local_repo.c), which is `enclii
 * local hook`, says to the webhook service what GitHub would say: a push event, signed over its
 * bytes, with a delivery id that stays the same when it is sent again. What the hook prints is what
 * the pusher sees.
 * https://docs.github.com/en/webhooks/webhook-events-and-payloads#push */
#include "local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/encode.h"
#include "base/id.h"
#include "base/json.h"
#include "base/mem.h"
#include "trust/digest.h"

#define TRIES 5
#define FIRST_WAIT_US 300000
#define ANSWER_WITHIN_MS 10000
#define COMMITS_MAX "2048" /* as GitHub: of more the webhook service knows that the list is cut */
#define OUTPUT_MAX_BYTES (16 << 20)
#define ZEROS "0000000000000000000000000000000000000000"

/* ---- the payload ---- */
/* Git keeps names, messages and paths as bytes; JSON is UTF-8. */
static const char *utf8(const struct local *local, const char *text)
{
    return ec_text_clean(local->arena, ec_span_of(text), OUTPUT_MAX_BYTES);
}

static json_t *person(const struct local *local, const char *name, const char *email)
{
    name = utf8(local, name);
    return json_pack("{s:s, s:s, s:s}", "name", name, "email", utf8(local, email), "username",
                     name);
}

/* Lines "A\tpath" as git prints them. */
static void add_paths(const struct local *local, json_t *commit, char *lines)
{
    json_t *added = json_array(), *removed = json_array(), *modified = json_array();
    for (char *line = lines, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        char *path = strchr(line, '\t');
        if (path) {
            json_t *list = line[0] == 'A' ? added : line[0] == 'D' ? removed : modified;
            json_array_append_new(list, json_string(utf8(local, path + 1)));
        }
    }
    json_object_set_new(commit, "added", added);
    json_object_set_new(commit, "removed", removed);
    json_object_set_new(commit, "modified", modified);
}

enum field {
    ID,
    TREE,
    TIME,
    AUTHOR,
    AUTHOR_EMAIL,
    COMMITTER,
    COMMITTER_EMAIL,
    MESSAGE,
    FIELD_COUNT
};

/* One record: fields parted by 0x1f, then 0x1d, then the paths. */
static json_t *commit_of(const struct local *local, char *record, const char *repo_url)
{
    char *fields[FIELD_COUNT] = {record};
    char *paths = strchr(record, '\x1d');
    if (!paths) {
        return NULL;
    }
    *paths++ = '\0';
    for (int i = 1; i < FIELD_COUNT; i++) {
        char *end = strchr(fields[i - 1], '\x1f');
        if (!end) {
            return NULL;
        }
        *end = '\0';
        fields[i] = end + 1;
    }
    size_t len = strlen(fields[MESSAGE]);
    while (len > 0 && fields[MESSAGE][len - 1] == '\n') {
        fields[MESSAGE][--len] = '\0';
    }
    json_t *commit = json_pack(
        "{s:s, s:s, s:b, s:s, s:s, s:s, s:o?, s:o?}", "id", fields[ID], "tree_id", fields[TREE],
        "distinct", 1, "message", utf8(local, fields[MESSAGE]), "timestamp", fields[TIME], "url",
        ec_arena_format(local->arena, "%s/commit/%s", repo_url, fields[ID]), "author",
        person(local, fields[AUTHOR], fields[AUTHOR_EMAIL]), "committer",
        person(local, fields[COMMITTER], fields[COMMITTER_EMAIL]));
    if (commit) {
        add_paths(local, commit, paths);
    }
    return commit;
}

static json_t *commits_of(const struct local *local, const char *before, const char *after,
                          const char *repo_url)
{
    json_t *commits = json_array();
    if (strcmp(after, ZEROS) == 0) {
        return commits;
    }
    const char *range =
        strcmp(before, ZEROS) == 0 ? after : ec_arena_format(local->arena, "%s..%s", before, after);
    const char *const argv[] = {
        "git",
        "-c",
        "core.quotePath=false",
        "log",
        "--reverse",
        "-n",
        COMMITS_MAX,
        "--first-parent",
        "-m",
        "--root",
        "--no-renames",
        "--name-status",
        "--format=%x1e%H%x1f%T%x1f%aI%x1f%an%x1f%ae%x1f%cn%x1f%ce%x1f%B%x1d",
        range,
        "--",
        NULL};
    char *text = local_output(local, argv);
    for (char *record = text ? strchr(text, '\x1e') : NULL, *next; record; record = next) {
        next = strchr(record + 1, '\x1e');
        if (next) {
            *next = '\0';
        }
        json_t *commit = commit_of(local, record + 1, repo_url);
        if (commit) {
            json_array_append_new(commits, commit);
        }
    }
    return commits;
}

/* It took commits away: of those no commit of the list tells. */
static bool is_forced(const struct local *local, const char *before, const char *after)
{
    const char *const argv[] = {"git", "merge-base", "--is-ancestor", before, after, NULL};
    return strcmp(before, ZEROS) != 0 && strcmp(after, ZEROS) != 0 && !local_output(local, argv);
}

/* One for each repository, always the same: by it a host's repository is known after a rename. */
static json_int_t id_of(const char *full_name)
{
    unsigned char digest[EC_SHA256_BYTES];
    json_int_t id = 0;
    ec_sha256(ec_span_of(full_name), digest);
    for (int i = 0; i < 6; i++) {
        id = id << 8 | digest[i];
    }
    return id;
}

static json_t *repository_of(const struct local *local, const char *full_name)
{
    const char *url =
        ec_arena_format(local->arena, "http://127.0.0.1:%d/%s", local->ports[PORT_GIT], full_name);
    const char *owner =
        ec_arena_text(local->arena, (struct ec_span){full_name, strcspn(full_name, "/")});
    json_t *repository =
        json_pack("{s:I, s:s, s:s, s:b, s:s, s:s, s:s, s:s, s:s, s:s}", "id", id_of(full_name),
                  "name", strchr(full_name, '/') + 1, "full_name", full_name, "private", 1,
                  "html_url", url, "clone_url", ec_arena_format(local->arena, "%s.git", url),
                  "git_url", ec_arena_format(local->arena, "%s.git", url), "ssh_url",
                  ec_arena_format(local->arena, "%s.git", url), "default_branch", "main",
                  "master_branch", "main");
    json_object_set_new(repository, "owner",
                        json_pack("{s:s, s:s, s:s}", "login", owner, "name", owner, "email", ""));
    return repository;
}

static char *payload_of(const struct local *local, const char *full_name, const char *before,
                        const char *after, const char *ref)
{
    json_t *repository = repository_of(local, full_name);
    const char *url = json_string_value(json_object_get(repository, "html_url"));
    json_t *commits = commits_of(local, before, after, url);
    size_t count = json_array_size(commits);
    json_t *head = count ? json_incref(json_array_get(commits, count - 1)) : json_null();
    const char *pusher = ec_json_text(head, "committer.name");
    const char *email = ec_json_text(head, "committer.email");
    pusher = pusher[0] ? pusher : "local";
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:b, s:b, s:b, s:n, s:s, s:o, s:o, s:o, s:o, s:{s:s, s:i}}", "ref", ref,
        "before", before, "after", after, "created", strcmp(before, ZEROS) == 0, "deleted",
        strcmp(after, ZEROS) == 0, "forced", is_forced(local, before, after), "base_ref", "compare",
        ec_arena_format(local->arena, "%s/compare/%.12s...%.12s", url, before, after), "repository",
        repository, "pusher", json_pack("{s:s, s:s}", "name", pusher, "email", email), "commits",
        commits, "head_commit", head, "sender", "login", pusher, "id", 1);
    char *text = ec_json_dump(local->arena, root);
    json_decref(root);
    return text;
}

/* ---- the delivery ---- */
struct delivery {
    const struct local *local;
    bool over;
    int status;
    const char *text; /* answer or reason */
};

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct delivery *delivery = arg;
    delivery->over = true;
    delivery->status = ec_failed(err) ? 0 : result->status;
    delivery->text = ec_failed(err) ? ec_arena_strdup(delivery->local->arena, err.what)
                                    : ec_arena_text(delivery->local->arena, result->body);
}

static void send_once(struct ec_loop *loop, struct ec_fetcher *fetcher, struct delivery *delivery,
                      const struct ec_header *headers, size_t header_count, const char *payload)
{
    struct ec_arena *arena = delivery->local->arena;
    const struct ec_fetch_spec spec = {
        .method = "POST",
        .url = ec_arena_format(arena, "http://127.0.0.1:%d/v1/webhooks/github",
                               delivery->local->ports[PORT_WEBHOOK]),
        .headers = headers,
        .header_count = header_count,
        .body = ec_span_of(payload),
        .deadline_ms = ANSWER_WITHIN_MS,
    };
    delivery->over = false;
    struct ec_err err = ec_fetch_start(fetcher, &spec, on_answer, delivery, NULL);
    if (ec_failed(err)) {
        delivery->over = true;
        delivery->status = 0;
        delivery->text = err.what;
    }
    while (!delivery->over) {
        uv_run(ec_loop_uv(loop), UV_RUN_ONCE);
    }
}

/* 404 too: a service that was made a moment ago may not be known to the webhook service yet. */
static bool worth_another_try(int status)
{
    return status == 0 || status == 404 || status == 408 || status == 429 || status >= 500;
}

/* What a problem document says, else the text itself. */
static const char *reason_in(const struct local *local, const char *text)
{
    json_t *root = NULL;
    if (ec_failed(ec_json_parse(local->arena, ec_span_of(text), &root))) {
        return text;
    }
    const char *detail = ec_arena_strdup(local->arena, ec_json_text(root, "detail"));
    json_decref(root);
    return detail[0] ? detail : text;
}

static bool deliver(const struct local *local, const char *name, const char *payload,
                    const char *ref)
{
    const char *own = local_repo_secret(local, name);
    const char *secret_text = own ? own : local_secret(local, "webhook");
    if (!secret_text) {
        printf("enclii: no platform has been started in %s, nobody was told\n", local->home);
        return false;
    }
    ec_cleanup(ec_secret_freep) struct ec_secret *secret = ec_secret_new(ec_span_of(secret_text));
    struct ec_id id = ec_id_new();
    const struct ec_header headers[] = {
        {"Content-Type", "application/json"},
        {"User-Agent", "enclii-local-git"},
        {"X-GitHub-Event", "push"},
        {"X-GitHub-Delivery", id.text},
        {"X-Hub-Signature-256",
         ec_arena_format(local->arena, "sha256=%s",
                         ec_hmac_sha256_hex(local->arena, secret, ec_span_of(payload)))}};
    struct ec_loop *loop = ec_loop_new();
    struct ec_fetcher *fetcher = NULL;
    if (ec_failed(ec_fetcher_open(loop, "enclii-local-git", 1, &fetcher))) {
        puts("enclii: cannot send, nobody was told");
        return false;
    }
    struct delivery delivery = {.local = local};
    useconds_t wait = FIRST_WAIT_US;
    for (int i = 0; i < TRIES; i++) {
        send_once(loop, fetcher, &delivery, headers, EC_LEN(headers), payload);
        if (!worth_another_try(delivery.status) || i + 1 == TRIES) {
            break;
        }
        printf("enclii: %s, trying again (%d)\n",
               delivery.status == 404 ? "this repository is not known yet"
                                      : "the webhook service does not answer",
               i + 2);
        fflush(stdout);
        usleep(wait);
        wait *= 2;
    }
    bool well = delivery.status >= 200 && delivery.status < 300;
    if (well) {
        printf("enclii: %s delivered (%s), HTTP %d\n", ref, id.text, delivery.status);
    } else {
        printf("enclii: %s was NOT delivered: HTTP %d, %s\n", ref, delivery.status,
               reason_in(local, delivery.text));
    }
    ec_fetcher_close(fetcher);
    ec_loop_stop(loop);
    ec_loop_run(loop);
    ec_loop_free(loop);
    return well;
}

/* "acme/shop" from the folder that git runs us in. */
static const char *name_of_repo(const struct local *local)
{
    char folder[4096], root[4096];
    if (!getcwd(folder, sizeof folder) || !realpath(local_path(local, "git"), root)) {
        return NULL;
    }
    size_t len = strlen(root), whole = strlen(folder);
    if (strncmp(folder, root, len) != 0 || folder[len] != '/' || whole < len + 6 ||
        strcmp(folder + whole - 4, ".git") != 0) {
        return NULL;
    }
    folder[whole - 4] = '\0';
    return strchr(folder + len + 1, '/') ? ec_arena_strdup(local->arena, folder + len + 1) : NULL;
}

int local_hook(struct local *local)
{
    const char *name = name_of_repo(local);
    if (!name) {
        puts("enclii: this hook belongs into a repository made by `enclii local repo`");
        return 1;
    }
    char line[1024], before[65], after[65], ref[512];
    bool all = true;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%64s %64s %511s", before, after, ref) == 3) {
            all = deliver(local, name, payload_of(local, name, before, after, ref), ref) && all;
        }
    }
    return all ? 0 : 1;
}
