/* What a client may write before a handler sees it: "METHOD target" on the first line, then
 * headers, one "name: value" a line. What the guard lets through has one meaning only (RFC 9112
 * §6.3): one length at most, no "." segment, no control characters, and a route that really fits.
 */
#include <strings.h>

#include "base/mem.h"
#include "fuzz.h"
#include "net/http_guard.h"

#define HEADERS_MAX 64

static const struct ec_http_route routes[] = {
    {"GET", "/v1/services", NULL, 0, 0},          {"POST", "/v1/services", NULL, 65536, 0},
    {"GET", "/v1/services/{id}", NULL, 0, 0},     {"GET", "/v1/services/{id}/logs", NULL, 0, 0},
    {"GET", "/v1/services/new/logs", NULL, 0, 0}, {"DELETE", "/v1/{kind}/{id}", NULL, 0, 0},
};

static bool has_control(const char *text)
{
    return text[strcspn(text, "\x01\x02\x03\x04\x05\x06\x07\x08\n\x0b\x0c\r\x1b\x7f")] != '\0';
}

static void check_headers(const struct ec_header *headers, size_t count)
{
    struct ec_guard_fault fault = ec_guard_headers(headers, count);
    if (fault.status != 0) {
        check((fault.status == 400 || fault.status == 415) && fault.code && fault.detail);
        return;
    }
    size_t lengths = 0, encodings = 0, hosts = 0;
    for (size_t i = 0; i < count; i++) {
        lengths += strcasecmp(headers[i].name, "Content-Length") == 0;
        encodings += strcasecmp(headers[i].name, "Transfer-Encoding") == 0;
        hosts += strcasecmp(headers[i].name, "Host") == 0;
        check(!has_control(headers[i].name) && !has_control(headers[i].value));
    }
    check(lengths + encodings <= 1 && hosts <= 1);
    check((ec_guard_content_length(headers, count) >= 0) == (lengths == 1));
    check(ec_guard_has_body(headers, count) ==
          (encodings == 1 || ec_guard_content_length(headers, count) > 0));
}

static void check_match(const struct ec_guard_match *match, const char *method)
{
    if (!match->route) {
        check(match->param_count == 0);
        return;
    }
    check(strcmp(match->route->method, method) == 0 || strcmp(method, "HEAD") == 0);
    for (size_t i = 0; i < match->param_count; i++) {
        check(match->params[i].value[0] && strcmp(match->params[i].value, "..") != 0);
        check(strcmp(match->params[i].name, "id") == 0 ||
              strcmp(match->params[i].name, "kind") == 0);
    }
}

static void check_target(struct ec_arena *arena, const char *method, const char *raw)
{
    struct ec_guard_target target;
    struct ec_guard_fault fault = ec_guard_target(arena, raw, &target);
    if (fault.status != 0) {
        check(fault.status == 400 && fault.detail);
        return;
    }
    check(raw[0] == '/' && target.path[0] == '/');
    check(target.segment_count <= EC_GUARD_SEGMENTS_MAX &&
          target.query_count <= EC_GUARD_QUERY_MAX);
    for (size_t i = 0; i < target.segment_count; i++) {
        const char *segment = target.segments[i];
        check(strcmp(segment, ".") != 0 && strcmp(segment, "..") != 0 && !has_control(segment));
    }
    for (size_t i = 0; i < target.query_count; i++) {
        check(target.query[i].name[0] && target.query[i].value);
    }
    struct ec_guard_match match;
    ec_guard_route(arena, routes, EC_LEN(routes), method, &target, &match);
    check_match(&match, method);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    struct ec_span rest = span_of_input(bytes, len);
    struct ec_span line = take_until(&rest, '\n');
    const char *method = ec_arena_text(arena, take_until(&line, ' '));
    const char *target = ec_arena_text(arena, line);
    struct ec_header headers[HEADERS_MAX];
    size_t count = 0;
    for (; rest.len > 0 && count < HEADERS_MAX; count++) {
        line = take_until(&rest, '\n');
        headers[count].name = ec_arena_text(arena, take_until(&line, ':'));
        size_t space = line.len > 0 && line.ptr[0] == ' ';
        headers[count].value =
            ec_arena_text(arena, (struct ec_span){line.ptr + space, line.len - space});
    }
    check_headers(headers, count);
    check_target(arena, method, target);
    return 0;
}
