/* Pull requests and approvals, decider by decider. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pull_support.h"
#include "pulls.h"

static const struct decision *last_why(const struct world *w)
{
    const struct decision *last = NULL;
    for (const struct decision *d = w->first_decision; d; d = d->next) {
        last = d;
    }
    return last;
}

static struct release *finish_build(struct world *w)
{
    struct build *b = last_build(w);
    Enclii__V1__BuildSucceeded *built = world_message(w, &enclii__v1__build_succeeded__descriptor);
    built->build_id = world_text(w, b->id);
    built->attempt = b->attempt;
    built->digest = world_text(w, DIGEST);
    test_event(w, "build.succeeded", NULL, &built->base);
    struct release *release = w->first_release;
    while (release && release->next) {
        release = release->next;
    }
    assert_non_null(release);
    Enclii__V1__ReleaseSigned *sign = world_message(w, &enclii__v1__release_signed__descriptor);
    sign->release_id = world_text(w, release->id);
    sign->digest = world_text(w, DIGEST);
    test_event(w, "release.signed", NULL, &sign->base);
    assert_int_equal(release->cell.state, RELEASE_READY);
    return release;
}

static const struct deployment *deploy(struct world *w, const struct release *release)
{
    static int serial;
    Enclii__V1__RequestDeploy *req = world_message(w, &enclii__v1__request_deploy__descriptor);
    req->service_id = world_text(w, w->first_service->id);
    req->release_id = world_text(w, release->id);
    req->environment_id = world_text(w, ENVIRONMENT);
    req->deployment_id = ec_arena_format(w->arena, "00000000-0000-4000-a000-%012d", ++serial);
    test_event(w, "request.deploy", NULL, &req->base);
    return world_deployment(w, req->deployment_id);
}

/* ---- which are built ---- */

static void test_the_rule_and_the_author_decide(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *association;
        bool from_fork;
        const char *reason; /* "" = built */
    } rows[] = {
        {"trusted", "", false, ""},
        {"", "", false, ""}, /* a spec from before the rule */
        {"trusted", "NONE", true, "fork_of_stranger"},
        {"trusted", "", true, "fork_of_stranger"},
        {"trusted", "CONTRIBUTOR", true, "fork_of_stranger"},
        {"trusted", "FIRST_TIME_CONTRIBUTOR", true, "fork_of_stranger"},
        {"trusted", "member", true, "fork_of_stranger"},
        {"", "NONE", true, "fork_of_stranger"},
        {"trusted", "OWNER", true, ""},
        {"trusted", "MEMBER", true, ""},
        {"trusted", "COLLABORATOR", true, ""},
        {"all", "NONE", true, ""},
        {"off", "OWNER", true, "pull_requests_off"},
        {"off", "", false, "pull_requests_off"},
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        struct world *w = world_of(rows[i].rule, false);
        Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
        pr->from_fork = rows[i].from_fork;
        pr->author_association = world_text(w, rows[i].association);
        const struct delivery *row = tell(w, pr);
        bool built = w->first_build != NULL;
        if (built != !*rows[i].reason || strcmp(row->reason, rows[i].reason) != 0) {
            fail_msg("%s, %s, fork %d: \"%s\", not \"%s\"", rows[i].rule, rows[i].association,
                     rows[i].from_fork, row->reason, rows[i].reason);
        }
        assert_int_equal(row->cell.state, built ? DELIVERY_ACCEPTED : DELIVERY_IGNORED);
        if (built) {
            assert_int_equal(w->first_build->trusted, !rows[i].from_fork);
            assert_string_equal(w->first_build->ref, "refs/pull/7/head");
            assert_int_equal(w->first_build->priority, PRIORITY_PULL);
        }
        world_free(w);
    }
}

static void test_where_the_head_is(void **state)
{
    (void)state;
    static const struct {
        const char *host, *sha;
        bool from_fork;
        const char *ref; /* "" = not built */
    } rows[] = {
        {"github", SHA_1, true, "refs/pull/7/head"},
        {"gitea", SHA_1, true, "refs/pull/7/head"},
        {"gitlab", SHA_1, true, "refs/merge-requests/7/head"},
        {"bitbucket", SHA_1, false, "refs/heads/cat"},
        {"bitbucket", SHA_1, true, ""},
        {"bitbucket", "111111111111", false, ""}, /* it names twelve digits only */
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        struct world *w = world_of("all", false);
        Enclii__V1__PullRequestChanged *pr = pull(w, "opened", rows[i].sha);
        pr->delivery->host = world_text(w, rows[i].host);
        pr->from_fork = rows[i].from_fork;
        const struct delivery *row = tell(w, pr);
        assert_string_equal(w->first_build ? w->first_build->ref : "", rows[i].ref);
        assert_string_equal(row->reason, *rows[i].ref ? "" : "head_not_reachable");
        Enclii__V1__RunBuild *run = lease(w);
        if (run) { /* whatever the fork is called: the address is the service's own */
            assert_string_equal(run->clone_url, w->first_service->repo_url);
        }
        world_free(w);
    }
}

static void test_actions(void **state)
{
    (void)state;
    static const struct {
        const char *action;
        bool builds;
    } rows[] = {{"opened", true},   {"synchronize", true}, {"reopened", true},
                {"labeled", false}, {"closed", false},     {"ready_for_review", true},
                {"edited", false},  {"unlabeled", false},  {"converted_to_draft", false}};
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        struct world *w = world_of("all", false);
        tell(w, pull(w, rows[i].action, SHA_1));
        if ((w->first_build != NULL) != rows[i].builds) {
            fail_msg("%s", rows[i].action);
        }
        world_free(w);
    }
}

static void test_a_branch_of_its_own_and_skip_markers(void **state)
{
    (void)state;
    struct world *w = world_of("all", false);
    Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
    pr->base_ref = world_text(w, "develop");
    assert_string_equal(tell(w, pr)->reason, "branch_not_watched");
    pr = pull(w, "edited", SHA_1); /* now it wants to go to main */
    assert_int_equal(tell(w, pr)->cell.state, DELIVERY_ACCEPTED);
    assert_non_null(w->first_build);
    pr = pull(w, "synchronize", SHA_2);
    pr->title = world_text(w, "Add a cat [skip ci]");
    assert_string_equal(tell(w, pr)->reason, "skip_marker");
    pr = pull(w, "opened", SHA_2);
    pr->delivery->repo_key = world_text(w, "h/acme/other");
    assert_string_equal(tell(w, pr)->reason, "no_service");
    world_free(w);
}

static void test_new_heads_late_words_and_closing(void **state)
{
    (void)state;
    struct world *w = world_of("all", false);
    Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
    pr->updated_unix_ms = 1000;
    tell(w, pr);
    struct build *first = w->first_build;
    size_t duplicates = world_delivery(w, pr->delivery->delivery_id)->duplicates;
    tell(w, pr); /* the host sent it again */
    assert_int_equal(world_delivery(w, pr->delivery->delivery_id)->duplicates, duplicates + 1);
    assert_int_equal(ec_map_count(w->builds), 1);
    pr = pull(w, "synchronize", SHA_2);
    pr->updated_unix_ms = 3000;
    pr->draft = true;
    tell(w, pr);
    assert_int_equal(first->cell.state, BUILD_SUPERSEDED);
    assert_int_equal(last_build(w)->priority, PRIORITY_DRAFT);
    pr = pull(w, "synchronize", SHA_1); /* came late */
    pr->updated_unix_ms = 2000;
    assert_string_equal(tell(w, pr)->reason, "older_word");
    assert_int_equal(last_build(w)->cell.state, BUILD_QUEUED);
    pr = pull(w, "reopened", SHA_2);
    pr->updated_unix_ms = 4000;
    assert_string_equal(tell(w, pr)->reason, "already_building");
    pr = pull(w, "closed", SHA_2);
    pr->updated_unix_ms = 5000;
    tell(w, pr);
    assert_int_equal(last_build(w)->cell.state, BUILD_CANCELLED);
    assert_string_equal(last_build(w)->reason, "pull_request_closed");
    pr = pull(w, "reopened", SHA_2);
    pr->updated_unix_ms = 6000;
    tell(w, pr);
    assert_int_equal(last_build(w)->cell.state, BUILD_QUEUED);
    world_free(w);
}

static void test_a_commit_is_built_once(void **state)
{
    (void)state;
    struct world *w = world_of("all", false);
    Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
    pr->from_fork = false;
    test_push(w, "p1", SHA_1);
    assert_string_equal(tell(w, pr)->reason, "already_building");
    assert_int_equal(ec_map_count(w->builds), 1);
    world_free(w);

    w = world_of("all", false); /* the other way round: the push's build may deploy */
    tell(w, pull(w, "opened", SHA_1));
    struct build *of_pull = w->first_build;
    test_push(w, "p2", SHA_1);
    assert_int_equal(of_pull->cell.state, BUILD_SUPERSEDED);
    assert_string_equal(of_pull->reason, "superseded_by_push");
    assert_true(last_build(w)->trusted);
    tell(w, pull(w, "synchronize", SHA_2)); /* never the other way: a push is not superseded */
    assert_int_equal(ec_map_count(w->builds), 3);
    assert_int_equal(w->first_build->next->cell.state, BUILD_QUEUED);
    world_free(w);

    w = world_of("all", false); /* untrusted code does not stand for the same commit, trusted */
    tell(w, pull(w, "opened", SHA_1));
    pr = pull(w, "opened", SHA_1);
    pr->number = 8;
    pr->from_fork = false;
    tell(w, pr);
    assert_int_equal(ec_map_count(w->builds), 2);
    assert_true(last_build(w)->trusted);
    world_free(w);
}

/* ---- what a fork's build gets, and what becomes of it ---- */

static void test_untrusted_builds_get_nothing_secret(void **state)
{
    (void)state;
    struct world *w = world_of("all", false);
    tell(w, pull(w, "opened", SHA_1));
    Enclii__V1__RunBuild *run = lease(w);
    assert_non_null(run);
    assert_false(run->trusted);
    assert_int_equal(run->spec->n_args, 0);
    finish_build(w);
    for (struct fact *f = w->first_fact; f; f = f->next) { /* nor does the signer */
        assert_null(f->body.ptr ? memmem(f->body.ptr, f->body.len, "hunter2", 7) : NULL);
    }
    test_push(w, "p1", SHA_2);
    run = lease(w);
    assert_true(run->trusted);
    assert_int_equal(run->spec->n_args, 1);
    world_free(w);
}

/* A builder that takes trusted code only is no place for a fork's, and a fork's build that finds no
 * place does not hold up the others, however long it has waited. */
static void test_builders_for_trusted_code(void **state)
{
    (void)state;
    struct world *w = world_of("all", false);
    w->first_builder->trusted_only = true;
    tell(w, pull(w, "opened", SHA_1));
    w->first_build->queued_ms = NOW - 3600000;
    assert_null(lease(w));
    test_push(w, "p1", SHA_2);
    Enclii__V1__RunBuild *run = lease(w);
    assert_non_null(run);
    assert_string_equal(run->commit->sha, SHA_2);
    assert_int_equal(w->first_build->cell.state, BUILD_QUEUED);
    world_add_builder(
        w,
        &(struct builder){
            .id = "for-forks", .slots = 1, .cached_repos = "[]", .version = "", .heard_ms = NOW});
    run = lease(w);
    assert_string_equal(run->commit->sha, SHA_1);
    assert_string_equal(run->builder_id, "for-forks");
    world_free(w);
}

static void test_a_pull_request_never_deploys_by_itself(void **state)
{
    (void)state;
    for (int fork = 0; fork < 2; fork++) {
        struct world *w = world_of("all", false);
        w->first_service->branch = "**,refs/pull/**,refs/**"; /* the widest rule there is */
        Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
        pr->from_fork = fork;
        tell(w, pr);
        lease(w);
        const struct release *release = finish_build(w);
        assert_null(w->first_deployment);
        assert_string_equal(last_why(w)->rule, "pull_request_not_deployed");
        const struct deployment *dep = deploy(w, release);
        assert_int_equal(dep->cell.state, fork ? DEPLOYMENT_CANCELLED : DEPLOYMENT_ROLLING);
        assert_string_equal(dep->reason, fork ? "approval_needed" : "");
        world_free(w);
    }
}

static void test_an_approval_is_for_one_commit(void **state)
{
    (void)state;
    struct world *w = world_of("trusted", false);
    tell(w, pull(w, "opened", SHA_1));
    assert_null(w->first_build);
    approve(w, SHA_2); /* not the head */
    assert_null(w->first_build);
    assert_string_equal(last_why(w)->rule, "unknown_pull_request");
    approve(w, SHA_1);
    assert_non_null(w->first_build);
    assert_false(w->first_build->trusted);
    assert_string_equal(w->first_build->approved_by, "ada");
    lease(w);
    struct release *release = finish_build(w);
    assert_null(w->first_deployment);
    assert_int_equal(deploy(w, release)->cell.state, DEPLOYMENT_ROLLING);

    /* The next head is a stranger's again. */
    assert_string_equal(tell(w, pull(w, "synchronize", SHA_2))->reason, "fork_of_stranger");
    assert_int_equal(ec_map_count(w->builds), 1);
    world_free(w);
}

static void test_approving_what_is_built(void **state)
{
    (void)state;
    struct world *w = world_of("all", false);
    tell(w, pull(w, "opened", SHA_1));
    lease(w);
    struct release *release = finish_build(w);
    assert_string_equal(deploy(w, release)->reason, "approval_needed");
    tell(w, pull(w, "synchronize", SHA_2));
    approve(w, SHA_2);
    assert_string_equal(deploy(w, release)->reason, "approval_needed"); /* that was the other one */
    assert_int_equal(ec_map_count(w->builds), 2);                       /* no second build of it */
    assert_string_equal(last_build(w)->approved_by, "ada");
    approve(w, SHA_1); /* the head before: it was built, so it can be looked at */
    assert_int_equal(deploy(w, release)->cell.state, DEPLOYMENT_ROLLING);
    assert_int_equal(ec_map_count(w->builds), 2);
    world_free(w);
}

static void test_asking_by_commit_does_not_make_it_trusted(void **state)
{
    (void)state;
    struct world *w = world_of("trusted", false);
    tell(w, pull(w, "opened", SHA_1));
    Enclii__V1__RequestBuild *req = world_message(w, &enclii__v1__request_build__descriptor);
    req->commit = world_message(w, &enclii__v1__commit__descriptor);
    req->commit->sha = world_text(w, SHA_1);
    req->commit->ref = world_text(w, "refs/heads/main");
    req->service_id = world_text(w, w->first_service->id);
    test_event(w, "request.build", NULL, &req->base);
    assert_false(last_build(w)->trusted);
    assert_int_equal(last_build(w)->pull_request, 7);
    assert_string_equal(last_build(w)->ref, "refs/pull/7/head");
    tell(w, pull(w, "synchronize", SHA_2)); /* no head any more, but known by its build */
    test_event(w, "request.build", NULL, &req->base);
    assert_false(last_build(w)->trusted);
    test_push(w, "p1", SHA_1); /* somebody with the right to push took it over */
    test_event(w, "request.build", NULL, &req->base);
    assert_true(last_build(w)->trusted);
    assert_int_equal(last_build(w)->pull_request, 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_rule_and_the_author_decide),
        cmocka_unit_test(test_where_the_head_is),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_a_branch_of_its_own_and_skip_markers),
        cmocka_unit_test(test_new_heads_late_words_and_closing),
        cmocka_unit_test(test_a_commit_is_built_once),
        cmocka_unit_test(test_untrusted_builds_get_nothing_secret),
        cmocka_unit_test(test_builders_for_trusted_code),
        cmocka_unit_test(test_a_pull_request_never_deploys_by_itself),
        cmocka_unit_test(test_an_approval_is_for_one_commit),
        cmocka_unit_test(test_approving_what_is_built),
        cmocka_unit_test(test_asking_by_commit_does_not_make_it_trusted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
