/* A service that was built thousands of times: what each answer reads does not grow with it.
 * Counted by PostgreSQL itself, over every route that lists or looks something up, asked often
 * enough that its plan for any values would be taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/api_fixture.h"

#define ROWS 20000
#define TIMES 8 /* PostgreSQL may take the plan for any values from the sixth time on */
#define ID(kind) "('0000000" kind "-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid"
#define SHA "md5(i::text) || '00000000'"
#define AT "now() - (20000 - i) * interval '1 minute'"
#define EACH " from generate_series(1, 20000) i"
#define NEWEST "000000004e20" /* 20000 */

static struct api_fixture fx;
static struct api_place shop;
static char sha[80];

static void fill(void)
{
    const char *service = shop.service_id;
    api_sql(
        &fx,
        "insert into enclii.build (id, service_id, number, spec, commit, commit_sha, ref, actor,"
        " state, queued_at, delivery_id) select " ID("4") ", '%s', i, '', '', " SHA ","
                                                          " 'refs/heads/main', '', 'SUCCEEDED', " AT
                                                          ", 'd' || i" EACH,
        service);
    api_sql(&fx,
            "insert into enclii.release (id, service_id, build_id, build_number, number, version,"
            " state, commit, commit_sha, image_repo, spec, created_at) select " ID(
                "5") ", '%s'," ID("4") ", i, i, 'v' || i, 'READY', '', " SHA
                                       ", 'r/x', '', " AT EACH,
            service);
    api_sql(
        &fx,
        "insert into enclii.deployment (id, service_id, environment_id, release_id, state,"
        " actor, created_at) select " ID("6") ", '%s', '%s', " ID("5") ", 'HEALTHY', '', " AT EACH,
        service, shop.environment_id);
    test_pg_sql(fx.pg, "insert into enclii.delivery (id, repo_key, commit_sha, state, event,"
                       " received_at) select 'd' || i, 'git.test/acme/shop', " SHA ","
                       " 'ACCEPTED', 'push', " AT EACH);
    test_pg_sql(fx.pg, "insert into enclii.refused_delivery (id, host, status, reason, received_at)"
                       " select " ID("7") ", 'github', 401, 'bad_signature', " AT EACH);
    api_sql(&fx,
            "insert into enclii.decision (service_id, subject_kind, subject_id, rule, outcome)"
            " select '%s', 'build', " ID("4") "::text, 'branch_watched', 'built'" EACH,
            service);
    test_pg_sql(fx.pg, "select history.make_month(date_trunc('month', m)::date) from"
                       " generate_series(now() - interval '31 days', now(), interval '1 day') m");
    api_sql(&fx,
            "insert into history.event (at, topic, partition, position, id, type, subject, key,"
            " trace, service_id, about, raw_bytes) select " AT ", 't', 0, i, 'e' || i,"
            " 'dev.enclii.build.queued.v1', '', '', '', '%s', array[" ID("4") "::text], 0" EACH,
            service);
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/environments", ADMIN_TOKEN,
                             "{\"name\":\"staging\"}"),
                     201);
    test_pg_sql(fx.pg, "analyze");
    snprintf(sha, sizeof(sha), "%s", test_pg_value(fx.pg, "select md5('20000') || '00000000'"));
}

/* "enclii.build 123, ...": tables that grow and of which more rows than that were read. */
static const char *tables_read_often(long most)
{
    static char sql[512];
    snprintf(sql, sizeof(sql),
             "select coalesce(string_agg(relid::regclass || ' ' || seq_tup_read + "
             "coalesce(idx_tup_fetch, 0),"
             " ', '), '') from pg_stat_user_tables join pg_class on pg_class.oid = relid"
             " where reltuples > 10000"
             " and seq_tup_read + coalesce(idx_tup_fetch, 0) > %ld",
             most);
    return test_pg_value(fx.pg, sql);
}

/* A backend gives its counts away when it is asked something a second after it did last. */
static void settle_counts(void)
{
    usleep(1100000);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(api_ask(&fx, "GET", "/v1/projects", ADMIN_TOKEN, NULL), 200);
    }
}

static void ask(const char *format, const char *id, int wanted)
{
    char path[256];
    const char *at = strstr(format, "%s");
    snprintf(path, sizeof(path), "%.*s%s%s", (int)(at - format), format, id, at + 2);
    for (int i = 0; i < TIMES; i++) {
        int status = api_ask(&fx, "GET", path, ADMIN_TOKEN, NULL);
        if (status != wanted) {
            fail_msg("%s: %d %s", path, status, fx.text);
        }
    }
}

static void test_what_is_read_does_not_grow(void **state)
{
    (void)state;
    fill();
    settle_counts();
    test_pg_sql(fx.pg, "select pg_stat_reset()");
    ask("/v1/services/%s/releases", shop.service_id, 200);
    ask("/v1/services/%s/builds", shop.service_id, 200);
    ask("/v1/services/%s/deployments", shop.service_id, 200);
    ask("/v1/services/%s/deployments/latest", shop.service_id, 200);
    ask("/v1/services/%s/deployments/latest?environment=nowhere", shop.service_id, 404);
    ask("/v1/services/%s/deployments/latest?environment=staging", shop.service_id, 404);
    ask("/v1/services/%s/status", shop.service_id, 200);
    ask("/v1/services/%s/why", shop.service_id, 200);
    ask("/v1/why/%s", sha, 200);
    ask("/v1/why/00000004-0000-4000-8000-%s", NEWEST, 200);
    ask("/v1/why/%s", "d20000", 200);
    ask("/v1/timeline/%s", sha, 404); /* these builds have no trace */
    ask("/v1/deliveries%s", "", 200);
    ask("/v1/deliveries/00000007-0000-4000-8000-%s", NEWEST, 200);
    ask("/v1/history?type=%s", "build.never", 200);
    ask("/v1/history?service=%s", shop.service_id, 200);
    settle_counts();
    assert_string_equal(tables_read_often(TIMES * ROWS / 4), ""); /* of one route, a quarter */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read_does_not_grow),
    };
    if (!api_fixture_open(&fx, "")) {
        return 0;
    }
    api_place(&fx, "shop", &shop);
    return cmocka_run_group_tests(tests, NULL, api_group_close);
}
