/* What the files of the HTTP server share (http_server.c: opening, closing, deadlines; http_conn.c:
 * connections and their bytes; http_request.c, http_intake.c: requests; http_reply.c: answers;
 * http_stream.c: server-sent events; http_parse.c, http_guard.c: pure); nobody else includes it. */
#pragma once

#include "base/id.h"
#include "base/metric.h"
#include "net/http_guard.h"
#include "net/http_parse.h"
#include "net/http_server.h"

#define EC_REPLY_HEADERS_MAX 16           /* set by a handler */
#define EC_ARENAS_KEPT 64                 /* of ended requests, for the next ones */
#define EC_READ_BYTES ((size_t)64 * 1024) /* at most, in one turn of one connection */

/* One connection has one request at a time: what comes behind it waits until that one is answered.
 */
struct ec_http_conn {
    struct ec_http_server *server;
    struct ec_http_conn *prev, *next;
    struct ec_http_conn *ready_next; /* server->ready */
    int fd;
    struct ec_poll *poll;
    int wanted; /* events that the poll watches */
    char peer[64];
    struct ec_request *req; /* under way; NULL between requests */
    struct ec_buf in;       /* a head that is not complete, or what came behind the request */
    struct ec_head_scan scan;
    struct ec_buf out;   /* of the reply, not yet taken by the socket */
    size_t out_sent;     /* of `out` */
    int64_t since_ms;    /* mono: when it was accepted, or its last request ended */
    int64_t progress_ms; /* mono: when the socket last took a byte of ours */
    size_t drained_bytes;
    bool blank_passed; /* one empty line before a request is allowed */
    bool last;         /* no request after this one */
    bool unsure;       /* where the request ends is not known: more of it may come */
    bool draining;     /* answered for the last time; its bytes are dropped until it hangs up */
    bool running;      /* in its turn */
    bool queued;       /* in server->ready */
    bool gone;         /* closed; freed once it is neither running nor queued */
};

enum ec_request_state {
    EC_REQUEST_READING, /* body not complete */
    EC_REQUEST_HANDLED, /* the handler runs or will reply later */
    EC_REQUEST_REPLIED, /* the reply is in conn->out */
};

/* Bytes of all bodies in memory. A handler may hold its request's longer than the connection, even
 * the server, lasts: whoever lets go last frees the sum. */
struct ec_body_sum {
    size_t bytes;
    unsigned refs; /* the server's, and one of each request */
};

struct ec_request {
    struct ec_loop *loop;
    struct ec_http_server *server;  /* NULL when it has closed meanwhile */
    struct ec_http_conn *conn;      /* NULL when the connection is gone */
    struct ec_request *prev, *next; /* server->requests */
    unsigned refs;                  /* one of the connection, one of a handler that owes a reply */
    bool handler_owes;
    bool http_1_0;
    enum ec_request_state state;
    struct ec_arena *arena;
    const struct ec_http_route *route;
    const char *method;
    const char *raw_target;
    const char *peer;
    struct ec_guard_target target;
    struct ec_guard_match match;
    struct ec_header headers[EC_REQUEST_HEADERS_MAX];
    size_t header_count;
    bool chunked;
    struct ec_chunks chunks;
    size_t left_bytes; /* of a body with Content-Length */
    struct ec_buf body;
    size_t counted_bytes; /* of the body, in the sum */
    struct ec_body_sum *sum;
    struct ec_trace trace;
    void *user;
    int64_t began_ms;
    struct ec_header reply_headers[EC_REPLY_HEADERS_MAX];
    size_t reply_header_count;
    int status;
    struct ec_stream *stream; /* owned; NULL = an ordinary reply */
};

struct ec_http_server {
    struct ec_loop *loop;
    struct ec_http_server_spec spec;
    char *listen_text;
    int listen_fd;
    uint16_t port;
    struct ec_poll *poll;   /* of the listening socket */
    struct ec_timer *sweep; /* deadlines, comments, gone readers */
    struct ec_http_conn *conns;
    size_t conn_count;
    bool full;                                /* nobody is accepted until somebody leaves */
    struct ec_http_conn *ready, **ready_tail; /* have something to do in the next turn */
    struct ec_request *requests;
    struct ec_arena *arenas[EC_ARENAS_KEPT];
    size_t arena_count;
    struct ec_body_sum *sum;
    char read[EC_READ_BYTES]; /* what a connection sends, while it is looked at */
    char date[40];            /* of the header, for date_s */
    int64_t date_s;
    unsigned sweeps;
    int64_t swept_ms;  /* mono: the last time */
    bool stood_still;  /* the last sweep came late and judged nobody */
    bool kick_waiting; /* a deferred turn is on its way */
    bool closing;
    bool stopping; /* grace is over */
    int64_t close_by_ms;
    ec_call_fn closed;
    void *closed_arg;
};

/* FATAL with the address and what to do. gives *ret_fd. */
EC_RESULT ec_http_listen(const char *listen_text, int *ret_fd, uint16_t *ret_port);

/* ---- http_server.c ---- */
/* The connection has something to do: it gets its turn soon, never inside a handler. */
void ec_http_wake(struct ec_http_conn *conn);

/* ---- http_conn.c ---- */
void ec_http_accept(struct ec_http_server *server);
/* Goes on with what was received, with its reply, with the request after it. */
void ec_http_conn_turn(struct ec_http_conn *conn);
/* Ends its request too: the handler's reply, should it come, is dropped. */
void ec_http_conn_close(struct ec_http_conn *conn);
/* Ends those whose request is not there in time, or who do not take their reply. */
void ec_http_sweep_conns(struct ec_http_server *server, int64_t now_ms);

/* ---- http_request.c ---- */
void ec_body_sum_unref(struct ec_body_sum *sum);
struct ec_request *ec_request_new(struct ec_http_conn *conn, const struct ec_head *head);
/* The reply is out, or the peer went away. */
void ec_request_end(struct ec_request *req);
/* Takes of the body what is there; gives how many bytes. The last one starts the handler. */
size_t ec_request_take_body(struct ec_request *req, struct ec_span bytes);
bool ec_request_body_pending(const struct ec_request *req);
void ec_request_dispatch(struct ec_request *req);
extern struct ec_metric ec_http_requests;

/* Finds the route, refuses what can be refused before a body is read. */
void ec_request_guard(struct ec_request *req, struct ec_guard_fault fault);
bool ec_request_expects_continue(const struct ec_request *req);
/* A reply is ready: wakes the connection and releases the handler's claim. */
void ec_request_replied(struct ec_request *req);
bool ec_request_peer_gone(const struct ec_request *req);
/* The server answers by itself: guard, deadlines, closing. Only if no reply was made yet. */
void ec_request_refuse(struct ec_request *req, int status, const char *code, const char *detail);
/* False once a reply was made or the connection is gone. */
bool ec_request_may_reply(const struct ec_request *req);
/* Writes the reply to conn->out, with the handler's headers; of a stream only the head. Wakes
 * nobody. */
void ec_reply_write(struct ec_request *req, int status, const char *content_type,
                    struct ec_span body, bool stream);
/* Builds the reply without waking anybody: what ec_reply_problem and ec_request_refuse share. */
void ec_reply_make_problem(struct ec_request *req, int status, const char *code, const char *field,
                           const char *detail);

/* Streams, called once a second and when their request ends. */
void ec_stream_tick(struct ec_stream *stream, bool comment_due);
/* Moves a piece to conn->out; false when the stream is over (with the last piece). */
bool ec_stream_fill(struct ec_stream *stream);
void ec_stream_closed(struct ec_stream *stream); /* calls the owner back, frees it */
