/* decide_why: one case per thing that can hold a push, newest stage first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "decide_why.h"

static struct why_facts nothing(void)
{
    return (struct why_facts){
        .repo_key = "git.test/acme/shop",
        .branch = "main",
        .delivery = {"", "", "", "", "", ""},
        .build =
            {.id = "", .state = "", .reason = "", .detail = "", .commit_sha = "", .builder_id = ""},
        .release = {.id = "", .state = "", .reason = "", .detail = "", .version = ""},
        .deployment = {.id = "",
                       .state = "",
                       .reason = "",
                       .detail = "",
                       .version = "",
                       .environment = "",
                       .auto_deploy = 1},
        .domain = {"", "", "", ""},
    };
}

/* A push that went well up to the deployment. */
static struct why_facts served(void)
{
    struct why_facts facts = nothing();
    facts.delivery.id = "d1";
    facts.delivery.state = "ACCEPTED";
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
    ec_arena_free(arena);
}

static void test_nothing_pushed(void **state)
{
    (void)state;
    struct why_facts facts = nothing();
    expect(&facts, "push", "nothing_pushed", 0, "git.test/acme/shop (branch main)");
}

static void test_ignored_push(void **state)
{
    (void)state;
    struct why_facts facts = nothing();
    facts.delivery.id = "d1";
    facts.delivery.state = "IGNORED";
    facts.delivery.reason = "branch_not_watched";
    facts.delivery.detail = "the service deploys main";
    facts.delivery.ref = "refs/heads/dev";
    facts.delivery.commit_sha = "abcdef0123";
    expect(&facts, "delivery", "branch_not_watched", 0,
           "abcdef0 to refs/heads/dev was ignored: branch_not_watched: the service deploys main");
    facts.delivery.state = "received";
    expect(&facts, "delivery", "not_decided", 1, "being looked at");
    facts.delivery.state = "ACCEPTED";
    expect(&facts, "delivery", "accepted", 1, "its build is being made");
}

static void test_builds(void **state)
{
    (void)state;
    struct why_facts facts = nothing();
    facts.build.id = "b1";
    facts.build.commit_sha = "1234567890";
    facts.build.state = "queued";
    facts.build.since_ms = 3200;
    expect(&facts, "queue", "no_builder", 1, "no builder is alive");
    facts.build.builders = 2;
    facts.build.ahead = 3;
    expect(&facts, "queue", "no_free_slot", 1, "3 build(s) go first");
    facts.build.state = "running";
    facts.build.builder_id = "b-1";
    facts.build.attempt = 2;
    expect(&facts, "build", "running", 1, "builder b-1, attempt 2");
    facts.build.state = "FAILED";
    facts.build.reason = "not_detected";
    expect(&facts, "build", "not_detected", 0, "ended as FAILED: not_detected.");
    facts.build.reason = "";
    expect(&facts, "build", "build_ended", 0, "no reason was given");
    facts.build.state = "SUCCEEDED";
    expect(&facts, "signature", "not_begun", 1, "about to be made");
}

static void test_releases_and_rollouts(void **state)
{
    (void)state;
    struct why_facts facts = served();
    facts.deployment.state = "";
    facts.release.state = "signing";
    expect(&facts, "signature", "signing", 1, "v7 has been with the signer");
    facts.release.state = "REJECTED";
    facts.release.reason = "sbom_failed";
    expect(&facts, "signature", "sbom_failed", 0, "will not be deployed");
    facts.release.state = "READY";
    expect(&facts, "rollout", "not_begun", 1, "about to begin");
    facts.deployment.auto_deploy = 0;
    expect(&facts, "rollout", "auto_deploy_off", 0, "auto-deploy is off");
    facts.deployment.state = "rolling";
    facts.deployment.weight = 50;
    expect(&facts, "rollout", "rolling", 1, "50 % of the traffic");
    facts.deployment.state = "ROLLED_BACK";
    facts.deployment.reason = "unhealthy";
    facts.deployment.detail = "GET / answered 500";
    expect(&facts, "rollout", "unhealthy", 0,
           "ended as ROLLED_BACK: unhealthy: GET / answered 500");
}

static void test_served_and_domains(void **state)
{
    (void)state;
    struct why_facts facts = served();
    expect(&facts, "done", "healthy", 0, "v7 of commit 1234567 serves in production");
    facts.domain.hostname = "shop.test";
    facts.domain.state = "issuing";
    expect(&facts, "domain", "issuing", 1, "shop.test has no certificate yet: it is issuing");
    facts.domain.state = "failed";
    facts.domain.reason = "dns";
    expect(&facts, "domain", "dns", 1, "it failed and is tried again, dns");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_pushed),
        cmocka_unit_test(test_ignored_push),
        cmocka_unit_test(test_builds),
        cmocka_unit_test(test_releases_and_rollouts),
        cmocka_unit_test(test_served_and_domains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
