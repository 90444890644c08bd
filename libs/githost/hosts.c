/* Which git hosts there are: the file ENCLII_GIT_HOSTS_FILE and the settings of github.com. Read
 * once at the start, so that files may be read here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "githost/githost_private.h"
#include "net/address.h"

#define HOSTS_MAX 256
#define SERVER_MAX_BYTES 255
#define ARENA_BYTES (1u << 20)

static const struct {
    const char *name;
    const char *api;  /* what follows the server; NULL = it has none */
    const char *user; /* what its git wants as the user name beside a token */
} kinds[] = {
    [EC_GITHOST_GIT] = {"git", NULL, "git"},
    [EC_GITHOST_GITHUB] = {"github", "/api/v3", "x-access-token"},
    [EC_GITHOST_GITLAB] = {"gitlab", "/api/v4", "oauth2"},
    [EC_GITHOST_GITEA] = {"gitea", "/api/v1", "x-access-token"},
    [EC_GITHOST_BITBUCKET] = {"bitbucket", "/2.0", "x-token-auth"},
};

/* Whose API is not where their kind has it. */
static const char *const elsewhere[][2] = {{"github.com", "https://api.github.com"},
                                           {"bitbucket.org", "https://api.bitbucket.org/2.0"}};

static const char *const members[] = {"server", "kind",       "api",          "user",
                                      "app_id", "token_file", "app_key_file", "plaintext"};

/* ---- life ---- */

static void free_host(void *value)
{
    struct git_host *host = value;
    if (host) {
        app_free_grants(host);
        ec_secret_free(host->token);
        ec_rsa_free(host->app_key);
        free(host);
    }
}

static void free_hosts(struct ec_githosts *hosts)
{
    ec_map_free(hosts->hosts, free_host);
    ec_arena_free(hosts->arena);
    free(hosts);
}

void githosts_free_if_over(struct ec_githosts *hosts)
{
    if (hosts->closed && !hosts->first) {
        free_hosts(hosts);
    }
}

void ec_githosts_close(struct ec_githosts *hosts)
{
    if (!hosts) {
        return;
    }
    hosts->closed = true;
    /* Calls without a fetch wait for their turn, or for one that has a fetch. */
    for (struct api_call *call = hosts->first; call; call = call->next) {
        if (call->fetch) {
            ec_fetch_cancel(call->fetch);
        }
    }
    githosts_free_if_over(hosts);
}

/* ---- one host ---- */

/* The credential would be readable on the way. */
static bool sent_in_the_clear(const char *url, bool plaintext)
{
    return strncmp(url, "http://", 7) == 0 && !plaintext && !ec_host_loopback(url + 7);
}

static bool good_server(const char *server)
{
    size_t len = strlen(server);
    return len > 0 && len <= SERVER_MAX_BYTES &&
           strspn(server, "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]") == len;
}

static struct ec_err take_api(struct ec_githosts *hosts, struct git_host *host, const char *api,
                              bool plaintext)
{
    const char *usual = kinds[host->kind].api;
    for (size_t i = 0; !api[0] && usual && i < EC_LEN(elsewhere); i++) {
        api = strcmp(host->server, elsewhere[i][0]) == 0 ? elsewhere[i][1] : "";
    }
    if (!api[0] && usual) {
        api = ec_arena_format(hosts->arena, "https://%s%s", host->server, usual);
    }
    if (api[0] && strncmp(api, "https://", 8) != 0 && strncmp(api, "http://", 7) != 0) {
        return ec_reject_in(hosts->arena, "\"api\" of %s must be an https:// address",
                            host->server);
    }
    if (sent_in_the_clear(api, plaintext)) {
        return ec_reject_in(hosts->arena,
                            "\"api\" of %s is http:// on another machine: the credential would be "
                            "readable on the way; use https://, or say \"plaintext\": true",
                            host->server);
    }
    char *kept = ec_arena_strdup(hosts->arena, api);
    for (size_t len = strlen(kept); len > 0 && kept[len - 1] == '/'; len--) {
        kept[len - 1] = '\0';
    }
    host->api = kept;
    return ec_ok();
}

static struct ec_err add(struct ec_githosts *hosts, struct git_host *host)
{
    if (ec_map_get(hosts->hosts, host->server)) {
        struct ec_err err = ec_reject_in(
            hosts->arena,
            "%s is listed twice (ENCLII_GITHUB_TOKEN and ENCLII_GITHUB_APP_ID list github.com)",
            host->server);
        free_host(host);
        return err;
    }
    if (!ec_map_put(hosts->hosts, host->server, host)) {
        free_host(host);
        return ec_reject("more than 256 hosts are listed");
    }
    return ec_ok();
}

static struct ec_err read_secret(struct ec_githosts *hosts, const char *what, const char *path,
                                 struct ec_secret **ret_secret)
{
    struct ec_err err = ec_secret_read(path, ret_secret);
    if (ec_failed(err)) {
        return ec_reject_in(hosts->arena, "%s %.300s: %s%s%s", what, path, err.what,
                            err.sys > 0 ? ": " : "", err.sys > 0 ? strerror(err.sys) : "");
    }
    if (ec_secret_use(*ret_secret).len == 0) {
        ec_secret_freep(ret_secret);
        return ec_reject_in(hosts->arena, "%s %.300s is empty", what, path);
    }
    return ec_ok();
}

static struct ec_err read_app_key(struct ec_githosts *hosts, struct git_host *host,
                                  const char *path)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    EC_TRY(read_secret(hosts, "the App's key file", path, &pem));
    struct ec_err err = ec_rsa_from_pem(ec_secret_use(pem), &host->app_key);
    return ec_failed(err) ? ec_reject_in(hosts->arena, "%.300s: %s", path, err.what) : ec_ok();
}

/* ---- the file ---- */

static struct ec_err check_members(struct ec_arena *arena, json_t *entry)
{
    const char *name;
    json_t *value;
    json_object_foreach(entry, name, value)
    {
        bool known = false;
        for (size_t i = 0; i < EC_LEN(members); i++) {
            known |= strcmp(name, members[i]) == 0;
        }
        const char *near = ec_nearest(ec_span_of(name), members, EC_LEN(members));
        if (!known) {
            return ec_reject_in(arena, "unknown member \"%.60s\"%s%s%s", name,
                                near ? "; did you mean \"" : "", near ? near : "",
                                near ? "\"?" : "");
        }
        bool flag = strcmp(name, "plaintext") == 0;
        if (flag ? !json_is_boolean(value) : !json_is_string(value)) {
            return ec_reject_in(arena, "\"%s\" must be %s", name,
                                flag ? "true or false" : "a text");
        }
    }
    return ec_ok();
}

static struct ec_err read_kind(struct ec_arena *arena, const char *name,
                               enum ec_githost_kind *ret_kind)
{
    name = strcmp(name, "forgejo") == 0 ? "gitea" : name;
    for (size_t i = 0; i < EC_LEN(kinds); i++) {
        if (strcmp(name, kinds[i].name) == 0) {
            *ret_kind = (enum ec_githost_kind)i;
            return ec_ok();
        }
    }
    return ec_reject_in(
        arena, "\"kind\" must be github, gitlab, gitea, forgejo, bitbucket or git, is \"%.60s\"",
        name);
}

static struct ec_err read_credential(struct ec_githosts *hosts, struct git_host *host,
                                     const json_t *entry)
{
    const char *token_file = ec_json_text(entry, "token_file");
    const char *key_file = ec_json_text(entry, "app_key_file");
    host->app_id = ec_arena_strdup(hosts->arena, ec_json_text(entry, "app_id"));
    bool app = host->app_id[0] || key_file[0];
    if (app && (!host->app_id[0] || !key_file[0] || token_file[0])) {
        return ec_reject("either \"token_file\", or \"app_id\" with \"app_key_file\"");
    }
    if (app && host->kind != EC_GITHOST_GITHUB) {
        return ec_reject("only hosts of kind github have Apps: use \"token_file\"");
    }
    if (app) {
        return read_app_key(hosts, host, key_file);
    }
    return token_file[0] ? read_secret(hosts, "the token file", token_file, &host->token) : ec_ok();
}

static struct ec_err fill_host(struct ec_githosts *hosts, json_t *entry, struct git_host *host)
{
    struct ec_arena *arena = hosts->arena;
    EC_TRY(check_members(arena, entry));
    const char *server = ec_json_text(entry, "server");
    if (!good_server(server)) {
        return ec_reject("\"server\" must be what repository keys begin with, host[:port] in lower "
                         "case: \"git.example.org\"");
    }
    host->server = ec_arena_strdup(arena, server);
    EC_TRY(read_kind(arena, ec_json_text(entry, "kind"), &host->kind));
    bool plaintext = ec_json_bool(entry, "plaintext", false);
    EC_TRY(take_api(hosts, host, ec_json_text(entry, "api"), plaintext));
    const char *user = ec_json_text(entry, "user");
    if (strpbrk(user, ":\r\n")) {
        return ec_reject("\"user\" may have no colon");
    }
    host->user = ec_arena_strdup(arena, user[0] ? user : kinds[host->kind].user);
    bool plain_git = strncmp(host->api, "http://", 7) == 0 || plaintext ||
                     (host->kind == EC_GITHOST_GIT && ec_host_loopback(server));
    host->git_base = ec_arena_format(arena, "%s://%s/", plain_git ? "http" : "https", server);
    return read_credential(hosts, host, entry);
}

static struct ec_err read_host(struct ec_githosts *hosts, json_t *entry, size_t index)
{
    struct git_host *host = ec_alloc(sizeof(*host));
    struct ec_err err = json_is_object(entry) ? fill_host(hosts, entry, host)
                                              : ec_reject("an entry must be an object");
    if (ec_failed(err)) {
        free_host(host);
        return ec_reject_in(hosts->arena, "hosts[%zu] (\"%.100s\"): %s", index,
                            ec_json_text(entry, "server"), err.what);
    }
    return add(hosts, host);
}

static struct ec_err read_file(struct ec_githosts *hosts, const char *path)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *file = NULL;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    EC_TRY(read_secret(hosts, "the file", path, &file));
    EC_TRY(ec_json_parse(hosts->arena, ec_secret_use(file), &root));
    json_t *list = json_object_get(root, "hosts");
    if (!json_is_array(list) || json_object_size(root) != 1) {
        return ec_reject("it must be {\"hosts\": [...]} and nothing else");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        EC_TRY(read_host(hosts, json_array_get(list, i), i));
    }
    return ec_ok();
}

/* ---- github.com from its settings ---- */

static bool is_set(const char *text)
{
    return text && text[0];
}

static struct ec_err add_github(struct ec_githosts *hosts,
                                const struct ec_githost_settings *settings)
{
    bool app = is_set(settings->github_app_id) || is_set(settings->github_app_key_file);
    if (!app && !settings->github_token) {
        return ec_ok();
    }
    if (app && (settings->github_token || !is_set(settings->github_app_id) ||
                !is_set(settings->github_app_key_file))) {
        return ec_reject("set either ENCLII_GITHUB_TOKEN, or ENCLII_GITHUB_APP_ID with "
                         "ENCLII_GITHUB_APP_KEY_FILE");
    }
    struct git_host *host = ec_alloc(sizeof(*host));
    *host = (struct git_host){.server = "github.com",
                              .kind = EC_GITHOST_GITHUB,
                              .git_base = "https://github.com/",
                              .user = kinds[EC_GITHOST_GITHUB].user,
                              .app_id = app ? settings->github_app_id : ""};
    const char *api = is_set(settings->github_api_url) ? settings->github_api_url : "";
    struct ec_err err = take_api(hosts, host, api, false);
    if (!ec_failed(err) && app) {
        err = read_app_key(hosts, host, settings->github_app_key_file);
    }
    if (ec_failed(err)) {
        free_host(host);
        return err;
    }
    host->token =
        settings->github_token ? ec_secret_new(ec_secret_use(settings->github_token)) : NULL;
    return add(hosts, host);
}

static struct ec_err read_all(struct ec_githosts *hosts, const struct ec_githost_settings *settings)
{
    EC_TRY(add_github(hosts, settings));
    if (!is_set(settings->hosts_file)) {
        return ec_ok();
    }
    struct ec_err err = read_file(hosts, settings->hosts_file);
    return ec_failed(err) ? ec_reject_in(hosts->arena, "ENCLII_GIT_HOSTS_FILE %.300s: %s",
                                         settings->hosts_file, err.what)
                          : ec_ok();
}

struct ec_err ec_githosts_open(struct ec_loop *loop, struct ec_fetcher *fetcher,
                               const struct ec_githost_settings *settings,
                               struct ec_githosts **ret_hosts)
{
    static char fault[1024]; /* outlives what is closed below; one process opens its hosts once */
    struct ec_githosts *hosts = ec_alloc(sizeof(*hosts));
    hosts->loop = loop;
    hosts->fetcher = fetcher;
    hosts->arena = ec_arena_new(ARENA_BYTES);
    hosts->hosts = ec_map_new(HOSTS_MAX);
    struct ec_err err = read_all(hosts, settings);
    if (ec_failed(err)) {
        snprintf(fault, sizeof(fault), "%s", err.what);
        free_hosts(hosts);
        return ec_reject(fault);
    }
    *ret_hosts = hosts;
    return ec_ok();
}

/* ---- asking ---- */

struct git_host *githost_find(const struct ec_githosts *hosts, const char *repo_key)
{
    char server[SERVER_MAX_BYTES + 1];
    size_t len = strcspn(repo_key, "/");
    if (!hosts || len == 0 || len > SERVER_MAX_BYTES) {
        return NULL;
    }
    memcpy(server, repo_key, len);
    server[len] = '\0';
    return ec_map_get(hosts->hosts, server);
}

enum ec_githost_kind ec_githost_kind(const struct ec_githosts *hosts, const char *repo_key)
{
    const struct git_host *host = githost_find(hosts, repo_key);
    return host ? host->kind : EC_GITHOST_GIT;
}

const char *ec_githost_kind_name(enum ec_githost_kind kind)
{
    return kinds[kind].name;
}

static bool has_api(const struct git_host *host)
{
    return host->api[0] && host->kind != EC_GITHOST_GIT && (host->token || host->app_key);
}

bool ec_githost_has_api(const struct ec_githosts *hosts, const char *repo_key)
{
    const struct git_host *host = githost_find(hosts, repo_key);
    return host && has_api(host) && host->kind != EC_GITHOST_BITBUCKET;
}

bool ec_githost_hears_statuses(const struct ec_githosts *hosts, const char *repo_key)
{
    const struct git_host *host = githost_find(hosts, repo_key);
    return host && has_api(host) && ec_githost_takes_statuses(host->kind);
}

bool ec_githosts_any_api(const struct ec_githosts *hosts, enum ec_githost_kind kind)
{
    size_t at = 0;
    void *host = NULL;
    while (hosts && ec_map_next(hosts->hosts, &at, NULL, &host)) {
        if (((const struct git_host *)host)->kind == kind && has_api(host)) {
            return true;
        }
    }
    return false;
}

bool ec_githost_has_app(const struct ec_githosts *hosts, const char *repo_key)
{
    return ec_githost_has_api(hosts, repo_key) && githost_find(hosts, repo_key)->app_key;
}

int64_t ec_githost_wait_ms(const struct ec_githosts *hosts, const char *repo_key)
{
    const struct git_host *host = githost_find(hosts, repo_key);
    int64_t wait_ms = host ? host->blocked_until_mono_ms - ec_mono_ms() : 0;
    return wait_ms > 0 ? wait_ms : 0;
}
