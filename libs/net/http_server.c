/* The server: a listening socket and the connections it accepted, everything on the loop's thread.
 * A connection whose answer is ready in another turn than its request is queued and gets a turn of
 * its own soon after (a kick), never inside a handler. Connections are in http_conn.c, requests in
 * http_request.c. */
#include "net/http_private.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define SWEEP_MS 250
#define STOOD_STILL_MS (2 * SWEEP_MS)
#define COMMENT_EVERY_SWEEPS 60 /* 15 s */

static void server_step(struct ec_http_server *server);

/* ---- turns of connections ---- */

static void on_kick(void *arg)
{
    struct ec_http_server *server = arg;
    struct ec_http_conn *conn = server->ready;
    server->kick_waiting = false;
    server->ready = NULL;
    server->ready_tail = &server->ready;
    while (conn) {
        struct ec_http_conn *next = conn->ready_next;
        conn->queued = false;
        if (conn->gone) {
            free(conn);
        } else {
            ec_http_conn_turn(conn);
        }
        conn = next;
    }
    server_step(server);
}

static void kick(struct ec_http_server *server)
{
    if (!server->kick_waiting) {
        server->kick_waiting = true;
        ec_loop_defer(server->loop, on_kick, server);
    }
}

void ec_http_wake(struct ec_http_conn *conn)
{
    struct ec_http_server *server = conn->server;
    if (conn->running) {
        return; /* it looks by itself */
    }
    if (!conn->queued) {
        conn->queued = true;
        conn->ready_next = NULL;
        *server->ready_tail = conn;
        server->ready_tail = &conn->ready_next;
    }
    kick(server);
}

static void on_acceptable(void *arg, int status, int events)
{
    (void)status;
    (void)events;
    ec_http_accept(arg);
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

/* When the loop stood still (a busy machine, a stopped process), timers come before what arrived
 * meanwhile is read: then nobody is late yet. But not twice in a row, or a server that is always
 * slow would have no deadlines. */
static bool stood_still(struct ec_http_server *server, int64_t now_ms)
{
    bool late = now_ms - server->swept_ms > STOOD_STILL_MS;
    server->swept_ms = now_ms;
    server->stood_still = late && !server->stood_still;
    return server->stood_still;
}

static void on_sweep(void *arg)
{
    struct ec_http_server *server = arg;
    int64_t now_ms = ec_mono_ms();
    if (!stood_still(server, now_ms)) {
        server->sweeps++;
        ec_http_sweep_conns(server, now_ms);
        sweep_requests(server, now_ms);
    }
    if (server->full && server->conn_count < server->spec.connections_max && !server->closing) {
        server->full = false; /* also when there were no descriptors left */
        ec_poll_want(server->poll, UV_READABLE);
    }
    server_step(server);
}

/* ---- opening and closing ---- */

static void server_free(struct ec_http_server *server)
{
    while (server->arena_count > 0) {
        ec_arena_free(server->arenas[--server->arena_count]);
    }
    ec_timer_free(server->sweep);
    free(server->listen_text);
    ec_body_sum_unref(server->sum);
    free(server);
}

static void server_finish(struct ec_http_server *server)
{
    while (server->conns) {
        ec_http_conn_close(server->conns);
    }
    if (server->kick_waiting) {
        return; /* closing a stream woke somebody: the kick comes back here */
    }
    close(server->listen_fd);
    ec_call_fn closed = server->closed;
    void *arg = server->closed_arg;
    server_free(server);
    if (closed) {
        closed(arg);
    }
}

/* Moves the closing on: first until the last reply is out or grace is over; then what waits is
 * refused; then the end. */
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
        sweep_requests(server, ec_mono_ms()); /* wakes them: their kick comes back here */
        kick(server);
        return;
    }
    server_finish(server);
}

void ec_http_server_close(struct ec_http_server *server, uint32_t grace_ms, ec_call_fn closed,
                          void *arg)
{
    server->closing = true;
    server->close_by_ms = ec_mono_ms() + grace_ms;
    server->closed = closed;
    server->closed_arg = arg;
    ec_poll_free(server->poll);
    server->poll = NULL;
    for (struct ec_request *req = server->requests; req; req = req->next) {
        if (req->stream) {
            ec_stream_end(req->stream);
        }
    }
    ec_timer_start(server->sweep, 10, 10);
    kick(server);
}

static EC_RESULT server_start(struct ec_http_server *server)
{
    EC_TRY(ec_http_listen(server->listen_text, &server->listen_fd, &server->port));
    struct ec_err err =
        ec_poll_new(server->loop, server->listen_fd, on_acceptable, server, &server->poll);
    if (ec_failed(err)) {
        close(server->listen_fd);
        return err;
    }
    ec_poll_want(server->poll, UV_READABLE);
    server->swept_ms = ec_mono_ms();
    ec_timer_start(server->sweep, SWEEP_MS, SWEEP_MS);
    return ec_ok();
}

EC_RESULT ec_http_server_open(struct ec_loop *loop, const struct ec_http_server_spec *spec,
                              struct ec_http_server **ret_server)
{
    struct ec_http_server *server = ec_alloc(sizeof(*server));
    server->loop = loop;
    server->spec = *spec;
    server->listen_text = ec_strdup(spec->listen);
    server->sum = ec_alloc(sizeof(*server->sum));
    server->sum->refs = 1;
    server->spec.listen = server->listen_text;
    server->spec.connections_max = spec->connections_max ? spec->connections_max : 2000;
    server->spec.bodies_max_bytes =
        spec->bodies_max_bytes ? spec->bodies_max_bytes : (size_t)256 << 20;
    server->spec.request_deadline_ms =
        spec->request_deadline_ms ? spec->request_deadline_ms : 30000;
    server->spec.reply_deadline_ms = spec->reply_deadline_ms ? spec->reply_deadline_ms : 30000;
    server->ready_tail = &server->ready;
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
