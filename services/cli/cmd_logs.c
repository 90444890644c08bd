/* enclii logs: what the app prints, or with --build what its build printed. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"

#define LOG_DEADLINE_MS 86400000
#define LINE_ARENA_MAX_BYTES (1u << 20)

/* Of a build: "build gcc -c a.c". Of an app: "16:02:11.080 1a2b3c4-0 GET /". */
static void print_log_line(struct cli *cli, struct ec_arena *arena, const json_t *line)
{
    if (cli->json) {
        puts(ec_json_dump(arena, line));
        return;
    }
    const char *text = ec_json_text(line, "text"), *replica = ec_json_text(line, "replica");
    const char *step = ec_json_text(line, "step"), *time = ec_json_text(line, "time");
    if (replica[0] && strlen(time) >= 23) {
        bool bad = strcmp(ec_json_text(line, "stream"), "stderr") == 0;
        const char *head = ec_arena_format(arena, "%.12s %s", time + 11, replica);
        printf("%s %s\n", paint(cli, head, "dim"), bad ? paint(cli, text, "yellow") : text);
    } else if (step[0]) {
        printf("%s %s\n", paint(cli, step, "dim"), text);
    } else {
        puts(text);
    }
}

struct log_follow {
    struct cli *cli;
    const char *path;       /* of an app */
    const char *path_again; /* without since; NULL = a build's: its lines have ids */
    char last_time[40];
    size_t at_last; /* lines shown that carry last_time */
    size_t to_skip; /* of those that come again */
};

/* The app's lines have no ids: after a loss they are asked for from the last one's time on. */
static bool shown_before(struct log_follow *follow, const char *time)
{
    if (strcmp(time, follow->last_time) != 0) {
        snprintf(follow->last_time, sizeof follow->last_time, "%s", time);
        follow->at_last = 1;
        follow->to_skip = 0;
        return false;
    }
    if (follow->to_skip > 0) {
        follow->to_skip--;
        return true;
    }
    follow->at_last++;
    return false;
}

static const char *path_since_last(void *arg)
{
    struct log_follow *follow = arg;
    if (follow->at_last == 0) {
        return follow->path; /* no line came yet */
    }
    follow->to_skip = follow->at_last;
    return ec_arena_format(follow->cli->arena, "%s&since=%s", follow->path_again,
                           ec_percent(follow->cli->arena, ec_span_of(follow->last_time)));
}

static bool on_log_event(void *arg, const struct sse_event *event)
{
    struct log_follow *follow = arg;
    struct cli *cli = follow->cli;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(LINE_ARENA_MAX_BYTES);
    ec_cleanup(ec_json_freep) json_t *data = NULL;
    if (ec_failed(ec_json_parse(arena, ec_span_of(event->data), &data))) {
        return true;
    }
    bool end = strcmp(event->name, "end") == 0;
    if (strcmp(event->name, "log") == 0) {
        if (!follow->path_again || !shown_before(follow, ec_json_text(data, "time"))) {
            print_log_line(cli, arena, data);
            fflush(stdout);
        }
    } else if (strcmp(event->name, "gap") == 0) {
        fprintf(stderr, "... %lld lines are missing: the app was faster than this connection\n",
                (long long)ec_json_int(data, "dropped_lines", 0));
    } else if (end && ec_json_text(data, "problem")[0]) {
        give_up(EXIT_OK, "%s. See:  enclii status   enclii watch", ec_json_text(data, "problem"));
    }
    return !end && !ferror(stdout); /* `enclii logs -f | head` is content */
}

static int print_lines(struct cli *cli, const json_t *body)
{
    if (cli->json) {
        return print_json(body);
    }
    const json_t *lines = ec_json_at(body, "lines"), *line = NULL;
    size_t at = 0, count = json_array_size(lines);
    const char *only = option(cli, "lines");
    size_t from = only && strtoul(only, NULL, 10) < count ? count - strtoul(only, NULL, 10) : 0;
    json_array_foreach(lines, at, line)
    {
        if (at >= from) {
            print_log_line(cli, cli->arena, line);
        }
    }
    return EXIT_OK;
}

/* ---- of a build ---- */

static bool is_build(const json_t *build, const char *name)
{
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)ec_json_int(build, "number", 0));
    return strcmp(name, "latest") == 0 || strcmp(name + (name[0] == '#'), number) == 0 ||
           (strlen(name) >= 7 && strncmp(ec_json_text(build, "id"), name, strlen(name)) == 0);
}

/* By number, the beginning of its id, or "latest". */
static int find_build(struct cli *cli, const json_t *service, const char *name, const char **ret_id)
{
    int status = EXIT_OK;
    struct reply reply;
    const char *path =
        api_path(cli, "/v1/services/%s/builds?limit=%d", service_id(service), LIST_MAX);
    if (!api_call(cli, "GET", path, NULL, &reply, &status)) {
        return status;
    }
    size_t i;
    const json_t *build, *builds = ec_json_at(reply.body, "builds");
    json_array_foreach(builds, i, build)
    {
        if (is_build(build, name)) {
            *ret_id = ec_json_text(build, "id");
            return EXIT_OK;
        }
    }
    const char *of = ec_json_text(service, "name");
    return json_array_size(builds) == 0
               ? give_up(EXIT_NOT_FOUND, "%s was never built. Push something, or:  enclii deploy",
                         of)
               : give_up(EXIT_NOT_FOUND,
                         "%s has no build \"%s\" (number, id or latest). See:  enclii builds %s",
                         of, name, of);
}

static int build_logs(struct cli *cli, const char *build)
{
    int status = EXIT_OK;
    struct reply reply;
    if (strlen(build) != 36) {
        json_t *service = find_service(cli, cli->args[0], &status);
        status = service ? find_build(cli, service, build, &build) : status;
        if (status != EXIT_OK) {
            return status;
        }
    }
    if (option(cli, "follow")) {
        struct log_follow follow = {.cli = cli};
        return api_stream(
            cli, &(struct stream_spec){.path = api_path(cli, "/v1/builds/%s/logs/stream", build),
                                       .deadline_ms = LOG_DEADLINE_MS,
                                       .on_event = on_log_event,
                                       .arg = &follow});
    }
    return api_call(cli, "GET", api_path(cli, "/v1/builds/%s/logs", build), NULL, &reply, &status)
               ? print_lines(cli, reply.body)
               : status;
}

/* ---- of the app ---- */

/* "10m" or a time; "" = the option is wrong, and that was said. */
static const char *since_time(struct cli *cli, const char *text)
{
    int64_t ago_ms = 0;
    char *time = ec_arena_alloc(cli->arena, EC_RFC3339_SIZE);
    if (ec_rfc3339_parse(text) >= 0) {
        return text;
    }
    if (!ec_amount_duration_ms(text, &ago_ms)) {
        give_up(EXIT_ERROR, "--since must be like 10m, 2h or 2026-01-02T03:04:05Z, is \"%s\"",
                text);
        return "";
    }
    ec_rfc3339(ec_unix_ms() - ago_ms, time);
    return time;
}

static int follow_app(struct cli *cli, const json_t *service, const char *where, const char *query)
{
    const char *path = api_path(cli, "/v1/services/%s/logs/stream", service_id(service));
    struct log_follow follow = {.cli = cli,
                                .path = api_path(cli, "%s%s", path, query),
                                .path_again =
                                    api_path(cli, "%s?lines=10000&environment=%s", path, where)};
    return api_stream(cli, &(struct stream_spec){.path = follow.path,
                                                 .path_again = path_since_last,
                                                 .deadline_ms = LOG_DEADLINE_MS,
                                                 .on_event = on_log_event,
                                                 .arg = &follow});
}

static int app_logs(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    const char *environment = option(cli, "environment"), *lines = option(cli, "lines");
    const char *since = option(cli, "since") ? since_time(cli, option(cli, "since")) : NULL;
    if (since && !since[0]) {
        return EXIT_ERROR;
    }
    json_t *service = find_service(cli, cli->args[0], &status);
    if (!service) {
        return status;
    }
    const char *where = environment ? ec_percent(cli->arena, ec_span_of(environment)) : "";
    char *query = ec_arena_format(cli->arena, "?lines=%s&environment=%s%s%s",
                                  lines   ? lines
                                  : since ? "10000"
                                          : "100",
                                  where, since ? "&since=" : "",
                                  since ? ec_percent(cli->arena, ec_span_of(since)) : "");
    if (option(cli, "follow")) {
        return follow_app(cli, service, where, query);
    }
    if (!api_call(cli, "GET", api_path(cli, "/v1/services/%s/logs%s", service_id(service), query),
                  NULL, &reply, &status)) {
        return status;
    }
    const char *problem = ec_json_text(reply.body, "problem");
    if (problem[0]) {
        return give_up(EXIT_NOT_FOUND, "%s. See:  enclii status %s   enclii logs %s --build latest",
                       problem, ec_json_text(service, "name"), ec_json_text(service, "name"));
    }
    return print_lines(cli, reply.body);
}

int cmd_logs(struct cli *cli)
{
    const char *build = option(cli, "build");
    return build ? build_logs(cli, build) : app_logs(cli);
}
