/* Which months have a partition and which go: whole months of UTC, as year * 12 + month - 1. */
#include <stdio.h>
#include <time.h>

#include "history.h"

int month_of(int64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    return (parts.tm_year + 1900) * 12 + parts.tm_mon;
}

int64_t month_begin_ms(int month)
{
    struct tm parts = {.tm_year = month / 12 - 1900, .tm_mon = month % 12, .tm_mday = 1};
    return (int64_t)timegm(&parts) * 1000;
}

void month_text(int month, char ret_text[MONTH_TEXT_SIZE])
{
    snprintf(ret_text, MONTH_TEXT_SIZE, "%04d-%02d-01", month / 12, month % 12 + 1);
}

bool month_parse(const char *text, int *ret_month)
{
    int year, month, end = 0;
    if (sscanf(text, "%4d-%2d-01%n", &year, &month, &end) != 2 || end != 10 || text[end] ||
        month < 1 || month > 12) {
        return false;
    }
    *ret_month = year * 12 + month - 1;
    return true;
}

static bool is_there(int month, const int *there, size_t there_count)
{
    for (size_t i = 0; i < there_count; i++) {
        if (there[i] == month) {
            return true;
        }
    }
    return false;
}

void decide_months(int64_t now_ms, const struct history_settings *settings, const int *there,
                   size_t there_count, struct months_plan *ret_plan)
{
    *ret_plan = (struct months_plan){.make_count = 0};
    int now = month_of(now_ms);
    for (int month = now; month <= now + (int)settings->months_ahead; month++) {
        if (!is_there(month, there, there_count)) {
            ret_plan->make[ret_plan->make_count++] = month;
        }
    }
    for (size_t i = 0; i < there_count; i++) {
        if (month_begin_ms(there[i] + 1) <= now_ms - settings->retention_ms) {
            ret_plan->drop[ret_plan->drop_count++] = there[i];
        }
    }
}

int64_t decide_time(int64_t event_ms, int64_t now_ms, int64_t retention_ms)
{
    if (event_ms > now_ms + 3600000) {
        return now_ms; /* a clock that runs ahead must not choose our partitions */
    }
    return event_ms < now_ms - retention_ms ? 0 : event_ms;
}
