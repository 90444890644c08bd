/* A GitHub App: proves itself with a JWT, learns which installation has a repository, and gets a
 * token for that installation. Both are kept, and asked for once however many calls wait. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "githost/githost_private.h"

#define GRANTS_MAX 4096
#define JWT_BACK_S 60  /* clocks differ */
#define JWT_LIFE_S 540 /* GitHub takes at most 600 */
#define RENEW_EARLY_MS (5 * 60 * 1000)
#define INSTALLATION_LIFE_MS (4 * 3600 * 1000) /* an App is moved rarely */

/* What the host granted: the installation of a repository ("repo acme/shop"), or the token of an
 * installation ("token 42"). */
struct grant {
    bool busy;                /* it is being asked for */
    struct api_call *waiting; /* for that */
    char *installation;       /* of a repository */
    struct ec_secret *token;  /* of an installation */
    int64_t until_mono_ms;
};

/* ---- JWT ---- */

struct ec_err app_jwt(struct ec_arena *arena, const struct ec_rsa *key, const char *app_id,
                      int64_t now_unix_s, struct ec_secret **ret_jwt)
{
    json_t *claims =
        json_pack("{s:I, s:I, s:s}", "iat", (json_int_t)(now_unix_s - JWT_BACK_S), "exp",
                  (json_int_t)(now_unix_s + JWT_LIFE_S - JWT_BACK_S), "iss", app_id);
    char *claims_text = ec_json_dump(arena, claims);
    json_decref(claims);
    char *text = ec_arena_format(
        arena, "%s.%s", ec_base64url(arena, EC_SPAN("{\"alg\":\"RS256\",\"typ\":\"JWT\"}")),
        ec_base64url(arena, ec_span_of(claims_text)));
    struct ec_span signature = {0};
    EC_TRY(ec_rsa_sign(arena, key, ec_span_of(text), &signature));
    *ret_jwt = ec_secret_new(
        ec_span_of(ec_arena_format(arena, "%s.%s", text, ec_base64url(arena, signature))));
    return ec_ok();
}

/* ---- grants ---- */

static void free_grant(void *value)
{
    struct grant *grant = value;
    if (grant) {
        ec_secret_free(grant->token);
        free(grant->installation);
        free(grant);
    }
}

void app_free_grants(struct git_host *host)
{
    if (host->grants) {
        ec_map_free(EC_TAKE(host->grants), free_grant);
    }
}

/* Full: all go that nobody waits for, they are cheap to get again. */
static void make_room(struct ec_map *grants)
{
    size_t at = 0;
    const char *name;
    void *value;
    while (ec_map_next(grants, &at, &name, &value)) {
        if (!((struct grant *)value)->busy) {
            free_grant(ec_map_remove(grants, name));
        }
    }
}

static struct grant *grant_of(struct git_host *host, const char *name)
{
    if (!host->grants) {
        host->grants = ec_map_new(GRANTS_MAX);
    }
    struct grant *grant = ec_map_get(host->grants, name);
    if (grant) {
        return grant;
    }
    if (ec_map_count(host->grants) >= GRANTS_MAX) {
        make_room(host->grants); /* at most CALLS_MAX are waited for */
    }
    grant = ec_alloc(sizeof(*grant));
    (void)ec_map_put(host->grants, name, grant);
    return grant;
}

static bool fresh(const struct grant *grant)
{
    return (grant->token || grant->installation) && grant->until_mono_ms > ec_mono_ms();
}

/* Those that waited go on, or end with the error. */
static void wake(struct grant *grant, struct ec_err err)
{
    struct api_call *call = grant->waiting;
    grant->waiting = NULL;
    grant->busy = false;
    while (call) {
        struct api_call *next = call->next_waiting;
        call->next_waiting = NULL;
        if (ec_failed(err)) {
            api_call_go_on(
                call, (struct ec_err){err.fate, err.sys, ec_arena_strdup(call->arena, err.what)});
        } else {
            app_authorize(call);
        }
        call = next;
    }
}

/* ---- asking for them ---- */

static struct ec_err not_installed(struct api_call *sub, struct ec_err err,
                                   const struct ec_fetch_result *result)
{
    if (result && result->status == 404) {
        return ec_reject_in(
            sub->arena,
            "the GitHub App %s is not installed for %s: install it there (Settings, "
            "GitHub Apps), or give it this repository",
            sub->host->app_id, sub->repo);
    }
    return err;
}

static void on_installation(struct api_call *sub, struct ec_err err,
                            const struct ec_fetch_result *result)
{
    struct grant *grant = sub->op;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    err = ec_failed(err) ? not_installed(sub, err, result) : api_call_json(sub, result, &root);
    const char *id = decode_id(sub->arena, json_object_get(root, "id"));
    if (!ec_failed(err) && !id[0]) {
        err = ec_reject("the git host names an installation without an id");
    }
    if (!ec_failed(err)) {
        free(grant->installation);
        grant->installation = ec_strdup(id);
        grant->until_mono_ms = ec_mono_ms() + INSTALLATION_LIFE_MS;
    }
    wake(grant, err);
}

static void on_token(struct api_call *sub, struct ec_err err, const struct ec_fetch_result *result)
{
    struct grant *grant = sub->op;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    struct ec_secret *token = NULL;
    int64_t life_ms = 0;
    if (!ec_failed(err)) {
        err = api_call_json(sub, result, &root);
    }
    if (!ec_failed(err)) {
        err = decode_app_token(root, ec_unix_ms(), &token, &life_ms);
    }
    if (!ec_failed(err)) {
        ec_secret_free(grant->token);
        grant->token = token;
        /* Early enough for what is begun with it, but never so early that it is useless. */
        int64_t early_ms = life_ms > 2 * RENEW_EARLY_MS ? RENEW_EARLY_MS : life_ms / 2;
        grant->until_mono_ms = ec_mono_ms() + life_ms - early_ms;
    }
    wake(grant, err);
}

static void wait_for(struct api_call *call, struct grant *grant, const char *method,
                     const char *path, api_answered_fn answered)
{
    if (!grant->busy && ec_githost_wait_ms(call->hosts, call->host->server) > 0) {
        api_call_go_on(call, ec_retry(0, "the git host's rate limit is used up for now"));
        return;
    }
    call->next_waiting = grant->waiting;
    grant->waiting = call;
    if (grant->busy) {
        return;
    }
    grant->busy = true;
    struct api_call *sub = api_call_sub(call->hosts, call->host, call->repo);
    sub->method = method;
    sub->path = ec_arena_strdup(sub->arena, path);
    sub->as_app = true;
    sub->op = grant;
    api_call_start(sub, answered);
}

/* The repository's grant may go to make room for it. */
static struct grant *token_grant(struct api_call *call, const char *installation)
{
    return grant_of(call->host, ec_arena_format(call->arena, "token %s", installation));
}

void app_authorize(struct api_call *call)
{
    struct git_host *host = call->host;
    struct grant *repo = grant_of(host, ec_arena_format(call->arena, "repo %s", call->repo));
    if (call->hosts->closed) {
        api_call_go_on(call, ec_ok());
        return;
    }
    if (!fresh(repo)) {
        wait_for(call, repo, "GET",
                 ec_arena_format(call->arena, "/repos/%s/installation", call->repo),
                 on_installation);
        return;
    }
    const char *installation = ec_arena_strdup(call->arena, repo->installation);
    struct grant *token = token_grant(call, installation);
    if (!fresh(token)) {
        wait_for(call, token, "POST",
                 ec_arena_format(call->arena, "/app/installations/%s/access_tokens", installation),
                 on_token);
        return;
    }
    ec_secret_free(call->secret);
    call->secret = ec_secret_new(ec_secret_use(token->token));
    api_call_go_on(call, ec_ok());
}

void app_forget_installation(struct api_call *call)
{
    struct grant *repo = grant_of(call->host, ec_arena_format(call->arena, "repo %s", call->repo));
    repo->until_mono_ms = 0;
}

/* Both: an App that was installed anew has another installation. */
void app_forget_token(struct api_call *call)
{
    struct grant *repo = grant_of(call->host, ec_arena_format(call->arena, "repo %s", call->repo));
    if (!repo->installation) {
        return;
    }
    struct grant *token = ec_map_get(call->host->grants,
                                     ec_arena_format(call->arena, "token %s", repo->installation));
    bool same = token && token->token && call->secret &&
                ec_span_eq_secret(ec_secret_use(token->token), ec_secret_use(call->secret));
    if (same) { /* else somebody else has renewed it already */
        token->until_mono_ms = 0;
        repo->until_mono_ms = 0;
    }
}
