/* net/http_guard: what is refused before any handler runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/http_guard.h"

static struct ec_arena *arena;

static int headers_status(const struct ec_header *headers, size_t count)
{
    return ec_guard_headers(headers, count).status;
}
#define STATUS(...)                                                                                \
    headers_status((const struct ec_header[]){__VA_ARGS__},                                        \
                   EC_LEN(((const struct ec_header[]){__VA_ARGS__})))

static void test_framing_headers(void **state)
{
    (void)state;
    assert_int_equal(STATUS({"Host", "a"}, {"Content-Length", "3"}), 0);
    assert_int_equal(STATUS({"Host", "a"}, {"Transfer-Encoding", "Chunked"}), 0);
    assert_int_equal(STATUS({"Content-Length", "3"}, {"content-length", "3"}), 400);
    assert_int_equal(STATUS({"Content-Length", "3"}, {"Transfer-Encoding", "chunked"}), 400);
    assert_int_equal(STATUS({"Transfer-Encoding", "gzip, chunked"}), 400);
    assert_int_equal(STATUS({"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}),
                     400);
    assert_int_equal(STATUS({"Content-Length", "+3"}), 400);
    assert_int_equal(STATUS({"Content-Length", "3, 3"}), 400);
    assert_int_equal(STATUS({"Content-Length", ""}), 400);
    assert_int_equal(STATUS({"Content-Length", "9999999999999999999"}), 400);
    assert_int_equal(STATUS({"Host", "a"}, {"HOST", "b"}), 400);
    assert_int_equal(STATUS({"Content-Encoding", "gzip"}), 415);
    assert_int_equal(STATUS({"Content-Encoding", "identity"}), 0);
    assert_int_equal(STATUS({"Content-Encoding", "identity"}, {"Content-Encoding", "br"}), 415);
    assert_int_equal(STATUS({"X-A", "one\rtwo"}), 400);
    assert_int_equal(STATUS({"X-A", "one\ttwo"}), 0);
    assert_int_equal(STATUS({"X-A", "del\177"}), 400);
}

static int target_status(const char *raw, struct ec_guard_target *target)
{
    return ec_guard_target(arena, raw, target).status;
}

static void test_target(void **state)
{
    (void)state;
    struct ec_guard_target target;
    assert_int_equal(target_status("/v1/a%2Fb/c?x=1&y=a+b%26&z&=q", &target), 0);
    assert_int_equal(target.segment_count, 3);
    assert_string_equal(target.segments[1], "a/b");
    assert_string_equal(target.path, "/v1/a/b/c");
    assert_int_equal(target.query_count, 3);
    assert_string_equal(target.query[1].value, "a b&");
    assert_string_equal(target.query[2].value, "");
    assert_int_equal(target_status("/", &target), 0);
    assert_int_equal(target_status("", &target), 400);
    assert_int_equal(target_status("*", &target), 400);
    assert_int_equal(target_status("http://other/x", &target), 400);
    assert_int_equal(target_status("/a/%00/b", &target), 400);
    assert_int_equal(target_status("/a/%0a", &target), 400);
    assert_int_equal(target_status("/a?text=one%0atwo", &target), 0);
    assert_int_equal(target_status("/a?text=one%0atwo%07", &target), 400);
    assert_int_equal(target_status("/a/%zz", &target), 400);
    assert_int_equal(target_status("/a/..", &target), 400);
    assert_int_equal(target_status("/a/%2e%2e/b", &target), 400);
    assert_int_equal(target_status("/a?x=%0", &target), 400);
    char many[2 * EC_GUARD_SEGMENTS_MAX + 8] = "";
    for (int i = 0; i <= EC_GUARD_SEGMENTS_MAX; i++) {
        strcat(many, "/a");
    }
    assert_int_equal(target_status(many, &target), 400);
}

static const struct ec_http_route routes[] = {
    {"GET", "/v1/services/{id}", NULL, 0, 1},
    {"GET", "/v1/services/search", NULL, 0, 2},
    {"DELETE", "/v1/services/{id}", NULL, 0, 3},
    {"GET", "/v1/services/{id}/logs/{build}", NULL, 0, 4},
    {"GET", "/", NULL, 0, 5},
};

static int route_tag(const char *method, const char *path, struct ec_guard_match *match)
{
    struct ec_guard_target target;
    assert_int_equal(target_status(path, &target), 0);
    ec_guard_route(arena, routes, EC_LEN(routes), method, &target, match);
    return match->route ? match->route->tag : 0;
}

static void test_route(void **state)
{
    (void)state;
    struct ec_guard_match match;
    assert_int_equal(route_tag("GET", "/v1/services/search", &match), 2);
    assert_int_equal(route_tag("GET", "/v1/services/x%20y", &match), 1);
    assert_string_equal(match.params[0].name, "id");
    assert_string_equal(match.params[0].value, "x y");
    assert_int_equal(route_tag("HEAD", "/v1/services/x", &match), 1);
    assert_int_equal(route_tag("DELETE", "/v1/services/search", &match), 3);
    assert_int_equal(route_tag("GET", "/v1/services/a/logs/b", &match), 4);
    assert_string_equal(match.params[1].name, "build");
    assert_int_equal(route_tag("GET", "/", &match), 5);
    assert_int_equal(route_tag("GET", "/v1/services/", &match), 0);
    assert_null(match.allow);
    assert_int_equal(route_tag("GET", "/v1/services/a/", &match), 0);
    assert_int_equal(route_tag("PUT", "/v1/services/x", &match), 0);
    assert_string_equal(match.allow, "GET, DELETE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_framing_headers),
                                       cmocka_unit_test(test_target), cmocka_unit_test(test_route)};
    arena = ec_arena_new(1024 * 1024);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ec_arena_free(arena);
    return failed;
}
