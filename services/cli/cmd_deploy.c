/* enclii deploy and rollback. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "follow.h"

static const char *wanted_service(const struct cli *cli)
{
    return cli->arg_count ? cli->args[0] : option(cli, "service");
}

static int deploy_release(struct cli *cli, const json_t *service, const char *name)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *release = find_release(cli, service, name, &status);
    if (!release) {
        return status;
    }
    json_t *body = json_pack("{s:s}", "release_id", ec_json_text(release, "id"));
    if (option(cli, "environment")) {
        json_object_set_new(body, "environment_name", json_string(option(cli, "environment")));
    }
    bool sent = api_call(cli, "POST", api_path(cli, "/v1/services/%s/deploy", service_id(service)),
                         body, &reply, &status);
    json_decref(body);
    if (!sent) {
        return status;
    }
    if (option(cli, "wait")) {
        return follow_deployment(cli, service, ec_json_text(reply.body, "id"));
    }
    return cli->json ? print_json(reply.body)
                     : (printf("%s is being deployed. See:  enclii watch %s\n",
                               ec_json_text(release, "version"), ec_json_text(service, "name")),
                        EXIT_OK);
}

static int deploy_commit(struct cli *cli, const json_t *service, const char *commit)
{
    int status = EXIT_OK;
    struct reply reply;
    if (!commit[0]) {
        return give_up(EXIT_ERROR,
                       "which commit? Say --commit SHA, --release vN, or run this in a clone");
    }
    json_t *body = json_pack("{s:s}", "git_sha", commit);
    bool sent = api_call(cli, "POST", api_path(cli, "/v1/services/%s/build", service_id(service)),
                         body, &reply, &status);
    json_decref(body);
    if (!sent) {
        return status;
    }
    if (option(cli, "wait")) {
        return follow_build(cli, service, commit, reply.body);
    }
    return cli->json ? print_json(reply.body)
                     : (printf("%.7s is being built. See:  enclii watch %s --commit %.7s\n", commit,
                               ec_json_text(service, "name"), commit),
                        EXIT_OK);
}

int cmd_deploy(struct cli *cli)
{
    int status = EXIT_OK;
    json_t *service = find_service(cli, wanted_service(cli), &status);
    const char *release = option(cli, "release"), *commit = option(cli, "commit");
    if (!service) {
        return status;
    }
    if (release && commit) {
        return give_up(EXIT_ERROR, "--release or --commit, not both");
    }
    if (release) {
        return deploy_release(cli, service, release);
    }
    commit = commit ? find_commit(cli, commit, true, &status) : git_commit_here(cli);
    return commit ? deploy_commit(cli, service, commit) : status;
}

int cmd_rollback(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *service = find_service(cli, wanted_service(cli), &status);
    if (!service ||
        !api_call(cli, "GET",
                  api_path(cli, "/v1/services/%s/deployments/latest", service_id(service)), NULL,
                  &reply, &status)) {
        return status;
    }
    const char *deployment = ec_arena_strdup(cli->arena, ec_json_text(reply.body, "deployment.id"));
    const char *to = option(cli, "to");
    json_t *release = to ? find_release(cli, service, to, &status) : NULL;
    if (to && !release) {
        return status;
    }
    json_t *body = json_object();
    if (release) {
        json_object_set_new(body, "to_release", json_string(ec_json_text(release, "id")));
    }
    bool sent = api_call(cli, "POST", api_path(cli, "/v1/deployments/%s/rollback", deployment),
                         body, &reply, &status);
    json_decref(body);
    if (!sent) {
        return status;
    }
    if (option(cli, "wait")) {
        return follow_deployment(cli, service, ec_json_text(reply.body, "deployment_id"));
    }
    return cli->json ? print_json(reply.body)
                     : (printf("going back to %s. See:  enclii status %s\n",
                               ec_json_text(reply.body, "version"), ec_json_text(service, "name")),
                        EXIT_OK);
}
