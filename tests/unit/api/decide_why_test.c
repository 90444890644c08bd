/* decide_why: one case per thing that can hold a push or end it; every waiting state says what it
 * waits for and what ends it; and the table of rules knows every rule that the sources give. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "decide_why.h"
#include "enclii/v1/build.pb-c.h"

/* Lives until the next call. */
static const char *text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *text_of(const char *format, ...)
{
    static char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return text;
}

static struct why_facts nothing(void)
{
    return (struct why_facts){
        .repo_key = "git.test/acme/shop",
        .branch = "main",
        .auto_deploy = 1,
        .delivery = {.id = "",
                     .state = "",
                     .reason = "",
                     .detail = "",
                     .ref = "",
                     .commit_sha = "",
                     .event = "push",
                     .rule = "",
                     .rule_detail = ""},
        .build =
            {.id = "", .state = "", .reason = "", .detail = "", .commit_sha = "", .builder_id = ""},
        .release = {.id = "",
                    .state = "",
                    .reason = "",
                    .detail = "",
                    .version = "",
                    .rule = "",
                    .rule_detail = ""},
        .deployment = {.id = "",
                       .state = "",
                       .reason = "",
                       .detail = "",
                       .version = "",
                       .environment = "",
                       .serving = ""},
        .domain = {.hostname = "", .state = "", .reason = "", .detail = ""},
    };
}

/* A push that went well up to the deployment. */
static struct why_facts served(void)
{
    struct why_facts facts = nothing();
    facts.delivery.id = "d1";
    facts.delivery.state = "ACCEPTED";
    facts.delivery.ref = "refs/heads/main";
    facts.delivery.commit_sha = "1234567890";
    facts.build.id = "b1";
    facts.build.state = "SUCCEEDED";
    facts.build.commit_sha = "1234567890";
    facts.release.id = "r1";
    facts.release.state = "READY";
    facts.release.version = "v7";
    facts.deployment.id = "x1";
    facts.deployment.state = "HEALTHY";
    facts.deployment.version = "v7";
    facts.deployment.environment = "production";
    return facts;
}

static void expect(const struct why_facts *facts, const char *stage, const char *rule, int waiting,
                   const char *says)
{
    struct ec_arena *arena = ec_arena_new(1 << 20);
    struct why why;
    decide_why(facts, arena, &why);
    assert_string_equal(why.stage, stage);
    assert_string_equal(why.rule, rule);
    assert_int_equal(why.waiting, waiting);
    if (!strstr(why.sentence, says)) {
        fail_msg("\"%s\" does not say \"%s\"", why.sentence, says);
    }
    size_t len = strlen(why.sentence);
    assert_int_equal(why.sentence[len - 1], '.'); /* one whole sentence, no ".." */
    assert_int_not_equal(why.sentence[len - 2], '.');
    if (waiting) { /* it says what ends the waiting, too */
        assert_non_null(why.next);
        assert_true(strlen(why.next) > 20);
        assert_non_null(strstr(why.sentence, why.next));
    }
    ec_arena_free(arena);
}

static void test_nothing_pushed(void **state)
{
    (void)state;
    struct why_facts facts = nothing();
    expect(&facts, "push", "nothing_pushed", 0, "git.test/acme/shop (branch main)");
}

/* ---- what waits: for what, and what ends it ---- */

static void test_waiting_pushes_and_builds(void **state)
{
    (void)state;
    struct why_facts facts = nothing();
    facts.delivery.id = "d1";
    facts.delivery.ref = "refs/heads/main";
    facts.delivery.commit_sha = "abcdef0123";
    facts.delivery.state = "received";
    expect(&facts, "delivery", "not_decided", 1, "waits for pipeline; it ends when pipeline has");
    facts.delivery.state = "ACCEPTED";
    expect(&facts, "delivery", "accepted", 1, "waits for its build to be made; it ends within");
    facts.build.id = "b1";
    facts.build.commit_sha = "1234567890";
    facts.build.state = "queued";
    facts.build.since_ms = 3200;
    facts.build.left_ms = 3590000;
    expect(&facts, "queue", "no_builder", 1,
           "waited 3.2s because no builder is alive; it begins as soon as one is started, and is "
           "given up in 59m50s.");
    facts.build.builders = 2;
    facts.build.slots = facts.build.busy_slots = 4;
    facts.build.ahead = 3;
    expect(&facts, "queue", "no_free_slot", 1,
           "4 of 4 slots on 2 builder(s) are busy, 3 build(s) go first; it begins when a build");
    facts.build.busy_slots = 1;
    expect(&facts, "queue", "not_its_turn", 1, "unless a limit of its project or of all builds");
    facts.build.slots = facts.build.busy_slots = 0; /* all of them are draining */
    expect(&facts, "queue", "no_free_slot", 1, "0 of 0 slots");
    facts.build.state = "leased";
    facts.build.builder_id = "b-1";
    facts.build.attempt = 2;
    expect(&facts, "build", "leased", 1,
           "builder b-1, attempt 2, 3.2s ago and waits for its first word; without it");
    facts.build.losses = 1;
    expect(&facts, "build", "leased", 1,
           "for its first word (its builder was lost once before, which is no attempt of its own)");
    facts.build.losses = 3;
    facts.build.state = "running";
    expect(&facts, "build", "running", 1, "(its builder was lost 3 times before");
    facts.build.losses = 0;
    facts.build.left_ms = -5; /* the reaper is about to come */
    expect(&facts, "build", "running", 1, "by its time limit any moment now.");
    facts.build.state = "SUCCEEDED";
    expect(&facts, "signature", "not_begun", 1, "waits for pipeline to make it");
}

static void test_waiting_releases_and_rollouts(void **state)
{
    (void)state;
    struct why_facts facts = served();
    facts.deployment.state = "";
    facts.release.state = "signing";
    facts.release.since_ms = 61000;
    facts.release.left_ms = 9000;
    expect(&facts, "signature", "signing", 1,
           "v7 has been with the signer for 1m01s (SBOM, provenance, signature, verification); it "
           "ends with the signer's word, or is refused (signing_timed_out) in 9.0s.");
    facts.release.state = "building";
    expect(&facts, "signature", "signing", 1, "with the signer");
    facts.release.state = "READY";
    expect(&facts, "rollout", "not_begun", 1, "waits for pipeline to deploy it");
    facts.deployment.state = "pending";
    expect(&facts, "rollout", "pending", 1, "to be rolled out in production; pipeline begins it");
    facts.deployment.state = "waiting";
    expect(&facts, "rollout", "gate", 1, "for somebody to let it into production; it ends with");
    facts.deployment.state = "rolling";
    facts.deployment.weight = 50;
    expect(&facts, "rollout", "rolling", 1, "has 50 % of the traffic; it ends when it has taken");
}

static void test_waiting_domains(void **state)
{
    (void)state;
    static const char *const states[] = {"pending", "verifying", "issuing"};
    struct why_facts facts = served();
    facts.domain.hostname = "shop.test";
    for (size_t i = 0; i < EC_LEN(states); i++) {
        facts.domain.state = states[i];
        expect(&facts, "domain", states[i], 1, "shop.test has no certificate yet (");
    }
    facts.domain.state = "failed";
    facts.domain.reason = "dns";
    facts.domain.detail = "no such host.";
    facts.domain.left_ms = 30000;
    expect(&facts, "domain", "dns", 1,
           "no certificate yet: dns: no such host; it is tried again in 30.0s.");
}

/* ---- what ended, or never began ---- */

static void test_ignored_pushes(void **state)
{
    (void)state;
    static const char *const rules[] = {
        "branch_not_watched", "paths_not_watched", "skip_marker",       "ref_deleted",
        "no_service",         "already_building",  "duplicate_delivery"};
    for (size_t i = 0; i < EC_LEN(rules); i++) {
        struct why_facts facts = nothing();
        facts.delivery.id = "d1";
        facts.delivery.state = "IGNORED";
        facts.delivery.reason = rules[i];
        facts.delivery.detail = "that is how it is";
        facts.delivery.ref = "refs/heads/dev";
        facts.delivery.commit_sha = "abcdef0123";
        expect(&facts, "delivery", rules[i], 0,
               text_of("abcdef0 to refs/heads/dev was ignored: %s: that is how it is.", rules[i]));
        facts.delivery.detail = "";
        expect(&facts, "delivery", rules[i], 0, why_rule_find(rules[i])->means);
        /* Others build of the push: this service has its own reason. */
        facts.delivery.state = "ACCEPTED";
        facts.delivery.reason = "";
        facts.delivery.rule = rules[i];
        facts.delivery.rule_detail = "none of the 3 changed files";
        expect(&facts, "delivery", rules[i], 0, "builds nothing of this service");
        facts.build.id = "b1"; /* a build there is speaks for itself */
        facts.build.state = "running";
        facts.build.builder_id = "b-1";
        expect(&facts, "build", "running", 1, "runs on builder b-1");
    }
}

/* What hosts say besides pushes. */
static void test_other_events(void **state)
{
    (void)state;
    static const char *const reasons[] = {"ping", "event_not_used", "action_not_used", "no_change",
                                          "no_image"};
    struct why_facts facts = nothing();
    facts.delivery.id = "d1";
    facts.delivery.event = "pull_request";
    facts.delivery.state = "IGNORED";
    for (size_t i = 0; i < EC_LEN(reasons); i++) {
        facts.delivery.reason = reasons[i];
        expect(&facts, "delivery", reasons[i], 0,
               "\"pull_request\" from git.test/acme/shop is no push and was ignored: ");
        expect(&facts, "delivery", reasons[i], 0, why_rule_find(reasons[i])->means);
    }
    facts.delivery.state = "ACCEPTED";
    facts.delivery.reason = "";
    facts.delivery.detail = "told as PullRequestChanged on enclii.intake";
    expect(&facts, "delivery", "told", 0,
           "was taken: told as PullRequestChanged on enclii.intake.");
}

static void test_ended_builds(void **state)
{
    (void)state;
    static const struct {
        const char *state, *reason;
    } cases[] = {{"FAILED", "FETCH"},
                 {"FAILED", "NOT_DETECTED"},
                 {"FAILED", "BUILD"},
                 {"FAILED", "OUT_OF_MEMORY"},
                 {"FAILED", "PUSH"},
                 {"FAILED", "LOST"},
                 {"FAILED", "INTERNAL"},
                 {"FAILED", "UNSPECIFIED"},
                 {"TIMED_OUT", "build_timed_out"},
                 {"TIMED_OUT", "no_builder"},
                 {"CANCELLED", "cancel_asked_for"},
                 {"CANCELLED", "service_removed"},
                 {"SUPERSEDED", "superseded_by_newer_push"}};
    struct why_facts facts = nothing();
    facts.build.id = "b1";
    facts.build.commit_sha = "1234567890";
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        facts.build.state = cases[i].state;
        facts.build.reason = cases[i].reason;
        expect(&facts, "build", cases[i].reason, 0,
               text_of("ended as %s: %s. ", cases[i].state, cases[i].reason));
        expect(&facts, "build", cases[i].reason, 0, why_rule_find(cases[i].reason)->means);
    }
    facts.build.reason = "";
    expect(&facts, "build", "build_ended", 0, "no reason was given.");
}

static void test_ended_releases(void **state)
{
    (void)state;
    static const char *const reasons[] = {
        "digest_mismatch", "digest_not_in_registry", "sbom_failed", "provenance_failed",
        "sign_failed",     "store_failed",           "refused",     "self_verification_failed",
        "service_removed", "signing_timed_out"};
    struct why_facts facts = served();
    facts.deployment.state = "";
    facts.release.state = "REJECTED";
    for (size_t i = 0; i < EC_LEN(reasons); i++) {
        facts.release.reason = reasons[i];
        expect(&facts, "signature", reasons[i], 0, "v7 was refused and will not be deployed: ");
        expect(&facts, "signature", reasons[i], 0, why_rule_find(reasons[i])->means);
    }
}

static void test_releases_that_are_not_deployed(void **state)
{
    (void)state;
    static const char *const rules[] = {"auto_deploy_off", "branch_not_deployed", "no_environment",
                                        "newer_release_wanted", "service_removed"};
    struct why_facts facts = served();
    facts.deployment.state = "";
    for (size_t i = 0; i < EC_LEN(rules); i++) {
        facts.release.rule = rules[i];
        facts.release.rule_detail = "as decided";
        expect(&facts, "rollout", rules[i], 0,
               text_of("v7 is ready and was not deployed: %s: as decided.", rules[i]));
    }
    facts.release.rule = facts.release.rule_detail = "";
    facts.auto_deploy = 0; /* even when nothing was recorded */
    expect(&facts, "rollout", "auto_deploy_off", 0, "deploys by hand only");
}

static void test_ended_deployments(void **state)
{
    (void)state;
    static const struct {
        const char *state, *reason;
    } cases[] = {
        {"ROLLED_BACK", "image_pull_failed"}, {"ROLLED_BACK", "start_failed"},
        {"ROLLED_BACK", "never_listened"},    {"ROLLED_BACK", "unhealthy"},
        {"ROLLED_BACK", "error_rate"},        {"FAILED", "deadline"},
        {"FAILED", "release_not_ready"},      {"FAILED", "unknown_environment"},
        {"FAILED", "unknown_release"},        {"CANCELLED", "cancel_asked_for"},
        {"CANCELLED", "service_removed"},     {"SUPERSEDED", "superseded_by_newer_deployment"}};
    struct why_facts facts = served();
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        facts.deployment.state = cases[i].state;
        facts.deployment.reason = cases[i].reason;
        facts.deployment.detail = "GET / answered 500\nlast lines of its log:\nshop\n";
        expect(&facts, "rollout", cases[i].reason, 0,
               text_of("The deployment of v7 to production ended as %s: %s: GET / answered "
                       "500.",
                       cases[i].state, cases[i].reason));
    }
    facts.deployment.serving = "v6";
    expect(&facts, "rollout", "superseded_by_newer_deployment", 0,
           "answered 500. v6 serves there.");
}

static void test_served(void **state)
{
    (void)state;
    struct why_facts facts = served();
    expect(&facts, "done", "healthy", 0, "v7 of commit 1234567 serves in production.");
    facts.deployment.serving = "v7";
    expect(&facts, "done", "healthy", 0, "serves in production.");
    facts.deployment.serving = "v8";
    expect(&facts, "done", "replaced", 0, "was healthy in production; v8 serves there now.");
}

/* ---- pull requests and the host's CI ---- */

static void test_waiting_for_ci(void **state)
{
    (void)state;
    struct why_facts facts = served();
    facts.build.state = "waiting";
    facts.build.reason = "wait_for_ci";
    facts.build.detail = "Tests (in_progress) https://h/runs/1";
    facts.build.since_ms = 3200;
    facts.build.left_ms = 3590000;
    expect(&facts, "queue", "wait_for_ci", 1,
           "The build of 1234567 has waited 3.2s for CI: Tests (in_progress) https://h/runs/1; it "
           "begins once every run is over");
    facts.build.state = "CANCELLED";
    facts.build.reason = "ci_failed";
    facts.build.detail = "Tests ended as failure: https://h/runs/1";
    expect(&facts, "build", "ci_failed", 0, "Tests ended as failure: https://h/runs/1.");
    facts.build.state = "TIMED_OUT";
    facts.build.reason = "ci_timed_out";
    facts.build.detail = "";
    expect(&facts, "build", "ci_timed_out", 0, "was not over in time.");
}

static void test_pull_requests(void **state)
{
    (void)state;
    struct why_facts facts = served();
    facts.delivery.event = "pull_request";
    facts.delivery.ref = "refs/pull/7/head";
    facts.delivery.state = "IGNORED";
    facts.delivery.reason = "fork_of_stranger";
    facts.delivery.detail = "pull request #7 of eve (NONE) comes from a fork";
    expect(&facts, "delivery", "fork_of_stranger", 0,
           "The pull request with head 1234567 at refs/pull/7/head was ignored: fork_of_stranger");
    facts = served();
    facts.deployment.state = "";
    facts.build.pull_request = 7;
    facts.build.author = "eve";
    facts.build.approved_by = "";
    facts.build.untrusted = 1;
    expect(&facts, "rollout", "approval_needed", 0,
           "Release v7 (pull request #7 of eve, from a fork) is ready and was not deployed: "
           "nobody has approved");
    facts.build.approved_by = "ada";
    expect(&facts, "rollout", "pull_request_not_deployed", 0,
           "(pull request #7 of eve, from a fork, approved by ada)");
    facts.build.untrusted = 0;
    facts.build.approved_by = "";
    expect(&facts, "rollout", "pull_request_not_deployed", 0, "only pushes deploy by themselves");
    facts.build.state = "FAILED";
    facts.build.reason = "BUILD";
    facts.build.detail = "exit code 1";
    expect(&facts, "build", "BUILD", 0,
           "The build of 1234567 (pull request #7 of eve) ended as FAILED: BUILD: exit code 1.");
}

/* ---- the table and the sources it speaks of ---- */

/* Literals like "branch_not_watched" in a source file that decides: all of them are rules, but for
 * the metrics and the few words below. */
static void check_literals(const char *path)
{
    static const char *const others[] = {"mark_failed", "check_suite", "workflow_run",
                                         "in_progress", "ready_for_review"};
    FILE *file = fopen(path, "re");
    char line[512];
    if (!file) {
        fail_msg("%s cannot be read; tests run in the root of the tree", path);
        return;
    }
    while (fgets(line, sizeof line, file)) {
        for (char *at = strchr(line, '"'); at; at = strchr(at + 1, '"')) {
            size_t len = strspn(at + 1, "abcdefghijklmnopqrstuvwxyz_");
            if (at[len + 1] != '"' || !memchr(at + 1, '_', len) ||
                strncmp(at + 1, "enclii_", 7) == 0) {
                continue;
            }
            char word[128];
            snprintf(word, sizeof word, "%.*s", (int)len, at + 1);
            bool other = false;
            for (size_t i = 0; i < EC_LEN(others); i++) {
                other = other || strcmp(others[i], word) == 0;
            }
            if (!other && !why_rule_find(word)) {
                fail_msg("%s gives the rule %s; services/api/why_rules.c does not know it", path,
                         word);
            }
            at += len + 1;
        }
    }
    fclose(file);
}

static void test_every_rule_of_the_sources(void **state)
{
    (void)state;
    static const char *const patterns[] = {"services/pipeline/decide_*.c"};
    for (size_t p = 0; p < EC_LEN(patterns); p++) {
        glob_t found;
        assert_int_equal(glob(patterns[p], 0, NULL, &found), 0);
        assert_true(found.gl_pathc > 5);
        for (size_t i = 0; i < found.gl_pathc; i++) {
            check_literals(found.gl_pathv[i]);
        }
        globfree(&found);
    }
    static const char *const elsewhere[] = {/* signer and reconciler */
                                            "digest_not_in_registry",
                                            "sbom_failed",
                                            "provenance_failed",
                                            "sign_failed",
                                            "store_failed",
                                            "self_verification_failed",
                                            "image_pull_failed",
                                            "start_failed",
                                            "never_listened",
                                            "unhealthy",
                                            "error_rate"};
    for (size_t i = 0; i < EC_LEN(elsewhere); i++) {
        assert_non_null(why_rule_find(elsewhere[i]));
    }
    for (size_t i = 0; i <= ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL; i++) {
        const ProtobufCEnumValue *value =
            protobuf_c_enum_descriptor_get_value(&enclii__v1__build_failure__descriptor, (int)i);
        assert_non_null(why_rule_find(value->name + strlen("BUILD_FAILURE_")));
    }
}

static void test_the_table_is_well_formed(void **state)
{
    (void)state;
    for (size_t i = 0; i < why_rule_count; i++) {
        const struct why_rule *rule = &why_rules[i];
        assert_ptr_equal(why_rule_find(rule->rule), rule); /* no rule twice */
        assert_int_equal(rule->means[strlen(rule->means) - 1], '.');
        assert_true(!rule->next[0] || rule->next[strlen(rule->next) - 1] == '.');
    }
    assert_null(why_rule_find("because_i_say_so"));
    assert_null(why_rule_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_pushed),
        cmocka_unit_test(test_waiting_pushes_and_builds),
        cmocka_unit_test(test_waiting_releases_and_rollouts),
        cmocka_unit_test(test_waiting_domains),
        cmocka_unit_test(test_ignored_pushes),
        cmocka_unit_test(test_other_events),
        cmocka_unit_test(test_ended_builds),
        cmocka_unit_test(test_ended_releases),
        cmocka_unit_test(test_releases_that_are_not_deployed),
        cmocka_unit_test(test_ended_deployments),
        cmocka_unit_test(test_served),
        cmocka_unit_test(test_waiting_for_ci),
        cmocka_unit_test(test_pull_requests),
        cmocka_unit_test(test_every_rule_of_the_sources),
        cmocka_unit_test(test_the_table_is_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
