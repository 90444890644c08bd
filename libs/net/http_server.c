/* libmicrohttpd with external epoll: its one descriptor sits in our loop, everything runs on the
 * loop's thread. A connection whose answer is not ready is suspended; a reply from another turn
 * resumes it and lets the library run soon after (a kick), never inside a handler. Connections are
 * in http_conn.c, requests in http_request.c. */
#include "net/http_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define CONNECTION_MEMORY_BYTES ((size_t)32 * 1024) /* request line and headers: 414, 431 above */
#define SWEEP_MS 250
#define COMMENT_EVERY_SWEEPS 60 /* 15 s */

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

/* ---- deadlines ---- */

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
    ec_http_sweep_conns(server, now_ms);
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
    MHD_stop_daemon(server->daemon); /* ends what is left through ec_http_on_request_end */
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
        flags, 0, NULL, NULL, ec_http_on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log,
        NULL, MHD_OPTION_LISTEN_SOCKET, server->listen_fd, MHD_OPTION_NOTIFY_COMPLETED,
        ec_http_on_request_end, server, MHD_OPTION_NOTIFY_CONNECTION, ec_http_on_connection, server,
        MHD_OPTION_URI_LOG_CALLBACK, ec_http_on_target, server, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)server->spec.connections_max, MHD_OPTION_CONNECTION_TIMEOUT, idle_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_END);
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
    server->spec.bodies_max_bytes =
        spec->bodies_max_bytes ? spec->bodies_max_bytes : (size_t)256 << 20;
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
