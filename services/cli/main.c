/* `enclii`: the table of all commands. Read a row, then its function in cmd_*.c or local_*.c. */
#include "cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define ARENA_MAX_BYTES (256 << 20)

/* A command without help is for machinery, not for people. */
const struct command commands[] = {
    {"login", "[URL]", "token=", "keeps the platform's address and a token", cmd_login, false},
    {"project create", "NAME", "slug=", "makes a project and uses it", cmd_project_create, false},
    {"project list", "", "", "all projects", cmd_project_list, false},
    {"project use", "NAME", "", "takes it as the default of this user", cmd_project_use, false},
    {"environment create", "NAME", "", "makes an environment of the project",
     cmd_environment_create, false},
    {"environment list", "", "", "environments of the project", cmd_environment_list, false},
    {"service create", "", "file|f=", "makes or changes a service from enclii.yaml",
     cmd_service_create, false},
    {"service list", "", "", "services of the project", cmd_service_list, false},
    {"service delete", "SERVICE", "force", "removes a service and all it runs", cmd_service_delete,
     false},
    {"channel create", "NAME URL",
     "secret= kind= event=", "tells a URL (kind webhook) or GitHub (kind github) how things end",
     cmd_channel_create, false},
    {"channel list", "", "", "who is told", cmd_channel_list, false},
    {"channel delete", "NAME", "", "tells it no more", cmd_channel_delete, false},
    {"deploy", "[SERVICE]", "service|s= commit|c= release|r= environment|e= wait|w timeout#",
     "builds a commit, or deploys a release", cmd_deploy, false},
    {"approve", "WHAT", "service|s= commit|c= reason=",
     "lets a fork's commit in (build, release or pull request number): it is built, and may be "
     "deployed",
     cmd_approve, false},
    {"pull-requests", "[SERVICE]", "state=", "pull requests, and what holds them",
     cmd_pull_requests, false},
    {"rollback", "[SERVICE]", "to|t= wait|w timeout#",
     "goes back to the release before, or --to vN", cmd_rollback, false},
    {"status", "[SERVICE]", "", "what runs, and how it is", cmd_status, false},
    {"watch", "[SERVICE]", "commit|c= timeout#", "shows a push travel, step by step", cmd_watch,
     false},
    {"logs", "[SERVICE]", "follow|f lines|n# since= environment|e= build|b=",
     "what the app prints; --build latest: what its build printed", cmd_logs, false},
    {"timeline", "[WHAT]", "service|s=",
     "a push (commit, HEAD, build, release, deployment or delivery) from webhook to notification",
     cmd_timeline, false},
    {"why", "[WHAT]", "service|s=",
     "why a service, commit, HEAD, delivery, build, release or deployment is as it is", cmd_why,
     false},
    {"verify", "[SERVICE]", "release|r=", "checks signature, provenance and SBOM anew", cmd_verify,
     false},
    {"sbom", "[SERVICE]", "release|r=", "the SBOM of a release", cmd_sbom, false},
    {"releases", "[SERVICE]", "", "built and signed releases", cmd_releases, false},
    {"deployments", "[SERVICE]", "", "what was brought where, and how it ended", cmd_deployments,
     false},
    {"builds", "[SERVICE]", "", "builds and how they ended", cmd_builds, false},
    {"deliveries list", "", "repo= state= host= event= limit#",
     "webhooks that came in, and what became of them", cmd_deliveries, false},
    {"deliveries show", "DELIVERY", "", "one of them, with the reason", cmd_delivery_show, false},
    {"deliveries redeliver", "DELIVERY", "", "takes a push once more, without the git host",
     cmd_delivery_again, false},
    {"deliveries", "", "repo= state= host= event= limit#", "the same as deliveries list",
     cmd_deliveries, false},
    {"hooks setup", "[REPOSITORY]",
     "rotate manual url=", "makes or repairs the webhook at the git host, and waits for its ping",
     cmd_hooks_setup, false},
    {"hooks show", "[REPOSITORY]", "", "the webhook, what the host sent last, and what came of it",
     cmd_hooks_show, false},
    {"hooks test", "[REPOSITORY]",
     "delivery=", "delivers a signed ping, or a kept push once more, and shows what comes of it",
     cmd_hooks_test, false},
    {"hooks secret", "[REPOSITORY]", "rotate forget-previous clear",
     "the webhook's secret without the host's API", cmd_hooks_secret, false},
    {"hooks list", "", "", "repositories and their webhooks", cmd_hooks_list, false},
    {"topics apply", "", "brokers= replication=",
     "creates the Kafka topics that are missing (ENCLII_KAFKA_*)", cmd_topics_apply, true},
    {"topics list", "", "", "the topics: keys, who writes and reads them", cmd_topics_list, true},
    {"topics acls", "[SERVICE]", "commands apply principal= brokers=",
     "what each service must be allowed on Kafka; --commands for kafka-acls, --apply gives it",
     cmd_topics_acls, true},
    {"events tail", "", "type= service|s= lines|n# replay",
     "what happens, as it happens; --replay begins some minutes ago", cmd_events_tail, false},
    {"dead list", "", "group= topic= type= all", "events that a consumer gave up", cmd_dead_list,
     false},
    {"dead show", "LETTER", "", "one of them, with headers and message", cmd_dead_show, false},
    {"dead replay", "[LETTER]", "reason= all group= topic= type=",
     "puts it back for the consumer that gave it up", cmd_dead_replay, false},
    {"dead discard", "[LETTER]",
     "reason= all group= topic= type=", "lets it go; the reason is kept", cmd_dead_discard, false},
    {"local up", "", "", "starts the whole platform on this machine", cmd_local_up, true},
    {"local down", "", "purge", "stops it; --purge also removes its data", cmd_local_down, true},
    {"local status", "", "", "what runs here", cmd_local_status, true},
    {"local logs", "[COMPONENT]", "follow|f lines|n#", "output of the platform's parts",
     cmd_local_logs, true},
    {"local repo", "NAME", "", "makes a git repository here and prints its address", cmd_local_repo,
     true},
    {"local backup", "FILE", "stop",
     "all that cannot be made again, into one file; --stop: stops "
     "it meanwhile",
     cmd_local_backup, true},
    {"local restore", "FILE", "", "brings a backup back, into an empty folder", cmd_local_restore,
     true},
    {"local rotate", "SECRET", "stop",
     "makes a secret anew: admin-token, webhook, signing-key or database-password",
     cmd_local_rotate, true},
    {"local env", "", "", "addresses and token as shell variables", cmd_local_env, true},
    {"local supervise", "", "", NULL, cmd_local_supervise, true},
    {"local hook", "", "", NULL, cmd_local_hook, true},
    {"version", "", "", "the version of this program", cmd_version, true},
    {"help", "[COMMAND] [WORD]", "markdown", "this text", cmd_help, true},
    {NULL, NULL, NULL, NULL, NULL, false},
};

extern const char ec_version[]; /* made at build time, see service.h */

int cmd_version(struct cli *cli)
{
    if (cli->json) {
        printf("{\"version\": \"%s\"}\n", ec_version);
    } else {
        printf("enclii %s\n", ec_version);
    }
    return EXIT_OK;
}

int cmd_help(struct cli *cli)
{
    if (option(cli, "markdown")) {
        print_help_markdown();
        return EXIT_OK;
    }
    if (!cli->arg_count) {
        print_help(cli);
        return EXIT_OK;
    }
    const char *words = cli->arg_count == 2
                            ? ec_arena_format(cli->arena, "%s %s", cli->args[0], cli->args[1])
                            : cli->args[0];
    for (const struct command *c = commands; c->words; c++) {
        if (strcmp(c->words, words) == 0) {
            print_command_help(c);
            return EXIT_OK;
        }
    }
    return print_commands_below(stdout, words, "")
               ? EXIT_OK
               : give_up(EXIT_ERROR, "there is no command \"%s\". See:  enclii help", words);
}

static bool set_display(struct cli *cli)
{
    const char *output = option(cli, "output");
    if (output && strcmp(output, "json") != 0 && strcmp(output, "table") != 0) {
        fprintf(stderr, "enclii: --output must be table or json, is \"%s\"\n", output);
        return false;
    }
    const char *no_color = getenv("NO_COLOR");
    bool terminal = isatty(STDOUT_FILENO);
    cli->json = output && strcmp(output, "json") == 0;
    cli->color = terminal && !option(cli, "no-color") && !(no_color && no_color[0]);
    cli->progress = terminal && !cli->json;
    return true;
}

static int run_online(struct cli *cli)
{
    struct ec_err err = config_load(cli);
    if (ec_failed(err)) {
        return give_up(EXIT_ERROR, "%s", err.what);
    }
    cli->loop = ec_loop_new();
    err = ec_fetcher_open(cli->loop, ec_arena_format(cli->arena, "enclii/%s", ec_version), 4,
                          &cli->fetcher);
    if (ec_failed(err)) {
        return give_up(EXIT_ERROR, "%s", err.what);
    }
    int status = cli->command->run(cli);
    ec_fetcher_close(cli->fetcher);
    ec_loop_stop(cli->loop);
    ec_loop_run(cli->loop); /* lets what was closed end */
    ec_loop_free(cli->loop);
    ec_secret_free(cli->token);
    return status;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    ec_log_setup("cli", EC_LOG_ERROR);
    struct cli cli = {.arena = ec_arena_new(ARENA_MAX_BYTES), .project = ""};
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(&cli);
        return argc < 2 ? EXIT_ERROR : EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        return cmd_version(&cli);
    }
    int status = EXIT_ERROR;
    if (args_parse(&cli, argc, argv) && set_display(&cli)) {
        if (option(&cli, "help")) {
            print_command_help(cli.command);
            status = EXIT_OK;
        } else {
            status = cli.command->offline ? cli.command->run(&cli) : run_online(&cli);
        }
    }
    ec_arena_free(cli.arena);
    return fflush(stdout) == 0 ? status : EXIT_ERROR;
}
