/* The environment and the options of every git we start. */
#include "githost/git.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define WORDS_MAX 64
#define AUTH "GIT_CONFIG_VALUE_0="

static const char *const fixed[] = {
    "LANG=C.UTF-8",
    "GIT_CONFIG_GLOBAL=/dev/null",
    "GIT_CONFIG_SYSTEM=/dev/null",
    "GIT_CONFIG_NOSYSTEM=1",
    "GIT_TERMINAL_PROMPT=0",
    "GIT_ASKPASS=true",
    "GIT_SSH_COMMAND=ssh -oBatchMode=yes",
    "GIT_LFS_SKIP_SMUDGE=1",
};

/* How to reach the network. */
static const char *const passed[] = {
    "PATH",        "HTTP_PROXY", "HTTPS_PROXY",   "NO_PROXY",     "http_proxy",
    "https_proxy", "no_proxy",   "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
};

const char **ec_git_env(struct ec_arena *arena, const struct ec_git_env_spec *spec)
{
    const char **env = ec_arena_alloc(arena, WORDS_MAX * sizeof *env);
    size_t count = 0;
    env[count++] = ec_arena_format(arena, "HOME=%s", spec->home);
    env[count++] = ec_arena_format(arena, "GIT_ALLOW_PROTOCOL=%s", spec->protocols);
    for (size_t i = 0; i < EC_LEN(fixed); i++) {
        env[count++] = fixed[i];
    }
    for (size_t i = 0; i < EC_LEN(passed); i++) {
        if (getenv(passed[i])) {
            env[count++] = ec_arena_format(arena, "%s=%s", passed[i], getenv(passed[i]));
        }
    }
    for (const char *const *more = spec->more; more && *more && count + 1 < WORDS_MAX; more++) {
        env[count++] = *more;
    }
    return env;
}

void ec_git_env_wipe(const char *const *env)
{
    for (; *env; env++) {
        if (strncmp(*env, AUTH, strlen(AUTH)) == 0) {
            char *text = (char *)(uintptr_t)*env; /* ec_githost_git_env made it, in the arena */
            explicit_bzero(text + strlen(AUTH), strlen(text) - strlen(AUTH));
        }
    }
}

const char *const *ec_git_argv(struct ec_arena *arena, const char *git_dir, const char *const *args)
{
    static const char *const usual[] = {
        "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0",
        "-c", "maintenance.auto=false",   "-c", "advice.detachedHead=false",
        "-c", "core.quotePath=false",     "-c", "http.lowSpeedLimit=1000",
        "-c", "http.lowSpeedTime=30",     "-c", "i18n.logOutputEncoding=UTF-8",
        "-c", "protocol.version=2",
    };
    const char **argv = ec_arena_alloc(arena, WORDS_MAX * sizeof *argv);
    size_t count = 0;
    argv[count++] = "git";
    if (git_dir) {
        argv[count++] = ec_arena_format(arena, "--git-dir=%s", git_dir);
    }
    for (size_t i = 0; i < EC_LEN(usual); i++) {
        argv[count++] = usual[i];
    }
    for (; *args && count + 1 < WORDS_MAX; args++) {
        argv[count++] = *args;
    }
    return argv;
}
