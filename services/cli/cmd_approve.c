/* enclii approve and pull-requests: what strangers offer, and letting one commit of it in. */
#include <string.h>

#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli.h"

static bool is_number(const char *text)
{
    size_t len = strspn(text, "0123456789");
    return len > 0 && len < 7 && text[len] == '\0'; /* seven digits may begin a commit */
}

/* The path that approves it; NULL = said what is wrong. */
static const char *approve_path(struct cli *cli, const char *what, int *ret_exit)
{
    const char *number = what[0] == '#' ? what + 1 : what;
    if (is_number(number)) {
        json_t *service = find_service(cli, option(cli, "service"), ret_exit);
        return service ? api_path(cli, "/v1/services/%s/pull-requests/%s/approve",
                                  service_id(service), number)
                       : NULL;
    }
    const char *id = find_what(cli, what, ret_exit);
    if (!id) {
        return NULL;
    }
    id = ec_percent(cli->arena, ec_span_of(id));
    struct reply reply;
    const char *build = api_path(cli, "/v1/builds/%s", id);
    if (what[0] != 'v' && api_look(cli, build, &reply, ret_exit)) {
        return api_path(cli, "%s/approve", build);
    }
    return what[0] == 'v' || *ret_exit == EXIT_NOT_FOUND
               ? api_path(cli, "/v1/releases/%s/approve", id)
               : NULL;
}

int cmd_approve(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    const char *path = approve_path(cli, cli->args[0], &status);
    if (!path) {
        return status;
    }
    json_t *body = json_object();
    static const char *const fields[] = {"commit", "reason"};
    for (size_t i = 0; i < EC_LEN(fields); i++) {
        if (option(cli, fields[i])) {
            json_object_set_new(body, fields[i], json_string(option(cli, fields[i])));
        }
    }
    bool sent = api_call(cli, "POST", path, body, &reply, &status);
    json_decref(body);
    if (!sent) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    printf("commit %.12s of pull request #%lld is approved. What comes of it:  enclii why %.12s\n",
           ec_json_text(reply.body, "commit"),
           (long long)ec_json_int(reply.body, "pull_request", 0),
           ec_json_text(reply.body, "commit"));
    return EXIT_OK;
}

int cmd_pull_requests(struct cli *cli)
{
    static const struct column columns[] = {
        {"NUMBER", "number", PLAIN},        {"STATE", "state", STATE},
        {"HEAD", "head_sha", SHORT_SHA},    {"AUTHOR", "author", PLAIN},
        {"BUILD", "build_state", STATE},    {"RELEASE", "release", PLAIN},
        {"APPROVED", "approved_by", PLAIN}, {"HELD BY", "held_by", PLAIN},
        {"TITLE", "title", PLAIN}};
    int status = EXIT_OK;
    struct reply reply;
    json_t *service = find_service(cli, cli->args[0], &status);
    const char *state = option(cli, "state");
    if (!service ||
        !api_call(cli, "GET",
                  api_path(cli, "/v1/services/%s/pull-requests?state=%s", service_id(service),
                           ec_percent(cli->arena, ec_span_of(state ? state : "open"))),
                  NULL, &reply, &status)) {
        return status;
    }
    return print_list(cli, ec_json_at(reply.body, "pull_requests"),
                      TABLE(columns, "no pull requests; closed ones: --state all"));
}
