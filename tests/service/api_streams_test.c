/* Live events and build logs over server-sent events: what arrives, what belongs to others,
 * resuming, gaps, a second delivery, the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "support/api_fixture.h"

static struct api_fixture fx;
static struct api_place shop, other;

#define BUILD_1 "00000000-0000-4000-8000-00000000b001"
#define BUILD_2 "00000000-0000-4000-8000-00000000b002"
#define BUILD_3 "00000000-0000-4000-8000-00000000b003"
#define BUILD_4 "00000000-0000-4000-8000-00000000b004"
#define BUILD_5 "00000000-0000-4000-8000-00000000b005"
#define BUILD_6 "00000000-0000-4000-8000-00000000b006"

static int64_t happened_unix_ms; /* of what is published; 0 = now */

static void publish(const char *topic, const char *key, const char *type,
                    const ProtobufCMessage *body)
{
    struct ec_id id = ec_id_new();
    struct ec_message message = {.topic = topic,
                                 .key = key,
                                 .type = type,
                                 .id = id.text,
                                 .body = body,
                                 .time_unix_ms = happened_unix_ms};
    test_kafka_publish(fx.kafka, fx.bus, &message);
}

static void queued(const char *service_id, char *build_id, char *sha)
{
    Enclii__V1__BuildQueued fact;
    Enclii__V1__Commit commit;
    enclii__v1__build_queued__init(&fact);
    enclii__v1__commit__init(&commit);
    commit.sha = sha;
    fact.build_id = build_id;
    fact.commit = &commit;
    publish(EC_TOPIC_BUILD_EVENTS, service_id, "dev.enclii.build.queued.v1", &fact.base);
}

static void started(const char *service_id, char *build_id)
{
    Enclii__V1__BuildStarted fact;
    enclii__v1__build_started__init(&fact);
    fact.build_id = build_id;
    publish(EC_TOPIC_BUILD_EVENTS, service_id, "dev.enclii.build.started.v1", &fact.base);
}

static void log_lines(char *build_id, int attempt, int64_t first, const char *text, bool last)
{
    Enclii__V1__BuildLog log;
    Enclii__V1__LogLine line, second;
    enclii__v1__build_log__init(&log);
    enclii__v1__log_line__init(&line);
    enclii__v1__log_line__init(&second);
    Enclii__V1__LogLine *lines[] = {&line, &second};
    char copy[64];
    snprintf(copy, sizeof(copy), "%s", text);
    line.text = copy;
    second.text = copy;
    log.build_id = build_id;
    log.attempt = attempt;
    log.first_seq = first;
    log.n_lines = 2;
    log.lines = lines;
    log.last = last;
    publish(EC_TOPIC_BUILD_LOGS, shop.service_id, "dev.enclii.build.log.v1", &log.base);
}

static const char *events_path(const struct api_place *place, const char *query)
{
    static char path[256];
    snprintf(path, sizeof(path), "/v1/services/%s/events%s", place->service_id, query);
    return path;
}

static int times(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what)) {
        count++;
    }
    return count;
}

/* The id of the last event in the stream's text. */
static const char *last_id(const struct api_stream *stream)
{
    static char id[128];
    const char *found = "", *at = stream->text;
    while ((at = strstr(at, "id: "))) {
        found = at += 4;
    }
    snprintf(id, sizeof(id), "%.*s", (int)strcspn(found, "\r\n"), found);
    return id;
}

static void insert_build(const char *id, int number, const char *state)
{
    char sql[1024];
    snprintf(
        sql, sizeof(sql),
        "insert into enclii.build (id, service_id, number, spec, commit, commit_sha, ref, actor,"
        " state, attempt, deadline_at) values ('%s', '%s', %d, '', '', '" SHA_1 "',"
        " 'refs/heads/main', '', '%s', 1, now())",
        id, shop.service_id, number, state);
    test_pg_sql(fx.pg, sql);
}

static void test_events_are_live_and_only_of_the_service(void **state)
{
    (void)state;
    struct api_stream stream;
    api_stream_open(&fx, &stream, events_path(&shop, "?replay=true"), ADMIN_TOKEN, NULL);
    queued(other.service_id, BUILD_2, SHA_2);
    queued(shop.service_id, BUILD_1, SHA_1);
    api_stream_until(&fx, &stream, "\"type\":\"build.queued\"", 5000);
    assert_non_null(strstr(stream.text, BUILD_1));
    assert_null(strstr(stream.text, BUILD_2));
    started(shop.service_id, BUILD_1);
    api_stream_until(&fx, &stream, "\"type\":\"build.started\"", 5000);
    assert_int_equal(times(stream.text, SHA_1), 2); /* the later fact got its commit */
    api_stream_close(&fx, &stream);
}

static void test_events_resume_after_the_last_seen(void **state)
{
    (void)state;
    struct api_stream stream;
    api_stream_open(&fx, &stream, events_path(&shop, "?replay=true"), ADMIN_TOKEN, NULL);
    api_stream_until(&fx, &stream, "build.started", 5000);
    api_stream_close(&fx, &stream);
    char seen[128];
    snprintf(seen, sizeof(seen), "%s", last_id(&stream));
    assert_memory_equal(seen, "enclii.build.events-0-", 22);
    queued(shop.service_id, BUILD_2, SHA_2); /* while nobody looks */
    api_stream_open(&fx, &stream, events_path(&shop, ""), ADMIN_TOKEN, seen);
    api_stream_until(&fx, &stream, BUILD_2, 5000);
    assert_int_equal(times(stream.text, seen), 0);
    assert_null(strstr(stream.text, "gap"));
    api_stream_close(&fx, &stream);
    api_stream_open(&fx, &stream, events_path(&shop, ""), ADMIN_TOKEN,
                    "enclii.build.events-0-777777");
    api_stream_until(&fx, &stream, "event: gap", 5000);
    api_stream_until(&fx, &stream, BUILD_1, 5000);
    api_stream_close(&fx, &stream);
}

/* Whoever was cut off before anything happened: nothing of before, all of since. */
static void test_a_stream_that_saw_nothing_resumes(void **state)
{
    (void)state;
    struct api_stream stream;
    api_stream_open(&fx, &stream, events_path(&shop, ""), ADMIN_TOKEN, NULL);
    api_stream_until(&fx, &stream, "id: at-", 5000);
    api_stream_close(&fx, &stream);
    assert_null(strstr(stream.text, "data:"));
    char at[128];
    snprintf(at, sizeof(at), "%s", last_id(&stream));
    queued(shop.service_id, BUILD_3, SHA_1);
    api_stream_open(&fx, &stream, events_path(&shop, ""), ADMIN_TOKEN, at);
    api_stream_until(&fx, &stream, BUILD_3, 5000);
    assert_null(strstr(stream.text, BUILD_1));
    assert_null(strstr(stream.text, BUILD_2));
    assert_null(strstr(stream.text, "gap"));
    api_stream_close(&fx, &stream);
}

/* Another process, or this one started anew, may have read the topics in another order: what stands
 * before the last fact seen and happened at the same time is sent again, older facts are not. */
static void test_the_order_of_the_ring_hides_nothing(void **state)
{
    (void)state;
    struct api_stream stream;
    int64_t now = ec_unix_ms();
    api_stream_open(&fx, &stream, events_path(&shop, ""), ADMIN_TOKEN, NULL);
    api_stream_until(&fx, &stream, "id: at-", 5000);
    happened_unix_ms = now - 60000;
    queued(shop.service_id, BUILD_4, SHA_1);
    happened_unix_ms = now - 500;
    started(shop.service_id, BUILD_5);
    happened_unix_ms = now;
    started(shop.service_id, BUILD_6);
    happened_unix_ms = 0;
    api_stream_until(&fx, &stream, BUILD_6, 5000);
    assert_non_null(strstr(stream.text, BUILD_4)); /* a late one is live, too */
    char seen[128];
    snprintf(seen, sizeof(seen), "%s", last_id(&stream));
    api_stream_close(&fx, &stream);
    api_stream_open(&fx, &stream, events_path(&shop, ""), ADMIN_TOKEN, seen);
    api_stream_until(&fx, &stream, BUILD_5, 5000);
    assert_null(strstr(stream.text, BUILD_4));
    assert_null(strstr(stream.text, BUILD_6));
    api_stream_close(&fx, &stream);
}

static void test_events_of_one_commit(void **state)
{
    (void)state;
    struct api_stream stream;
    api_stream_open(&fx, &stream, events_path(&shop, "?commit=" SHA_2), ADMIN_TOKEN, NULL);
    api_stream_until(&fx, &stream, BUILD_2, 5000);
    assert_null(strstr(stream.text, BUILD_1));
    api_stream_close(&fx, &stream);
}

/* Intake facts carry no service: it is found by the repository. */
static void test_pushes_reach_their_services(void **state)
{
    (void)state;
    struct api_stream stream;
    api_stream_open(&fx, &stream, events_path(&shop, "?replay=true"), ADMIN_TOKEN, NULL);
    Enclii__V1__DeliveryIgnored fact;
    enclii__v1__delivery_ignored__init(&fact);
    char id[] = "delivery-1", key[] = "git.test/acme/shop", reason[] = "branch_not_watched";
    fact.delivery_id = id;
    fact.repo_key = key;
    fact.reason = reason;
    publish(EC_TOPIC_INTAKE, key, "dev.enclii.delivery.ignored.v1", &fact.base);
    api_stream_until(&fx, &stream, "branch_not_watched", 5000);
    api_stream_close(&fx, &stream);
}

/* A push to a repository of two projects: each project's token sees its own part only. */
static void test_a_projects_token_sees_no_other_projects_services(void **state)
{
    (void)state;
    struct api_stream all, scoped, of_service;
    char token[80];
    api_token(&fx, "viewer", "shop", token);
    api_stream_open(&fx, &all, "/v1/events", ADMIN_TOKEN, NULL);
    api_stream_open(&fx, &scoped, "/v1/events", token, NULL);
    api_stream_open(&fx, &of_service, events_path(&shop, ""), token, NULL);
    Enclii__V1__DeliveryAccepted fact = ENCLII__V1__DELIVERY_ACCEPTED__INIT;
    Enclii__V1__ServiceRef mine = ENCLII__V1__SERVICE_REF__INIT;
    Enclii__V1__ServiceRef theirs = ENCLII__V1__SERVICE_REF__INIT;
    Enclii__V1__ServiceRef *services[] = {&mine, &theirs};
    char key[] = "git.test/acme/shop", id[] = "d-of-both", name[] = "secret-plan";
    mine.service_id = shop.service_id;
    theirs.service_id = other.service_id;
    theirs.service_name = name;
    fact.delivery_id = id;
    fact.repo_key = key;
    fact.services = services;
    fact.n_services = 2;
    publish(EC_TOPIC_INTAKE, key, "dev.enclii.delivery.accepted.v1", &fact.base);
    api_stream_until(&fx, &all, "d-of-both", 5000);
    api_stream_until(&fx, &scoped, "d-of-both", 5000);
    api_stream_until(&fx, &of_service, "d-of-both", 5000);
    assert_non_null(strstr(all.text, "secret-plan"));
    assert_null(strstr(scoped.text, "secret-plan"));
    assert_null(strstr(of_service.text, "secret-plan"));
    assert_null(strstr(of_service.text, other.service_id));
    api_stream_close(&fx, &all);
    api_stream_close(&fx, &scoped);
    api_stream_close(&fx, &of_service);
}

static bool rows_are_stored(void *arg)
{
    return strcmp(test_pg_value(fx.pg, "select count(*) from enclii.build_log"), arg) == 0;
}

static void wait_rows(const char *count)
{
    char copy[16];
    snprintf(copy, sizeof(copy), "%s", count);
    assert_true(test_run_until(fx.loop, 10000, rows_are_stored, copy));
}

static void test_logs_are_kept_once(void **state)
{
    (void)state;
    insert_build(BUILD_1, 1, "running");
    log_lines(BUILD_1, 1, 1, "one", false);
    log_lines(BUILD_1, 1, 1, "one", false); /* delivered again */
    log_lines(BUILD_1, 1, 3, "two", false);
    wait_rows("2");
    assert_int_equal(api_ask(&fx, "GET", "/v1/builds/" BUILD_1 "/logs", ADMIN_TOKEN, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "lines")), 4);
    assert_int_equal(ec_json_int(fx.json, "next_seq", 0), 5);
    assert_int_equal(
        api_ask(&fx, "GET", "/v1/builds/" BUILD_1 "/logs?from_seq=2", ADMIN_TOKEN, NULL), 200);
    const json_t *lines = json_object_get(fx.json, "lines");
    assert_int_equal(json_array_size(lines), 3);
    assert_int_equal(ec_json_int(json_array_get(lines, 0), "seq", 0), 2);
}

static void test_log_stream_goes_from_stored_to_live_to_end(void **state)
{
    (void)state;
    struct api_stream stream;
    api_stream_open(&fx, &stream, "/v1/builds/" BUILD_1 "/logs/stream", ADMIN_TOKEN, NULL);
    api_stream_until(&fx, &stream, "id: 1:4", 5000);
    log_lines(BUILD_1, 1, 5, "three", false);
    api_stream_until(&fx, &stream, "id: 1:6", 5000);
    assert_int_equal(times(stream.text, "event: log"), 6);
    /* A reader that comes back gets only what follows. */
    struct api_stream resumed;
    api_stream_open(&fx, &resumed, "/v1/builds/" BUILD_1 "/logs/stream", ADMIN_TOKEN, "1:5");
    api_stream_until(&fx, &resumed, "id: 1:6", 5000);
    assert_int_equal(times(resumed.text, "event: log"), 1);
    api_stream_close(&fx, &resumed);
    /* The builder was lost; the next attempt begins again at 1. */
    test_pg_sql(fx.pg, "update enclii.build set attempt = 2 where id = '" BUILD_1 "'");
    log_lines(BUILD_1, 2, 1, "again", false);
    api_stream_until(&fx, &stream, "id: 2:2", 5000);
    test_pg_sql(fx.pg, "update enclii.build set state = 'SUCCEEDED', deadline_at = null"
                       " where id = '" BUILD_1 "'");
    log_lines(BUILD_1, 2, 3, "done", true);
    api_stream_until(&fx, &stream, "{\"state\":\"SUCCEEDED\"}", 15000);
    assert_true(test_run_until(fx.loop, 3000, test_is_true, &stream.ended));
    assert_int_equal(times(stream.text, "event: log"), 10);
}

/* Cancelled before a last line: the stream ends all the same. */
static void test_log_stream_of_a_build_without_last_line_ends(void **state)
{
    (void)state;
    insert_build(BUILD_2, 2, "running");
    struct api_stream stream;
    api_stream_open(&fx, &stream, "/v1/builds/" BUILD_2 "/logs/stream", ADMIN_TOKEN, NULL);
    log_lines(BUILD_2, 1, 1, "half", false);
    api_stream_until(&fx, &stream, "id: 1:2", 5000);
    test_pg_sql(fx.pg, "update enclii.build set state = 'CANCELLED', deadline_at = null"
                       " where id = '" BUILD_2 "'");
    api_stream_until(&fx, &stream, "{\"state\":\"CANCELLED\"}", 8000);
    assert_true(test_run_until(fx.loop, 3000, test_is_true, &stream.ended));
}

static bool four_streams(void *arg)
{
    (void)arg;
    return fx.api.streams == 4;
}

/* GET /v1/events: who sees what. */
static void test_all_events_by_role_and_filter(void **state)
{
    (void)state;
    struct api_stream all, scoped, builds, of_other;
    char token[80], path[128];
    api_token(&fx, "viewer", "shop", token);
    snprintf(path, sizeof path, "/v1/events?service=%s&type=build.started", other.service_id);
    api_stream_open(&fx, &all, "/v1/events", ADMIN_TOKEN, NULL);
    api_stream_open(&fx, &scoped, "/v1/events", token, NULL);
    api_stream_open(&fx, &builds, "/v1/events?type=build", ADMIN_TOKEN, NULL);
    api_stream_open(&fx, &of_other, path, ADMIN_TOKEN, NULL);
    assert_true(test_run_until(fx.loop, 5000, four_streams, NULL));
    queued(other.service_id, BUILD_2, SHA_2);
    started(other.service_id, BUILD_2);
    Enclii__V1__DeliveryIgnored ignored;
    enclii__v1__delivery_ignored__init(&ignored);
    ignored.delivery_id = (char[]){"d-nobody"};
    publish(EC_TOPIC_INTAKE, "git.test/acme/nobody", "dev.enclii.delivery.ignored.v1",
            &ignored.base);
    queued(shop.service_id, BUILD_1, SHA_1);
    started(shop.service_id, BUILD_1);
    api_stream_until(&fx, &all, "d-nobody", 5000);
    api_stream_until(&fx, &all, BUILD_1, 5000);
    assert_non_null(strstr(all.text, BUILD_2));
    api_stream_until(&fx, &scoped, "build.started", 5000);
    assert_null(strstr(scoped.text, BUILD_2));
    assert_null(strstr(scoped.text, "d-nobody"));
    api_stream_until(&fx, &builds, BUILD_1, 5000);
    assert_null(strstr(builds.text, "d-nobody"));
    api_stream_until(&fx, &of_other, BUILD_2, 5000);
    assert_int_equal(times(of_other.text, "\"type\":"), 1); /* not its build.queued */
    snprintf(path, sizeof path, "/v1/events?replay=true&service=%s", other.service_id);
    struct api_stream foreign; /* a token of shop asks for other's: nothing */
    api_stream_open(&fx, &foreign, path, token, NULL);
    started(other.service_id, BUILD_2);
    api_stream_until(&fx, &builds, "build.started", 5000);
    assert_int_equal(times(foreign.text, "\"type\":"), 0);
    api_stream_close(&fx, &foreign);
    api_stream_close(&fx, &all);
    api_stream_close(&fx, &scoped);
    api_stream_close(&fx, &builds);
    api_stream_close(&fx, &of_other);
    assert_int_equal(api_ask(&fx, "GET", "/v1/events?service=x", ADMIN_TOKEN, NULL), 400);
}

/* Revoked or expired, a token's open streams end with it; those of others go on. */
static void test_streams_end_with_their_token(void **state)
{
    (void)state;
    struct api_stream events, lines, stays;
    char token[80];
    api_token(&fx, "viewer", "shop", token);
    api_stream_open(&fx, &stays, "/v1/events", ADMIN_TOKEN, NULL);
    api_stream_open(&fx, &events, "/v1/events", token, NULL);
    insert_build("00000000-0000-4000-8000-00000000b003", 3, "running");
    api_stream_open(&fx, &lines, "/v1/builds/00000000-0000-4000-8000-00000000b003/logs/stream",
                    token, NULL);
    bool never = false;
    test_run_until(fx.loop, 3000, test_is_true, &never);
    assert_int_equal(fx.api.streams, 3);
    test_pg_sql(fx.pg, "update enclii.api_token set expires_at = now() - interval '1 s'"
                       " where name = 'viewer'");
    assert_true(test_run_until(fx.loop, 8000, test_is_true, &events.ended));
    assert_true(test_run_until(fx.loop, 8000, test_is_true, &lines.ended));
    assert_false(stays.ended);
    assert_int_equal(fx.api.streams, 1);
    api_stream_close(&fx, &stays);
}

static bool no_streams(void *arg)
{
    (void)arg;
    return fx.api.streams == 0;
}

static void test_streams_are_given_back(void **state)
{
    (void)state;
    assert_true(test_run_until(fx.loop, 5000, no_streams, NULL));
    fx.api.streams = STREAMS_MAX;
    assert_int_equal(api_ask(&fx, "GET", events_path(&shop, ""), ADMIN_TOKEN, NULL), 503);
    assert_string_equal(api_text(&fx, "code"), "too_many_streams");
    fx.api.streams = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_are_live_and_only_of_the_service),
        cmocka_unit_test(test_events_resume_after_the_last_seen),
        cmocka_unit_test(test_a_stream_that_saw_nothing_resumes),
        cmocka_unit_test(test_the_order_of_the_ring_hides_nothing),
        cmocka_unit_test(test_events_of_one_commit),
        cmocka_unit_test(test_pushes_reach_their_services),
        cmocka_unit_test(test_logs_are_kept_once),
        cmocka_unit_test(test_log_stream_goes_from_stored_to_live_to_end),
        cmocka_unit_test(test_log_stream_of_a_build_without_last_line_ends),
        cmocka_unit_test(test_all_events_by_role_and_filter),
        cmocka_unit_test(test_a_projects_token_sees_no_other_projects_services),
        cmocka_unit_test(test_streams_end_with_their_token),
        cmocka_unit_test(test_streams_are_given_back),
    };
    if (!api_fixture_open(&fx, "")) {
        return 0;
    }
    api_place(&fx, "shop", &shop);
    api_place(&fx, "other", &other);
    return cmocka_run_group_tests(tests, NULL, api_group_close);
}
