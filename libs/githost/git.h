/* How git is run against hosts and repositories of others, as a child process: with no
 * configuration but ours, no prompt, no hook, no protocol that we do not allow, and with its
 * credential in the environment, where other users cannot read it. */
#pragma once

#include "base/arena.h"

struct ec_git_env_spec {
    const char *home;        /* an empty folder of ours */
    const char *protocols;   /* "http:https:ssh" */
    const char *const *more; /* NULL-ended, or NULL */
};

/* For ec_process_spec.env; all texts in the arena. ec_githost_git_env adds a credential. */
const char **ec_git_env(struct ec_arena *arena, const struct ec_git_env_spec *spec);
/* Wipes the credential from it, once the process has been started. */
void ec_git_env_wipe(const char *const *env);

/* "git --git-dir=G -c ..." and then the arguments (NULL-ended); git_dir NULL = of no repository. */
const char *const *ec_git_argv(struct ec_arena *arena, const char *git_dir,
                               const char *const *args);
