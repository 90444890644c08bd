/* libmicrohttpd with external epoll: its one descriptor sits in our loop, everything runs on the
 * loop's thread. A connection whose answer is not ready is suspended; a reply from another turn
 * resumes it and lets the library run soon after (a kick), never inside a handler. A request lives
 * until both the library and the handler that owes its reply have let go of it, so a late reply
 * never touches freed memory. */
#include "net/http_private.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"

#define CONNECTION_MEMORY_BYTES ((size_t)32 * 1024) /* request line and headers: 414, 431 above */
#define REQUEST_ARENA_MAX_BYTES ((size_t)32 * 1024 * 1024) /* what a handler may use */
#define ARENA_KEPT_BYTES ((size_t)256 * 1024)              /* a larger one is given back at once */
#define SWEEP_MS 250
#define COMMENT_EVERY_SWEEPS 60                 /* 15 s */
#define DISCARD_MAX_BYTES ((size_t)1024 * 1024) /* of a body over the limit, before we hang up */

static struct ec_metric requests_total =
    EC_COUNTER("enclii_http_requests_total", "HTTP requests answered, by status.", "status");
static struct ec_metric request_seconds =
    EC_HISTOGRAM("enclii_http_request_duration_seconds",
                 "From the whole request to the end of its reply.", "route");

static void server_step(struct ec_http_server *server);

/* ---- letting the library run ---- */

static void server_run(struct ec_http_server *server)
{
    MHD_UNSIGNED_LONG_LONG timeout = 0;
    MHD_run(server->daemon);
    if (MHD_get_timeout(server->daemon, &timeout) != MHD_YES) {
        ec_timer_stop(server->wake);
    } else if (timeout == 0) {
        ec_http_kick(server); /* not by a timer: a pipelined request would wait a millisecond */
    } else {
        ec_timer_start(server->wake, timeout, 0);
    }
}

static void on_kick(void *arg)
{
    struct ec_http_server *server = arg;
    server->kick_waiting = false;
    if (server->daemon) {
        server_run(server);
    }
    server_step(server);
}

void ec_http_kick(struct ec_http_server *server)
{
    if (!server->kick_waiting) {
        server->kick_waiting = true;
        ec_loop_defer(server->loop, on_kick, server);
    }
}

static void on_epoll(void *arg, int status, int events)
{
    (void)status;
    (void)events;
    server_run(arg);
}

static void on_wake(void *arg)
{
    server_run(arg);
}

/* ---- connections ---- */

static void conn_open(struct ec_http_server *server, struct MHD_Connection *mhd, void **socket_arg)
{
    struct ec_http_conn *conn = ec_alloc(sizeof(*conn));
    conn->server = server;
    conn->mhd = mhd;
    conn->since_ms = ec_mono_ms();
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info && info->client_addr) {
        socklen_t len = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                 : sizeof(struct sockaddr_in);
        getnameinfo(info->client_addr, len, conn->peer, sizeof(conn->peer), NULL, 0,
                    NI_NUMERICHOST);
    }
    conn->next = server->conns;
    if (server->conns) {
        server->conns->prev = conn;
    }
    server->conns = conn;
    *socket_arg = conn;
}

static void conn_close(struct ec_http_conn *conn)
{
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        conn->server->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    free(conn->target);
    free(conn);
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **socket_arg,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_open(arg, mhd, socket_arg);
    } else if (*socket_arg) {
        conn_close(*socket_arg);
        *socket_arg = NULL;
    }
}

static struct ec_http_conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static int conn_fd(const struct ec_http_conn *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

/* The library knows only the decoded path, where "%2F" and "%00" have done their harm already. */
static void *on_target(void *arg, const char *target, struct MHD_Connection *mhd)
{
    (void)arg;
    struct ec_http_conn *conn = conn_of(mhd);
    if (conn) {
        free(conn->target);
        conn->target = ec_strdup(target);
    }
    return NULL;
}

/* ---- the life of a request ---- */

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
static void on_request_end(void *arg, struct MHD_Connection *mhd, void **request_arg,
                           enum MHD_RequestTerminationCode code)
{
    (void)arg;
    (void)code;
    struct ec_request *req = *request_arg;
    struct ec_http_conn *conn = conn_of(mhd);
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
        ec_metric_add(&requests_total, status, 1);
        ec_metric_observe_s(&request_seconds, req->route ? req->route->path : "none",
                            (double)(ec_mono_ms() - req->began_ms) / 1000.0);
    }
    struct ec_http_server *server = req->server;
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
        ec_reply_make_problem(req, status, code, NULL, detail);
        ec_request_resume(req); /* the handler still owes: its reply will be dropped */
    }
}

bool ec_request_peer_gone(const struct ec_request *req)
{
    char byte;
    int fd = req->conn ? conn_fd(req->conn) : -1;
    if (fd < 0) {
        return true;
    }
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* ---- taking a request in ---- */

static bool take_piece(struct ec_request *req, const char *piece, size_t len)
{
    if (req->state == EC_REQUEST_READING && req->body.len + len <= req->body.max_bytes) {
        ec_buf_add(&req->body, piece, len);
        return true;
    }
    if (req->state == EC_REQUEST_READING) { /* a chunked body tells its size too late */
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
static enum MHD_Result on_request(void *arg, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *piece,
                                  size_t *piece_len, void **request_arg)
{
    (void)arg;
    (void)url;
    (void)version;
    struct ec_request *req = *request_arg;
    if (!req) {
        struct ec_http_conn *conn = conn_of(mhd);
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

/* ---- deadlines ---- */

/* The library cannot answer in the middle of a request, so the words go to the socket directly:
 * nothing of a reply has been sent on it since the last request ended. */
static void conn_time_out(struct ec_http_conn *conn)
{
    static const char text[] = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                               "Content-Length: 0\r\n\r\n";
    int fd = conn_fd(conn);
    if (conn->target) {
        ec_metric_add(&requests_total, "408", 1);
        send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    shutdown(fd, SHUT_RDWR);
    conn->since_ms = ec_mono_ms();
}

static void sweep_conns(struct ec_http_server *server, int64_t now_ms)
{
    for (struct ec_http_conn *conn = server->conns; conn; conn = conn->next) {
        if (!conn->answering && now_ms - conn->since_ms > server->spec.request_deadline_ms) {
            conn_time_out(conn);
        }
    }
}

static void sweep_requests(struct ec_http_server *server, int64_t now_ms)
{
    bool comment_due = server->sweeps % COMMENT_EVERY_SWEEPS == 0;
    for (struct ec_request *req = server->requests; req; req = req->next) {
        if (req->stream) {
            ec_stream_tick(req->stream, comment_due);
        } else if (req->state == EC_REQUEST_HANDLED &&
                   (server->stopping || now_ms - req->began_ms > server->spec.reply_deadline_ms)) {
            ec_reply_header(req, "Retry-After", "1");
            ec_request_refuse(req, 503, "no_reply_in_time",
                              "the answer was not ready in time; try again");
        }
    }
}

static void on_sweep(void *arg)
{
    struct ec_http_server *server = arg;
    int64_t now_ms = ec_mono_ms();
    server->sweeps++;
    sweep_conns(server, now_ms);
    sweep_requests(server, now_ms);
    server_step(server);
}

/* ---- opening and closing ---- */

static void on_mhd_log(void *arg, const char *format, va_list args)
{
    (void)arg;
    char text[512];
    vsnprintf(text, sizeof(text), format, args);
    ec_log(EC_LOG_DEBUG, NULL, "http.library", text);
}

static void server_free(struct ec_http_server *server)
{
    while (server->arena_count > 0) {
        ec_arena_free(server->arenas[--server->arena_count]);
    }
    ec_timer_free(server->wake);
    ec_timer_free(server->sweep);
    free(server->listen_text);
    free(server);
}

static void server_finish(struct ec_http_server *server)
{
    ec_poll_free(server->poll);
    server->poll = NULL;
    MHD_stop_daemon(server->daemon); /* ends what is left through on_request_end */
    server->daemon = NULL;
    close(server->listen_fd);
    ec_call_fn closed = server->closed;
    void *arg = server->closed_arg;
    server_free(server);
    if (closed) {
        closed(arg);
    }
}

/* Moves the closing on: first until the last reply is out or grace is over; then everything
 * suspended is woken (the library aborts otherwise); then the end. */
static void server_step(struct ec_http_server *server)
{
    if (!server->closing || server->kick_waiting) {
        return; /* the kick comes back here */
    }
    if (server->requests && !server->stopping && ec_mono_ms() < server->close_by_ms) {
        return;
    }
    if (server->requests && !server->stopping) {
        server->stopping = true;
        on_sweep(server); /* refuses what waits; its kicks come back here */
        return;
    }
    for (struct ec_request *req = server->requests; req; req = req->next) {
        ec_request_resume(req);
    }
    if (!server->kick_waiting) {
        server_finish(server);
    }
}

void ec_http_server_close(struct ec_http_server *server, uint32_t grace_ms, ec_call_fn closed,
                          void *arg)
{
    server->closing = true;
    server->close_by_ms = ec_mono_ms() + grace_ms;
    server->closed = closed;
    server->closed_arg = arg;
    MHD_quiesce_daemon(server->daemon);
    for (struct ec_request *req = server->requests; req; req = req->next) {
        if (req->stream) {
            ec_stream_end(req->stream);
        }
    }
    ec_timer_start(server->sweep, 10, 10);
    ec_http_kick(server);
}

static EC_RESULT server_start(struct ec_http_server *server)
{
    EC_TRY(ec_http_listen(server->listen_text, &server->listen_fd, &server->port));
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    unsigned idle_s = server->spec.request_deadline_ms / 1000 + 1;
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, server->listen_fd, MHD_OPTION_NOTIFY_COMPLETED, on_request_end,
        server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_URI_LOG_CALLBACK,
        on_target, server, MHD_OPTION_CONNECTION_LIMIT, (unsigned)server->spec.connections_max,
        MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        CONNECTION_MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!server->daemon) {
        close(server->listen_fd);
        return ec_fatal(errno, "the HTTP server cannot start");
    }
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct ec_err err = ec_poll_new(server->loop, info->epoll_fd, on_epoll, server, &server->poll);
    if (ec_failed(err)) {
        MHD_stop_daemon(server->daemon);
        return err;
    }
    ec_poll_want(server->poll, UV_READABLE);
    ec_timer_start(server->sweep, SWEEP_MS, SWEEP_MS);
    ec_http_kick(server);
    return ec_ok();
}

EC_RESULT ec_http_server_open(struct ec_loop *loop, const struct ec_http_server_spec *spec,
                              struct ec_http_server **ret_server)
{
    struct ec_http_server *server = ec_alloc(sizeof(*server));
    server->loop = loop;
    server->spec = *spec;
    server->listen_text = ec_strdup(spec->listen);
    server->spec.listen = server->listen_text;
    server->spec.connections_max = spec->connections_max ? spec->connections_max : 2000;
    server->spec.request_deadline_ms =
        spec->request_deadline_ms ? spec->request_deadline_ms : 30000;
    server->spec.reply_deadline_ms = spec->reply_deadline_ms ? spec->reply_deadline_ms : 30000;
    server->wake = ec_timer_new(loop, on_wake, server);
    server->sweep = ec_timer_new(loop, on_sweep, server);
    struct ec_err err = server_start(server);
    if (ec_failed(err)) {
        server_free(server);
        return err;
    }
    *ret_server = server;
    return ec_ok();
}

uint16_t ec_http_server_port(const struct ec_http_server *server)
{
    return server->port;
}
