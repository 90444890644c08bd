/* The rights that follow from topics.yaml: enough for each service, and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "bus/topics.h"

struct question {
    const char *service, *operation, *name;
    bool on_topic;
    int answers;
};

static void ask(void *arg, const struct ec_acl *acl)
{
    struct question *q = arg;
    bool fits = acl->prefixed ? strncmp(q->name, acl->name, strlen(acl->name)) == 0
                              : strcmp(q->name, acl->name) == 0;
    q->answers += fits && acl->on_topic == q->on_topic && strcmp(acl->service, q->service) == 0 &&
                  strcmp(acl->operation, q->operation) == 0;
}

static bool may(const char *service, const char *operation, const char *topic)
{
    struct question q = {service, operation, topic, true, 0};
    ec_acl_each(ask, &q);
    return q.answers > 0;
}

static bool may_join(const char *service, const char *group)
{
    struct question q = {service, "Read", group, false, 0};
    ec_acl_each(ask, &q);
    assert_in_range(q.answers, 0, 1); /* said once */
    return q.answers == 1;
}

static void services_have_what_they_need(void **state)
{
    (void)state;
    assert_true(may("webhook", "Write", "enclii.intake"));
    assert_true(may("webhook", "Describe", "enclii.intake"));
    assert_true(may("pipeline", "Read", "enclii.intake"));
    assert_true(may("pipeline", "Write", "enclii.intake.pipeline.dead"));
    assert_true(may("builder", "Write", "enclii.build.commands.builder.b1.dead"));
    assert_true(may("builder", "Create", "enclii.build.commands.builder.b1.dead"));
    assert_true(may("api", "Write", "enclii.build.logs.api-logs.dead"));
    assert_true(may_join("builder", "builder.b1"));
    assert_true(may_join("api", "api-logs"));
    assert_true(may_join("api", "api-dead"));
    assert_true(may_join("reconciler", "reconciler.table"));
}

static void services_have_no_more(void **state)
{
    (void)state;
    assert_false(may("builder", "Write", "enclii.release.events"));
    assert_false(may("builder", "Write", "enclii.desired"));
    assert_false(may("builder", "Read", "enclii.channels")); /* sealed secrets */
    assert_false(may("webhook", "Read", "enclii.intake"));
    assert_false(may("webhook", "Write", "enclii.build.events"));
    assert_false(may("notifier", "Write", "enclii.intake.pipeline.dead"));
    assert_false(may("api", "Write", "enclii.requests")); /* through the outbox */
    assert_false(may_join("webhook", "pipeline"));
    assert_false(may("webhook", "Create", "enclii.intake"));
    for (size_t i = 0; i < ec_topic_count; i++) { /* only pipeline says what should run */
        if (strcmp(ec_topics[i].name, EC_TOPIC_DESIRED) == 0) {
            assert_string_equal(ec_topics[i].writers, "pipeline");
        }
    }
}

/* Whoever reads may write its letters, api may read them, and pipeline may put them back. */
static void letters_find_their_way(void **state)
{
    (void)state;
    for (size_t i = 0; i < ec_topic_count; i++) {
        const struct ec_topic *topic = &ec_topics[i];
        if (strcmp(topic->name, EC_TOPIC_APP_LOGS) == 0) {
            continue; /* only a live view reads it, which writes no letters */
        }
        assert_true(may("pipeline", "Write", topic->name));
        for (const char *at = topic->readers; *at; at += strcspn(at, ","), at += *at == ',') {
            char service[64], letters[256];
            snprintf(service, sizeof service, "%.*s", (int)strcspn(at, ","), at);
            snprintf(letters, sizeof letters, "%s.%s.dead", topic->name, service);
            assert_true(may(service, "Write", letters));
            assert_true(may("api", "Read", letters));
        }
    }
}

static void principals_have_a_form(void **state)
{
    (void)state;
    char out[32];
    ec_acl_principal("User:CN={service}", "webhook", out, sizeof out);
    assert_string_equal(out, "User:CN=webhook");
    ec_acl_principal("User:CN={service},O=x", "api", out, sizeof out);
    assert_string_equal(out, "User:CN=api,O=x");
    ec_acl_principal("User:all", "api", out, sizeof out);
    assert_string_equal(out, "User:all");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(services_have_what_they_need),
        cmocka_unit_test(services_have_no_more),
        cmocka_unit_test(letters_find_their_way),
        cmocka_unit_test(principals_have_a_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
