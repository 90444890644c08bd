/* Amounts as people write them. */
#include "base/amount.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

bool ec_amount_decimal(const char **at, double *ret)
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

bool ec_amount_duration_ms(const char *text, int64_t *ret_ms)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
    };
    double sum = 0, number = 0, factor = 1000;
    const char *at = text;
    bool first = true;
    do {
        if (!ec_amount_decimal(&at, &number)) {
            return false;
        }
        bool bare = *at == '\0' && first; /* seconds */
        if (!bare && !take_unit(&at, units, EC_LEN(units), &factor)) {
            return false;
        }
        sum += number * factor;
        first = false;
    } while (*at != '\0');
    return to_int64(sum, ret_ms);
}

bool ec_amount_bytes(const char *text, int64_t *ret_bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"k", 1e3},
        {"K", 1e3},
        {"M", 1e6},
        {"G", 1e9},
        {"T", 1e12},
        {"Ki", 1024},
        {"Mi", 1048576},
        {"Gi", 1 << 30},
        {"Ti", 1099511627776.0},
        {"KiB", 1024},
        {"MiB", 1048576},
        {"GiB", 1 << 30},
    };
    double number = 0, factor = 1;
    const char *at = text;
    return ec_amount_decimal(&at, &number) && take_unit(&at, units, EC_LEN(units), &factor) &&
           *at == '\0' && to_int64(number * factor, ret_bytes);
}

bool ec_amount_cpu_milli(const char *text, int64_t *ret_milli)
{
    static const struct unit units[] = {{"", 1000}, {"m", 1}};
    double number = 0, factor = 1;
    const char *at = text;
    return ec_amount_decimal(&at, &number) && take_unit(&at, units, EC_LEN(units), &factor) &&
           *at == '\0' && to_int64(number * factor, ret_milli);
}
