/* Settings from the environment: one pass over the tables that collects every fault, so that an
 * operator sees all that is wrong at the first start and not one thing per start. */
#include "base/settings.h"

#include "base/amount.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/secret.h"

#define PREFIX "ENCLII_"
#define FAULTS_MAX_BYTES (size_t)(16 * 1024)
#define NAMES_MAX 512

extern char **environ;

struct reader {
    const struct ec_setting *const *tables;
    struct ec_arena *arena;
    struct ec_buf faults; /* one line each */
};

static const char *form_of(enum ec_setting_type type)
{
    switch (type) {
    case EC_SETTING_TEXT:
        return "a text";
    case EC_SETTING_INT:
        return "a whole number";
    case EC_SETTING_DURATION_MS:
        return "a duration: a number with ms, s, m, h or d";
    case EC_SETTING_BYTES:
        return "a size: a number with KiB, MiB or GiB";
    case EC_SETTING_BOOL:
        return "true or false";
    case EC_SETTING_SECRET:
        return "a secret";
    case EC_SETTING_URL:
        return "a URL: scheme://host[:port][/path]";
    case EC_SETTING_PATH:
        return "an absolute path";
    }
    return "a value";
}

static bool parse_int(const char *text, int64_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    *ret_number = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && !isspace((unsigned char)text[0]);
}

static bool plain_url(const char *text)
{
    const char *at = strstr(text, "://");
    if (at == NULL || at == text || !islower((unsigned char)text[0])) {
        return false;
    }
    for (const char *c = text; c < at; c++) {
        if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) &&
            strchr("+.-", *c) == NULL) {
            return false;
        }
    }
    for (const char *c = at; *c != '\0'; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f) {
            return false;
        }
    }
    return at[3] != '\0';
}

static bool parse_bounded(const struct ec_setting *row, const char *text, int64_t *ret_number)
{
    int64_t number = 0;
    bool (*parse)(const char *, int64_t *) = row->type == EC_SETTING_DURATION_MS
                                                 ? ec_amount_duration_ms
                                             : row->type == EC_SETTING_BYTES ? ec_amount_bytes
                                                                             : parse_int;
    if (!parse(text, &number)) {
        return false;
    }
    bool bounded = row->min != 0 || row->max != 0;
    if (bounded && (number < row->min || number > row->max)) {
        return false;
    }
    *ret_number = number;
    return true;
}

/* Stores the value in the struct; false when the text is not of the row's form. */
static bool store(const struct ec_setting *row, void *settings, struct ec_arena *arena,
                  struct ec_span value)
{
    void *at = (char *)settings + row->offset;
    const char *text = row->type == EC_SETTING_SECRET ? "" : ec_arena_text(arena, value);
    switch (row->type) {
    case EC_SETTING_SECRET:
        *(struct ec_secret **)at = value.len > 0 ? ec_secret_new(value) : NULL;
        return true;
    case EC_SETTING_BOOL:
        if (value.len > 0 && strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            return false;
        }
        *(bool *)at = strcmp(text, "true") == 0;
        return true;
    case EC_SETTING_INT:
    case EC_SETTING_DURATION_MS:
    case EC_SETTING_BYTES:
        *(int64_t *)at = 0;
        return value.len == 0 || parse_bounded(row, text, at);
    case EC_SETTING_URL:
    case EC_SETTING_PATH:
    case EC_SETTING_TEXT:
        *(const char **)at = text;
        break;
    }
    bool absent = value.len == 0 || row->type == EC_SETTING_TEXT;
    return absent || (row->type == EC_SETTING_URL ? plain_url(text) : text[0] == '/');
}

static const struct ec_setting *find_row(const struct ec_setting *const *tables, const char *name,
                                         size_t len)
{
    for (; *tables != NULL; tables++) {
        for (const struct ec_setting *row = *tables; row->name != NULL; row++) {
            if (strlen(row->name) == len && memcmp(row->name, name, len) == 0) {
                return row;
            }
        }
    }
    return NULL;
}

static void fault_form(struct reader *reader, const struct ec_setting *row, const char *name,
                       const char *shown)
{
    ec_buf_addf(&reader->faults, "%s must be %s", name, form_of(row->type));
    if (row->min != 0 || row->max != 0) {
        ec_buf_addf(&reader->faults, " from %lld to %lld", (long long)row->min,
                    (long long)row->max);
        ec_buf_add_text(&reader->faults, row->type == EC_SETTING_DURATION_MS ? " ms" : "");
    }
    if (row->type != EC_SETTING_SECRET && shown != NULL) {
        ec_buf_addf(&reader->faults, ", is \"%.100s\"", shown);
    }
    if (row->example != NULL) {
        ec_buf_addf(&reader->faults, "; for example %s=%s", name, row->example);
    }
    ec_buf_add_text(&reader->faults, "\n");
}

/* The value of NAME_FILE; a row that is itself called so is left alone. */
static const char *file_variable(const struct reader *reader, const char *name)
{
    const char *file_name = ec_arena_format(reader->arena, "%s_FILE", name);
    if (find_row(reader->tables, file_name, strlen(file_name)) != NULL) {
        return NULL;
    }
    const char *path = getenv(file_name);
    return path != NULL && path[0] != '\0' ? path : NULL;
}

/* An empty file says as little as an empty variable: whoever mounts a file for each service leaves
 * those empty that are not wanted. */
static void read_from_file(struct reader *reader, const struct ec_setting *row, void *settings,
                           const char *path)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *content = NULL;
    struct ec_err err = ec_secret_read(path, &content);
    if (ec_failed(err)) {
        ec_buf_addf(&reader->faults, "%s_FILE names %s: %s (%s)\n", row->name, path, err.what,
                    strerror(err.sys));
        return;
    }
    struct ec_span value = ec_secret_use(content);
    bool empty = value.len == 0;
    if (empty && row->fallback != NULL) {
        value = ec_span_of(row->fallback);
    }
    if ((empty && row->fallback == NULL) || !store(row, settings, reader->arena, value)) {
        fault_form(reader, row, row->name, empty ? "" : NULL);
    }
}

static void read_row(struct reader *reader, const struct ec_setting *row, void *settings)
{
    const char *text = getenv(row->name);
    bool given = text != NULL && text[0] != '\0'; /* empty counts as not set */
    const char *path = file_variable(reader, row->name);
    if (given && path != NULL) {
        ec_buf_addf(&reader->faults, "%s and %s_FILE are both set: leave one\n", row->name,
                    row->name);
        return;
    }
    if (path != NULL) {
        read_from_file(reader, row, settings, path);
        return;
    }
    if (!given && row->fallback == NULL) {
        ec_buf_addf(&reader->faults, "%s is missing: %s; it is %s", row->name, row->help,
                    form_of(row->type));
        ec_buf_addf(&reader->faults, row->example != NULL ? ", for example %s\n" : "%s\n",
                    row->example != NULL ? row->example : "");
        return;
    }
    const char *value = given ? text : row->fallback;
    if (!store(row, settings, reader->arena, ec_span_of(value))) {
        fault_form(reader, row, row->name, value);
    }
}

static bool known_name(const struct ec_setting *const *tables, const char *name, size_t len)
{
    static const size_t suffix_len = sizeof("_FILE") - 1;
    return find_row(tables, name, len) != NULL ||
           (len > suffix_len && memcmp(name + len - suffix_len, "_FILE", suffix_len) == 0 &&
            find_row(tables, name, len - suffix_len) != NULL);
}

static void check_unknown(struct reader *reader)
{
    const char *names[NAMES_MAX];
    size_t name_count = 0;
    for (const struct ec_setting *const *table = reader->tables; *table != NULL; table++) {
        for (const struct ec_setting *row = *table; row->name != NULL && name_count < NAMES_MAX;
             row++) {
            names[name_count++] = row->name;
        }
    }
    for (char **variable = environ; *variable != NULL; variable++) {
        size_t len = strcspn(*variable, "=");
        if (strncmp(*variable, PREFIX, strlen(PREFIX)) != 0 ||
            known_name(reader->tables, *variable, len)) {
            continue;
        }
        ec_buf_addf(&reader->faults, "%.*s is no setting of this program", (int)len, *variable);
        const char *near = ec_nearest((struct ec_span){*variable, len}, names, name_count);
        ec_buf_addf(&reader->faults, near != NULL ? ": did you mean %s?\n" : "%s: see --help\n",
                    near != NULL ? near : "");
    }
}

EC_RESULT ec_settings_read(const struct ec_setting *const *tables, void *const *structs,
                           struct ec_arena *arena)
{
    struct reader reader = {.tables = tables, .arena = arena};
    ec_buf_init(&reader.faults, FAULTS_MAX_BYTES);
    for (size_t i = 0; tables[i] != NULL; i++) {
        for (const struct ec_setting *row = tables[i]; row->name != NULL; row++) {
            read_row(&reader, row, structs[i]);
        }
    }
    check_unknown(&reader);
    struct ec_err err = ec_ok();
    if (reader.faults.len > 0) {
        size_t last = reader.faults.len - 1; /* without the last newline */
        err = ec_reject(ec_arena_text(arena, (struct ec_span){reader.faults.ptr, last}));
    }
    ec_buf_done(&reader.faults);
    return err;
}

/* The default as people read it. */
static const char *shown_default(const struct ec_setting *row)
{
    return row->fallback == NULL ? "required" : row->fallback[0] == '\0' ? "none" : row->fallback;
}

static void print_text(const struct ec_setting *row)
{
    printf("  %s  (%s)\n      %s", row->name, shown_default(row), row->help);
    printf(row->example != NULL ? " Example: %s\n" : "%s\n",
           row->example != NULL ? row->example : "");
}

static void print_markdown(const struct ec_setting *row)
{
    bool value = row->fallback != NULL && row->fallback[0] != '\0';
    printf(value ? "| `%s` | %s | `%s` | %s |\n" : "| `%s` | %s | %s | %s |\n", row->name,
           form_of(row->type), shown_default(row), row->help);
}

static void print_env(const struct ec_setting *row)
{
    const char *example = row->example != NULL ? row->example : "";
    bool value = row->fallback != NULL && row->fallback[0] != '\0';
    printf("# %s (%s; %s)\n", row->help, form_of(row->type), shown_default(row));
    printf("%s%s=%s\n\n", row->fallback == NULL ? "" : "#", row->name,
           value ? row->fallback : example);
}

void ec_settings_print(const struct ec_setting *table, enum ec_settings_form form)
{
    for (const struct ec_setting *row = table; row != NULL && row->name != NULL; row++) {
        switch (form) {
        case EC_SETTINGS_TEXT:
            print_text(row);
            break;
        case EC_SETTINGS_MARKDOWN:
            print_markdown(row);
            break;
        case EC_SETTINGS_ENV:
            print_env(row);
            break;
        }
    }
}

void ec_settings_list(const struct ec_setting *table, json_t *list)
{
    for (const struct ec_setting *row = table; row != NULL && row->name != NULL; row++) {
        json_t *one = json_pack("{s:s, s:s, s:b, s:s*, s:s, s:s*}", "name", row->name, "form",
                                form_of(row->type), "required", row->fallback == NULL, "default",
                                row->fallback, "help", row->help, "example", row->example);
        if (row->min != 0 || row->max != 0) {
            json_object_set_new(one, "min", json_integer(row->min));
            json_object_set_new(one, "max", json_integer(row->max));
        }
        json_object_set_new(one, "secret", json_boolean(row->type == EC_SETTING_SECRET));
        json_array_append_new(list, one);
    }
}
