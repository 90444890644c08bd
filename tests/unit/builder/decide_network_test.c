/* What strangers' RUN lines may reach: the routes of a build's network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "base/mem.h"
#include "decide_network.h"

static struct ec_arena *arena;

static int set_up(void **state)
{
    (void)state;
    arena = ec_arena_new(1 << 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ec_arena_free(arena);
    return 0;
}

static size_t read_networks(const char *text, struct network ret[NETWORKS_MAX])
{
    size_t count = 0;
    assert_null(decide_networks(arena, text, ret, &count));
    return count;
}

/* As the kernel does it: of the routes to it the most precise decides, of equals the last. */
static bool reaches(const char *routes, const char *address)
{
    struct in_addr in;
    int best = -1;
    bool open = true; /* by the default route */
    assert_int_equal(inet_pton(AF_INET, address, &in), 1);
    uint32_t at = ntohl(in.s_addr);
    for (const char *line = routes; *line; line = strchr(line, '\n') + 1) {
        unsigned a, b, c, d;
        int bits;
        const char *net = line + strlen("route replace ");
        bool prohibit = strncmp(net, "prohibit ", 9) == 0;
        assert_int_equal(strncmp(line, "route replace ", 14), 0);
        assert_int_equal(sscanf(net + (prohibit ? 9 : 0), "%u.%u.%u.%u/%d", &a, &b, &c, &d, &bits),
                         5);
        uint32_t first = a << 24 | b << 16 | c << 8 | d;
        uint32_t mask = bits == 0 ? 0 : 0xffffffffU << (32 - bits);
        assert_int_equal(first & ~mask, 0); /* ip refuses others */
        assert_true(prohibit || strncmp(strchr(net, ' '), " via 198.18.255.2\n", 18) == 0);
        if ((at & mask) == first && bits >= best) {
            best = bits;
            open = !prohibit;
        }
    }
    return open;
}

static const char *routes_of(const char *own_text, const char *reach_text)
{
    struct network own[NETWORKS_MAX], reach[NETWORKS_MAX];
    size_t own_count = read_networks(own_text, own);
    size_t reach_count = read_networks(reach_text, reach);
    return decide_routes(arena, own, own_count, reach, reach_count);
}

static void test_the_outside_only(void **state)
{
    (void)state;
    const char *routes = routes_of("127.0.0.1/8, 203.0.113.7/24, 10.0.2.15/24, 8.8.4.4/32", "");
    static const char *const closed[] = {
        "10.1.2.3",    "172.16.0.1",   "172.31.255.255",  "192.168.1.1", "169.254.169.254",
        "100.64.0.1",  "224.0.0.251",  "255.255.255.255", "0.0.0.0",     "198.18.0.1",
        "203.0.113.7", "203.0.113.99", "10.0.2.15",       "8.8.4.4"};
    static const char *const open[] = {"1.1.1.1",     "8.8.8.8",    "172.32.0.1",
                                       "203.0.114.1", "198.20.0.1", "192.169.0.1"};
    for (size_t i = 0; i < EC_LEN(closed); i++) {
        assert_false(reaches(routes, closed[i]));
    }
    for (size_t i = 0; i < EC_LEN(open); i++) {
        assert_true(reaches(routes, open[i]));
    }
}

static void test_what_the_operator_opens(void **state)
{
    (void)state;
    const char *routes = routes_of("10.1.2.1/24", "10.1.2.3,  10.9.0.0/16 192.168.7.0/24");
    assert_true(reaches(routes, "10.1.2.3"));
    assert_true(reaches(routes, "10.9.200.1"));
    assert_true(reaches(routes, "192.168.7.1"));
    assert_false(reaches(routes, "10.1.2.4"));
    assert_false(reaches(routes, "10.1.2.1"));
    assert_false(reaches(routes, "192.168.8.1"));
}

static void test_this_machine_is_never_open(void **state)
{
    (void)state;
    const char *routes =
        routes_of("10.1.2.1/24, 203.0.113.7/32", "10.1.2.1, 203.0.113.7, 10.1.2.0/24");
    assert_false(reaches(routes, "10.1.2.1"));
    assert_false(reaches(routes, "203.0.113.7"));
    assert_true(reaches(routes, "10.1.2.2"));
    routes = routes_of("10.1.2.1/8", "0.0.0.0/0, 10.0.0.0/8");
    assert_false(reaches(routes, "10.1.2.1"));
    assert_true(reaches(routes, "10.1.2.2"));
    assert_false(reaches(routes, "192.168.0.1")); /* "everything" opens nothing that is private */
}

/* Whatever this machine uses that range for: slirp4netns answers for it. */
static void test_the_way_out_stays(void **state)
{
    (void)state;
    const char *routes = routes_of("198.18.255.9/24, 198.18.255.10/28", "198.18.255.0/24");
    assert_null(strstr(routes, "198.18.255.0/24"));
    assert_null(strstr(routes, "198.18.255.9"));
    assert_null(strstr(routes, "198.18.255.0/28"));
}

static void test_wrong_lists_are_refused(void **state)
{
    (void)state;
    struct network ret[NETWORKS_MAX];
    size_t count = 77;
    static const char *const wrong[] = {"10.1.2",    "10.1.2.3/33",  "10.1.2.3/",   "10.1.2.3/-1",
                                        "host.test", "10.1.2.3/8x",  "fd00::1",     "10.1.2.3/ 8",
                                        "1.2.3.4;5", "10.01.2.3333", "10.1.2.3/8/8"};
    for (size_t i = 0; i < EC_LEN(wrong); i++) {
        assert_non_null(decide_networks(arena, wrong[i], ret, &count));
    }
    assert_int_equal(count, 77);
    assert_int_equal(read_networks("", ret), 0);
    assert_int_equal(read_networks(" , ", ret), 0);
    char many[NETWORKS_MAX * 8 + 16] = "";
    for (int i = 0; i <= NETWORKS_MAX; i++) {
        memcpy(many + (size_t)i * 8, "1.1.1.1,", 9);
    }
    assert_non_null(decide_networks(arena, many, ret, &count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_outside_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_the_operator_opens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_this_machine_is_never_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_way_out_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_lists_are_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
