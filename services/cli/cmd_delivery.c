/* The ledger of deliveries: what the git hosts sent and what came of it, also when it was refused.
 */
#include <string.h>

#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli.h"

/* The host itself, or a sweep that found what the host did not tell. */
static void tell_by(json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *by = ec_json_bool(item, "recovered", false) ? "sweep" : "webhook";
        json_object_set_new(item, "told_by", json_string(by));
    }
}

int cmd_deliveries(struct cli *cli)
{
    static const char *const filters[] = {"repo", "state", "host", "event", "limit"};
    static const struct column columns[] = {
        {"DELIVERY", "id", PLAIN},    {"STATE", "state", STATE},
        {"HOST", "host", PLAIN},      {"TOLD BY", "told_by", PLAIN},
        {"EVENT", "event", PLAIN},    {"REPOSITORY", "repo_key", PLAIN},
        {"REF", "ref", PLAIN},        {"COMMIT", "commit_sha", SHORT_SHA},
        {"CAME", "received_at", AGO}, {"REASON", "reason", PLAIN},
        {"DETAIL", "detail", PLAIN}};
    struct reply reply;
    int status = EXIT_OK;
    char *path = api_path(cli, "/v1/deliveries?");
    for (size_t i = 0; i < EC_LEN(filters); i++) {
        const char *value = option(cli, filters[i]);
        if (value) {
            path = api_path(cli, "%s&%s=%s", path, filters[i],
                            ec_percent(cli->arena, ec_span_of(value)));
        }
    }
    if (!api_call(cli, "GET", path, NULL, &reply, &status)) {
        return status;
    }
    tell_by(ec_json_at(reply.body, "deliveries"));
    return print_list(
        cli, ec_json_at(reply.body, "deliveries"),
        TABLE(columns, "nothing was delivered. Is the webhook set up?  enclii hooks list"));
}

int cmd_delivery_show(struct cli *cli)
{
    static const struct {
        const char *title, *path;
    } lines[] = {{"host", "host"},           {"event", "event"},   {"action", "action"},
                 {"repository", "repo_key"}, {"ref", "ref"},       {"commit", "commit_sha"},
                 {"pusher", "pusher"},       {"reason", "reason"}, {"detail", "detail"},
                 {"from", "peer"},           {"trace", "trace"},   {"received", "received_at"},
                 {"decided", "decided_at"}};
    struct reply reply;
    int status = EXIT_OK;
    const char *id = ec_percent(cli->arena, ec_span_of(cli->args[0]));
    if (!api_call(cli, "GET", api_path(cli, "/v1/deliveries/%s", id), NULL, &reply, &status)) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    const char *state = ec_json_text(reply.body, "state");
    printf("%s  %s\n", cli->args[0], paint(cli, state, state_style(state)));
    for (size_t i = 0; i < EC_LEN(lines); i++) {
        const char *text = ec_json_text(reply.body, lines[i].path);
        if (*text) {
            printf("  %-12s %s\n", lines[i].title, text);
        }
    }
    if (ec_json_bool(reply.body, "recovered", false)) {
        printf("  %-12s %s\n", "recovered", "found by a sweep: its webhook had not come");
    }
    printf("  %-12s %lld\n", "answered", (long long)ec_json_int(reply.body, "status", 0));
    printf("  %-12s %lld times\n", "sent again",
           (long long)ec_json_int(reply.body, "duplicates", 0));
    if (ec_json_bool(reply.body, "can_redeliver", false)) {
        printf("Once more: enclii deliveries redeliver %s\n", cli->args[0]);
    }
    return EXIT_OK;
}

int cmd_delivery_again(struct cli *cli)
{
    struct reply reply;
    int status = EXIT_OK;
    const char *id = ec_percent(cli->arena, ec_span_of(cli->args[0]));
    if (!api_call(cli, "POST", api_path(cli, "/v1/deliveries/%s/redeliver", id), NULL, &reply,
                  &status)) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    printf("delivered again as %s; what comes of it: enclii deliveries show %s\n",
           ec_json_text(reply.body, "delivery_id"), ec_json_text(reply.body, "delivery_id"));
    return EXIT_OK;
}
