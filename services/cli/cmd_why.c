/* enclii why: one sentence about what holds a push or ended it, what to do, and the decisions. */
#include "cli.h"

#include <string.h>

#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"

static void print_answer(struct cli *cli, const json_t *answer)
{
    const char *service = ec_json_text(answer, "service"), *next = ec_json_text(answer, "next");
    bool waiting = ec_json_bool(answer, "waiting", false);
    bool good = strcmp(ec_json_text(answer, "stage"), "done") == 0;
    printf("%s%s%s\n", paint(cli, service, "dim"), service[0] ? ": " : "",
           paint(cli, ec_json_text(answer, "summary"), "bold"));
    printf("  %s  %s%s%s\n",
           paint(cli,
                 waiting ? "waiting"
                 : good  ? "done"
                         : "ended",
                 waiting ? "yellow"
                 : good  ? "green"
                         : "dim"),
           ec_json_text(answer, "rule"), good ? "" : " at ",
           good ? "" : ec_json_text(answer, "stage"));
    if (next[0] && !waiting) { /* of what waits, the sentence has said what ends it */
        printf("  %s  %s\n", paint(cli, "what to do", "cyan"), next);
    }
    if (json_array_size(ec_json_at(answer, "decisions")) == 0) {
        return;
    }
    static const struct column columns[] = {{"WHEN", "time", AGO},
                                            {"WHAT", "subject_kind", PLAIN},
                                            {"OUTCOME", "outcome", STATE},
                                            {"RULE", "rule", PLAIN},
                                            {"DETAIL", "detail", PLAIN}};
    putchar('\n');
    print_list(cli, ec_json_at(answer, "decisions"),
               TABLE(columns, "no decisions were made about it"));
}

static int why_service(struct cli *cli, const char *name)
{
    int status = EXIT_OK;
    struct reply reply;
    json_t *service = find_service(cli, name, &status);
    if (!service || !api_call(cli, "GET", api_path(cli, "/v1/services/%s/why", service_id(service)),
                              NULL, &reply, &status)) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    print_answer(cli, reply.body);
    return EXIT_OK;
}

static char *why_path(struct cli *cli, const char *what)
{
    return api_path(cli, "/v1/why/%s", ec_percent(cli->arena, ec_span_of(what)));
}

static int print_answers(struct cli *cli, const json_t *body)
{
    const json_t *answers = ec_json_at(body, "answers"), *answer;
    size_t i;
    if (cli->json) {
        return print_json(body);
    }
    json_array_foreach(answers, i, answer)
    {
        fputs(i ? "\n\n" : "", stdout);
        print_answer(cli, answer);
    }
    return EXIT_OK;
}

int cmd_why(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    if (!cli->arg_count) {
        return why_service(cli, option(cli, "service"));
    }
    const char *what = find_what(cli, cli->args[0], &status);
    if (!what) {
        return status;
    }
    /* An id first: no service is named like one. */
    if (api_look(cli, why_path(cli, what), &reply, &status)) {
        return print_answers(cli, reply.body);
    }
    return status == EXIT_NOT_FOUND ? why_service(cli, what) : status;
}
