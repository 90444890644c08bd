/* From names to objects. A person rarely wants to type a name: the project is the default one or
 * the only one, the service is that of the enclii.yaml here or the only one. */
#include "cli.h"

#include <string.h>

#include "base/json.h"
#include "local.h"
#include "spec/spec.h"

const char *service_id(const json_t *service)
{
    return ec_json_text(service, "id");
}

/* enclii.yaml of this folder, or NULL. */
static struct ec_spec *spec_here(struct cli *cli)
{
    struct local files = {.arena = cli->arena};
    const char *text = local_read_file(&files, "enclii.yaml");
    if (!text) {
        return NULL;
    }
    struct ec_spec *spec = ec_arena_alloc(cli->arena, sizeof *spec);
    ec_spec_parse(cli->arena, ec_span_of(text), spec);
    return spec->name ? spec : NULL;
}

static json_t *only_project(struct cli *cli, int *ret_exit)
{
    struct reply reply;
    if (!api_call(cli, "GET", "/v1/projects", NULL, &reply, ret_exit)) {
        return NULL;
    }
    const json_t *projects = ec_json_at(reply.body, "projects");
    if (json_array_size(projects) == 1) {
        return json_array_get(projects, 0);
    }
    *ret_exit =
        json_array_size(projects) == 0
            ? give_up(EXIT_NOT_FOUND,
                      "there is no project yet. Make one:  enclii project create NAME")
            : give_up(EXIT_ERROR, "which project? Say --project NAME, or  enclii project use NAME");
    return NULL;
}

json_t *find_project(struct cli *cli, int *ret_exit)
{
    const char *name = cli->project;
    const struct ec_spec *spec = name[0] ? NULL : spec_here(cli);
    if (!name[0] && spec && spec->project && spec->project[0]) {
        name = spec->project;
    }
    if (!name[0]) {
        return only_project(cli, ret_exit);
    }
    struct reply reply;
    if (api_look(cli, api_path(cli, "/v1/projects/%s", name), &reply, ret_exit)) {
        return reply.body;
    }
    if (*ret_exit == EXIT_NOT_FOUND) {
        give_up(EXIT_NOT_FOUND, "there is no project \"%s\". See:  enclii project list", name);
    }
    return NULL;
}

static json_t *pick(const json_t *services, const char *name)
{
    size_t i;
    json_t *service;
    json_array_foreach(services, i, service)
    {
        if (strcmp(ec_json_text(service, "name"), name) == 0 ||
            strcmp(ec_json_text(service, "id"), name) == 0) {
            return service;
        }
    }
    return NULL;
}

json_t *find_service(struct cli *cli, const char *name, int *ret_exit)
{
    json_t *project = find_project(cli, ret_exit);
    struct reply reply;
    if (!project || !api_call(cli, "GET",
                              api_path(cli, "/v1/projects/%s/services?limit=%d",
                                       ec_json_text(project, "slug"), LIST_MAX),
                              NULL, &reply, ret_exit)) {
        return NULL;
    }
    const json_t *services = ec_json_at(reply.body, "services");
    const struct ec_spec *spec = name ? NULL : spec_here(cli);
    name = name ? name : spec ? spec->name : NULL;
    json_t *found = name                             ? pick(services, name)
                    : json_array_size(services) == 1 ? json_array_get(services, 0)
                                                     : NULL;
    if (!found && name) {
        *ret_exit = give_up(EXIT_NOT_FOUND,
                            "there is no service \"%s\" in project %s. See:  "
                            "enclii service list",
                            name, ec_json_text(project, "slug"));
    } else if (!found && json_array_size(services) == 0) {
        *ret_exit = give_up(EXIT_NOT_FOUND,
                            "project %s has no service yet. Make one:  "
                            "enclii service create -f enclii.yaml",
                            ec_json_text(project, "slug"));
    } else if (!found) {
        *ret_exit = give_up(EXIT_ERROR, "which service? Name one of:  enclii service list");
    }
    return found;
}

static bool is_hex(const char *text, size_t least)
{
    size_t len = strspn(text, "0123456789abcdef");
    return len >= least && len <= 64 && !text[len];
}

const char *find_commit(struct cli *cli, const char *name, bool whole, int *ret_exit)
{
    if (is_hex(name, 40)) {
        return name;
    }
    const char *here = git_commit_of(cli, name);
    if (here[0]) {
        return here;
    }
    if (!whole && is_hex(name, 4)) {
        return name; /* not in this clone; the platform may know it */
    }
    *ret_exit =
        give_up(EXIT_NOT_FOUND, "there is no commit \"%s\" in the git repository here. %s", name,
                whole ? "Say all 40 digits of its id, or run this in a clone that has it"
                      : "Say at least 4 digits of its id, or run this in a clone that has it");
    return NULL;
}

static bool is_version(const char *text)
{
    return text[0] == 'v' && text[1] && strspn(text + 1, "0123456789") == strlen(text + 1);
}

const char *find_what(struct cli *cli, const char *name, int *ret_exit)
{
    if (strcmp(name, "HEAD") == 0) {
        const char *sha = git_commit_here(cli);
        if (!sha[0]) {
            *ret_exit = give_up(EXIT_NOT_FOUND, "there is no git commit here for HEAD");
            return NULL;
        }
        return sha;
    }
    if (!is_version(name)) {
        return name;
    }
    json_t *service = find_service(cli, option(cli, "service"), ret_exit);
    json_t *release = service ? find_release(cli, service, name, ret_exit) : NULL;
    return release ? ec_json_text(release, "id") : NULL;
}
