/* What stands in for GitHub, which no test can reach: the part of its REST API that libs/githost
 * speaks, on the test's loop, as docs.github.com has it. Strict: whatever the real one would not
 * take is answered as it would answer, and kept as a fault, so that the test sees it. It really
 * delivers: pings and redeliveries go, signed, to the webhook's URL.
 *
 *   struct github_double *github = github_double_open(loop);
 *   github_double_token(github, "ghp_test");                      // and/or github_double_app
 *   github_double_repo(github, "acme/shop");
 *   ... api at github_double_url(github) ...
 *   assert_null(github_double_fault(github));
 *   github_double_close(github);
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/loop.h"

struct github_double;

struct github_double *github_double_open(struct ec_loop *loop);
void github_double_close(struct github_double *github);            /* turns the loop till closed */
const char *github_double_url(const struct github_double *github); /* "http://127.0.0.1:1234" */
/* The first request that the real one would not have taken; NULL = none. */
const char *github_double_fault(const struct github_double *github);
/* How often that was asked, answers of any kind: "GET /repos/acme/shop/hooks". */
unsigned github_double_asked(const struct github_double *github, const char *what);

/* ---- who may ---- */
void github_double_token(struct github_double *github, const char *token); /* a personal one */
/* An App with that id, installed for the repositories of `owner`. Gives the path of its private
 * key, a file that lives as long as the double. Its tokens live for token_life_s. */
const char *github_double_app(struct github_double *github, const char *app_id, const char *owner,
                              int token_life_s);
/* Tokens given out so far work no more. */
void github_double_revoke(struct github_double *github);

/* ---- what there is ---- */
void github_double_repo(struct github_double *github, const char *full_name);
int64_t github_double_repo_id(const struct github_double *github, const char *full_name);
/* The repository has another name from now on, and is cloned from there. The old name is free. */
void github_double_rename(struct github_double *github, const char *full_name, const char *to,
                          const char *clone_url);
void github_double_collaborator(struct github_double *github, const char *full_name,
                                const char *user, const char *permission);
/* A webhook made by hand, or by somebody else. Gives its id. */
int64_t github_double_hook(struct github_double *github, const char *full_name, json_t *hook);
/* All of the repository's webhooks, with their secrets; borrowed. */
const json_t *github_double_hooks(const struct github_double *github, const char *full_name);

/* A delivery of a webhook (hook 0: the App's own) as its list shows it; nothing is sent now. When
 * it is asked for again, `body` goes to the webhook's URL, if it is not NULL. */
struct github_double_delivery {
    const char *guid, *event, *action;
    int status_code; /* 0 = the host could not connect */
    bool redelivery;
    int64_t delivered_unix_ms;
    const char *body;
};
/* Gives the id of the attempt. */
int64_t github_double_deliver(struct github_double *github, const char *full_name, int64_t hook_id,
                              const struct github_double_delivery *delivery);
/* How often that guid was asked for again. */
unsigned github_double_redelivered(const struct github_double *github, const char *guid);

/* ---- trouble ---- */
/* The next `count` requests are answered so; headers that are NULL are left out. */
struct github_double_limit {
    int status; /* 0 = the request's own, with these headers */
    const char *retry_after, *remaining, *reset, *message;
};
void github_double_limit(struct github_double *github, unsigned count,
                         const struct github_double_limit *limit);
/* Requests of that method are answered with 403; NULL = none. */
void github_double_refuse(struct github_double *github, const char *method);
void github_double_page_size(struct github_double *github, unsigned most); /* of a page; 100 */
