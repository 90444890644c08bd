/* pipeline on a real PostgreSQL and librdkafka's mock cluster: the whole way of a push, twice, and
 * what must not happen: redelivered, late and old words changing anything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "support/pipeline_fixture.h"

/* From push to a deployment under way. */
static char *until_rolling(struct pl_fixture *fix, const char *delivery, const char *sha)
{
    char sql[400];
    pl_push(fix, delivery, sha);
    snprintf(sql, sizeof sql, "select state from enclii.build where commit_sha = '%s'", sha);
    pl_becomes(fix, sql, "leased");
    snprintf(sql, sizeof sql, "select id from enclii.build where commit_sha = '%s'", sha);
    char *build = pl_value(fix, sql);
    pl_build_started(fix, build, 1);
    pl_build_succeeded(fix, build, 1, sha);
    snprintf(sql, sizeof sql, "select state from enclii.release where commit_sha = '%s'", sha);
    pl_becomes(fix, sql, "signing");
    snprintf(sql, sizeof sql, "select id from enclii.release where commit_sha = '%s'", sha);
    char *release = pl_value(fix, sql);
    pl_release_signed(fix, release);
    snprintf(sql, sizeof sql,
             "select state from enclii.deployment where release_id = '%s' order by created_at desc",
             release);
    pl_becomes(fix, sql, "rolling");
    snprintf(sql, sizeof sql, "select id from enclii.deployment where release_id = '%s'", release);
    char *deployment = pl_value(fix, sql);
    free(build);
    free(release);
    return deployment;
}

/* ---- tests ---- */

static void test_push_to_healthy_and_back(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    pl_heartbeat(fix, "builder-1", 2);
    char *first = until_rolling(fix, "delivery-01", SHA_A);
    pl_becomes(fix, "select state from enclii.delivery where id = 'delivery-01'", "ACCEPTED");
    pl_becomes(fix, "select state from enclii.domain where hostname = 'shop.localhost'", "issuing");
    pl_rolled_out(fix, first);
    pl_becomes(fix, DEPLOYMENT_OF(SHA_A, "state"), "HEALTHY");
    pl_becomes(fix, "select revision from enclii.desired", "2");

    /* The second release is bad: back to the first, which served all the time. */
    char *second = until_rolling(fix, "delivery-02", SHA_B);
    pl_becomes(fix, "select revision from enclii.desired", "3");
    pl_reverted(fix, second);
    pl_becomes(fix, DEPLOYMENT_OF(SHA_B, "state"), "ROLLED_BACK");
    pl_becomes(
        fix,
        "select r.version || ' ' || (d.release_id = d.good_release_id) || ' ' || revision from "
        "enclii.desired d join enclii.release r on r.id = d.release_id",
        "v1 true 4");
    pl_becomes(fix, "select count(*) from enclii.outbox", "0");
    pl_stays(fix,
             "select (select count(*) from enclii.build where deadline_at is not null) + (select "
             "count(*) from enclii.release where deadline_at is not null) + (select count(*) from "
             "enclii.deployment where deadline_at is not null)",
             "0");
    free(first);
    free(second);
}

static void test_redelivered_old_and_late_words_change_nothing(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    pl_heartbeat(fix, "builder-1", 2);
    pl_push(fix, "delivery-11", SHA_A);
    pl_push(fix, "delivery-11", SHA_A);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "leased");
    pl_stays(fix, "select count(*) from enclii.build", "1");
    char *build = pl_value(fix, BUILD_OF(SHA_A, "id"));
    pl_build_succeeded(fix, build, 7, SHA_A); /* an attempt that never was */
    pl_stays(fix, BUILD_OF(SHA_A, "state"), "leased");

    pl_push(fix, "delivery-12", SHA_B); /* newer: the older one is not wanted any more */
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "SUPERSEDED");
    pl_build_succeeded(fix, build, 1, SHA_A);
    pl_stays(fix, "select count(*) from enclii.release", "0");
    pl_becomes(fix,
               "select count(*) from enclii.decision where rule = 'late_result' and outcome = "
               "'ignored'",
               "0"); /* the same event id as above: not even looked at */
    free(build);
}

static void test_bad_events_go_to_the_dead_letters_and_the_rest_goes_on(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    pl_build_started(fix, "no-uuid", 1);
    pl_build_started(fix, "00000000-0000-4000-8000-00000000dead", 1); /* unknown: said, not fatal */
    pl_push(fix, "delivery-21", SHA_A);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "queued");
    pl_becomes(fix, "select count(*) from enclii.decision where rule = 'unknown_build'", "1");
    assert_string_equal(fix->failed, "");
}

static void test_a_restart_goes_on_from_the_stored_offsets(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg, "create table saved as table enclii.consumed");
    pl_push(fix, "delivery-31", SHA_A);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "queued");
    char *ids = pl_value(fix, "select string_agg(id::text, ',') from enclii.build");
    /* As if the process had died before anything was committed: the same batch comes again. */
    pl_stop(fix);
    test_pg_sql(fix->pg, "delete from enclii.consumed; insert into enclii.consumed table saved; "
                         "delete from enclii.inbox; delete from enclii.delivery; delete from "
                         "enclii.build; delete from enclii.outbox; delete from enclii.ref; update "
                         "enclii.service set "
                         "builds = 0");
    pl_start(fix);
    pl_becomes(fix, "select string_agg(id::text, ',') from enclii.build", ids);
    pl_heartbeat(fix, "builder-1", 1);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "leased");
    /* And with its offsets, nothing comes again. */
    pl_stop(fix);
    pl_start(fix);
    pl_push(fix, "delivery-32", SHA_C);
    pl_becomes(fix, "select count(*) from enclii.build", "2");
    pl_stays(fix, "select sum(duplicates) from enclii.delivery", "0");
    free(ids);
}

static void test_overdue_rows_end(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    pl_push(fix, "delivery-41", SHA_A);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "queued");
    test_pg_sql(fix->pg, "update enclii.build set deadline_at = now() - interval '1 second'");
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "TIMED_OUT");
    pl_heartbeat(fix, "builder-1", 2);
    char *deployment = until_rolling(fix, "delivery-42", SHA_B);
    test_pg_sql(fix->pg, "update enclii.deployment set deadline_at = now() - interval '1 second'");
    pl_becomes(fix, DEPLOYMENT_OF(SHA_B, "state"), "FAILED");
    pl_becomes(fix, "select release_id is null from enclii.desired", "t");
    pl_becomes(fix, "select count(*) from enclii.domain", "0");
    pl_becomes(fix, "select count(*) from enclii.outbox", "0");
    free(deployment);
}

/* What the database refuses costs itself only, wherever it is in the batch. */
static void test_a_refused_event_is_found_among_others(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg, "alter table enclii.delivery add constraint no_poison check (ref <> "
                         "'refs/heads/main' or id <> 'delivery-55')");
    pl_stop(fix);
    fix->bus = test_kafka_bus(fix->kafka, "test"); /* while nobody reads: one batch */
    for (int n = 50; n < 60; n++) {
        char delivery[32], sha[41];
        snprintf(delivery, sizeof delivery, "delivery-%d", n);
        snprintf(sha, sizeof sha, "%040d", n);
        pl_push(fix, delivery, sha);
    }
    test_kafka_close_bus(fix->kafka, fix->bus);
    pl_start(fix);
    pl_becomes(fix, "select count(*) from enclii.delivery", "9");
    pl_becomes(fix, "select count(*) from enclii.build where state = 'SUPERSEDED'", "8");
    pl_push(fix, "delivery-60", SHA_A);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "queued");
    assert_string_equal(fix->failed, "");
    test_pg_sql(fix->pg, "alter table enclii.delivery drop constraint no_poison");
}

/* One push that would make more than a transaction may carry is a dead letter, not a crash. */
static void test_a_push_with_too_much_behind_it(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg, "insert into enclii.service (id, project_id, name, repo_key, repo_url, "
                         "spec) select gen_random_uuid(), '" PROJECT "', 'big' || n, '" REPO
                         "', 'http://h/x', convert_to(repeat('x', 400000), "
                         "'UTF8') from generate_series(1, 40) n");
    const char *sum = "select sum(next) from enclii.consumed where topic = 'enclii.intake'";
    char both[160];
    snprintf(both, sizeof both,
             "select sum(next) >= %ld from enclii.consumed where topic = 'enclii.intake'",
             atol(test_pg_value(fix->pg, sum)) + 2);
    pl_push(fix, "delivery-71", SHA_A);
    pl_push(fix, "delivery-72", SHA_B);
    pl_becomes(fix, both, "t");
    pl_becomes(fix, "select count(*) from enclii.outbox", "0");
    assert_string_equal(test_pg_value(fix->pg, "select count(*) from enclii.delivery"), "0");
    test_pg_sql(fix->pg, "delete from enclii.service where name like 'big%'");
    pl_push(fix, "delivery-73", SHA_C);
    pl_becomes(fix, BUILD_OF(SHA_C, "state"), "queued");
    assert_string_equal(fix->failed, "");
}

static void test_a_builder_that_comes_back_changes_nothing(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    pl_heartbeat(fix, "builder-1", 1);
    pl_push(fix, "delivery-81", SHA_A);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "leased");
    char *build = pl_value(fix, BUILD_OF(SHA_A, "id"));
    pl_build_started(fix, build, 1);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "running");
    /* It hangs; its lease goes to another one. */
    test_pg_sql(fix->pg, "update enclii.build set state = 'leased', deadline_at = now()");
    pl_heartbeat(fix, "builder-2", 1);
    pl_becomes(fix, BUILD_OF(SHA_A, "attempt || builder_id"), "2builder-2");
    pl_becomes(fix, BUILD_OF(SHA_A, "losses"), "1"); /* which is none of the build's own attempts */
    pl_build_started(fix, build, 1);
    pl_build_succeeded(fix, build, 1, SHA_A);
    pl_becomes(fix, "select count(*) from enclii.decision where rule = 'old_attempt'", "2");
    assert_string_equal(test_pg_value(fix->pg, BUILD_OF(SHA_A, "state || attempt")), "leased2");
    assert_string_equal(test_pg_value(fix->pg, "select count(*) from enclii.release"), "0");
    free(build);
}

static void test_old_rows_are_pruned(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    pl_stop(fix);
    test_pg_sql(fix->pg,
                "insert into enclii.inbox select 'old-' || n, now() - interval '30 days' "
                "from generate_series(1, 12000) n; insert into enclii.decision (at, "
                "subject_kind, subject_id, rule, outcome) values (now() - interval '1 "
                "year', 'x', 'old', 'r', 'o'), (now(), 'x', 'new', 'r', 'o'); insert into "
                "enclii.build_log (build_id, attempt, first_seq, lines, at) values ('" SERVICE
                "', 1, 1, '[]', now() - interval '1 year')");
    pl_start(fix);
    pl_becomes(fix, "select count(*) from enclii.inbox where event_id like 'old-%'", "0");
    pl_becomes(fix, "select string_agg(subject_id, ',') from enclii.decision", "new");
    pl_becomes(fix, "select count(*) from enclii.build_log", "0");
}

int main(void)
{
    ec_log_setup("test", EC_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_push_to_healthy_and_back, pl_one_service),
        cmocka_unit_test_setup(test_redelivered_old_and_late_words_change_nothing, pl_one_service),
        cmocka_unit_test_setup(test_bad_events_go_to_the_dead_letters_and_the_rest_goes_on,
                               pl_one_service),
        cmocka_unit_test_setup(test_a_restart_goes_on_from_the_stored_offsets, pl_one_service),
        cmocka_unit_test_setup(test_overdue_rows_end, pl_one_service),
        cmocka_unit_test_setup(test_a_refused_event_is_found_among_others, pl_one_service),
        cmocka_unit_test_setup(test_a_push_with_too_much_behind_it, pl_one_service),
        cmocka_unit_test_setup(test_a_builder_that_comes_back_changes_nothing, pl_one_service),
        cmocka_unit_test_setup(test_old_rows_are_pruned, pl_one_service),
    };
    return cmocka_run_group_tests(tests, pl_set_up, pl_tear_down);
}
