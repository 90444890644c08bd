/* A git server that wants a password: nginx, fcgiwrap and git http-backend in a folder below /tmp.
 * Dies with the test. Blocking: for tests only. */
#pragma once

#include <stdbool.h>

struct test_git_server;

/* NULL: one of the programs is not installed, skip. */
struct test_git_server *test_git_server_start(const char *user, const char *password);
/* From now on `from` ("/acme/shop.git") is answered with 301 to `to`. */
void test_git_server_redirect(struct test_git_server *server, const char *from, const char *to);
void test_git_server_free(struct test_git_server *server);              /* accepts NULL */
const char *test_git_server_host(const struct test_git_server *server); /* "127.0.0.1:1234" */
/* The folder that "/acme/shop.git" is below. */
const char *test_git_server_root(const struct test_git_server *server);
/* "401 GET /acme/shop.git/..." lines: what was asked so far. */
const char *test_git_server_log(const struct test_git_server *server);
