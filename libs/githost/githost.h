/* Calls back to git hosts, with the credentials for it: GitHub (an App or a token), GitLab, Gitea
 * and Forgejo, and Bitbucket for commit statuses. Which servers, and how to reach them: the file
 * ENCLII_GIT_HOSTS_FILE, and for github.com alone ENCLII_GITHUB_TOKEN or ENCLII_GITHUB_APP_ID with
 * ENCLII_GITHUB_APP_KEY_FILE.
 *
 *   {"hosts": [{"server": "github.com", "kind": "github", "api": "https://api.github.com",
 *               "app_id": "12345", "app_key_file": "/run/secrets/app.pem"},
 *              {"server": "git.example.org:3000", "kind": "gitea", "token_file": "..."},
 *              {"server": "code.example.org", "kind": "git", "user": "deploy",
 *               "token_file": "..."}]}
 *
 * A server is what a repository key begins with ("github.com/acme/shop"). "api" may be left out:
 * then it is where that kind has it. "plaintext": true allows http:// to another machine, for git
 * and the API. Of a server that is not listed only the git protocol is spoken, without credentials.
 *
 * Every call has a deadline and calls back exactly once, later, unless it returned an error; texts
 * of errors and results are borrowed until the callback returns. Limits of the host (x-ratelimit-*,
 * retry-after) are kept per server: while one is used up, calls fail at once with RETRY and
 * ec_githost_wait_ms says for how long. At most 256 calls are under way. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/settings.h"
#include "net/fetch.h"
#include "net/loop.h"

enum ec_githost_kind {
    EC_GITHOST_GIT, /* not listed: the git protocol only */
    EC_GITHOST_GITHUB,
    EC_GITHOST_GITLAB,
    EC_GITHOST_GITEA,     /* and Forgejo */
    EC_GITHOST_BITBUCKET, /* the cloud; it is told commit statuses, and asked for nothing */
};

/* What a service that calls hosts reads from its settings; EC_GITHOST_SETTINGS makes the rows. */
struct ec_githost_settings {
    const char *hosts_file;
    struct ec_secret *github_token;
    const char *github_app_id; /* App id or client id */
    const char *github_app_key_file;
    const char *github_api_url; /* of github.com; "" or NULL: https://api.github.com */
};

/* Rows for a settings table: `member` of `type` is a struct ec_githost_settings. */
#define EC_GITHOST_SETTINGS(type, member)                                                          \
    {"ENCLII_GIT_HOSTS_FILE",                                                                      \
     EC_SETTING_PATH,                                                                              \
     offsetof(type, member.hosts_file),                                                            \
     "",                                                                                           \
     "JSON file of git hosts that are called back, with their credentials (docs: webhooks).",      \
     "/etc/enclii/git-hosts.json",                                                                 \
     0,                                                                                            \
     0},                                                                                           \
        {"ENCLII_GITHUB_TOKEN",                                                                    \
         EC_SETTING_SECRET,                                                                        \
         offsetof(type, member.github_token),                                                      \
         "",                                                                                       \
         "Token for github.com: private repositories, webhooks, commit statuses.",                 \
         "ghp_0123...",                                                                            \
         0,                                                                                        \
         0},                                                                                       \
        {"ENCLII_GITHUB_APP_ID",                                                                   \
         EC_SETTING_TEXT,                                                                          \
         offsetof(type, member.github_app_id),                                                     \
         "",                                                                                       \
         "Id or client id of a GitHub App, instead of a token.",                                   \
         "123456",                                                                                 \
         0,                                                                                        \
         0},                                                                                       \
        {"ENCLII_GITHUB_APP_KEY_FILE",                                                             \
         EC_SETTING_PATH,                                                                          \
         offsetof(type, member.github_app_key_file),                                               \
         "",                                                                                       \
         "PEM file of the GitHub App's private key.",                                              \
         "/run/secrets/github-app.pem",                                                            \
         0,                                                                                        \
         0},                                                                                       \
    {                                                                                              \
        "ENCLII_GITHUB_API_URL", EC_SETTING_URL, offsetof(type, member.github_api_url),            \
            "https://api.github.com", "Base of github.com's API, or of what stands in for it.",    \
            "https://api.github.com", 0, 0                                                         \
    }

/* One per process. Calls may still come when it is closed and its pointer NULL: there are no hosts
 * then, and what cannot be done ends with REJECT "cancelled". */
struct ec_githosts;

/* Reads the file and the keys; REJECT says which line or member is wrong (its text lives on). For
 * start-up. */
EC_RESULT ec_githosts_open(struct ec_loop *loop, struct ec_fetcher *fetcher,
                           const struct ec_githost_settings *settings,
                           struct ec_githosts **ret_hosts);
/* Before the fetcher closes; calls under way end with REJECT "cancelled". */
void ec_githosts_close(struct ec_githosts *hosts); /* accepts NULL */

enum ec_githost_kind ec_githost_kind(const struct ec_githosts *hosts, const char *repo_key);
/* "github", as in the file, and as `webhook` calls the host. */
const char *ec_githost_kind_name(enum ec_githost_kind kind);
/* True when its API can be called for more than statuses: it is listed, with a credential. */
bool ec_githost_has_api(const struct ec_githosts *hosts, const char *repo_key);
/* True when it is called as a GitHub App, which has deliveries of its own (hook_id "app"). */
bool ec_githost_has_app(const struct ec_githosts *hosts, const char *repo_key);
/* True when that holds for any server of the kind. */
bool ec_githosts_any_api(const struct ec_githosts *hosts, enum ec_githost_kind kind);
/* 0 = a call may go out now. */
int64_t ec_githost_wait_ms(const struct ec_githosts *hosts, const char *repo_key);

/* ---- for git itself ---- */
/* `header`: "Authorization: Basic ..." for git's http.extraHeader, by environment
 * (GIT_CONFIG_COUNT...), never by argument; NULL = none is needed. Borrowed until the callback
 * returns. */
typedef void (*ec_githost_auth_fn)(void *arg, struct ec_err err, const struct ec_secret *header);
EC_RESULT ec_githost_git_auth(struct ec_githosts *hosts, const char *repo_key,
                              ec_githost_auth_fn done, void *arg);
/* What that header makes of git's environment: `env` (of ec_git_env) and the variables that let git
 * send it to this server only, and never unencrypted to another machine. header NULL: `env`. The
 * arena holds the credential then, until ec_git_env_wipe. */
const char *const *ec_githost_git_env(struct ec_arena *arena, const struct ec_githosts *hosts,
                                      const char *repo_key, const struct ec_secret *header,
                                      const char *const *env);

/* ---- where a repository is ---- */
struct ec_githost_repo {
    const char *id; /* the host's own, under every name */
    const char *full_name, *clone_url, *default_branch;
    bool archived;
};
typedef void (*ec_githost_repo_fn)(void *arg, struct ec_err err,
                                   const struct ec_githost_repo *repo);
/* The repository of that id, wherever it is now. `repo_key`, which it had, says whom to ask and
 * with which credential. REJECT 404: it is gone, or the credential may not see it. */
EC_RESULT ec_githost_repo(struct ec_githosts *hosts, const char *repo_key, const char *host_repo_id,
                          ec_githost_repo_fn done, void *arg);

/* ---- what the host delivered ---- */
struct ec_githost_delivery {
    const char *id;   /* the host's number of this attempt */
    const char *guid; /* what came in X-GitHub-Delivery: the same for all attempts */
    const char *event, *action;
    const char *status; /* as the host says it: "OK" */
    int status_code;    /* of our answer; 0 = none */
    bool redelivery;
    int64_t delivered_unix_ms;
};
struct ec_githost_deliveries {
    const struct ec_githost_delivery *list; /* newest first */
    size_t count;
    bool unchanged;     /* the same as at the etag that was given: the list is empty */
    const char *etag;   /* for the next time; NULL = none */
    const char *cursor; /* of the next page; NULL = this was the last */
};
struct ec_githost_deliveries_query {
    const char *repo_key, *hook_id; /* hook_id "app": the App's own deliveries */
    const char *etag;               /* or NULL; for the first page only */
    const char *cursor;             /* or NULL: the first page */
};
typedef void (*ec_githost_deliveries_fn)(void *arg, struct ec_err err,
                                         const struct ec_githost_deliveries *page);
EC_RESULT ec_githost_deliveries(struct ec_githosts *hosts,
                                const struct ec_githost_deliveries_query *query,
                                ec_githost_deliveries_fn done, void *arg);
typedef void (*ec_githost_done_fn)(void *arg, struct ec_err err);
/* Asks the host to deliver that attempt again, with the same guid. */
EC_RESULT ec_githost_redeliver(struct ec_githosts *hosts, const char *repo_key, const char *hook_id,
                               const char *delivery_id, ec_githost_done_fn done, void *arg);

/* ---- webhooks there ---- */
struct ec_githost_hook {
    const char *id, *url;
    const char *content_type;  /* "json" is what we want */
    const char *const *events; /* the host's names, NULL-ended */
    bool active;
    bool insecure;           /* it delivers without checking our certificate */
    const char *last_status; /* of its last delivery, as the host says it; "" = not told */
    int last_code;           /* 0 = none, or not told */
};
/* All webhooks of the repository, at most 1000; those of others have foreign URLs. */
typedef void (*ec_githost_hooks_fn)(void *arg, struct ec_err err,
                                    const struct ec_githost_hook *list, size_t count);
EC_RESULT ec_githost_hooks(struct ec_githosts *hosts, const char *repo_key,
                           ec_githost_hooks_fn done, void *arg);
/* Makes a webhook, or makes an existing one (hook_id) as it should be: JSON, our secret, the events
 * we act on, active, TLS checked. */
struct ec_githost_hook_spec {
    const char *repo_key;
    const char *hook_id; /* NULL: a new one */
    const char *url;
    const struct ec_secret *secret; /* borrowed until the call returns */
};
typedef void (*ec_githost_hook_fn)(void *arg, struct ec_err err, const char *hook_id);
EC_RESULT ec_githost_hook_put(struct ec_githosts *hosts, const struct ec_githost_hook_spec *spec,
                              ec_githost_hook_fn done, void *arg);
/* Lets the host deliver something without effect. REJECT at GitLab, whose tests are real pushes. */
bool ec_githost_can_ping(enum ec_githost_kind kind);
EC_RESULT ec_githost_hook_ping(struct ec_githosts *hosts, const char *repo_key, const char *hook_id,
                               ec_githost_done_fn done, void *arg);
/* Pure: the events we act on, NULL-ended, by the host's names; the webhook among them that delivers
 * to this URL, NULL = none; what is wrong with it in one sentence, NULL = nothing; where our
 * service `webhook` takes deliveries of this host, below its own URL. */
const char *const *ec_githost_hook_events(enum ec_githost_kind kind);
const struct ec_githost_hook *ec_githost_hook_find(const struct ec_githost_hook *list, size_t count,
                                                   const char *url);
const char *ec_githost_hook_fault(struct ec_arena *arena, enum ec_githost_kind kind,
                                  const struct ec_githost_hook *hook);
const char *ec_githost_hook_path(enum ec_githost_kind kind);

/* ---- what became of a commit ---- */
enum ec_githost_state {
    EC_GITHOST_PENDING,
    EC_GITHOST_SUCCESS,
    EC_GITHOST_FAILURE,
    EC_GITHOST_ERROR,
    EC_GITHOST_CANCELLED, /* an error to hosts that know no such state */
    EC_GITHOST_STATES,
};
struct ec_githost_status {
    const char *sha;
    const char *ref; /* where the commit is, "refs/heads/main"; "" = not known */
    enum ec_githost_state state;
    const char *context;     /* the line of checks it is in: the last status of a line counts */
    const char *description; /* its first line, cut at 140 bytes */
    const char *target_url;  /* "" = none */
};
/* Pure: "pending", "success", "failure", "error", "cancelled"; anything else is an error. */
enum ec_githost_state ec_githost_state_of(const char *name);
bool ec_githost_takes_statuses(enum ec_githost_kind kind);
/* True when it takes them, and is listed with a credential. */
bool ec_githost_hears_statuses(const struct ec_githosts *hosts, const char *repo_key);
/* Pure: as the host's API takes it; `ref` as that host names it, or NULL. */
char *ec_githost_status_body(struct ec_arena *arena, enum ec_githost_kind kind,
                             const struct ec_githost_status *status, const char *ref);
/* The status is borrowed until the call returns. An answer that refuses it is in err.sys. */
EC_RESULT ec_githost_commit_status(struct ec_githosts *hosts, const char *repo_key,
                                   const struct ec_githost_status *status, ec_githost_done_fn done,
                                   void *arg);

/* ---- people ---- */
/* May that user push to the repository? For approvals. */
typedef void (*ec_githost_may_fn)(void *arg, struct ec_err err, bool may_push);
EC_RESULT ec_githost_may_push(struct ec_githosts *hosts, const char *repo_key, const char *user,
                              ec_githost_may_fn done, void *arg);
