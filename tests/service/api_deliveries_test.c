/* The ledger through the API: filters, refused deliveries, who sees what, and a push once more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "enclii/v1/intake.pb-c.h"
#include "support/api_fixture.h"

static struct api_fixture fx;
static struct api_place place;
static char scoped[80], viewer[80];

static const char *value(const char *sql)
{
    return test_pg_value(fx.pg, sql);
}

static void add_push(const char *id)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
    push.delivery_id = ec_arena_strdup(arena, id);
    push.repo_key = "git.test/acme/shop";
    push.ref = "refs/heads/main";
    push.after = SHA_1;
    size_t len = enclii__v1__push_received__get_packed_size(&push);
    uint8_t *bytes = ec_arena_alloc(arena, len);
    enclii__v1__push_received__pack(&push, bytes);
    test_pg_sql(fx.pg,
                ec_arena_format(arena,
                                "insert into enclii.delivery (id, repo_key, ref, commit_sha, state,"
                                " received_at, push) values ('%s', 'git.test/acme/shop',"
                                " 'refs/heads/main', '" SHA_1 "', 'ACCEPTED', now(), '%s')",
                                id, ec_bytea_arg(arena, (struct ec_span){(char *)bytes, len})));
}

static int ledger(void **state)
{
    (void)state;
    if (!fx.pg) {
        return 0;
    }
    test_pg_sql(fx.pg, "truncate enclii.delivery, enclii.refused_delivery, enclii.outbox");
    add_push("push-1");
    test_pg_sql(
        fx.pg, "insert into enclii.delivery (id, repo_key, state, reason, host, event, received_at)"
               " values ('star-1', 'git.test/acme/shop', 'IGNORED', 'event_not_used', 'gitea',"
               " 'star', now() - interval '1 minute');"
               "insert into enclii.refused_delivery (id, host, event, repo_key, status, reason,"
               " peer, received_at) values ('00000000-0000-4000-8000-0000000000aa', 'github',"
               " 'push', 'git.test/acme/shop', 401, 'bad_signature', '203.0.113.9', now()),"
               " ('00000000-0000-4000-8000-0000000000bb', 'github', 'push',"
               " 'git.test/acme/nobodys', 404, 'unknown_repo', '203.0.113.9', now())");
    return 0;
}

static int64_t count_of(const char *path, const char *token)
{
    assert_int_equal(api_ask(&fx, "GET", path, token, NULL), 200);
    return ec_json_int(fx.json, "count", -1);
}

static void test_lists(void **state)
{
    (void)state;
    if (!fx.pg) {
        skip();
    }
    assert_int_equal(count_of("/v1/deliveries", ADMIN_TOKEN), 4);
    assert_int_equal(count_of("/v1/deliveries?limit=2", ADMIN_TOKEN), 2);
    assert_int_equal(count_of("/v1/deliveries?state=refused", ADMIN_TOKEN), 2);
    assert_int_equal(count_of("/v1/deliveries?state=IGNORED", ADMIN_TOKEN), 1);
    assert_string_equal(api_text(&fx, "deliveries.0.reason"), "event_not_used");
    assert_int_equal(count_of("/v1/deliveries?host=gitea&event=star", ADMIN_TOKEN), 1);
    assert_int_equal(count_of("/v1/deliveries?repo=git.test/acme/nobodys", ADMIN_TOKEN), 1);
    assert_string_equal(api_text(&fx, "deliveries.0.peer"), "203.0.113.9");
    /* What strangers do to other repositories is not this project's to see. */
    assert_int_equal(count_of("/v1/deliveries", scoped), 3);
    assert_int_equal(count_of("/v1/deliveries?repo=git.test/acme/nobodys", scoped), 0);
    assert_int_equal(
        api_ask(&fx, "GET", "/v1/deliveries/00000000-0000-4000-8000-0000000000bb", scoped, NULL),
        404);
    assert_int_equal(
        api_ask(&fx, "GET", "/v1/deliveries/00000000-0000-4000-8000-0000000000aa", scoped, NULL),
        200);
    assert_int_equal(ec_json_int(fx.json, "status", 0), 401);
    assert_int_equal(api_ask(&fx, "GET", "/v1/deliveries/push-1", viewer, NULL), 200);
    assert_true(ec_json_bool(fx.json, "can_redeliver", false));
}

static void test_once_more(void **state)
{
    (void)state;
    if (!fx.pg) {
        skip();
    }
    assert_int_equal(api_ask(&fx, "POST", "/v1/deliveries/push-1/redeliver", viewer, NULL), 403);
    assert_int_equal(api_ask(&fx, "POST", "/v1/deliveries/push-1/redeliver", scoped, NULL), 202);
    const char *id = api_text(&fx, "delivery_id");
    assert_int_equal(strncmp(id, "push-1~", 7), 0);
    assert_string_equal(value("select type || ' ' || key from enclii.outbox where topic ="
                              " 'enclii.intake'"),
                        "dev.enclii.push.received.v1 git.test/acme/shop");
    assert_string_equal(value("select count(*) from enclii.audit_log where action ="
                              " 'delivery.redeliver'"),
                        "1");
    assert_int_equal(api_ask(&fx, "POST", "/v1/deliveries/star-1/redeliver", scoped, NULL), 409);
    assert_int_equal(api_ask(&fx, "POST", "/v1/deliveries/none/redeliver", scoped, NULL), 404);
    assert_int_equal(api_ask(&fx, "POST",
                             "/v1/deliveries/00000000-0000-4000-8000-0000000000bb/redeliver",
                             ADMIN_TOKEN, NULL),
                     409);
}

static int start(void **state)
{
    (void)state;
    if (api_fixture_open(&fx, "")) {
        api_place(&fx, "shop", &place);
        api_token(&fx, "developer", "shop", scoped);
        api_token(&fx, "viewer", NULL, viewer);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (fx.pg) {
        api_fixture_close(&fx);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lists, ledger),
        cmocka_unit_test_setup(test_once_more, ledger),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
