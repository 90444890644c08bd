/* Instances of sweeper come, go, are killed and share the work: nothing is lost, nothing is told
 * twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "support/sweeper_fixture.h"

static void bound(void **state)
{
    (void)state;
    bind_repo(true);
    wait_for("select count(*) from sweeper.repo where baselined", "1");
}

/* What was told while we were down is read before anything is concluded. */
static void a_restart_recovers_nothing_that_was_told(void **state)
{
    (void)state;
    int had = push_count;
    char before[65];
    snprintf(before, sizeof before, "%s", head());
    down(&one);
    commit("src/main.c", "while we were down");
    sh("cd work; git push -q origin HEAD:main");
    tell("down-1", "refs/heads/main", before, head(), true);
    up(&one, "one");
    nothing_more(had);
    commit("src/main.c", "and after");
    sh("cd work; git push -q origin HEAD:main");
    recovered(had);
}

static void two_instances_share_the_work(void **state)
{
    (void)state;
    int had = push_count;
    up(&two, "two");
    run_for(INTERVAL_MS);
    for (int i = 0; i < 2; i++) {
        commit("src/main.c", "for both");
        sh("cd work; git push -q origin HEAD:main");
        recovered(had + i);
        nothing_more(had + i + 1);
    }
    down(&two);
}

static bool is_fetching(void *arg)
{
    (void)arg;
    return access(text_of("%s/fetching", folder), F_OK) == 0;
}

/* It was slow, its lease ran out, and somebody else has the repository: it says nothing. */
static void who_lost_the_lease_is_silent(void **state)
{
    (void)state;
    int had = push_count, want = had + 1;
    const char *path = getenv("PATH");
    sh("mkdir -p slow; printf '#!/bin/sh\\ncase \"$*\" in *\" fetch \"*) touch %s/fetching; sleep "
       "1;;"
       " esac\\nPATH=${PATH#*:} exec git \"$@\"\\n' > slow/git; chmod +x slow/git",
       folder);
    commit("src/main.c", "slowly");
    sh("cd work; git push -q origin HEAD:main");
    setenv("PATH", text_of("%s/slow:%s", folder, path), 1);
    assert_true(test_run_until(loop, 5000, is_fetching, NULL));
    test_pg_sql(pg, "update sweeper.repo set leased_by = 'another', lease = lease + 1,"
                    " leased_until = now() + interval '7 seconds'");
    setenv("PATH", strchr(getenv("PATH"), ':') + 1, 1);
    run_for(3500);
    assert_int_equal(push_count, had);
    assert_string_equal(test_pg_value(pg, "select leased_by from sweeper.repo"), "another");
    assert_true(test_run_until(loop, 10000, pushes_reached, &want)); /* the other one died */
    nothing_more(want);
}

/* ---- a process of its own, whose git never ends ---- */

static pid_t start_process(const char *path_before)
{
    pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    char self[512] = "", path[600], url[256], work[256];
    struct ec_span secret = ec_secret_use(test_pg_url(pg));
    snprintf(url, sizeof url, "%.*s", (int)secret.len, secret.ptr);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) {
        _exit(127);
    }
    snprintf(path, sizeof path, "%s/../../bin/enclii-sweeper", dirname(self));
    snprintf(work, sizeof work, "%s/process", folder);
    setenv("PATH", text_of("%s:%s", path_before, getenv("PATH")), 1);
    setenv("ENCLII_KAFKA_BROKERS", test_kafka_brokers(kafka), 1);
    setenv("ENCLII_DATABASE_URL", url, 1);
    setenv("ENCLII_SWEEP_INTERVAL", "1s", 1);
    setenv("ENCLII_SWEEP_GRACE", "250ms", 1);
    setenv("ENCLII_SWEEP_LEASE", "6s", 1); /* longer than the next one takes to start */
    setenv("ENCLII_GIT_PROTOCOLS", "file", 1);
    setenv("ENCLII_WORK_DIR", work, 1);
    int fd = open(text_of("%s/process.log", folder), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(path, path, NULL);
    _exit(127);
}

/* It takes the lease and is killed; the next one goes on where it was, once. */
static void a_killed_instance_is_replaced(void **state)
{
    (void)state;
    int had = push_count;
    down(&one);
    sh("mkdir -p hang; printf '#!/bin/sh\\nexec sleep 1000\\n' > hang/git; chmod +x hang/git");
    commit("src/main.c", "before the kill");
    sh("cd work; git push -q origin HEAD:main");
    pid_t pid = start_process(text_of("%s/hang", folder));
    wait_for("select leased_by <> '' and leased_until > now() from sweeper.repo", "t");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0); /* lint: blocks, a test */
    up(&one, "one");
    run_for(1000);
    assert_int_equal(push_count, had); /* the lease still holds */
    int want = had + 1;
    assert_true(test_run_until(loop, 6000 + INTERVAL_MS + 8000, pushes_reached, &want));
    nothing_more(want);
    assert_string_equal(pushes[had].after, head());
}

static void what_is_no_longer_bound_is_forgotten(void **state)
{
    (void)state;
    int had = push_count;
    bind_repo(false);
    wait_for("select (select count(*) from sweeper.repo) + (select count(*) from sweeper.ref)",
             "0");
    commit("src/main.c", "nobody cares");
    sh("cd work; git push -q origin HEAD:main");
    nothing_more(had);
    assert_string_equal(test_pg_value(pg, "select count(*) from sweeper.repo"), "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bound),
        cmocka_unit_test(a_restart_recovers_nothing_that_was_told),
        cmocka_unit_test(two_instances_share_the_work),
        cmocka_unit_test(who_lost_the_lease_is_silent),
        cmocka_unit_test(a_killed_instance_is_replaced),
        cmocka_unit_test(what_is_no_longer_bound_is_forgotten),
    };
    return fixture_open() ? cmocka_run_group_tests(tests, NULL, fixture_close) : 0;
}
