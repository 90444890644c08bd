/* notifier, its real handlers, over an in-process Kafka, a real PostgreSQL and a double of the
 * outside: a server as strict as GitHub (method, path, headers, body) that fails first, and a
 * webhook receiver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../services/notifier/notifier.h"
#include "base/json.h"
#include "base/mem.h"
#include "support/kafka.h"
#include "support/pg.h"
#include "trust/digest.h"
#include "trust/seal.h"

#define SHA "2222222222222222222222222222222222222222"
#define TOKEN "ghp_test"
#define SECRET "channel secret"
#define SEAL_KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct ec_loop *loop;
static struct test_kafka *kafka;
static struct test_pg *pg;
static struct ec_bus *bus; /* of the test */
static struct ec_http_server *outside;
static struct notifier no;
static struct ec_arena *arena;

/* What the outside was asked. */
static struct {
    int statuses, wrong;
    char states[16][16];
    char contexts[16][64];
    int fail_next; /* answer 500 so many times */
    int hooks, hooks_wrong;
    char hook_type[64], hook_id[64];
    bool same_id;
} asked;

static bool header_is(struct ec_request *req, const char *name, const char *want)
{
    const char *got = ec_request_header(req, name);
    return got && strcmp(got, want) == 0;
}

static void on_status(void *state, struct ec_request *req)
{
    (void)state;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    const char *context, *status;
    bool good = header_is(req, "Authorization", "Bearer " TOKEN) &&
                header_is(req, "Accept", "application/vnd.github+json") &&
                header_is(req, "X-GitHub-Api-Version", "2022-11-28") &&
                ec_request_header(req, "User-Agent") &&
                !ec_failed(ec_json_parse(ec_request_arena(req), ec_request_body(req), &root));
    status = ec_json_text(root, "state");
    context = ec_json_text(root, "context");
    good = good && strcmp(ec_request_param(req, "sha"), SHA) == 0 && *context &&
           strlen(ec_json_text(root, "description")) <= 140 &&
           (strcmp(status, "pending") == 0 || strcmp(status, "success") == 0 ||
            strcmp(status, "failure") == 0 || strcmp(status, "error") == 0);
    asked.wrong += !good;
    if (asked.fail_next > 0) {
        asked.fail_next--;
        ec_reply_empty(req, 500);
        return;
    }
    if (!good) {
        ec_reply_empty(req, 422);
        return;
    }
    snprintf(asked.states[asked.statuses % 16], 16, "%s", status);
    snprintf(asked.contexts[asked.statuses++ % 16], 64, "%s", context);
    json_t *body = json_pack("{s:s}", "state", status);
    ec_reply_json(req, 201, body);
    json_decref(body);
}

static void on_hook(void *state, struct ec_request *req)
{
    (void)state;
    ec_cleanup(ec_secret_freep) struct ec_secret *secret = ec_secret_new(EC_SPAN(SECRET));
    const char *signature = ec_request_header(req, "X-Enclii-Signature-256");
    const char *id = ec_request_header(req, "X-Enclii-Delivery");
    bool good = signature && strncmp(signature, "sha256=", 7) == 0 &&
                ec_hmac_sha256_check(secret, ec_request_body(req), ec_span_of(signature + 7)) &&
                id && ec_id_valid(id) && ec_request_header(req, "X-Enclii-Timestamp") &&
                header_is(req, "User-Agent", "Enclii-Webhook/1.0") &&
                header_is(req, "Content-Type", "application/json");
    asked.hooks_wrong += !good;
    asked.same_id = asked.hooks > 0 && id && strcmp(asked.hook_id, id) == 0;
    snprintf(asked.hook_id, sizeof asked.hook_id, "%s", id ? id : "");
    snprintf(asked.hook_type, sizeof asked.hook_type, "%s",
             ec_request_header(req, "X-Enclii-Event"));
    asked.hooks++;
    ec_reply_empty(req, asked.hooks == 1 ? 503 : 204);
}

static void publish(const char *topic, const char *type, const char *id, ProtobufCMessage *body)
{
    const char *key = strcmp(topic, EC_TOPIC_INTAKE) == 0 ? "github.com/acme/shop" : "s1";
    test_kafka_publish(
        kafka, bus,
        &(struct ec_message){.topic = topic, .key = key, .type = type, .id = id, .body = body});
}

static Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
static Enclii__V1__EnvironmentRef environment = ENCLII__V1__ENVIRONMENT_REF__INIT;
static Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;

static void publish_ended(const char *type, const char *id)
{
    Enclii__V1__DeploymentEnded ended = ENCLII__V1__DEPLOYMENT_ENDED__INIT;
    ended.deployment_id = (char[]){"d1"};
    ended.service = &service;
    ended.environment = &environment;
    ended.commit = &commit;
    publish(EC_TOPIC_DEPLOYMENT_EVENTS, type, id, &ended.base);
}

static bool count_is(void *arg)
{
    const int *want = arg;
    return atoi(test_pg_value(pg, "select count(*) from notifier.notification"
                                  " where state <> 'waiting'")) >= *want &&
           no.sending == 0;
}

static bool row_exists(void *sql)
{
    return *test_pg_value(pg, sql) != '\0';
}

static void hurry(void)
{
    test_pg_sql(pg, "update notifier.notification set next_try_at = now() where state = 'waiting'"
                    " and claimed_until is null");
}

static bool told_after_hurry(void *arg)
{
    hurry();
    return count_is(arg);
}

static void final_states_reach_github_and_webhooks(void **state)
{
    (void)state;
    Enclii__V1__DeliveryAccepted accepted = ENCLII__V1__DELIVERY_ACCEPTED__INIT;
    Enclii__V1__BuildQueued queued = ENCLII__V1__BUILD_QUEUED__INIT;
    Enclii__V1__BuildFailed failed = ENCLII__V1__BUILD_FAILED__INIT;
    Enclii__V1__ServiceRef *services[] = {&service};
    if (!pg) {
        skip();
    }
    asked.fail_next = 1;
    accepted.repo_key = (char[]){"github.com/acme/shop"};
    accepted.services = services;
    accepted.n_services = 1;
    publish(EC_TOPIC_INTAKE, "dev.enclii.delivery.accepted.v1", "e1", &accepted.base);
    assert_true(
        test_run_until(loop, 15000, row_exists, (char[]){"select 1 from notifier.service"}));
    queued.build_id = failed.build_id = (char[]){"b1"};
    queued.service = &service;
    queued.commit = &commit;
    failed.builder_id = (char[]){"x"};
    failed.detail = (char[]){"no Dockerfile"};
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.queued.v1", "e2", &queued.base);
    int want = 1; /* pending: 500, then 201 */
    assert_true(test_run_until(loop, 15000, told_after_hurry, &want));
    failed.retryable = true;
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.failed.v1", "e3", &failed.base);
    failed.retryable = false;
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.failed.v1", "e4", &failed.base);
    publish_ended("dev.enclii.deployment.healthy.v1", "e5");
    publish_ended("dev.enclii.deployment.healthy.v1", "e5"); /* redelivered */
    publish_ended("dev.enclii.deployment.failed.v1", "e6");  /* a second final state */
    want = 1 + 1 + 1 + 3; /* statuses: build pending, failure; success. webhook: e4, e5, e6 */
    assert_true(test_run_until(loop, 15000, told_after_hurry, &want));
    assert_false(test_run_until(loop, 500, row_exists,
                                (char[]){"select 1 from notifier.notification"
                                         " where state = 'waiting'"}));
    assert_int_equal(asked.wrong, 0);
    assert_int_equal(asked.statuses, 3);
    assert_string_equal(asked.states[0], "pending");
    assert_string_equal(asked.contexts[0], "enclii/shop/build");
    int finals = 0;
    for (int i = 1; i < 3; i++) {
        bool build = strcmp(asked.contexts[i], "enclii/shop/build") == 0;
        assert_string_equal(asked.contexts[i],
                            build ? "enclii/shop/build" : "enclii/shop/production");
        assert_string_equal(asked.states[i], build ? "failure" : "success");
        finals |= build ? 1 : 2;
    }
    assert_int_equal(finals, 3);
    assert_int_equal(asked.hooks_wrong, 0);
    assert_int_equal(asked.hooks, 4); /* the first answer was 503 */
    assert_string_equal(test_pg_value(pg, "select max(attempts) from notifier.notification"
                                          " where kind = 'webhook'"),
                        "2");
}

static void a_private_address_is_refused(void **state)
{
    (void)state;
    if (!pg) {
        skip();
    }
    int hooks = asked.hooks;
    no.settings.private_addresses = false;
    publish_ended("dev.enclii.deployment.cancelled.v1", "e9");
    assert_true(test_run_until(loop, 15000, row_exists,
                               (char[]){"select 1 from notifier.notification where event_id = 'e9'"
                                        " and attempts > 0 and last_error <> ''"}));
    assert_int_equal(asked.hooks, hooks);
    no.settings.private_addresses = true;
}

static bool ready(void *arg)
{
    (void)arg;
    return no.channels_known;
}

static void on_failed(void *owner, struct ec_err err)
{
    (void)owner;
    fail_msg("notifier failed: %s", err.what);
}

static void publish_channel(void)
{
    Enclii__V1__ChannelSet set = ENCLII__V1__CHANNEL_SET__INIT;
    struct ec_span sealed;
    set.channel_id = (char[]){"c1"};
    set.project_id = (char[]){"p1"};
    set.kind = (char[]){"webhook"};
    set.url = ec_arena_format(arena, "http://127.0.0.1:%u/hook", ec_http_server_port(outside));
    set.enabled = true;
    assert_false(
        ec_failed(ec_seal(arena, no.settings.seal_key, "channel/c1", EC_SPAN(SECRET), &sealed)));
    set.sealed_secret.data = (uint8_t *)(uintptr_t)sealed.ptr;
    set.sealed_secret.len = sealed.len;
    test_kafka_publish(kafka, bus,
                       &(struct ec_message){.topic = EC_TOPIC_CHANNELS,
                                            .key = "c1",
                                            .type = "dev.enclii.channel.set.v1",
                                            .id = "c1-1",
                                            .body = &set.base});
}

static int start(void **state)
{
    static const struct ec_http_route routes[] = {
        {"POST", "/repos/acme/shop/statuses/{sha}", on_status, 65536, 0},
        {"POST", "/hook", on_hook, 65536, 0},
    };
    (void)state;
    pg = test_pg_start();
    if (!pg) {
        return 0;
    }
    arena = ec_arena_new(1 << 20);
    service.project_id = ec_arena_strdup(arena, "p1");
    service.project_slug = ec_arena_strdup(arena, "acme");
    service.service_id = ec_arena_strdup(arena, "s1");
    service.service_name = ec_arena_strdup(arena, "shop");
    environment.name = ec_arena_strdup(arena, "production");
    commit.sha = ec_arena_strdup(arena, SHA);
    commit.ref = ec_arena_strdup(arena, "refs/heads/main");
    loop = ec_loop_new();
    kafka = test_kafka_start(loop, EC_TOPIC_INTAKE ":1", EC_TOPIC_BUILD_EVENTS ":1",
                             EC_TOPIC_RELEASE_EVENTS ":1", EC_TOPIC_DEPLOYMENT_EVENTS ":1",
                             EC_TOPIC_CHANNELS ":1", EC_TOPIC_NOTIFICATION_EVENTS ":1", NULL);
    bus = test_kafka_bus(kafka, "test");
    assert_false(ec_failed(ec_http_server_open(
        loop,
        &(struct ec_http_server_spec){
            .listen = "127.0.0.1:0", .routes = routes, .route_count = EC_LEN(routes)},
        &outside)));
    no = (struct notifier){.loop = loop, .owner.failed = on_failed};
    no.settings.githost.github_api_url =
        ec_arena_format(arena, "http://127.0.0.1:%u/", ec_http_server_port(outside));
    no.settings.githost.github_token = ec_secret_new(EC_SPAN(TOKEN));
    no.settings.seal_key = ec_secret_new(EC_SPAN(SEAL_KEY));
    no.settings.public_url = "";
    no.settings.private_addresses = true;
    no.bus = test_kafka_bus(kafka, "notifier");
    const struct ec_store_spec store = {.url = test_pg_url(pg), .application_name = "notifier"};
    assert_false(ec_failed(ec_store_open(loop, &store, &no.store)));
    assert_false(ec_failed(ec_fetcher_open(loop, "test", 8, &no.fetcher)));
    publish_channel();
    assert_false(ec_failed(notifier_start(&no)));
    assert_true(test_run_until(loop, 15000, ready, NULL));
    return 0;
}

static void set_true(void *flag)
{
    *(bool *)flag = true;
}

static int stop(void **state)
{
    (void)state;
    bool stopped = false, closed = false, store_closed = false;
    if (!pg) {
        return 0;
    }
    no.owner.arg = &stopped;
    no.owner.stopped = set_true;
    notifier_stop(&no);
    assert_true(test_run_until(loop, 5000, test_is_true, &stopped));
    ec_fetcher_close(no.fetcher);
    ec_http_server_close(outside, 100, set_true, &closed);
    assert_true(test_run_until(loop, 2000, test_is_true, &closed));
    test_kafka_close_bus(kafka, no.bus);
    test_kafka_close_bus(kafka, bus);
    ec_store_close(no.store, set_true, &store_closed);
    assert_true(test_run_until(loop, 2000, test_is_true, &store_closed));
    notifier_done(&no);
    test_kafka_stop(kafka);
    ec_loop_free(loop);
    ec_arena_free(arena);
    test_pg_free(pg);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(final_states_reach_github_and_webhooks),
        cmocka_unit_test(a_private_address_is_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
