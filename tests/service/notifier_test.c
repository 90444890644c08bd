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

#include "base/json.h"
#include "base/mem.h"
#include "support/notifier_fixture.h"
#include "trust/digest.h"
#include "trust/seal.h"

#define SHA "2222222222222222222222222222222222222222"

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

static void on_status(void *state, struct ec_request *req)
{
    (void)state;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    const char *context, *status;
    bool good = nf_header_is(req, "Authorization", "Bearer " NF_TOKEN) &&
                nf_header_is(req, "Accept", "application/vnd.github+json") &&
                nf_header_is(req, "X-GitHub-Api-Version", "2022-11-28") &&
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
    ec_cleanup(ec_secret_freep) struct ec_secret *secret = ec_secret_new(EC_SPAN(NF_SECRET));
    const char *signature = ec_request_header(req, "X-Enclii-Signature-256");
    const char *id = ec_request_header(req, "X-Enclii-Delivery");
    bool good = signature && strncmp(signature, "sha256=", 7) == 0 &&
                ec_hmac_sha256_check(secret, ec_request_body(req), ec_span_of(signature + 7)) &&
                id && ec_id_valid(id) && ec_request_header(req, "X-Enclii-Timestamp") &&
                nf_header_is(req, "User-Agent", "Enclii-Webhook/1.0") &&
                nf_header_is(req, "Content-Type", "application/json");
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
    nf_publish(topic, strcmp(topic, EC_TOPIC_INTAKE) == 0 ? "github.com/acme/shop" : "s1", type, id,
               body);
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

static void final_states_reach_github_and_webhooks(void **state)
{
    (void)state;
    Enclii__V1__DeliveryAccepted accepted = ENCLII__V1__DELIVERY_ACCEPTED__INIT;
    Enclii__V1__BuildQueued queued = ENCLII__V1__BUILD_QUEUED__INIT;
    Enclii__V1__BuildFailed failed = ENCLII__V1__BUILD_FAILED__INIT;
    Enclii__V1__ServiceRef *services[] = {&service};
    if (!nf_pg) {
        skip();
    }
    asked.fail_next = 1;
    accepted.repo_key = (char[]){"github.com/acme/shop"};
    accepted.services = services;
    accepted.n_services = 1;
    publish(EC_TOPIC_INTAKE, "dev.enclii.delivery.accepted.v1", "e1", &accepted.base);
    assert_true(nf_row("select 1 from notifier.service"));
    queued.build_id = failed.build_id = (char[]){"b1"};
    queued.service = &service;
    queued.commit = &commit;
    failed.builder_id = (char[]){"x"};
    failed.detail = (char[]){"no Dockerfile"};
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.queued.v1", "e2", &queued.base);
    assert_true(nf_told(1)); /* pending: 500, then 201 */
    failed.retryable = true;
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.failed.v1", "e3", &failed.base);
    failed.retryable = false;
    publish(EC_TOPIC_BUILD_EVENTS, "dev.enclii.build.failed.v1", "e4", &failed.base);
    publish_ended("dev.enclii.deployment.healthy.v1", "e5");
    publish_ended("dev.enclii.deployment.healthy.v1", "e5"); /* redelivered */
    publish_ended("dev.enclii.deployment.failed.v1", "e6");  /* a second final state */
    /* statuses: build pending, failure; success. webhook: e4, e5, e6 */
    assert_true(nf_told(1 + 1 + 1 + 3));
    assert_string_equal(test_pg_value(nf_pg, "select count(*) from notifier.notification"
                                             " where state = 'waiting'"),
                        "0");
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
    assert_string_equal(test_pg_value(nf_pg, "select max(attempts) from notifier.notification"
                                             " where kind = 'webhook'"),
                        "2");
}

static void a_private_address_is_refused(void **state)
{
    (void)state;
    if (!nf_pg) {
        skip();
    }
    int hooks = asked.hooks;
    no.settings.private_addresses = false;
    publish_ended("dev.enclii.deployment.cancelled.v1", "e9");
    assert_true(nf_row("select 1 from notifier.notification where event_id = 'e9'"
                       " and attempts > 0 and last_error <> ''"));
    assert_int_equal(asked.hooks, hooks);
    no.settings.private_addresses = true;
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

static void set_channel(const char *sealed_for)
{
    Enclii__V1__ChannelSet set = ENCLII__V1__CHANNEL_SET__INIT;
    struct ec_span sealed;
    set.channel_id = (char[]){"c2"};
    set.project_id = (char[]){"p2"};
    set.kind = (char[]){"webhook"};
    set.url = (char[]){"https://hooks.example.org/x"};
    set.enabled = true;
    assert_false(ec_failed(
        ec_seal(nf_arena, no.settings.seal_key, sealed_for, EC_SPAN("a secret"), &sealed)));
    set.sealed_secret = (ProtobufCBinaryData){sealed.len, (uint8_t *)(uintptr_t)sealed.ptr};
    nf_publish(EC_TOPIC_CHANNELS, "c2", "dev.enclii.channel.set.v1", sealed_for, &set.base);
}

static bool is_enabled(void *want)
{
    const struct channel *channel = ec_map_get(no.channels, "c2");
    return channel && channel->enabled == *(bool *)want;
}

/* It sends nothing rather than unsigned; and a person hears of it. */
static void a_secret_that_cannot_be_read_is_a_dead_letter(void **state)
{
    (void)state;
    static const char *const topics[] = {"^enclii\\..*\\.dead$", NULL};
    static const struct ec_route any[] = {{NULL, NULL, on_letter}};
    static char reason[256];
    bool no_more = false, again = true;
    if (!nf_pg) {
        skip();
    }
    assert_false(ec_failed(ec_bus_consume(no.bus,
                                          &(struct ec_consume_spec){.group = "letters",
                                                                    .topics = topics,
                                                                    .routes = any,
                                                                    .route_count = 1,
                                                                    .state = reason,
                                                                    .letters = true},
                                          NULL)));
    set_channel("channel/another");
    assert_true(test_run_until(nf_loop, 10000, is_enabled, &no_more));
    assert_true(test_run_until(nf_loop, 10000, has_text, reason));
    assert_non_null(strstr(reason, "the channel's secret cannot be read, nothing is sent to it"));
    set_channel("channel/c2");
    assert_true(test_run_until(nf_loop, 10000, is_enabled, &again));
}

static int start(void **state)
{
    static const struct ec_http_route routes[] = {
        {"POST", "/repos/acme/shop/statuses/{sha}", on_status, 65536, 0},
        {"POST", "/hook", on_hook, 65536, 0},
    };
    (void)state;
    nf_open(routes, EC_LEN(routes));
    if (!nf_pg) {
        return 0;
    }
    service.project_id = nf_text("p1");
    service.project_slug = nf_text("acme");
    service.service_id = nf_text("s1");
    service.service_name = nf_text("shop");
    environment.name = nf_text("production");
    commit.sha = nf_text(SHA);
    commit.ref = nf_text("refs/heads/main");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(final_states_reach_github_and_webhooks),
        cmocka_unit_test(a_private_address_is_refused),
        cmocka_unit_test(a_secret_that_cannot_be_read_is_a_dead_letter),
    };
    return cmocka_run_group_tests(tests, start, nf_close);
}
