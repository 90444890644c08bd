/* API tokens: the cache of those seen in the last seconds (bounded, forgotten whole when full), the
 * roles, and the first token of an installation. Only hashes are kept. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/map.h"
#include "base/mem.h"
#include "trust/token.h"

#define CACHE_MAX 1024
#define CACHE_TTL_MS 5000 /* how long a revoked token may still work in another api process */

struct auth {
    struct ec_map *seen; /* hash → struct entry */
};

struct entry {
    struct principal who;
    int64_t until_mono_ms;
};

struct auth *auth_new(void)
{
    struct auth *auth = ec_alloc(sizeof(*auth));
    auth->seen = ec_map_new(CACHE_MAX);
    return auth;
}

void auth_free(struct auth *auth)
{
    if (auth) {
        ec_map_free(auth->seen, free);
        free(auth);
    }
}

void auth_forget(struct auth *auth)
{
    ec_map_free(auth->seen, free);
    auth->seen = ec_map_new(CACHE_MAX);
}

bool auth_cached(struct auth *auth, const char *hash, struct principal *ret_who)
{
    const struct entry *entry = ec_map_get(auth->seen, hash);
    if (!entry || entry->until_mono_ms < ec_mono_ms()) {
        return false;
    }
    *ret_who = entry->who;
    return true;
}

void auth_remember(struct auth *auth, const char *hash, const struct principal *who)
{
    if (ec_map_count(auth->seen) >= CACHE_MAX) {
        auth_forget(auth);
    }
    struct entry *entry = ec_alloc(sizeof(*entry));
    *entry = (struct entry){*who, ec_mono_ms() + CACHE_TTL_MS};
    free(ec_map_remove(auth->seen, hash));
    (void)ec_map_put(auth->seen, hash, entry); /* there is room: see above */
}

static const char *const role_names[] = {"public", "viewer", "developer", "admin"};

enum role role_parse(const char *name)
{
    for (size_t i = ROLE_VIEWER; i < EC_LEN(role_names); i++) {
        if (strcmp(role_names[i], name) == 0) {
            return (enum role)i;
        }
    }
    return ROLE_PUBLIC;
}

const char *role_name(enum role role)
{
    return role_names[role];
}

struct bootstrap {
    ec_done_fn done;
    void *arg;
};

static void on_bootstrapped(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct bootstrap *boot = arg;
    (void)batch;
    boot->done(boot->arg, err);
}

/* The token of the settings becomes an admin's; an earlier one of the same name stops working. */
EC_RESULT auth_bootstrap(struct api *api, ec_done_fn done, void *arg)
{
    struct ec_batch *batch = ec_batch_new(api->store);
    struct ec_arena *arena = ec_batch_arena(batch);
    struct bootstrap *boot = ec_arena_alloc(arena, sizeof(*boot));
    *boot = (struct bootstrap){done, arg};
    if (api->settings.bootstrap_token) {
        struct ec_span token = ec_secret_use(api->settings.bootstrap_token);
        const char *hash = ec_token_hash_hex(arena, token);
        const char *prefix = ec_arena_text(arena, (struct ec_span){token.ptr, EC_TOKEN_PREFIX_LEN});
        struct ec_id id = ec_id_new();
        ec_batch_add(batch,
                     "update enclii.api_token set revoked_at = now() where name = 'bootstrap'"
                     " and hash <> $1 and revoked_at is null",
                     ARGS(hash));
        ec_batch_add(
            batch,
            "insert into enclii.api_token (id, name, prefix, hash, role)"
            " values ($1::uuid, 'bootstrap', $2, $3, 'admin') on conflict (hash) do nothing",
            ARGS(id.text, prefix, hash));
    }
    return ec_batch_run(batch, on_bootstrapped, boot);
}
