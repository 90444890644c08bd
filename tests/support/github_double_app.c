/* The App's side of the double: its JWT, as GitHub checks it, and its installation's tokens. */
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "support/github_double_private.h"

#define INSTALLATION 4711

static bool jwt_signed(struct github_double *github, const char *token, size_t len,
                       struct ec_span signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good =
        EVP_DigestVerifyInit_ex(ctx, NULL, "SHA256", NULL, NULL, github->app_key, NULL) == 1 &&
        EVP_DigestVerify(ctx, (const unsigned char *)signature.ptr, signature.len,
                         (const unsigned char *)token, len) == 1;
    EVP_MD_CTX_free(ctx);
    return good;
}

/* NULL = a good JWT of the App; else what is wrong with it. */
static const char *jwt_fault(struct github_double *github, struct ec_arena *arena,
                             const char *token)
{
    const char *first = strchr(token, '.'), *last = strrchr(token, '.');
    struct ec_span head, claims, signature;
    if (!github->app_key || !first || last == first ||
        !ec_unbase64(arena, (struct ec_span){token, (size_t)(first - token)}, &head) ||
        !ec_unbase64(arena, (struct ec_span){first + 1, (size_t)(last - first - 1)}, &claims) ||
        !ec_unbase64(arena, ec_span_of(last + 1), &signature)) {
        return "no JWT";
    }
    ec_cleanup(ec_json_freep) json_t *header = NULL;
    ec_cleanup(ec_json_freep) json_t *body = NULL;
    if (ec_failed(ec_json_parse(arena, head, &header)) ||
        ec_failed(ec_json_parse(arena, claims, &body))) {
        return "the JWT's parts are no JSON";
    }
    int64_t now = ec_unix_ms() / 1000;
    int64_t issued = ec_json_int(body, "iat", 0), until = ec_json_int(body, "exp", 0);
    if (strcmp(ec_json_text(header, "alg"), "RS256") != 0 ||
        !jwt_signed(github, token, (size_t)(last - token), signature)) {
        return "the JWT could not be decoded";
    }
    if (strcmp(ec_json_text(body, "iss"), github->app_id) != 0) {
        return "'Issuer' claim is not the App";
    }
    if (issued > now || issued < now - 600) {
        return "'Issued at' claim ('iat') must be a time in the past";
    }
    if (until <= now || until > now + 600) {
        return "'Expiration time' claim ('exp') is too far in the future, or past";
    }
    return NULL;
}

/* False = answered. */
bool double_by_app(struct github_double *github, struct ec_request *req)
{
    const char *why = jwt_fault(github, ec_request_arena(req), double_bearer(req));
    if (why) {
        double_fault(github, req, why);
        double_message(req, 401, why);
    }
    return !why;
}

void on_installation(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    if (!double_by_app(github, req)) {
        return;
    }
    if (strcmp(ec_request_param(req, "owner"), github->app_owner) != 0 ||
        !json_object_get(github->repos, double_repo_name(req))) {
        double_message(req, 404, "Not Found");
        return;
    }
    json_t *body = json_pack("{s:i, s:s, s:{s:s}}", "id", INSTALLATION, "app_id", github->app_id,
                             "account", "login", github->app_owner);
    ec_reply_json(req, 200, body);
    json_decref(body);
}

void on_access_token(void *state, struct ec_request *req)
{
    struct github_double *github = state;
    if (!double_by_app(github, req)) {
        return;
    }
    if (atoi(ec_request_param(req, "id")) != INSTALLATION) {
        double_fault(github, req, "no such installation");
        double_message(req, 404, "Not Found");
        return;
    }
    char token[40], until[EC_RFC3339_SIZE];
    snprintf(token, sizeof(token), "ghs_%032lld", (long long)++github->next_id);
    int64_t until_ms = ec_unix_ms() + (int64_t)github->token_life_s * 1000;
    ec_rfc3339(until_ms, until);
    json_object_set_new(
        github->tokens, token,
        json_pack("{s:I, s:s}", "until", (json_int_t)until_ms, "app", github->app_owner));
    json_t *body = json_pack("{s:s, s:s, s:{s:s}, s:s}", "token", token, "expires_at", until,
                             "permissions", "contents", "read", "repository_selection", "all");
    ec_reply_json(req, 201, body);
    json_decref(body);
}

const char *github_double_app(struct github_double *github, const char *app_id, const char *owner,
                              int token_life_s)
{
    snprintf(github->app_id, sizeof(github->app_id), "%s", app_id);
    snprintf(github->app_owner, sizeof(github->app_owner), "%s", owner);
    github->token_life_s = token_life_s;
    github->app_key = EVP_RSA_gen(2048);
    snprintf(github->key_file, sizeof(github->key_file), "/tmp/github-app-XXXXXX");
    int fd = mkstemp(github->key_file);
    FILE *file = fdopen(fd, "w");
    /* As GitHub gives it: PKCS#1. */
    BIO *bio = BIO_new_fp(file, BIO_NOCLOSE);
    PEM_write_bio_PrivateKey_traditional(bio, github->app_key, NULL, NULL, 0, NULL, NULL);
    BIO_free(bio);
    fclose(file);
    return github->key_file;
}
