/* A server with a few routes, and a client that speaks to it byte by byte: for tests of
 * net/http_server. */
#pragma once

#include <string.h>

#include "base/mem.h"
#include "net/http_server.h"
#include "support/kafka.h"
#include "support/raw.h"

struct world {
    struct ec_loop *loop;
    struct ec_http_server *server;
    uint16_t port;
    int handled;
    struct ec_request *held; /* asked "/late": replied by the test */
    struct ec_stream *stream;
    int streams_closed;
    volatile bool closed;
};
static struct world world;
static struct raw raw;
static uint32_t connections_max; /* of the server opened next; 0 = as usual */
static size_t bodies_max_bytes;  /* likewise */

static inline void on_echo(void *state, struct ec_request *req)
{
    struct world *w = state;
    w->handled++;
    ec_reply_header(req, "X-Query",
                    ec_request_query(req, "q") ? ec_request_query(req, "q") : "none");
    ec_reply_text(req, 200, "text/plain", ec_request_body(req));
    ec_reply_text(req, 500, "text/plain", EC_SPAN("a second reply")); /* must be dropped */
}

static inline void on_late(void *state, struct ec_request *req)
{
    ((struct world *)state)->held = req;
}

static inline void on_stream_closed(void *arg)
{
    struct world *w = arg;
    w->streams_closed++;
    w->stream = NULL;
}

static inline void on_events(void *state, struct ec_request *req)
{
    struct world *w = state;
    w->stream = ec_reply_stream(req, 64 * 1024, on_stream_closed, w);
    ec_stream_send(w->stream, "1", "hello", EC_SPAN("one\ntwo"));
}

static inline bool before(void *state, struct ec_request *req)
{
    (void)state;
    if (ec_request_header(req, "x-deny")) {
        ec_reply_problem(req, 401, "unauthenticated", NULL, "say who you are");
        return false;
    }
    return true;
}

static const struct ec_http_route routes[] = {
    {"GET", "/hello/{name}", on_echo, 0, 0}, {"POST", "/echo", on_echo, 1000, 0},
    {"POST", "/big", on_echo, 8 << 20, 0},   {"GET", "/late", on_late, 0, 0},
    {"POST", "/late", on_late, 1000, 0},     {"GET", "/events", on_events, 0, 0},
};

static inline void open_server(uint32_t request_ms, uint32_t reply_ms)
{
    struct ec_http_server_spec spec = {.listen = "127.0.0.1:0",
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .state = &world,
                                       .request_deadline_ms = request_ms,
                                       .reply_deadline_ms = reply_ms,
                                       .connections_max = connections_max,
                                       .bodies_max_bytes = bodies_max_bytes,
                                       .before = before};
    assert_false(ec_failed(ec_http_server_open(world.loop, &spec, &world.server)));
    world.port = ec_http_server_port(world.server);
}

static inline void on_closed(void *arg)
{
    (void)arg;
    world.closed = true;
}

static inline void close_server(uint32_t grace_ms)
{
    world.closed = false;
    ec_http_server_close(world.server, grace_ms, on_closed, NULL);
    loop_until(world.loop, &world.closed, 3000);
    world.server = NULL;
    assert_true(world.closed);
}

static inline int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    world.loop = ec_loop_new();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    if (world.server) { /* the test failed half-way */
        close_server(0);
    }
    ec_loop_free(world.loop);
    return 0;
}

/* The client asks on a thread of its own, while the test goes on: raw_wait ends it. */
static inline void begin(const struct raw *spec)
{
    raw = *spec;
    raw.port = world.port;
    raw_start(&raw);
}

static inline const char *ask(const char *request)
{
    begin(&(struct raw){.send = request});
    raw_wait(world.loop, &raw);
    return raw.reply;
}

static inline void expect(const char *request, const char *part)
{
    const char *reply = ask(request);
    if (!strstr(reply, part)) {
        fail_msg("asked:\n%s\nwanted: %s\ngot:\n%s", request, part, reply);
    }
}

#define END "Host: a\r\nConnection: close\r\n\r\n"

static inline bool is_held(void *arg)
{
    (void)arg;
    return world.held;
}

static inline bool is_streaming(void *arg)
{
    (void)arg;
    return world.stream;
}

static inline bool stream_is_closed(void *arg)
{
    (void)arg;
    return world.streams_closed > 0;
}

static inline void wait_until(bool (*done)(void *arg), void *arg)
{
    assert_true(test_run_until(world.loop, 5000, done, arg));
}

static inline void on_reply_late(void *arg)
{
    (void)arg;
    if (world.held) { /* on a slow machine the request may come after the first tick */
        ec_reply_text(EC_TAKE(world.held), 200, "text/plain", EC_SPAN("at last"));
    }
}
