/* All that can happen to a ref, and what a push changed where the host's list was cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/sweeper_fixture.h"

static void a_forced_push_a_tag_a_branch_and_its_end(void **state)
{
    (void)state;
    int had = push_count;
    const char *before = head();
    sh("cd work; git commit -q --amend -m amended; git push -qf origin HEAD:main");
    const struct seen *seen = recovered(had);
    assert_true(seen->forced && seen->complete);
    assert_string_equal(seen->before, before);

    sh("cd work; git tag -a v1 -m one; git push -q origin v1");
    seen = recovered(had + 1);
    assert_string_equal(seen->ref, "refs/tags/v1");
    assert_string_equal(seen->before, ZEROS);
    assert_string_equal(seen->after, git_says("rev-parse v1")); /* the tag, not the commit */
    assert_true(seen->created && seen->head);
    assert_string_equal(seen->message, "amended");

    sh("cd work; git push -q origin HEAD:refs/heads/topic/x");
    seen = recovered(had + 2);
    assert_string_equal(seen->ref, "refs/heads/topic/x");
    assert_true(seen->created && !seen->complete);

    sh("cd work; git push -q origin :topic/x");
    seen = recovered(had + 3);
    assert_string_equal(seen->ref, "refs/heads/topic/x");
    assert_string_equal(seen->after, ZEROS);
    assert_true(seen->deleted && !seen->head);

    sh("cd work; git push -q origin HEAD:refs/heads/topic/x");
    seen = recovered(had + 4);
    assert_string_not_equal(seen->id, pushes[had + 2].id); /* the same words, another push */
    nothing_more(had + 5);
}

static bool compared_reached(void *arg)
{
    return compared_count >= *(const int *)arg;
}

static void a_cut_list_of_paths_is_completed(void **state)
{
    (void)state;
    char before[65];
    int want = 1, had = push_count;
    set_pace(PATIENT);
    snprintf(before, sizeof before, "%s", head());
    commit("api/x.c", "x");
    commit("web/y.js", "y");
    sh("cd work; git push -q origin HEAD:main");
    tell("cut-1", "refs/heads/main", before, head(), false);
    assert_true(test_run_until(loop, 10000, compared_reached, &want));
    assert_string_equal(compared_id, "cut-1");
    assert_true(compared_complete);
    assert_string_equal(compared_paths, "api/x.c web/y.js");
    set_pace(1);
    want = 2;
    tell("cut-2", "refs/heads/other", "1111111111111111111111111111111111111111", head(), false);
    assert_true(test_run_until(loop, 10000, compared_reached, &want));
    assert_false(compared_complete);
    assert_string_equal(compared_paths, "");
    assert_string_equal(compared_detail, "the host does not give the commit that was there before");
    wait_for("select count(*) from sweeper.compare", "0");
    sh("test -z \"$(ls one/scratch)\"");
    const struct seen *seen = recovered(had); /* that other one was told, and is not there */
    assert_true(seen->deleted);
    assert_string_equal(seen->ref, "refs/heads/other");
    nothing_more(had + 1);
}

/* Pushes of others, 500 a second, on all partitions. */
static void on_noise(void *arg)
{
    static int n;
    char key[64], zeros[] = ZEROS, ref[] = "refs/heads/main", id[32];
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "git.test/other/%d", n % 50);
        snprintf(id, sizeof id, "noise-%d", n++);
        Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
        push.repo_key = key;
        push.delivery_id = id;
        push.ref = ref;
        push.before = push.after = zeros;
        push.changed_paths_complete = true;
        const struct ec_message message = {.topic = EC_TOPIC_INTAKE,
                                           .key = key,
                                           .id = id,
                                           .type = "dev.enclii.push.received.v1",
                                           .body = &push.base};
        ec_ignore(ec_bus_publish(arg, &message, NULL, NULL)); /* noise: any of it will do */
    }
}

/* What is told must be read before anything is concluded; that there is always more of it must not
 * hold up the conclusion. */
static void a_busy_topic_holds_up_nothing(void **state)
{
    (void)state;
    int had = push_count;
    struct ec_timer *noise = ec_timer_new(loop, on_noise, one.bus);
    ec_timer_start(noise, 20, 20);
    run_for(500);
    for (int i = 0; i < 3; i++) {
        commit("src/busy.c", "busy");
        sh("cd work; git push -q origin HEAD:main");
        recovered(had + i);
    }
    ec_timer_free(noise);
    nothing_more(had + 3);
}

/* Branches of years that came and went; what is listed now is still followed. */
static void refs_that_went_fill_no_memory(void **state)
{
    (void)state;
    int had = push_count;
    test_pg_sql(pg, "insert into sweeper.ref (repo_key, ref, sha, changes) select '" REPO
                    "', 'refs/heads/' || repeat('dependency/of/another/', 5) || n, '" ZEROS "', 2"
                    " from generate_series(1, 350000) n");
    commit("src/many.c", "many");
    sh("cd work; git push -q origin HEAD:main HEAD:refs/heads/dependency/of/another/'\"'one");
    const struct seen *seen = recovered(had);
    assert_string_equal(seen->ref, "refs/heads/dependency/of/another/\"one");
    recovered(had + 1);
    sh("cd work; git push -q origin HEAD:refs/heads/$(printf 'dependency/of/another/%%.0s' 1 2 3 4 "
       "5)77");
    seen = recovered(had + 2); /* one of them is back */
    assert_string_equal(seen->before, ZEROS);
    assert_string_equal(test_pg_value(pg, "select changes from sweeper.ref where repo_key = '" REPO
                                          "' and ref like 'refs/heads/%another/77'"),
                        "3");
    nothing_more(had + 3);
    test_pg_sql(pg, "delete from sweeper.ref where sha = '" ZEROS "' and changes = 2");
}

/* Hashes of 64 digits: nothing depends on their length. */
static void a_repository_with_longer_hashes(void **state)
{
    (void)state;
    int had = push_count;
    sh("git init -q --bare --object-format=sha256 -b main wide.git;"
       "git -C wide.git config uploadpack.allowFilter true;"
       "git init -q --object-format=sha256 -b main wide; cd wide; echo 1 > a; git add a;"
       "git commit -qm one; git push -q ../wide.git main");
    test_repo = "git.test/acme/wide";
    test_dir = "wide";
    bind_repo(true);
    wait_for("select count(*) from sweeper.repo where baselined", "2");
    sh("cd wide; echo 2 > b; git add b; git commit -qm two; git push -q ../wide.git main");
    const struct seen *seen = recovered(had);
    assert_int_equal(strlen(seen->before), 64);
    assert_string_equal(seen->message, "two");
    assert_string_equal(seen->paths, "b");
    assert_true(seen->complete);
    sh("cd wide; git push -q ../wide.git main:topic; git push -q ../wide.git :topic");
    run_for(100);
    sh("cd wide; git push -q ../wide.git main:other");
    seen = recovered(had + 1);
    assert_string_equal(seen->ref, "refs/heads/other");
    assert_true(seen->created && decide_all_zeros(seen->before) && strlen(seen->before) == 64);
    sh("cd wide; git push -q ../wide.git :other");
    seen = recovered(had + 2);
    assert_true(seen->deleted && decide_all_zeros(seen->after) && strlen(seen->after) == 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixture_bound),
        cmocka_unit_test(a_forced_push_a_tag_a_branch_and_its_end),
        cmocka_unit_test(a_cut_list_of_paths_is_completed),
        cmocka_unit_test(a_busy_topic_holds_up_nothing),
        cmocka_unit_test(refs_that_went_fill_no_memory),
        cmocka_unit_test(a_repository_with_longer_hashes),
    };
    return fixture_open() ? cmocka_run_group_tests(tests, NULL, fixture_close) : 0;
}
