/* Dead letters through the API: who may see them, what is kept, putting back, letting go. */
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
#include "enclii/v1/build.pb-c.h"
#include "support/api_fixture.h"

#define DEAD "enclii.build.events.pipeline.dead"
#define TYPE "dev.enclii.build.queued.v1"

static struct api_fixture fx;
static struct api_place shop;
static char viewer[80], developer[80], scoped_admin[80];

/* ---- letters ---- */

struct letter {
    const char *topic, *offset;
    struct ec_span key;
    const char *left_out; /* NULL = the value is there */
};

static void put_letter(const struct letter *letter)
{
    uint8_t bytes[256];
    Enclii__V1__BuildQueued fact = ENCLII__V1__BUILD_QUEUED__INIT;
    fact.build_id = (char[]){"build-7"};
    struct ec_span value = {(char *)bytes, enclii__v1__build_queued__pack(&fact, bytes)};
    const char *headers[] = {"ce_specversion",
                             "1.0",
                             "ce_id",
                             "event-7",
                             "ce_type",
                             TYPE,
                             "x-more",
                             "kept",
                             "dead_reason",
                             "nobody knows this build",
                             "dead_topic",
                             letter->topic,
                             "dead_partition",
                             "3",
                             "dead_offset",
                             letter->offset,
                             "dead_group",
                             "pipeline",
                             "dead_time",
                             "2026-11-21T10:00:00Z",
                             "dead_bytes",
                             letter->left_out,
                             NULL};
    if (!letter->left_out) {
        headers[EC_LEN(headers) - 3] = NULL;
    }
    test_kafka_publish_record(fx.kafka, DEAD, letter->key, value, headers);
}

static const char *path_of(const char *id, const char *verb)
{
    static char path[200];
    snprintf(path, sizeof path, "/v1/dead-letters/%s%s", id, verb);
    return path;
}

static const json_t *listed(const char *offset)
{
    const json_t *letter;
    size_t i;
    api_ask(&fx, "GET", "/v1/dead-letters?state=all", ADMIN_TOKEN, NULL);
    json_array_foreach(json_object_get(fx.json, "dead_letters"), i, letter)
    {
        if (json_integer_value(json_object_get(letter, "offset")) == atoll(offset)) {
            return letter;
        }
    }
    return NULL;
}

static bool is_listed(void *offset)
{
    return listed(offset) != NULL;
}

/* Publishes it, waits for it, gives its id. */
static const char *letter_id(const struct letter *letter)
{
    static char id[EC_ID_SIZE];
    char offset[24];
    snprintf(offset, sizeof offset, "%s", letter->offset);
    put_letter(letter);
    assert_true(test_run_until(fx.loop, 15000, is_listed, offset));
    snprintf(id, sizeof id, "%s", ec_json_text(listed(offset), "id"));
    return id;
}

#define LETTER(at)                                                                                 \
    &(struct letter)                                                                               \
    {                                                                                              \
        "enclii.build.events", at, ec_span_of(shop.service_id), NULL                               \
    }

static int count_of(const char *sql)
{
    return atoi(test_pg_value(fx.pg, sql));
}

/* ---- tests ---- */

static void test_a_letter_is_kept_once_and_shown(void **state)
{
    (void)state;
    char id[EC_ID_SIZE];
    put_letter(LETTER("1")); /* a consumer that died in between writes it twice */
    snprintf(id, sizeof id, "%s", letter_id(LETTER("1")));
    assert_non_null(letter_id(LETTER("2")));
    api_ask(&fx, "GET", "/v1/dead-letters", ADMIN_TOKEN, NULL);
    assert_int_equal(json_array_size(json_object_get(fx.json, "dead_letters")), 2);
    assert_int_equal(json_integer_value(json_object_get(fx.json, "open")), 2);
    assert_int_equal(api_ask(&fx, "GET", path_of(id, ""), ADMIN_TOKEN, NULL), 200);
    assert_string_equal(api_text(&fx, "reason"), "nobody knows this build");
    assert_string_equal(api_text(&fx, "topic"), "enclii.build.events");
    assert_int_equal(json_integer_value(json_object_get(fx.json, "partition")), 3);
    assert_string_equal(api_text(&fx, "consumer_group"), "pipeline");
    assert_string_equal(api_text(&fx, "event_type"), TYPE);
    assert_string_equal(api_text(&fx, "event_id"), "event-7");
    assert_string_equal(api_text(&fx, "key"), shop.service_id);
    assert_string_equal(api_text(&fx, "dead_at"), "2026-11-21T10:00:00.000Z");
    assert_string_equal(api_text(&fx, "message.build_id"), "build-7");
    const json_t *header = json_array_get(json_object_get(fx.json, "headers"), 3);
    assert_string_equal(ec_json_text(header, "name"), "x-more");
    assert_string_equal(ec_json_text(header, "value"), "kept");
    assert_int_equal(json_array_size(json_object_get(fx.json, "headers")), 4); /* no dead_* */
    assert_int_equal(api_ask(&fx, "GET", "/v1/dead-letters?group=nobody", ADMIN_TOKEN, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "dead_letters")), 0);
    assert_int_equal(api_ask(&fx, "GET", "/v1/dead-letters?type=build.queued", ADMIN_TOKEN, NULL),
                     200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "dead_letters")), 2);
    char query[128];
    snprintf(query, sizeof query, "/v1/dead-letters?state=all&limit=500&id=%.36s", id);
    assert_int_equal(api_ask(&fx, "GET", query, ADMIN_TOKEN, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "dead_letters")), 1);
    assert_int_equal(api_ask(&fx, "GET", "/v1/dead-letters?id=%25", ADMIN_TOKEN, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "dead_letters")), 0);
}

static void test_only_admins_of_the_platform(void **state)
{
    (void)state;
    char id[EC_ID_SIZE];
    const char *tokens[] = {viewer, developer, scoped_admin};
    snprintf(id, sizeof id, "%s", letter_id(LETTER("10")));
    for (size_t i = 0; i < EC_LEN(tokens); i++) {
        const char *body = "{\"reason\": \"no\"}";
        assert_int_equal(api_ask(&fx, "GET", "/v1/dead-letters", tokens[i], NULL), 403);
        assert_int_equal(api_ask(&fx, "GET", path_of(id, ""), tokens[i], NULL), 403);
        assert_int_equal(api_ask(&fx, "POST", path_of(id, "/replay"), tokens[i], body), 403);
        assert_int_equal(api_ask(&fx, "POST", path_of(id, "/discard"), tokens[i], body), 403);
    }
    assert_int_equal(api_ask(&fx, "GET", path_of(id, ""), ADMIN_TOKEN, NULL), 200);
    assert_string_equal(api_text(&fx, "state"), "open");
    assert_int_equal(
        api_ask(&fx, "GET", path_of("00000000-0000-4000-8000-000000000000", ""), ADMIN_TOKEN, NULL),
        404);
    assert_int_equal(api_ask(&fx, "GET", path_of("nonsense", ""), ADMIN_TOKEN, NULL), 400);
}

static void test_discarding_says_who_and_why(void **state)
{
    (void)state;
    char id[EC_ID_SIZE];
    snprintf(id, sizeof id, "%s", letter_id(LETTER("20")));
    assert_int_equal(api_ask(&fx, "POST", path_of(id, "/discard"), ADMIN_TOKEN, "{}"), 400);
    assert_string_equal(api_text(&fx, "field"), "reason");
    assert_int_equal(api_ask(&fx, "POST", path_of(id, "/discard"), ADMIN_TOKEN,
                             "{\"reason\": \"the service is gone\"}"),
                     200);
    assert_string_equal(api_text(&fx, "state"), "DISCARDED");
    assert_string_equal(api_text(&fx, "settled_why"), "the service is gone");
    assert_true(api_text(&fx, "settled_by")[0]);
    assert_int_equal(count_of("select count(*) from enclii.audit_log where action ="
                              " 'dead_letter.discard' and detail = 'the service is gone'"
                              " and actor_name <> ''"),
                     1);
    assert_int_equal(
        api_ask(&fx, "POST", path_of(id, "/discard"), ADMIN_TOKEN, "{\"reason\": \"again\"}"), 409);
    assert_string_equal(api_text(&fx, "code"), "already_settled");
    assert_int_equal(api_ask(&fx, "POST", path_of(id, "/replay"), ADMIN_TOKEN, "{}"), 409);
    put_letter(LETTER("20")); /* the same letter again stays what it was */
    letter_id(LETTER("21"));
    api_ask(&fx, "GET", path_of(id, ""), ADMIN_TOKEN, NULL);
    assert_string_equal(api_text(&fx, "state"), "DISCARDED");
}

static void test_a_replay_goes_back_as_it_came(void **state)
{
    (void)state;
    char id[EC_ID_SIZE], sql[512];
    snprintf(id, sizeof id, "%s", letter_id(LETTER("30")));
    assert_int_equal(api_ask(&fx, "POST", path_of(id, "/replay"), ADMIN_TOKEN, "{}"), 200);
    assert_string_equal(api_text(&fx, "state"), "REPLAYED");
    snprintf(sql, sizeof sql,
             "select count(*) from enclii.outbox o join enclii.dead_letter d on d.id = '%s' where"
             " o.topic = 'enclii.build.events' and o.key = '%s' and o.event_id = 'event-7' and"
             " o.body = d.value and position(d.headers in o.headers) = 1 and"
             " right(encode(o.headers, 'escape'), 20) = 'ce_replayforpipeline'",
             id, shop.service_id);
    assert_int_equal(count_of(sql), 1);
    assert_int_equal(count_of("select count(*) from enclii.audit_log"
                              " where action = 'dead_letter.replay'"),
                     1);
    assert_int_equal(api_ask(&fx, "POST", path_of(id, "/replay"), ADMIN_TOKEN, "{}"), 409);
    assert_int_equal(count_of("select count(*) from enclii.outbox where headers is not null"), 1);
}

static void test_what_cannot_go_back_says_why(void **state)
{
    (void)state;
    static const struct {
        struct letter letter;
        const char *says;
    } cases[] = {
        {{"enclii.desired", "40", {"a:b", 3}, NULL}, "restart the service that failed"},
        {{"elsewhere", "41", {"a", 1}, NULL}, "none of the platform's"},
        {{"enclii.build.events", "42", {"\xff", 1}, NULL}, "not UTF-8"},
        {{"enclii.build.events", "43", {"a", 1}, "9000000"}, "too large"},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        char id[EC_ID_SIZE];
        snprintf(id, sizeof id, "%s", letter_id(&cases[i].letter));
        assert_int_equal(api_ask(&fx, "POST", path_of(id, "/replay"), ADMIN_TOKEN, "{}"), 409);
        assert_string_equal(api_text(&fx, "code"), "not_replayable");
        assert_non_null(strstr(api_text(&fx, "detail"), cases[i].says));
        assert_int_equal(api_ask(&fx, "POST", path_of(id, "/discard"), ADMIN_TOKEN,
                                 "{\"reason\": \"cannot go back\"}"),
                         200);
    }
    assert_int_equal(
        api_ask(&fx, "GET", "/v1/dead-letters?state=DISCARDED&limit=1", ADMIN_TOKEN, NULL), 200);
    assert_int_equal(json_array_size(json_object_get(fx.json, "dead_letters")), 1);
}

static int close_places(void **state)
{
    (void)state;
    api_fixture_close(&fx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_letter_is_kept_once_and_shown),
        cmocka_unit_test(test_only_admins_of_the_platform),
        cmocka_unit_test(test_discarding_says_who_and_why),
        cmocka_unit_test(test_a_replay_goes_back_as_it_came),
        cmocka_unit_test(test_what_cannot_go_back_says_why),
    };
    if (!api_fixture_open(&fx, "")) {
        return 0;
    }
    api_place(&fx, "shop", &shop);
    api_token(&fx, "viewer", NULL, viewer);
    api_token(&fx, "developer", NULL, developer);
    api_token(&fx, "admin", "shop", scoped_admin);
    return cmocka_run_group_tests(tests, NULL, close_places);
}
