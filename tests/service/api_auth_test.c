/* Who may what: no token, bad token, each role, tokens of one project, tokens of tokens,
 * revocation. */
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

static struct api_fixture fx;
static struct api_place mine, other;
static char viewer[80], developer[80], scoped[80], scoped_admin[80];

static const char *path(const char *format, const char *id)
{
    static char text[256];
    const char *at = strstr(format, "%s");
    snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - format), format, id, at + 2);
    return text;
}

static void test_health_is_public(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "GET", "/health", NULL, NULL), 200);
    assert_string_equal(api_text(&fx, "status"), "healthy");
    assert_int_equal(api_ask(&fx, "GET", "/health/live", NULL, NULL), 200);
    assert_int_equal(api_ask(&fx, "GET", "/health/ready", NULL, NULL), 200);
}

static void test_no_token_is_401(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        if (NEEDS_ROLE(api_routes[i].tag) == ROLE_PUBLIC) {
            continue;
        }
        const char *body = api_routes[i].body_max_bytes ? "{}" : NULL;
        assert_int_equal(api_ask(&fx, api_routes[i].method, api_routes[i].path, NULL, body), 401);
        assert_string_equal(api_text(&fx, "code"), "unauthenticated");
        assert_true(api_text(&fx, "error")[0]); /* older clients read this key */
    }
}

static void test_bad_tokens_are_401(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "enclii_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "x",
        "enclii_",
        "enclii_' or 1=1 --",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_int_equal(api_ask(&fx, "GET", "/v1/projects", bad[i], NULL), 401);
    }
}

/* Every route against every role: below the route's role 403, from it on anything else. */
static void test_every_route_asks_for_its_role(void **state)
{
    (void)state;
    const struct {
        const char *token;
        enum role role;
    } who[] = {{viewer, ROLE_VIEWER}, {developer, ROLE_DEVELOPER}, {ADMIN_TOKEN, ROLE_ADMIN}};
    for (size_t w = 0; w < EC_LEN(who); w++) {
        for (size_t i = 0; i < api_route_count; i++) {
            const struct ec_http_route *route = &api_routes[i];
            if (NEEDS_ROLE(route->tag) == ROLE_PUBLIC) {
                continue;
            }
            const char *body = route->body_max_bytes ? "{}" : NULL;
            /* ?service=x: a live stream would never end its answer; the rest does not look at it */
            int status =
                api_ask(&fx, route->method, path("%s?service=x", route->path), who[w].token, body);
            /* 503: what other services keep (the history) is not here */
            if (status == 401 || (status >= 500 && status != 503)) {
                fail_msg("%s %s: %d", route->method, route->path, status);
            }
            assert_int_equal(status == 403, who[w].role < NEEDS_ROLE(route->tag));
        }
    }
}

static void test_refusals_are_audited(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects", viewer, "{\"slug\":\"no\"}"), 403);
    assert_string_equal(api_text(&fx, "detail"), "Required role: [admin], current role: viewer");
    assert_int_equal(api_ask(&fx, "GET", "/v1/projects", viewer, NULL), 200);
    assert_string_not_equal(
        test_pg_value(fx.pg, "select count(*) from enclii.audit_log where outcome = 'denied'"),
        "0");
    assert_string_equal(
        test_pg_value(fx.pg, "select count(*) from enclii.project where slug = 'no'"), "0");
}

/* A token of one project: its own things yes, others look as if they did not exist. */
static void test_project_scope_on_every_kind(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "GET", path("/v1/projects/%s", mine.slug), scoped, NULL), 200);
    assert_int_equal(api_ask(&fx, "GET", path("/v1/projects/%s", other.slug), scoped, NULL), 404);
    assert_int_equal(api_ask(&fx, "GET", path("/v1/services/%s", mine.service_id), scoped, NULL),
                     200);
    assert_int_equal(api_ask(&fx, "GET", path("/v1/services/%s", other.service_id), scoped, NULL),
                     404);
    static const char *const writes[] = {
        "/v1/services/%s/build",
        "/v1/services/%s/deploy",
        "/v1/services/%s/events",
        "/v1/services/%s/why",
    };
    for (size_t i = 0; i < EC_LEN(writes); i++) {
        const char *method = i < 2 ? "POST" : "GET";
        assert_int_equal(api_ask(&fx, method, path(writes[i], other.service_id), scoped_admin,
                                 i < 2 ? "{}" : NULL),
                         404);
    }
    assert_int_equal(
        api_ask(&fx, "DELETE", path("/v1/services/%s", other.service_id), scoped_admin, NULL), 404);
    assert_int_equal(
        api_ask(&fx, "DELETE", path("/v1/projects/%s", other.slug), scoped_admin, NULL), 404);
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects", scoped_admin, "{\"slug\":\"more\"}"),
                     403);
}

static void insert_rows_of(const struct api_place *place, const char *suffix)
{
    char sql[4096];
    snprintf(
        sql, sizeof(sql),
        "insert into enclii.build (id, service_id, number, spec, commit, commit_sha, ref, actor,"
        " state, finished_at) values ('00000000-0000-4000-8000-0000000001%s', '%s', 1, '', '',"
        " '%s', 'refs/heads/main', '', 'SUCCEEDED', now());"
        "insert into enclii.release (id, service_id, build_id, build_number, number, version,"
        " state, commit, commit_sha, image_repo, spec) values"
        " ('00000000-0000-4000-8000-0000000002%s', '%s',"
        " '00000000-0000-4000-8000-0000000001%s', 1, 1, 'v1', 'READY', '', '%s', 'r/x', '');"
        "insert into enclii.deployment (id, service_id, environment_id, release_id, state, actor,"
        " finished_at) values ('00000000-0000-4000-8000-0000000003%s', '%s', '%s',"
        " '00000000-0000-4000-8000-0000000002%s', 'HEALTHY', '', now());"
        "insert into enclii.channel (id, project_id, kind, name, url) values"
        " ('00000000-0000-4000-8000-0000000004%s', '%s', 'webhook', 'c', 'https://x.test/');",
        suffix, place->service_id, SHA_1, suffix, place->service_id, suffix, SHA_1, suffix,
        place->service_id, place->environment_id, suffix, suffix, place->project_id);
    test_pg_sql(fx.pg, sql);
}

static void test_project_scope_by_id(void **state)
{
    (void)state;
    insert_rows_of(&mine, "01");
    insert_rows_of(&other, "02");
    static const char *const paths[] = {
        "/v1/builds/00000000-0000-4000-8000-0000000001%s",
        "/v1/builds/00000000-0000-4000-8000-0000000001%s/logs",
        "/v1/releases/00000000-0000-4000-8000-0000000002%s",
        "/v1/deployments/00000000-0000-4000-8000-0000000003%s",
    };
    for (size_t i = 0; i < EC_LEN(paths); i++) {
        assert_int_equal(api_ask(&fx, "GET", path(paths[i], "01"), scoped, NULL), 200);
        assert_int_equal(api_ask(&fx, "GET", path(paths[i], "02"), scoped, NULL), 404);
        assert_int_equal(api_ask(&fx, "GET", path(paths[i], "02"), viewer, NULL), 200);
    }
    const char *channel = "/v1/channels/00000000-0000-4000-8000-0000000004%s";
    assert_int_equal(api_ask(&fx, "DELETE", path(channel, "02"), scoped_admin, NULL), 404);
    assert_int_equal(api_ask(&fx, "DELETE", path(channel, "01"), scoped_admin, NULL), 200);
    assert_int_equal(
        api_ask(&fx, "POST",
                path("/v1/deployments/00000000-0000-4000-8000-0000000003%s/rollback", "02"),
                scoped_admin, "{}"),
        404);
}

static void test_lists_show_only_the_scope(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "GET", "/v1/projects", scoped, NULL), 200);
    assert_int_equal(ec_json_int(fx.json, "count", -1), 1);
    assert_int_equal(api_ask(&fx, "GET", "/v1/projects", viewer, NULL), 200);
    assert_int_equal(ec_json_int(fx.json, "count", -1), 2);
    test_pg_sql(fx.pg, "insert into enclii.delivery (id, repo_key, state, received_at) values"
                       " ('d-mine', 'git.test/acme/mine', 'ACCEPTED', now()),"
                       " ('d-other', 'git.test/acme/other', 'ACCEPTED', now())");
    assert_int_equal(api_ask(&fx, "GET", "/v1/deliveries", scoped, NULL), 200);
    assert_int_equal(ec_json_int(fx.json, "count", -1), 1);
    assert_int_equal(api_ask(&fx, "GET", "/v1/deliveries/d-other", scoped, NULL), 404);
    assert_int_equal(api_ask(&fx, "GET", "/v1/deliveries/d-mine", scoped, NULL), 200);
}

static void test_tokens_never_exceed_their_maker(void **state)
{
    (void)state;
    assert_int_equal(
        api_ask(&fx, "POST", "/v1/user/tokens", developer, "{\"name\":\"up\",\"role\":\"admin\"}"),
        403);
    assert_string_equal(api_text(&fx, "code"), "role_too_high");
    assert_int_equal(api_ask(&fx, "POST", "/v1/user/tokens", viewer,
                             "{\"name\":\"up\",\"scopes\":[\"viewer\",\"admin\"]}"),
                     403);
    assert_int_equal(api_ask(&fx, "POST", "/v1/user/tokens", scoped_admin,
                             "{\"name\":\"out\",\"role\":\"viewer\",\"project\":\"other\"}"),
                     404);
    /* Without a project it inherits the maker's. */
    assert_int_equal(api_ask(&fx, "POST", "/v1/user/tokens", scoped_admin,
                             "{\"name\":\"in\",\"role\":\"viewer\"}"),
                     201);
    char made[80];
    snprintf(made, sizeof(made), "%s", api_text(&fx, "token"));
    assert_int_equal(api_ask(&fx, "GET", path("/v1/projects/%s", other.slug), made, NULL), 404);
    assert_int_equal(api_ask(&fx, "GET", path("/v1/projects/%s", mine.slug), made, NULL), 200);
}

/* A token that ends cannot make one that outlives it; what cannot be read makes none at all. */
static void test_tokens_do_not_outlive_their_maker(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "POST", "/v1/user/tokens", ADMIN_TOKEN,
                             "{\"name\":\"a day\",\"expires_in_days\":1}"),
                     201);
    char day[80];
    snprintf(day, sizeof(day), "%s", api_text(&fx, "token"));
    static const char *const bodies[] = {"{\"name\":\"child\"}",
                                         "{\"name\":\"child\",\"expires_in_days\":900}"};
    for (size_t i = 0; i < EC_LEN(bodies); i++) {
        assert_int_equal(api_ask(&fx, "POST", "/v1/user/tokens", day, bodies[i]), 201);
        assert_true(api_text(&fx, "expires_at")[0]);
    }
    assert_string_equal(test_pg_value(fx.pg, "select count(*) from enclii.api_token c join"
                                             " enclii.api_token m on m.id = c.created_by where"
                                             " m.name = 'a day' and c.expires_at = m.expires_at"),
                        "2");
    static const char *const bad[] = {
        "{\"name\":\"x\",\"expires_in_days\":\"30\"}",
        "{\"name\":\"x\",\"expires_in_days\":0.5}",
        "{\"name\":\"x\",\"expires_in_days\":0}",
        "{\"name\":\"x\",\"expires_in_days\":-1}",
        "{\"name\":\"x\",\"project\":7}",
        "{\"name\":\"x\",\"project\":\"\"}",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_int_equal(api_ask(&fx, "POST", "/v1/user/tokens", ADMIN_TOKEN, bad[i]), 400);
    }
    assert_string_equal(
        test_pg_value(fx.pg, "select count(*) from enclii.api_token where name = 'x'"), "0");
}

static void test_token_life(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "POST", "/v1/user/tokens", ADMIN_TOKEN,
                             "{\"name\":\"short\",\"role\":\"viewer\",\"expires_in_days\":1}"),
                     201);
    char token[80], id[EC_ID_SIZE];
    snprintf(token, sizeof(token), "%s", api_text(&fx, "token"));
    snprintf(id, sizeof(id), "%s", api_text(&fx, "id"));
    assert_memory_equal(token, "enclii_", 7);
    assert_true(api_text(&fx, "expires_at")[0]);
    assert_int_equal(api_ask(&fx, "GET", "/v1/projects", token, NULL), 200);
    assert_int_equal(api_ask(&fx, "GET", "/v1/user/tokens", token, NULL), 200);
    assert_true(json_is_array(fx.json));
    assert_null(strstr(fx.text, token)); /* shown once only */
    assert_int_equal(api_ask(&fx, "DELETE", path("/v1/user/tokens/%s", id), developer, NULL), 404);
    assert_int_equal(api_ask(&fx, "DELETE", path("/v1/user/tokens/%s", id), ADMIN_TOKEN, NULL),
                     204);
    assert_int_equal(api_ask(&fx, "GET", "/v1/projects", token, NULL), 401);
    assert_string_equal(test_pg_value(fx.pg, "select count(*) from enclii.api_token where hash like"
                                             " 'enclii%'"),
                        "0");
}

static void test_malformed_ids(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "GET", "/v1/services/not-an-id", ADMIN_TOKEN, NULL), 400);
    assert_string_equal(api_text(&fx, "code"), "invalid_id");
    assert_int_equal(
        api_ask(&fx, "GET", "/v1/services/00000000-0000-0000-0000-000000000000", ADMIN_TOKEN, NULL),
        404);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health_is_public),
        cmocka_unit_test(test_no_token_is_401),
        cmocka_unit_test(test_bad_tokens_are_401),
        cmocka_unit_test(test_every_route_asks_for_its_role),
        cmocka_unit_test(test_refusals_are_audited),
        cmocka_unit_test(test_project_scope_on_every_kind),
        cmocka_unit_test(test_project_scope_by_id),
        cmocka_unit_test(test_lists_show_only_the_scope),
        cmocka_unit_test(test_tokens_never_exceed_their_maker),
        cmocka_unit_test(test_tokens_do_not_outlive_their_maker),
        cmocka_unit_test(test_token_life),
        cmocka_unit_test(test_malformed_ids),
    };
    if (!api_fixture_open(&fx, "")) {
        return 0;
    }
    api_place(&fx, "mine", &mine);
    api_place(&fx, "other", &other);
    api_token(&fx, "viewer", NULL, viewer);
    api_token(&fx, "developer", NULL, developer);
    api_token(&fx, "developer", "mine", scoped);
    api_token(&fx, "admin", "mine", scoped_admin);
    return cmocka_run_group_tests(tests, NULL, api_group_close);
}
