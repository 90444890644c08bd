/* Requests: from the headers to the end of the reply. A request lives until both the connection and
 * the handler that owes its reply have let go of it, so a late reply never touches freed memory. */
#include "net/http_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"

#define REQUEST_ARENA_MAX_BYTES ((size_t)32 * 1024 * 1024) /* what a handler may use */
#define ARENA_KEPT_BYTES ((size_t)256 * 1024)              /* a larger one is given back at once */

struct ec_metric ec_http_requests =
    EC_COUNTER("enclii_http_requests_total", "HTTP requests answered, by status.", "status");
static struct ec_metric request_seconds =
    EC_HISTOGRAM("enclii_http_request_duration_seconds",
                 "From the whole request to the end of its reply.", "route");

static struct ec_arena *arena_take(struct ec_http_server *server)
{
    return server->arena_count > 0 ? server->arenas[--server->arena_count]
                                   : ec_arena_new(REQUEST_ARENA_MAX_BYTES);
}

static void arena_give(struct ec_http_server *server, struct ec_arena *arena)
{
    if (!server || server->arena_count == EC_ARENAS_KEPT ||
        ec_arena_used_bytes(arena) > ARENA_KEPT_BYTES) {
        ec_arena_free(arena);
        return;
    }
    ec_arena_reset(arena);
    server->arenas[server->arena_count++] = arena;
}

void ec_body_sum_unref(struct ec_body_sum *sum)
{
    if (--sum->refs == 0) {
        free(sum);
    }
}

/* `server` is NULL when it may be gone. */
static void request_unref(struct ec_request *req, struct ec_http_server *server)
{
    if (--req->refs > 0) {
        return;
    }
    ec_buf_done(&req->body);
    req->sum->bytes -= req->counted_bytes;
    ec_body_sum_unref(req->sum);
    arena_give(server, req->arena);
    free(req);
}

/* A handler may look at the headers after the connection is gone, so they are copied. */
static void copy_headers(struct ec_request *req, const struct ec_head *head)
{
    for (size_t i = 0; i < head->header_count; i++) {
        req->headers[i] = (struct ec_header){ec_arena_text(req->arena, head->headers[i].name),
                                             ec_arena_text(req->arena, head->headers[i].value)};
    }
    req->header_count = head->header_count;
}

struct ec_request *ec_request_new(struct ec_http_conn *conn, const struct ec_head *head)
{
    struct ec_request *req = ec_alloc(sizeof(*req));
    req->loop = conn->server->loop;
    req->server = conn->server;
    req->conn = conn;
    req->refs = 1;
    req->sum = conn->server->sum;
    req->sum->refs++;
    req->arena = arena_take(conn->server);
    req->method = ec_arena_text(req->arena, head->method);
    req->raw_target = ec_arena_text(req->arena, head->target);
    req->http_1_0 = head->http_1_0;
    req->peer = ec_arena_strdup(req->arena, conn->peer);
    req->target.path = "";
    req->began_ms = ec_mono_ms();
    copy_headers(req, head);
    req->next = conn->server->requests;
    if (req->next) {
        req->next->prev = req;
    }
    conn->server->requests = req;
    return req;
}

static void request_unlink(struct ec_request *req)
{
    if (req->prev) {
        req->prev->next = req->next;
    } else {
        req->server->requests = req->next;
    }
    if (req->next) {
        req->next->prev = req->prev;
    }
    req->prev = req->next = NULL;
}

void ec_request_end(struct ec_request *req)
{
    struct ec_http_server *server = req->server;
    if (req->state == EC_REQUEST_REPLIED) {
        char status[8];
        snprintf(status, sizeof(status), "%d", req->status % 1000);
        ec_metric_add(&ec_http_requests, status, 1);
        ec_metric_observe_s(&request_seconds, req->route ? req->route->path : "none",
                            (double)(ec_mono_ms() - req->began_ms) / 1000.0);
    }
    request_unlink(req);
    req->conn = NULL;
    req->server = NULL;
    if (req->stream) {
        ec_stream_closed(EC_TAKE(req->stream));
    }
    request_unref(req, server);
}

void ec_request_replied(struct ec_request *req)
{
    if (req->conn) {
        ec_http_wake(req->conn);
    }
    if (req->handler_owes) {
        req->handler_owes = false;
        request_unref(req, req->server);
    }
}

void ec_request_refuse(struct ec_request *req, int status, const char *code, const char *detail)
{
    if (ec_request_may_reply(req)) {
        const struct ec_http_server_spec *spec = &req->server->spec;
        if (req->route && spec->refused) {
            spec->refused(spec->state, req, status, code, detail);
        }
        ec_reply_make_problem(req, status, code, NULL, detail);
        ec_http_wake(req->conn); /* the handler still owes: its reply will be dropped */
    }
}

bool ec_request_peer_gone(const struct ec_request *req)
{
    char byte;
    if (!req->conn) {
        return true;
    }
    ssize_t n = recv(req->conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* ---- the body ---- */

bool ec_request_body_pending(const struct ec_request *req)
{
    return req->left_bytes > 0 || (req->chunked && req->chunks.state != EC_CHUNK_END);
}

/* Keeps a piece; false when it was too much and the request is refused. */
static bool keep_piece(struct ec_request *req, struct ec_span piece)
{
    struct ec_http_server *server = req->server;
    bool fits = req->body.len + piece.len <= req->body.max_bytes;
    if (fits && req->sum->bytes + piece.len <= server->spec.bodies_max_bytes) {
        ec_buf_add_span(&req->body, piece);
        req->counted_bytes += piece.len;
        req->sum->bytes += piece.len;
        return true;
    }
    if (fits) {
        ec_reply_header(req, "Retry-After", "5");
        ec_request_refuse(req, 503, "overloaded", "too many large bodies at once; try again");
    } else { /* a chunked body tells its size too late */
        ec_request_refuse(req, 413, "body_too_large",
                          ec_arena_format(req->arena,
                                          "this route takes a body of at most %zu bytes",
                                          req->body.max_bytes));
    }
    return false;
}

static size_t take_counted(struct ec_request *req, struct ec_span bytes)
{
    size_t len = bytes.len < req->left_bytes ? bytes.len : req->left_bytes;
    if (!keep_piece(req, (struct ec_span){bytes.ptr, len})) {
        return bytes.len;
    }
    req->left_bytes -= len;
    return len;
}

static size_t take_chunks(struct ec_request *req, struct ec_span bytes)
{
    size_t taken = 0;
    while (taken < bytes.len && req->chunks.state < EC_CHUNK_END) {
        struct ec_span piece;
        taken += ec_chunks_take(&req->chunks,
                                (struct ec_span){bytes.ptr + taken, bytes.len - taken}, &piece);
        if (piece.len > 0 && !keep_piece(req, piece)) {
            return bytes.len;
        }
    }
    if (req->chunks.state == EC_CHUNK_BAD) {
        ec_request_refuse(req, 400, "bad_request", "the chunked body is malformed");
        return bytes.len;
    }
    return taken;
}

size_t ec_request_take_body(struct ec_request *req, struct ec_span bytes)
{
    size_t taken = req->chunked ? take_chunks(req, bytes) : take_counted(req, bytes);
    if (req->state == EC_REQUEST_READING && !ec_request_body_pending(req)) {
        ec_request_dispatch(req);
    }
    return taken;
}

void ec_request_dispatch(struct ec_request *req)
{
    struct ec_http_server_spec *spec = &req->server->spec;
    req->state = EC_REQUEST_HANDLED;
    req->began_ms = ec_mono_ms();
    req->handler_owes = true;
    req->refs++;
    if (!spec->before || spec->before(spec->state, req)) {
        req->route->handler(spec->state, req);
    }
}
