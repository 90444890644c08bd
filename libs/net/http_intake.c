/* The headers of a request are complete: copies them (a handler may look at them after the
 * connection is gone), lets the guard judge them, finds the route. What can be refused before a
 * body is read is refused here. */
#include <string.h>

#include "base/mem.h"
#include "net/http_private.h"

struct header_copy {
    struct ec_request *req;
    bool too_many;
};

static enum MHD_Result on_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    struct header_copy *copy = arg;
    struct ec_request *req = copy->req;
    if (req->header_count == EC_REQUEST_HEADERS_MAX) {
        copy->too_many = true;
        return MHD_NO;
    }
    /* A NUL inside would end the text early: shown as a control character to the guard. */
    bool nul = memchr(name, 0, name_len) || (value && memchr(value, 0, value_len));
    struct ec_header *header = &req->headers[req->header_count++];
    header->name = ec_arena_text(req->arena, (struct ec_span){name, name_len});
    header->value =
        nul ? "\001" : ec_arena_text(req->arena, (struct ec_span){value ? value : "", value_len});
    return MHD_YES;
}

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
    if (max == 0 && ec_guard_has_body(req->headers, req->header_count)) {
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
    const char *target = req->conn->target ? req->conn->target : "";
    for (size_t i = 0; i < spec->route_count; i++) {
        if (strcmp(spec->routes[i].path, target) == 0 &&
            strcmp(spec->routes[i].method, req->method) == 0) {
            return &spec->routes[i];
        }
    }
    return NULL;
}

void ec_request_guard(struct ec_request *req)
{
    struct header_copy copy = {.req = req};
    MHD_get_connection_values_n(req->conn->mhd, MHD_HEADER_KIND, on_header, &copy);
    const char *theirs = ec_request_header(req, "traceparent");
    req->trace = theirs ? ec_trace_child(theirs) : ec_trace_new();
    if (copy.too_many) {
        ec_request_refuse(req, 431, "too_many_headers", "the request has more than 100 headers");
        return;
    }
    struct ec_guard_fault fault = ec_guard_headers(req->headers, req->header_count);
    if (fault.status == 0) {
        const char *raw = req->conn->target ? req->conn->target : "";
        fault = ec_guard_target(req->arena, raw, &req->target);
    }
    if (fault.status != 0) {
        req->route = known_route(req);
        ec_request_refuse(req, fault.status, fault.code, fault.detail);
    } else if (req->server->closing) {
        ec_request_refuse(req, 503, "stopping", "this instance is stopping; try again");
    } else {
        guard_route(req);
    }
}
