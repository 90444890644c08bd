/* A throw-away OCI registry for tests: the docker-registry program on a free loopback port, with
 * its own folder below /tmp. It has no referrers API, as most registries. Dies with the test
 * program. */
#pragma once

#include <stdbool.h>

struct test_registry;

/* NULL: docker-registry is not installed, skip. With a password: user "user", password "secret". */
struct test_registry *test_registry_start(bool with_password);
void test_registry_free(struct test_registry *registry);              /* accepts NULL */
const char *test_registry_host(const struct test_registry *registry); /* "127.0.0.1:34567" */
void test_registry_down(struct test_registry *registry);
void test_registry_up(struct test_registry *registry);
