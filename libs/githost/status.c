/* What became of a commit, told to its host. One call for all of them; what differs is in the
 * table. */
#include <string.h>

#include "base/mem.h"
#include "githost/githost_private.h"
#include "trust/digest.h"

#define TEXT_MAX 140 /* of the description: GitHub's limit, the least of them */
#define KEY_MAX 40   /* Bitbucket's, of the line's key */

static const struct {
    const char *states[EC_GITHOST_STATES];
    const char *context; /* what it calls the line that a status is in */
    bool wants_ref;      /* it asks where the commit is */
    const char *url;     /* and what of the address behind it */
    bool wants_key;      /* the line is told apart by a short key; the context only names it */
} hosts_words[] = {
    [EC_GITHOST_GITHUB] = {{"pending", "success", "failure", "error", "error"},
                           "context",
                           false,
                           "target_url",
                           false},
    [EC_GITHOST_GITLAB] =
        {{"pending", "success", "failed", "failed", "canceled"}, "name", true, "target_url", false},
    [EC_GITHOST_GITEA] = {{"pending", "success", "failure", "error", "error"},
                          "context",
                          false,
                          "target_url",
                          false},
    [EC_GITHOST_BITBUCKET] =
        {{"INPROGRESS", "SUCCESSFUL", "FAILED", "FAILED", "STOPPED"}, "name", false, "url", true},
};

static const char *const names[EC_GITHOST_STATES] = {"pending", "success", "failure", "error",
                                                     "cancelled"};

struct op {
    ec_githost_done_fn done;
    const char *body; /* with the ref, for a second try; NULL = there is none */
};

/* ---- pure ---- */

enum ec_githost_state ec_githost_state_of(const char *name)
{
    for (size_t i = 0; i < EC_LEN(names); i++) {
        if (strcmp(names[i], name) == 0) {
            return (enum ec_githost_state)i;
        }
    }
    return EC_GITHOST_ERROR;
}

bool ec_githost_takes_statuses(enum ec_githost_kind kind)
{
    return kind < EC_LEN(hosts_words) && hosts_words[kind].context;
}

/* One line, not cut in the middle of a character. */
static const char *one_line(struct ec_arena *arena, const char *text)
{
    size_t len = strcspn(text, "\r\n");
    if (len > TEXT_MAX) {
        for (len = TEXT_MAX; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80; len--) {
        }
    }
    return ec_arena_text(arena, (struct ec_span){text, len});
}

static const char *key_of(struct ec_arena *arena, const char *context)
{
    return strlen(context) <= KEY_MAX
               ? context
               : ec_arena_format(arena, "%.*s", KEY_MAX, ec_sha256_hex(arena, ec_span_of(context)));
}

char *ec_githost_status_body(struct ec_arena *arena, enum ec_githost_kind kind,
                             const struct ec_githost_status *status, const char *ref)
{
    json_t *root = json_pack("{s:s, s:s, s:s}", "state", hosts_words[kind].states[status->state],
                             "description", one_line(arena, status->description),
                             hosts_words[kind].context, status->context);
    if (status->target_url[0]) {
        json_object_set_new(root, hosts_words[kind].url, json_string(status->target_url));
    }
    if (hosts_words[kind].wants_key) {
        json_object_set_new(root, "key", json_string(key_of(arena, status->context)));
    }
    if (ref && hosts_words[kind].wants_ref) {
        json_object_set_new(root, "ref", json_string(ref));
    }
    char *body = ec_json_dump(arena, root);
    json_decref(root);
    return body;
}

/* GitLab means branches and tags by their short names; a merge request's head by its whole one. */
static const char *short_ref(const char *ref)
{
    static const char *const prefixes[] = {"refs/heads/", "refs/tags/"};
    for (size_t i = 0; i < EC_LEN(prefixes); i++) {
        size_t len = strlen(prefixes[i]);
        if (strncmp(ref, prefixes[i], len) == 0) {
            return ref + len;
        }
    }
    return ref;
}

/* ---- the call ---- */

/* GitLab refuses to say "pending" of what is pending: what was to be told is told. */
static bool told_already(struct api_call *call, const struct ec_fetch_result *result)
{
    return call->host->kind == EC_GITHOST_GITLAB && result && result->status == 400 &&
           memmem(result->body.ptr, result->body.len, "Cannot transition status", 24);
}

static void on_status(struct api_call *call, struct ec_err err,
                      const struct ec_fetch_result *result)
{
    struct op *op = call->op;
    if (op->body && result && result->status == 404 && !call->hosts->closed) {
        struct api_call *next = api_call_sub(call->hosts, call->host, call->repo);
        struct op *again = ec_arena_alloc(next->arena, sizeof(*again));
        *again = (struct op){.done = op->done};
        next->op = again;
        next->done_arg = call->done_arg;
        next->method = call->method;
        next->path = ec_arena_strdup(next->arena, call->path);
        next->body = ec_span_of(ec_arena_strdup(next->arena, op->body));
        api_call_start(next, on_status);
        return;
    }
    op->done(call->done_arg, told_already(call, result) ? ec_ok() : err);
}

/* A merge request's commit is of the branch that has it, when GitLab finds one: there people see
 * the status. A fork's is of no branch, so then its ref is named. */
static void fill_body(struct api_call *call, const struct ec_githost_status *status)
{
    struct ec_githost_status whole = *status;
    if (call->host->kind == EC_GITHOST_BITBUCKET && !whole.target_url[0]) { /* it wants one */
        whole.target_url =
            ec_arena_format(call->arena, "https://%s/%s", call->host->server, call->repo);
    }
    status = &whole;
    const char *ref = status->ref[0] ? short_ref(status->ref) : NULL;
    enum ec_githost_kind kind = call->host->kind;
    bool guess = ref && ref == status->ref && hosts_words[kind].wants_ref;
    struct op *op = call->op;
    op->body = guess ? ec_githost_status_body(call->arena, kind, status, ref) : NULL;
    call->body = ec_span_of(ec_githost_status_body(call->arena, kind, status, guess ? NULL : ref));
}

struct ec_err ec_githost_commit_status(struct ec_githosts *hosts, const char *repo_key,
                                       const struct ec_githost_status *status,
                                       ec_githost_done_fn done, void *arg)
{
    struct api_call *call = NULL;
    if (!good_id(status->sha)) {
        return ec_reject("this is no id of a commit");
    }
    if (!ec_githost_takes_statuses(ec_githost_kind(hosts, repo_key))) {
        return ec_reject("this git host takes no commit statuses");
    }
    if (!ec_githost_hears_statuses(hosts, repo_key)) {
        EC_TRY(api_call_new(hosts, repo_key, &call)); /* it says what is missing */
        return ec_reject("this git host takes no commit statuses");
    }
    EC_TRY(api_call_make(hosts, repo_key, &call));
    struct op *op = ec_arena_alloc(call->arena, sizeof(*op));
    op->done = done;
    call->op = op;
    call->done_arg = arg;
    call->method = "POST";
    call->path =
        call->host->kind == EC_GITHOST_BITBUCKET
            ? ec_arena_format(call->arena, "/repositories/%s/commit/%s/statuses/build", call->repo,
                              status->sha)
            : ec_arena_format(call->arena, "%s/statuses/%s", api_repo_path(call), status->sha);
    fill_body(call, status);
    api_call_start(call, on_status);
    return ec_ok();
}
