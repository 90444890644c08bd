/* net/fetch: the deadline holds whatever a fetch waits for, and waiting for a name stops nobody
 * else. The names are looked up by our own getaddrinfo. */
#include <errno.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/fetch.h"
#include "net/http_server.h"
#include "support/kafka.h"
#include "support/raw.h"

#define LOOKUP_US 3000000
#define PROMPT_MS 2000 /* not held up by the lookup, on a busy machine */
#define DEADLINE_MS 200

/* As a resolver does whose server is silent. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret_list)
{
    static struct sockaddr_in loopback = {.sin_family = AF_INET};
    (void)hints;
    if (node && strcmp(node, "slow.test") == 0) {
        usleep(LOOKUP_US);
        return EAI_AGAIN;
    }
    loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    loopback.sin_port = htons((uint16_t)(service ? atoi(service) : 0));
    struct addrinfo *one = ec_alloc(sizeof(*one));
    *one = (struct addrinfo){.ai_family = AF_INET,
                             .ai_socktype = SOCK_STREAM,
                             .ai_addrlen = sizeof(loopback),
                             .ai_addr = (struct sockaddr *)&loopback};
    *ret_list = one;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    free(list);
}

struct got {
    struct ec_err err;
    int64_t began_ms, took_ms;
    volatile bool done;
};

static struct ec_loop *loop;
static struct ec_fetcher *fetcher;
static struct ec_http_server *server;
static struct ec_request *held;
static int64_t seen_ms, worst_gap_ms;

static void on_never(void *state, struct ec_request *req)
{
    (void)state;
    held = req;
}

static bool is_held(void *arg)
{
    (void)arg;
    return held;
}

static void on_tick(void *arg)
{
    (void)arg;
    int64_t now_ms = ec_mono_ms();
    worst_gap_ms = now_ms - seen_ms > worst_gap_ms ? now_ms - seen_ms : worst_gap_ms;
    seen_ms = now_ms;
}

static void on_done(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct got *got = arg;
    (void)result;
    got->err = err;
    got->took_ms = ec_mono_ms() - got->began_ms;
    got->done = true;
}

static struct ec_fetch *start(struct got *got, const char *url, uint32_t deadline_ms)
{
    struct ec_fetch_spec spec = {.url = url, .deadline_ms = deadline_ms};
    struct ec_fetch *fetch = NULL;
    *got = (struct got){.began_ms = ec_mono_ms()};
    assert_false(ec_failed(ec_fetch_start(fetcher, &spec, on_done, got, &fetch)));
    return fetch;
}

static void watch_loop(void)
{
    seen_ms = ec_mono_ms();
    worst_gap_ms = 0;
}

static void test_deadline_while_no_connection_is_free(void **state)
{
    (void)state;
    char url[64];
    struct got first, second;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/never", ec_http_server_port(server));
    struct ec_fetch *holder = start(&first, url, 20000);
    assert_true(test_run_until(loop, 3000, is_held, NULL));
    start(&second, url, DEADLINE_MS);
    loop_until(loop, &second.done, 2000);
    assert_true(second.done);
    assert_int_equal(second.err.fate, EC_FATE_RETRY);
    assert_int_equal(second.err.sys, ETIMEDOUT);
    ec_fetch_cancel(holder);
    loop_until(loop, &first.done, 1000);
    ec_reply_empty(EC_TAKE(held), 204);
}

static void test_a_slow_lookup_stops_nobody_else(void **state)
{
    (void)state;
    struct got got;
    watch_loop();
    start(&got, "http://slow.test/", DEADLINE_MS);
    loop_until(loop, &got.done, 3000);
    assert_int_equal(got.err.fate, EC_FATE_RETRY);
    assert_in_range(worst_gap_ms, 0, PROMPT_MS);
    assert_in_range(got.took_ms, DEADLINE_MS - 20, PROMPT_MS);
}

static void test_cancelling_a_slow_lookup_stops_nobody_else(void **state)
{
    (void)state;
    struct got got;
    watch_loop();
    struct ec_fetch *fetch = start(&got, "http://slow.test/", 3000);
    loop_for(loop, 50);
    ec_fetch_cancel(fetch);
    loop_until(loop, &got.done, 3000);
    assert_string_equal(got.err.what, "cancelled");
    assert_in_range(worst_gap_ms, 0, PROMPT_MS);
}

static void on_closed(void *arg)
{
    *(volatile bool *)arg = true;
}

int main(void)
{
    static const struct ec_http_route routes[] = {{"GET", "/never", on_never, 0, 0}};
    static volatile bool closed;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline_while_no_connection_is_free),
        cmocka_unit_test(test_a_slow_lookup_stops_nobody_else),
        cmocka_unit_test(test_cancelling_a_slow_lookup_stops_nobody_else),
    };
    loop = ec_loop_new();
    struct ec_http_server_spec spec = {
        .listen = "127.0.0.1:0", .routes = routes, .route_count = EC_LEN(routes)};
    ec_ignore(ec_http_server_open(loop, &spec, &server));
    ec_ignore(ec_fetcher_open(loop, "test", 1, &fetcher));
    struct ec_timer *tick = ec_timer_new(loop, on_tick, NULL);
    ec_timer_start(tick, 10, 10);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ec_timer_free(tick);
    ec_fetcher_close(fetcher);
    ec_http_server_close(server, 0, on_closed, (void *)(uintptr_t)&closed);
    loop_until(loop, &closed, 2000);
    ec_loop_free(loop);
    return failed;
}
