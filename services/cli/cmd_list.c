/* Lists: releases, deployments, builds, and the status of a service. */
#include "cli.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static int list_of_service(struct cli *cli, const char *what, const struct table *table)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *service = find_service(cli, cli->args[0], &status);
    if (!service ||
        !api_call(cli, "GET", api_path(cli, "/v1/services/%s/%s", service_id(service), what), NULL,
                  &reply, &status)) {
        return status;
    }
    return print_list(cli, ec_json_at(reply.body, what), table);
}

int cmd_releases(struct cli *cli)
{
    static const struct column columns[] = {
        {"RELEASE", "version", PLAIN},    {"STATE", "state", STATE},
        {"COMMIT", "git_sha", SHORT_SHA}, {"SERVES IN", "serves_in", PLAIN},
        {"MADE", "created_at", AGO},      {"IMAGE", "image_uri", PLAIN}};
    return list_of_service(
        cli, "releases",
        TABLE(columns, "no releases: no build has succeeded yet. See:  enclii builds"));
}

int cmd_deployments(struct cli *cli)
{
    static const struct column columns[] = {
        {"DEPLOYMENT", "id", PLAIN},  {"RELEASE", "version", PLAIN},
        {"STATE", "state", STATE},    {"ENVIRONMENT", "environment", PLAIN},
        {"SERVES", "serving", PLAIN}, {"MADE", "created_at", AGO},
        {"REASON", "reason", PLAIN}};
    return list_of_service(cli, "deployments",
                           TABLE(columns, "nothing was deployed yet. See:  enclii why"));
}

int cmd_builds(struct cli *cli)
{
    static const struct column columns[] = {{"#", "number", PLAIN},
                                            {"BUILD", "id", PLAIN},
                                            {"STATE", "state", STATE},
                                            {"COMMIT", "git_sha", SHORT_SHA},
                                            {"PULL REQUEST", "origin", PLAIN},
                                            {"QUEUED", "created_at", AGO},
                                            {"REASON", "reason", PLAIN}};
    return list_of_service(
        cli, "builds", TABLE(columns, "nothing was built yet. Push a commit, or:  enclii deploy"));
}

static int print_status(struct cli *cli, const json_t *service, const json_t *status)
{
    const char *state = ec_json_text(status, "state");
    state = state[0] ? state : ec_json_text(status, "status");
    const char *health = ec_json_text(status, "health");
    printf("%s  %s  %s\n", paint(cli, ec_json_text(service, "name"), "bold"),
           paint(cli, state, state_style(state)), paint(cli, health, state_style(health)));
    static const struct {
        const char *title, *path;
    } lines[] = {{"environment", "environment"}, {"release", "version"}, {"commit", "git_sha"},
                 {"image", "image_uri"},         {"reason", "reason"},   {"detail", "detail"}};
    for (size_t i = 0; i < EC_LEN(lines); i++) {
        const char *text = ec_json_text(status, lines[i].path);
        if (text[0]) {
            printf("  %-12s %s\n", lines[i].title, text);
        }
    }
    printf("  %-12s %lld\n", "replicas", (long long)ec_json_int(status, "replicas", 0));
    size_t i;
    json_t *url;
    json_array_foreach(ec_json_at(status, "urls"), i, url)
    {
        printf("  %-12s %s\n", i == 0 ? "address" : "", json_string_value(url));
    }
    return EXIT_OK;
}

static int status_of_all(struct cli *cli)
{
    return cmd_service_list(cli);
}

int cmd_status(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    if (!cli->arg_count && cli->json) {
        return status_of_all(cli);
    }
    json_t *service = find_service(cli, cli->args[0], &status);
    if (!service ||
        !api_call(cli, "GET", api_path(cli, "/v1/services/%s/status", service_id(service)), NULL,
                  &reply, &status)) {
        return status;
    }
    return cli->json ? print_json(reply.body) : print_status(cli, service, reply.body);
}
