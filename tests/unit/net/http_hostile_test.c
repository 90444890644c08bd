/* net/http_server against senders whose bytes are broken at random, in random pieces: it answers or
 * hangs up, never dies (the sanitizers watch in `make asan`), and serves the next one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/http_server.h"
#include "support/raw.h"

#define SENDERS 400
#define AT_ONCE 8
#define TEXT_MAX 40000

static struct ec_loop *loop;
static struct ec_http_server *server;
static volatile bool closed;

static void on_echo(void *state, struct ec_request *req)
{
    (void)state;
    ec_reply_text(req, 200, "text/plain", ec_request_body(req));
}

static const struct ec_http_route routes[] = {{"POST", "/echo", on_echo, 1000, 0},
                                              {"GET", "/hello", on_echo, 0, 0}};

static const char *const seeds[] = {
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: "
    "y\r\n\r\n",
    "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "\r\nGET /hello HTTP/1.0\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxx",
};
static const char *const inserted[] = {"\n", "\r",     "\r\n", "\001",
                                       ":",  " ",      ";",    "Content-Length: 7\r\n",
                                       "0",  "ffffff", "\t",   "Transfer-Encoding: chunked\r\n"};

static size_t pick(size_t count)
{
    return (size_t)random() % count;
}

static void mutate(char *text)
{
    size_t len = strlen(text), at = pick(len + 1);
    const char *piece = inserted[pick(EC_LEN(inserted))];
    switch (pick(4)) {
    case 0:
        text[at] = at < len ? (char)(1 + pick(255)) : '\0';
        break;
    case 1: { /* some bytes go */
        size_t part = pick(20) < len - at ? pick(20) % (len - at + 1) : len - at;
        memmove(text + at, text + at + part, len - at - part + 1);
        break;
    }
    case 2: /* something comes between */
        memmove(text + at + strlen(piece), text + at, len - at + 1);
        memcpy(text + at, piece, strlen(piece));
        break;
    default: /* a long something */
        memmove(text + at + 3000, text + at, len - at + 1);
        memset(text + at, 'a', 3000);
    }
}

/* One or more requests, broken in up to five places. */
static void make_text(char *text)
{
    text[0] = '\0';
    for (size_t i = 0; i < 1 + pick(4); i++) {
        strcat(text, seeds[pick(EC_LEN(seeds))]);
    }
    for (size_t i = pick(6); i > 0; i--) {
        mutate(text);
    }
}

static void send_hostile(struct raw *raw, char *text)
{
    make_text(text);
    size_t len = strlen(text);
    memset(raw, 0, sizeof(*raw));
    raw->port = ec_http_server_port(server);
    raw->send = text;
    raw->send_len = len > 1 ? 1 + pick(len - 1) : len;
    raw->pause_ms = (uint32_t)pick(4);
    raw->send_more = text + raw->send_len;
    raw->read_ms = 20;
    raw->hang_up = pick(4) == 0;
    raw_start(raw);
}

static void test_random_bytes(void **state)
{
    (void)state;
    static struct raw raws[AT_ONCE];
    static char texts[AT_ONCE][TEXT_MAX];
    srandom(2026);
    for (int i = 0; i < SENDERS; i += AT_ONCE) {
        for (size_t k = 0; k < AT_ONCE; k++) {
            send_hostile(&raws[k], texts[k]);
        }
        for (size_t k = 0; k < AT_ONCE; k++) {
            raw_wait(loop, &raws[k]);
            assert_true(raws[k].done);
            if (raws[k].reply_len > 0) {
                assert_int_equal(strncmp(raws[k].reply, "HTTP/1.1 ", 9), 0);
            }
        }
    }
    struct raw *good = &raws[0];
    memset(good, 0, sizeof(*good));
    good->port = ec_http_server_port(server);
    good->send = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    raw_run(loop, good);
    assert_non_null(strstr(good->reply, "HTTP/1.1 200 OK"));
}

static int start(void **state)
{
    (void)state;
    loop = ec_loop_new();
    const struct ec_http_server_spec spec = {.listen = "127.0.0.1:0",
                                             .routes = routes,
                                             .route_count = EC_LEN(routes),
                                             .request_deadline_ms = 500};
    return ec_failed(ec_http_server_open(loop, &spec, &server)) ? -1 : 0;
}

static void on_closed(void *arg)
{
    (void)arg;
    closed = true;
}

static int stop(void **state)
{
    (void)state;
    ec_http_server_close(server, 100, on_closed, NULL);
    loop_until(loop, &closed, 3000);
    ec_loop_free(loop);
    return closed ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_bytes)};
    ec_log_setup("test", EC_LOG_WARN);
    return cmocka_run_group_tests(tests, start, stop);
}
