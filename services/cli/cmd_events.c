/* enclii events tail: what happens on the platform, as it happens. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"
#include "follow.h"

#define TAIL_DEADLINE_MS (7u * 24 * 3600 * 1000)
#define EVENT_ARENA_BYTES (16u << 20)

struct tail {
    struct cli *cli;
    long left; /* events still to be shown; -1 = until the end */
};

static void show(struct cli *cli, const json_t *event)
{
    const char *type = ec_json_text(event, "type"), *style = NULL;
    const char *text = event_text(cli, type, event, &style);
    const char *time = ec_json_text(event, "time"),
               *name = ec_json_text(event, "service.service_name");
    printf("%s  %s  %-16s %s\n", paint(cli, ec_arena_format(cli->arena, "%.23s", time), "dim"),
           paint(cli, ec_arena_format(cli->arena, "%-24s", type), style), name[0] ? name : "-",
           text);
}

static bool on_event(void *arg, const struct sse_event *sse)
{
    struct tail *tail = arg;
    struct cli cli = *tail->cli; /* for days: each event has an arena of its own */
    json_t *event = NULL;
    cli.arena = ec_arena_new(EVENT_ARENA_BYTES);
    if (!ec_failed(ec_json_parse(cli.arena, ec_span_of(sse->data), &event))) {
        if (cli.json) {
            printf("%s\n", ec_json_dump(cli.arena, event));
        } else {
            show(&cli, event);
        }
        fflush(stdout);
        tail->left -= tail->left > 0;
    }
    json_decref(event);
    ec_arena_free(cli.arena);
    return tail->left != 0 && !ferror(stdout);
}

int cmd_events_tail(struct cli *cli)
{
    int status = EXIT_OK;
    const char *type = option(cli, "type"), *name = option(cli, "service"), *id = "";
    const char *lines = option(cli, "lines");
    struct tail tail = {cli, lines ? strtol(lines, NULL, 10) : -1};
    if (lines && tail.left <= 0) {
        return give_up(EXIT_ERROR, "--lines must be a number above 0");
    }
    if (name) {
        const json_t *service = find_service(cli, name, &status);
        if (!service) {
            return status;
        }
        id = service_id(service);
    }
    const char *path = api_path(cli, "/v1/events?replay=%s%s%s&type=%s",
                                option(cli, "replay") ? "true" : "false", id[0] ? "&service=" : "",
                                id, ec_percent(cli->arena, ec_span_of(type ? type : "")));
    status = api_stream(cli, &(struct stream_spec){.path = path,
                                                   .deadline_ms = TAIL_DEADLINE_MS,
                                                   .on_event = on_event,
                                                   .arg = &tail});
    return status == EXIT_OK && tail.left != 0
               ? give_up(EXIT_UNREACHABLE, "the stream of events ended. Say it again to go on")
               : status;
}
