/* The head of a request is complete: lets the guard judge it, finds the route. What can be refused
 * before a body is read is refused here. */
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "net/http_private.h"

static bool known_method(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < EC_LEN(known); i++) {
        if (strcmp(known[i], method) == 0) {
            return true;
        }
    }
    return false;
}

static void guard_body(struct ec_request *req)
{
    long long length = ec_guard_content_length(req->headers, req->header_count);
    size_t max = req->route->body_max_bytes;
    if (max == 0 && ec_request_body_pending(req)) {
        ec_request_refuse(req, 413, "body_not_allowed", "this route takes no request body");
    } else if (length > 0 && (unsigned long long)length > max) {
        ec_request_refuse(req, 413, "body_too_large",
                          ec_arena_format(req->arena,
                                          "the body has %lld bytes, this route takes at most %zu",
                                          length, max));
    } else {
        ec_buf_init(&req->body, max);
    }
}

static void guard_route(struct ec_request *req)
{
    const struct ec_http_server_spec *spec = &req->server->spec;
    ec_guard_route(req->arena, spec->routes, spec->route_count, req->method, &req->target,
                   &req->match);
    req->route = req->match.route;
    if (req->route) {
        guard_body(req);
    } else if (req->match.allow || !known_method(req->method)) {
        ec_reply_header(req, "Allow", req->match.allow ? req->match.allow : "GET, POST");
        ec_request_refuse(req, 405, "method_not_allowed",
                          ec_arena_format(req->arena, "%s takes: %s", req->target.path,
                                          req->match.allow ? req->match.allow : "GET, POST"));
    } else {
        ec_request_refuse(req, 404, "not_found",
                          ec_arena_format(req->arena, "there is no %s here", req->target.path));
    }
}

/* Of a request that is refused for its form: only to say which route it was for. */
static const struct ec_http_route *known_route(const struct ec_request *req)
{
    const struct ec_http_server_spec *spec = &req->server->spec;
    for (size_t i = 0; i < spec->route_count; i++) {
        if (strcmp(spec->routes[i].path, req->raw_target) == 0 &&
            strcmp(spec->routes[i].method, req->method) == 0) {
            return &spec->routes[i];
        }
    }
    return NULL;
}

/* A list of words: "keep-alive, close". */
static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list ? list : ""; *at;) {
        at += strspn(at, " \t,");
        size_t part = strcspn(at, " \t,");
        if (part == len && strncasecmp(at, word, len) == 0) {
            return true;
        }
        at += part;
    }
    return false;
}

bool ec_request_expects_continue(const struct ec_request *req)
{
    const char *expect = ec_request_header(req, "expect");
    return expect && strcasecmp(expect, "100-continue") == 0 && !req->http_1_0;
}

/* Where the body ends, and whether a request may follow: known before anything is refused. */
static void read_framing(struct ec_request *req)
{
    long long length = ec_guard_content_length(req->headers, req->header_count);
    req->left_bytes = length > 0 ? (size_t)length : 0;
    req->chunked = length < 0 && ec_guard_has_body(req->headers, req->header_count);
    req->conn->last |= req->http_1_0 || req->server->closing ||
                       has_word(ec_request_header(req, "connection"), "close");
}

static struct ec_guard_fault judge(struct ec_request *req)
{
    struct ec_guard_fault fault = ec_guard_headers(req->headers, req->header_count);
    if (fault.status == 0 && !req->http_1_0 && !ec_request_header(req, "host")) {
        fault = (struct ec_guard_fault){400, "bad_request", "Host is missing"};
    }
    if (fault.status == 0 && req->http_1_0 && ec_request_header(req, "transfer-encoding")) {
        fault = (struct ec_guard_fault){400, "bad_request", "HTTP/1.0 knows no Transfer-Encoding"};
    }
    if (fault.status == 0 && ec_request_header(req, "expect") &&
        !ec_request_expects_continue(req)) {
        fault = (struct ec_guard_fault){417, "expectation_failed",
                                        "nothing but \"Expect: 100-continue\" is known here"};
    }
    return fault.status == 0 ? ec_guard_target(req->arena, req->raw_target, &req->target) : fault;
}

void ec_request_guard(struct ec_request *req, struct ec_guard_fault fault)
{
    const char *theirs = ec_request_header(req, "traceparent");
    req->trace = theirs ? ec_trace_child(theirs) : ec_trace_new();
    if (fault.status == 0) {
        fault = judge(req);
    }
    if (fault.status != 0) {
        req->conn->last = req->conn->unsure = true;
        req->route = known_route(req);
        ec_request_refuse(req, fault.status, fault.code, fault.detail);
        return;
    }
    read_framing(req);
    if (req->server->closing) {
        ec_request_refuse(req, 503, "stopping", "this instance is stopping; try again");
    } else {
        guard_route(req);
    }
}
