/* net/http_parse: heads and chunked bodies, whole and in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/http_parse.h"

/* The status of a head as the server judges it: the scan's fault or the parse's; 0 = good, -1 =
 * more is needed. Fed one byte more each time, it must be the same. */
static int status_at_once(const char *text, size_t len, struct ec_head *head)
{
    struct ec_head_scan scan = {0};
    struct ec_guard_fault fault = {0};
    size_t end = 0;
    enum ec_scan found = ec_head_scan(&scan, (struct ec_span){text, len}, &end, &fault);
    if (found != EC_SCAN_HEAD) {
        return found == EC_SCAN_MORE ? -1 : fault.status;
    }
    return ec_head_parse((struct ec_span){text, end}, head).status;
}

static int status_in_pieces(const char *text, size_t len)
{
    struct ec_head_scan scan = {0};
    struct ec_guard_fault fault = {0};
    struct ec_head head;
    size_t end = 0;
    for (size_t have = 1; have <= len; have++) {
        enum ec_scan found = ec_head_scan(&scan, (struct ec_span){text, have}, &end, &fault);
        if (found == EC_SCAN_BAD) {
            return fault.status;
        }
        if (found == EC_SCAN_HEAD) {
            assert_int_equal(end, have);
            return ec_head_parse((struct ec_span){text, end}, &head).status;
        }
    }
    return -1;
}

static int head_status(const char *text)
{
    struct ec_head head;
    int status = status_at_once(text, strlen(text), &head);
    assert_int_equal(status_in_pieces(text, strlen(text)), status);
    return status;
}

static void test_heads(void **state)
{
    (void)state;
    struct ec_head head;
    const char *text = "POST /a?b=c HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Odd:\t b c \t\r\n\r\nbody";
    assert_int_equal(status_at_once(text, strlen(text), &head), 0);
    assert_true(ec_span_is(head.method, "POST"));
    assert_true(ec_span_is(head.target, "/a?b=c"));
    assert_int_equal(head.header_count, 3);
    assert_true(ec_span_is(head.headers[1].name, "X-Empty"));
    assert_true(ec_span_is(head.headers[1].value, ""));
    assert_true(ec_span_is(head.headers[2].value, "b c"));
    assert_false(head.http_1_0);
    assert_int_equal(head_status("GET / HTTP/1.0\r\n\r\n"), 0);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\r\n"), -1);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\r\n\r"), -1);
}

static void test_line_ends(void **state)
{
    (void)state;
    assert_int_equal(head_status("GET / HTTP/1.1\nHost: a\n\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\r\n\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost: a\r\n\tfolded\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400);
    assert_int_equal(head_status("\r\n\r\n"), 400);
    assert_int_equal(head_status("\n"), 400);
}

static void test_bad_parts(void **state)
{
    (void)state;
    static const char nul[] = "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n";
    struct ec_head head;
    assert_int_equal(status_at_once(nul, sizeof nul - 1, &head), 400);
    assert_int_equal(head_status("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), 505);
    assert_int_equal(head_status("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(head_status("GET /\r\n\r\n"), 400);
    assert_int_equal(head_status("G@T / HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(head_status("GET /\x7f HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(head_status("GET /\xc3\xa9 HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/2.0\r\n\r\n"), 505);
    assert_int_equal(head_status("GET / HTTP/1.1 \r\n\r\n"), 505);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\n: a\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nHost\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nX: a\x01\r\n\r\n"), 400);
    assert_int_equal(head_status("GET / HTTP/1.1\r\nX: \xff\r\n\r\n"), 0);
}

static void test_limits(void **state)
{
    (void)state;
    static char text[EC_HEAD_MAX_BYTES + 4096];
    struct ec_head head;
    memset(text, 'a', sizeof text);
    memcpy(text, "GET /", 5);
    assert_int_equal(status_at_once(text, EC_HEAD_MAX_BYTES - 1, &head), -1);
    assert_int_equal(status_at_once(text, sizeof text, &head), 414);
    memcpy(text, "GET / HTTP/1.1\r\nX: ", 19);
    assert_int_equal(status_at_once(text, sizeof text, &head), 431);
    size_t len = (size_t)sprintf(text, "GET / HTTP/1.1\r\n");
    for (int i = 0; i <= EC_REQUEST_HEADERS_MAX; i++) {
        len += (size_t)sprintf(text + len, "X: %d\r\n", i);
    }
    len += (size_t)sprintf(text + len, "\r\n");
    assert_int_equal(status_at_once(text, len, &head), 431);
}

/* The body that the chunks carry, fed `step` bytes at a time; NULL = bad, "more" = not at its end.
 */
static const char *body_of(const char *text, size_t step)
{
    static char body[256];
    struct ec_chunks chunks = {0};
    size_t at = 0, made = 0, len = strlen(text);
    while (at < len && chunks.state < EC_CHUNK_END) {
        struct ec_span data;
        size_t part = len - at < step ? len - at : step;
        at += ec_chunks_take(&chunks, (struct ec_span){text + at, part}, &data);
        memcpy(body + made, data.ptr, data.len);
        made += data.len;
    }
    body[made] = '\0';
    return chunks.state == EC_CHUNK_BAD ? NULL : chunks.state == EC_CHUNK_END ? body : "more";
}

static void expect_body(const char *text, const char *wanted)
{
    for (size_t step = 1; step < 12; step++) {
        const char *body = body_of(text, step);
        if (!wanted) {
            assert_null(body);
        } else {
            assert_non_null(body);
            assert_string_equal(body, wanted);
        }
    }
}

static void test_chunks(void **state)
{
    (void)state;
    expect_body("3\r\nabc\r\n0\r\n\r\n", "abc");
    expect_body("3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\nGET", "abc0123456789");
    expect_body("3;name=value\r\nabc\r\n0;x\r\nX-Trailer: y\r\n\r\n", "abc");
    expect_body("0\r\n\r\n", "");
    expect_body("3\r\nabc\r\n0\r\n", "more");
    expect_body("3\nabc\r\n0\r\n\r\n", NULL);
    expect_body("3\r\nabcd\r\n0\r\n\r\n", NULL);
    expect_body("3\r\nabc\n0\r\n\r\n", NULL);
    expect_body("\r\nabc", NULL);
    expect_body("-3\r\nabc", NULL);
    expect_body("0x3\r\nabc", NULL);
    expect_body(" 3\r\nabc", NULL);
    expect_body("000000003\r\nabc", NULL);
    expect_body("FFFFFFFFF\r\nabc", NULL);
    expect_body("3;\x01\r\nabc", NULL);
    expect_body("0\r\nX: a\n\r\n", NULL);
    expect_body("0\r\n X: a\r\n\r\n", NULL);
}

static void expect_trailer_ends(struct ec_span line)
{
    struct ec_chunks chunks = {0};
    struct ec_span data;
    ec_chunks_take(&chunks, EC_SPAN("0\r\n"), &data);
    for (int i = 0; i <= EC_TRAILER_MAX_BYTES && chunks.state < EC_CHUNK_END; i++) {
        ec_chunks_take(&chunks, line, &data);
    }
    assert_int_equal(chunks.state, EC_CHUNK_BAD);
}

static void test_endless_trailer(void **state)
{
    (void)state;
    expect_trailer_ends(EC_SPAN("a:\r\n"));
    expect_trailer_ends(EC_SPAN("a\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),     cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_bad_parts), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_chunks),    cmocka_unit_test(test_endless_trailer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
