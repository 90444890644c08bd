/* What HAProxy's runtime socket answers, turned into values. Columns of `show stat` are found by
 * name, so that another version of HAProxy may add and move some. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "router/haproxy.h"

#define COLUMNS_MAX 256
#define NUMBER_MAX (1LL << 53)

static bool next_line(struct ec_span *text, struct ec_span *ret_line)
{
    if (text->len == 0) {
        return false;
    }
    const char *end = memchr(text->ptr, '\n', text->len);
    size_t len = end ? (size_t)(end - text->ptr) : text->len;
    *ret_line = (struct ec_span){text->ptr, len};
    size_t eaten = end ? len + 1 : len;
    text->ptr += eaten;
    text->len -= eaten;
    while (ret_line->len > 0 && strchr(" \r\t", ret_line->ptr[ret_line->len - 1]) != NULL) {
        ret_line->len--;
    }
    return true;
}

struct ec_err ec_haproxy_check(struct ec_arena *arena, struct ec_span reply)
{
    static const char *const fine[] = {
        "New server registered", "Server deleted",  "New empty certificate store",
        "Transaction created",   "Committing ",     "Success!",
        "Inserting certificate", "Entry '",         "Certificate '",
        "no need to change the", "IP changed from", "port changed from",
    };
    struct ec_span line;
    while (next_line(&reply, &line)) {
        bool known = line.len == 0;
        for (size_t i = 0; i < EC_LEN(fine) && !known; i++) {
            known = ec_span_starts(line, fine[i]);
        }
        known = known && memmem(line.ptr, line.len, "already exists", 14) == NULL;
        if (!known) {
            return ec_reject_in(arena, "HAProxy says: %.*s", (int)(line.len > 300 ? 300 : line.len),
                                line.ptr);
        }
    }
    return ec_ok();
}

/* Splits a CSV line in place of one copy; HAProxy quotes a field only when it must. Gives the
 * number of fields. */
static size_t split_fields(struct ec_arena *arena, struct ec_span line, const char **fields)
{
    char *at = ec_arena_text(arena, line);
    size_t count = 0;
    while (at != NULL && count < COLUMNS_MAX) {
        char *end = NULL;
        if (*at == '"') {
            at++;
            end = strchr(at, '"');
            if (end != NULL) {
                *end++ = '\0';
            }
        }
        char *comma = strchr(end ? end : at, ',');
        fields[count++] = at;
        if (comma != NULL) {
            *comma = '\0';
        }
        at = comma ? comma + 1 : NULL;
    }
    return count;
}

struct columns {
    size_t backend, name, address, status, weight, open, requests, bad, no_connection, broken;
    size_t latency;
};

static struct ec_err find_columns(const char *const *names, size_t count, struct columns *ret)
{
    const struct {
        const char *name;
        size_t *at;
    } wanted[] = {
        {"pxname", &ret->backend},   {"svname", &ret->name},    {"addr", &ret->address},
        {"status", &ret->status},    {"uweight", &ret->weight}, {"scur", &ret->open},
        {"req_tot", &ret->requests}, {"hrsp_5xx", &ret->bad},   {"econ", &ret->no_connection},
        {"eresp", &ret->broken},     {"rtime", &ret->latency},
    };
    for (size_t i = 0; i < EC_LEN(wanted); i++) {
        size_t at = 0;
        while (at < count && strcmp(names[at], wanted[i].name) != 0) {
            at++;
        }
        if (at == count) {
            return ec_reject("HAProxy's `show stat` lacks a column that is needed");
        }
        *wanted[i].at = at;
    }
    return ec_ok();
}

/* Within what adding three of them cannot overflow; an empty column counts as 0. */
static int64_t number_at(const char *const *fields, size_t at)
{
    long long number = strtoll(fields[at], NULL, 10);
    return number < 0 ? 0 : number > NUMBER_MAX ? NUMBER_MAX : number;
}

static int small_at(const char *const *fields, size_t at)
{
    int64_t number = number_at(fields, at);
    return number > INT32_MAX ? INT32_MAX : (int)number;
}

/* Entries that so many bytes can hold at most, when each takes at least `least` of them. */
static size_t room_for(struct ec_span text, size_t least)
{
    return text.len / least + 1;
}

struct ec_err ec_haproxy_servers(struct ec_arena *arena, struct ec_span csv,
                                 struct ec_haproxy_server **ret_servers, size_t *ret_count)
{
    struct ec_span line = {0};
    const char **fields = ec_arena_alloc(arena, COLUMNS_MAX * sizeof *fields);
    if (!next_line(&csv, &line) || !ec_span_starts(line, "# ")) {
        return ec_reject("HAProxy's answer to `show stat` has no header line");
    }
    size_t width = split_fields(arena, (struct ec_span){line.ptr + 2, line.len - 2}, fields);
    struct columns at;
    EC_TRY(find_columns(fields, width, &at));
    /* A line has a comma or newline for each of its columns. */
    struct ec_haproxy_server *servers =
        ec_arena_alloc(arena, room_for(csv, width) * sizeof *servers);
    size_t count = 0;
    while (next_line(&csv, &line)) {
        if (line.len == 0) {
            continue;
        }
        if (split_fields(arena, line, fields) < width) {
            return ec_reject("HAProxy's answer to `show stat` has a short line");
        }
        servers[count++] = (struct ec_haproxy_server){
            .backend = fields[at.backend],
            .name = fields[at.name],
            .address = fields[at.address],
            .status = fields[at.status],
            .weight = small_at(fields, at.weight),
            .open = small_at(fields, at.open),
            .requests = number_at(fields, at.requests),
            .errors = number_at(fields, at.bad) + number_at(fields, at.no_connection) +
                      number_at(fields, at.broken),
            .latency_ms = number_at(fields, at.latency),
        };
    }
    *ret_servers = servers;
    *ret_count = count;
    return ec_ok();
}

struct ec_err ec_haproxy_map(struct ec_arena *arena, struct ec_span text,
                             struct ec_haproxy_entry **ret_entries, size_t *ret_count)
{
    struct ec_haproxy_entry *entries =
        ec_arena_alloc(arena, room_for(text, sizeof "0x k v") * sizeof *entries);
    size_t count = 0;
    struct ec_span line;
    while (next_line(&text, &line)) {
        if (line.len == 0) {
            continue;
        }
        /* "0x55d0c0 key value" */
        char *copy = ec_arena_text(arena, line);
        char *rest = NULL;
        const char *pointer = strtok_r(copy, " ", &rest);
        const char *key = strtok_r(NULL, " ", &rest);
        const char *value = strtok_r(NULL, " ", &rest);
        if (pointer == NULL || strncmp(pointer, "0x", 2) != 0 || value == NULL) {
            return ec_reject_in(arena, "HAProxy's answer to `show map` is not a map: %.*s",
                                (int)(line.len > 200 ? 200 : line.len), line.ptr);
        }
        entries[count++] = (struct ec_haproxy_entry){key, value};
    }
    *ret_entries = entries;
    *ret_count = count;
    return ec_ok();
}
