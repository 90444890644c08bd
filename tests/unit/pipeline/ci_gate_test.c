/* What a push waits for: the word of the host's CI. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pull_support.h"
#include "pulls.h"

static void ci_run(struct world *w, const char *kind, const char *id, int64_t attempt,
                   const char *conclusion)
{
    Enclii__V1__CiChanged *ci = world_message(w, &enclii__v1__ci_changed__descriptor);
    ci->delivery = info(w, "completed");
    ci->kind = world_text(w, kind);
    ci->run_id = world_text(w, id);
    ci->name = ec_arena_format(w->arena, "Tests %s", id);
    ci->sha = world_text(w, SHA_1);
    bool over = strcmp(conclusion, "queued") != 0 && strcmp(conclusion, "in_progress") != 0;
    ci->status = world_text(w, over ? "completed" : conclusion);
    ci->conclusion = world_text(w, over ? conclusion : "");
    ci->url = world_text(w, "https://h/runs/1");
    ci->run_attempt = attempt;
    test_event(w, "ci.changed", NULL, &ci->base);
}

static void test_the_verdict(void **state)
{
    (void)state;
    static const struct {
        const char *runs[4][3]; /* kind, id, conclusion */
        int is;
    } rows[] = {
        {{{NULL}}, CI_UNKNOWN},
        {{{"workflow_run", "1", "success"}}, CI_GOOD},
        {{{"workflow_run", "1", "neutral"}, {"workflow_run", "2", "skipped"}}, CI_GOOD},
        {{{"workflow_run", "1", "success"}, {"workflow_run", "2", "in_progress"}}, CI_RUNNING},
        {{{"workflow_run", "2", "in_progress"}, {"workflow_run", "1", "success"}}, CI_RUNNING},
        {{{"workflow_run", "1", "queued"}}, CI_RUNNING},
        {{{"workflow_run", "1", "in_progress"}, {"workflow_run", "2", "failure"}}, CI_BAD},
        {{{"workflow_run", "1", "success"}, {"workflow_run", "2", "cancelled"}}, CI_BAD},
        {{{"workflow_run", "1", "timed_out"}}, CI_BAD},
        {{{"workflow_run", "1", "action_required"}}, CI_BAD},
        /* Suites of apps that never run hold nothing, and tell nothing. */
        {{{"check_suite", "9", "queued"}}, CI_UNKNOWN},
        {{{"check_suite", "9", "queued"}, {"check_suite", "8", "success"}}, CI_GOOD},
        {{{"check_suite", "9", "in_progress"}, {"check_suite", "8", "success"}}, CI_RUNNING},
        {{{"check_suite", "9", "failure"}}, CI_BAD},
        /* Workflow runs are the finer word. */
        {{{"check_suite", "9", "failure"}, {"workflow_run", "1", "success"}}, CI_GOOD},
        {{{"check_suite", "9", "success"}, {"workflow_run", "1", "in_progress"}}, CI_RUNNING},
        {{{"pipeline", "1", "success"}}, CI_GOOD},
        {{{"pipeline", "1", "failure"}}, CI_BAD},
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        struct world *w = world_of("trusted", true);
        for (size_t k = 0; k < 4 && rows[i].runs[k][0]; k++) {
            ci_run(w, rows[i].runs[k][0], rows[i].runs[k][1], 1, rows[i].runs[k][2]);
        }
        struct ci_verdict verdict = decide_ci_verdict(w, REPO_KEY, SHA_1);
        if ((int)verdict.is != rows[i].is) {
            fail_msg("row %zu: %d, not %d", i, (int)verdict.is, rows[i].is);
        }
        assert_int_equal(decide_ci_verdict(w, REPO_KEY, SHA_2).is, CI_UNKNOWN);
        assert_int_equal(decide_ci_verdict(w, "h/acme/other", SHA_1).is, CI_UNKNOWN);
        world_free(w);
    }
}

static void test_a_push_waits_for_ci(void **state)
{
    (void)state;
    struct world *w = world_of("trusted", true);
    test_push(w, "p1", SHA_1);
    struct build *b = w->first_build;
    assert_int_equal(b->cell.state, BUILD_WAITING);
    assert_int_equal(b->cell.deadline_unix_ms, NOW + 3600000 + 1000);
    assert_null(lease(w));
    ci_run(w, "workflow_run", "1", 1, "in_progress");
    assert_int_equal(b->cell.state, BUILD_WAITING);
    assert_string_equal(b->detail, "Tests 1 (in_progress) https://h/runs/1");
    ci_run(w, "workflow_run", "1", 1, "success");
    assert_int_equal(b->cell.state, BUILD_QUEUED);
    assert_string_equal(b->reason, "");
    assert_non_null(lease(w));
    world_free(w);
}

static void test_the_ci_may_be_first_and_may_fail(void **state)
{
    (void)state;
    struct world *w = world_of("trusted", true);
    ci_run(w, "workflow_run", "1", 1, "success");
    test_push(w, "p1", SHA_1);
    assert_int_equal(w->first_build->cell.state, BUILD_QUEUED);
    world_free(w);

    w = world_of("trusted", true);
    test_push(w, "p1", SHA_1);
    ci_run(w, "workflow_run", "1", 1, "failure");
    assert_int_equal(w->first_build->cell.state, BUILD_CANCELLED);
    assert_string_equal(w->first_build->reason, "ci_failed");
    assert_string_equal(w->first_build->detail, "Tests 1 ended as failure: https://h/runs/1");
    world_free(w);

    w = world_of("trusted", true); /* run again, and well, before the push is handled */
    ci_run(w, "workflow_run", "1", 1, "failure");
    ci_run(w, "workflow_run", "1", 2, "success");
    ci_run(w, "workflow_run", "1", 1, "failure");     /* the first attempt's word once more */
    ci_run(w, "workflow_run", "1", 2, "in_progress"); /* and a late one */
    test_push(w, "p1", SHA_1);
    assert_int_equal(w->first_build->cell.state, BUILD_QUEUED);
    world_free(w);

    w = world_of("trusted", true); /* run again, and well, after the push was ended by it */
    test_push(w, "p1", SHA_1);
    ci_run(w, "workflow_run", "1", 1, "failure");
    ci_run(w, "workflow_run", "1", 2, "in_progress");
    assert_int_equal(ec_map_count(w->builds), 1);
    ci_run(w, "workflow_run", "1", 2, "success");
    assert_int_equal(ec_map_count(w->builds), 2);
    assert_int_equal(last_build(w)->cell.state, BUILD_QUEUED);
    assert_string_equal(last_build(w)->ref, "refs/heads/main");
    ci_run(w, "workflow_run", "1", 2, "success"); /* told once more */
    assert_int_equal(ec_map_count(w->builds), 2);
    world_free(w);

    w = world_of("trusted", true); /* the same, but a newer push came meanwhile: that one counts */
    test_push(w, "p1", SHA_1);
    ci_run(w, "workflow_run", "1", 1, "failure");
    test_push(w, "p2", SHA_2);
    ci_run(w, "workflow_run", "1", 2, "success");
    assert_int_equal(ec_map_count(w->builds), 2);
    assert_string_equal(last_build(w)->commit_sha, SHA_2);
    world_free(w);

    w = world_of("trusted", true); /* silence ends, too */
    test_push(w, "p1", SHA_1);
    decide_build_overdue(w, w->first_build);
    assert_int_equal(w->first_build->cell.state, BUILD_TIMED_OUT);
    assert_string_equal(w->first_build->reason, "ci_timed_out");
    assert_non_null(strstr(w->first_build->detail, "no run of the host's CI"));
    world_free(w);

    w = world_of("trusted", true); /* pull requests do not wait: nothing of them deploys */
    Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
    pr->from_fork = false;
    tell(w, pr);
    assert_int_equal(w->first_build->cell.state, BUILD_QUEUED);
    world_free(w);
}

/* GitLab and Bitbucket count no attempts: a word that overtook another must hold no later push, and
 * a run that failed may still be repeated. */
static void test_late_words_without_attempts(void **state)
{
    (void)state;
    struct world *w = world_of("trusted", true);
    ci_run(w, "pipeline", "1", 0, "success");
    ci_run(w, "pipeline", "1", 0, "in_progress");
    test_push(w, "p1", SHA_1);
    assert_int_equal(w->first_build->cell.state, BUILD_QUEUED);
    world_free(w);

    w = world_of("trusted", true);
    ci_run(w, "pipeline", "1", 0, "success");
    ci_run(w, "pipeline", "1", 0, "failure"); /* of a job that was played by hand */
    assert_int_equal(decide_ci_verdict(w, REPO_KEY, SHA_1).is, CI_BAD);
    ci_run(w, "pipeline", "1", 0, "in_progress"); /* repeated */
    assert_int_equal(decide_ci_verdict(w, REPO_KEY, SHA_1).is, CI_RUNNING);
    ci_run(w, "pipeline", "1", 0, "success");
    assert_int_equal(decide_ci_verdict(w, REPO_KEY, SHA_1).is, CI_GOOD);
    world_free(w);

    w = world_of("trusted", true); /* an attempt that is counted begins anew */
    ci_run(w, "workflow_run", "1", 1, "success");
    ci_run(w, "workflow_run", "1", 2, "in_progress");
    assert_int_equal(decide_ci_verdict(w, REPO_KEY, SHA_1).is, CI_RUNNING);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_verdict),
        cmocka_unit_test(test_a_push_waits_for_ci),
        cmocka_unit_test(test_the_ci_may_be_first_and_may_fail),
        cmocka_unit_test(test_late_words_without_attempts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
