/* The git host of sweeper's tests, where one is needed: git over HTTP from a real server that wants
 * a password, and the credential for it that sweeper is given. */
#pragma once

#include "support/git_server.h"
#include "support/sweeper_fixture.h"

extern struct test_git_server *host;
extern char host_repo[64], host_url[96]; /* acme/shop of it */

/* False, and said: what is needed is not installed. */
bool host_open(const char *user, const char *password);
/* Tells sweeper of it (test_githost), before fixture_open: `members` of its object in the hosts
 * file, beside server and token_file. */
void host_known(const char *members);
bool host_open_git(const char *password); /* both, of a host that has no API */
int host_close(void **state);             /* and the fixture */
