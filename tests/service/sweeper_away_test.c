/* A host or the broker is away: nothing is concluded from that, and nothing is lost for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/metric.h"
#include "support/sweeper_fixture.h"

static void a_host_that_is_away(void **state)
{
    (void)state;
    int had = push_count;
    sh("mv shop.git away");
    wait_for("select failures >= 2 from sweeper.repo", "t");
    assert_non_null(strstr(test_pg_value(pg, "select last_error from sweeper.repo"), "fatal: "));
    sh("mv away shop.git");
    commit("src/main.c", "while it was away");
    sh("cd work; git push -q origin HEAD:main");
    wait_for("select failures from sweeper.repo", "0");
    recovered(had);
    sh("mv shop.git away; git init -q --bare shop.git"); /* lists nothing: no deletions follow */
    wait_for("select failures >= 1 from sweeper.repo", "t");
    sh("rm -rf shop.git; mv away shop.git");
    wait_for("select failures from sweeper.repo", "0");
    nothing_more(had + 1);
}

static bool lost(void *arg)
{
    return ec_metric_value(&pushes_lost, NULL) >= *(const int *)arg;
}

/* The broker is away for ten intervals: what was found in time is counted as lost, once, and comes
 * in when the broker is back. */
static void what_cannot_be_brought_in_is_counted(void **state)
{
    (void)state;
    int had = push_count, want = 1;
    assert_int_equal((int)ec_metric_value(&pushes_lost, NULL), 0);
    test_kafka_down(kafka, true);
    commit("src/main.c", "while the broker was away");
    sh("cd work; git push -q origin HEAD:main");
    wait_for("select count(*) from sweeper.ref where odd_sha is not null", "1");
    assert_true(test_run_until(loop, LOST_AFTER_INTERVALS * INTERVAL_MS + 5000, lost, &want));
    assert_int_equal(push_count, had);
    assert_string_equal(test_pg_value(pg, "select failures from sweeper.repo"),
                        "0"); /* the host's */
    test_kafka_down(kafka, false);
    want = had + 1;
    assert_true(test_run_until(loop, 20000, pushes_reached, &want));
    nothing_more(had + 1);
    assert_int_equal((int)ec_metric_value(&pushes_lost, NULL), 1);
    wait_for("select count(*) from sweeper.ref where lost", "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixture_bound),
        cmocka_unit_test(a_host_that_is_away),
        cmocka_unit_test(what_cannot_be_brought_in_is_counted),
    };
    return fixture_open() ? cmocka_run_group_tests(tests, NULL, fixture_close) : 0;
}
