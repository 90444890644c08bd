/* GET /v1/timeline/{id} and /v1/history over a real PostgreSQL with the schema of `history`: what
 * an id may be, who sees what, pages without gaps, and answers while there is no history. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/api_fixture.h"

#define BUILD_ID "00000000-0000-4000-8000-00000000b001"
#define RELEASE_ID "00000000-0000-4000-8000-00000000c001"
#define DEPLOYMENT_ID "00000000-0000-4000-8000-00000000d001"
#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define TRACEPARENT "00-" TRACE "-b7ad6b7169203331-01"
#define OTHER_TRACE "1af7651916cd43dd8448eb211c80319c"

static struct api_fixture fx;
static struct api_place shop, other;
static char viewer[80], stranger[80];

static int get(const char *path, const char *token)
{
    return api_ask(&fx, "GET", path, token, NULL);
}

/* An event of that trace, `ms` after the push. service: an id or "". */
static void event(int n, int ms, const char *topic, const char *type, const char *service,
                  const char *trace, const char *body)
{
    api_sql(
        &fx,
        "insert into history.event (at, topic, partition, position, id, type, subject, key, trace,"
        " service_id, repo_key, about, body, raw_bytes) values (timestamptz '2026-11-20T10:00:00Z'"
        " + %d * interval '1 ms', '%s', 0, %d, 'e-%d', 'dev.enclii.%s.v1', 's', 'k', '%s',"
        " nullif('%s', '')::uuid, case when '%s' = 'enclii.intake' then"
        " (select repo_key from enclii.service where id = '%s') end, array['%s'], '%s', 0)",
        ms, topic, n, n, type, trace, service, topic, shop.service_id, trace, body);
}

static void make_history(void)
{
    api_sql(&fx, "alter schema aside rename to history");
    api_sql(&fx, "select history.make_month('2026-11-01')");
    api_sql(&fx,
            "insert into enclii.delivery (id, repo_key, ref, commit_sha, state, trace, received_at)"
            " select 'delivery-1', repo_key, 'refs/heads/main', '" SHA_1
            "', 'ACCEPTED', '" TRACEPARENT "', now() from enclii.service where id = '%s'",
            shop.service_id);
    api_sql(
        &fx,
        "insert into enclii.build (id, service_id, number, delivery_id, spec, commit, commit_sha,"
        " ref, actor, state, trace) values ('" BUILD_ID "', '%s', 1, 'delivery-1', '', '', '" SHA_1
        "', 'refs/heads/main', '', 'SUCCEEDED', '" TRACEPARENT "')",
        shop.service_id);
    api_sql(&fx,
            "insert into enclii.release (id, service_id, build_id, build_number, number, version, "
            "state,"
            " commit, commit_sha, image_repo, spec, trace) values ('" RELEASE_ID
            "', '%s', '" BUILD_ID "', 1, 1, 'v1', 'READY', '', '" SHA_1 "', 'r', '', '" TRACEPARENT
            "')",
            shop.service_id);
    api_sql(
        &fx,
        "insert into enclii.deployment (id, service_id, environment_id, release_id, state, actor,"
        " trace) values ('" DEPLOYMENT_ID "', '%s', '%s', '" RELEASE_ID "', 'HEALTHY', '', '" //
        TRACEPARENT "')",
        shop.service_id, shop.environment_id);
    event(1, 0, "enclii.intake", "push.received", "", TRACE,
          "{\"head\":{\"sha\":\"" SHA_1 "\",\"message\":\"Sell shoes\"}}");
    event(2, 10, "enclii.intake", "delivery.accepted", "", TRACE,
          "{\"services\":[{\"service_name\":\"secret\"}],\"build_ids\":[\"x\"]}");
    event(3, 10, "enclii.build.events", "build.queued", shop.service_id, TRACE, "{}");
    event(4, 1010, "enclii.build.events", "build.leased", shop.service_id, TRACE, "{}");
    event(5, 9000, "enclii.deployment.events", "deployment.healthy", shop.service_id, TRACE, "{}");
    event(6, 20, "enclii.build.events", "build.queued", other.service_id, TRACE, "{}");
    event(7, 30, "enclii.domain.events", "domain.issued", "", TRACE,
          "{\"hostname\":\"other.test\"}");
    event(8, 30, "enclii.build.events", "build.queued", other.service_id, OTHER_TRACE, "{}");
}

static void test_without_history(void **state)
{
    (void)state;
    api_sql(&fx, "alter schema history rename to aside");
    assert_int_equal(get("/v1/timeline/" SHA_1, ADMIN_TOKEN), 503);
    assert_string_equal(api_text(&fx, "code"), "no_history");
    assert_int_equal(get("/v1/history", ADMIN_TOKEN), 503);
    make_history();
}

/* Every thing of one push tells the same story. */
static void test_what_an_id_may_be(void **state)
{
    (void)state;
    static const struct {
        const char *id, *kind;
    } cases[] = {
        {SHA_1, "commit"},   {"1111111", "commit"},   {"delivery-1", "delivery"},
        {BUILD_ID, "build"}, {RELEASE_ID, "release"}, {DEPLOYMENT_ID, "deployment"},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        char path[128];
        snprintf(path, sizeof path, "/v1/timeline/%s", cases[i].id);
        assert_int_equal(get(path, viewer), 200);
        assert_string_equal(api_text(&fx, "kind"), cases[i].kind);
        assert_string_equal(api_text(&fx, "trace"), TRACE);
        assert_string_equal(api_text(&fx, "commit.message"), "Sell shoes");
        const json_t *lane = json_array_get(json_object_get(fx.json, "services"), 0);
        assert_string_equal(ec_json_text(lane, "service_id"), shop.service_id);
        assert_string_equal(ec_json_text(lane, "outcome"), "deployment.healthy");
        assert_int_equal(ec_json_int(lane, "duration_ms", 0), 9000);
    }
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    static const char *const ids[] = {"111111", /* six digits are too few */
                                      "2222222", "nobody", "00000000-0000-4000-8000-00000000ffff",
                                      "%27%20or%201=1"};
    for (size_t i = 0; i < EC_LEN(ids); i++) {
        char path[128];
        snprintf(path, sizeof path, "/v1/timeline/%s", ids[i]);
        assert_int_equal(get(path, ADMIN_TOKEN), 404);
    }
}

/* A token of one project sees its own services only, also of a push that concerned others. */
static void test_who_sees_what(void **state)
{
    (void)state;
    assert_int_equal(get("/v1/timeline/" BUILD_ID, NULL), 401);
    assert_int_equal(get("/v1/timeline/" BUILD_ID, stranger), 404);
    assert_int_equal(get("/v1/timeline/" SHA_1, stranger), 404);
    assert_int_equal(get("/v1/timeline/delivery-1", stranger), 404);
    assert_int_equal(get("/v1/timeline/" SHA_1, viewer), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "services")), 1);
    assert_null(strstr(fx.text, "other.test"));
    assert_int_equal(get("/v1/timeline/" SHA_1, ADMIN_TOKEN), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "services")), 2);
    assert_int_equal(get("/v1/history?trace=" TRACE, viewer), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "events")), 5);
    assert_null(strstr(fx.text, "secret"));
    assert_int_equal(get("/v1/history?trace=" TRACE, ADMIN_TOKEN), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "events")), 7);
    assert_int_equal(get("/v1/history", stranger), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "events")), 2);
}

static size_t events_of(const char *query)
{
    char path[512];
    snprintf(path, sizeof path, "/v1/history?%s", query);
    assert_int_equal(get(path, ADMIN_TOKEN), 200);
    return json_array_size(json_object_get(fx.json, "events"));
}

static void test_questions(void **state)
{
    (void)state;
    char query[256];
    assert_int_equal(events_of("type=build.queued"), 3);
    assert_int_equal(events_of("type=dev.enclii.build.queued.v1"), 3);
    assert_int_equal(events_of("type=build.exploded"), 0);
    snprintf(query, sizeof query, "service=%s&type=build.queued", shop.service_id);
    assert_int_equal(events_of(query), 1);
    assert_int_equal(events_of("from=2026-11-20T10:00:01Z"), 2);
    assert_int_equal(events_of("to=2026-11-20T10:00:01Z&trace=" OTHER_TRACE), 1);
    snprintf(query, sizeof query, "repo=%s",
             test_pg_value(fx.pg, "select repo_key from history.event where repo_key is not null"));
    assert_int_equal(events_of(query), 2);
    static const struct {
        const char *query, *field;
    } bad[] = {{"service=1", "service"}, {"build=x", "build"},       {"from=yesterday", "from"},
               {"cursor=5", "cursor"},   {"cursor=1.2.3", "cursor"}, {"trace=", "trace"}};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        snprintf(query, sizeof query, "/v1/history?%s", bad[i].query);
        assert_int_equal(get(query, ADMIN_TOKEN), 400);
        assert_string_equal(api_text(&fx, "field"), bad[i].field);
    }
}

/* Pages of one show every event once, newest first, though two have the same time. */
static void test_pages(void **state)
{
    (void)state;
    char path[256] = "/v1/history?limit=1", seen[256] = "";
    for (int page = 0; page < 20; page++) {
        assert_int_equal(get(path, ADMIN_TOKEN), 200);
        const json_t *first = json_array_get(json_object_get(fx.json, "events"), 0);
        if (!first) {
            break;
        }
        strcat(seen, ec_json_text(first, "id"));
        strcat(seen, " ");
        snprintf(path, sizeof path, "/v1/history?limit=1&cursor=%s", api_text(&fx, "next_cursor"));
    }
    assert_string_equal(seen, "e-5 e-4 e-8 e-7 e-6 e-3 e-2 e-1 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_history),   cmocka_unit_test(test_what_an_id_may_be),
        cmocka_unit_test(test_what_is_not_there), cmocka_unit_test(test_who_sees_what),
        cmocka_unit_test(test_questions),         cmocka_unit_test(test_pages),
    };
    if (!api_fixture_open(&fx, "")) {
        return 0;
    }
    api_place(&fx, "shop", &shop);
    api_place(&fx, "other", &other);
    api_token(&fx, "viewer", "shop", viewer);
    api_token(&fx, "viewer", "other", stranger);
    return cmocka_run_group_tests(tests, NULL, api_group_close);
}
