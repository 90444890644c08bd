/* enclii dead: events that a consumer gave up. The API has the rules; here they are made pleasant:
 * the beginning of an id is enough, and --all takes everything the filters show. */
#include "cli.h"

#include <string.h>

#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"

#define AT_ONCE 500  /* letters per question to the API */
#define KEY_SHOWN 73 /* two ids and a colon */

static const struct column columns[] = {
    {"LETTER", "id", SHORT_SHA},    {"WHEN", "dead_at", AGO},    {"BY", "consumer_group", PLAIN},
    {"EVENT", "event_type", PLAIN}, {"TOPIC", "topic", PLAIN},   {"KEY", "key", PLAIN},
    {"STATE", "state", STATE},      {"REASON", "reason", PLAIN},
};

static const char *query_value(struct cli *cli, const char *name)
{
    const char *value = option(cli, name);
    return ec_arena_format(cli->arena, "&%s=%s", name,
                           ec_percent(cli->arena, ec_span_of(value ? value : "")));
}

static const char *list_path(struct cli *cli, const char *state)
{
    return api_path(cli, "/v1/dead-letters?limit=%d&state=%s%s%s%s", AT_ONCE, state,
                    query_value(cli, "group"), query_value(cli, "topic"), query_value(cli, "type"));
}

/* A stranger's key may be as long as a record. */
static void cut_keys(const json_t *letters)
{
    size_t i;
    json_t *letter;
    json_array_foreach(letters, i, letter)
    {
        const char *key = ec_json_text(letter, "key");
        if (strlen(key) > KEY_SHOWN) {
            char text[KEY_SHOWN + 4];
            int len = KEY_SHOWN;
            while (len > 0 && (key[len] & 0xc0) == 0x80) {
                len--; /* not within a letter */
            }
            snprintf(text, sizeof text, "%.*s...", len, key);
            json_object_set_new(letter, "key", json_string(text));
        }
    }
}

int cmd_dead_list(struct cli *cli)
{
    struct reply reply;
    int status = EXIT_OK;
    const char *state = option(cli, "all") ? "all" : "open";
    if (!api_call(cli, "GET", list_path(cli, state), NULL, &reply, &status)) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    const json_t *letters = ec_json_at(reply.body, "dead_letters");
    cut_keys(letters);
    status =
        print_list(cli, letters, TABLE(columns, "no dead letters: no consumer gave up an event"));
    if (json_array_size(letters) == AT_ONCE) {
        printf("and more: %lld are open in all\n", (long long)ec_json_int(reply.body, "open", 0));
    }
    return status;
}

/* The letter whose id begins so; NULL = said why not. */
static const char *find_letter(struct cli *cli, const char *begins, int *ret_exit)
{
    struct reply reply;
    const char *found = NULL;
    if (strlen(begins) == 36) {
        return begins;
    }
    const char *path = ec_arena_format(cli->arena, "%s&id=%s", list_path(cli, "all"),
                                       ec_percent(cli->arena, ec_span_of(begins)));
    if (!api_call(cli, "GET", path, NULL, &reply, ret_exit)) {
        return NULL;
    }
    size_t i;
    const json_t *letter;
    json_array_foreach(ec_json_at(reply.body, "dead_letters"), i, letter)
    {
        const char *id = ec_json_text(letter, "id");
        if (strncmp(id, begins, strlen(begins)) == 0) {
            if (found) {
                *ret_exit = give_up(EXIT_ERROR,
                                    "more than one dead letter begins with \"%s\"; say more of "
                                    "its id. See:  enclii dead list --all",
                                    begins);
                return NULL;
            }
            found = id;
        }
    }
    if (!found) {
        *ret_exit = give_up(EXIT_NOT_FOUND,
                            "there is no dead letter \"%s\". See:  enclii dead list", begins);
    }
    return found;
}

static void print_line(const char *name, const char *value)
{
    if (value[0]) {
        printf("%-12s %s\n", name, value);
    }
}

static void print_letter(const json_t *letter)
{
    static const char *const lines[][2] = {
        {"letter", "id"},
        {"state", "state"},
        {"reason", "reason"},
        {"given up", "dead_at"},
        {"by", "consumer_group"},
        {"event", "event_type"},
        {"event id", "event_id"},
        {"about", "subject"},
        {"written", "event_at"},
        {"key", "key"},
        {"trace", "trace"},
        {"settled", "settled_at"},
        {"settled by", "settled_by"},
        {"why", "settled_why"},
    };
    for (size_t i = 0; i < EC_LEN(lines); i++) {
        print_line(lines[i][0], ec_json_text(letter, lines[i][1]));
    }
    printf("%-12s %s, partition %lld, offset %lld\n", "was at", ec_json_text(letter, "topic"),
           (long long)ec_json_int(letter, "partition", 0),
           (long long)ec_json_int(letter, "offset", 0));
    size_t i;
    const json_t *header;
    json_array_foreach(ec_json_at(letter, "headers"), i, header)
    {
        printf("%-12s %s: %s\n", i ? "" : "headers", ec_json_text(header, "name"),
               ec_json_text(header, "value"));
    }
    long long left_out = (long long)ec_json_int(letter, "left_out_bytes", 0);
    long long size = (long long)ec_json_int(letter, "value_bytes", 0);
    printf("%-12s %lld bytes%s\n", "value", left_out ? left_out : size,
           left_out ? ", too many to be kept" : "");
    const json_t *message = json_object_get(letter, "message");
    if (message) {
        print_json(message);
    } else {
        print_line("", ec_json_text(letter, "message_error"));
    }
}

int cmd_dead_show(struct cli *cli)
{
    struct reply reply;
    int status = EXIT_OK;
    const char *id = find_letter(cli, cli->args[0], &status);
    if (!id ||
        !api_call(cli, "GET", api_path(cli, "/v1/dead-letters/%s", id), NULL, &reply, &status)) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    print_letter(reply.body);
    return EXIT_OK;
}

/* ---- replay and discard ---- */

static int settle_one(struct cli *cli, const char *verb, const char *id)
{
    struct reply reply;
    int status = EXIT_OK;
    const char *reason = option(cli, "reason");
    json_t *body = json_object();
    if (reason) {
        json_object_set_new(body, "reason", json_string(reason));
    }
    bool done = api_call(cli, "POST", api_path(cli, "/v1/dead-letters/%s/%s", id, verb), body,
                         &reply, &status);
    json_decref(body);
    if (!done) {
        return status;
    }
    if (cli->json) {
        return print_json(reply.body);
    }
    printf("%.7s %s %s\n", id, ec_json_text(reply.body, "event_type"),
           strcmp(verb, "replay") == 0 ? "goes back to its topic" : "is let go");
    return EXIT_OK;
}

/* One by one, so that a letter that cannot go back does not hold the others. */
static int settle_all(struct cli *cli, const char *verb)
{
    struct reply reply;
    int status = EXIT_OK, worst = EXIT_OK;
    if (!api_call(cli, "GET", list_path(cli, "open"), NULL, &reply, &status)) {
        return status;
    }
    const json_t *letters = ec_json_at(reply.body, "dead_letters");
    for (size_t i = json_array_size(letters); i-- > 0;) { /* the oldest first */
        status = settle_one(cli, verb, ec_json_text(json_array_get(letters, i), "id"));
        worst = status != EXIT_OK ? status : worst;
        if (status == EXIT_NOT_ALLOWED || status == EXIT_UNREACHABLE) {
            return status;
        }
    }
    if (json_array_size(letters) == AT_ONCE) {
        printf("these were the newest %d; say it again for the others\n", AT_ONCE);
    }
    return worst;
}

static int settle(struct cli *cli, const char *verb)
{
    int status = EXIT_OK;
    bool all = option(cli, "all") != NULL;
    if (all == (cli->args[0] != NULL)) {
        return give_up(EXIT_ERROR, "which letter? Say its id, or --all (with --group, --topic, "
                                   "--type). See:  enclii dead list");
    }
    if (all) {
        return settle_all(cli, verb);
    }
    const char *id = find_letter(cli, cli->args[0], &status);
    return id ? settle_one(cli, verb, id) : status;
}

int cmd_dead_replay(struct cli *cli)
{
    return settle(cli, "replay");
}

int cmd_dead_discard(struct cli *cli)
{
    if (!option(cli, "reason")) {
        return give_up(EXIT_ERROR, "say why it may go:  --reason \"...\" (kept in the audit log)");
    }
    return settle(cli, "discard");
}
