/* Credentials for git itself: a Basic header, which git is given by its environment. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/encode.h"
#include "base/mem.h"
#include "githost/githost_private.h"

static struct ec_secret *basic_header(struct ec_arena *arena, const char *user,
                                      const struct ec_secret *token)
{
    struct ec_span clear = ec_secret_use(token);
    char *pair = ec_arena_format(arena, "%s:%.*s", user, (int)clear.len, clear.ptr);
    char *header =
        ec_arena_format(arena, "Authorization: Basic %s", ec_base64(arena, ec_span_of(pair)));
    return ec_secret_new(ec_span_of(header));
}

static void on_credential(struct api_call *call, struct ec_err err,
                          const struct ec_fetch_result *result)
{
    (void)result;
    ec_githost_auth_fn done = *(ec_githost_auth_fn *)call->op;
    ec_cleanup(ec_secret_freep) struct ec_secret *header = NULL;
    if (!ec_failed(err) && call->secret) {
        header = basic_header(call->arena, call->host->user, call->secret);
    }
    done(call->done_arg, err, header);
}

struct ec_err ec_githost_git_auth(struct ec_githosts *hosts, const char *repo_key,
                                  ec_githost_auth_fn done, void *arg)
{
    struct git_host *host = githost_find(hosts, repo_key);
    struct api_call *call = NULL;
    EC_TRY(api_call_check(hosts, host, repo_key));
    call = api_call_sub(hosts, host, strchr(repo_key, '/') + 1);
    call->auth_only = true;
    call->op = ec_arena_alloc(call->arena, sizeof(done));
    *(ec_githost_auth_fn *)call->op = done;
    call->done_arg = arg;
    api_call_start(call, on_credential);
    return ec_ok();
}

const char *const *ec_githost_git_env(struct ec_arena *arena, const struct ec_githosts *hosts,
                                      const char *repo_key, const struct ec_secret *header,
                                      const char *const *env)
{
    size_t count = 0;
    while (env && env[count]) {
        count++;
    }
    const char **all = ec_arena_alloc(arena, (count + 4) * sizeof(*all));
    if (count > 0) {
        memcpy(all, env, count * sizeof(*all));
    }
    const struct git_host *host = githost_find(hosts, repo_key);
    if (header && host) {
        struct ec_span value = ec_secret_use(header);
        all[count++] = "GIT_CONFIG_COUNT=1";
        all[count++] =
            ec_arena_format(arena, "GIT_CONFIG_KEY_0=http.%s.extraHeader", host->git_base);
        all[count++] = ec_arena_format(arena, "GIT_CONFIG_VALUE_0=%.*s", (int)value.len, value.ptr);
    }
    return all;
}
