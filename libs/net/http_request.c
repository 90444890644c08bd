/* Requests: from the headers to the end of the reply. A request lives until both the library and
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
#define DISCARD_MAX_BYTES ((size_t)1024 * 1024) /* of a body over the limit, before we hang up */

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

/* `server` is NULL when it may be gone. */
static void request_unref(struct ec_request *req, struct ec_http_server *server)
{
    if (--req->refs > 0) {
        return;
    }
    if (req->response) {
        MHD_destroy_response(req->response);
    }
    ec_buf_done(&req->body);
    arena_give(server, req->arena);
    free(req);
}

static struct ec_request *request_new(struct ec_http_conn *conn, const char *method)
{
    struct ec_request *req = ec_alloc(sizeof(*req));
    req->loop = conn->server->loop;
    req->server = conn->server;
    req->conn = conn;
    req->refs = 1;
    req->arena = arena_take(conn->server);
    req->method = ec_arena_strdup(req->arena, method);
    req->peer = ec_arena_strdup(req->arena, conn->peer);
    req->target.path = "";
    req->began_ms = ec_mono_ms();
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

/* The library is done with it: answered, or the peer went away. */
void ec_http_on_request_end(void *arg, struct MHD_Connection *mhd, void **request_arg,
                            enum MHD_RequestTerminationCode code)
{
    (void)arg;
    (void)code;
    struct ec_request *req = *request_arg;
    struct ec_http_conn *conn = ec_http_conn_of(mhd);
    if (conn) {
        conn->since_ms = ec_mono_ms();
        conn->answering = false;
        free(conn->target);
        conn->target = NULL;
    }
    if (!req) {
        return;
    }
    *request_arg = NULL;
    if (req->state == EC_REQUEST_QUEUED) {
        char status[8];
        snprintf(status, sizeof(status), "%d", req->status % 1000);
        ec_metric_add(&ec_http_requests, status, 1);
        ec_metric_observe_s(&request_seconds, req->route ? req->route->path : "none",
                            (double)(ec_mono_ms() - req->began_ms) / 1000.0);
    }
    struct ec_http_server *server = req->server;
    server->body_bytes -= req->counted_bytes;
    request_unlink(req);
    req->conn = NULL;
    req->server = NULL;
    if (req->stream) {
        ec_stream_closed(EC_TAKE(req->stream));
    }
    request_unref(req, server);
}

void ec_request_resume(struct ec_request *req)
{
    if (req->conn && req->suspended) {
        req->suspended = false;
        MHD_resume_connection(req->conn->mhd);
        ec_http_kick(req->server);
    }
}

void ec_request_replied(struct ec_request *req)
{
    ec_request_resume(req);
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
        ec_request_resume(req); /* the handler still owes: its reply will be dropped */
    }
}

bool ec_request_peer_gone(const struct ec_request *req)
{
    char byte;
    int fd = req->conn ? ec_http_conn_fd(req->conn) : -1;
    if (fd < 0) {
        return true;
    }
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* ---- taking a request in ---- */

static bool take_piece(struct ec_request *req, const char *piece, size_t len)
{
    struct ec_http_server *server = req->server;
    bool fits = req->body.len + len <= req->body.max_bytes;
    if (req->state == EC_REQUEST_READING && fits &&
        server->body_bytes + len <= server->spec.bodies_max_bytes) {
        ec_buf_add(&req->body, piece, len);
        req->counted_bytes += len;
        server->body_bytes += len;
        return true;
    }
    if (req->state == EC_REQUEST_READING && fits) {
        ec_reply_header(req, "Retry-After", "5");
        ec_request_refuse(req, 503, "overloaded", "too many large bodies at once; try again");
    } else if (req->state == EC_REQUEST_READING) { /* a chunked body tells its size too late */
        ec_request_refuse(req, 413, "body_too_large",
                          ec_arena_format(req->arena,
                                          "this route takes a body of at most %zu bytes",
                                          req->body.max_bytes));
    }
    req->discarded_bytes += len;
    return req->discarded_bytes <= DISCARD_MAX_BYTES;
}

static void request_dispatch(struct ec_request *req)
{
    struct ec_http_server_spec *spec = &req->server->spec;
    req->state = EC_REQUEST_HANDLED;
    req->conn->answering = true;
    req->began_ms = ec_mono_ms();
    req->handler_owes = true;
    req->refs++;
    if (!spec->before || spec->before(spec->state, req)) {
        req->route->handler(spec->state, req);
    }
}

static enum MHD_Result request_answer(struct ec_request *req)
{
    if (req->state == EC_REQUEST_REPLIED) {
        req->state = EC_REQUEST_QUEUED;
        req->conn->answering = true;
        return MHD_queue_response(req->conn->mhd, (unsigned)req->status, req->response);
    }
    if (!req->suspended) {
        req->suspended = true;
        MHD_suspend_connection(req->conn->mhd);
    }
    return MHD_YES;
}

/* Called by the library when headers are there, per piece of body, when all is there, and when a
 * suspended connection was resumed. */
enum MHD_Result ec_http_on_request(void *arg, struct MHD_Connection *mhd, const char *url,
                                   const char *method, const char *version, const char *piece,
                                   size_t *piece_len, void **request_arg)
{
    (void)arg;
    (void)url;
    (void)version;
    struct ec_request *req = *request_arg;
    if (!req) {
        struct ec_http_conn *conn = ec_http_conn_of(mhd);
        if (!conn) {
            return MHD_NO;
        }
        req = *request_arg = request_new(conn, method);
        ec_request_guard(req);
        return req->state == EC_REQUEST_REPLIED ? request_answer(req) : MHD_YES;
    }
    if (*piece_len > 0) {
        bool go_on = take_piece(req, piece, *piece_len);
        *piece_len = 0;
        return go_on ? MHD_YES : MHD_NO;
    }
    if (req->state == EC_REQUEST_QUEUED) {
        return MHD_YES;
    }
    if (req->state == EC_REQUEST_READING) {
        request_dispatch(req);
    }
    return request_answer(req);
}
