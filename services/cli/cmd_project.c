/* enclii login, project and environment. */
#include "cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"

static const char *read_token(struct cli *cli)
{
    char line[512];
    if (isatty(STDIN_FILENO)) {
        fputs("Token (made with the API, shown once): ", stderr);
    }
    if (!fgets(line, sizeof line, stdin)) {
        return "";
    }
    line[strcspn(line, "\r\n")] = '\0';
    return ec_arena_strdup(cli->arena, line);
}

int cmd_login(struct cli *cli)
{
    const char *token = option(cli, "token");
    if (cli->arg_count) {
        cli->api_url = config_plain_url(cli, cli->args[0]);
    }
    if (!token || strcmp(token, "-") == 0) {
        token = read_token(cli);
    }
    if (!token[0]) {
        return give_up(EXIT_ERROR, "a token is needed:  enclii login %s --token TOKEN",
                       cli->api_url);
    }
    ec_secret_free(cli->token);
    cli->token = ec_secret_new(ec_span_of(token));
    struct reply reply;
    int status = EXIT_OK;
    /* Proof before it is kept. */
    if (!api_call(cli, "GET", "/v1/projects", NULL, &reply, &status)) {
        return status;
    }
    struct ec_err err = config_save(cli, cli->api_url, token, NULL);
    if (ec_failed(err)) {
        return give_up(EXIT_ERROR, "%s", err.what);
    }
    printf("signed in to %s (kept in %s)\n", cli->api_url, config_path(cli));
    return EXIT_OK;
}

/* "My Shop" → "my-shop" */
static const char *slug_of(struct cli *cli, const char *name)
{
    char *slug = ec_arena_strdup(cli->arena, name), *to = slug;
    for (const char *at = name; *at; at++) {
        unsigned char letter = (unsigned char)*at;
        if (isalnum(letter)) {
            *to++ = (char)tolower(letter);
        } else if (to > slug && to[-1] != '-') {
            *to++ = '-';
        }
    }
    while (to > slug && to[-1] == '-') {
        to--;
    }
    *to = '\0';
    return slug;
}

int cmd_project_create(struct cli *cli)
{
    const char *slug = option(cli, "slug");
    slug = slug ? slug : slug_of(cli, cli->args[0]);
    if (!slug[0]) {
        return give_up(EXIT_ERROR,
                       "the name has no letters a-z or digits to be called by; say:  --slug SLUG");
    }
    struct reply reply;
    int status = EXIT_OK;
    json_t *body = json_pack("{s:s, s:s}", "name", cli->args[0], "slug", slug);
    bool made = api_call(cli, "POST", "/v1/projects", body, &reply, &status);
    json_decref(body);
    if (!made) {
        return status;
    }
    struct ec_err err = config_save(cli, NULL, NULL, slug);
    if (cli->json) {
        return print_json(reply.body);
    }
    printf("project %s\n", slug);
    if (ec_failed(err)) {
        fprintf(stderr, "enclii: %s; say --project %s from now on\n", err.what, slug);
    }
    return EXIT_OK;
}

int cmd_project_list(struct cli *cli)
{
    struct reply reply;
    int status = EXIT_OK;
    if (!api_call(cli, "GET", "/v1/projects", NULL, &reply, &status)) {
        return status;
    }
    static const struct column columns[] = {
        {"PROJECT", "slug", PLAIN}, {"NAME", "name", PLAIN}, {"MADE", "created_at", AGO}};
    return print_list(cli, ec_json_at(reply.body, "projects"),
                      TABLE(columns, "no projects. Make one:  enclii project create NAME"));
}

int cmd_project_use(struct cli *cli)
{
    cli->project = cli->args[0];
    int status = EXIT_OK;
    json_t *project = find_project(cli, &status);
    if (!project) {
        return status;
    }
    struct ec_err err = config_save(cli, NULL, NULL, ec_json_text(project, "slug"));
    if (ec_failed(err)) {
        return give_up(EXIT_ERROR, "%s", err.what);
    }
    printf("project %s\n", ec_json_text(project, "slug"));
    return EXIT_OK;
}

int cmd_environment_create(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *project = find_project(cli, &status);
    if (!project) {
        return status;
    }
    json_t *body = json_pack("{s:s}", "name", cli->args[0]);
    bool made = api_call(
        cli, "POST", api_path(cli, "/v1/projects/%s/environments", ec_json_text(project, "slug")),
        body, &reply, &status);
    json_decref(body);
    if (!made) {
        return status;
    }
    return cli->json ? print_json(reply.body)
                     : (printf("environment %s\n", ec_json_text(reply.body, "name")), EXIT_OK);
}

int cmd_environment_list(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *project = find_project(cli, &status);
    if (!project ||
        !api_call(cli, "GET",
                  api_path(cli, "/v1/projects/%s/environments", ec_json_text(project, "slug")),
                  NULL, &reply, &status)) {
        return status;
    }
    static const struct column columns[] = {
        {"ENVIRONMENT", "name", PLAIN}, {"TARGET", "target", PLAIN}, {"MADE", "created_at", AGO}};
    return print_list(cli, ec_json_at(reply.body, "environments"),
                      TABLE(columns, "no environments. Make one:  enclii environment create NAME"));
}
