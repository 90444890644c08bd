/* Settings: environment variables only, declared in one table per service. The table parses and
 * validates, prints --help, and makes docs/settings.md. Read once at start, immutable afterwards.
 * For a setting NAME a variable NAME_FILE names a file that holds the value (mounted secrets).
 * A bad value stops the start and names the variable, the form and an example; an unknown ENCLII_*
 * variable is an error too (a typo must not silently mean the default). */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum ec_setting_type {
    EC_SETTING_TEXT,        /* const char * */
    EC_SETTING_INT,         /* int64_t, bounded by min..max */
    EC_SETTING_DURATION_MS, /* int64_t; "250ms", "10s", "30m", "2h"; a bare number means seconds */
    EC_SETTING_BYTES,       /* int64_t; "64KiB", "25MiB", "2GiB" or a bare number */
    EC_SETTING_BOOL,        /* bool; true|false */
    EC_SETTING_SECRET,      /* struct ec_secret * */
    EC_SETTING_URL,         /* const char *; scheme://host[:port][/path] */
    EC_SETTING_PATH,        /* const char *; absolute */
};

struct ec_setting {
    const char *name; /* "ENCLII_..." */
    enum ec_setting_type type;
    size_t offset;        /* into the service's settings struct */
    const char *fallback; /* text form of the default; NULL = required; "" = empty or absent */
    const char *help;     /* one sentence */
    const char *example;
    int64_t min, max; /* of INT, DURATION_MS, BYTES; both 0 = unbounded */
};

/* Fills `settings` from the environment. Texts and secrets live in `arena`/until exit.
 * `tables` is a NULL-ended list of tables, each ended by a row with name NULL; unknown-name checks
 * look at all of them. */
EC_RESULT ec_settings_read(const struct ec_setting *const *tables, void *const *structs,
                           struct ec_arena *arena);

/* The same table for people and programs. */
enum ec_settings_form {
    EC_SETTINGS_TEXT,     /* --help */
    EC_SETTINGS_MARKDOWN, /* rows of a table */
    EC_SETTINGS_ENV,      /* a file of variables to start from; defaults are commented out */
};
void ec_settings_print(const struct ec_setting *table, enum ec_settings_form form);
/* Appends one object per row to `list`: name, type, required, default, help, example, min, max. */
void ec_settings_list(const struct ec_setting *table, json_t *list);
