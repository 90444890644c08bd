/* webhook, its real handlers over a real HTTP server and an in-process Kafka. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/metric.h"
#include "support/raw.h"
#include "support/webhook_fixture.h"
#include "trust/digest.h"

#define SECRET "It's a Secret to Everybody"
#define PUSH                                                                                       \
    "{\"ref\":\"refs/heads/main\",\"before\":\"1111111111111111111111111111111111111111\","        \
    "\"after\":\"2222222222222222222222222222222222222222\","                                      \
    "\"repository\":{\"full_name\":\"acme/%s\",\"clone_url\":\"https://git.example/acme/"          \
    "%s.git\"},"                                                                                   \
    "\"pusher\":{\"name\":\"ann\"},\"head_commit\":null,\"commits\":[]}"

static struct webhook_fixture fx;
static struct ec_fetcher *fetcher;

/* What came back, and what arrived on the topic. */
static struct {
    bool answered;
    int status;
    char body[2048];
    char retry_after[16];
} answer;
static struct {
    int count;
    char ids[8][64];
    char trace[64];
    char repo_key[128];
} intake;

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    (void)arg;
    assert_false(ec_failed(err));
    answer.answered = true;
    answer.status = result->status;
    snprintf(answer.body, sizeof answer.body, "%.*s", (int)result->body.len, result->body.ptr);
    const char *retry = ec_fetch_header(result, "retry-after");
    snprintf(answer.retry_after, sizeof answer.retry_after, "%s", retry ? retry : "");
}

struct delivery_spec {
    const char *event, *type, *id, *secret, *signature;
    bool gitlab; /* with the secret as a token, and no id */
};

static int deliver(const struct delivery_spec *spec, const char *body)
{
    struct ec_header headers[5];
    size_t count = 0;
    ec_arena_reset(fx.arena);
    ec_cleanup(ec_secret_freep) struct ec_secret *key =
        ec_secret_new(ec_span_of(spec->secret ? spec->secret : SECRET));
    const char *signature =
        spec->signature ? spec->signature
                        : ec_arena_format(fx.arena, "sha256=%s",
                                          ec_hmac_sha256_hex(fx.arena, key, ec_span_of(body)));
    headers[count++] =
        (struct ec_header){"Content-Type", spec->type ? spec->type : "application/json"};
    headers[count++] = (struct ec_header){"X-GitHub-Event", spec->event ? spec->event : "push"};
    if (*signature) {
        headers[count++] = (struct ec_header){"X-Hub-Signature-256", signature};
    }
    if (spec->id) {
        headers[count++] = (struct ec_header){"X-GitHub-Delivery", spec->id};
    }
    if (spec->gitlab) {
        headers[count - 1] = (struct ec_header){"X-Gitlab-Token", SECRET};
        headers[count++] = (struct ec_header){"X-Gitlab-Event", spec->event};
    }
    const struct ec_fetch_spec fetch = {.method = "POST",
                                        .url = ec_arena_format(fx.arena,
                                                               "http://127.0.0.1:%u/v1/webhooks/%s",
                                                               ec_http_server_port(fx.wh.server),
                                                               spec->gitlab ? "gitlab" : "github"),
                                        .headers = headers,
                                        .header_count = count,
                                        .body = ec_span_of(body)};
    memset(&answer, 0, sizeof answer);
    assert_false(ec_failed(ec_fetch_start(fetcher, &fetch, on_answer, NULL, NULL)));
    assert_true(test_run_until(fx.loop, 10000, test_is_true, &answer.answered));
    return answer.status;
}

static const char *push_of(const char *repo)
{
    static char text[2048];
    snprintf(text, sizeof text, PUSH, repo, repo);
    return text;
}

static void on_intake(void *state, struct ec_event *ev)
{
    (void)state;
    if (strcmp(ec_event_type(ev), "dev.enclii.push.received.v1") != 0) {
        return;
    }
    const Enclii__V1__PushReceived *push = ec_event_body(ev);
    snprintf(intake.ids[intake.count++ % 8], 64, "%s", ec_event_id(ev));
    snprintf(intake.trace, sizeof intake.trace, "%s", ec_event_trace(ev));
    snprintf(intake.repo_key, sizeof intake.repo_key, "%s", push->repo_key);
}

static bool two_arrived(void *arg)
{
    (void)arg;
    return intake.count >= 2;
}

static void nothing_without_a_secret(void **state)
{
    (void)state;
    struct ec_secret *secret = EC_TAKE(fx.wh.settings.secret);
    assert_int_equal(deliver(&(struct delivery_spec){.id = "d"}, push_of("shop")), 503);
    assert_non_null(strstr(answer.body, "\"no_secret\""));
    assert_string_equal(answer.retry_after, "10");
    fx.wh.settings.secret = secret;
}

static void strangers_are_told_nothing(void **state)
{
    (void)state;
    double before = ec_metric_value(&deliveries, "bad_signature");
    struct delivery_spec spec = {.id = "d", .signature = ""};
    assert_int_equal(deliver(&spec, push_of("shop")), 401);
    spec = (struct delivery_spec){.id = "d", .secret = "guess"};
    assert_int_equal(deliver(&spec, push_of("shop")), 401);
    assert_int_equal(deliver(&spec, "not json"), 401);
    spec.event = "ping";
    assert_int_equal(deliver(&spec, "{}"), 401);
    spec = (struct delivery_spec){.id = "d", .signature = "sha256=00"};
    assert_int_equal(deliver(&spec, push_of("shop")), 401);
    assert_true(ec_metric_value(&deliveries, "bad_signature") - before == 4);
}

static void what_is_no_push(void **state)
{
    (void)state;
    assert_int_equal(
        deliver(&(struct delivery_spec){.event = "ping", .id = "p"}, "{\"zen\":\"x\"}"), 200);
    assert_int_equal(deliver(&(struct delivery_spec){.event = "star", .id = "s"}, "{}"), 202);
    assert_non_null(strstr(answer.body, "\"ignored\""));
    assert_int_equal(deliver(&(struct delivery_spec){.id = "x", .type = "text/xml"}, "<x/>"), 415);
    assert_int_equal(deliver(&(struct delivery_spec){.id = "d"}, "{\"ref\":"), 400);
    assert_int_equal(deliver(&(struct delivery_spec){.id = "d"}, "{}"), 400);
    assert_non_null(strstr(answer.body, "\"repository.clone_url\""));
    assert_int_equal(deliver(&(struct delivery_spec){.id = NULL}, push_of("shop")), 400);
    assert_non_null(strstr(answer.body, "X-GitHub-Delivery"));
    assert_int_equal(deliver(&(struct delivery_spec){.id = "d"}, push_of("nobodys")), 404);
    assert_non_null(strstr(answer.body, "git.example/acme/nobodys"));
    assert_int_equal(intake.count, 0);
}

static void a_push_is_published_and_a_redelivery_has_the_same_id(void **state)
{
    (void)state;
    struct delivery_spec spec = {.id = "72d3162e-cc78-11e3-81ab-4c9367dc0958"};
    assert_int_equal(deliver(&spec, push_of("shop")), 202);
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    assert_false(ec_failed(ec_json_parse(fx.arena, ec_span_of(answer.body), &root)));
    assert_string_equal(ec_json_text(root, "delivery_id"), spec.id);
    assert_string_equal(ec_json_text(root, "commit"), "2222222222222222222222222222222222222222");
    spec.type = "application/x-www-form-urlencoded"; /* the same delivery in the other form */
    char form[4096] = "payload=";
    for (const char *c = push_of("shop"); *c; c++) {
        snprintf(form + strlen(form), 4, "%%%02X", (unsigned char)*c);
    }
    assert_int_equal(deliver(&spec, form), 202);
    assert_true(test_run_until(fx.loop, 5000, two_arrived, NULL));
    assert_string_equal(intake.ids[0], intake.ids[1]);
    assert_string_equal(intake.ids[0], ec_json_text(root, "event_id"));
    assert_string_equal(intake.repo_key, "git.example/acme/shop");
    assert_true(ec_trace_valid(intake.trace));
}

static void bind_repo(const char *key, const char *host_repo_id)
{
    Enclii__V1__RepoBound repo = ENCLII__V1__REPO_BOUND__INIT;
    repo.host_repo_id = (char *)(uintptr_t)host_repo_id;
    test_kafka_publish(fx.kafka, fx.wh.bus,
                       &(struct ec_message){.topic = "enclii.repos",
                                            .id = key,
                                            .key = key,
                                            .body = host_repo_id ? &repo.base : NULL,
                                            .type = "dev.enclii.repo.bound.v1"});
}

static bool is_bound(void *key)
{
    return ec_map_get(fx.wh.repos, key) != NULL;
}

static bool is_unbound(void *key)
{
    return ec_map_get(fx.wh.repos, key) == NULL;
}

static bool all_arrived(void *count)
{
    return intake.count >= *(int *)count;
}

/* Nobody's event may pass for another repository's: consumers drop an id that they know. */
static void the_same_id_of_two_repositories(void **state)
{
    (void)state;
    static char other[] = "git.example/acme/twin";
    bind_repo(other, "");
    assert_true(test_run_until(fx.loop, 5000, is_bound, other));
    int first = intake.count, want = first + 2;
    struct delivery_spec spec = {.id = "17"};
    assert_int_equal(deliver(&spec, push_of("shop")), 202);
    assert_int_equal(deliver(&spec, push_of("twin")), 202);
    assert_true(test_run_until(fx.loop, 5000, all_arrived, &want));
    assert_string_not_equal(intake.ids[first % 8], intake.ids[(first + 1) % 8]);
}

/* There, back, and there again: the first and the third push are the same bytes. */
static void a_host_without_ids_may_say_the_same_twice(void **state)
{
    (void)state;
    static const char push[] = "{\"ref\":\"refs/heads/main\","
                               "\"before\":\"1111111111111111111111111111111111111111\","
                               "\"after\":\"2222222222222222222222222222222222222222\","
                               "\"project\":{\"id\":5,\"git_http_url\":"
                               "\"https://git.example/acme/shop.git\"},\"commits\":[]}";
    struct delivery_spec spec = {.event = "Push Hook", .gitlab = true};
    int first = intake.count, want = first + 2;
    assert_int_equal(deliver(&spec, push), 202);
    loop_for(fx.loop, 5);
    assert_int_equal(deliver(&spec, push), 202);
    assert_true(test_run_until(fx.loop, 5000, all_arrived, &want));
    assert_string_not_equal(intake.ids[first % 8], intake.ids[(first + 1) % 8]);
}

static struct ec_err on_letter(void *state, struct ec_event *ev)
{
    snprintf(state, 256, "%s", ec_event_letter(ev)->reason);
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static bool has_text(void *text)
{
    return *(char *)text;
}

static void bind_with_secret(const char *sealed)
{
    Enclii__V1__RepoBound repo = ENCLII__V1__REPO_BOUND__INIT;
    repo.sealed_secret = (ProtobufCBinaryData){strlen(sealed), (uint8_t *)(uintptr_t)sealed};
    test_kafka_publish(fx.kafka, fx.wh.bus,
                       &(struct ec_message){.topic = "enclii.repos",
                                            .id = "2",
                                            .key = "git.example/acme/sealed",
                                            .body = &repo.base,
                                            .type = "dev.enclii.repo.bound.v1"});
}

static bool knows_sealed(void *arg)
{
    (void)arg;
    return ec_map_get(fx.wh.repos, "git.example/acme/sealed") != NULL;
}

static void a_secret_that_cannot_be_read_is_a_dead_letter(void **state)
{
    (void)state;
    static const char *const topics[] = {"^enclii\\..*\\.dead$", NULL};
    static const struct ec_route any[] = {{NULL, NULL, on_letter}};
    static char reason[256];
    struct ec_consumer *letters = NULL;
    assert_false(ec_failed(ec_bus_consume(fx.wh.bus,
                                          &(struct ec_consume_spec){.group = "letters",
                                                                    .topics = topics,
                                                                    .routes = any,
                                                                    .route_count = 1,
                                                                    .state = reason,
                                                                    .letters = true},
                                          &letters)));
    struct delivery_spec spec = {.id = "sealed"};
    assert_int_equal(deliver(&spec, push_of("sealed")), 404);
    bind_with_secret("sealed with a key that nobody has");
    assert_true(test_run_until(fx.loop, 5000, knows_sealed, NULL));
    assert_int_equal(deliver(&spec, push_of("sealed")), 401); /* not even by the common secret */
    assert_true(test_run_until(fx.loop, 10000, has_text, reason));
    assert_non_null(strstr(reason, "secret cannot be read"));
    assert_non_null(strstr(reason, "ENCLII_SEAL_KEY is not set"));
}

/* Each time the new name is bound before the old one goes. */
static void a_repository_renamed_twice(void **state)
{
    (void)state;
    static char first[] = "git.example/acme/first", second[] = "git.example/acme/second";
    static char stranger[] = "git.example/evil/first";
    struct delivery_spec spec = {.id = "renamed"};
    const char *third = "{\"ref\":\"refs/heads/main\","
                        "\"before\":\"1111111111111111111111111111111111111111\","
                        "\"after\":\"2222222222222222222222222222222222222222\","
                        "\"repository\":{\"id\":77,\"full_name\":\"acme/third\","
                        "\"clone_url\":\"https://git.example/acme/third.git\"}}";
    assert_int_equal(deliver(&spec, third), 404);
    bind_repo(first, "77");
    assert_true(test_run_until(fx.loop, 5000, is_bound, first));
    bind_repo(stranger, "77"); /* says the same id, and has it only once nobody else has */
    assert_true(test_run_until(fx.loop, 5000, is_bound, stranger));
    assert_int_equal(deliver(&spec, third), 202);
    assert_non_null(strstr(answer.body, first));
    bind_repo(stranger, NULL);
    assert_true(test_run_until(fx.loop, 5000, is_unbound, stranger));
    bind_repo(second, "77");
    assert_true(test_run_until(fx.loop, 5000, is_bound, second));
    bind_repo(first, NULL);
    assert_true(test_run_until(fx.loop, 5000, is_unbound, first));
    assert_int_equal(deliver(&spec, third), 202);
    assert_non_null(strstr(answer.body, second));
    bind_repo(second, NULL);
    assert_true(test_run_until(fx.loop, 5000, is_unbound, second));
    assert_int_equal(deliver(&spec, third), 404);
    assert_int_equal(fx.wh.ids_waiting, 0);
}

static void a_broker_that_does_not_answer(void **state)
{
    (void)state;
    fx.wh.ack_deadline_ms = 300;
    test_kafka_down(fx.kafka, true);
    assert_int_equal(deliver(&(struct delivery_spec){.id = "late"}, push_of("shop")), 503);
    assert_string_equal(answer.retry_after, "10");
    test_kafka_down(fx.kafka, false);
    fx.wh.ack_deadline_ms = ACK_DEADLINE_MS;
}

static int start(void **state)
{
    (void)state;
    webhook_fixture_start(&fx,
                          &(struct webhook_fixture_spec){.secret = SECRET, .on_event = on_intake});
    assert_false(ec_failed(ec_fetcher_open(fx.loop, "test", 4, &fetcher)));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    ec_fetcher_close(fetcher);
    webhook_fixture_stop(&fx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_without_a_secret),
        cmocka_unit_test(strangers_are_told_nothing),
        cmocka_unit_test(what_is_no_push),
        cmocka_unit_test(a_push_is_published_and_a_redelivery_has_the_same_id),
        cmocka_unit_test(the_same_id_of_two_repositories),
        cmocka_unit_test(a_host_without_ids_may_say_the_same_twice),
        cmocka_unit_test(a_secret_that_cannot_be_read_is_a_dead_letter),
        cmocka_unit_test(a_repository_renamed_twice),
        cmocka_unit_test(a_broker_that_does_not_answer),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
