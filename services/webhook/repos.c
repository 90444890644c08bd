/* The repositories that services are bound to, followed from the compacted topic enclii.repos. Some
 * have a webhook secret of their own, sealed with the platform's key. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "trust/seal.h"
#include "webhook.h"

static void free_repo(void *value)
{
    struct repo *repo = value;
    if (repo) {
        free(repo->key);
        free(repo->id_key);
        ec_secret_free(repo->secret);
        ec_secret_free(repo->previous);
        free(repo);
    }
}

/* The host's ids are unique on one server: "github.com#12345". NULL when one of the two is absent.
 */
static char *id_key_of(struct ec_arena *arena, const char *repo_key, const char *host_repo_id)
{
    const char *slash = repo_key ? strchr(repo_key, '/') : NULL;
    if (!slash || !host_repo_id || !*host_repo_id) {
        return NULL;
    }
    return ec_arena_format(arena, "%.*s#%s", (int)(slash - repo_key), repo_key, host_repo_id);
}

static struct ec_secret *open_sealed(struct webhook *wh, struct ec_event *ev,
                                     ProtobufCBinaryData sealed)
{
    const Enclii__V1__RepoBound *bound = ec_event_body(ev);
    const char *sealed_for = *bound->sealed_for ? bound->sealed_for : ec_event_key(ev);
    struct ec_secret *secret = NULL;
    if (sealed.len == 0) {
        return NULL;
    }
    const char *context = ec_arena_format(ec_event_arena(ev), "repo/%s", sealed_for);
    struct ec_err err = ec_reject("ENCLII_SEAL_KEY is not set");
    if (wh->settings.seal_key) {
        err = ec_unseal(wh->settings.seal_key, context,
                        (struct ec_span){(const char *)sealed.data, sealed.len}, &secret);
    }
    if (ec_failed(err)) {
        ec_table_reject(ev, ec_arena_format(ec_event_arena(ev),
                                            "the repository's secret cannot be read, its "
                                            "deliveries are refused: %s",
                                            err.what));
        /* Nothing may fall back to the common secret, nor to one that was replaced. */
        return ec_secret_new(EC_SPAN(""));
    }
    return secret;
}

/* The first one to have the id keeps it: nobody takes another's deliveries by naming it. */
static void take_id(struct webhook *wh, struct repo *repo)
{
    if (repo->id_key && ec_map_get(wh->repos_by_id, repo->id_key)) {
        wh->ids_waiting++;
    } else if (repo->id_key) {
        ec_map_put(wh->repos_by_id, repo->id_key, repo); /* as much room as for the keys */
    }
}

/* Of a repository that goes. After a rename it is bound by its new name first, which waited for the
 * id until now. */
static void leave_id(struct webhook *wh, const struct repo *old)
{
    void *next = NULL;
    if (!old->id_key) {
        return;
    }
    if (ec_map_get(wh->repos_by_id, old->id_key) != old) {
        wh->ids_waiting--;
        return;
    }
    ec_map_remove(wh->repos_by_id, old->id_key);
    for (size_t at = 0; wh->ids_waiting > 0 && ec_map_next(wh->repos, &at, NULL, &next);) {
        const char *id_key = ((struct repo *)next)->id_key;
        if (id_key && strcmp(id_key, old->id_key) == 0) {
            wh->ids_waiting--;
            ec_map_put(wh->repos_by_id, id_key, next);
            return;
        }
    }
}

static void forget(struct webhook *wh, const char *key)
{
    struct repo *old = ec_map_remove(wh->repos, key);
    if (!old) {
        return;
    }
    wh->own_secrets -= old->secret != NULL;
    leave_id(wh, old);
    free_repo(old);
}

static void on_repo(void *state, struct ec_event *ev)
{
    struct webhook *wh = state;
    const Enclii__V1__RepoBound *bound = ec_event_body(ev);
    const char *key = ec_event_key(ev);
    forget(wh, key);
    if (!bound) {
        return; /* a tombstone: no service is bound to it any more */
    }
    const char *id_key = id_key_of(ec_event_arena(ev), key, bound->host_repo_id);
    struct repo *repo = ec_alloc(sizeof *repo);
    repo->key = ec_strdup(key);
    repo->secret = open_sealed(wh, ev, bound->sealed_secret);
    repo->previous = open_sealed(wh, ev, bound->sealed_previous_secret);
    if (!ec_map_put(wh->repos, key, repo)) {
        ec_table_reject(ev, "the table of repositories is full: its deliveries are unknown here");
        free_repo(repo);
        return;
    }
    repo->id_key = id_key ? ec_strdup(id_key) : NULL;
    take_id(wh, repo);
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
    wh->repos_by_id = ec_map_new(REPOS_MAX);
    return ec_bus_table(wh->bus, &spec, NULL);
}

void repos_free(struct webhook *wh)
{
    if (wh->repos) {
        ec_map_free(EC_TAKE(wh->repos_by_id), NULL);
        ec_map_free(EC_TAKE(wh->repos), free_repo);
    }
}

const struct repo *repos_find(const struct webhook *wh, struct ec_arena *arena,
                              const struct claim *claim)
{
    const struct repo *repo = claim->key ? ec_map_get(wh->repos, claim->key) : NULL;
    const char *id_key = repo ? NULL : id_key_of(arena, claim->key, claim->id);
    return id_key ? ec_map_get(wh->repos_by_id, id_key) : repo;
}

static bool signed_by(const struct host *host, const struct incoming *in,
                      const struct ec_secret *secret)
{
    return secret && ec_secret_use(secret).len > 0 && host->verify(in, secret);
}

bool repos_signed(const struct webhook *wh, const struct host *host, const struct repo *repo,
                  const struct incoming *in)
{
    if (repo && repo->secret) {
        return signed_by(host, in, repo->secret) || signed_by(host, in, repo->previous);
    }
    return signed_by(host, in, wh->settings.secret);
}
