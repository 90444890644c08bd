/* GET /v1/why/{id} over a real PostgreSQL: what an id may be, one answer per service of a push,
 * rows that pipeline writes for what was ignored on purpose, deadlines, and who sees what. */
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
#define SHA_4 "4444444444444444444444444444444444444444"

static struct api_fixture fx;
static struct api_place shop, other;
static char viewer[80], stranger[80];

static void delivery(const char *id, const char *repo_key, const char *sha, const char *state,
                     const char *reason, const char *detail)
{
    api_sql(&fx,
            "insert into enclii.delivery (id, repo_key, ref, commit_sha, state, reason, detail,"
            " received_at) values ('%s', '%s', 'refs/heads/main', '%s', '%s', '%s', '%s', now())",
            id, repo_key, sha, state, reason, detail);
}

static void decision(const char *service_id, const char *kind, const char *id, const char *rule,
                     const char *outcome, const char *detail)
{
    api_sql(
        &fx,
        "insert into enclii.decision (service_id, subject_kind, subject_id, rule, outcome, detail)"
        " values (nullif('%s', '')::uuid, '%s', '%s', '%s', '%s', '%s')",
        service_id, kind, id, rule, outcome, detail);
}

/* The answer number `index` of /v1/why/<id>. */
static const json_t *why(const char *id, const char *token, size_t index)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/why/%s", id);
    assert_int_equal(api_ask(&fx, "GET", path, token, NULL), 200);
    return json_array_get(json_object_get(fx.json, "answers"), index);
}

static void expect(const json_t *answer, const char *service, const char *rule, const char *says)
{
    assert_string_equal(ec_json_text(answer, "service"), service);
    assert_string_equal(ec_json_text(answer, "rule"), rule);
    if (!strstr(ec_json_text(answer, "summary"), says)) {
        fail_msg("\"%s\" does not say \"%s\"", ec_json_text(answer, "summary"), says);
    }
}

/* One push, two services: one builds it, the other has its reason. */
static void make_push(void)
{
    api_sql(
        &fx,
        "update enclii.service set repo_key = (select repo_key from enclii.service where id = '%s')"
        " where id = '%s'",
        shop.service_id, other.service_id);
    char repo_key[256];
    snprintf(repo_key, sizeof repo_key, "%s",
             test_pg_value(fx.pg, "select repo_key from enclii.service limit 1"));
    delivery("d-1", repo_key, SHA_1, "ACCEPTED", "", "");
    decision(other.service_id, "delivery", "d-1", "paths_not_watched", "not built",
             "none of the 2 changed files is under a watched path");
    api_sql(
        &fx,
        "insert into enclii.build (id, service_id, number, delivery_id, spec, commit, commit_sha,"
        " ref, actor, state, deadline_at) values ('" BUILD_ID "', '%s', 1, 'd-1', '', '', '" SHA_1
        "', 'refs/heads/main', '', 'queued', now() + interval '50 min')",
        shop.service_id);
    delivery("d-2", repo_key, SHA_2, "IGNORED", "skip_marker", "the commit message says [skip ci]");
    decision("", "delivery", "d-2", "skip_marker", "IGNORED", "the commit message says [skip ci]");
    delivery("d-3", "h/acme/unbound", SHA_3, "IGNORED", "no_service",
             "no service is bound to this repository");
    decision("", "delivery", "d-3", "no_service", "IGNORED", "no service is bound");
}

static void test_each_service_has_its_answer(void **state)
{
    (void)state;
    static const char *const ids[] = {SHA_1, "1111111", "d-1"};
    for (size_t i = 0; i < EC_LEN(ids); i++) {
        expect(why(ids[i], ADMIN_TOKEN, 0), "other/web", "paths_not_watched",
               "builds nothing of this service: paths_not_watched: none of the 2 changed files");
        assert_int_equal(json_array_size(json_object_get(fx.json, "answers")), 2);
        assert_string_equal(api_text(&fx, "commit"), SHA_1);
        const json_t *answer = json_array_get(json_object_get(fx.json, "answers"), 1);
        expect(answer, "shop/web", "no_builder", "given up in ");
        assert_true(ec_json_bool(answer, "waiting", false));
        assert_true(strlen(ec_json_text(answer, "next")) > 0);
    }
    expect(why(BUILD_ID, ADMIN_TOKEN, 0), "shop/web", "no_builder", "no builder is alive");
    assert_int_equal(json_array_size(json_object_get(fx.json, "answers")), 1);
}

static void test_pushes_that_are_ignored(void **state)
{
    (void)state;
    expect(why("d-2", ADMIN_TOKEN, 0), "other/web", "skip_marker", "[skip ci]");
    expect(why(SHA_2, ADMIN_TOKEN, 1), "shop/web", "skip_marker", "[skip ci]");
    const json_t *decision_row =
        json_array_get(json_object_get(why(SHA_2, ADMIN_TOKEN, 1), "decisions"), 0);
    assert_string_equal(ec_json_text(decision_row, "rule"), "skip_marker");
    assert_string_equal(ec_json_text(decision_row, "means"),
                        "The commit message asks to be skipped.");
    expect(why("d-3", ADMIN_TOKEN, 0), "", "no_service", "no service is bound");
    expect(why(SHA_3, ADMIN_TOKEN, 0), "", "no_service", "no service is bound");
    assert_non_null(strstr(ec_json_text(why(SHA_3, ADMIN_TOKEN, 0), "next"), "service create"));
}

/* Deliveries that are no push are no news of a service, and say themselves what came of them. */
static void test_other_events(void **state)
{
    (void)state;
    api_sql(
        &fx,
        "insert into enclii.delivery (id, repo_key, state, detail, event, received_at) select "
        "'d-pr',"
        " repo_key, 'ACCEPTED', 'told as PullRequestChanged', 'pull_request', now() + interval '1 "
        "h'"
        " from enclii.service limit 1");
    expect(why("d-pr", viewer, 0), "", "told",
           "no push and was taken: told as PullRequestChanged.");
    assert_int_equal(json_array_size(json_object_get(fx.json, "answers")), 1);
    char path[128];
    snprintf(path, sizeof path, "/v1/services/%s/why", shop.service_id);
    assert_int_equal(api_ask(&fx, "GET", path, viewer, NULL), 200);
    assert_string_equal(api_text(&fx, "rule"), "skip_marker");
}

static void test_the_queue(void **state)
{
    (void)state;
    api_sql(&fx, "insert into enclii.builder (id, slots, heard_at) values ('b-1', 1, now()), "
                 "('b-2', 1, now() - interval '1 min')");
    expect(why(BUILD_ID, viewer, 0), "shop/web", "not_its_turn", "0 of 1 slots on 1 builder(s)");
    api_sql(
        &fx,
        "insert into enclii.build (id, service_id, number, spec, commit, commit_sha, ref, actor,"
        " state, builder_id, deadline_at) values (gen_random_uuid(), '%s', 9, '', '', '" SHA_4
        "', 'r', '', 'running', 'b-1', now() + interval '1 min')",
        other.service_id);
    expect(why(BUILD_ID, viewer, 0), "shop/web", "no_free_slot", "1 of 1 slots on 1 builder(s)");
    expect(why(SHA_4, ADMIN_TOKEN, 0), "other/web", "running", "time limit in ");
}

/* The way on: each thing of the push leads to the same answer. */
static void test_releases_and_deployments(void **state)
{
    (void)state;
    api_sql(&fx,
            "update enclii.build set state = 'SUCCEEDED', deadline_at = null where id = '" BUILD_ID
            "'");
    expect(why(BUILD_ID, viewer, 0), "shop/web", "not_begun", "waits for pipeline to make it");
    api_sql(
        &fx,
        "insert into enclii.release (id, service_id, build_id, build_number, number, version, "
        "state,"
        " commit, commit_sha, image_repo, spec, deadline_at) values ('" RELEASE_ID "', '%s', '" //
        BUILD_ID "', 1, 1, 'v1', 'signing', '', '" SHA_1 "', 'r', '', now() + interval '9 min')",
        shop.service_id);
    expect(why(RELEASE_ID, viewer, 0), "shop/web", "signing", "(signing_timed_out) in ");
    api_sql(&fx, "update enclii.release set state = 'READY', deadline_at = null");
    decision(shop.service_id, "release", RELEASE_ID, "no_environment", "not deployed",
             "the project has no environment \"moon\"");
    expect(why(SHA_1, viewer, 0), "shop/web", "no_environment", "\"moon\"");
    api_sql(
        &fx,
        "insert into enclii.deployment (id, service_id, environment_id, release_id, state, reason,"
        " detail, actor) values ('" DEPLOYMENT_ID "', '%s', '%s', '" RELEASE_ID "', 'ROLLED_BACK',"
        " 'unhealthy', 'GET / answered 500', '')",
        shop.service_id, shop.environment_id);
    static const char *const ids[] = {DEPLOYMENT_ID, RELEASE_ID, BUILD_ID, "d-1", SHA_1};
    for (size_t i = 0; i < EC_LEN(ids); i++) {
        expect(why(ids[i], viewer, 0), "shop/web", "unhealthy", "GET / answered 500.");
    }
}

static int get(const char *path, const char *token)
{
    return api_ask(&fx, "GET", path, token, NULL);
}

static void test_who_sees_what(void **state)
{
    (void)state;
    why("d-1", viewer, 0);
    assert_int_equal(json_array_size(json_object_get(fx.json, "answers")), 1);
    expect(why("d-1", stranger, 0), "other/web", "paths_not_watched", "");
    assert_int_equal(get("/v1/why/" BUILD_ID, stranger), 404);
    assert_int_equal(get("/v1/why/" RELEASE_ID, stranger), 404);
    assert_int_equal(get("/v1/why/d-3", viewer), 404); /* nobody's repository: admins only */
    assert_int_equal(get("/v1/why/" SHA_3, viewer), 404);
    assert_int_equal(get("/v1/why/d-1", NULL), 401);
    assert_int_equal(get("/v1/why/nothing", ADMIN_TOKEN), 404);
    assert_int_equal(get("/v1/why/111111", ADMIN_TOKEN), 404); /* six digits are too few */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_service_has_its_answer),
        cmocka_unit_test(test_pushes_that_are_ignored),
        cmocka_unit_test(test_other_events),
        cmocka_unit_test(test_the_queue),
        cmocka_unit_test(test_releases_and_deployments),
        cmocka_unit_test(test_who_sees_what),
    };
    if (!api_fixture_open(&fx, "")) {
        return 0;
    }
    api_place(&fx, "shop", &shop);
    api_place(&fx, "other", &other);
    api_token(&fx, "viewer", "shop", viewer);
    api_token(&fx, "viewer", "other", stranger);
    make_push();
    return cmocka_run_group_tests(tests, NULL, api_group_close);
}
