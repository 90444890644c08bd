/* enclii service: a service is what its enclii.yaml says. The file is checked here first, so that a
 * fault is told with its line before anything is sent. */
#include "cli.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "local.h"
#include "spec/spec.h"

static int print_service(struct cli *cli, const json_t *project, const struct ec_spec *spec,
                         const char *done)
{
    printf("service %s/%s %s\n", ec_json_text(project, "slug"), spec->name, done);
    for (size_t i = 0; spec->service && i < spec->service->n_routes; i++) {
        const Enclii__V1__RouteSpec *route = spec->service->routes[i];
        printf("  route %s://%s%s\n", route->tls ? "https" : "http", route->hostname, route->path);
    }
    (void)cli;
    return EXIT_OK;
}

/* The id of the project's service of that name; "" when there is none. NULL = told. */
static const char *existing(struct cli *cli, const char *slug, const char *name, int *ret_exit)
{
    struct reply reply;
    if (!api_call(cli, "GET", api_path(cli, "/v1/projects/%s/services?limit=%d", slug, LIST_MAX),
                  NULL, &reply, ret_exit)) {
        return NULL;
    }
    size_t i;
    json_t *service;
    json_array_foreach(ec_json_at(reply.body, "services"), i, service)
    {
        if (strcmp(ec_json_text(service, "name"), name) == 0) {
            return ec_json_text(service, "id");
        }
    }
    return "";
}

/* A service of that name is changed to the spec; else it is made. */
static int send_spec(struct cli *cli, const json_t *project, const struct ec_spec *spec,
                     const char *yaml)
{
    int status = EXIT_OK;
    const char *slug = ec_json_text(project, "slug");
    const char *id = existing(cli, slug, spec->name, &status);
    if (!id) {
        return status;
    }
    struct reply reply;
    json_t *body = json_pack("{s:s}", "spec_yaml", yaml);
    bool sent =
        id[0] ? api_call(cli, "PATCH", api_path(cli, "/v1/services/%s", id), body, &reply, &status)
              : api_call(cli, "POST", api_path(cli, "/v1/projects/%s/services", slug), body, &reply,
                         &status);
    json_decref(body);
    if (!sent) {
        return status;
    }
    return cli->json
               ? print_json(reply.body)
               : print_service(cli, project, spec,
                               id[0] ? "changed; it takes effect with the next push" : "made");
}

int cmd_service_create(struct cli *cli)
{
    struct local files = {.arena = cli->arena};
    const char *file = option(cli, "file");
    file = file ? file : "enclii.yaml";
    const char *yaml = local_read_file(&files, file);
    if (!yaml) {
        return give_up(EXIT_ERROR,
                       "cannot read %s: %s. Name another:  enclii service create -f FILE", file,
                       strerror(errno));
    }
    struct ec_spec spec = {0};
    ec_spec_parse(cli->arena, ec_span_of(yaml), &spec);
    if (spec.fault_count > 0) {
        fputs(ec_spec_faults_text(cli->arena, &spec, file), stderr);
        return give_up(EXIT_ERROR, "%s has %zu fault%s, nothing was sent", file, spec.fault_count,
                       spec.fault_count == 1 ? "" : "s");
    }
    if (spec.documents > 1) { /* the API, too, would take the first and pass over the others */
        return give_up(EXIT_ERROR,
                       "%s has %zu documents of kind Service, nothing was sent: write a file for "
                       "each",
                       file, spec.documents);
    }
    if (!cli->project[0] && spec.project) {
        cli->project = spec.project;
    }
    int status = EXIT_OK;
    json_t *project = find_project(cli, &status);
    return project ? send_spec(cli, project, &spec, yaml) : status;
}

int cmd_service_list(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *project = find_project(cli, &status);
    if (!project || !api_call(cli, "GET",
                              api_path(cli, "/v1/projects/%s/services?limit=%d",
                                       ec_json_text(project, "slug"), LIST_MAX),
                              NULL, &reply, &status)) {
        return status;
    }
    static const struct column columns[] = {{"SERVICE", "name", PLAIN},
                                            {"STATUS", "status", STATE},
                                            {"HEALTH", "health", STATE},
                                            {"BRANCH", "auto_deploy_branch", PLAIN},
                                            {"REPOSITORY", "git_repo", PLAIN}};
    return print_list(
        cli, ec_json_at(reply.body, "services"),
        TABLE(columns, "no services. Make one:  enclii service create -f enclii.yaml"));
}

int cmd_service_delete(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *service = find_service(cli, cli->args[0], &status);
    if (!service) {
        return status;
    }
    if (!option(cli, "force")) {
        return give_up(EXIT_ERROR,
                       "this stops %s everywhere and removes its routes. If you mean it:  "
                       "enclii service delete %s --force",
                       cli->args[0], cli->args[0]);
    }
    if (!api_call(cli, "DELETE", api_path(cli, "/v1/services/%s", service_id(service)), NULL,
                  &reply, &status)) {
        return status;
    }
    printf("service %s is being removed\n", cli->args[0]);
    return EXIT_OK;
}
