/* The command line: `enclii COMMAND [WORDS] [--options]`, sorted by the command's row; options
 * stand anywhere, before the command those that all commands know. */
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

/* One row of a list of options: "wait|w", "file|f=" (takes a text), "lines|n#" (a number). */
struct row {
    const char *text;
    size_t len, name_len;
    char short_name; /* 0 = none */
    enum { FLAG, TEXT, NUMBER } takes;
};

/* The row at `*at`, which goes on to the next one; false at the end. */
static bool next_row(const char **at, struct row *ret_row)
{
    size_t len = strcspn(*at, " "), name_len = strcspn(*at, "|=# ");
    if (len == 0) {
        return false;
    }
    char last = (*at)[len - 1];
    *ret_row = (struct row){
        .text = *at,
        .len = len,
        .name_len = name_len,
        .short_name = (*at)[name_len] == '|' ? (*at)[name_len + 1] : '\0',
        .takes = last == '='   ? TEXT
                 : last == '#' ? NUMBER
                               : FLAG,
    };
    *at += len + strspn(*at + len, " ");
    return true;
}

static const char *value_name(const struct row *row)
{
    return row->takes == NUMBER ? " NUMBER" : row->takes == TEXT ? " VALUE" : "";
}

static bool find_option(const char *list, struct ec_span name, struct row *ret_row)
{
    for (const char *at = list ? list : ""; next_row(&at, ret_row);) {
        bool is_long =
            ret_row->name_len == name.len && memcmp(ret_row->text, name.ptr, name.len) == 0;
        if (is_long || (name.len == 1 && name.ptr[0] == ret_row->short_name)) {
            return true;
        }
    }
    return false;
}

static bool wrong(const struct command *command, const char *what, const char *word)
{
    fprintf(stderr, "enclii %s: %s%s\n", command->words, what, word);
    fprintf(stderr, "Usage: enclii %s %s\n       enclii %s --help\n", command->words,
            command->args ? command->args : "", command->words);
    return false;
}

static bool is_number(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && len < 10 && strspn(text, "0123456789") == len && strspn(text, "0") < len;
}

static bool add_option(struct cli *cli, const struct command *command, const char *word,
                       const char *next, int *used)
{
    const char *name = word + (word[1] == '-' ? 2 : 1);
    struct ec_span whole = {name, strcspn(name, "=")};
    struct row row;
    bool known =
        find_option(command->options, whole, &row) || find_option(GLOBAL_OPTIONS, whole, &row);
    if (!known || cli->option_count == CLI_ARGS_MAX) {
        return wrong(command, "there is no option ", word);
    }
    const char *value = "";
    if (row.takes != FLAG && name[whole.len] == '=') {
        value = name + whole.len + 1;
    } else if (row.takes != FLAG && !next) {
        return wrong(command, "a value is missing after ", word);
    } else if (row.takes != FLAG) {
        value = next;
        *used += 1;
    } else if (name[whole.len] == '=') {
        return wrong(command, "takes no value: ", word);
    }
    if (row.takes == NUMBER && !is_number(value)) {
        return wrong(command, "a whole number above 0 must follow ",
                     ec_arena_format(cli->arena, "%s, not \"%s\"", word, value));
    }
    cli->options[cli->option_count].name =
        ec_arena_text(cli->arena, (struct ec_span){row.text, row.name_len});
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

/* Of the first word, or of both: "servce list" is near to "service list", "loca up" to "local". */
static const char *nearest_command(struct cli *cli, const char *first, const char *second)
{
    const char *names[256];
    size_t count = 0;
    for (const struct command *c = commands; c->words && count + 2 < EC_LEN(names); c++) {
        names[count++] = c->words;
        names[count++] =
            ec_arena_text(cli->arena, (struct ec_span){c->words, strcspn(c->words, " ")});
    }
    const char *both = ec_arena_format(cli->arena, "%s %s", first, second ? second : "");
    const char *near = second ? ec_nearest(ec_span_of(both), names, count) : NULL;
    return near ? near : ec_nearest(ec_span_of(first), names, count);
}

static bool unknown_command(struct cli *cli, const char *first, const char *second)
{
    const char *near = nearest_command(cli, first, second);
    fprintf(stderr, "enclii: there is no command \"%s\"%s%s%s\nTry: enclii help\n", first,
            near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return false;
}

bool print_commands_below(FILE *out, const char *first, const char *heading)
{
    bool any = false;
    size_t len = strlen(first);
    for (const struct command *c = commands; c->words; c++) {
        if (strncmp(c->words, first, len) == 0 && c->words[len] == ' ' && c->help) {
            char usage[80];
            snprintf(usage, sizeof usage, "%s %s", c->words, c->args);
            fprintf(out, "%s  enclii %-34s %s\n", any ? "" : heading, usage, c->help);
            any = true;
        }
    }
    return any;
}

/* `enclii local` alone, or with a word that it does not know: say what there is below it. */
static bool part_of_command(struct cli *cli, const char *first, const char *second)
{
    const char *heading =
        second && second[0] != '-'
            ? ec_arena_format(cli->arena, "enclii %s: there is no \"%s\". There are:\n", first,
                              second)
            : ec_arena_format(cli->arena, "enclii %s needs one more word:\n", first);
    return print_commands_below(stderr, first, heading);
}

bool args_parse(struct cli *cli, int argc, char **argv)
{
    static const struct command none = {.words = "COMMAND", .options = ""};
    size_t words = 0;
    int at = 1;
    for (; at < argc && argv[at][0] == '-' && argv[at][1]; at++) {
        if (!add_option(cli, &none, argv[at], at + 1 < argc ? argv[at + 1] : NULL, &at)) {
            return false;
        }
    }
    if (at >= argc) {
        fputs("enclii: which command?\nTry: enclii help\n", stderr);
        return false;
    }
    for (const struct command *c = commands; c->words; c++) {
        size_t n = match(c, argc - at, argv + at);
        if (n > words) {
            words = n;
            cli->command = c;
        }
    }
    if (!cli->command) {
        const char *second = at + 1 < argc ? argv[at + 1] : NULL;
        return part_of_command(cli, argv[at], second) ? false
                                                      : unknown_command(cli, argv[at], second);
    }
    for (int i = at + (int)words; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1]) {
            const char *next = i + 1 < argc ? argv[i + 1] : NULL;
            if (!add_option(cli, cli->command, argv[i], next, &i)) {
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
    struct row row;
    for (const char *at = command->options; next_row(&at, &row);) {
        printf("  --%.*s%s%s%.*s\n", (int)row.name_len, row.text, value_name(&row),
               row.short_name ? ", -" : "", row.short_name ? 1 : 0, &row.short_name);
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
    struct row row;
    for (const char *at = options; next_row(&at, &row);) {
        printf("%s`--%.*s%s`", row.text == options ? "" : " ", (int)row.name_len, row.text,
               value_name(&row));
        if (row.short_name) {
            printf(" `-%c`", row.short_name);
        }
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
