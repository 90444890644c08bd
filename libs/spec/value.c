/* Forms of single values in a spec: durations, quantities as Kubernetes writes them, names. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "spec/internal.h"

bool spec_value_bool(const struct node *node, bool *ret)
{
    if (node->kind != NODE_TEXT || !node->plain ||
        (strcmp(node->text, "true") != 0 && strcmp(node->text, "false") != 0)) {
        return false;
    }
    *ret = node->text[0] == 't';
    return true;
}

bool spec_value_int(const struct node *node, int64_t *ret)
{
    if (node->kind != NODE_TEXT || !node->plain) {
        return false;
    }
    const char *digits = node->text + (node->text[0] == '-' ? 1 : 0);
    size_t len = strspn(digits, "0123456789");
    if (len == 0 || len > 18 || digits[len] != '\0') {
        return false;
    }
    *ret = strtoll(node->text, NULL, 10);
    return true;
}

/* A decimal number without sign or exponent at *at; moves it on. */
static bool take_decimal(const char **at, double *ret)
{
    size_t len = strspn(*at, "0123456789");
    if (len == 0 || len > 15) {
        return false;
    }
    double number = strtod(*at, NULL); /* stops at a unit; the first character is a digit */
    if ((*at)[len] == '.') {
        size_t fraction = strspn(*at + len + 1, "0123456789");
        if (fraction == 0 || fraction > 9) {
            return false;
        }
        len += fraction + 1;
    }
    if ((*at)[len] == 'e' || (*at)[len] == 'x' || (*at)[len] == 'X' || (*at)[len] == 'p') {
        return false; /* strtod would have read an exponent or a hexadecimal number */
    }
    *at += len;
    *ret = number;
    return true;
}

struct unit {
    const char *name;
    double factor;
};

/* Takes the longest unit that stands at *at. */
static bool take_unit(const char **at, const struct unit *units, size_t count, double *ret_factor)
{
    const struct unit *best = NULL;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(*at, units[i].name, strlen(units[i].name)) == 0 &&
            (best == NULL || strlen(units[i].name) > strlen(best->name))) {
            best = &units[i];
        }
    }
    if (best == NULL) {
        return false;
    }
    *at += strlen(best->name);
    *ret_factor = best->factor;
    return true;
}

static bool to_int64(double number, int64_t *ret)
{
    if (!(number >= 0 && number < 9e15)) {
        return false;
    }
    *ret = llround(number);
    return true;
}

bool spec_value_duration_ms(const char *text, int64_t *ret_ms)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
    };
    double sum = 0, number = 0, factor = 1000;
    const char *at = text;
    do {
        if (!take_decimal(&at, &number)) {
            return false;
        }
        bool bare = *at == '\0' && sum == 0; /* seconds */
        if (!bare && !take_unit(&at, units, EC_LEN(units), &factor)) {
            return false;
        }
        sum += number * factor;
    } while (*at != '\0');
    return to_int64(sum, ret_ms);
}

bool spec_value_bytes(const char *text, int64_t *ret_bytes)
{
    static const struct unit units[] = {
        {"", 1},       {"k", 1e3},       {"K", 1e3},       {"M", 1e6},      {"G", 1e9},
        {"T", 1e12},   {"Ki", 1024},     {"Mi", 1048576},  {"Gi", 1 << 30}, {"Ti", 1099511627776.0},
        {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1 << 30},
    };
    double number = 0, factor = 1;
    const char *at = text;
    return take_decimal(&at, &number) && take_unit(&at, units, EC_LEN(units), &factor) &&
           *at == '\0' && to_int64(number * factor, ret_bytes);
}

bool spec_value_cpu_milli(const char *text, int64_t *ret_milli)
{
    static const struct unit units[] = {{"", 1000}, {"m", 1}};
    double number = 0, factor = 1;
    const char *at = text;
    return take_decimal(&at, &number) && take_unit(&at, units, EC_LEN(units), &factor) &&
           *at == '\0' && to_int64(number * factor, ret_milli);
}

bool spec_value_share(const char *text, double *ret)
{
    double number = 0;
    const char *at = text;
    if (!take_decimal(&at, &number)) {
        return false;
    }
    bool percent = strcmp(at, "%") == 0;
    if ((!percent && *at != '\0') || number > 100) {
        return false;
    }
    *ret = percent || number > 1 ? number / 100 : number;
    return true;
}

bool spec_value_env_name(const char *text)
{
    if (!isalpha((unsigned char)text[0]) && text[0] != '_') {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && *c != '_') {
            return false;
        }
    }
    return strlen(text) <= 256;
}

static bool good_label(const char *text, size_t len)
{
    if (len == 0 || len > 63 || text[0] == '-' || text[len - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) &&
            text[i] != '-') {
            return false;
        }
    }
    return true;
}

bool spec_value_label(const char *text)
{
    return good_label(text, strlen(text));
}

bool spec_value_hostname(const char *text)
{
    if (strlen(text) > 253) {
        return false;
    }
    for (const char *label = text;; label++) {
        size_t len = strcspn(label, ".");
        if (!good_label(label, len)) {
            return false;
        }
        label += len;
        if (*label == '\0') {
            return true;
        }
    }
}

bool spec_value_relative_path(const char *text)
{
    if (text[0] == '\0' || text[0] == '/' || strlen(text) > 1024) {
        return false;
    }
    for (const char *segment = text;; segment++) {
        size_t len = strcspn(segment, "/");
        if (len == 2 && memcmp(segment, "..", 2) == 0) {
            return false;
        }
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)segment[i] < ' ' || segment[i] == 0x7f || segment[i] == '\\') {
                return false;
            }
        }
        segment += len;
        if (*segment == '\0') {
            return true;
        }
    }
}
