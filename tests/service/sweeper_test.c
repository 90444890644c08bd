/* What nobody told is found and told once; what is merely on its way, late or known is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/metric.h"
#include "support/sweeper_fixture.h"

static void what_is_there_when_bound_is_not_news(void **state)
{
    (void)state;
    bind_repo(true);
    wait_for("select count(*) from sweeper.repo where baselined", "1");
    assert_string_equal(test_pg_value(pg, "select ref || ' ' || sha from sweeper.ref"),
                        text_of("refs/heads/main %s", head()));
    nothing_more(0);
}

static void a_push_nobody_told_is_told_once(void **state)
{
    (void)state;
    const char *before = head();
    commit("src/ünï \"x\".c", "second\n\nwith a body");
    commit("docs/read me", "third\n\nbody [skip ci]");
    sh("cd work; git push -q origin HEAD:main");
    const struct seen *seen = recovered(0);
    assert_string_equal(seen->ref, "refs/heads/main");
    assert_string_equal(seen->before, before);
    assert_string_equal(seen->after, head());
    assert_string_equal(seen->key, REPO);
    assert_string_equal(seen->message, "third\n\nbody [skip ci]");
    assert_string_equal(seen->author, "Ada");
    assert_string_equal(seen->paths, "docs/read me src/ünï \"x\".c");
    assert_true(seen->complete && seen->head);
    assert_false(seen->created || seen->deleted || seen->forced);
    assert_memory_equal(seen->id, "sweep-", 6);
    assert_string_equal(seen->ce_id, ec_id_derive(seen->id, "push").text);
    nothing_more(1);
    assert_int_equal((int)ec_metric_value(&pushes_recovered, "refs"), 1);
}

/* The usual case: the host lists it a little before the webhook's push is told. */
static void a_webhook_on_its_way_is_waited_for(void **state)
{
    (void)state;
    int had = push_count;
    set_pace(PATIENT);
    for (int i = 0; i < 3; i++) {
        char before[65], id[32];
        snprintf(before, sizeof before, "%s", head());
        snprintf(id, sizeof id, "hook-%d", i);
        commit("src/main.c", "told");
        sh("cd work; git push -q origin HEAD:main");
        run_for(GRACE_MS / 2);
        tell(id, "refs/heads/main", before, head(), true);
        run_for(INTERVAL_MS + 330 * i);
    }
    nothing_more(had);
    set_pace(1);
    assert_string_equal(test_pg_value(pg, "select count(*) from sweeper.ref where odd_sha is not "
                                          "null"),
                        "0");
}

/* Pushes may be told in another order than they happened. */
static void an_older_push_told_late_changes_nothing(void **state)
{
    (void)state;
    int had = push_count;
    char a[65], b[65], c[65], sql[320], want[80];
    set_pace(PATIENT);
    snprintf(a, sizeof a, "%s", head());
    commit("src/main.c", "b");
    snprintf(b, sizeof b, "%s", head());
    commit("src/main.c", "c");
    snprintf(c, sizeof c, "%s", head());
    sh("cd work; git push -q origin HEAD:main");
    tell("late-2", "refs/heads/main", b, c, true);
    tell("late-1", "refs/heads/main", a, b, true);
    nothing_more(had);
    set_pace(1);
    /* Its own gap is closed; what sweeps found before stays a gap. */
    snprintf(sql, sizeof sql,
             "select sha || (position('%s' in gap_from) + position('%s' in gap_to))"
             " from sweeper.ref",
             a, b);
    snprintf(want, sizeof want, "%s0", c);
    assert_string_equal(test_pg_value(pg, sql), want);
}

/* The host says the same as ever, and what was told says otherwise: a push and its reversal, of
 * which only the first was told. */
static void a_reversal_nobody_told(void **state)
{
    (void)state;
    int had = push_count;
    const char *there = head();
    wait_for("select count(*) from sweeper.repo where listed <> ''", "1");
    tell("reversed", "refs/heads/main", there, "1111111111111111111111111111111111111111", true);
    const struct seen *seen = recovered(had);
    assert_string_equal(seen->before, "1111111111111111111111111111111111111111");
    assert_string_equal(seen->after, there);
    assert_false(seen->complete); /* nobody can say any more */
    nothing_more(had + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_there_when_bound_is_not_news),
        cmocka_unit_test(a_push_nobody_told_is_told_once),
        cmocka_unit_test(a_webhook_on_its_way_is_waited_for),
        cmocka_unit_test(an_older_push_told_late_changes_nothing),
        cmocka_unit_test(a_reversal_nobody_told),
    };
    return fixture_open() ? cmocka_run_group_tests(tests, NULL, fixture_close) : 0;
}
