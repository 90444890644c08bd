/* The two clocks and RFC 3339 times. Dates are computed here (days since 1970 in the proleptic
 * Gregorian calendar), so that no time zone setting of the machine plays a part. */
#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY_MS INT64_C(86400000)
#define LAST_MS INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

static int64_t read_clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t ec_unix_ms(void)
{
    return read_clock_us(CLOCK_REALTIME) / 1000;
}

int64_t ec_mono_ms(void)
{
    return read_clock_us(CLOCK_MONOTONIC) / 1000;
}

int64_t ec_mono_us(void)
{
    return read_clock_us(CLOCK_MONOTONIC);
}

void ec_rfc3339(int64_t unix_ms, char ret_text[EC_RFC3339_SIZE])
{
    int64_t ms = unix_ms < 0 ? 0 : unix_ms > LAST_MS ? LAST_MS : unix_ms;
    time_t seconds = (time_t)(ms / 1000);
    struct tm t;
    gmtime_r(&seconds, &t);
    size_t len = strftime(ret_text, EC_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(ret_text + len, EC_RFC3339_SIZE - len, ".%03dZ", (int)(ms % 1000));
}

/* Exactly `digits` decimal digits at *at; moves it on. -1 when there are none. */
static int take_number(const char **at, int digits)
{
    int number = 0;
    for (int i = 0; i < digits; i++) {
        char c = (*at)[i];
        if (c < '0' || c > '9') {
            return -1;
        }
        number = number * 10 + (c - '0');
    }
    *at += digits;
    return number;
}

static bool take_char(const char **at, const char *any_of)
{
    if (**at == '\0' || strchr(any_of, **at) == NULL) {
        return false;
    }
    (*at)++;
    return true;
}

static int64_t days_since_1970(int year, int month, int day)
{
    int y = month <= 2 ? year - 1 : year;
    int era = (y >= 0 ? y : y - 399) / 400;
    int of_era = y - era * 400;
    int of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return (int64_t)era * 146097 + day_of_era - 719468;
}

static int days_of_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

static bool take_date_ms(const char **at, int64_t *ret_ms)
{
    int year = take_number(at, 4);
    if (year < 0 || !take_char(at, "-")) {
        return false;
    }
    int month = take_number(at, 2);
    if (month < 1 || month > 12 || !take_char(at, "-")) {
        return false;
    }
    int day = take_number(at, 2);
    if (day < 1 || day > days_of_month(year, month)) {
        return false;
    }
    *ret_ms = days_since_1970(year, month, day) * DAY_MS;
    return true;
}

static bool take_time_ms(const char **at, int64_t *ret_ms)
{
    int hour = take_number(at, 2);
    if (hour < 0 || hour > 23 || !take_char(at, ":")) {
        return false;
    }
    int minute = take_number(at, 2);
    if (minute < 0 || minute > 59 || !take_char(at, ":")) {
        return false;
    }
    int second = take_number(at, 2);
    if (second < 0 || second > 60) { /* 60: a leap second, counted as the next one */
        return false;
    }
    int64_t fraction_ms = 0;
    if (take_char(at, ".")) {
        if (**at < '0' || **at > '9') {
            return false;
        }
        for (int weight = 100; **at >= '0' && **at <= '9'; weight /= 10, (*at)++) {
            fraction_ms += (**at - '0') * weight;
        }
    }
    *ret_ms = ((int64_t)hour * 3600 + minute * 60 + second) * 1000 + fraction_ms;
    return true;
}

static bool take_offset_ms(const char **at, int64_t *ret_ms)
{
    if (take_char(at, "Zz")) {
        *ret_ms = 0;
        return true;
    }
    int sign = **at == '-' ? -1 : 1;
    if (!take_char(at, "+-")) {
        return false;
    }
    int hour = take_number(at, 2);
    if (hour < 0 || hour > 23 || !take_char(at, ":")) {
        return false;
    }
    int minute = take_number(at, 2);
    if (minute < 0 || minute > 59) {
        return false;
    }
    *ret_ms = sign * ((int64_t)hour * 60 + minute) * 60000;
    return true;
}

/* Times before 1970 are -1 too: nothing of ours is that old. */
int64_t ec_rfc3339_parse(const char *text)
{
    int64_t date_ms = 0, time_ms = 0, offset_ms = 0;
    const char *at = text;
    if (at == NULL || !take_date_ms(&at, &date_ms) || !take_char(&at, "Tt ") ||
        !take_time_ms(&at, &time_ms) || !take_offset_ms(&at, &offset_ms) || *at != '\0') {
        return -1;
    }
    int64_t ms = date_ms + time_ms - offset_ms;
    return ms < 0 ? -1 : ms;
}

char *ec_duration_text(struct ec_arena *arena, int64_t duration_ms)
{
    long long ms = duration_ms < 0 ? 0 : duration_ms;
    if (ms < 1000) {
        return ec_arena_format(arena, "%lldms", ms);
    }
    if (ms < 60000) {
        return ec_arena_format(arena, "%lld.%llds", ms / 1000, ms % 1000 / 100);
    }
    if (ms < 3600000) {
        return ec_arena_format(arena, "%lldm%02llds", ms / 60000, ms % 60000 / 1000);
    }
    return ec_arena_format(arena, "%lldh%02lldm", ms / 3600000, ms % 3600000 / 60000);
}
