/* enclii verify and sbom: proof. */
#include "cli.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static bool meant(const json_t *release, const char *name)
{
    const char *sha = ec_json_text(release, "git_sha");
    return strcmp(ec_json_text(release, "version"), name) == 0 ||
           strcmp(ec_json_text(release, "id"), name) == 0 ||
           (strlen(name) >= 7 && strncmp(sha, name, strlen(name)) == 0);
}

/* By version, id or commit; without a name the newest one that is ready. */
json_t *find_release(struct cli *cli, const json_t *service, const char *name, int *ret_exit)
{
    struct reply reply;
    if (!api_call(cli, "GET",
                  api_path(cli, "/v1/services/%s/releases?limit=%d", service_id(service), LIST_MAX),
                  NULL, &reply, ret_exit)) {
        return NULL;
    }
    size_t i;
    json_t *release;
    json_array_foreach(ec_json_at(reply.body, "releases"), i, release)
    {
        bool ready = strcmp(ec_json_text(release, "status"), "ready") == 0;
        if (name ? meant(release, name) : ready) {
            return release;
        }
    }
    *ret_exit =
        name ? give_up(EXIT_NOT_FOUND, "there is no release \"%s\". See:  enclii releases %s", name,
                       ec_json_text(service, "name"))
             : give_up(EXIT_NOT_FOUND, "%s has no signed release yet. See:  enclii why %s",
                       ec_json_text(service, "name"), ec_json_text(service, "name"));
    return NULL;
}

static int print_checks(struct cli *cli, const json_t *release, const json_t *result)
{
    bool good = ec_json_bool(result, "verified", false);
    printf("%s %s  %s\n", ec_json_text(release, "version"),
           good ? paint(cli, "verified", "green") : paint(cli, "NOT VERIFIED", "red"),
           ec_json_text(result, "image"));
    size_t i;
    json_t *check;
    json_array_foreach(ec_json_at(result, "checks"), i, check)
    {
        bool ok = ec_json_bool(check, "ok", false);
        printf("  %s %-12s %s\n", ok ? paint(cli, "✓", "green") : paint(cli, "✗", "red"),
               ec_json_text(check, "name"), ec_json_text(check, "detail"));
    }
    return good ? EXIT_OK : EXIT_BUILD;
}

int cmd_verify(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *service = find_service(cli, cli->args[0], &status);
    json_t *release = service ? find_release(cli, service, option(cli, "release"), &status) : NULL;
    if (!release ||
        !api_call(cli, "GET", api_path(cli, "/v1/releases/%s/verify", ec_json_text(release, "id")),
                  NULL, &reply, &status)) {
        return status;
    }
    if (cli->json) {
        print_json(reply.body);
        return ec_json_bool(reply.body, "verified", false) ? EXIT_OK : EXIT_BUILD;
    }
    return print_checks(cli, release, reply.body);
}

int cmd_sbom(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *service = find_service(cli, cli->args[0], &status);
    json_t *release = service ? find_release(cli, service, option(cli, "release"), &status) : NULL;
    if (!release ||
        !api_call(cli, "GET", api_path(cli, "/v1/releases/%s/sbom", ec_json_text(release, "id")),
                  NULL, &reply, &status)) {
        return status;
    }
    const char *output = option(cli, "output");
    if (!output || cli->json) { /* a document for other programs, unless a table is asked for */
        return print_json(reply.body);
    }
    static const struct column columns[] = {
        {"COMPONENT", "name", PLAIN}, {"VERSION", "version", PLAIN}, {"TYPE", "type", PLAIN}};
    return print_list(cli, ec_json_at(reply.body, "components"),
                      TABLE(columns, "the SBOM names no components"));
}
