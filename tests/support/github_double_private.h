/* What the files of the double of GitHub share. */
#pragma once

#include <openssl/evp.h>

#include "base/json.h"
#include "net/fetch.h"
#include "net/http_server.h"
#include "support/github_double.h"

struct github_double {
    struct ec_loop *loop;
    struct ec_http_server *server;
    struct ec_fetcher *fetcher;
    char url[64];
    char fault[600];
    json_t *asked;       /* "GET /path" → how often */
    json_t *repos;       /* full name → {id, hooks, deliveries, collaborators} */
    json_t *tokens;      /* token → {"until": unix ms, "app": owner or null} */
    json_t *redelivered; /* guid → how often */
    json_t *bodies;      /* guid → what was delivered */
    json_t *app_deliveries;
    char app_id[32], app_owner[64], key_file[64];
    EVP_PKEY *app_key;
    int token_life_s;
    int64_t next_id;
    unsigned page_size, limit_count;
    struct github_double_limit limit;
    unsigned sending;
    const char *refused_method;
    bool closed;
};

void double_fault(struct github_double *github, struct ec_request *req, const char *what);
void double_message(struct ec_request *req, int status, const char *text);
bool double_is(const char *value, const char *wanted); /* NULL is nothing */
const char *double_bearer(struct ec_request *req);
const char *double_repo_name(struct ec_request *req); /* "acme/shop" */
/* The repository, for a token that may see it; NULL = answered. */
json_t *double_by_token(struct github_double *github, struct ec_request *req);
/* Answers `per_page` of the list after `at`; links to the rest by that parameter. */
void double_reply_page(struct github_double *github, struct ec_request *req, json_t *list,
                       size_t at, const char *parameter);
/* The App's JWT came with it; false = answered. */
bool double_by_app(struct github_double *github, struct ec_request *req);
void on_installation(void *state, struct ec_request *req);
void on_access_token(void *state, struct ec_request *req);
void on_hooks(void *state, struct ec_request *req);
void on_hook_create(void *state, struct ec_request *req);
void on_hook_change(void *state, struct ec_request *req);
void on_hook_ping(void *state, struct ec_request *req);
void on_deliveries(void *state, struct ec_request *req);
void on_app_deliveries(void *state, struct ec_request *req);
void on_attempt(void *state, struct ec_request *req);
void on_app_attempt(void *state, struct ec_request *req);
