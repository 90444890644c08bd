/* What a pull request changes, asked of a real git server over HTTP that wants a password: heads
 * that are on no branch, bases that went on meanwhile, refs that come late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "support/sweeper_host.h"

#define PASSWORD "pass-4711-word"

static bool compared_reached(void *arg)
{
    return compared_count >= *(const int *)arg;
}

static void answered(const char *id, const char *head_sha)
{
    static int want;
    want++;
    int64_t began = ec_mono_ms();
    assert_true(test_run_until(loop, 21000, compared_reached, &want));
    print_message("%s: %d ms\n", id, (int)(ec_mono_ms() - began));
    assert_string_equal(compared_id, id);
    assert_string_equal(compared_head, head_sha);
}

/* A head on no branch: as a fork's is in the base repository. */
static const char *fork_of(const char *from, const char *file, const char *ref)
{
    sh("cd work; git checkout -q --detach %s", from);
    commit(file, "of the fork");
    sh("cd work; git push -q origin +HEAD:%s", ref);
    const char *made = head();
    sh("cd work; git checkout -q main");
    return made;
}

static void bound(void **state)
{
    (void)state;
    sh("git clone -q --bare shop.git %1$s/acme/shop.git;"
       "git -C %1$s/acme/shop.git config uploadpack.allowFilter true;"
       "cd work; git remote set-url origin %1$s/acme/shop.git; git checkout -q -B main",
       test_git_server_root(host));
    test_repo = host_repo;
    test_url = host_url;
    bind_repo(true);
    wait_for("select count(*) from sweeper.repo where baselined", "1");
}

static void what_the_base_did_meanwhile_is_not_the_heads(void **state)
{
    (void)state;
    const char *there = head();
    commit("web/later.js", "the base goes on");
    sh("cd work; git push -q origin main");
    const char *sha = fork_of(there, "api/ünï x.c", "refs/pull/7/head");
    tell_wanted("d-1", "refs/pull/7/head", sha, "refs/heads/main");
    answered("d-1", sha);
    assert_string_equal(compared_detail, "");
    assert_true(compared_complete);
    assert_string_equal(compared_paths, "api/ünï x.c");
    wait_for("select count(*) from sweeper.compare", "0");
    assert_non_null(strstr(test_git_server_log(host), "200 POST /acme/shop.git/git-upload-pack"));
    sh("! grep -rqE '" PASSWORD "|ZGVwbG95OnBhc3M' one");

    /* The base merged into the head: still only what the head adds. */
    sh("cd work; git checkout -q --detach %s; git merge -q --no-edit main;"
       "git push -q origin +HEAD:refs/merge-requests/7/head",
       sha);
    sha = head();
    sh("cd work; git checkout -q main");
    tell_wanted("d-2", "refs/merge-requests/7/head", sha, "refs/heads/main");
    answered("d-2", sha);
    assert_true(compared_complete);
    assert_string_equal(compared_paths, "api/ünï x.c");
}

/* Long-lived pull requests of busy repositories. */
static void a_base_that_is_far_ahead(void **state)
{
    (void)state;
    const char *there = head();
    sh("cd work; for i in $(seq 400); do printf 'commit refs/heads/main\\ncommitter A <a@b> %%d "
       "+0000\\ndata 1\\nx\\n' $((1700000000+i)); test $i -gt 1 || echo \"from %s\"; printf 'M 644 "
       "inline web/%%d\\ndata 1\\nx\\n' $i; done | git fast-import --quiet --force;"
       "git reset -q --hard main; git push -q origin main",
       there);
    const char *sha = fork_of(there, "docs/far.md", "refs/pull/8/head");
    tell_wanted("d-3", "refs/pull/8/head", sha, "refs/heads/main");
    answered("d-3", sha);
    assert_string_equal(compared_detail, "");
    assert_true(compared_complete);
    assert_string_equal(compared_paths, "docs/far.md");
}

/* GitLab makes the ref of a merge request after it has told of it. */
static void a_ref_that_comes_late(void **state)
{
    (void)state;
    const char *sha = fork_of("main", "api/late.c", "refs/pull/9/hidden");
    int had = compared_count;
    tell_wanted("d-4", "refs/pull/9/head", sha, "refs/heads/main");
    run_for(1500);
    assert_int_equal(compared_count, had);
    sh("cd work; git push -q origin %s:refs/pull/9/head", sha);
    answered("d-4", sha);
    assert_true(compared_complete);
    assert_string_equal(compared_paths, "api/late.c");
}

static void what_cannot_be_known_is_said(void **state)
{
    (void)state;
    char sha[65];
    snprintf(sha, sizeof sha, "%s", fork_of("main", "api/one.c", "refs/pull/10/head"));
    fork_of("main", "api/other.c", "refs/pull/10/head"); /* forced away */
    tell_wanted("d-5", "refs/pull/10/head", sha, "refs/heads/main");
    answered("d-5", sha);
    assert_false(compared_complete);
    assert_string_equal(compared_detail, "its head is another commit by now");

    sh("cd work; git checkout -q --orphan alone; git commit -qm alone;"
       "git push -q origin HEAD:refs/pull/11/head");
    snprintf(sha, sizeof sha, "%s", head());
    sh("cd work; git checkout -q -f main");
    tell_wanted("d-6", "refs/pull/11/head", sha, "refs/heads/main");
    answered("d-6", sha);
    assert_false(compared_complete);
    assert_string_equal(compared_detail, "it left its base branch more than 8192 commits ago");

    /* What git would read as something else reaches no git. */
    tell_wanted("d-7", "refs/heads/main:refs/heads/evil", sha, "refs/heads/main");
    tell_wanted("d-8", "refs/pull/11/head", sha, "--upload-pack=touch /tmp/evil");
    tell_wanted("d-9", "refs/pull/10/head", head(), "refs/heads/main"); /* read after them */
    answered("d-9", head());
    assert_string_equal(test_pg_value(pg, "select count(*) from sweeper.compare where delivery_id "
                                          "in ('d-7', 'd-8')"),
                        "0");
    /* main's pushes, which nobody told, together or one by one: then git has nothing to do */
    wait_for("select sha from sweeper.ref where ref = 'refs/heads/main'",
             git_says("rev-parse main"));
    run_for(INTERVAL_MS);
    sh("test -z \"$(ls one/scratch)\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bound),
        cmocka_unit_test(what_the_base_did_meanwhile_is_not_the_heads),
        cmocka_unit_test(a_base_that_is_far_ahead),
        cmocka_unit_test(a_ref_that_comes_late),
        cmocka_unit_test(what_cannot_be_known_is_said),
    };
    return host_open_git(PASSWORD) && fixture_open()
               ? cmocka_run_group_tests(tests, NULL, host_close)
               : 0;
}
