/* enclii channel: who is told how builds and deployments end. */
#include "cli.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static const char *channels_path(struct cli *cli, const json_t *project)
{
    return api_path(cli, "/v1/projects/%s/channels", ec_json_text(project, "slug"));
}

/* --event a,b → ["a", "b"] */
static json_t *event_list(struct cli *cli)
{
    json_t *list = json_array();
    for (const char *at = option(cli, "event"); at && *at;) {
        size_t len = strcspn(at, ",");
        if (len > 0) {
            json_array_append_new(list, json_stringn(at, len));
        }
        at += len + (at[len] == ',');
    }
    return list;
}

int cmd_channel_create(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *project = find_project(cli, &status);
    if (!project) {
        return status;
    }
    const char *kind = option(cli, "kind"), *secret = option(cli, "secret");
    json_t *body = json_pack("{s:s, s:s, s:s, s:o}", "name", cli->args[0], "url", cli->args[1],
                             "kind", kind ? kind : "webhook", "event_types", event_list(cli));
    if (secret) {
        json_object_set_new(body, "secret", json_string(secret));
    }
    bool made = api_call(cli, "POST", channels_path(cli, project), body, &reply, &status);
    json_decref(body);
    if (!made) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    printf("channel %s tells %s\n", cli->args[0], cli->args[1]);
    return EXIT_OK;
}

static json_t *all_channels(struct cli *cli, int *ret_exit)
{
    struct reply reply;
    json_t *project = find_project(cli, ret_exit);
    if (!project || !api_call(cli, "GET", channels_path(cli, project), NULL, &reply, ret_exit)) {
        return NULL;
    }
    return ec_json_at(reply.body, "channels");
}

int cmd_channel_list(struct cli *cli)
{
    int status = EXIT_OK;
    json_t *channels = all_channels(cli, &status);
    static const struct column columns[] = {{"CHANNEL", "name", PLAIN},
                                            {"KIND", "kind", PLAIN},
                                            {"URL", "url", PLAIN},
                                            {"ON", "enabled", PLAIN},
                                            {"MADE", "created_at", AGO}};
    return channels ? print_list(cli, channels,
                                 TABLE(columns,
                                       "nobody is told. Add one:  enclii channel create NAME URL"))
                    : status;
}

int cmd_channel_delete(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *channels = all_channels(cli, &status);
    size_t i;
    json_t *channel;
    json_array_foreach(channels, i, channel)
    {
        if (strcmp(ec_json_text(channel, "name"), cli->args[0]) != 0) {
            continue;
        }
        if (!api_call(cli, "DELETE", api_path(cli, "/v1/channels/%s", ec_json_text(channel, "id")),
                      NULL, &reply, &status)) {
            return status;
        }
        printf("channel %s is gone\n", cli->args[0]);
        return EXIT_OK;
    }
    return channels ? give_up(EXIT_NOT_FOUND,
                              "there is no channel \"%s\". See:  enclii channel list", cli->args[0])
                    : status;
}
