/* What is kept of an event: whose it is, what it speaks of, and what is left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "history.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define TRACEPARENT "00-" TRACE "-b7ad6b7169203331-01"
#define SERVICE_ID "00000000-0000-4000-8000-000000000051"
#define PROJECT_ID "00000000-0000-4000-8000-000000000052"

static struct ec_arena *arena;

static char *str(const char *text)
{
    return ec_arena_strdup(arena, text);
}

static struct record record_of(const char *topic, const char *key, const char *subject,
                               const ProtobufCMessage *body)
{
    struct record_source source = {topic, key, subject, TRACEPARENT, body};
    struct record record;
    decide_record(arena, &source, &record);
    return record;
}

static bool speaks_of(const struct record *record, const char *id)
{
    const char *at = strstr(record->about, id);
    size_t len = strlen(id);
    return at && (at == record->about || at[-1] == '\n') && (at[len] == '\n' || !at[len]);
}

static void test_push(void **state)
{
    (void)state;
    Enclii__V1__Commit head = ENCLII__V1__COMMIT__INIT;
    head.sha = str("1111111111111111111111111111111111111111");
    Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
    push.delivery_id = str("delivery 7");
    push.after = head.sha;
    push.head = &head;
    struct record record =
        record_of(EC_TOPIC_INTAKE, "git.test/acme/shop", "delivery 7", &push.base);
    assert_string_equal(record.repo_key, "git.test/acme/shop");
    assert_string_equal(record.service_id, "");
    assert_string_equal(record.trace, TRACE);
    assert_true(speaks_of(&record, TRACE));
    assert_true(speaks_of(&record, "delivery 7"));
    assert_false(record.hidden);
    assert_true(speaks_of(&record, head.sha));
}

static void test_desired_hides_values(void **state)
{
    (void)state;
    Enclii__V1__RunSpec__EnvEntry entry = ENCLII__V1__RUN_SPEC__ENV_ENTRY__INIT;
    Enclii__V1__RunSpec__EnvEntry *env[] = {&entry};
    entry.key = str("DATABASE_URL");
    entry.value = str("postgres://hunter2");
    Enclii__V1__RunSpec run = ENCLII__V1__RUN_SPEC__INIT;
    run.env = env;
    run.n_env = 1;
    Enclii__V1__DesiredRelease release = ENCLII__V1__DESIRED_RELEASE__INIT;
    release.release_id = str("r-1");
    release.run = &run;
    Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
    service.service_id = str(SERVICE_ID);
    service.project_id = str(PROJECT_ID);
    Enclii__V1__Desired desired = ENCLII__V1__DESIRED__INIT;
    desired.deployment_id = str("x-1");
    desired.release = &release;
    desired.service = &service;
    struct record record = record_of(EC_TOPIC_DESIRED, SERVICE_ID ":e", "x", &desired.base);
    assert_string_equal(record.service_id, SERVICE_ID);
    assert_string_equal(record.project_id, PROJECT_ID);
    assert_string_equal(record.repo_key, "");
    assert_true(speaks_of(&record, "x-1"));
    assert_true(speaks_of(&record, "r-1"));
    assert_null(strstr(record.body, "hunter2"));
    assert_non_null(strstr(record.body, "DATABASE_URL"));
    assert_non_null(strstr(record.body, "\"***\""));
    assert_true(record.hidden);
}

static void test_tombstone(void **state)
{
    (void)state;
    struct record record = record_of(EC_TOPIC_DESIRED, SERVICE_ID ":env", "s", NULL);
    assert_string_equal(record.service_id, SERVICE_ID);
    assert_null(record.body);
    record = record_of(EC_TOPIC_DOMAINS, "shop.test", "shop.test", NULL);
    assert_string_equal(record.service_id, "");
    assert_true(speaks_of(&record, "shop.test"));
}

static void test_ids_of_strangers(void **state)
{
    (void)state;
    struct record record = record_of(EC_TOPIC_BUILD_EVENTS, "' or 1=1; --", "one\ntwo", NULL);
    assert_string_equal(record.service_id, "");
    assert_string_equal(record.about, TRACE); /* a subject of two lines is not one id */
}

static void test_long_lists_and_bodies(void **state)
{
    (void)state;
    char *paths[500];
    for (size_t i = 0; i < EC_LEN(paths); i++) {
        paths[i] = ec_arena_format(arena, "src/file_%zu.c", i);
    }
    Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
    push.changed_paths = paths;
    push.n_changed_paths = EC_LEN(paths);
    struct record record = record_of(EC_TOPIC_INTAKE, "r", "d", &push.base);
    ec_cleanup(ec_json_freep) json_t *body = json_loads(record.body, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(body, "changed_paths")), LIST_MAX);
    char *huge = ec_arena_alloc(arena, BODY_MAX_BYTES + 2);
    memset(huge, 'x', BODY_MAX_BYTES + 1);
    push.pusher = huge;
    record = record_of(EC_TOPIC_INTAKE, "r", "d", &push.base);
    assert_null(record.body);
}

static int setup(void **state)
{
    (void)state;
    arena = ec_arena_new(1 << 22);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ec_arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push),
        cmocka_unit_test(test_desired_hides_values),
        cmocka_unit_test(test_tombstone),
        cmocka_unit_test(test_ids_of_strangers),
        cmocka_unit_test(test_long_lists_and_bodies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
