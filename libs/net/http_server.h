/* HTTP/1.1 in, in our loop. One table of routes per server. Before a handler runs, the parser and
 * the guard have refused what smuggles requests (RFC 9112 §6.3: duplicate or conflicting
 * Content-Length, Transfer-Encoding with Content-Length, second Host; lines that end with LF alone,
 * folded headers, control characters), compressed bodies (415: nobody can be made to unpack a
 * bomb), unknown methods (405), unknown paths (404), bodies over the route's limit (413, before
 * reading them where Content-Length tells), heads over 32 KiB (414, 431) and slow senders (408
 * after request_deadline_ms). Pipelined requests are answered one by one, in their order.
 *
 * A handler owes exactly one reply, now or later (nothing is read meanwhile). If
 * nothing came by reply_deadline_ms the server answers 503 itself and later replies are dropped. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"

struct ec_http_server;
struct ec_request;
struct ec_stream;

typedef void (*ec_http_handler_fn)(void *state, struct ec_request *req);

struct ec_http_route {
    const char *method; /* "GET" (also answers HEAD), "POST", "PUT", "PATCH", "DELETE" */
    const char *path;   /* "/v1/services/{id}/logs"; {name} matches one segment */
    ec_http_handler_fn handler;
    size_t body_max_bytes; /* 0 = a body is refused */
    int tag;               /* free for the service, e.g. the role a route needs */
};

struct ec_http_server_spec {
    const char *listen; /* "127.0.0.1:4200"; port 0 = any free (tests) */
    const struct ec_http_route *routes;
    size_t route_count;
    void *state;                  /* given to handlers */
    uint32_t connections_max;     /* 0 = 2000 */
    uint32_t request_deadline_ms; /* 0 = 30 s */
    uint32_t reply_deadline_ms;   /* 0 = 30 s; streams are exempt */
    size_t bodies_max_bytes;      /* of all bodies in memory; 0 = 256 MiB; above: 503 */
    /* Runs before every handler; false = it has replied (auth, rate limits). May be NULL. */
    bool (*before)(void *state, struct ec_request *req);
    /* Told what the server itself refuses of a known route (its guard, limits and deadlines),
     * before the answer goes out. Must not reply. May be NULL. */
    void (*refused)(void *state, struct ec_request *req, int status, const char *code,
                    const char *detail);
};

EC_RESULT ec_http_server_open(struct ec_loop *loop, const struct ec_http_server_spec *spec,
                              struct ec_http_server **ret_server);
uint16_t ec_http_server_port(const struct ec_http_server *server);
/* Stops accepting, ends streams, lets replies finish for at most grace_ms, then calls closed. */
void ec_http_server_close(struct ec_http_server *server, uint32_t grace_ms, ec_call_fn closed,
                          void *arg);

/* What was asked. Everything is borrowed until the reply. */
struct ec_arena *ec_request_arena(struct ec_request *req); /* lives until the reply is out */
const struct ec_http_route *ec_request_route(const struct ec_request *req);
const char *ec_request_method(const struct ec_request *req);
const char *ec_request_path(const struct ec_request *req);
struct ec_span ec_request_body(const struct ec_request *req); /* raw bytes as sent */
const char *ec_request_header(const struct ec_request *req, const char *name); /* or NULL */
const char *ec_request_param(const struct ec_request *req,
                             const char *name); /* {name}; "" if none */
const char *ec_request_query(const struct ec_request *req, const char *name); /* or NULL */
const char *ec_request_peer(const struct ec_request *req);                    /* "127.0.0.1" */
const char *ec_request_trace(const struct ec_request *req); /* traceparent: theirs or a new one */
void *ec_request_user(const struct ec_request *req);        /* what `before` left here */
void ec_request_set_user(struct ec_request *req, void *user);

/* Replies. Bodies are copied. Every reply carries X-Request-Id (the trace id). */
void ec_reply_json(struct ec_request *req, int status, const json_t *body); /* borrows */
void ec_reply_text(struct ec_request *req, int status, const char *content_type,
                   struct ec_span body);
void ec_reply_empty(struct ec_request *req, int status);
/* To be called before the reply, e.g. "Retry-After", "ETag". */
void ec_reply_header(struct ec_request *req, const char *name, const char *value);

/* RFC 9457 application/problem+json. `code` is stable, lower_snake_case, part of the API; `detail`
 * says what was wrong and what to do; `field` names the input (NULL if none). Also carries
 * "error": detail, which older Enclii clients read. */
void ec_reply_problem(struct ec_request *req, int status, const char *code, const char *field,
                      const char *detail);
/* For an error that came up: REJECT 400, RETRY 503 + Retry-After, FATAL 500. */
void ec_reply_error(struct ec_request *req, struct ec_err err, const char *code);

/* Server-sent events (text/event-stream). Takes over the request; `closed` is called exactly once,
 * when the peer is gone or after ec_stream_end. A comment goes out every 15 s. What a slow reader
 * has not taken is bounded by buffer_max_bytes: above it the stream ends with an event "overflow".
 */
struct ec_stream *ec_reply_stream(struct ec_request *req, size_t buffer_max_bytes,
                                  ec_call_fn closed, void *arg);
/* id and event may be NULL; data is one line or more. Data of NULL only tells the id: no event
 * comes of it, but a reader that is cut off resumes there. */
void ec_stream_send(struct ec_stream *stream, const char *id, const char *event,
                    struct ec_span data);
void ec_stream_end(struct ec_stream *stream); /* flushes what is buffered, then closes */
