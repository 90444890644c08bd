/* What the files of the HTTP server share (http_server.c: opening, closing, deadlines; http_conn.c:
 * connections; http_request.c, http_intake.c: requests; http_reply.c: answers; http_stream.c:
 * server-sent events); nobody else includes it. */
#pragma once

#include <microhttpd.h>

#include "base/id.h"
#include "base/metric.h"
#include "net/http_guard.h"
#include "net/http_server.h"

#define EC_REQUEST_HEADERS_MAX 100 /* of one request; above: 431 */
#define EC_REPLY_HEADERS_MAX 16    /* set by a handler */
#define EC_ARENAS_KEPT 64          /* of ended requests, for the next ones */

struct ec_http_conn {
    struct ec_http_server *server;
    struct MHD_Connection *mhd;
    struct ec_http_conn *prev, *next;
    char peer[64];
    char *target;     /* raw target of the request being read; NULL between requests */
    int64_t since_ms; /* mono: when it was accepted, or its last request ended */
    bool answering;   /* a whole request was read: no deadline for the sender any more */
};

enum ec_request_state {
    EC_REQUEST_READING, /* body not complete */
    EC_REQUEST_HANDLED, /* the handler runs or will reply later */
    EC_REQUEST_REPLIED, /* `response` is set */
    EC_REQUEST_QUEUED,  /* given to the HTTP library */
};

struct ec_request {
    struct ec_loop *loop;
    struct ec_http_server *server;  /* NULL when it has closed meanwhile */
    struct ec_http_conn *conn;      /* NULL when the connection is gone */
    struct ec_request *prev, *next; /* server->requests */
    unsigned refs; /* one of the HTTP library, one of a handler that owes a reply */
    bool handler_owes;
    bool suspended;
    enum ec_request_state state;
    struct ec_arena *arena;
    const struct ec_http_route *route;
    const char *method;
    const char *peer;
    struct ec_guard_target target;
    struct ec_guard_match match;
    struct ec_header headers[EC_REQUEST_HEADERS_MAX];
    size_t header_count;
    struct ec_buf body;
    size_t counted_bytes;   /* of the body, in the server's sum */
    size_t discarded_bytes; /* of a chunked body over the limit */
    struct ec_trace trace;
    void *user;
    int64_t began_ms;
    struct ec_header reply_headers[EC_REPLY_HEADERS_MAX];
    size_t reply_header_count;
    int status;
    struct MHD_Response *response;
    struct ec_stream *stream; /* owned; NULL = an ordinary reply */
};

struct ec_http_server {
    struct ec_loop *loop;
    struct ec_http_server_spec spec;
    char *listen_text;
    struct MHD_Daemon *daemon;
    int listen_fd;
    uint16_t port;
    struct ec_poll *poll;
    struct ec_timer *wake;  /* when the HTTP library wants to run */
    struct ec_timer *sweep; /* deadlines, comments, gone readers */
    struct ec_http_conn *conns;
    struct ec_request *requests;
    struct ec_arena *arenas[EC_ARENAS_KEPT];
    size_t arena_count;
    size_t body_bytes; /* in memory, of all requests */
    unsigned sweeps;
    bool kick_waiting; /* a deferred kick is on its way */
    bool closing;
    bool stopping; /* grace is over */
    int64_t close_by_ms;
    ec_call_fn closed;
    void *closed_arg;
};

/* FATAL with the address and what to do. gives *ret_fd. */
EC_RESULT ec_http_listen(const char *listen_text, int *ret_fd, uint16_t *ret_port);
/* ---- http_conn.c: callbacks of the library, and what they keep ---- */
void ec_http_on_connection(void *arg, struct MHD_Connection *mhd, void **socket_arg,
                           enum MHD_ConnectionNotificationCode code);
void *ec_http_on_target(void *arg, const char *target, struct MHD_Connection *mhd);
struct ec_http_conn *ec_http_conn_of(struct MHD_Connection *mhd); /* or NULL */
int ec_http_conn_fd(const struct ec_http_conn *conn);
/* Ends those whose request is not there in time. */
void ec_http_sweep_conns(struct ec_http_server *server, int64_t now_ms);

/* ---- http_request.c: callbacks of the library ---- */
enum MHD_Result ec_http_on_request(void *arg, struct MHD_Connection *mhd, const char *url,
                                   const char *method, const char *version, const char *piece,
                                   size_t *piece_len, void **request_arg);
void ec_http_on_request_end(void *arg, struct MHD_Connection *mhd, void **request_arg,
                            enum MHD_RequestTerminationCode code);
extern struct ec_metric ec_http_requests;

/* Lets the HTTP library run in a later turn (soon). */
void ec_http_kick(struct ec_http_server *server);
/* Copies the headers, finds the route, refuses what can be refused before a body is read. */
void ec_request_guard(struct ec_request *req);
/* A reply is ready: wakes the connection, if it sleeps, and releases the handler's claim. */
void ec_request_replied(struct ec_request *req);
void ec_request_resume(struct ec_request *req);
bool ec_request_peer_gone(const struct ec_request *req);
/* The server answers by itself: guard, deadlines, closing. Only if no reply was made yet. */
void ec_request_refuse(struct ec_request *req, int status, const char *code, const char *detail);
/* False once a reply was made or the connection is gone. */
bool ec_request_may_reply(const struct ec_request *req);
/* Stores the reply, with the handler's headers; takes `response`. Wakes nobody. */
void ec_reply_set(struct ec_request *req, int status, struct MHD_Response *response);
/* Builds the reply without waking anybody: what ec_reply_problem and ec_request_refuse share. */
void ec_reply_make_problem(struct ec_request *req, int status, const char *code, const char *field,
                           const char *detail);

/* Streams, called once a second and when their request ends. */
void ec_stream_tick(struct ec_stream *stream, bool comment_due);
void ec_stream_closed(struct ec_stream *stream); /* calls the owner back, frees it */
