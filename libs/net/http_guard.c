/* Refuses rather than repairs: whoever sends such a request is broken or probing. */
#include "net/http_guard.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/encode.h"
#include "base/mem.h"

static struct ec_guard_fault bad(const char *detail)
{
    return (struct ec_guard_fault){400, "bad_request", detail};
}

static size_t count_of(const struct ec_header *headers, size_t count, const char *name,
                       const char **ret_value)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(headers[i].name, name) == 0) {
            *ret_value = headers[i].value;
            found++;
        }
    }
    return found;
}

/* Anything but the plain bytes. */
static bool is_encoded(const struct ec_header *headers, size_t count)
{
    const char *coding = NULL;
    size_t codings = count_of(headers, count, "content-encoding", &coding);
    return codings > 1 || (codings == 1 && strcasecmp(coding, "identity") != 0);
}

static bool has_control(const char *text, const char *allowed)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c < 0x20 || c == 0x7f) && !strchr(allowed, c)) {
            return true;
        }
    }
    return false;
}

static bool is_decimal(const char *text)
{
    size_t len = strspn(text, "0123456789");
    return len > 0 && len <= 18 && text[len] == '\0';
}

struct ec_guard_fault ec_guard_headers(const struct ec_header *headers, size_t count)
{
    const char *length = NULL, *encoding = NULL, *host = NULL;
    size_t lengths = count_of(headers, count, "content-length", &length);
    size_t encodings = count_of(headers, count, "transfer-encoding", &encoding);
    if (lengths > 1) {
        return bad("Content-Length is given more than once");
    }
    if (lengths == 1 && !is_decimal(length)) {
        return bad("Content-Length is not a decimal number");
    }
    if (encodings > 1 || (encodings == 1 && strcasecmp(encoding, "chunked") != 0)) {
        return bad("the only Transfer-Encoding accepted is one \"chunked\"");
    }
    if (lengths == 1 && encodings == 1) {
        return bad("Content-Length and Transfer-Encoding exclude each other");
    }
    if (count_of(headers, count, "host", &host) > 1) {
        return bad("Host is given more than once");
    }
    if (is_encoded(headers, count)) {
        return (struct ec_guard_fault){415, "encoding_not_supported",
                                       "bodies are taken as they are: send no Content-Encoding"};
    }
    for (size_t i = 0; i < count; i++) {
        if (has_control(headers[i].name, "\t") || has_control(headers[i].value, "\t")) {
            return bad("a header contains control characters or is folded over lines");
        }
    }
    return (struct ec_guard_fault){0};
}

long long ec_guard_content_length(const struct ec_header *headers, size_t count)
{
    const char *length = NULL;
    return count_of(headers, count, "content-length", &length) == 1 ? atoll(length) : -1;
}

bool ec_guard_has_body(const struct ec_header *headers, size_t count)
{
    const char *encoding = NULL;
    return count_of(headers, count, "transfer-encoding", &encoding) > 0 ||
           ec_guard_content_length(headers, count) > 0;
}

/* ---- the target ---- */

static bool decode(struct ec_arena *arena, const char *ptr, size_t len, const char **ret_text)
{
    struct ec_span text;
    if (!ec_unpercent(arena, (struct ec_span){ptr, len}, &text) || memchr(text.ptr, 0, text.len)) {
        return false;
    }
    *ret_text = ec_arena_text(arena, text);
    return !has_control(*ret_text, "\n\r\t");
}

static struct ec_guard_fault split_path(struct ec_arena *arena, const char *raw, const char *end,
                                        struct ec_guard_target *target)
{
    for (const char *at = raw; at < end;) {
        at++; /* the slash */
        const char *slash = memchr(at, '/', (size_t)(end - at));
        const char *stop = slash ? slash : end;
        const char *segment = NULL;
        if (target->segment_count == EC_GUARD_SEGMENTS_MAX) {
            return bad("the path has too many segments");
        }
        if (!decode(arena, at, (size_t)(stop - at), &segment) || strpbrk(segment, "\n\r\t")) {
            return bad("the path contains a bad percent code or a control character");
        }
        if (strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0) {
            return bad("the path contains \".\" or \"..\"");
        }
        target->segments[target->segment_count++] = segment;
        at = stop;
    }
    return (struct ec_guard_fault){0};
}

static struct ec_guard_fault split_query(struct ec_arena *arena, const char *raw,
                                         struct ec_guard_target *target)
{
    char *text = ec_arena_strdup(arena, raw);
    for (char *c = text; *c; c++) {
        *c = *c == '+' ? ' ' : *c;
    }
    for (const char *at = text; *at;) {
        const char *stop = strchrnul(at, '&');
        const char *equal = memchr(at, '=', (size_t)(stop - at));
        const char *name_end = equal ? equal : stop;
        struct ec_header argument = {.value = ""};
        if (target->query_count == EC_GUARD_QUERY_MAX) {
            return bad("the query has too many arguments");
        }
        if (!decode(arena, at, (size_t)(name_end - at), &argument.name) ||
            (equal && !decode(arena, equal + 1, (size_t)(stop - equal - 1), &argument.value))) {
            return bad("the query contains a bad percent code or a control character");
        }
        if (name_end > at) {
            target->query[target->query_count++] = argument;
        }
        at = *stop ? stop + 1 : stop;
    }
    return (struct ec_guard_fault){0};
}

struct ec_guard_fault ec_guard_target(struct ec_arena *arena, const char *raw,
                                      struct ec_guard_target *ret_target)
{
    memset(ret_target, 0, sizeof(*ret_target));
    if (raw[0] != '/') {
        return bad("the request target must be a path that begins with \"/\"");
    }
    const char *end = strpbrk(raw, "?#");
    const char *path_end = end ? end : raw + strlen(raw);
    ret_target->path = ec_arena_text(arena, (struct ec_span){raw, (size_t)(path_end - raw)});
    struct ec_guard_fault fault = split_path(arena, raw, path_end, ret_target);
    if (fault.status == 0) {
        const char *decoded = NULL;
        decode(arena, raw, (size_t)(path_end - raw), &decoded);
        ret_target->path = decoded ? decoded : ret_target->path;
    }
    if (fault.status == 0 && end && *end == '?') {
        fault = split_query(arena, end + 1, ret_target);
    }
    return fault;
}

/* ---- the route ---- */

/* -1: no match; else the number of {params}. */
static int match_path(struct ec_arena *arena, const char *pattern,
                      const struct ec_guard_target *target, struct ec_guard_match *match)
{
    size_t at = 0;
    match->param_count = 0;
    while (*pattern) {
        pattern++; /* the slash */
        size_t len = strcspn(pattern, "/");
        if (at == target->segment_count) {
            return -1;
        }
        const char *segment = target->segments[at++];
        if (pattern[0] == '{') {
            if (!segment[0] || match->param_count == EC_LEN(match->params)) {
                return -1;
            }
            match->params[match->param_count++] = (struct ec_header){
                arena ? ec_arena_text(arena, (struct ec_span){pattern + 1, len - 2}) : pattern,
                segment};
        } else if (strlen(segment) != len || memcmp(segment, pattern, len) != 0) {
            return -1;
        }
        pattern += len;
    }
    return at == target->segment_count ? (int)match->param_count : -1;
}

static bool method_fits(const char *route_method, const char *method)
{
    return strcmp(route_method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route_method, "GET") == 0);
}

void ec_guard_route(struct ec_arena *arena, const struct ec_http_route *routes, size_t route_count,
                    const char *method, const struct ec_guard_target *target,
                    struct ec_guard_match *ret_match)
{
    int best = -1;
    struct ec_buf allow;
    ec_buf_init(&allow, 256);
    memset(ret_match, 0, sizeof(*ret_match));
    for (size_t i = 0; i < route_count; i++) {
        int params = match_path(NULL, routes[i].path, target, ret_match);
        if (params < 0) {
            continue;
        }
        ec_buf_addf(&allow, "%s%s", allow.len > 0 ? ", " : "", routes[i].method);
        if (method_fits(routes[i].method, method) && (best < 0 || params < best)) {
            best = params;
            ret_match->route = &routes[i];
        }
    }
    ret_match->param_count = 0;
    if (ret_match->route) {
        match_path(arena, ret_match->route->path, target, ret_match);
    } else if (allow.len > 0) {
        ret_match->allow = ec_arena_text(arena, ec_buf_span(&allow));
    }
    ec_buf_done(&allow);
}
