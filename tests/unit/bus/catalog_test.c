/* The catalog: every row is findable, no type is there twice, and messages become JSON without
 * their bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "bus/catalog.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/notification.pb-c.h"

static void test_every_type_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ec_catalog_count; i++) {
        assert_ptr_equal(ec_catalog_find(ec_catalog[i].type), ec_catalog[i].descriptor);
        assert_int_equal(strncmp(ec_catalog[i].type, "dev.enclii.", 11), 0);
    }
    assert_null(ec_catalog_find("dev.enclii.build.exploded.v1"));
    assert_ptr_equal(ec_catalog_find("dev.enclii.build.failed.v1"),
                     &enclii__v1__build_failed__descriptor);
}

/* topics.yaml names every type that a topic carries. */
static void test_every_type_of_the_topics(void **state)
{
    (void)state;
    for (size_t i = 0; i < ec_topic_count; i++) {
        char types[4096], type[128], *rest = NULL;
        snprintf(types, sizeof types, "%s", ec_topics[i].types);
        for (char *word = strtok_r(types, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
            snprintf(type, sizeof type, "dev.enclii.%s.v1", word);
            if (!ec_catalog_find(type)) {
                fail_msg("%s of %s has no row in libs/bus/catalog.c", type, ec_topics[i].name);
            }
        }
    }
}

static void test_json(void **state)
{
    (void)state;
    Enclii__V1__StepTime step = ENCLII__V1__STEP_TIME__INIT;
    step.name = (char[]){"fetch"};
    step.duration_ms = 420;
    Enclii__V1__StepTime *steps[] = {&step};
    Enclii__V1__BuildFailed failed = ENCLII__V1__BUILD_FAILED__INIT;
    failed.build_id = (char[]){"b-1"};
    failed.detail = (char[]){"bad \xff text"};
    failed.attempt = 2;
    failed.reason = ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_OUT_OF_MEMORY;
    failed.retryable = 1;
    failed.steps = steps;
    failed.n_steps = 1;
    ec_cleanup(ec_json_freep) json_t *json = ec_message_json(&failed.base);
    assert_string_equal(ec_json_text(json, "build_id"), "b-1");
    assert_int_equal(ec_json_int(json, "attempt", 0), 2);
    assert_string_equal(ec_json_text(json, "reason"), "BUILD_FAILURE_OUT_OF_MEMORY");
    assert_true(ec_json_bool(json, "retryable", false));
    assert_null(json_object_get(json, "detail")); /* no UTF-8 */
    const json_t *first = json_array_get(json_object_get(json, "steps"), 0);
    assert_string_equal(ec_json_text(first, "name"), "fetch");
    assert_int_equal(ec_json_int(first, "duration_ms", 0), 420);
}

static void test_bytes_are_left_out(void **state)
{
    (void)state;
    Enclii__V1__ChannelSet set = ENCLII__V1__CHANNEL_SET__INIT;
    set.channel_id = (char[]){"c-1"};
    set.sealed_secret.data = (uint8_t[]){1, 2, 3};
    set.sealed_secret.len = 3;
    ec_cleanup(ec_json_freep) json_t *json = ec_message_json(&set.base);
    assert_string_equal(ec_json_text(json, "channel_id"), "c-1");
    assert_null(json_object_get(json, "sealed_secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_once),
        cmocka_unit_test(test_every_type_of_the_topics),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_bytes_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
