/* net/http_server under many connections at once, whose replies come later, earlier and in the same
 * turn as its timers: every request gets its own answer, on connections of all habits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http_server.h"
#include "support/raw.h"

#define CLIENTS 4
#define SOAK_MS 2500
#define HELD_MAX 256
#define ANSWER_MS 5000

static uint16_t port;
static struct ec_request *held[HELD_MAX];
static size_t held_count;
static int64_t stop_ms;

/* ---- the server: replies at once, or with the next timer ---- */

static void reply(struct ec_request *req)
{
    ec_reply_text(req, 200, "text/plain", ec_request_body(req));
}

static void on_late(void *state, struct ec_request *req)
{
    (void)state;
    if (held_count == HELD_MAX) {
        reply(req);
        return;
    }
    held[held_count++] = req;
}

static void on_echo(void *state, struct ec_request *req)
{
    (void)state;
    reply(req);
    while (held_count > 0) { /* the others' replies come while sockets are looked at */
        reply(held[--held_count]);
    }
}

static void on_timer(void *arg)
{
    (void)arg;
    while (held_count > 0) {
        reply(held[--held_count]);
    }
}

/* ---- the clients ---- */

struct client {
    unsigned number, asked, connections;
    char wrong[512]; /* "" = all is well */
    volatile bool done;
};

static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval limit = {ANSWER_MS / 1000, 0};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Requests in one write, as many as `count`: a pipeline when it is more than one. */
static bool ask(struct client *client, int fd, unsigned count)
{
    char text[2048];
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) {
        char body[32];
        int body_len = snprintf(body, sizeof(body), "<%u-%u>", client->number, client->asked + i);
        bool chunked = (client->asked + i) % 5 == 0;
        len += (size_t)snprintf(text + len, sizeof(text) - len, "POST %s HTTP/1.1\r\nHost: a\r\n",
                                (client->asked + i) % 3 ? "/late" : "/echo");
        len += chunked ? (size_t)snprintf(text + len, sizeof(text) - len,
                                          "Transfer-Encoding: chunked\r\n\r\n"
                                          "%x\r\n%s\r\n0\r\n\r\n",
                                          body_len, body)
                       : (size_t)snprintf(text + len, sizeof(text) - len,
                                          "Content-Length: %d\r\n\r\n%s", body_len, body);
    }
    return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* The replies to them, in their order. */
static bool answered(struct client *client, int fd, unsigned count)
{
    char text[4096] = "", want[32];
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) {
        snprintf(want, sizeof(want), "\r\n\r\n<%u-%u>", client->number, client->asked + i);
        const char *found;
        while (!(found = strstr(text, want))) {
            ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
            if (n <= 0) {
                snprintf(client->wrong, sizeof(client->wrong),
                         "request %u, number %u of %u: %s; had: %.200s", client->asked + i, i + 1,
                         count, n == 0 ? "the connection was closed" : "no answer", text);
                return false;
            }
            len += (size_t)n;
            text[len] = '\0';
        }
    }
    client->asked += count;
    return true;
}

static void talk(struct client *client)
{
    int fd = dial();
    unsigned rounds = 1 + client->connections % 4, pipelined = 1 + client->connections % 3;
    client->connections++;
    for (unsigned i = 0; i < rounds && fd >= 0 && !client->wrong[0]; i++) {
        if (!ask(client, fd, pipelined)) {
            snprintf(client->wrong, sizeof(client->wrong), "cannot send");
        } else if (!answered(client, fd, pipelined)) {
            break;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void *client_thread(void *arg)
{
    struct client *client = arg;
    while (ec_mono_ms() < stop_ms && !client->wrong[0]) {
        talk(client);
    }
    __atomic_store_n(&client->done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* ---- the test ---- */

static void on_closed(void *closed)
{
    *(volatile bool *)closed = true;
}

static void test_each_request_gets_its_answer(void **state)
{
    (void)state;
    static const struct ec_http_route routes[] = {{"POST", "/late", on_late, 1000, 0},
                                                  {"POST", "/echo", on_echo, 1000, 0}};
    static struct client clients[CLIENTS];
    struct ec_loop *loop = ec_loop_new();
    struct ec_http_server *server;
    struct ec_http_server_spec spec = {.listen = "127.0.0.1:0",
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .request_deadline_ms = 1000};
    assert_false(ec_failed(ec_http_server_open(loop, &spec, &server)));
    port = ec_http_server_port(server);
    struct ec_timer *timer = ec_timer_new(loop, on_timer, NULL);
    ec_timer_start(timer, 1, 1);
    stop_ms = ec_mono_ms() + SOAK_MS;
    unsigned asked = 0, connections = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        pthread_t thread;
        clients[i].number = i;
        pthread_create(&thread, NULL, client_thread, &clients[i]);
        pthread_detach(thread);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        loop_until(loop, &clients[i].done, SOAK_MS + 2 * ANSWER_MS);
        assert_true(clients[i].done);
        if (clients[i].wrong[0]) {
            fail_msg("client %u: %s", i, clients[i].wrong);
        }
        asked += clients[i].asked;
        connections += clients[i].connections;
    }
    print_message("%u requests on %u connections\n", asked, connections);
    assert_true(asked > 100);
    volatile bool closed = false;
    ec_timer_free(timer);
    ec_http_server_close(server, 0, on_closed, (void *)(uintptr_t)&closed);
    loop_until(loop, &closed, 3000);
    assert_true(closed);
    ec_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_request_gets_its_answer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
