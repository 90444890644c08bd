/* net/fetch against our own HTTP server on the same loop. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/address.h"
#include "net/fetch.h"
#include "net/http_server.h"
#include "support/raw.h"

static struct ec_loop *loop;
static struct ec_fetcher *fetcher;
static struct ec_http_server *servers[2];
static uint16_t ports[2];
static char seen_auth[2][200];
static char seen_body[200], seen_method[16], seen_type[64], seen_agent[64];

struct got {
    int calls, status, pieces;
    struct ec_err err;
    char body[4096], header[100];
    size_t body_len;
    volatile bool done;
};
static struct got got;

static void remember(struct ec_request *req, int index)
{
    const char *auth = ec_request_header(req, "authorization");
    const char *type = ec_request_header(req, "content-type");
    snprintf(seen_auth[index], sizeof(seen_auth[index]), "%s", auth ? auth : "");
    snprintf(seen_type, sizeof(seen_type), "%s", type ? type : "");
    snprintf(seen_agent, sizeof(seen_agent), "%s", ec_request_header(req, "user-agent"));
    snprintf(seen_method, sizeof(seen_method), "%s", ec_request_method(req));
    snprintf(seen_body, sizeof(seen_body), "%.*s", (int)ec_request_body(req).len,
             ec_request_body(req).ptr ? ec_request_body(req).ptr : "");
}

static void on_hello(void *state, struct ec_request *req)
{
    remember(req, (int)(intptr_t)state);
    ec_reply_header(req, "X-Answer", "42");
    ec_reply_text(req, 200, "text/plain", EC_SPAN("hello"));
}

static void on_big(void *state, struct ec_request *req)
{
    (void)state;
    static char text[100000];
    memset(text, 'b', sizeof(text));
    ec_reply_text(req, 200, "text/plain", (struct ec_span){text, sizeof(text)});
}

static void on_moved(void *state, struct ec_request *req)
{
    char location[100];
    remember(req, (int)(intptr_t)state);
    snprintf(location, sizeof(location), "http://127.0.0.1:%u/hello", ports[1]);
    ec_reply_header(req, "Location", location);
    ec_reply_empty(req, 302);
}

static struct ec_request *unanswered[8];
static int unanswered_count;

static void on_never(void *state, struct ec_request *req)
{
    (void)state;
    unanswered[unanswered_count++] = req;
}

static void on_events(void *state, struct ec_request *req)
{
    (void)state;
    struct ec_stream *stream = ec_reply_stream(req, 4096, NULL, NULL);
    ec_stream_send(stream, NULL, NULL, EC_SPAN("one"));
    ec_stream_send(stream, NULL, NULL, EC_SPAN("two"));
    ec_stream_end(stream);
}

static const struct ec_http_route routes[] = {
    {"GET", "/hello", on_hello, 0, 0},    {"PUT", "/hello", on_hello, 1 << 20, 0},
    {"POST", "/hello", on_hello, 100, 0}, {"GET", "/big", on_big, 0, 0},
    {"GET", "/moved", on_moved, 0, 0},    {"GET", "/never", on_never, 0, 0},
    {"GET", "/events", on_events, 0, 0},
};

static void on_done(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct got *g = arg;
    g->calls++;
    g->err = err;
    g->status = result->status;
    g->body_len = result->body.len;
    snprintf(g->body, sizeof(g->body), "%.*s", (int)(result->body.len % 4000),
             result->body.ptr ? result->body.ptr : "");
    const char *header = ec_fetch_header(result, "x-answer");
    snprintf(g->header, sizeof(g->header), "%s", header ? header : "");
    g->done = true;
}

static void on_piece(void *arg, struct ec_span piece)
{
    struct got *g = arg;
    g->pieces++;
    strncat(g->body, piece.ptr, piece.len < 1000 ? piece.len : 1000);
}

static char url[200];
static const char *at(int server, const char *path)
{
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", ports[server], path);
    return url;
}

static void fetch(struct ec_fetch_spec spec)
{
    memset(&got, 0, sizeof(got));
    struct ec_err err = ec_fetch_start(fetcher, &spec, on_done, &got, NULL);
    assert_string_equal(err.what ? err.what : "", "");
    assert_int_equal(got.calls, 0); /* never before start has returned */
    loop_until(loop, &got.done, 5000);
    assert_int_equal(got.calls, 1);
}

static void test_get_and_send(void **state)
{
    (void)state;
    fetch((struct ec_fetch_spec){.url = at(0, "/hello")});
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "hello");
    assert_string_equal(got.header, "42");
    assert_string_equal(seen_agent, "enclii-test");
    const struct ec_header headers[] = {{"Content-Type", "application/json"}};
    fetch((struct ec_fetch_spec){.url = at(0, "/hello"),
                                 .method = "POST",
                                 .body = EC_SPAN("{}"),
                                 .headers = headers,
                                 .header_count = 1,
                                 .basic = "u:p"});
    assert_string_equal(seen_body, "{}");
    assert_string_equal(seen_method, "POST");
    assert_string_equal(seen_type, "application/json");
    assert_string_equal(seen_auth[0], "Basic dTpw");
    fetch((struct ec_fetch_spec){.url = at(0, "/hello"), .method = "POST"});
    assert_int_equal(got.status, 200);
    assert_string_equal(seen_type, "");
    fetch((struct ec_fetch_spec){.url = at(0, "/hello"), .method = "HEAD"});
    assert_int_equal(got.status, 200);
    fetch((struct ec_fetch_spec){.url = at(0, "/hello"), .method = "DELETE"});
    assert_int_equal(got.status, 405);
    assert_false(ec_failed(got.err)); /* an answer is an answer */
}

static void test_files(void **state)
{
    (void)state;
    char path[] = "/tmp/ec_fetch_test.XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "from a file", 11), 11);
    fetch((struct ec_fetch_spec){.url = at(0, "/hello"), .method = "PUT", .body_file = path});
    assert_string_equal(seen_body, "from a file");
    assert_string_equal(seen_method, "PUT");
    fetch((struct ec_fetch_spec){.url = at(0, "/big"), .save_file = path});
    assert_int_equal(got.body_len, 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 100000);
    close(fd);
    unlink(path);
}

static void test_limits(void **state)
{
    (void)state;
    fetch((struct ec_fetch_spec){.url = at(0, "/big"), .body_max_bytes = 99999});
    assert_int_equal(got.err.fate, EC_FATE_REJECT);
    assert_int_equal(got.status, 0);
    fetch((struct ec_fetch_spec){.url = at(0, "/big"), .body_max_bytes = 100000});
    assert_int_equal(got.body_len, 100000);
    int64_t began_ms = ec_mono_ms();
    fetch((struct ec_fetch_spec){.url = at(0, "/never"), .deadline_ms = 150});
    assert_int_equal(got.err.fate, EC_FATE_RETRY);
    assert_true(ec_mono_ms() - began_ms < 5000);
    fetch((struct ec_fetch_spec){.url = "http://127.0.0.1:1/"});
    assert_int_equal(got.err.fate, EC_FATE_RETRY);
    fetch((struct ec_fetch_spec){.url = "ftp://127.0.0.1/x"});
    assert_int_equal(got.err.fate, EC_FATE_REJECT);
    fetch((struct ec_fetch_spec){.url = "not a url"});
    assert_int_equal(got.err.fate, EC_FATE_REJECT);
    const struct ec_header evil[] = {{"X-A", "b\r\nX-C: d"}};
    struct ec_fetch_spec spec = {.url = at(0, "/hello"), .headers = evil, .header_count = 1};
    assert_int_equal(ec_fetch_start(fetcher, &spec, on_done, &got, NULL).fate, EC_FATE_REJECT);
}

static void test_redirect(void **state)
{
    (void)state;
    ec_cleanup(ec_secret_freep) struct ec_secret *token = ec_secret_new(EC_SPAN("t0ken"));
    const struct ec_header headers[] = {{"Authorization", "Custom secret"}};
    fetch((struct ec_fetch_spec){.url = at(0, "/moved"), .bearer = token});
    assert_int_equal(got.status, 302);
    assert_string_equal(seen_auth[0], "Bearer t0ken");
    fetch((struct ec_fetch_spec){.url = at(0, "/moved"), .bearer = token, .redirects_max = 3});
    assert_int_equal(got.status, 200);
    assert_string_equal(seen_auth[0], "Bearer t0ken");
    assert_string_equal(seen_auth[1], ""); /* another port is another server */
    fetch((struct ec_fetch_spec){
        .url = at(0, "/moved"), .headers = headers, .header_count = 1, .redirects_max = 3});
    assert_string_equal(seen_auth[0], "Custom secret");
    assert_string_equal(seen_auth[1], "");
}

static void test_private_addresses(void **state)
{
    (void)state;
    fetch((struct ec_fetch_spec){
        .url = at(0, "/hello")}); /* leaves a connection that must not be used */
    fetch((struct ec_fetch_spec){.url = at(0, "/hello"), .refuse_private_addresses = true});
    assert_int_equal(got.err.fate, EC_FATE_REJECT);
    snprintf(url, sizeof(url), "http://localhost:%u/hello", ports[0]);
    fetch((struct ec_fetch_spec){.url = url, .refuse_private_addresses = true});
    assert_int_equal(got.err.fate, EC_FATE_REJECT);
    snprintf(url, sizeof(url), "http://[::ffff:127.0.0.1]:%u/hello", ports[0]);
    fetch((struct ec_fetch_spec){.url = url, .refuse_private_addresses = true});
    assert_int_equal(got.err.fate, EC_FATE_REJECT);
}

static bool public4(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, text, &in.sin_addr), 1);
    return ec_address_public((struct sockaddr *)&in);
}

static bool public6(const char *text)
{
    struct sockaddr_in6 in = {.sin6_family = AF_INET6};
    assert_int_equal(inet_pton(AF_INET6, text, &in.sin6_addr), 1);
    return ec_address_public((struct sockaddr *)&in);
}

static void test_address_ranges(void **state)
{
    (void)state;
    assert_true(public4("8.8.8.8") && public4("172.32.0.1") && public4("100.128.0.1"));
    const char *not4[] = {"0.0.0.0",    "10.1.2.3",       "127.9.9.9",   "169.254.169.254",
                          "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
                          "224.0.0.1",  "255.255.255.255"};
    for (size_t i = 0; i < EC_LEN(not4); i++) {
        assert_false(public4(not4[i]));
    }
    assert_true(public6("2606:4700::1111") && public6("::ffff:8.8.8.8") &&
                public6("64:ff9b::808:808"));
    const char *not6[] = {"::",
                          "::1",
                          "fe80::1",
                          "fc00::1",
                          "ff02::1",
                          "::ffff:10.0.0.1",
                          "64:ff9b::a00:1",
                          "2002:a00:1::",
                          "2001:db8::1",
                          "::127.0.0.1"};
    for (size_t i = 0; i < EC_LEN(not6); i++) {
        assert_false(public6(not6[i]));
    }
    assert_false(ec_address_public(&(struct sockaddr){.sa_family = AF_UNIX}));
}

static void test_stream_and_cancel(void **state)
{
    (void)state;
    fetch((struct ec_fetch_spec){.url = at(0, "/events"), .on_piece = on_piece});
    assert_int_equal(got.status, 200);
    assert_true(got.pieces > 0);
    struct ec_fetch *one = NULL;
    struct ec_fetch_spec spec = {.url = at(0, "/never")};
    memset(&got, 0, sizeof(got));
    assert_false(ec_failed(ec_fetch_start(fetcher, &spec, on_done, &got, &one)));
    loop_for(loop, 30);
    ec_fetch_cancel(one);
    ec_fetch_cancel(one);
    assert_int_equal(got.calls, 0);
    loop_until(loop, &got.done, 1000);
    assert_int_equal(got.calls, 1);
    assert_int_equal(got.err.fate, EC_FATE_REJECT);
    assert_string_equal(got.err.what, "cancelled");
}

static void test_unix_socket(void **state)
{
    (void)state;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof(to.sun_path), "/tmp/ec_fetch_%d.sock", (int)getpid());
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    memset(&got, 0, sizeof(got));
    struct ec_fetch_spec spec = {.url = "http://engine/version", .unix_socket = to.sun_path};
    assert_false(ec_failed(ec_fetch_start(fetcher, &spec, on_done, &got, NULL)));
    int peer = -1;
    for (int i = 0; i < 500 && peer < 0; i++) {
        loop_for(loop, 10);
        peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    char request[1000] = "";
    for (int i = 0; i < 500 && !request[0]; i++) {
        loop_for(loop, 10);
        (void)!recv(peer, request, sizeof(request) - 1, 0);
    }
    assert_non_null(strstr(request, "Host: engine\r\n"));
    static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    assert_true(send(peer, reply, sizeof(reply) - 1, 0) > 0);
    loop_until(loop, &got.done, 2000);
    assert_string_equal(got.body, "ok");
    close(peer);
    close(fd);
    unlink(to.sun_path);
}

/* A server of one connection at a time: a second connection would wait for ever. */
static void *one_connection(void *arg)
{
    int fd = *(int *)arg;
    int peer = accept(fd, NULL, NULL);
    char text[2000];
    static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (int i = 0; i < 20 && recv(peer, text, sizeof(text), 0) > 0; i++) {
        send(peer, reply, sizeof(reply) - 1, MSG_NOSIGNAL);
    }
    close(peer);
    return NULL;
}

static void test_reuse(void **state)
{
    (void)state;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(to);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&to, &len);
    char own_url[64];
    snprintf(own_url, sizeof(own_url), "http://127.0.0.1:%u/", ntohs(to.sin_port));
    pthread_t thread;
    pthread_create(&thread, NULL, one_connection, &fd);
    for (int i = 0; i < 20; i++) {
        fetch((struct ec_fetch_spec){.url = own_url, .deadline_ms = 1000});
        assert_int_equal(got.status, 200);
    }
    pthread_join(thread, NULL);
    close(fd);
}

static void test_status_err(void **state)
{
    (void)state;
    assert_int_equal(ec_fetch_status_err(204, "x").fate, EC_FATE_OK);
    assert_int_equal(ec_fetch_status_err(404, "x").fate, EC_FATE_REJECT);
    assert_int_equal(ec_fetch_status_err(302, "x").fate, EC_FATE_REJECT);
    assert_int_equal(ec_fetch_status_err(429, "x").fate, EC_FATE_RETRY);
    assert_int_equal(ec_fetch_status_err(500, "x").fate, EC_FATE_RETRY);
}

static volatile bool closed;
static void on_closed(void *arg)
{
    (void)arg;
    closed = true;
}

static void test_close_ends_all(void **state)
{
    (void)state;
    struct ec_fetch_spec spec = {.url = at(0, "/never")};
    memset(&got, 0, sizeof(got));
    assert_false(ec_failed(ec_fetch_start(fetcher, &spec, on_done, &got, NULL)));
    loop_for(loop, 30);
    ec_fetcher_close(fetcher);
    loop_until(loop, &got.done, 1000);
    assert_int_equal(got.err.fate, EC_FATE_RETRY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get_and_send),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_redirect),
        cmocka_unit_test(test_private_addresses),
        cmocka_unit_test(test_address_ranges),
        cmocka_unit_test(test_stream_and_cancel),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_status_err),
        cmocka_unit_test(test_close_ends_all),
    };
    ec_log_setup("test", EC_LOG_WARN);
    loop = ec_loop_new();
    for (intptr_t i = 0; i < 2; i++) {
        struct ec_http_server_spec spec = {.listen = "127.0.0.1:0",
                                           .routes = routes,
                                           .route_count = EC_LEN(routes),
                                           .state = (void *)i};
        ec_ignore(ec_http_server_open(loop, &spec, &servers[i]));
        ports[i] = ec_http_server_port(servers[i]);
    }
    ec_ignore(ec_fetcher_open(loop, "enclii-test", 32, &fetcher));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        closed = false;
        ec_http_server_close(servers[i], 0, on_closed, NULL);
        loop_until(loop, &closed, 2000);
    }
    for (int i = 0; i < unanswered_count; i++) { /* a handler owes its reply even then */
        ec_reply_empty(unanswered[i], 204);
    }
    ec_loop_free(loop);
    return failed;
}
