/* Pull requests over a real PostgreSQL: who may approve what, which commit, what the list and `why`
 * say, and that a fork's release is not asked to be deployed before somebody let it in. */
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
#define SHA_3 "3333333333333333333333333333333333333333"

static struct api_fixture fx;
static struct api_place shop, other;
static char viewer[80], developer[80], stranger[80];
static char path[300];

static const char *of_shop(const char *rest)
{
    snprintf(path, sizeof path, "/v1/services/%s%s", shop.service_id, rest);
    return path;
}

static void expect(const char *at, const char *token, const char *body, int status,
                   const char *code)
{
    int got = api_ask(&fx, "POST", at, token, body);
    if (got != status || strcmp(api_text(&fx, "code"), code) != 0) {
        fail_msg("%s: %d %s, not %d %s: %s", at, got, api_text(&fx, "code"), status, code, fx.text);
    }
}

static const char *asked(void)
{
    return test_pg_value(
        fx.pg, "select count(*) from enclii.outbox where type = 'dev.enclii.request.approve.v1'");
}

/* #7 comes from a fork, its head before the last was built; #8 is a branch of the repository. */
static void rows(void)
{
    char ask[200];
    snprintf(ask, sizeof ask, "select repo_key from enclii.service where id = '%s'",
             shop.service_id);
    const char *key = test_pg_value(fx.pg, ask);
    char repo[200];
    snprintf(repo, sizeof repo, "%s", key);
    api_sql(&fx,
            "insert into enclii.pull_request (id, repo_key, number, state, title, ref, head_sha,"
            " base_ref, from_fork, author, author_association, delivery_id) values"
            " ('%s#7', '%s', 7, 'open', 'Add a cat', 'refs/pull/7/head', '" SHA_2
            "', 'main', true, 'eve', 'NONE', 'd-7'),"
            " ('%s#8', '%s', 8, 'open', 'Own', 'refs/pull/8/head', '" SHA_3
            "', 'main', false, 'ann', 'MEMBER', 'd-8')",
            repo, repo, repo, repo);
    api_sql(&fx,
            "insert into enclii.delivery (id, repo_key, ref, commit_sha, state, reason, event,"
            " received_at) values ('d-7', '%s', 'refs/pull/7/head', '" SHA_2
            "', 'IGNORED', 'fork_of_stranger', 'pull_request', now())",
            repo);
    api_sql(
        &fx,
        "insert into enclii.decision (service_id, subject_kind, subject_id, rule, outcome, detail)"
        " values ('%s', 'delivery', 'd-7', 'fork_of_stranger', 'not built', 'of eve')",
        shop.service_id);
    api_sql(
        &fx,
        "insert into enclii.build (id, service_id, number, delivery_id, spec, commit, commit_sha,"
        " ref, actor, state, pull_request, trusted, author) values ('" BUILD_ID
        "', '%s', 1, 'd-6', '', '', '" SHA_1
        "', 'refs/pull/7/head', '', 'SUCCEEDED', 7, false, 'eve')",
        shop.service_id);
    api_sql(&fx,
            "insert into enclii.release (id, service_id, build_id, build_number, number, version,"
            " state, commit, commit_sha, image_repo, spec, pull_request, trusted) values"
            " ('" RELEASE_ID "', '%s', '" BUILD_ID "', 1, 1, 'v1', 'READY', '', '" SHA_1
            "', 'r', '', 7, false)",
            shop.service_id);
}

static void test_the_list(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "GET", of_shop("/pull-requests"), viewer, NULL), 200);
    const json_t *list = json_object_get(fx.json, "pull_requests");
    assert_int_equal(json_array_size(list), 2);
    const json_t *seven = json_array_get(list, 1);
    assert_string_equal(ec_json_text(seven, "held_by"), "fork_of_stranger");
    assert_string_equal(ec_json_text(seven, "author"), "eve");
    assert_int_equal(api_ask(&fx, "GET", of_shop("/pull-requests?state=closed"), viewer, NULL),
                     200);
    assert_int_equal(ec_json_int(fx.json, "count", -1), 0);
    assert_int_equal(api_ask(&fx, "GET", of_shop("/pull-requests?state=x"), viewer, NULL), 400);
    assert_int_equal(api_ask(&fx, "GET", of_shop("/pull-requests"), stranger, NULL), 404);
}

static void test_who_may_approve(void **state)
{
    (void)state;
    const char *body = "{\"commit\":\"" SHA_2 "\"}";
    expect(of_shop("/pull-requests/7/approve"), viewer, body, 403, "forbidden");
    expect(of_shop("/pull-requests/7/approve"), stranger, body, 404, "not_found");
    expect("/v1/builds/" BUILD_ID "/approve", stranger, NULL, 404, "not_found");
    expect("/v1/releases/" RELEASE_ID "/approve", viewer, NULL, 403, "forbidden");
    assert_string_equal(asked(), "0");
}

static void test_a_commit_must_be_named(void **state)
{
    (void)state;
    expect(of_shop("/pull-requests/7/approve"), developer, "{}", 409, "which_commit");
    assert_non_null(strstr(fx.text, "--commit 222222222222"));
    expect(of_shop("/pull-requests/7/approve"), developer, "{\"commit\":\"" SHA_3 "\"}", 409,
           "not_the_head");
    expect(of_shop("/pull-requests/7/approve"), developer, "{\"commit\":\"HEAD\"}", 400,
           "invalid_field");
    expect(of_shop("/pull-requests/x/approve"), developer, "{}", 400, "invalid_id");
    expect(of_shop("/pull-requests/9/approve"), developer, "{}", 404, "not_found");
    expect(of_shop("/pull-requests/8/approve"), developer, "{\"commit\":\"" SHA_3 "\"}", 409,
           "approval_not_needed");
    expect("/v1/builds/" BUILD_ID "/approve", developer, "{\"commit\":\"" SHA_3 "\"}", 409,
           "other_commit");
    assert_string_equal(asked(), "0");
}

static void test_approving(void **state)
{
    (void)state;
    expect(of_shop("/pull-requests/7/approve"), developer,
           "{\"commit\":\"22222222\",\"reason\":\"read it\"}", 202, "");
    assert_string_equal(api_text(&fx, "commit"), SHA_2);
    expect(of_shop("/pull-requests/7/approve"), developer, "{\"commit\":\"" SHA_1 "\"}", 202, "");
    assert_string_equal(api_text(&fx, "commit"), SHA_1); /* not the head, but it was built */
    expect("/v1/builds/" BUILD_ID "/approve", developer, NULL, 202, "");
    expect("/v1/releases/" RELEASE_ID "/approve", developer, "{}", 202, "");
    assert_string_equal(asked(), "4");
    assert_string_equal(test_pg_value(fx.pg,
                                      "select resource_id || ' ' || outcome || ' ' || detail from"
                                      " enclii.audit_log where action = 'pull_request.approve'"
                                      " and detail like '%read it'"),
                        SHA_2 " success pull request #7: read it");
}

static void test_not_deployed_before(void **state)
{
    (void)state;
    const char *body = "{\"release_id\":\"" RELEASE_ID "\"}";
    expect(of_shop("/deploy"), developer, body, 409, "approval_needed");
    assert_non_null(strstr(fx.text, "enclii approve v1"));
    api_sql(
        &fx,
        "insert into enclii.deployment (id, service_id, environment_id, release_id, state, actor,"
        " finished_at) values ('" DEPLOYMENT_ID "', '%s', '%s', '" RELEASE_ID
        "', 'HEALTHY', '', now())",
        shop.service_id, shop.environment_id);
    expect("/v1/deployments/" DEPLOYMENT_ID "/rollback", developer,
           "{\"to_release\":\"" RELEASE_ID "\"}", 409, "approval_needed");
    expect("/v1/deployments/" DEPLOYMENT_ID "/rollback", developer, NULL, 409, "approval_needed");
    api_sql(&fx, "delete from enclii.deployment");
    assert_string_equal(
        test_pg_value(fx.pg, "select count(*) from enclii.outbox where type like '%deploy.v1' or "
                             "type like '%rollback.v1'"),
        "0");
    api_sql(&fx, "update enclii.release set approved_by = 'ada'");
    expect(of_shop("/deploy"), developer, body, 201, "");
}

static void test_why(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "GET", "/v1/why/" BUILD_ID, viewer, NULL), 200);
    const json_t *answer = json_array_get(json_object_get(fx.json, "answers"), 0);
    assert_string_equal(ec_json_text(answer, "rule"), "approval_needed");
    assert_string_equal(ec_json_text(answer, "summary"),
                        "Release v1 (pull request #7 of eve, from a fork) is ready and was not "
                        "deployed: nobody has approved its commit.");
    assert_int_equal(api_ask(&fx, "GET", "/v1/why/" SHA_2, viewer, NULL), 200);
    answer = json_array_get(json_object_get(fx.json, "answers"), 0);
    assert_string_equal(ec_json_text(answer, "rule"), "fork_of_stranger");
    /* The service is as its last push is: a stranger's pull request does not change the answer. */
    assert_int_equal(api_ask(&fx, "GET", of_shop("/why"), viewer, NULL), 200);
    assert_string_equal(api_text(&fx, "rule"), "nothing_pushed");
    api_sql(
        &fx,
        "update enclii.build set state = 'waiting', reason = 'wait_for_ci', detail = 'Tests "
        "(in_progress) https://h/1', pull_request = 0, deadline_at = now() + interval '50 min'");
    api_sql(&fx, "delete from enclii.release");
    assert_int_equal(api_ask(&fx, "GET", of_shop("/why"), viewer, NULL), 200);
    assert_string_equal(api_text(&fx, "rule"), "wait_for_ci");
    assert_non_null(strstr(api_text(&fx, "summary"), "for CI: Tests (in_progress) https://h/1"));
    assert_int_equal(api_ask(&fx, "POST", "/v1/builds/" BUILD_ID "/cancel", developer, NULL), 202);
}

static int fresh(void **state)
{
    (void)state;
    api_sql(&fx,
            "truncate enclii.build, enclii.release, enclii.deployment, enclii.pull_request,"
            " enclii.approval, enclii.delivery, enclii.decision, enclii.outbox, enclii.audit_log"
            " cascade");
    rows();
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup(fn, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_list),  TEST(test_who_may_approve),     TEST(test_a_commit_must_be_named),
        TEST(test_approving), TEST(test_not_deployed_before), TEST(test_why),
    };
    if (!api_fixture_open(&fx, "")) {
        return 0;
    }
    api_place(&fx, "shop", &shop);
    api_place(&fx, "other", &other);
    api_token(&fx, "viewer", "shop", viewer);
    api_token(&fx, "developer", "shop", developer);
    api_token(&fx, "developer", "other", stranger);
    return cmocka_run_group_tests(tests, NULL, api_group_close);
}
