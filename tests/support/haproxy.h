/* A HAProxy of the test's own, with the pool be_000, be_001, ... and one frontend, whose
 * requests all are for the host name "x" in DIR/hosts.map. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "net/loop.h"

struct test_haproxy {
    struct ec_loop *loop;
    const char *dir; /* exists; borrowed */
    char socket_path[64];
    int port; /* of the frontend */
    pid_t pid;
};

/* false: HAProxy is not installed, skip. */
bool test_haproxy_start(struct test_haproxy *hap, struct ec_loop *loop, const char *dir, int pool);
void test_haproxy_end(struct test_haproxy *hap);   /* gone, its socket too */
void test_haproxy_again(struct test_haproxy *hap); /* empty, but for hosts.map */
/* What it says of a server: "127.0.0.1:40123 7" (address, weight), or "" when it has none. */
void test_haproxy_shown(const struct test_haproxy *hap, const char *server, char *ret_text,
                        size_t size);
