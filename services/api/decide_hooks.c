/* Of servers that are not listed with a credential only the name says what they are. */
#include "decide_hooks.h"

#include <string.h>

#include "base/mem.h"

static const char *const github_words[] = {
    "Pushes",   "Pull requests", "Branch or tag creation", "Branch or tag deletion", "Repositories",
    "Releases", "Workflow runs", "Check suites",           "Registry packages",      NULL};
static const char *const gitlab_words[] = {"Push events",          "Tag push events",
                                           "Merge request events", "Pipeline events",
                                           "Releases events",      NULL};
static const char *const gitea_words[] = {"Push",
                                          "Create",
                                          "Delete",
                                          "Pull Request",
                                          "Pull Request Synchronized",
                                          "Pull Request Labeled",
                                          "Repository",
                                          "Release",
                                          NULL};
static const char *const bitbucket_words[] = {"Repository: Push", "Repository: Updated",
                                              "Pull request: Created, Updated, Merged, Declined",
                                              "Build status: Created, Updated", NULL};
static const char *const any_words[] = {"push", NULL};

static const struct row {
    const char *server; /* that is always of this kind */
    enum ec_githost_kind kind;
    struct hook_page page; /* page: what follows https://<repository key> */
} rows[] = {
    {"github.com",
     EC_GITHOST_GITHUB,
     {"github", "/v1/webhooks/github", "/settings/hooks/new", github_words}},
    {"gitlab.com", EC_GITHOST_GITLAB, {"gitlab", "/v1/webhooks/gitlab", "/-/hooks", gitlab_words}},
    {"codeberg.org",
     EC_GITHOST_GITEA,
     {"gitea", "/v1/webhooks/gitea", "/settings/hooks/gitea/new", gitea_words}},
    {"bitbucket.org",
     EC_GITHOST_BITBUCKET,
     {"bitbucket", "/v1/webhooks/bitbucket", "/admin/webhooks", bitbucket_words}},
};

struct hook_page decide_hook_page(struct ec_arena *arena, enum ec_githost_kind kind,
                                  const char *repo_key)
{
    size_t len = strcspn(repo_key, "/");
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        bool named = strlen(rows[i].server) == len && memcmp(rows[i].server, repo_key, len) == 0;
        if (named || (kind != EC_GITHOST_GIT && rows[i].kind == kind)) {
            struct hook_page page = rows[i].page;
            page.page = ec_arena_format(arena, "https://%s%s", repo_key, page.page);
            return page;
        }
    }
    return (struct hook_page){"", "/v1/webhooks/generic", "", any_words};
}

const struct ec_githost_hook *decide_our_hook(const struct ec_githost_hook *list, size_t count,
                                              const char *url, const char *hook_id)
{
    const struct ec_githost_hook *found = ec_githost_hook_find(list, count, url);
    for (size_t i = 0; i < count && !found && hook_id[0]; i++) {
        found = strcmp(list[i].id, hook_id) == 0 ? &list[i] : NULL;
    }
    return found;
}
