/* Tables, colours and JSON. Columns are as wide as their widest cell; widths count UTF-8 letters.
 */
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"

#define COLUMNS_MAX 12
#define SHOWN_MAX_BYTES 16384

int give_up(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("enclii: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return status;
}

const char *paint(const struct cli *cli, const char *text, const char *style)
{
    static const struct {
        const char *name, *code;
    } styles[] = {{"red", "31"},  {"green", "32"}, {"yellow", "33"}, {"blue", "34"},
                  {"cyan", "36"}, {"dim", "2"},    {"bold", "1"}};
    for (size_t i = 0; cli->color && style && i < EC_LEN(styles); i++) {
        if (strcmp(styles[i].name, style) == 0) {
            return ec_arena_format(cli->arena, "\033[%sm%s\033[0m", styles[i].code, text);
        }
    }
    return text;
}

const char *state_style(const char *state)
{
    static const struct {
        const char *words, *style;
    } styles[] = {
        {" HEALTHY READY SUCCEEDED ACTIVE ACCEPTED healthy ready running success active ok ",
         "green"},
        {" FAILED REJECTED ROLLED_BACK TIMED_OUT failed unhealthy rolled_back error ", "red"},
        {" CANCELLED SUPERSEDED IGNORED DUPLICATE unknown stopped ", "dim"},
    };
    const size_t len = strlen(state);
    for (size_t i = 0; len > 0 && i < EC_LEN(styles); i++) {
        const char *at = strstr(styles[i].words, state);
        if (at && at[-1] == ' ' && at[len] == ' ') {
            return styles[i].style;
        }
    }
    return "yellow";
}

const char *ago_text(struct cli *cli, const char *rfc3339)
{
    int64_t then = ec_rfc3339_parse(rfc3339);
    if (then <= 0) {
        return "";
    }
    int64_t s = (ec_unix_ms() - then) / 1000;
    static const struct {
        int64_t below, unit;
        const char *name;
    } steps[] = {{60, 1, "s"}, {3600, 60, "m"}, {86400, 3600, "h"}, {INT64_MAX, 86400, "d"}};
    s = s < 0 ? 0 : s;
    for (size_t i = 0; i < EC_LEN(steps); i++) {
        if (s < steps[i].below) {
            return ec_arena_format(cli->arena, "%lld%s ago", (long long)(s / steps[i].unit),
                                   steps[i].name);
        }
    }
    return "";
}

int print_json(const json_t *root)
{
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
    return EXIT_OK;
}

const char *shown_text(struct cli *cli, const char *text)
{
    return ec_text_clean(cli->arena, ec_span_of(text), SHOWN_MAX_BYTES);
}

static const char *cell(struct cli *cli, const json_t *item, const struct column *column)
{
    const json_t *value = ec_json_at(item, column->path);
    if (json_is_integer(value)) {
        long long number = (long long)json_integer_value(value);
        return column->kind == DURATION ? ec_duration_text(cli->arena, number)
                                        : ec_arena_format(cli->arena, "%lld", number);
    }
    if (json_is_boolean(value)) {
        return json_is_true(value) ? "yes" : "no";
    }
    const char *text = json_is_string(value) ? shown_text(cli, json_string_value(value)) : "";
    if (column->kind == AGO) {
        return ago_text(cli, text);
    }
    size_t line = strcspn(text, "\n");
    return column->kind == SHORT_SHA ? ec_arena_format(cli->arena, "%.7s", text)
           : text[line]              ? ec_arena_format(cli->arena, "%.*s …", (int)line, text)
                                     : text;
}

size_t text_letters(const char *text)
{
    size_t count = 0;
    for (; *text; text++) {
        count += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return count;
}

static void pad(size_t from, size_t to)
{
    for (; from < to; from++) {
        putchar(' ');
    }
}

int print_list(struct cli *cli, const json_t *list, const struct table *table)
{
    const struct column *columns = table->columns;
    size_t widths[COLUMNS_MAX] = {0};
    size_t rows = json_array_size(list), count = table->count;
    if (cli->json) {
        return print_json(list);
    }
    if (rows == 0) {
        printf("%s\n", paint(cli, table->none, "dim"));
        return EXIT_OK;
    }
    for (size_t c = 0; c < count; c++) {
        widths[c] = text_letters(columns[c].title);
        for (size_t r = 0; r < rows; r++) {
            size_t width = text_letters(cell(cli, json_array_get(list, r), &columns[c]));
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    for (size_t c = 0; c < count; c++) {
        fputs(paint(cli, columns[c].title, "dim"), stdout);
        pad(text_letters(columns[c].title), c + 1 < count ? widths[c] + 2 : 0);
    }
    putchar('\n');
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < count; c++) {
            const char *text = cell(cli, json_array_get(list, r), &columns[c]);
            fputs(columns[c].kind == STATE ? paint(cli, text, state_style(text)) : text, stdout);
            pad(text_letters(text), c + 1 < count ? widths[c] + 2 : 0);
        }
        putchar('\n');
    }
    return EXIT_OK;
}
