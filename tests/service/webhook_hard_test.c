/* webhook against senders that are broken or hostile, byte by byte: what they get, that nothing
 * comes of it, and that the ledger is told of a bounded number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/metric.h"
#include "support/raw.h"
#include "support/webhook_fixture.h"
#include "trust/digest.h"

#define SECRET "a secret of the test"
#define BODY "{\"zen\":\"x\"}"
#define TO_GITHUB "POST /v1/webhooks/github HTTP/1.1\r\n"
#define END "Host: a\r\nConnection: close\r\n\r\n"

static struct webhook_fixture fx;
static int refused_told, others_told;
static struct {
    char reason[64];
    int status;
} last_refusal;

static void on_intake(void *state, struct ec_event *ev)
{
    (void)state;
    bool refused = strcmp(ec_event_type(ev), "dev.enclii.delivery.refused.v1") == 0;
    refused_told += refused;
    others_told += !refused;
    if (refused) {
        const Enclii__V1__DeliveryRefused *fact = ec_event_body(ev);
        snprintf(last_refusal.reason, sizeof last_refusal.reason, "%s", fact->reason);
        last_refusal.status = fact->status;
    }
}

static const char *ask(const struct raw *spec)
{
    static struct raw raw;
    raw = *spec;
    raw.port = ec_http_server_port(fx.wh.server);
    raw_run(fx.loop, &raw);
    return raw.reply;
}

static void expect(const char *request, const char *part)
{
    const char *reply = ask(&(struct raw){.send = request});
    if (!strstr(reply, part)) {
        fail_msg("asked:\n%.200s\nwanted: %s\ngot:\n%s", request, part, reply);
    }
}

static const char *signed_ping(const char *id, const char *more)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *key = ec_secret_new(EC_SPAN(SECRET));
    return ec_arena_format(fx.arena,
                           TO_GITHUB "Host: a\r\nContent-Type: application/json\r\n"
                                     "X-GitHub-Event: ping\r\nX-GitHub-Delivery: %s\r\n"
                                     "X-Hub-Signature-256: sha256=%s\r\n%s"
                                     "Content-Length: %zu\r\n\r\n" BODY,
                           id, ec_hmac_sha256_hex(fx.arena, key, EC_SPAN(BODY)), more,
                           strlen(BODY));
}

static void smuggling_is_refused(void **state)
{
    (void)state;
    expect(TO_GITHUB "Content-Length: 3\r\nContent-Length: 5\r\n" END "abcde", " 400 ");
    expect(TO_GITHUB "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n",
           " 400 ");
    expect(TO_GITHUB "Transfer-Encoding: gzip, chunked\r\n" END "0\r\n\r\n", " 400 ");
    expect(TO_GITHUB "Content-Length: 0x3\r\n" END "abc", " 400 ");
    expect(TO_GITHUB "Host: b\r\nContent-Length: 0\r\n" END, " 400 ");
    expect(TO_GITHUB "Content-Encoding: gzip\r\nContent-Length: 3\r\n" END "abc", " 415 ");
    expect("POST /v1/webhooks/github HTTP/1.1\nHost: a\nContent-Length: 0\n\n", " 400 ");
    expect(TO_GITHUB "Content-Length: 2\nX: y\r\n" END "{}", " 400 ");
    expect(TO_GITHUB "X: y\r\n folded\r\nContent-Length: 2\r\n" END "{}", " 400 ");
    expect(TO_GITHUB "Transfer-Encoding: chunked\r\n" END "2\n{}\n0\n\n", " 400 ");
    expect("GET /v1/webhooks/github HTTP/1.1\r\n" END, " 405 ");
    expect("POST /v1/webhooks/none HTTP/1.1\r\nContent-Length: 0\r\n" END, " 404 ");
    expect("POST /v1/webhooks/../webhooks/github HTTP/1.1\r\nContent-Length: 0\r\n" END, " 400 ");
    char *large = ec_arena_alloc(fx.arena, 70000);
    snprintf(large, 70000, TO_GITHUB "X-Large: ");
    memset(large + strlen(large), 'a', 60000);
    memcpy(large + 61000, "\r\n" END, sizeof "\r\n" END);
    expect(large, " 431 ");
}

static void too_large_is_known_before_it_is_read(void **state)
{
    (void)state;
    struct raw raw = {.send = TO_GITHUB "Content-Length: 26214401\r\nExpect: 100-continue\r\n" END,
                      .read_ms = 1000};
    const char *reply = ask(&raw);
    assert_non_null(strstr(reply, " 413 "));
    assert_non_null(strstr(reply, "\"body_too_large\""));
    assert_null(strstr(reply, "100 Continue"));
    assert_true(ec_metric_value(&deliveries, "body_too_large") >= 1);
}

static bool refusal_came(void *before)
{
    return refused_told > *(int *)before;
}

/* Whoever looks why nothing comes of his deliveries finds it, also when not even the body came. */
static void what_the_server_refuses_is_in_the_ledger(void **state)
{
    (void)state;
    loop_for(fx.loop, 1100); /* the budget of another second */
    int before = refused_told;
    expect(TO_GITHUB "X: y\r\n folded\r\n" END, " 400 ");
    assert_true(test_run_until(fx.loop, 3000, refusal_came, &before));
    assert_string_equal(last_refusal.reason, "bad_request");
    assert_int_equal(last_refusal.status, 400);
    before = refused_told;
    struct raw raw = {.send = TO_GITHUB "Host: a\r\nContent-Length: 10\r\n\r\nabc",
                      .read_ms = 3000};
    assert_non_null(strstr(ask(&raw), " 408 "));
    assert_true(test_run_until(fx.loop, 3000, refusal_came, &before));
    assert_string_equal(last_refusal.reason, "request_timeout");
    assert_int_equal(last_refusal.status, 408);
}

static void slow_senders_are_cut(void **state)
{
    (void)state;
    struct raw raw = {.send = TO_GITHUB "Host: a\r\nContent-Length: 10\r\n\r\nabc",
                      .pause_ms = 1500,
                      .send_more = "d",
                      .read_ms = 3000};
    const char *reply = ask(&raw);
    assert_non_null(strstr(reply, " 408 "));
}

/* A ping, a stranger's, a ping: on one connection, at once. */
static const char *pipelined_around_a_refusal(void)
{
    const char *all = ec_arena_format(fx.arena, "%s%s%s", signed_ping("p4", ""),
                                      TO_GITHUB "Host: a\r\nContent-Length: 2\r\n\r\n{}",
                                      signed_ping("p5", "Connection: close\r\n"));
    return ask(&(struct raw){.send = all, .read_ms = 3000});
}

static void pipelined_deliveries_are_all_answered(void **state)
{
    (void)state;
    const char *all =
        ec_arena_format(fx.arena, "%s%s%s", signed_ping("p1", ""), signed_ping("p2", ""),
                        signed_ping("p3", "Connection: close\r\n"));
    const char *reply = ask(&(struct raw){.send = all, .read_ms = 3000});
    assert_int_equal(raw_count(reply, " 200 "), 3);
    const char *refused = pipelined_around_a_refusal();
    assert_int_equal(raw_count(refused, "HTTP/1.1 "), 3);
    const char *first = strstr(refused, " 200 "), *second = strstr(refused, " 401 ");
    assert_true(first && second && first < second && strstr(second, " 200 "));
}

static void a_stranger_fills_no_ledger(void **state)
{
    (void)state;
    int before = refused_told;
    double metric = ec_metric_value(&deliveries, "unsigned");
    for (int i = 0; i < 60; i++) {
        expect(TO_GITHUB "Content-Length: 2\r\n" END "{}", " 401 ");
    }
    loop_for(fx.loop, 300);
    assert_true(ec_metric_value(&deliveries, "unsigned") - metric == 60); /* all are counted */
    assert_true(refused_told > before);
    assert_true(refused_told - before < 60);
    assert_true(fx.wh.refusals_of_hour.used <= 500);
}

static void large_bodies_share_a_limit(void **state)
{
    (void)state;
    char *text = ec_arena_alloc(fx.arena, 400000);
    snprintf(text, 400000, TO_GITHUB "Content-Length: 300000\r\n" END);
    memset(text + strlen(text), 'x', 300000);
    const char *reply = ask(&(struct raw){.send = text});
    assert_non_null(strstr(reply, " 503 "));
    assert_non_null(strstr(reply, "\"overloaded\""));
    assert_non_null(strstr(reply, "Retry-After: 5"));
    expect(TO_GITHUB "Content-Length: 2\r\n" END "{}", " 401 "); /* and the room is free again */
}

static void nothing_came_of_it(void **state)
{
    (void)state;
    assert_int_equal(others_told, 5); /* the pings */
}

static int start(void **state)
{
    (void)state;
    webhook_fixture_start(&fx, &(struct webhook_fixture_spec){.secret = SECRET,
                                                              .bodies_max_bytes = 200000,
                                                              .request_deadline_ms = 1000,
                                                              .on_event = on_intake});
    return 0;
}

static int stop(void **state)
{
    (void)state;
    webhook_fixture_stop(&fx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smuggling_is_refused),
        cmocka_unit_test(too_large_is_known_before_it_is_read),
        cmocka_unit_test(what_the_server_refuses_is_in_the_ledger),
        cmocka_unit_test(slow_senders_are_cut),
        cmocka_unit_test(pipelined_deliveries_are_all_answered),
        cmocka_unit_test(a_stranger_fills_no_ledger),
        cmocka_unit_test(large_bodies_share_a_limit),
        cmocka_unit_test(nothing_came_of_it),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
