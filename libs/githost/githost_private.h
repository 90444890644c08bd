/* Private to libs/githost: one call to a host's API, and who we are there. */
#pragma once

#include "base/json.h"
#include "base/map.h"
#include "githost/githost.h"
#include "trust/rsa.h"

#define CALLS_MAX 256
#define CALL_DEADLINE_MS 10000
#define ANSWER_MAX_BYTES (4u << 20) /* GitLab's lists of deliveries carry whole payloads */
#define CALL_ARENA_BYTES (8u << 20)
#define TEXT_MAX_BYTES 512 /* of one text of an answer */
#define ITEMS_MAX 250      /* of one page */
#define PAGES_MAX 10       /* of a list that is read whole */

struct git_host {
    const char *server; /* "github.com" */
    enum ec_githost_kind kind;
    const char *api;         /* without a slash at the end; "" = none */
    const char *git_base;    /* "https://github.com/": where git may send the credential */
    const char *user;        /* of the credential that git sends */
    struct ec_secret *token; /* NULL: an App, or nothing */
    const char *app_id;      /* "" = no App */
    struct ec_rsa *app_key;
    struct ec_map *grants; /* of the App, by name: struct grant (app.c) */
    int64_t blocked_until_mono_ms;
    unsigned strikes; /* refusals for the limit in a row that did not say how long it lasts */
};

struct ec_githosts {
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;
    struct ec_arena *arena;
    struct ec_map *hosts;   /* by server: struct git_host */
    struct api_call *first; /* under way */
    unsigned calls;
    bool closed; /* to be freed with its last call */
};

/* ---- hosts.c ---- */
struct git_host *githost_find(const struct ec_githosts *hosts, const char *repo_key);
void githosts_free_if_over(struct ec_githosts *hosts);

/* ---- call.c ---- */
struct api_call;
/* result is NULL when err says that no answer came; it may be there with an error too. */
typedef void (*api_answered_fn)(struct api_call *call, struct ec_err err,
                                const struct ec_fetch_result *result);
struct api_call {
    struct ec_githosts *hosts;
    struct git_host *host; /* NULL: not listed (git_auth of it) */
    struct ec_arena *arena;
    struct api_call *next, *prev;
    const char *repo; /* "acme/shop" */
    /* what is asked */
    const char *method;
    const char *path; /* after the API's base, with its query */
    const char *etag; /* or NULL */
    struct ec_span body;
    bool as_app;      /* with the App's JWT, not a token */
    bool auth_only;   /* ends when the credential is there: call->secret */
    bool auth_forgot; /* a token that the host refused was thrown away once */
    struct ec_secret *secret;
    struct ec_fetch *fetch;
    struct api_call *next_waiting; /* for the same credential (app.c) */
    api_answered_fn answered;
    void *op;       /* of the caller, in the arena */
    void *done_arg; /* of the caller's caller */
};
/* A call about that repository; RETRY while the host's limit is used up, REJECT without an API. The
 * caller fills what is asked, then starts it; a call that was made must be started. */
EC_RESULT api_call_new(struct ec_githosts *hosts, const char *repo_key, struct api_call **ret_call);
/* Is there room for one more, and is the repository's name one that this host can have? */
EC_RESULT api_call_check(const struct ec_githosts *hosts, const struct git_host *host,
                         const char *repo_key);
/* The same for a host whose API takes at least statuses. */
EC_RESULT api_call_make(struct ec_githosts *hosts, const char *repo_key,
                        struct api_call **ret_call);
/* The same without the checks, for what a call needs itself. `host` may be NULL. */
struct api_call *api_call_sub(struct ec_githosts *hosts, struct git_host *host, const char *repo);
void api_call_start(struct api_call *call, api_answered_fn answered);
/* With the credential, or why there is none. */
void api_call_go_on(struct api_call *call, struct ec_err err);
/* The answer's body as JSON in call->arena; REJECT when it is none. */
EC_RESULT api_call_json(struct api_call *call, const struct ec_fetch_result *result,
                        json_t **ret_root);
/* "/repos/acme/shop" or "/projects/acme%2Fshop". */
const char *api_repo_path(const struct api_call *call);

/* ---- app.c ---- */
/* Gives call->secret the installation's token, now or later: ends with api_call_go_on. */
void app_authorize(struct api_call *call);
void app_forget_token(struct api_call *call);
void app_forget_installation(struct api_call *call);
void app_free_grants(struct git_host *host);
/* The App's proof of itself, valid for 9 minutes. */
EC_RESULT app_jwt(struct ec_arena *arena, const struct ec_rsa *key, const char *app_id,
                  int64_t now_unix_s, struct ec_secret **ret_jwt);

/* ---- decide_limit.c: pure ---- */
struct limit_facts {
    int status;
    const char *retry_after, *remaining, *reset; /* headers as sent, or NULL */
    bool says_limit;                             /* the answer's text names a rate limit */
    int64_t now_unix_s;
    unsigned strikes;
};
struct limit_verdict {
    bool refused;    /* this call was refused because of the limit */
    int64_t wait_ms; /* until the next call may go out; 0 = at once */
};
struct limit_verdict decide_limit(const struct limit_facts *facts);

/* ---- decode.c: outside bytes; pure ---- */
/* The value of that query parameter in the Link header's rel="next"; NULL = the last page. */
const char *decode_next(struct ec_arena *arena, const char *link, const char *parameter);
/* Both skip what is no delivery; REJECT when it is no list. */
EC_RESULT decode_github_deliveries(struct ec_arena *arena, const json_t *root,
                                   struct ec_githost_deliveries *ret_page);
EC_RESULT decode_gitlab_deliveries(struct ec_arena *arena, const json_t *root,
                                   struct ec_githost_deliveries *ret_page);
/* REJECT when id, name or clone URL is missing. */
EC_RESULT decode_repo(struct ec_arena *arena, enum ec_githost_kind kind, const json_t *root,
                      struct ec_githost_repo *ret_repo);
/* Adds what the list has to `hooks`, at most HOOKS_MAX in all. */
#define HOOKS_MAX 1000
struct hook_list {
    struct ec_githost_hook *items; /* room for HOOKS_MAX */
    size_t count;
};
EC_RESULT decode_hooks(struct ec_arena *arena, enum ec_githost_kind kind, const json_t *root,
                       struct hook_list *hooks);
/* GitLab's level of that user in a list of members; 0 = not among them. */
int64_t decode_gitlab_level(const json_t *root, const char *user);
/* An installation's token and for how long it may be used. */
EC_RESULT decode_app_token(const json_t *root, int64_t now_unix_ms, struct ec_secret **ret_token,
                           int64_t *ret_life_ms);
/* A number or a text of letters, digits and "-_", as text: what is put into paths. "" = neither. */
const char *decode_id(struct ec_arena *arena, const json_t *value);
const char *decode_text(struct ec_arena *arena, const json_t *root, const char *path);
bool good_id(const char *id);    /* what may be put into a path */
int decode_status(int64_t code); /* of an HTTP answer; 0 = it is none */
