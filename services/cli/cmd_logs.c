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

static bool on_log_event(void *arg, const struct sse_event *event)
{
    struct cli *cli = arg;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(LINE_ARENA_MAX_BYTES);
    ec_cleanup(ec_json_freep) json_t *data = NULL;
    if (ec_failed(ec_json_parse(arena, ec_span_of(event->data), &data))) {
        return true;
    }
    bool end = strcmp(event->name, "end") == 0;
    if (strcmp(event->name, "log") == 0) {
        print_log_line(cli, arena, data);
        fflush(stdout);
    } else if (strcmp(event->name, "gap") == 0) {
        fprintf(stderr, "... %lld lines are missing: the app was faster than this connection\n",
                (long long)ec_json_int(data, "dropped_lines", 0));
    } else if (end && ec_json_text(data, "problem")[0]) {
        fprintf(stderr, "enclii: %s\n", ec_json_text(data, "problem"));
    }
    return !end;
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

static int newest_build(struct cli *cli, const json_t *service, const char **ret_id)
{
    int status = EXIT_OK;
    struct reply reply;
    if (!api_call(cli, "GET", api_path(cli, "/v1/services/%s/builds", service_id(service)), NULL,
                  &reply, &status)) {
        return status;
    }
    *ret_id = ec_json_text(json_array_get(ec_json_at(reply.body, "builds"), 0), "id");
    return (*ret_id)[0]
               ? EXIT_OK
               : give_up(EXIT_NOT_FOUND, "%s was never built. Push something, or:  enclii deploy",
                         ec_json_text(service, "name"));
}

static int build_logs(struct cli *cli, const char *build)
{
    int status = EXIT_OK;
    struct reply reply;
    if (strcmp(build, "latest") == 0) {
        json_t *service = find_service(cli, cli->args[0], &status);
        status = service ? newest_build(cli, service, &build) : status;
        if (status != EXIT_OK) {
            return status;
        }
    }
    if (option(cli, "follow")) {
        return api_stream(cli, api_path(cli, "/v1/builds/%s/logs/stream", build), LOG_DEADLINE_MS,
                          on_log_event, cli);
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
    char *query = ec_arena_format(
        cli->arena, "?lines=%s&environment=%s%s%s",
        lines   ? lines
        : since ? "10000"
                : "100",
        environment ? ec_percent(cli->arena, ec_span_of(environment)) : "", since ? "&since=" : "",
        since ? ec_percent(cli->arena, ec_span_of(since)) : "");
    if (option(cli, "follow")) {
        return api_stream(
            cli, api_path(cli, "/v1/services/%s/logs/stream%s", service_id(service), query),
            LOG_DEADLINE_MS, on_log_event, cli);
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
