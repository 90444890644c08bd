/* What a handler sees of a request, and the answers it can give. A reply made in the handler's own
 * turn goes out at once; a later one wakes the connection. A second reply, or one after the server
 * has answered by itself, is dropped. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "net/http_private.h"

/* ---- the request ---- */

struct ec_arena *ec_request_arena(struct ec_request *req)
{
    return req->arena;
}

const struct ec_http_route *ec_request_route(const struct ec_request *req)
{
    return req->route;
}

const char *ec_request_method(const struct ec_request *req)
{
    return req->method;
}

const char *ec_request_path(const struct ec_request *req)
{
    return req->target.path;
}

struct ec_span ec_request_body(const struct ec_request *req)
{
    return ec_buf_span(&req->body);
}

const char *ec_request_header(const struct ec_request *req, const char *name)
{
    for (size_t i = 0; i < req->header_count; i++) {
        if (strcasecmp(req->headers[i].name, name) == 0) {
            return req->headers[i].value;
        }
    }
    return NULL;
}

const char *ec_request_param(const struct ec_request *req, const char *name)
{
    for (size_t i = 0; i < req->match.param_count; i++) {
        if (strcmp(req->match.params[i].name, name) == 0) {
            return req->match.params[i].value;
        }
    }
    return "";
}

const char *ec_request_query(const struct ec_request *req, const char *name)
{
    for (size_t i = 0; i < req->target.query_count; i++) {
        if (strcmp(req->target.query[i].name, name) == 0) {
            return req->target.query[i].value;
        }
    }
    return NULL;
}

const char *ec_request_peer(const struct ec_request *req)
{
    return req->peer;
}

const char *ec_request_trace(const struct ec_request *req)
{
    return req->trace.parent;
}

void *ec_request_user(const struct ec_request *req)
{
    return req->user;
}

void ec_request_set_user(struct ec_request *req, void *user)
{
    req->user = user;
}

/* ---- replies ---- */

bool ec_request_may_reply(const struct ec_request *req)
{
    return req->conn && (req->state == EC_REQUEST_READING || req->state == EC_REQUEST_HANDLED);
}

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {301, "Moved Permanently"},
                   {302, "Found"},
                   {303, "See Other"},
                   {304, "Not Modified"},
                   {307, "Temporary Redirect"},
                   {308, "Permanent Redirect"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {406, "Not Acceptable"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {410, "Gone"},
                   {411, "Length Required"},
                   {412, "Precondition Failed"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {416, "Range Not Satisfiable"},
                   {417, "Expectation Failed"},
                   {422, "Unprocessable Content"},
                   {428, "Precondition Required"},
                   {429, "Too Many Requests"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < EC_LEN(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].text;
        }
    }
    return "Unknown";
}

static void add_header(struct ec_buf *out, const char *name, const char *value)
{
    ec_buf_add_text(out, name);
    ec_buf_add_text(out, ": ");
    ec_buf_add_text(out, value);
    ec_buf_add_text(out, "\r\n");
}

/* Made once a second. */
static const char *date_now(struct ec_http_server *server)
{
    time_t now = (time_t)(ec_unix_ms() / 1000);
    if (now != server->date_s) {
        struct tm parts;
        gmtime_r(&now, &parts);
        strftime(server->date, sizeof(server->date), "%a, %d %b %Y %H:%M:%S GMT", &parts);
        server->date_s = now;
    }
    return server->date;
}

static void write_length(struct ec_request *req, struct ec_buf *out, size_t len, bool stream)
{
    if (stream && !req->http_1_0) {
        ec_buf_add_text(out, "Transfer-Encoding: chunked\r\n");
    } else if (!stream && req->status != 204 && req->status != 304) {
        ec_buf_addf(out, "Content-Length: %zu\r\n", len);
    }
}

static void write_head(struct ec_request *req, const char *content_type, size_t len, bool stream)
{
    struct ec_http_conn *conn = req->conn;
    struct ec_buf *out = &conn->out;
    char request_id[33];
    ec_trace_id(req->trace.parent, request_id);
    ec_buf_addf(out, "HTTP/1.1 %d %s\r\n", req->status, reason_of(req->status));
    add_header(out, "Date", date_now(req->server));
    if (content_type) {
        add_header(out, "Content-Type", content_type);
    }
    write_length(req, out, len, stream);
    add_header(out, "X-Request-Id", request_id);
    for (size_t i = 0; i < req->reply_header_count; i++) {
        add_header(out, req->reply_headers[i].name, req->reply_headers[i].value);
    }
    if (conn->last) {
        add_header(out, "Connection", "close");
    }
    ec_buf_add_text(out, "\r\n");
}

void ec_reply_write(struct ec_request *req, int status, const char *content_type,
                    struct ec_span body, bool stream)
{
    struct ec_http_conn *conn = req->conn;
    /* Behind a body that is not read to its end, no next request can be found. */
    conn->last |= req->server->closing || ec_request_body_pending(req);
    req->status = status;
    write_head(req, content_type, body.len, stream);
    if (strcmp(req->method, "HEAD") != 0 && status != 204 && status != 304) {
        ec_buf_add_span(&conn->out, body);
    }
    req->state = EC_REQUEST_REPLIED;
}

void ec_reply_text(struct ec_request *req, int status, const char *content_type,
                   struct ec_span body)
{
    if (ec_request_may_reply(req)) {
        ec_reply_write(req, status, content_type, body, false);
    }
    ec_request_replied(req);
}

void ec_reply_empty(struct ec_request *req, int status)
{
    ec_reply_text(req, status, NULL, EC_SPAN(""));
}

void ec_reply_json(struct ec_request *req, int status, const json_t *body)
{
    char *text = json_dumps(body, JSON_COMPACT);
    if (!text) {
        ec_reply_problem(req, 500, "internal", NULL, "the answer could not be written as JSON");
        return;
    }
    ec_reply_text(req, status, "application/json", ec_span_of(text));
    free(text);
}

void ec_reply_header(struct ec_request *req, const char *name, const char *value)
{
    if (req->reply_header_count < EC_REPLY_HEADERS_MAX && !strpbrk(value, "\r\n")) {
        req->reply_headers[req->reply_header_count++] = (struct ec_header){
            ec_arena_strdup(req->arena, name), ec_arena_strdup(req->arena, value)};
    }
}

void ec_reply_make_problem(struct ec_request *req, int status, const char *code, const char *field,
                           const char *detail)
{
    struct ec_buf text;
    ec_buf_init(&text, 64 * 1024);
    ec_buf_add_text(&text, "{\"type\":\"about:blank\",\"title\":");
    ec_buf_add_json_text(&text, ec_span_of(reason_of(status)));
    ec_buf_addf(&text, ",\"status\":%d,\"code\":", status);
    ec_buf_add_json_text(&text, ec_span_of(code));
    ec_buf_add_text(&text, ",\"detail\":");
    ec_buf_add_json_text(&text, ec_span_of(detail));
    if (field) {
        ec_buf_add_text(&text, ",\"field\":");
        ec_buf_add_json_text(&text, ec_span_of(field));
    }
    ec_buf_add_text(&text, ",\"error\":");
    ec_buf_add_json_text(&text, ec_span_of(detail));
    ec_buf_add_text(&text, "}\n");
    ec_reply_write(req, status, "application/problem+json", ec_buf_span(&text), false);
    ec_buf_done(&text);
}

void ec_reply_problem(struct ec_request *req, int status, const char *code, const char *field,
                      const char *detail)
{
    if (ec_request_may_reply(req)) {
        ec_reply_make_problem(req, status, code, field, detail);
    }
    ec_request_replied(req);
}

void ec_reply_error(struct ec_request *req, struct ec_err err, const char *code)
{
    if (err.fate == EC_FATE_RETRY) {
        ec_reply_header(req, "Retry-After", "1");
        ec_reply_problem(req, 503, code, NULL, err.what);
    } else if (err.fate == EC_FATE_REJECT) {
        ec_reply_problem(req, 400, code, NULL, err.what);
    } else {
        ec_reply_problem(req, 500, code, NULL, err.what ? err.what : "internal error");
    }
}
