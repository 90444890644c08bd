/* Parses authentication challenges and Docker config files. A challenge's quoted values hold commas
 * and several challenges may share one header, so the header is tokenised, not split. */
#include "oci/auth.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"

#define HOSTS_MAX 256
#define CHALLENGE_MAX_BYTES 4096
#define TOKEN_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

struct ec_docker_config {
    struct ec_map *secrets; /* host -> struct ec_secret */
};

/* ---- challenges ---- */

static const char *skip(const char *at)
{
    return at + strspn(at, " \t,");
}

/* From the quote at `at` to the one that ends it. */
static size_t quoted_size(const char *at)
{
    size_t size = 1;
    while (at[size] && at[size] != '"') {
        size += at[size] == '\\' && at[size + 1] ? 2 : 1;
    }
    return size;
}

/* A token or a quoted string at `at`; NULL when there is neither. */
static const char *read_value(struct ec_arena *arena, const char *at, const char **ret_value)
{
    if (*at != '"') {
        size_t len = strspn(at, TOKEN_CHARS "/:=?");
        *ret_value = ec_arena_text(arena, (struct ec_span){at, len});
        return len > 0 ? at + len : NULL;
    }
    char *value = ec_arena_alloc(arena, quoted_size(at));
    size_t len = 0;
    for (at++; *at && *at != '"'; at++) {
        if (*at == '\\' && at[1]) {
            at++;
        }
        value[len++] = *at;
    }
    *ret_value = value;
    return *at == '"' ? at + 1 : NULL;
}

static void keep_param(struct ec_challenge *challenge, struct ec_span name, const char *value)
{
    const struct {
        const char *name;
        const char **slot;
    } known[] = {{"realm", &challenge->realm},
                 {"service", &challenge->service},
                 {"scope", &challenge->scope},
                 {"error", &challenge->error}};
    for (size_t i = 0; i < EC_LEN(known); i++) {
        if (strlen(known[i].name) == name.len &&
            strncasecmp(known[i].name, name.ptr, name.len) == 0) {
            *known[i].slot = value;
        }
    }
}

/* Reads "name=value" pairs until the next scheme or the end. NULL when malformed. */
static const char *read_params(struct ec_arena *arena, const char *at,
                               struct ec_challenge *challenge)
{
    for (;;) {
        at = skip(at);
        size_t len = strspn(at, TOKEN_CHARS);
        const char *after = at + len + strspn(at + len, " \t");
        if (len == 0 || *after != '=') {
            return at;
        }
        struct ec_span name = {at, len};
        const char *value = NULL;
        after++;
        at = read_value(arena, after + strspn(after, " \t"), &value);
        if (!at) {
            return NULL;
        }
        keep_param(challenge, name, value);
    }
}

bool ec_challenge_parse(struct ec_arena *arena, const char *header, struct ec_challenge *ret)
{
    bool found = false;
    const char *at = strlen(header) <= CHALLENGE_MAX_BYTES ? skip(header) : "";
    while (at && *at) {
        size_t len = strspn(at, TOKEN_CHARS);
        if (len == 0) {
            break;
        }
        struct ec_challenge challenge = {false, "", "", "", ""};
        challenge.bearer = len == 6 && strncasecmp(at, "Bearer", 6) == 0;
        bool basic = len == 5 && strncasecmp(at, "Basic", 5) == 0;
        at = read_params(arena, at + len, &challenge);
        bool usable = at && (basic || (challenge.bearer && challenge.realm[0]));
        if (usable && (!found || challenge.bearer)) {
            *ret = challenge;
            found = true;
        }
    }
    return found;
}

char *ec_token_url(struct ec_arena *arena, const struct ec_challenge *challenge, const char *scope)
{
    char *url = ec_arena_format(arena, "%s%sscope=%s", challenge->realm,
                                strchr(challenge->realm, '?') ? "&" : "?",
                                ec_percent(arena, ec_span_of(scope)));
    if (!challenge->service[0]) {
        return url;
    }
    return ec_arena_format(arena, "%s&service=%s", url,
                           ec_percent(arena, ec_span_of(challenge->service)));
}

/* ---- Docker config ---- */

static void free_secret(void *secret)
{
    ec_secret_free(secret);
}

void ec_docker_config_free(struct ec_docker_config *config)
{
    if (config) {
        ec_map_free(config->secrets, free_secret);
        free(config);
    }
}

static struct ec_err keep_host(struct ec_arena *arena, struct ec_docker_config *config,
                               const char *host, const json_t *entry)
{
    const char *auth = ec_json_text(entry, "auth");
    struct ec_span clear = {0};
    if (!auth[0]) {
        return ec_ok(); /* a credential helper keeps it: not ours to run */
    }
    if (!ec_unbase64(arena, ec_span_of(auth), &clear) || !memchr(clear.ptr, ':', clear.len)) {
        return ec_reject_in(arena,
                            "Docker config: auths.\"%.200s\".auth is not base64 of "
                            "user:password",
                            host);
    }
    struct ec_secret *secret = ec_secret_new(clear);
    ec_secret_free(ec_map_remove(config->secrets, host));
    if (!ec_map_put(config->secrets, host, secret)) {
        ec_secret_free(secret);
        return ec_reject("Docker config: more than 256 registries");
    }
    return ec_ok();
}

struct ec_err ec_docker_config_read(struct ec_arena *arena, const char *path,
                                    struct ec_docker_config **ret_config)
{
    struct ec_docker_config *config = ec_alloc(sizeof(*config));
    config->secrets = ec_map_new(HOSTS_MAX);
    *ret_config = config;
    if (!path || !path[0] || access(path, F_OK) != 0) {
        return ec_ok();
    }
    ec_cleanup(ec_secret_freep) struct ec_secret *file = NULL;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    struct ec_err err = ec_secret_read(path, &file);
    if (!ec_failed(err)) {
        err = ec_json_parse(arena, ec_secret_use(file), &root);
    }
    const char *host;
    json_t *entry;
    json_object_foreach(json_object_get(root, "auths"), host, entry)
    {
        if (!ec_failed(err)) {
            err = keep_host(arena, config, host, entry);
        }
    }
    if (ec_failed(err)) {
        ec_docker_config_free(config);
        *ret_config = NULL;
    }
    return err;
}

const struct ec_secret *ec_docker_config_find(const struct ec_docker_config *config,
                                              const char *host)
{
    const struct ec_secret *secret = ec_map_get(config->secrets, host);
    if (secret) {
        return secret;
    }
    ec_cleanup(ec_freep) char *https = ec_format("https://%s", host);
    return ec_map_get(config->secrets, https);
}
