/* A private repository, by git's HTTP from a real server that wants a password: it is looked at
 * with the credential of its server, which goes nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "support/sweeper_host.h"

#define PASSWORD "pass-4711-word"

static void it_is_looked_at(void **state)
{
    (void)state;
    sh("git clone -q --bare shop.git %1$s/acme/shop.git;"
       "git -C %1$s/acme/shop.git config uploadpack.allowFilter true;"
       "cd work; git remote set-url origin %1$s/acme/shop.git",
       test_git_server_root(host));
    test_repo = host_repo;
    test_url = host_url;
    bind_repo(true);
    wait_for("select count(*) from sweeper.repo where baselined", "1");
    const char *before = head();
    commit("src/private.c", "nobody told");
    sh("cd work; git push -q origin HEAD:main");
    const struct seen *seen = recovered(0);
    assert_string_equal(seen->before, before);
    assert_string_equal(seen->after, head());
    assert_string_equal(seen->paths, "src/private.c");
    assert_true(seen->complete && !seen->forced);
    nothing_more(1);
    assert_non_null(strstr(test_git_server_log(host), "200 POST /acme/shop.git/git-upload-pack"));
    sh("! grep -rqE '" PASSWORD "|ZGVwbG95OnBhc3M' one");
}

/* The same server by another name is another server. */
static void a_credential_is_for_its_host_only(void **state)
{
    (void)state;
    const char *port = strchr(test_git_server_host(host), ':');
    test_repo = text_of("localhost%s/acme/shop", port);
    test_url = text_of("http://localhost%s/acme/shop.git", port);
    bind_repo(true);
    wait_for("select count(*) from sweeper.repo where failures > 1 and not baselined", "1");
    assert_non_null(strstr(test_pg_value(pg, "select last_error from sweeper.repo where failures "
                                             "> 0"),
                           "fatal: Authentication failed"));
    assert_string_equal(test_pg_value(pg, "select count(*) from sweeper.repo where last_error ~ "
                                          "'" PASSWORD "'"),
                        "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_looked_at),
        cmocka_unit_test(a_credential_is_for_its_host_only),
    };
    return host_open_git(PASSWORD) && fixture_open()
               ? cmocka_run_group_tests(tests, NULL, host_close)
               : 0;
}
