/* Server-sent events (WHATWG HTML §9.2): a buffer with a maximum between the writer and the
 * connection. The connection sleeps while the buffer is empty. A peer that is gone is found by
 * looking at its socket every quarter of a second, because nothing is read while a reply is under
 * way. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/http_private.h"

#define RETRY_TEXT "retry: 1000\n\n" /* browsers reconnect after one second */
#define OVERFLOW_TEXT                                                                              \
    "event: overflow\ndata: the reader was too slow; reconnect with Last-Event-ID\n\n"
#define BLOCK_BYTES ((size_t)16 * 1024)

struct ec_stream {
    struct ec_request *req;
    struct ec_buf buf;
    size_t limit_bytes; /* buf.max_bytes leaves room for the overflow event */
    bool ended;
    bool gone;
    bool told; /* that it has ended */
    ec_call_fn closed;
    void *arg;
};

static void add_block(struct ec_stream *stream, size_t len)
{
    const struct ec_request *req = stream->req;
    struct ec_buf *out = &req->conn->out;
    if (!req->http_1_0) {
        ec_buf_addf(out, "%zx\r\n", len);
    }
    ec_buf_add(out, stream->buf.ptr, len);
    if (!req->http_1_0) {
        ec_buf_add_text(out, "\r\n");
    }
    ec_buf_drop_front(&stream->buf, len);
}

bool ec_stream_fill(struct ec_stream *stream)
{
    const struct ec_request *req = stream->req;
    if (stream->gone || strcmp(req->method, "HEAD") == 0) {
        req->conn->last = true;
        return false;
    }
    if (stream->buf.len > 0) {
        add_block(stream, stream->buf.len < BLOCK_BYTES ? stream->buf.len : BLOCK_BYTES);
        return true;
    }
    if (!stream->ended) {
        return true;
    }
    if (!stream->told && !req->http_1_0) {
        ec_buf_add_text(&req->conn->out, "0\r\n\r\n");
    }
    stream->told = true;
    return false;
}

static void wake(const struct ec_stream *stream)
{
    if (stream->req && stream->req->conn) {
        ec_http_wake(stream->req->conn);
    }
}

static void stream_write(struct ec_stream *stream, struct ec_span text)
{
    if (stream->ended || stream->gone) {
        return;
    }
    if (stream->buf.len + text.len > stream->limit_bytes) {
        ec_buf_add_text(&stream->buf, OVERFLOW_TEXT);
        stream->ended = true;
    } else {
        ec_buf_add_span(&stream->buf, text);
    }
    wake(stream);
}

static void on_never_began(void *arg)
{
    ec_stream_closed(arg);
}

struct ec_stream *ec_reply_stream(struct ec_request *req, size_t buffer_max_bytes,
                                  ec_call_fn closed, void *arg)
{
    struct ec_stream *stream = ec_alloc(sizeof(*stream));
    stream->req = req;
    stream->closed = closed;
    stream->arg = arg;
    stream->limit_bytes = buffer_max_bytes;
    ec_buf_init(&stream->buf, buffer_max_bytes + sizeof(OVERFLOW_TEXT));
    if (!ec_request_may_reply(req)) { /* too late: the server has answered, or the peer is gone */
        stream->gone = true;
        stream->req = NULL;
        ec_loop_defer(req->loop, on_never_began, stream);
    } else {
        ec_reply_header(req, "Cache-Control", "no-store");
        ec_reply_header(req, "X-Accel-Buffering", "no"); /* for proxies that collect */
        ec_buf_add_text(&stream->buf, RETRY_TEXT);
        req->stream = stream;
        ec_reply_write(req, 200, "text/event-stream", (struct ec_span){"", 0}, true);
    }
    ec_request_replied(req);
    return stream;
}

void ec_stream_send(struct ec_stream *stream, const char *id, const char *event,
                    struct ec_span data)
{
    struct ec_buf text;
    ec_buf_init(&text, stream->limit_bytes + 1);
    if (id) {
        ec_buf_addf(&text, "id: %s\n", id);
    }
    if (event) {
        ec_buf_addf(&text, "event: %s\n", event);
    }
    for (size_t at = 0; data.ptr && at <= data.len;) { /* one "data:" per line */
        const char *newline = at < data.len ? memchr(data.ptr + at, '\n', data.len - at) : NULL;
        size_t end = newline ? (size_t)(newline - data.ptr) : data.len;
        ec_buf_add_text(&text, "data: ");
        ec_buf_add(&text, data.ptr + at, end - at);
        ec_buf_add_text(&text, "\n");
        at = end + 1;
    }
    ec_buf_add_text(&text, "\n");
    stream_write(stream, ec_buf_span(&text));
    ec_buf_done(&text);
}

void ec_stream_end(struct ec_stream *stream)
{
    if (!stream->gone) {
        stream->ended = true;
        wake(stream);
    }
}

void ec_stream_tick(struct ec_stream *stream, bool comment_due)
{
    if (stream->gone) {
        return;
    }
    if (ec_request_peer_gone(stream->req)) {
        stream->gone = true;
        wake(stream);
    } else if (comment_due && stream->buf.len == 0) {
        stream_write(stream, EC_SPAN(": still here\n\n"));
    }
}

void ec_stream_closed(struct ec_stream *stream)
{
    if (stream->closed) {
        stream->closed(stream->arg);
    }
    ec_buf_done(&stream->buf);
    free(stream);
}
