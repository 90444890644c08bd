/* How the builder comes by its sources: credentials, caches, commits that are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "support/builder_fixture.h"

static struct builder_fixture *const fx = &test_builder;

/* A disk that was full, a power cut: the work folder may be lost or damaged at any time. */
static void a_damaged_cache_is_made_anew(void **state)
{
    (void)state;
    static const char *const damages[] = {
        "rm -rf %s/scratch/git/*/objects %s/scratch/git/*/HEAD",
        "find %s/scratch/git/*/objects -type f -exec truncate -s 0 {} + && ls %s >/dev/null",
        "echo '[core' > $(echo %s/scratch/git/*/config) && ls %s >/dev/null"};
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        build_begin(); /* the cache is made */
        build_run_to_end();
        assert_int_equal(fx->seen.succeeded, 1);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        assert_int_equal(build_shell(damages[i], fx->dir, fx->dir), 0);
#pragma GCC diagnostic pop
        build_begin();
        build_run_to_end();
        assert_string_equal(fx->seen.detail, "");
        assert_int_equal(fx->seen.succeeded, 1);
    }
}

/* Nothing of it is in the build's environment, its files, its log, or what is kept on disk. */
static void private_repositories_are_fetched(void **state)
{
    (void)state;
    if (!fx->git_server) {
        skip();
    }
    char script[300];
    snprintf(script, sizeof(script),
             "env; cat $2/hello.txt; ls -a $2; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | "
             "grep -F %s; echo image-1 > $1",
             fx->basic);
    for (int i = 0; i < 3; i++) { /* anew, from the warm cache, and for a fork */
        build_begin();
        fx->trusted = i < 2;
        snprintf(fx->clone_url, sizeof(fx->clone_url), "http://%s/acme/shop.git",
                 test_git_server_host(fx->git_server));
        fx->build_script = script;
        build_run_to_end();
        assert_string_equal(fx->seen.detail, "");
        assert_int_equal(fx->seen.succeeded, 1);
        assert_non_null(strstr(fx->seen.log, "hello from the commit"));
        assert_null(strstr(fx->seen.log, "GIT_CONFIG"));
        assert_null(strstr(fx->seen.log, fx->basic));
        assert_null(strstr(fx->seen.log, fx->password));
    }
    fx->trusted = true;
    assert_non_null(strstr(test_git_server_log(fx->git_server), "200 POST /acme/shop.git/"));
    assert_int_not_equal(
        build_shell("grep -rqE '%s|%s' %s/scratch", fx->password, fx->basic, fx->dir), 0);
}

/* The same server by another name is another server: nothing is sent to it. */
static void a_credential_is_for_its_host_only(void **state)
{
    (void)state;
    if (!fx->git_server) {
        skip();
    }
    build_begin();
    snprintf(fx->clone_url, sizeof(fx->clone_url), "http://localhost%s/acme/shop.git",
             strchr(test_git_server_host(fx->git_server), ':'));
    build_run_to_end();
    assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_FETCH);
    assert_false(fx->seen.retryable);
    assert_non_null(strstr(fx->seen.detail, "the git host refuses access"));
}

/* git's cache is neither written, as the first to ask for the repository, nor read. */
static void untrusted_builds_share_no_git_cache(void **state)
{
    (void)state;
    build_shell("rm -rf %s/scratch/git/*", fx->dir);
    fx->trusted = false;
    build_begin();
    build_run_to_end();
    assert_int_equal(fx->seen.succeeded, 1);
    assert_int_equal(build_shell("test -z \"$(ls %s/scratch/git)\"", fx->dir), 0);
    fx->trusted = true;
    build_begin();
    build_run_to_end();
    assert_int_equal(fx->seen.succeeded, 1);
    assert_int_equal(build_shell("cd %s/scratch/git/* && echo broken > HEAD", fx->dir), 0);
    fx->trusted = false;
    build_begin();
    build_run_to_end();
    assert_int_equal(fx->seen.succeeded, 1);
    assert_int_equal(build_shell("grep -q broken %s/scratch/git/*/HEAD && rm -rf %s/scratch/git/*",
                                 fx->dir, fx->dir),
                     0);
    fx->trusted = true;
}

static void unknown_commit_is_explained(void **state)
{
    (void)state;
    build_begin();
    char right[64];
    strcpy(right, fx->sha);
    memset(fx->sha, '7', 40);
    build_run_to_end();
    strcpy(fx->sha, right);
    assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_FETCH);
    assert_false(fx->seen.retryable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untrusted_builds_share_no_git_cache),
        cmocka_unit_test(unknown_commit_is_explained),
        cmocka_unit_test(a_damaged_cache_is_made_anew),
        cmocka_unit_test(private_repositories_are_fetched),
        cmocka_unit_test(a_credential_is_for_its_host_only),
    };
    ec_log_setup("test", EC_LOG_WARN);
    return cmocka_run_group_tests(tests, builder_fixture_open, builder_fixture_close);
}
