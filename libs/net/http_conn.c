/* Connections: what they send goes into requests, one at a time, and replies go out in that order.
 * Bytes are read into a buffer of the server and looked at there; only what cannot be used yet is
 * kept, so an idle connection holds no buffer. While a request is being answered nothing is read:
 * a sender of more waits in his own socket. */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http_private.h"

#define ACCEPTS_PER_TURN 64
#define KEPT_MAX_BYTES (EC_HEAD_MAX_BYTES + EC_READ_BYTES)
#define OUT_KEPT_BYTES ((size_t)64 * 1024) /* a larger buffer is given back */
#define REPLY_MAX_BYTES ((size_t)256 << 20)
#define DRAIN_MAX_BYTES ((size_t)1024 * 1024) /* behind the last reply, before we hang up */
#define DRAIN_MS 2000

/* ---- beginning and end ---- */

static void watch(struct ec_http_conn *conn, int events)
{
    if (conn->wanted != events) {
        conn->wanted = events;
        ec_poll_want(conn->poll, events);
    }
}

static void on_event(void *arg, int status, int events);

static void conn_open(struct ec_http_server *server, int fd, const struct sockaddr_storage *peer,
                      socklen_t peer_len)
{
    int on = 1;
    struct ec_http_conn *conn = ec_alloc(sizeof(*conn));
    conn->server = server;
    conn->fd = fd;
    if (ec_failed(ec_poll_new(server->loop, fd, on_event, conn, &conn->poll))) {
        close(fd);
        free(conn);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    getnameinfo((const struct sockaddr *)peer, peer_len, conn->peer, sizeof(conn->peer), NULL, 0,
                NI_NUMERICHOST);
    ec_buf_init(&conn->in, KEPT_MAX_BYTES);
    ec_buf_init(&conn->out, REPLY_MAX_BYTES);
    conn->since_ms = ec_mono_ms();
    conn->next = server->conns;
    if (conn->next) {
        conn->next->prev = conn;
    }
    server->conns = conn;
    server->conn_count++;
    watch(conn, UV_READABLE);
}

void ec_http_accept(struct ec_http_server *server)
{
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof(peer);
        bool room = server->conn_count < server->spec.connections_max;
        int fd = room ? accept4(server->listen_fd, (struct sockaddr *)&peer, &len,
                                SOCK_NONBLOCK | SOCK_CLOEXEC)
                      : -1;
        if (fd < 0 && room && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)) {
            return;
        }
        if (fd < 0) { /* no room, or no descriptors: those who come wait; the sweep looks again */
            server->full = true;
            ec_poll_want(server->poll, 0);
            return;
        }
        conn_open(server, fd, &peer, len);
    }
}

static void conn_unlink(struct ec_http_conn *conn)
{
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        conn->server->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    conn->server->conn_count--;
}

void ec_http_conn_close(struct ec_http_conn *conn)
{
    conn_unlink(conn);
    ec_poll_free(conn->poll);
    close(conn->fd);
    conn->fd = -1;
    conn->gone = true;
    if (conn->req) {
        ec_request_end(EC_TAKE(conn->req));
    }
    ec_buf_done(&conn->in);
    ec_buf_done(&conn->out);
    if (!conn->queued && !conn->running) {
        free(conn);
    }
}

/* The last reply is out. Closing while bytes of the peer are unread would reset the connection, and
 * the reply could be lost on its way. */
static void conn_leave(struct ec_http_conn *conn, bool unread)
{
    if (!unread) {
        ec_http_conn_close(conn);
        return;
    }
    shutdown(conn->fd, SHUT_WR);
    conn->draining = true;
    conn->since_ms = ec_mono_ms();
    ec_buf_done(&conn->in);
    watch(conn, UV_READABLE);
}

static void conn_drain(struct ec_http_conn *conn)
{
    ssize_t n = recv(conn->fd, conn->server->read, EC_READ_BYTES, 0);
    conn->drained_bytes += n > 0 ? (size_t)n : 0;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
        conn->drained_bytes > DRAIN_MAX_BYTES) {
        ec_http_conn_close(conn);
    }
}

/* ---- out ---- */

/* Gives what is to go out to the socket; false when the connection is gone with that. */
static bool flush(struct ec_http_conn *conn)
{
    if (conn->out.len > 0 && !(conn->wanted & UV_WRITABLE)) {
        conn->progress_ms = ec_mono_ms(); /* it did not wait for the socket until now */
    }
    while (conn->out_sent < conn->out.len) {
        ssize_t n = send(conn->fd, conn->out.ptr + conn->out_sent, conn->out.len - conn->out_sent,
                         MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        if (n < 0 || conn->out.overflowed) { /* a part of a reply helps nobody */
            ec_http_conn_close(conn);
            return false;
        }
        conn->out_sent += (size_t)n;
        conn->progress_ms = ec_mono_ms();
    }
    conn->out_sent = 0;
    if (conn->out.room_bytes > OUT_KEPT_BYTES) {
        ec_buf_done(&conn->out);
    }
    ec_buf_clear(&conn->out);
    return true;
}

/* ---- in ---- */

static void begin_request(struct ec_http_conn *conn, const struct ec_head *head,
                          struct ec_guard_fault fault)
{
    struct ec_request *req = ec_request_new(conn, head);
    conn->req = req;
    conn->scan = (struct ec_head_scan){0};
    conn->blank_passed = false;
    conn->last |= fault.status != 0; /* where the next request begins is not known */
    ec_request_guard(req, fault);
    if (req->state != EC_REQUEST_READING) {
        return;
    }
    if (req->left_bytes == 0 && !req->chunked) {
        ec_request_dispatch(req);
    } else if (ec_request_expects_continue(req)) {
        ec_buf_add_text(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
    }
}

static size_t take_head(struct ec_http_conn *conn, struct ec_span data)
{
    struct ec_head head;
    struct ec_guard_fault fault = {0};
    size_t len = 0;
    if (data.ptr[0] == '\r' && data.len == 1) {
        return 0;
    }
    if (data.ptr[0] == '\r' && data.ptr[1] == '\n' && !conn->blank_passed) {
        conn->blank_passed = true; /* RFC 9112 §2.2: some senders end a body with one */
        return 2;
    }
    enum ec_scan found = ec_head_scan(&conn->scan, data, &len, &fault);
    if (found == EC_SCAN_MORE) {
        return 0;
    }
    len = found == EC_SCAN_HEAD ? len : data.len;
    struct ec_guard_fault parsed = ec_head_parse((struct ec_span){data.ptr, len}, &head);
    begin_request(conn, &head, found == EC_SCAN_HEAD ? parsed : fault);
    return len;
}

static size_t take(struct ec_http_conn *conn, struct ec_span data)
{
    if (data.len == 0) {
        return 0;
    }
    if (!conn->req) {
        return take_head(conn, data);
    }
    return conn->req->state == EC_REQUEST_READING ? ec_request_take_body(conn->req, data) : 0;
}

/* The reply is out to its last byte; false when that was the last of the connection. */
static bool request_over(struct ec_http_conn *conn, struct ec_span data)
{
    struct ec_request *req = EC_TAKE(conn->req);
    bool unread = data.len > 0 || conn->unsure || ec_request_body_pending(req);
    conn->since_ms = ec_mono_ms();
    ec_request_end(req);
    if (conn->last) {
        conn_leave(conn, unread);
        return false;
    }
    return true;
}

/* ---- turns ---- */

/* One step; false when somebody is to be waited for: the peer, or a handler. */
static bool step(struct ec_http_conn *conn, struct ec_span *data)
{
    struct ec_request *req = conn->req;
    if (!req || req->state != EC_REQUEST_REPLIED) {
        size_t used = take(conn, *data);
        data->ptr += used;
        data->len -= used;
        return used > 0 || conn->out.len > 0;
    }
    bool more = req->stream && ec_stream_fill(req->stream);
    if (more || conn->out.len > 0) {
        return conn->out.len > 0;
    }
    return request_over(conn, *data);
}

/* Goes on with `data` as far as it can, and leaves what it cannot use yet. */
static void run(struct ec_http_conn *conn, struct ec_span *data)
{
    do {
        if (!flush(conn)) {
            return;
        }
        if (conn->out.len > 0) {
            watch(conn, UV_WRITABLE);
            return;
        }
    } while (step(conn, data));
    if (!conn->gone && !conn->draining) {
        bool answering = conn->req && conn->req->state != EC_REQUEST_READING;
        watch(conn, answering ? conn->wanted & UV_READABLE : UV_READABLE);
    }
}

/* Runs on what was kept, or on what has just been read. */
static void turn(struct ec_http_conn *conn, struct ec_span data, bool kept)
{
    size_t had = data.len;
    conn->running = true;
    run(conn, &data);
    conn->running = false;
    if (conn->gone) {
        if (!conn->queued) {
            free(conn);
        }
        return;
    }
    if (conn->draining) {
        return;
    }
    if (!kept) {
        ec_buf_add_span(&conn->in, data);
        return;
    }
    ec_buf_drop_front(&conn->in, had - data.len);
    if (conn->in.len == 0) {
        ec_buf_done(&conn->in);
    }
}

void ec_http_conn_turn(struct ec_http_conn *conn)
{
    if (!conn->draining) {
        turn(conn, ec_buf_span(&conn->in), true);
    }
}

static void conn_read(struct ec_http_conn *conn)
{
    char *bytes = conn->server->read;
    ssize_t n = recv(conn->fd, bytes, EC_READ_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        ec_http_conn_close(conn);
        return;
    }
    if (!conn->req && conn->in.len == 0) {
        conn->since_ms = ec_mono_ms(); /* a request begins: its deadline too */
    }
    if (conn->in.len == 0) {
        turn(conn, (struct ec_span){bytes, (size_t)n}, false);
        return;
    }
    ec_buf_add(&conn->in, bytes, (size_t)n);
    turn(conn, ec_buf_span(&conn->in), true);
}

static void on_event(void *arg, int status, int events)
{
    struct ec_http_conn *conn = arg;
    bool answering = conn->req && conn->req->state != EC_REQUEST_READING;
    if (status < 0) {
        ec_http_conn_close(conn);
    } else if (conn->draining) {
        conn_drain(conn);
    } else if (conn->out.len > 0) {
        ec_http_conn_turn(conn);
    } else if (events & UV_READABLE && answering) {
        watch(conn, 0); /* what comes now is for later, and would wake us all the time */
    } else if (events & UV_READABLE) {
        conn_read(conn);
    }
}

/* ---- deadlines ---- */

/* Of a request that has not even its headers: nobody knows yet what it is about. */
static void head_times_out(struct ec_http_conn *conn)
{
    static const char text[] = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                               "Content-Length: 0\r\n\r\n";
    if (!conn->scan.first_done) { /* idle, or not even a request line */
        ec_http_conn_close(conn);
        return;
    }
    ec_metric_add(&ec_http_requests, "408", 1);
    send(conn->fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    conn_leave(conn, true);
}

static void sweep_conn(struct ec_http_conn *conn, int64_t now_ms)
{
    int64_t most_ms = conn->server->spec.request_deadline_ms;
    bool late = now_ms - conn->since_ms > most_ms;
    if (conn->draining) {
        if (now_ms - conn->since_ms > DRAIN_MS) {
            ec_http_conn_close(conn);
        }
    } else if (conn->wanted & UV_WRITABLE) {
        if (now_ms - conn->progress_ms > most_ms) {
            ec_http_conn_close(conn); /* it does not take its reply */
        }
    } else if (!conn->req && late) {
        head_times_out(conn);
    } else if (conn->req && conn->req->state == EC_REQUEST_READING && late) {
        ec_request_refuse(conn->req, 408, "request_timeout",
                          "the request was not sent in time; send it again");
    }
}

void ec_http_sweep_conns(struct ec_http_server *server, int64_t now_ms)
{
    for (struct ec_http_conn *conn = server->conns, *next; conn; conn = next) {
        next = conn->next;
        sweep_conn(conn, now_ms);
    }
}
