/* What a handler sees of a request, and the answers it can give. A reply made in the handler's own
 * turn goes out at once; a later one wakes the suspended connection. A second reply, or one after
 * the server has answered by itself, is dropped. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

void ec_reply_set(struct ec_request *req, int status, struct MHD_Response *response)
{
    char request_id[33];
    ec_trace_id(req->trace.parent, request_id);
    MHD_add_response_header(response, "X-Request-Id", request_id);
    if (req->server->closing) {
        MHD_add_response_header(response, "Connection", "close");
    }
    for (size_t i = 0; i < req->reply_header_count; i++) {
        MHD_add_response_header(response, req->reply_headers[i].name, req->reply_headers[i].value);
    }
    req->status = status;
    req->response = response;
    req->state = EC_REQUEST_REPLIED;
}

static void reply_make(struct ec_request *req, int status, const char *content_type,
                       struct ec_span body)
{
    /* The library's prototype lacks const; it copies. */
    void *bytes = (void *)(uintptr_t)body.ptr;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body.len, bytes, MHD_RESPMEM_MUST_COPY);
    if (content_type) {
        MHD_add_response_header(response, "Content-Type", content_type);
    }
    ec_reply_set(req, status, response);
}

void ec_reply_text(struct ec_request *req, int status, const char *content_type,
                   struct ec_span body)
{
    if (ec_request_may_reply(req)) {
        reply_make(req, status, content_type, body);
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
    ec_buf_add_json_text(&text, ec_span_of(MHD_get_reason_phrase_for((unsigned)status)));
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
    reply_make(req, status, "application/problem+json", ec_buf_span(&text));
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
