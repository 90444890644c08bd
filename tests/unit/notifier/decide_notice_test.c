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
    return (struct notice){
        .rule = decide_rule(type),
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
        .commit_message = "fix",
        .pull = {.number = 7,
                 .title = "Add a cat",
                 .url = "https://h/pull/7",
                 .author = "eve",
                 .author_association = "NONE",
                 .command = "enclii approve 7 --commit 222222222222 --service shop",
                 .by = "ada",
                 .reason = ""}};
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
        {"", "status", NULL, "dev.enclii.build.queued.v1", true, true},
        /* Somebody has to hear that an approval is waited for, though nothing ended. */
        {"p1", "webhook", NULL, "dev.enclii.approval.needed.v1", true, true},
        {"", "status", NULL, "dev.enclii.approval.needed.v1", true, true},
        {"p1", "webhook", NULL, "dev.enclii.approval.given.v1", true, true},
        {"", "status", NULL, "dev.enclii.approval.given.v1", true, false}, /* its build says more */
        {"p1", "webhook", NULL, "dev.enclii.approval.lapsed.v1", true, true},
        {"p1", "webhook", NULL, "dev.enclii.approval.superseded.v1", true, false},
        {"p1", "webhook", "build.failed", "dev.enclii.approval.needed.v1", true, false},
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
    struct ec_githost_status read;
    char *row = decide_status_row(arena, &notice, "https://enclii.example");
    assert_false(ec_failed(decide_status(arena, row, SHA, &read)));
    assert_string_equal(read.sha, SHA);
    assert_string_equal(read.ref, "refs/heads/main");
    char *body = ec_githost_status_body(arena, EC_GITHOST_GITHUB, &read, NULL);
    assert_false(ec_failed(ec_json_parse(arena, ec_span_of(body), &status)));
    assert_string_equal(ec_json_text(status, "state"), "failure");
    assert_string_equal(ec_json_text(status, "context"), "enclii/shop/production");
    assert_int_equal(strlen(ec_json_text(status, "description")), 140);
    assert_string_equal(ec_json_text(status, "target_url"), "https://enclii.example/services/s1");
    assert_true(ec_failed(decide_status(arena, "no json", SHA, &read)));
}

static void every_state_has_a_word_at_every_host(void **state)
{
    (void)state;
    static const struct {
        const char *event, *github, *gitlab, *gitea;
    } rows[] = {
        {"dev.enclii.build.queued.v1", "pending", "pending", "pending"},
        {"dev.enclii.approval.needed.v1", "pending", "pending", "pending"},
        {"dev.enclii.release.ready.v1", "success", "success", "success"},
        {"dev.enclii.build.failed.v1", "failure", "failed", "failure"},
        {"dev.enclii.build.timed_out.v1", "error", "failed", "error"},
        {"dev.enclii.build.superseded.v1", "error", "canceled", "error"},
        {"dev.enclii.approval.lapsed.v1", "error", "canceled", "error"},
    };
    static const enum ec_githost_kind kinds[] = {EC_GITHOST_GITHUB, EC_GITHOST_GITLAB,
                                                 EC_GITHOST_GITEA};
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        const char *const words[] = {rows[i].github, rows[i].gitlab, rows[i].gitea};
        struct notice notice = notice_of(rows[i].event);
        struct ec_githost_status read;
        assert_false(
            ec_failed(decide_status(arena, decide_status_row(arena, &notice, ""), SHA, &read)));
        for (size_t k = 0; k < EC_LEN(kinds); k++) {
            char *body = ec_githost_status_body(arena, kinds[k], &read, NULL);
            char *want = ec_arena_format(arena, "{\"state\":\"%s\",", words[k]);
            assert_memory_equal(body, want, strlen(want));
        }
    }
    assert_false(decide_host_hears(EC_GITHOST_GITLAB, "build.waiting"));
    assert_true(decide_host_hears(EC_GITHOST_GITLAB, "build.queued"));
    assert_true(decide_host_hears(EC_GITHOST_GITHUB, "build.waiting"));
}

static void an_approval_in_one_sentence(void **state)
{
    (void)state;
    struct notice notice = notice_of("dev.enclii.approval.needed.v1");
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    assert_false(
        ec_failed(ec_json_parse(arena, ec_span_of(decide_body(arena, &notice, "n1")), &root)));
    assert_string_equal(ec_json_text(root, "text"),
                        "shop: pull request #7 of eve comes from a fork and waits for an approval; "
                        "look at it: https://h/pull/7, then: enclii approve 7 --commit "
                        "222222222222 --service shop");
    assert_string_equal(ec_json_text(root, "pull_request.author"), "eve");
    assert_string_equal(ec_json_text(root, "pull_request.title"), "Add a cat");
    assert_string_equal(ec_json_text(root, "pull_request.status"), "needed");
    assert_int_equal(ec_json_int(root, "pull_request.number", 0), 7);
    assert_null(json_object_get(root, "build"));
    struct ec_githost_status read;
    assert_false(
        ec_failed(decide_status(arena, decide_status_row(arena, &notice, ""), SHA, &read)));
    assert_string_equal(read.context, "enclii/shop/build"); /* where its build will be */
    assert_string_equal(read.description, "Waits for an approval: enclii approve 7 --commit "
                                          "222222222222 --service shop");
    notice = notice_of("dev.enclii.approval.given.v1");
    notice.pull.reason = "looks fine";
    assert_string_equal(decide_sentence(arena, &notice),
                        "shop: ada approved commit 222222222222 of pull request #7 of eve: looks "
                        "fine");
    notice = notice_of("dev.enclii.approval.refused.v1");
    notice.pull.reason = "it is not the head";
    assert_string_equal(decide_sentence(arena, &notice),
                        "shop: the approval of commit 222222222222 of pull request #7 by ada was "
                        "refused: it is not the head");
    notice = notice_of("dev.enclii.approval.lapsed.v1");
    notice.pull.reason = "it was closed";
    assert_string_equal(decide_sentence(arena, &notice),
                        "shop: nobody approved commit 222222222222 of pull request #7 of eve: it "
                        "was closed");
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
    static const struct {
        const char *kind;
        int status, attempts;
        enum outcome outcome;
    } rows[] = {
        {"webhook", 204, 1, OUTCOME_SENT},  {"webhook", 302, 1, OUTCOME_AGAIN},
        {"webhook", 404, 9, OUTCOME_AGAIN}, {"webhook", 410, 1, OUTCOME_NEVER},
        {"status", 201, 1, OUTCOME_SENT},   {"status", 403, 9, OUTCOME_AGAIN},
        {"status", 422, 1, OUTCOME_NEVER},  {"status", 400, 1, OUTCOME_NEVER},
        {"status", 404, 1, OUTCOME_AGAIN},  {"status", 404, 3, OUTCOME_NEVER},
        {"github", 422, 1, OUTCOME_NEVER},  {"status", 429, 9, OUTCOME_AGAIN},
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        enum outcome got = decide_outcome(rows[i].kind, rows[i].status, rows[i].attempts);
        if (got != rows[i].outcome) {
            fail_msg("%s %d: %d", rows[i].kind, rows[i].status, (int)got);
        }
    }
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
        cmocka_unit_test(every_state_has_a_word_at_every_host),
        cmocka_unit_test(an_approval_in_one_sentence),
        cmocka_unit_test(paths_waits_and_outcomes),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
