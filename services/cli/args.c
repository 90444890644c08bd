/* The command line: `enclii COMMAND [WORDS] [--options]`, in any order, sorted by the command's
 * row. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"

/* Known to every command. */
#define GLOBAL_OPTIONS "output|o= api= project|p= help|h no-color"

static size_t word_count(const char *words)
{
    size_t count = 1;
    for (const char *at = words; *at; at++) {
        count += *at == ' ';
    }
    return count;
}

/* How many words of argv name this command; 0 = another one. */
static size_t match(const struct command *command, int argc, char **argv)
{
    const char *at = command->words;
    size_t count = word_count(at);
    if ((size_t)argc < count) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(at, " ");
        if (strlen(argv[i]) != len || strncmp(argv[i], at, len) != 0) {
            return 0;
        }
        at += len + (at[len] == ' ');
    }
    return count;
}

/* The row "name|x=" of a list of options; NULL when it has no such option. */
static const char *find_option(const char *list, const char *name, size_t len, bool *ret_value,
                               size_t *ret_len)
{
    for (const char *at = list; at && *at;) {
        size_t whole = strcspn(at, " ");
        size_t longer = strcspn(at, "|= ");
        bool is_long = longer == len && strncmp(at, name, len) == 0;
        bool is_short = len == 1 && at[longer] == '|' && at[longer + 1] == name[0];
        if (is_long || is_short) {
            *ret_value = at[whole - 1] == '=';
            *ret_len = longer;
            return at;
        }
        at += whole + strspn(at + whole, " ");
    }
    return NULL;
}

static bool wrong(const struct command *command, const char *what, const char *word)
{
    fprintf(stderr, "enclii %s: %s%s\n", command->words, what, word);
    fprintf(stderr, "Usage: enclii %s %s\n       enclii %s --help\n", command->words,
            command->args ? command->args : "", command->words);
    return false;
}

static bool add_option(struct cli *cli, const char *word, const char *next, int *used)
{
    const char *name = word + (word[1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "="), found_len = 0;
    bool takes_value = false;
    const char *found = find_option(cli->command->options, name, len, &takes_value, &found_len);
    if (!found) {
        found = find_option(GLOBAL_OPTIONS, name, len, &takes_value, &found_len);
    }
    if (!found || cli->option_count == CLI_ARGS_MAX) {
        return wrong(cli->command, "there is no option ", word);
    }
    const char *value = "";
    if (takes_value && name[len] == '=') {
        value = name + len + 1;
    } else if (takes_value && !next) {
        return wrong(cli->command, "a value is missing after ", word);
    } else if (takes_value) {
        value = next;
        *used += 1;
    } else if (name[len] == '=') {
        return wrong(cli->command, "takes no value: ", word);
    }
    cli->options[cli->option_count].name =
        ec_arena_text(cli->arena, (struct ec_span){found, found_len});
    cli->options[cli->option_count++].value = value;
    return true;
}

const char *option(const struct cli *cli, const char *name)
{
    for (size_t i = cli->option_count; i > 0; i--) {
        if (strcmp(cli->options[i - 1].name, name) == 0) {
            return cli->options[i - 1].value;
        }
    }
    return NULL;
}

static bool args_fit(const struct cli *cli)
{
    const struct command *command = cli->command;
    size_t least = 0, most = 0;
    for (const char *at = command->args; at && *at;) {
        size_t len = strcspn(at, " ");
        most++;
        least += *at != '[';
        at += len + strspn(at + len, " ");
    }
    if (cli->arg_count < least) {
        return wrong(command, "missing: ", command->args);
    }
    return cli->arg_count <= most || wrong(command, "one word too many: ", cli->args[most]);
}

static bool unknown_command(const char *word)
{
    const char *names[128];
    size_t count = 0;
    for (const struct command *c = commands; c->words && count < EC_LEN(names); c++) {
        names[count++] = c->words;
    }
    const char *near = ec_nearest(ec_span_of(word), names, count);
    fprintf(stderr, "enclii: there is no command \"%s\"%s%s%s\nTry: enclii help\n", word,
            near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return false;
}

/* `enclii local` alone: say what there is below it. */
static bool part_of_command(const char *word)
{
    bool any = false;
    size_t len = strlen(word);
    for (const struct command *c = commands; c->words; c++) {
        if (strncmp(c->words, word, len) == 0 && c->words[len] == ' ' && c->help) {
            fprintf(stderr, any ? "" : "enclii %s needs one more word:\n", word);
            fprintf(stderr, "  enclii %-26s %s\n", c->words, c->help);
            any = true;
        }
    }
    return any;
}

bool args_parse(struct cli *cli, int argc, char **argv)
{
    size_t words = 0;
    for (const struct command *c = commands; c->words; c++) {
        size_t n = match(c, argc - 1, argv + 1);
        if (n > words) {
            words = n;
            cli->command = c;
        }
    }
    if (!cli->command) {
        return part_of_command(argv[1]) ? false : unknown_command(argv[1]);
    }
    for (int i = 1 + (int)words; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1]) {
            if (!add_option(cli, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &i)) {
                return false;
            }
        } else if (cli->arg_count < CLI_ARGS_MAX) {
            cli->args[cli->arg_count++] = argv[i];
        }
    }
    return option(cli, "help") || args_fit(cli);
}

void print_command_help(const struct command *command)
{
    printf("enclii %s %s\n  %s\n", command->words, command->args ? command->args : "",
           command->help ? command->help : "");
    for (const char *at = command->options; at && *at;) {
        size_t len = strcspn(at, " "), name = strcspn(at, "|= ");
        bool short_name = at[name] == '|', value = at[len - 1] == '=';
        printf("  --%.*s%s%s%.*s\n", (int)name, at, value ? " VALUE" : "", short_name ? ", -" : "",
               short_name ? 1 : 0, short_name ? at + name + 1 : "");
        at += len + strspn(at + len, " ");
    }
    puts("  --output json|table, -o   --project NAME, -p   --api URL   --no-color   --help, -h");
}

void print_help(const struct cli *cli)
{
    (void)cli;
    puts("enclii: push to git, it runs.\n");
    for (const struct command *c = commands; c->words; c++) {
        if (c->help) {
            char usage[80];
            snprintf(usage, sizeof usage, "%s %s", c->words, c->args ? c->args : "");
            printf("  %-36s %s\n", usage, c->help);
        }
    }
    puts("\nOptions of every command:\n"
         "  --output, -o table|json   --project, -p NAME   --api URL   --no-color   --help, -h\n\n"
         "Exit status: 0 well, 1 error, 10 not found, 20 build failed, 30 deployment failed or "
         "rolled\n"
         "back, 40 not allowed, 50 the platform does not answer.\n\n"
         "Settings: ENCLII_API_URL, ENCLII_API_TOKEN, ENCLII_PROJECT; ENCLII_HOME for `enclii "
         "local`.");
}

/* "file|f= wait|w" as a cell of a table. */
static void print_options_cell(const char *options)
{
    for (const char *at = options; at && *at;) {
        size_t len = strcspn(at, " "), name = strcspn(at, "|= ");
        printf("%s`--%.*s%s`", at == options ? "" : " ", (int)name, at,
               at[len - 1] == '=' ? " VALUE" : "");
        if (at[name] == '|') {
            printf(" `-%c`", at[name + 1]);
        }
        at += len + strspn(at + len, " ");
    }
}

void print_help_markdown(void)
{
    puts("| command | does | options |\n|---|---|---|");
    for (const struct command *c = commands; c->words; c++) {
        if (c->help) {
            printf("| `enclii %s%s%s` | %s | ", c->words, c->args && c->args[0] ? " " : "",
                   c->args ? c->args : "", c->help);
            print_options_cell(c->options);
            puts(" |");
        }
    }
    fputs("\nEvery command also takes: ", stdout);
    print_options_cell(GLOBAL_OPTIONS);
    puts("");
}
