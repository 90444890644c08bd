/* enclii hooks: webhooks of repositories. Set-up says at each step whether it holds, and ends with
 * what the host's own ping came to. */
#include "cli.h"
#include "local.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"

#define SEEN_WITHIN_MS 20000
#define REFUSED_AFTER_MS 3000
#define LOOK_EVERY_US 300000 /* lint: blocks, a program that does one thing after another */

/* ---- which repository ---- */

/* acme/shop, without the host. */
static bool is_short(const char *repo)
{
    const char *slash = strchr(repo, '/');
    return slash && slash > repo && slash[1] && !strchr(slash + 1, '/') &&
           !memchr(repo, '.', (size_t)(slash - repo)) && !strpbrk(repo, ":@");
}

/* The one repository of a service that ends so. */
static const char *find_short(struct cli *cli, const char *repo, int *ret_exit)
{
    struct reply reply;
    const char *found = NULL;
    size_t at, matches = 0;
    json_t *hook;
    if (!api_call(cli, "GET", "/v1/hooks?limit=500", NULL, &reply, ret_exit)) {
        return NULL;
    }
    json_array_foreach(ec_json_at(reply.body, "hooks"), at, hook)
    {
        const char *key = ec_json_text(hook, "repo_key"), *path = strchr(key, '/');
        if (path && strcasecmp(path + 1, repo) == 0) {
            found = ec_arena_strdup(cli->arena, key);
            matches++;
        }
    }
    if (matches == 1) {
        return found;
    }
    *ret_exit =
        give_up(EXIT_NOT_FOUND,
                matches ? "%s is at several hosts; say which:  enclii hooks list"
                        : "no service is made from a repository %s. See:  enclii hooks list",
                repo);
    return NULL;
}

/* NULL = said what is wrong. */
static const char *wanted_repo(struct cli *cli, int *ret_exit)
{
    const char *repo = cli->arg_count ? cli->args[0] : git_origin_here(cli);
    if (!repo[0]) {
        *ret_exit = give_up(EXIT_ERROR, "which repository? Say github.com/acme/shop or its clone "
                                        "URL; here is no git work tree with a remote origin");
        return NULL;
    }
    return is_short(repo) ? find_short(cli, repo, ret_exit) : repo;
}

static char *path_for(struct cli *cli, const char *path, const char *repo)
{
    return api_path(cli, "%s?repo=%s", path, ec_percent(cli->arena, ec_span_of(repo)));
}

/* ---- lines ---- */

static void say(struct cli *cli, const char *title, const char *style, const char *text)
{
    printf("  %-10s %s\n", title, paint(cli, shown_text(cli, text), style));
}

static const char *strings(struct cli *cli, const json_t *list)
{
    char *all = ec_arena_strdup(cli->arena, "");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        all = ec_arena_format(cli->arena, "%s%s%s", all, i ? ", " : "", item ? item : "");
    }
    return all;
}

static const char *text_or(const json_t *root, const char *path, const char *otherwise)
{
    const char *text = ec_json_text(root, path);
    return text[0] ? text : otherwise;
}

/* ---- waiting for the ledger ---- */

/* A delivery of this id; without one, a ping that came since, but no test of ours. */
static bool is_wanted(const json_t *item, const char *id, const char *since, bool refused)
{
    if (id) {
        return strcmp(ec_json_text(item, "id"), id) == 0;
    }
    bool ping = refused ? strcmp(ec_json_text(item, "state"), "REFUSED") == 0
                        : strcmp(ec_json_text(item, "reason"), "ping") == 0;
    return ping && strncmp(ec_json_text(item, "id"), "enclii-test-", 12) != 0 &&
           strcmp(ec_json_text(item, "received_at"), since) >= 0;
}

/* NULL = it did not come in time, or the API failed (*ret_exit is set then). One that was refused
 * counts when none that was taken follows it soon. */
static const json_t *wait_for(struct cli *cli, const char *repo, const char *id, const char *since,
                              int *ret_exit)
{
    const char *path = api_path(cli, "%s&limit=20", path_for(cli, "/v1/deliveries", repo));
    int64_t began_ms = ec_mono_ms(), now_ms = began_ms;
    for (; now_ms < began_ms + SEEN_WITHIN_MS; now_ms = ec_mono_ms()) {
        struct reply reply;
        if (!api_call(cli, "GET", path, NULL, &reply, ret_exit)) {
            return NULL;
        }
        const json_t *list = ec_json_at(reply.body, "deliveries"), *refused = NULL;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *item = json_array_get(list, i);
            if (is_wanted(item, id, since, false)) {
                return item;
            }
            refused = !refused && is_wanted(item, id, since, true) ? item : refused;
        }
        if (refused && now_ms > began_ms + REFUSED_AFTER_MS) {
            return refused;
        }
        usleep(LOOK_EVERY_US);
    }
    return NULL;
}

static const char *way_of(struct cli *cli, const json_t *delivery)
{
    int64_t came_ms = ec_rfc3339_parse(ec_json_text(delivery, "received_at"));
    int64_t decided_ms = ec_rfc3339_parse(ec_json_text(delivery, "decided_at"));
    const char *took = came_ms > 0 && decided_ms >= came_ms
                           ? ec_duration_text(cli->arena, decided_ms - came_ms)
                           : "";
    return ec_arena_format(
        cli->arena, "%s (%s)%s%s%s%s", ec_json_text(delivery, "state"),
        ec_json_text(delivery, "reason"), took[0] ? ", through the pipeline in " : "", took,
        ec_json_text(delivery, "detail")[0] ? ": " : "", ec_json_text(delivery, "detail"));
}

/* ---- setup ---- */

static void print_manual(struct cli *cli, const char *repo, const json_t *manual)
{
    const char *secret = ec_json_text(manual, "secret");
    printf("\nEnter at %s\n", text_or(manual, "page", "the webhooks page of the git host"));
    say(cli, "URL", "bold", ec_json_text(manual, "url"));
    say(cli, "type", NULL, ec_json_text(manual, "content_type"));
    say(cli, "secret", "bold",
        secret[0] ? secret : "unchanged; it was shown when it was made (a new one: --rotate)");
    say(cli, "events", NULL, strings(cli, ec_json_at(manual, "events")));
    if (secret[0]) {
        printf(
            "The secret is shown this once. Deliveries signed with the common secret are refused "
            "from now on;\nback to it: enclii hooks secret %s --clear\n",
            repo);
    }
    printf("Then try it: enclii hooks test %s\n", repo);
}

/* On this machine's git server we enter it ourselves. False: a person has to. */
static bool enter_locally(struct cli *cli, const char *repo, const json_t *manual)
{
    const char *secret = ec_json_text(manual, "secret");
    enum local_kept kept = !manual || option(cli, "manual") ? LOCAL_ELSEWHERE
                           : secret[0] ? local_repo_keep_secret(cli->arena, repo, secret)
                           : local_repo_has_secret(cli->arena, repo) ? LOCAL_KEPT
                                                                     : LOCAL_ELSEWHERE;
    if (kept == LOCAL_NOT_KEPT) {
        fprintf(stderr, "The local git server could not be given the secret: its folder is not "
                        "yours to write. As root:  enclii hooks setup --rotate\n");
    }
    return kept == LOCAL_KEPT;
}

static int wait_for_ping(struct cli *cli, const char *repo, const json_t *answer)
{
    int status = EXIT_OK;
    const char *since = ec_json_text(answer, "pinged_at");
    const json_t *ping = since[0] ? wait_for(cli, repo, NULL, since, &status) : NULL;
    if (!since[0] || status != EXIT_OK) {
        return status;
    }
    if (!ping) {
        return give_up(EXIT_ERROR,
                       "the host's ping did not come within 20 s. Can it reach %s?\n"
                       "What it says itself:  enclii hooks show %s",
                       ec_json_text(answer, "hook_url"), repo);
    }
    bool refused = strcmp(ec_json_text(ping, "state"), "REFUSED") == 0;
    say(cli, "ping", refused ? "red" : "green", way_of(cli, ping));
    return refused ? give_up(EXIT_ERROR,
                             "the host's delivery was refused. Once more, with a new "
                             "secret:  enclii hooks setup %s --rotate",
                             repo)
                   : EXIT_OK;
}

static void print_setup(struct cli *cli, const json_t *answer)
{
    const char *fault = ec_json_text(answer, "fault"), *done = ec_json_text(answer, "done");
    bool changed = ec_json_bool(answer, "secret_changed", false);
    bool previous = ec_json_bool(answer, "previous", false);
    int64_t code = ec_json_int(answer, "test_status", 0);
    printf("webhook of %s\n", ec_json_text(answer, "repo"));
    say(cli, "secret", NULL,
        ec_arena_format(cli->arena, "%s%s", changed ? "made" : "its own",
                        previous ? "; the one before stays accepted (enclii hooks secret "
                                   "--forget-previous)"
                                 : ""));
    say(cli, "test", code >= 200 && code < 300 ? "green" : "yellow",
        code ? ec_arena_format(cli->arena, "our own delivery was answered with %lld%s%s",
                               (long long)code, *ec_json_text(answer, "test_detail") ? ": " : "",
                               ec_json_text(answer, "test_detail"))
             : "our own delivery did not arrive");
    if (strcmp(done, "manual") != 0) {
        say(cli, "host", "green",
            ec_arena_format(cli->arena, "%s webhook %s -> %s%s%s", done,
                            ec_json_text(answer, "hook_id"), ec_json_text(answer, "hook_url"),
                            fault[0] ? "; before, " : "", fault));
    }
    if (ec_json_text(answer, "note")[0]) {
        say(cli, "note", "yellow", ec_json_text(answer, "note"));
    }
}

int cmd_hooks_setup(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    const char *wanted = wanted_repo(cli, &status);
    if (!wanted) {
        return status;
    }
    json_t *body =
        json_pack("{s:s, s:b, s:b, s:s*}", "repo", wanted, "rotate", option(cli, "rotate") != NULL,
                  "manual", option(cli, "manual") != NULL, "url", option(cli, "url"));
    bool good = api_call(cli, "POST", "/v1/hooks/setup", body, &reply, &status);
    json_decref(body);
    if (!good) {
        return status;
    }
    const char *repo = ec_json_text(reply.body, "repo");
    bool entered = enter_locally(cli, repo, ec_json_at(reply.body, "manual"));
    if (cli->json) {
        return print_json(reply.body);
    }
    print_setup(cli, reply.body);
    if (entered) {
        say(cli, "host", "green", "the local git server signs with its secret");
        return EXIT_OK;
    }
    if (ec_json_at(reply.body, "manual")) {
        print_manual(cli, repo, ec_json_at(reply.body, "manual"));
        return EXIT_OK;
    }
    return wait_for_ping(cli, repo, reply.body);
}

/* ---- secret ---- */

int cmd_hooks_secret(struct cli *cli)
{
    static const char *const actions[][2] = {
        {"rotate", "rotate"}, {"forget-previous", "forget_previous"}, {"clear", "clear"}};
    int status = EXIT_OK;
    struct reply reply;
    const char *action = NULL, *wanted = wanted_repo(cli, &status);
    for (size_t i = 0; i < EC_LEN(actions); i++) {
        action = option(cli, actions[i][0]) ? actions[i][1] : action;
    }
    if (!wanted) {
        return status;
    }
    if (!action) {
        return give_up(EXIT_ERROR, "say --rotate, --forget-previous or --clear");
    }
    json_t *body = json_pack("{s:s, s:s}", "repo", wanted, "action", action);
    bool good = api_call(cli, "POST", "/v1/hooks/secret", body, &reply, &status);
    json_decref(body);
    if (!good) {
        return status;
    }
    const char *secret = ec_json_text(reply.body, "secret"),
               *repo = ec_json_text(reply.body, "repo");
    enum local_kept kept = LOCAL_ELSEWHERE;
    if (secret[0] || !ec_json_bool(reply.body, "own", false)) {
        kept = local_repo_keep_secret(cli->arena, repo, secret[0] ? secret : NULL);
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    if (secret[0]) {
        printf("%s\n", secret);
        fprintf(stderr,
                "The new secret of %s, shown this once: %s. The one before "
                "stays accepted until\nenclii hooks secret %s --forget-previous\n",
                repo,
                kept == LOCAL_KEPT ? "the local git server signs with it from now on"
                                   : "enter it at the git host",
                repo);
    } else if (ec_json_bool(reply.body, "own", false)) {
        printf("%s: only the present secret is accepted now\n", ec_json_text(reply.body, "repo"));
    } else {
        printf("%s: the common secret (ENCLII_GITHUB_WEBHOOK_SECRET) holds again\n",
               ec_json_text(reply.body, "repo"));
    }
    return EXIT_OK;
}

/* ---- test ---- */

static int replay(struct cli *cli, const char *id)
{
    int status = EXIT_OK;
    struct reply reply;
    const char *path =
        api_path(cli, "/v1/deliveries/%s/redeliver", ec_percent(cli->arena, ec_span_of(id)));
    if (!api_call(cli, "POST", path, NULL, &reply, &status)) {
        return status;
    }
    const char *again = ec_json_text(reply.body, "delivery_id");
    const char *shown =
        api_path(cli, "/v1/deliveries/%s", ec_percent(cli->arena, ec_span_of(again)));
    int64_t until_ms = ec_mono_ms() + SEEN_WITHIN_MS;
    while (ec_mono_ms() < until_ms) {
        if (api_look(cli, shown, &reply, &status)) {
            printf("delivered again as %s\n", again);
            say(cli, "ledger", state_style(ec_json_text(reply.body, "state")),
                way_of(cli, reply.body));
            return EXIT_OK;
        }
        if (status != EXIT_NOT_FOUND) {
            return status;
        }
        usleep(LOOK_EVERY_US);
    }
    return give_up(EXIT_ERROR, "delivered again as %s, but nothing came of it within 20 s", again);
}

int cmd_hooks_test(struct cli *cli)
{
    int status = EXIT_OK;
    struct reply reply;
    if (option(cli, "delivery")) {
        return replay(cli, option(cli, "delivery"));
    }
    const char *wanted = wanted_repo(cli, &status);
    json_t *body = wanted ? json_pack("{s:s}", "repo", wanted) : NULL;
    bool good = wanted && api_call(cli, "POST", "/v1/hooks/test", body, &reply, &status);
    json_decref(body);
    if (!good) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    const json_t *answer = reply.body;
    const char *repo = ec_json_text(answer, "repo");
    int64_t code = ec_json_int(answer, "status", 0);
    bool taken = code >= 200 && code < 300;
    printf("a signed ping for %s -> %s\n", repo, ec_json_text(answer, "url"));
    say(cli, "answer", taken ? "green" : "red",
        ec_arena_format(cli->arena, "%lld after %s%s%s", (long long)code,
                        ec_duration_text(cli->arena, ec_json_int(answer, "took_ms", 0)),
                        *ec_json_text(answer, "detail") ? ": " : "",
                        ec_json_text(answer, "detail")));
    if (!taken) {
        return give_up(EXIT_ERROR, "webhook did not take it. Its own words:  enclii deliveries "
                                   "list --state refused");
    }
    const json_t *seen = wait_for(cli, repo, ec_json_text(answer, "delivery_id"), "", &status);
    if (!seen) {
        return status != EXIT_OK
                   ? status
                   : give_up(EXIT_ERROR, "it is not in the ledger after 20 s: is `pipeline` "
                                         "running?  enclii local status");
    }
    say(cli, "ledger", "green", way_of(cli, seen));
    return EXIT_OK;
}

/* ---- showing ---- */

static void print_hook(struct cli *cli, const json_t *answer)
{
    const json_t *hook = ec_json_at(answer, "hook");
    const char *fault = ec_json_text(hook, "fault"), *error = ec_json_text(answer, "host_error");
    bool own = ec_json_bool(answer, "secret.own", false);
    const char *changed = ec_json_text(answer, "secret.changed_at");
    printf("webhook of %s\n", ec_json_text(answer, "repo"));
    say(cli, "secret", NULL,
        ec_arena_format(cli->arena, "%s%s%s%s", own ? "its own" : "the common one",
                        changed[0] ? ", changed " : "", changed[0] ? ago_text(cli, changed) : "",
                        ec_json_bool(answer, "secret.previous", false)
                            ? "; the one before is accepted too"
                            : ""));
    if (!ec_json_bool(answer, "has_api", false)) {
        say(cli, "host", NULL, "its API is not set up, so only what came here is known");
    } else if (error[0]) {
        say(cli, "host", "red", error);
    } else if (!json_is_object(hook)) {
        say(cli, "host", "red", "has no webhook of ours: enclii hooks setup");
    } else {
        say(cli, "host", fault[0] ? "red" : "green",
            ec_arena_format(cli->arena, "webhook %s -> %s%s%s%s", ec_json_text(hook, "id"),
                            ec_json_text(hook, "url"), fault[0] ? "; " : "", fault,
                            fault[0] ? ": enclii hooks setup" : ""));
        say(cli, "events", NULL, strings(cli, ec_json_at(hook, "events")));
    }
}

int cmd_hooks_show(struct cli *cli)
{
    static const struct column there[] = {
        {"SENT", "delivered_at", AGO},    {"EVENT", "event", PLAIN},
        {"ACTION", "action", PLAIN},      {"THERE", "status", STATE},
        {"HERE", "here.state", STATE},    {"REASON", "here.reason", PLAIN},
        {"DETAIL", "here.detail", PLAIN}, {"DELIVERY", "guid", PLAIN}};
    static const struct column here[] = {{"CAME", "received_at", AGO}, {"EVENT", "event", PLAIN},
                                         {"STATE", "state", STATE},    {"REASON", "reason", PLAIN},
                                         {"DETAIL", "detail", PLAIN},  {"DELIVERY", "id", PLAIN}};
    int status = EXIT_OK;
    struct reply reply, ledger;
    const char *wanted = wanted_repo(cli, &status);
    if (!wanted ||
        !api_call(cli, "GET", path_for(cli, "/v1/hooks", wanted), NULL, &reply, &status)) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    const char *path = path_for(cli, "/v1/deliveries", ec_json_text(reply.body, "repo"));
    if (!api_call(cli, "GET", api_path(cli, "%s&limit=10", path), NULL, &ledger, &status)) {
        return status;
    }
    print_hook(cli, reply.body);
    if (json_array_size(ec_json_at(reply.body, "host_deliveries")) > 0) {
        printf("\nwhat the host sent last, and what came of it here\n");
        print_list(cli, ec_json_at(reply.body, "host_deliveries"),
                   TABLE(there, "the host has sent nothing"));
    }
    printf("\nwhat came here last\n");
    print_list(cli, ec_json_at(ledger.body, "deliveries"), TABLE(here, "nothing came"));
    return EXIT_OK;
}

int cmd_hooks_list(struct cli *cli)
{
    static const struct column columns[] = {
        {"REPOSITORY", "repo_key", PLAIN},  {"SECRET CHANGED", "secret_changed_at", AGO},
        {"DELIVERS TO", "hook_url", PLAIN}, {"LAST CAME", "last_received_at", AGO},
        {"EVENT", "last_event", PLAIN},     {"STATE", "last_state", STATE}};
    int status = EXIT_OK;
    struct reply reply;
    if (!api_call(cli, "GET", "/v1/hooks?limit=500", NULL, &reply, &status)) {
        return status;
    }
    return print_list(
        cli, ec_json_at(reply.body, "hooks"),
        TABLE(columns,
              "no service names a repository. Make one:  enclii service create -f enclii.yaml"));
}
