/* The repositories that services are bound to, followed from the compacted topic enclii.repos. Some
 * have a webhook secret of their own, sealed with the platform's key. */
#include <stdlib.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "spec/spec.h"
#include "trust/digest.h"
#include "trust/seal.h"
#include "webhook.h"

static void free_repo(void *value)
{
    struct repo *repo = value;
    if (repo) {
        free(repo->full_name);
        ec_secret_free(repo->secret);
        ec_secret_free(repo->previous);
        free(repo);
    }
}

static struct ec_secret *open_sealed(struct webhook *wh, struct ec_event *ev,
                                     ProtobufCBinaryData sealed)
{
    struct ec_secret *secret = NULL;
    if (sealed.len == 0) {
        return NULL;
    }
    const char *context = ec_arena_format(ec_event_arena(ev), "repo/%s", ec_event_key(ev));
    struct ec_err err = ec_reject("ENCLII_SEAL_KEY is not set");
    if (wh->settings.seal_key) {
        err = ec_unseal(wh->settings.seal_key, context,
                        (struct ec_span){(const char *)sealed.data, sealed.len}, &secret);
    }
    if (ec_failed(err)) {
        ec_log(EC_LOG_ERROR, ec_event_trace(ev), "repo.secret_unreadable",
               "deliveries of this repository are refused", EC_ERR(err),
               EC_T("repo", ec_event_key(ev)));
        return ec_secret_new(EC_SPAN("")); /* nothing may fall back to the common secret */
    }
    return secret;
}

static void on_repo(void *state, struct ec_event *ev)
{
    struct webhook *wh = state;
    const Enclii__V1__RepoBound *bound = ec_event_body(ev);
    struct repo *old = ec_map_remove(wh->repos, ec_event_key(ev));
    wh->own_secrets -= old && old->secret;
    free_repo(old);
    if (!bound) {
        return; /* a tombstone: no service is bound to it any more */
    }
    struct repo *repo = ec_alloc(sizeof *repo);
    repo->full_name = ec_strdup(bound->full_name);
    repo->secret = open_sealed(wh, ev, bound->sealed_secret);
    repo->previous = open_sealed(wh, ev, bound->sealed_previous_secret);
    if (!ec_map_put(wh->repos, ec_event_key(ev), repo)) {
        ec_log(EC_LOG_ERROR, ec_event_trace(ev), "repo.too_many",
               "the table of repositories is full", EC_N("most", REPOS_MAX));
        free_repo(repo);
        return;
    }
    wh->own_secrets += repo->secret != NULL;
}

static void on_caught_up(void *state)
{
    struct webhook *wh = state;
    wh->repos_known = true;
    ec_log(EC_LOG_INFO, NULL, "repos.known", "ready to tell known repositories from unknown ones",
           EC_N("count", ec_map_count(wh->repos)));
}

EC_RESULT repos_follow(struct webhook *wh)
{
    static const char *const topics[] = {EC_TOPIC_REPOS, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.repo.bound.v1", &enclii__v1__repo_bound__descriptor, NULL},
    };
    const struct ec_table_spec spec = {.topics = topics,
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .state = wh,
                                       .on_event = on_repo,
                                       .on_caught_up = on_caught_up};
    wh->repos = ec_map_new(REPOS_MAX);
    return ec_bus_table(wh->bus, &spec, NULL);
}

void repos_free(struct webhook *wh)
{
    if (wh->repos) {
        ec_map_free(wh->repos, free_repo);
        wh->repos = NULL;
    }
}

struct repo *repos_find(const struct webhook *wh, const char *repo_key)
{
    return ec_map_get(wh->repos, repo_key);
}

static bool signed_by(const struct ec_secret *secret, struct ec_span body, struct ec_span hex)
{
    return secret && ec_secret_use(secret).len > 0 && ec_hmac_sha256_check(secret, body, hex);
}

/* Which repository an unverified body claims to be about: only to choose the secret that decides.
 */
static const struct repo *claimed_repo(const struct webhook *wh, struct ec_arena *arena,
                                       struct ec_span json)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    if (json.len == 0 || ec_failed(ec_json_parse(arena, json, &root))) {
        return NULL;
    }
    const char *key = ec_repo_key(arena, ec_json_text(root, "repository.clone_url"));
    return key ? repos_find(wh, key) : NULL;
}

bool repos_signed(const struct webhook *wh, struct ec_arena *arena, struct ec_span body,
                  struct ec_span json, struct ec_span hex)
{
    const struct repo *repo = wh->own_secrets > 0 ? claimed_repo(wh, arena, json) : NULL;
    if (repo && repo->secret) {
        return signed_by(repo->secret, body, hex) || signed_by(repo->previous, body, hex);
    }
    return signed_by(wh->settings.secret, body, hex);
}
