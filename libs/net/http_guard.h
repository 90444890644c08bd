/* What a request must satisfy before any handler sees it. Pure functions over what the HTTP library
 * parsed, because that parser is lax: it accepts what lets a proxy and us disagree about where a
 * request ends (RFC 9112 §6.3, §11.2). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "net/fetch.h"
#include "net/http_server.h"

#define EC_GUARD_SEGMENTS_MAX 32 /* segments of a path */
#define EC_GUARD_QUERY_MAX 64    /* arguments of a query */

struct ec_guard_fault {
    int status; /* 0 = nothing wrong */
    const char *code;
    const char *detail;
};

/* Duplicate or conflicting framing headers, second Host, control characters, a body over the limit.
 */
struct ec_guard_fault ec_guard_headers(const struct ec_header *headers, size_t count);
/* The value of a Content-Length that ec_guard_headers accepted; -1 = none. */
long long ec_guard_content_length(const struct ec_header *headers, size_t count);
bool ec_guard_has_body(const struct ec_header *headers, size_t count);

struct ec_guard_target {
    const char *path; /* decoded, for people and logs */
    size_t segment_count;
    const char *segments[EC_GUARD_SEGMENTS_MAX]; /* each decoded: "%2F" stays inside its segment */
    size_t query_count;
    struct ec_header query[EC_GUARD_QUERY_MAX]; /* decoded, in order */
};
/* Takes the raw request target apart; faults on bad percent codes, NUL and "." segments. */
struct ec_guard_fault ec_guard_target(struct ec_arena *arena, const char *raw,
                                      struct ec_guard_target *ret_target);

struct ec_guard_match {
    const struct ec_http_route *route; /* NULL: `allow` tells 404 from 405 */
    size_t param_count;
    struct ec_header params[8];
    const char *allow; /* methods of the path, "GET, POST"; NULL = no such path */
};
/* The route with the fewest {params} wins. HEAD is answered by GET. */
void ec_guard_route(struct ec_arena *arena, const struct ec_http_route *routes, size_t route_count,
                    const char *method, const struct ec_guard_target *target,
                    struct ec_guard_match *ret_match);
