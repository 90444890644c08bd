/* The binding of a repository with its secrets: read, changed and published as a whole, so that no
 * word on enclii.repos forgets another's. A row that changed since it was read is not written. */
#include <string.h>

#include "base/encode.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/repo.pb-c.h"
#include "hooks.h"
#include "spec/spec.h"
#include "trust/seal.h"
#include "trust/token.h"

#define SECRET_BYTES 32
#define REPO_TEXT_MAX 1024

struct hook_work *hook_of(const struct call *call)
{
    return call->more;
}

bool hook_has_secret(const struct hook_repo *repo)
{
    return repo->sealed.len > 0;
}

/* ---- reading ---- */

static void on_row(struct call *call, const struct ec_rows *rows)
{
    struct hook_work *work = call->more;
    struct ec_arena *arena = call->arena;
    if (ec_rows_count(rows) == 0) {
        call_problem(call, 404, "not_found", "repo",
                     ec_arena_format(arena,
                                     "no service builds %s, or your token is for another project; "
                                     "make one first: enclii service create",
                                     work->repo.key));
        return;
    }
#define TEXT(column) ec_arena_strdup(arena, ec_rows_text(rows, 0, column))
    struct hook_repo repo = {.key = work->repo.key,
                             .clone_url = TEXT("clone_url"),
                             .full_name = TEXT("full_name"),
                             .host_repo_id = TEXT("host_repo_id"),
                             .hook_id = TEXT("hook_id"),
                             .hook_url = TEXT("hook_url"),
                             .sealed = ec_rows_bytes(rows, 0, "sealed_secret", arena),
                             .sealed_previous =
                                 ec_rows_bytes(rows, 0, "sealed_previous_secret", arena),
                             .sealed_for = TEXT("sealed_for"),
                             .changed_at = TEXT("changed_at"),
                             .version = TEXT("version")};
#undef TEXT
    if (!repo.full_name[0]) {
        repo.full_name = strchr(repo.key, '/') + 1; /* a key has one: ec_repo_key */
    }
    work->repo = repo;
    work->before = repo;
    work->then(call);
}

struct hook_work *hook_begin(struct call *call, const char *base)
{
    struct hook_work *work = ec_arena_alloc(call->arena, sizeof(*work));
    *work = (struct hook_work){
        .base = base, .url = "", .host_fault = "", .note = "", .done = "", .when = ""};
    call->more = work;
    return work;
}

/* clang-format off */
/* $1 project scope, $2 repository */
static const char REPO_SQL[] =
    "select coalesce(r.clone_url, s.repo_url) as clone_url, coalesce(r.full_name, '') as full_name,"
    " coalesce(r.host_repo_id, '') as host_repo_id, coalesce(r.hook_id, '') as hook_id,"
    " coalesce(r.hook_url, '') as hook_url, r.sealed_secret, r.sealed_previous_secret,"
    " coalesce(r.sealed_for, '') as sealed_for, coalesce(r.updated_at::text, '') as version"
    ", " TIME("r.secret_changed_at", "changed_at")
    " from (select repo_key, repo_url from enclii.service"
    "   where repo_key = $2 and removed_at is null and " IN_SCOPE("$1", "project_id")
    "   order by created_at limit 1) s"
    " left join enclii.repo r on r.repo_key = s.repo_key";
/* clang-format on */

void hook_load(struct call *call, const char *text, void (*then)(struct call *call))
{
    struct hook_work *work = call->more;
    char *key = text && strlen(text) <= REPO_TEXT_MAX ? ec_repo_key(call->arena, text) : NULL;
    if (!key) {
        call_problem(call, 400, "invalid_field", "repo",
                     "repo must name a repository: github.com/acme/shop, or its clone URL");
        return;
    }
    work->repo.key = key;
    work->then = then;
    if (work->base[0]) {
        enum ec_githost_kind kind = ec_githost_kind(call->api->githosts, key);
        work->url = ec_arena_format(call->arena, "%s%s", work->base,
                                    decide_hook_page(call->arena, kind, key).path);
    }
    call_query(call, REPO_SQL, ARGS(call->who.project_id, key), on_row);
}

/* ---- secrets ---- */

static bool has_seal_key(struct call *call)
{
    if (!call->api->settings.seal_key) {
        call_problem(call, 503, "sealing_not_set_up", NULL,
                     "this installation has no ENCLII_SEAL_KEY, so secrets of repositories cannot "
                     "be kept");
    }
    return call->api->settings.seal_key != NULL;
}

static const char *context_of(struct call *call, const struct hook_repo *repo)
{
    return ec_arena_format(call->arena, "repo/%s",
                           repo->sealed_for[0] ? repo->sealed_for : repo->key);
}

bool hook_open_secret(struct call *call, struct hook_work *work)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *clear = NULL;
    if (!has_seal_key(call)) {
        return false;
    }
    struct ec_err err = ec_unseal(call->api->settings.seal_key, context_of(call, &work->repo),
                                  work->repo.sealed, &clear);
    if (ec_failed(err)) {
        call_problem(call, 409, "secret_unreadable", NULL,
                     "the secret of this repository cannot be opened: it was sealed with another "
                     "ENCLII_SEAL_KEY. Make a new one: enclii hooks secret --rotate");
        return false;
    }
    work->secret = ec_arena_text(call->arena, ec_secret_use(clear));
    return true;
}

static bool seal(struct call *call, const struct hook_repo *repo, const char *clear,
                 struct ec_span *ret_sealed)
{
    struct ec_err err =
        ec_seal(call->arena, call->api->settings.seal_key,
                ec_arena_format(call->arena, "repo/%s", repo->key), ec_span_of(clear), ret_sealed);
    if (ec_failed(err)) {
        ec_reply_error(call->req, err, "sealing_failed");
    }
    return !ec_failed(err);
}

/* The one that holds now stays accepted, unless it cannot be opened any more. Both are sealed for
 * the present name: the repository may have been renamed since. */
static bool keep_as_previous(struct call *call, struct hook_repo *repo)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *clear = NULL;
    struct ec_err err =
        ec_unseal(call->api->settings.seal_key, context_of(call, repo), repo->sealed, &clear);
    repo->sealed_previous = EC_SPAN("");
    if (ec_failed(err)) {
        return true;
    }
    char *text = ec_arena_text(call->arena, ec_secret_use(clear));
    bool good = seal(call, repo, text, &repo->sealed_previous);
    explicit_bzero(text, strlen(text));
    return good;
}

bool hook_new_secret(struct call *call, struct hook_work *work)
{
    unsigned char bytes[SECRET_BYTES];
    if (!has_seal_key(call)) {
        return false;
    }
    struct ec_err err = ec_random_bytes(bytes, sizeof(bytes));
    if (ec_failed(err)) {
        ec_reply_error(call->req, err, "no_random_bytes");
        return false;
    }
    work->first_secret = !hook_has_secret(&work->repo);
    if (!work->first_secret && !keep_as_previous(call, &work->repo)) {
        return false;
    }
    work->secret = ec_hex(call->arena, (struct ec_span){(const char *)bytes, sizeof(bytes)});
    explicit_bzero(bytes, sizeof(bytes));
    work->repo.sealed_for = "";
    work->secret_changed = true;
    work->secret_made = true;
    return seal(call, &work->repo, work->secret, &work->repo.sealed);
}

void hook_forget_previous(struct hook_work *work)
{
    work->repo.sealed_previous = EC_SPAN("");
    work->secret_changed = true;
}

void hook_clear_secret(struct hook_work *work)
{
    work->repo.sealed = EC_SPAN("");
    work->repo.sealed_for = "";
    hook_forget_previous(work);
}

/* ---- writing ---- */

static ProtobufCBinaryData bytes_of(struct ec_span span)
{
    return (ProtobufCBinaryData){span.len, (uint8_t *)(uintptr_t)span.ptr};
}

static void publish(struct call *call, struct ec_batch *batch, const struct hook_repo *repo)
{
    struct ec_arena *arena = call->arena;
    Enclii__V1__RepoBound fact = ENCLII__V1__REPO_BOUND__INIT;
    fact.repo_key = ec_arena_strdup(arena, repo->key);
    fact.clone_url = ec_arena_strdup(arena, repo->clone_url);
    fact.full_name = ec_arena_strdup(arena, repo->full_name);
    fact.host_repo_id = ec_arena_strdup(arena, repo->host_repo_id);
    fact.hook_id = ec_arena_strdup(arena, repo->hook_id);
    fact.sealed_for = ec_arena_strdup(arena, repo->sealed_for);
    fact.sealed_secret = bytes_of(repo->sealed);
    fact.sealed_previous_secret = bytes_of(repo->sealed_previous);
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_REPOS, repo->key, "dev.enclii.repo.bound.v1", NULL,
                                    NULL, &fact.base});
}

static void on_written(struct call *call, const struct ec_batch *batch)
{
    struct hook_work *work = call->more;
    const struct ec_rows *rows = ec_batch_rows(batch, 1);
    work->repo.version = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "version"));
    work->repo.changed_at = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "changed_at"));
    work->then(call);
}

void hook_write(struct call *call, const char *action, void (*then)(struct call *call))
{
    struct hook_work *work = call->more;
    struct hook_repo *repo = &work->repo;
    work->then = then;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    repo_lock(batch, repo->key);
    ec_batch_add(
        batch,
        "with w as (insert into enclii.repo as r (repo_key, host_repo_id, clone_url, full_name,"
        " sealed_secret, sealed_previous_secret, sealed_for, hook_id, hook_url, secret_changed_at)"
        " values ($1, $2, $3, $4, $5::bytea, $6::bytea, $7, $8, $9, case when $10::boolean then"
        " now() end) on conflict (repo_key) do update set sealed_secret = excluded.sealed_secret,"
        " sealed_previous_secret = excluded.sealed_previous_secret, sealed_for ="
        " excluded.sealed_for, hook_id = excluded.hook_id, hook_url = excluded.hook_url,"
        " secret_changed_at = coalesce(excluded.secret_changed_at, r.secret_changed_at),"
        " updated_at = clock_timestamp() where r.updated_at::text = $11 returning updated_at,"
        " secret_changed_at) select ec_expect(1, count(*)), min(updated_at)::text as "
        "version, " TIME("min(secret_changed_at)", "changed_at") " from w",
        ARGS(repo->key, repo->host_repo_id, repo->clone_url, repo->full_name,
             ec_bytea_arg(call->arena, repo->sealed),
             ec_bytea_arg(call->arena, repo->sealed_previous), repo->sealed_for, repo->hook_id,
             repo->hook_url, work->secret_changed ? "true" : "false", repo->version));
    publish(call, batch, repo);
    audit_add(call, batch, &(struct audit){action, "repository", repo->key, repo->full_name, NULL});
    call_write(call, batch, on_written);
}

/* ---- answers ---- */

static void forget(struct call *call)
{
    struct hook_work *work = call->more;
    if (work && work->secret) {
        explicit_bzero(work->secret, strlen(work->secret));
    }
}

void hook_reply(struct call *call, int status, json_t *body)
{
    forget(call);
    call_reply(call, status, body);
}

void hook_problem(struct call *call, int status, const char *code, const char *detail)
{
    forget(call);
    call_problem(call, status, code, NULL, detail);
}

static const char *without_slash(struct call *call, const char *url)
{
    size_t len = strlen(url);
    while (len > 0 && url[len - 1] == '/') {
        len--;
    }
    return ec_arena_text(call->arena, (struct ec_span){url, len});
}

const char *hook_usual_base(struct call *call)
{
    const char *url = call->api->settings.webhook_url;
    return without_slash(call, url ? url : "");
}

static const char *other_base(struct call *call, const json_t *body)
{
    const char *url = body_text(call, body, "url", 1000);
    if (!url) {
        return NULL;
    }
    if (call->who.role < ROLE_ADMIN) {
        call_problem(call, 403, "not_allowed", "url",
                     "only admins may let a git host deliver to another address than "
                     "ENCLII_WEBHOOK_URL");
        return NULL;
    }
    if (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0) {
        call_problem(call, 400, "invalid_field", "url", "url must start with https:// or http://");
        return NULL;
    }
    return without_slash(call, url);
}

const char *hook_base_url(struct call *call, const json_t *body)
{
    if (json_object_get(body, "url")) {
        return other_base(call, body);
    }
    const char *base = hook_usual_base(call);
    if (!base[0]) {
        call_problem(call, 409, "webhook_url_not_set", "url",
                     "git hosts must know where to deliver: set ENCLII_WEBHOOK_URL of api to the "
                     "public address of the service webhook, or give --url https://...");
        return NULL;
    }
    return base;
}
