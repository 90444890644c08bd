/* Pull requests, approvals and the host's CI in the pipeline, on a real PostgreSQL: each word is an
 * event of its own, so that what one transaction wrote is what the next one reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "support/pipeline_fixture.h"

static void deploy(struct pl_fixture *fix, const char *release, const char *deployment)
{
    Enclii__V1__RequestDeploy req = ENCLII__V1__REQUEST_DEPLOY__INIT;
    req.service_id = pl_text(SERVICE);
    req.release_id = pl_text(release);
    req.environment_id = pl_text(ENVIRONMENT);
    req.deployment_id = pl_text(deployment);
    pl_tell(fix, EC_TOPIC_REQUESTS, SERVICE, "dev.enclii.request.deploy.v1", &req.base, deployment);
}

static void ci_run(struct pl_fixture *fix, const char *sha, const char *run_id,
                   const char *conclusion)
{
    Enclii__V1__DeliveryInfo about = pl_info("workflow_run", "completed");
    Enclii__V1__CiChanged ci = ENCLII__V1__CI_CHANGED__INIT;
    ci.delivery = &about;
    ci.kind = pl_text("workflow_run");
    ci.run_id = pl_text(run_id);
    ci.name = pl_text("Tests");
    ci.sha = pl_text(sha);
    ci.status = pl_text(*conclusion ? "completed" : "in_progress");
    ci.conclusion = pl_text(conclusion);
    ci.url = pl_text("https://h/runs/1");
    ci.run_attempt = 1;
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.ci.changed.v1", &ci.base, about.delivery_id);
}

static void spec_waits_for_ci(struct pl_fixture *fix)
{
    /* Field 11 of ServiceSpec, true: added to the packed bytes. */
    test_pg_sql(fix->pg, "update enclii.service set spec = spec || '\\x5801'");
}

static void test_a_fork_from_stranger_to_served(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    pl_pull(fix, "opened", SHA_A);
    pl_becomes(fix, "select state || ' ' || reason from enclii.delivery",
               "IGNORED fork_of_stranger");
    pl_stays(fix, "select count(*) from enclii.build", "0");
    pl_becomes(fix, "select state || ' ' || head_sha || ' ' || from_fork from enclii.pull_request",
               "open " SHA_A " true");
    pl_approve(fix, SHA_A);
    pl_becomes(fix,
               BUILD_OF(SHA_A, "pull_request || ' ' || trusted || ' ' || approved_by || ' ' || "
                               "ref || ' ' || author"),
               "7 false ada refs/pull/7/head eve");
    pl_heartbeat(fix, "b1", 1);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "leased");
    ec_cleanup(ec_freep) char *build = pl_value(fix, BUILD_OF(SHA_A, "id"));
    pl_build_started(fix, build, 1);
    pl_build_succeeded(fix, build, 1, SHA_A);
    pl_becomes(fix, RELEASE_OF(SHA_A, "trusted || ' ' || pull_request || ' ' || approved_by"),
               "false 7 ada");
    ec_cleanup(ec_freep) char *release = pl_value(fix, RELEASE_OF(SHA_A, "id"));
    pl_release_signed(fix, release);
    pl_becomes(fix, RELEASE_OF(SHA_A, "state"), "READY");
    pl_stays(fix, "select count(*) from enclii.deployment", "0");
    pl_becomes(fix,
               "select rule from enclii.decision where subject_kind = 'release' and outcome = "
               "'not deployed'",
               "pull_request_not_deployed");
    deploy(fix, release, "00000000-0000-4000-8000-00000000d001");
    pl_becomes(fix, "select state from enclii.deployment", "rolling");
}

static void test_an_unapproved_release_is_refused_until_its_commit_is_let_in(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    /* "all": strangers' code is built without a question. Field 10 of ServiceSpec. */
    test_pg_sql(fix->pg, "update enclii.service set spec = spec || '\\x5203616c6c'");
    pl_heartbeat(fix, "b1", 1);
    pl_pull(fix, "opened", SHA_A);
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "leased");
    ec_cleanup(ec_freep) char *build = pl_value(fix, BUILD_OF(SHA_A, "id"));
    pl_build_started(fix, build, 1);
    pl_build_succeeded(fix, build, 1, SHA_A);
    pl_becomes(fix, RELEASE_OF(SHA_A, "state"), "signing");
    ec_cleanup(ec_freep) char *release = pl_value(fix, RELEASE_OF(SHA_A, "id"));
    pl_release_signed(fix, release);
    pl_becomes(fix, RELEASE_OF(SHA_A, "state"), "READY");
    deploy(fix, release, "00000000-0000-4000-8000-00000000d002");
    pl_becomes(fix, "select state || ' ' || reason from enclii.deployment",
               "CANCELLED approval_needed");
    pl_stays(fix, "select count(*) from enclii.desired where release_id is not null", "0");
    pl_pull(fix, "synchronize", SHA_B); /* the approval of another commit does not help */
    pl_becomes(fix, "select head_sha from enclii.pull_request", SHA_B);
    pl_approve(fix, SHA_B);
    pl_becomes(fix, "select string_agg(commit_sha, ' ') from enclii.approval", SHA_B);
    deploy(fix, release, "00000000-0000-4000-8000-00000000d003");
    pl_becomes(fix,
               "select reason from enclii.deployment where id = "
               "'00000000-0000-4000-8000-00000000d003'",
               "approval_needed");
    pl_approve(fix, SHA_A);
    pl_becomes(fix, RELEASE_OF(SHA_A, "approved_by"), "ada");
    deploy(fix, release, "00000000-0000-4000-8000-00000000d004");
    pl_becomes(fix,
               "select state from enclii.deployment where id = "
               "'00000000-0000-4000-8000-00000000d004'",
               "rolling");
    pl_pull(fix, "closed", SHA_B);
    pl_becomes(fix, BUILD_OF(SHA_B, "state || ' ' || reason"), "CANCELLED pull_request_closed");
    pl_becomes(fix, "select state from enclii.pull_request", "CLOSED");
}

static void test_a_push_waits_for_the_ci(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    spec_waits_for_ci(fix);
    pl_heartbeat(fix, "b1", 1);
    pl_push(fix, "p-1", SHA_A);
    pl_becomes(fix, BUILD_OF(SHA_A, "state || ' ' || reason"), "waiting wait_for_ci");
    pl_becomes(fix,
               BUILD_OF(SHA_A, "(deadline_at - now() between interval '55 min' and interval "
                               "'61 min')::text"),
               "true");
    ci_run(fix, SHA_A, "1", "");
    pl_becomes(fix, BUILD_OF(SHA_A, "detail"), "Tests (in_progress) https://h/runs/1");
    pl_stays(fix, BUILD_OF(SHA_A, "state"), "waiting");
    ci_run(fix, SHA_A, "1", "success");
    pl_becomes(fix, BUILD_OF(SHA_A, "state"), "leased");

    ci_run(fix, SHA_B, "2", "failure"); /* over before its push */
    pl_becomes(fix, "select count(*) from enclii.ci_run", "2");
    pl_push(fix, "p-2", SHA_B);
    pl_becomes(fix, BUILD_OF(SHA_B, "state || ' ' || reason || ' ' || detail"),
               "CANCELLED ci_failed Tests ended as failure: https://h/runs/1");

    pl_push(fix, "p-3", SHA_C); /* nobody says anything */
    pl_becomes(fix, BUILD_OF(SHA_C, "state"), "waiting");
    test_pg_sql(fix->pg, "update enclii.build set deadline_at = now() - interval '1 s' where "
                         "commit_sha = '" SHA_C "'");
    pl_becomes(fix, BUILD_OF(SHA_C, "state || ' ' || reason"), "TIMED_OUT ci_timed_out");
}

/* Another commit's runs, however many come in the same batch, hide none of this one's. */
static void test_every_run_of_a_commit_counts(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    spec_waits_for_ci(fix);
    test_pg_sql(fix->pg,
                "insert into enclii.ci_run (repo_key, sha, kind, run_id, status, conclusion)"
                " select '" REPO "', '" SHA_A "', 'workflow_run', 'n' || n, 'completed', 'success'"
                " from generate_series(1, 2500) n");
    pl_push(fix, "q-1", SHA_B);
    ci_run(fix, SHA_B, "1", ""); /* runs on */
    pl_becomes(fix, BUILD_OF(SHA_B, "detail"), "Tests (in_progress) https://h/runs/1");
    ec_consumer_pause(fix->pl.consumer, true);
    ci_run(fix, SHA_A, "n1", "success");
    ci_run(fix, SHA_B, "2", "success");
    test_run_for(fix->loop, 500); /* both are fetched: one batch */
    ec_consumer_pause(fix->pl.consumer, false);
    pl_becomes(fix, "select count(*) from enclii.ci_run where sha = '" SHA_B "'", "2");
    pl_stays(fix, BUILD_OF(SHA_B, "state"), "waiting");
}

int main(void)
{
    ec_log_setup("test", EC_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_fork_from_stranger_to_served, pl_one_service),
        cmocka_unit_test_setup(test_an_unapproved_release_is_refused_until_its_commit_is_let_in,
                               pl_one_service),
        cmocka_unit_test_setup(test_a_push_waits_for_the_ci, pl_one_service),
        cmocka_unit_test_setup(test_every_run_of_a_commit_counts, pl_one_service),
    };
    return cmocka_run_group_tests(tests, pl_set_up, pl_tear_down);
}
