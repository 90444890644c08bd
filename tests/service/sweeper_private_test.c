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

#include "base/file.h"
#include "base/mem.h"
#include "support/git_server.h"
#include "support/sweeper_fixture.h"

#define PASSWORD "pass-4711-word"

static struct test_git_server *server;
static char secrets[] = "/tmp/enclii-sweeper-hosts.XXXXXX", hosts_file[64], repo[64], url[96];

static void it_is_looked_at(void **state)
{
    (void)state;
    sh("git clone -q --bare shop.git %1$s/acme/shop.git;"
       "git -C %1$s/acme/shop.git config uploadpack.allowFilter true;"
       "cd work; git remote set-url origin %1$s/acme/shop.git",
       test_git_server_root(server));
    test_repo = repo;
    test_url = url;
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
    assert_non_null(strstr(test_git_server_log(server), "200 POST /acme/shop.git/git-upload-pack"));
    sh("! grep -rqE '" PASSWORD "|ZGVwbG95OnBhc3M' one");
}

/* The same server by another name is another server. */
static void a_credential_is_for_its_host_only(void **state)
{
    (void)state;
    const char *port = strchr(test_git_server_host(server), ':');
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

static int close_all(void **state)
{
    test_git_server_free(server);
    ec_file_remove_tree(secrets);
    return fixture_close(state);
}

static void write_file(const char *path, const char *text)
{
    const struct ec_span part = ec_span_of(text);
    assert_int_equal(ec_file_replace(&(struct ec_file_spec){
                         .path = path, .mode = 0600, .parts = &part, .part_count = 1}),
                     0);
}

static bool open_all(void)
{
    server = test_git_server_start("deploy", PASSWORD);
    if (!server || !mkdtemp(secrets)) {
        print_message("SKIP: nginx, fcgiwrap or git is not installed\n");
        return false;
    }
    snprintf(repo, sizeof repo, "%s/acme/shop", test_git_server_host(server));
    snprintf(url, sizeof url, "http://%s.git", repo);
    snprintf(hosts_file, sizeof hosts_file, "%s/hosts.json", secrets);
    write_file(text_of("%s/token", secrets), PASSWORD);
    write_file(hosts_file, text_of("{\"hosts\": [{\"server\": \"%s\", \"kind\": \"git\", \"user\": "
                                   "\"deploy\", \"token_file\": \"%s/token\"}]}",
                                   test_git_server_host(server), secrets));
    test_githost.hosts_file = hosts_file;
    return fixture_open();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_looked_at),
        cmocka_unit_test(a_credential_is_for_its_host_only),
    };
    return open_all() ? cmocka_run_group_tests(tests, NULL, close_all) : 0;
}
