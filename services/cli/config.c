/* Where the platform is and who we are: options, environment, ~/.config/enclii/config.json (0600),
 * or a local platform on this machine, in that order. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "local.h"

const char *config_path(struct cli *cli)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && config[0] == '/') {
        return ec_arena_format(cli->arena, "%s/enclii/config.json", config);
    }
    return ec_arena_format(cli->arena, "%s/.config/enclii/config.json", home ? home : "");
}

static const char *first(const char *a, const char *b, const char *c)
{
    return a && a[0] ? a : b && b[0] ? b : c ? c : "";
}

char *config_plain_url(struct cli *cli, const char *url)
{
    char *copy = ec_arena_strdup(cli->arena, url);
    for (size_t len = strlen(copy); len > 0 && copy[len - 1] == '/'; len--) {
        copy[len - 1] = '\0';
    }
    return copy;
}

static bool is_local(struct cli *cli, const struct local *local, const char *url)
{
    const char *by_name =
        ec_arena_format(cli->arena, "http://localhost:%d", local->ports[PORT_API]);
    return strcmp(url, local_api_url(local)) == 0 || strcmp(url, by_name) == 0;
}

/* What was given for one platform is told to no other: a kept token goes to the address that it was
 * kept with, the local administrator's to the platform of this machine. */
static const char *token_for(struct cli *cli, const struct local *local, const json_t *kept,
                             const char *url)
{
    const char *token = getenv("ENCLII_API_TOKEN");
    const char *kept_url = config_plain_url(cli, ec_json_text(kept, "url"));
    bool local_kept = !kept_url[0] && is_local(cli, local, url);
    if (token && token[0]) {
        return token;
    }
    if (ec_json_text(kept, "token")[0] && (local_kept || strcmp(url, kept_url) == 0)) {
        return ec_json_text(kept, "token");
    }
    bool platform_here = access(local_path(local, "local.json"), R_OK) == 0;
    return platform_here && is_local(cli, local, url)
               ? first(local_secret(local, "admin_token"), NULL, NULL)
               : "";
}

EC_RESULT config_load(struct cli *cli)
{
    struct local local = {0};
    EC_TRY(local_open(&local, cli->arena));
    json_t *kept = NULL;
    const char *text = local_read_file(&local, config_path(cli));
    if (text && ec_failed(ec_json_parse(cli->arena, ec_span_of(text), &kept))) {
        return ec_reject_in(cli->arena,
                            "%s is not valid JSON: mend it, or remove it and run "
                            "`enclii login`",
                            config_path(cli));
    }
    const char *url =
        first(option(cli, "api"), getenv("ENCLII_API_URL"), ec_json_text(kept, "url"));
    cli->api_url = config_plain_url(cli, url[0] ? url : local_api_url(&local));
    const char *token = token_for(cli, &local, kept, cli->api_url);
    cli->token = token[0] ? ec_secret_new(ec_span_of(token)) : NULL;
    const char *project =
        first(option(cli, "project"), getenv("ENCLII_PROJECT"), ec_json_text(kept, "project"));
    cli->project = ec_arena_strdup(cli->arena, project);
    json_decref(kept);
    return ec_ok();
}

/* NULL keeps what is there. */
EC_RESULT config_save(struct cli *cli, const char *url, const char *token, const char *project)
{
    struct local local = {.arena = cli->arena};
    const char *path = config_path(cli);
    json_t *kept = NULL;
    const char *text = local_read_file(&local, path);
    if (text) {
        ec_ignore(
            ec_json_parse(cli->arena, ec_span_of(text), &kept)); /* a broken one is replaced */
    }
    json_t *root = json_is_object(kept) ? kept : json_object();
    const char *const pairs[][2] = {{"url", url}, {"token", token}, {"project", project}};
    for (size_t i = 0; i < 3; i++) {
        if (pairs[i][1]) {
            json_object_set_new(root, pairs[i][0], json_string(pairs[i][1]));
        }
    }
    char *folder = ec_arena_strdup(cli->arena, path);
    *strrchr(folder, '/') = '\0';
    struct ec_err err = local_make_folder(&local, folder, 0700);
    if (!ec_failed(err)) {
        err = local_write_file(&local, path,
                               ec_arena_format(cli->arena, "%s\n", ec_json_dump(cli->arena, root)),
                               0600);
    }
    json_decref(root);
    return err;
}
