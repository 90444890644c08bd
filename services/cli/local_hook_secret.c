/* A webhook secret of its own for a repository on the local git server. The server's side of a
 * webhook is our post-receive hook, so it is given the secret here instead of by a person on a
 * page: a file in the repository's folder, which git gives to nobody. */
#include "local.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static char *file_of(const struct local *local, const char *name)
{
    return ec_arena_format(local->arena, "%s/git/%s.git/enclii-webhook-secret", local->home, name);
}

/* "acme/shop" of "127.0.0.1:4305/acme/shop"; NULL = it is on another server. */
static const char *name_here(const struct local *local, const char *repo_key)
{
    const char *server = ec_arena_format(local->arena, "127.0.0.1:%d/", local->ports[PORT_GIT]);
    const char *name = repo_key + strlen(server);
    bool here = strncmp(repo_key, server, strlen(server)) == 0 && local_repo_name_fits(name);
    const char *folder =
        ec_arena_format(local->arena, "%s/git/%s.git", local->home, here ? name : "");
    return here && access(folder, F_OK) == 0 ? name : NULL;
}

char *local_repo_secret(const struct local *local, const char *name)
{
    char *text = local_read_file(local, file_of(local, name));
    if (text) {
        text[strcspn(text, "\n")] = '\0';
    }
    return text && text[0] ? text : NULL;
}

bool local_repo_has_secret(struct ec_arena *arena, const char *repo_key)
{
    struct local local;
    const char *name = ec_failed(local_open(&local, arena)) ? NULL : name_here(&local, repo_key);
    return name && local_repo_secret(&local, name);
}

enum local_kept local_repo_keep_secret(struct ec_arena *arena, const char *repo_key,
                                       const char *secret)
{
    struct local local;
    const char *name = ec_failed(local_open(&local, arena)) ? NULL : name_here(&local, repo_key);
    if (!name) {
        return LOCAL_ELSEWHERE;
    }
    if (!secret) {
        return unlink(file_of(&local, name)) == 0 || !local_repo_secret(&local, name)
                   ? LOCAL_KEPT
                   : LOCAL_NOT_KEPT;
    }
    return ec_failed(local_write_file(&local, file_of(&local, name),
                                      ec_arena_format(arena, "%s\n", secret), 0600))
               ? LOCAL_NOT_KEPT
               : LOCAL_KEPT;
}
