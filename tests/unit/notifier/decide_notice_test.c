/* Who is told what, and what an answer means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../../../services/notifier/notifier.h"
#include "base/json.h"
#include "base/mem.h"

#define SHA "2222222222222222222222222222222222222222"

static struct ec_arena *arena;

static struct notice notice_of(const char *type)
{
    return (struct notice){.rule = decide_rule(type),
                           .event_id = "e",
                           .trace = "",
                           .time_unix_ms = 1767323045678,
                           .project_id = "p1",
                           .project_slug = "acme",
                           .service_id = "s1",
                           .service_name = "shop",
                           .environment = "production",
                           .url = "https://shop.example",
                           .detail = "",
                           .subject_id = "d1",
                           .commit_sha = SHA,
                           .commit_ref = "refs/heads/main",
                           .commit_message = "fix"};
}

static void every_type_is_known_or_not(void **state)
{
    (void)state;
    assert_string_equal(decide_rule("dev.enclii.deployment.healthy.v1")->type,
                        "deployment.succeeded");
    assert_string_equal(decide_rule("dev.enclii.deployment.rolled_back.v1")->status, "failure");
    assert_null(decide_rule("dev.enclii.build.step.v1"));
    assert_null(decide_rule("dev.enclii.build.failed.v2"));
    assert_null(decide_rule(""));
}

static void channels_get_what_they_want(void **state)
{
    (void)state;
    static const struct {
        const char *project, *kind, *wanted, *event;
        bool enabled, told;
    } rows[] = {
        {"p1", "webhook", NULL, "dev.enclii.deployment.healthy.v1", true, true},
        {"p1", "webhook", NULL, "dev.enclii.deployment.healthy.v1", false, false},
        {"p2", "webhook", NULL, "dev.enclii.deployment.healthy.v1", true, false},
        {"", "github", NULL, "dev.enclii.deployment.healthy.v1", true, true},
        {"p1", "webhook", NULL, "dev.enclii.build.queued.v1", true, false}, /* not final */
        {"p1", "github", NULL, "dev.enclii.build.queued.v1", true, true},
        {"p1", "webhook", "build.started", "dev.enclii.build.queued.v1", true, true},
        {"p1", "webhook", "build.queued", "dev.enclii.build.queued.v1", true, true},
        {"p1", "webhook", "build.failed", "dev.enclii.deployment.failed.v1", true, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *types[] = {(char *)(uintptr_t)rows[i].wanted, NULL};
        struct channel channel = {.project_id = (char *)(uintptr_t)rows[i].project,
                                  .kind = (char *)(uintptr_t)rows[i].kind,
                                  .event_types = types,
                                  .enabled = rows[i].enabled};
        struct notice notice = notice_of(rows[i].event);
        assert_int_equal(decide_channel_wants(&channel, &notice), rows[i].told);
    }
}

static void failures_that_pipeline_may_turn(void **state)
{
    (void)state;
    Enclii__V1__BuildFailed fact = ENCLII__V1__BUILD_FAILED__INIT;
    fact.builder_id = (char[]){"b1"};
    assert_true(decide_build_failure_final(&fact));
    fact.retryable = true;
    assert_false(decide_build_failure_final(&fact));
    fact.retryable = false;
    fact.reason = ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_TIMED_OUT;
    assert_false(decide_build_failure_final(&fact)); /* pipeline says build.timed_out itself */
    fact.builder_id = (char[]){""};
    assert_true(decide_build_failure_final(&fact));
}

static void bodies(void **state)
{
    (void)state;
    struct notice notice = notice_of("dev.enclii.deployment.failed.v1");
    ec_cleanup(ec_json_freep) json_t *root = NULL, *status = NULL;
    char detail[400];
    memset(detail, 'x', sizeof detail);
    detail[sizeof detail - 1] = '\0';
    notice.detail = detail;
    assert_false(
        ec_failed(ec_json_parse(arena, ec_span_of(decide_body(arena, &notice, "n1")), &root)));
    assert_string_equal(ec_json_text(root, "id"), "n1");
    assert_string_equal(ec_json_text(root, "type"), "deployment.failed");
    assert_string_equal(ec_json_text(root, "timestamp"), "2026-01-02T03:04:05.678Z");
    assert_string_equal(ec_json_text(root, "project.slug"), "acme");
    assert_string_equal(ec_json_text(root, "deployment.environment"), "production");
    assert_string_equal(ec_json_text(root, "deployment.branch"), "main");
    assert_string_equal(ec_json_text(root, "deployment.error"), detail);
    assert_false(ec_failed(ec_json_parse(
        arena, ec_span_of(decide_github_body(arena, &notice, "https://enclii.example")), &status)));
    assert_string_equal(ec_json_text(status, "state"), "failure");
    assert_string_equal(ec_json_text(status, "context"), "enclii/shop/production");
    assert_int_equal(strlen(ec_json_text(status, "description")), 140);
    assert_string_equal(ec_json_text(status, "target_url"), "https://enclii.example/services/s1");
}

static void paths_waits_and_outcomes(void **state)
{
    (void)state;
    assert_string_equal(decide_status_path(arena, "github.com/acme/shop", SHA),
                        "/repos/acme/shop/statuses/" SHA);
    assert_null(decide_status_path(arena, "github.com/shop", SHA));
    assert_null(decide_status_path(arena, "github.com/acme/sh?p", SHA));
    assert_null(decide_status_path(arena, "github.com/acme/shop", "../../evil"));
    assert_int_equal(decide_wait_ms(1, 0), 5000);
    assert_int_equal(decide_wait_ms(2, 0), 10000);
    assert_int_equal(decide_wait_ms(1, 60000), 60000);
    assert_int_equal(decide_wait_ms(99, 0), 6 * 3600 * 1000);
    assert_int_equal(decide_wait_ms(1, INT64_MAX), 6 * 3600 * 1000);
    assert_int_equal(decide_outcome("webhook", 204), OUTCOME_SENT);
    assert_int_equal(decide_outcome("webhook", 302), OUTCOME_AGAIN);
    assert_int_equal(decide_outcome("webhook", 404), OUTCOME_AGAIN);
    assert_int_equal(decide_outcome("webhook", 410), OUTCOME_NEVER);
    assert_int_equal(decide_outcome("github", 201), OUTCOME_SENT);
    assert_int_equal(decide_outcome("github", 403), OUTCOME_AGAIN);
    assert_int_equal(decide_outcome("github", 422), OUTCOME_NEVER);
}

static int open_arena(void **state)
{
    (void)state;
    arena = ec_arena_new(1 << 20);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    ec_arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_known_or_not),
        cmocka_unit_test(channels_get_what_they_want),
        cmocka_unit_test(failures_that_pipeline_may_turn),
        cmocka_unit_test(bodies),
        cmocka_unit_test(paths_waits_and_outcomes),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
