/* See notifier_fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "support/notifier_fixture.h"

#include "base/file.h"
#include "base/mem.h"
#include "trust/seal.h"

#define SEAL_KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct notifier no;
struct ec_loop *nf_loop;
struct test_pg *nf_pg;
struct ec_arena *nf_arena;
static struct test_kafka *kafka;
static struct ec_bus *bus; /* of the test */
static struct ec_http_server *outside;
static char folder[32];

char *nf_text(const char *text)
{
    return ec_arena_strdup(nf_arena, text);
}

bool nf_header_is(struct ec_request *req, const char *name, const char *want)
{
    const char *got = ec_request_header(req, name);
    return got && strcmp(got, want) == 0;
}

void nf_publish(const char *topic, const char *key, const char *type, const char *id,
                ProtobufCMessage *body)
{
    test_kafka_publish(
        kafka, bus,
        &(struct ec_message){.topic = topic, .key = key, .type = type, .id = id, .body = body});
}

static bool told_after_hurry(void *arg)
{
    const int *want = arg;
    test_pg_sql(nf_pg, "update notifier.notification set next_try_at = now() where state = "
                       "'waiting' and claimed_until is null");
    return atoi(test_pg_value(nf_pg, "select count(*) from notifier.notification"
                                     " where state <> 'waiting'")) >= *want &&
           no.sending == 0;
}

bool nf_told(int count)
{
    return test_run_until(nf_loop, 15000, told_after_hurry, &count);
}

static bool row_exists(void *sql)
{
    return *test_pg_value(nf_pg, sql) != '\0';
}

bool nf_row(const char *sql)
{
    return test_run_until(nf_loop, 15000, row_exists, nf_text(sql));
}

/* ---- life ---- */

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

void nf_channel(const char *id, const char *path)
{
    Enclii__V1__ChannelSet set = ENCLII__V1__CHANNEL_SET__INIT;
    struct ec_span sealed;
    set.channel_id = nf_text(id);
    set.project_id = nf_text("p1");
    set.kind = nf_text("webhook");
    set.url =
        ec_arena_format(nf_arena, "http://127.0.0.1:%u%s", ec_http_server_port(outside), path);
    set.enabled = true;
    assert_false(ec_failed(ec_seal(nf_arena, no.settings.seal_key,
                                   ec_arena_format(nf_arena, "channel/%s", id), EC_SPAN(NF_SECRET),
                                   &sealed)));
    set.sealed_secret.data = (uint8_t *)(uintptr_t)sealed.ptr;
    set.sealed_secret.len = sealed.len;
    nf_publish(EC_TOPIC_CHANNELS, id, "dev.enclii.channel.set.v1", ec_id_new().text, &set.base);
}

static const char *write_file(const char *name, const char *text)
{
    struct ec_span span = ec_span_of(text);
    char *path = ec_arena_format(nf_arena, "%s/%s", folder, name);
    assert_int_equal(ec_file_replace(&(struct ec_file_spec){path, 0600, false, &span, 1}), 0);
    return path;
}

static void set_hosts(void)
{
    unsigned port = ec_http_server_port(outside);
    strcpy(folder, "/tmp/enclii-notifier-XXXXXX");
    assert_non_null(mkdtemp(folder));
    const char *token = write_file("token", "secret-1\n");
    no.settings.githost.hosts_file = write_file(
        "hosts.json",
        ec_arena_format(nf_arena,
                        "{\"hosts\": [{\"server\": \"lab.test\", \"kind\": \"gitlab\", \"api\": "
                        "\"http://127.0.0.1:%u/api/v4\", \"token_file\": \"%s\"}, {\"server\": "
                        "\"tea.test\", \"kind\": \"forgejo\", \"api\": "
                        "\"http://127.0.0.1:%u/api/v1\", \"token_file\": \"%s\"}]}",
                        port, token, port, token));
    no.settings.githost.github_api_url = ec_arena_format(nf_arena, "http://127.0.0.1:%u/", port);
    no.settings.githost.github_token = ec_secret_new(EC_SPAN(NF_TOKEN));
}

void nf_open(const struct ec_http_route *routes, size_t count)
{
    nf_pg = test_pg_start();
    if (!nf_pg) {
        return;
    }
    nf_arena = ec_arena_new(1 << 20);
    nf_loop = ec_loop_new();
    kafka = test_kafka_start(nf_loop, EC_TOPIC_INTAKE ":1", EC_TOPIC_BUILD_EVENTS ":1",
                             EC_TOPIC_CHANNELS ".notifier.dead:1", EC_TOPIC_RELEASE_EVENTS ":1",
                             EC_TOPIC_DEPLOYMENT_EVENTS ":1", EC_TOPIC_CHANNELS ":1",
                             EC_TOPIC_NOTIFICATION_EVENTS ":1", NULL);
    bus = test_kafka_bus(kafka, "test");
    assert_false(ec_failed(
        ec_http_server_open(nf_loop,
                            &(struct ec_http_server_spec){
                                .listen = "127.0.0.1:0", .routes = routes, .route_count = count},
                            &outside)));
    no = (struct notifier){.loop = nf_loop, .owner.failed = on_failed};
    set_hosts();
    no.settings.seal_key = ec_secret_new(EC_SPAN(SEAL_KEY));
    no.settings.public_url = "";
    no.settings.private_addresses = true;
    no.bus = test_kafka_bus(kafka, "notifier");
    const struct ec_store_spec store = {.url = test_pg_url(nf_pg), .application_name = "notifier"};
    assert_false(ec_failed(ec_store_open(nf_loop, &store, &no.store)));
    assert_false(ec_failed(ec_fetcher_open(nf_loop, "test", 8, &no.fetcher)));
    nf_channel("c1", "/hook");
    assert_false(ec_failed(notifier_start(&no)));
    assert_true(test_run_until(nf_loop, 15000, ready, NULL));
}

static void set_true(void *flag)
{
    *(bool *)flag = true;
}

int nf_close(void **state)
{
    (void)state;
    bool stopped = false, closed = false, store_closed = false;
    if (!nf_pg) {
        return 0;
    }
    no.owner.arg = &stopped;
    no.owner.stopped = set_true;
    notifier_stop(&no);
    assert_true(test_run_until(nf_loop, 5000, test_is_true, &stopped));
    ec_fetcher_close(no.fetcher);
    ec_http_server_close(outside, 100, set_true, &closed);
    assert_true(test_run_until(nf_loop, 2000, test_is_true, &closed));
    test_kafka_close_bus(kafka, no.bus);
    test_kafka_close_bus(kafka, bus);
    ec_store_close(no.store, set_true, &store_closed);
    assert_true(test_run_until(nf_loop, 2000, test_is_true, &store_closed));
    notifier_done(&no);
    test_kafka_stop(kafka);
    ec_loop_free(nf_loop);
    ec_arena_free(nf_arena);
    test_pg_free(nf_pg);
    ec_file_remove_tree(folder);
    return 0;
}
