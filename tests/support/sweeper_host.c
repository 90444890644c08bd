/* See sweeper_host.h. */
#include "support/sweeper_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"

struct test_git_server *host;
char host_repo[64], host_url[96];
static char secrets[] = "/tmp/enclii-sweeper-hosts.XXXXXX", hosts_file[64];

static void write_file(const char *path, const char *text)
{
    const struct ec_span part = ec_span_of(text);
    assert_int_equal(ec_file_replace(&(struct ec_file_spec){
                         .path = path, .mode = 0600, .parts = &part, .part_count = 1}),
                     0);
}

bool host_open(const char *user, const char *password)
{
    host = test_git_server_start(user, password);
    if (!host || !mkdtemp(secrets)) {
        print_message("SKIP: nginx, fcgiwrap or git is not installed\n");
        return false;
    }
    snprintf(host_repo, sizeof host_repo, "%s/acme/shop", test_git_server_host(host));
    snprintf(host_url, sizeof host_url, "http://%s.git", host_repo);
    snprintf(hosts_file, sizeof hosts_file, "%s/hosts.json", secrets);
    write_file(text_of("%s/token", secrets), password);
    return true;
}

void host_known(const char *members)
{
    write_file(hosts_file,
               text_of("{\"hosts\": [{\"server\": \"%s\", %s, \"token_file\": \"%s/token\"}]}",
                       test_git_server_host(host), members, secrets));
    test_githost.hosts_file = hosts_file;
}

bool host_open_git(const char *password)
{
    if (!host_open("deploy", password)) {
        return false;
    }
    host_known("\"kind\": \"git\", \"user\": \"deploy\"");
    return true;
}

int host_close(void **state)
{
    test_git_server_free(host);
    ec_file_remove_tree(secrets);
    return fixture_close(state);
}
