/* What HAProxy's runtime socket says, as values; and the client against a socket of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/mem.h"
#include "router/haproxy.h"

static const char header[] =
    "# pxname,svname,scur,req_tot,econ,eresp,hrsp_5xx,status,uweight,addr,rtime,\n";

static void test_servers_by_column_name(void **state)
{
    (void)state;
    struct ec_arena *arena = ec_arena_new(1 << 20);
    char *csv = ec_arena_format(arena,
                                "%sbe_003,a,2,100,1,2,4,UP 1/2,20,127.0.0.1:4000,7,\n"
                                "be_004,\"b,c\",0,0,0,0,0,MAINT,0,127.0.0.1:4001,0,\n\n",
                                header);
    struct ec_haproxy_server *list = NULL;
    size_t count = 0;
    assert_false(ec_failed(ec_haproxy_servers(arena, ec_span_of(csv), &list, &count)));
    assert_int_equal(count, 2);
    assert_string_equal(list[0].backend, "be_003");
    assert_string_equal(list[0].status, "UP 1/2");
    assert_string_equal(list[0].address, "127.0.0.1:4000");
    assert_int_equal(list[0].open, 2);
    assert_int_equal(list[0].weight, 20);
    assert_int_equal(list[0].requests, 100);
    assert_int_equal(list[0].errors, 7);
    assert_string_equal(list[1].name, "b,c");
    ec_arena_free(arena);
}

static void test_bad_stats_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "Unknown command.\n",
        "# pxname,svname\nbe,a\n",
        "# pxname,svname,scur,req_tot,econ,eresp,hrsp_5xx,status,uweight,addr,rtime,\nbe_003,a,1\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ec_arena *arena = ec_arena_new(1 << 20);
        struct ec_haproxy_server *list = NULL;
        size_t count = 99;
        struct ec_err err = ec_haproxy_servers(arena, ec_span_of(bad[i]), &list, &count);
        assert_int_equal(err.fate, EC_FATE_REJECT);
        assert_int_equal(count, 99);
        ec_arena_free(arena);
    }
}

static void test_map(void **state)
{
    (void)state;
    struct ec_arena *arena = ec_arena_new(1 << 20);
    struct ec_haproxy_entry *list = NULL;
    size_t count = 0;
    struct ec_span text = EC_SPAN("0x55d0c0 shop.test/ be_003\n0x55d0c8 shop.test/api/ be_004\n\n");
    assert_false(ec_failed(ec_haproxy_map(arena, text, &list, &count)));
    assert_int_equal(count, 2);
    assert_string_equal(list[1].key, "shop.test/api/");
    assert_string_equal(list[1].value, "be_004");
    assert_false(ec_failed(ec_haproxy_map(arena, EC_SPAN("\n"), &list, &count)));
    assert_int_equal(count, 0);
    assert_true(
        ec_failed(ec_haproxy_map(arena, EC_SPAN("Unknown map identifier.\n"), &list, &count)));
    ec_arena_free(arena);
}

static void test_check(void **state)
{
    (void)state;
    struct ec_arena *arena = ec_arena_new(1 << 20);
    static const char *const good[] = {
        "\n",
        "New server registered.\n\n\n\n",
        "Server deleted.\n",
        "Committing /x/shop.test.pem\nSuccess!\n\n",
        "New empty certificate store '/x'!\n",
    };
    static const char *const bad[] = {
        "No such server.\n",
        "\nServer still has connections attached to it, cannot remove it.\n",
        "New server registered.\nKey not found.\n",
        "Certificate '/x' already exists!\n",
        "Can't remove the certificate: certificate '/x' in use, can't be deleted!\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_false(ec_failed(ec_haproxy_check(arena, ec_span_of(good[i]))));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(ec_haproxy_check(arena, ec_span_of(bad[i])).fate, EC_FATE_REJECT);
    }
    ec_arena_free(arena);
}

/* ---- the client ---- */

struct lab {
    struct ec_loop *loop;
    struct ec_haproxy *hap;
    uv_pipe_t server;
    char got[256];
    char answers[256];
    int calls;
    enum ec_fate last;
};

static void on_peer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void on_peer_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct lab *lab = stream->data;
    if (len <= 0) {
        return;
    }
    strncat(lab->got, buf->base, (size_t)len);
    static char reply[] = "Server deleted.\n";
    uv_buf_t out = uv_buf_init(reply, sizeof reply - 1);
    assert_int_equal(uv_try_write(stream, &out, 1), (int)sizeof reply - 1);
    uv_close((uv_handle_t *)stream, on_peer_closed);
}

static void on_peer_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    (void)handle;
    (void)suggested;
    static char room[1024];
    *ret = uv_buf_init(room, sizeof room);
}

static void on_peer(uv_stream_t *server, int status)
{
    struct lab *lab = server->data;
    assert_int_equal(status, 0);
    uv_pipe_t *peer = ec_alloc(sizeof *peer);
    uv_pipe_init(ec_loop_uv(lab->loop), peer, 0);
    peer->data = lab;
    assert_int_equal(uv_accept(server, (uv_stream_t *)peer), 0);
    uv_read_start((uv_stream_t *)peer, on_peer_room, on_peer_read);
}

static void on_reply(void *arg, struct ec_err err, struct ec_span reply)
{
    struct lab *lab = arg;
    lab->last = err.fate;
    strncat(lab->answers, reply.ptr ? reply.ptr : "", reply.len);
    if (++lab->calls == 2) {
        ec_haproxy_close(lab->hap);
        if (lab->server.data != NULL) {
            uv_close((uv_handle_t *)&lab->server, NULL);
        }
        ec_loop_stop(lab->loop);
    }
}

static void test_client_sends_in_order(void **state)
{
    (void)state;
    struct lab lab = {.loop = ec_loop_new()};
    char path[64];
    snprintf(path, sizeof path, "/tmp/ec-hap-%d.sock", (int)getpid());
    unlink(path);
    uv_pipe_init(ec_loop_uv(lab.loop), &lab.server, 0);
    lab.server.data = &lab;
    assert_int_equal(uv_pipe_bind(&lab.server, path), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&lab.server, 8, on_peer), 0);
    lab.hap = ec_haproxy_open(lab.loop, path);
    assert_false(ec_failed(ec_haproxy_send(lab.hap, EC_SPAN("del server a/b"), on_reply, &lab)));
    assert_false(ec_failed(ec_haproxy_send(lab.hap, EC_SPAN("del server a/c"), on_reply, &lab)));
    assert_int_equal(lab.calls, 0); /* never before returning */
    ec_loop_run(lab.loop);
    assert_string_equal(lab.got, "del server a/b\ndel server a/c\n");
    assert_string_equal(lab.answers, "Server deleted.\nServer deleted.\n");
    assert_int_equal(lab.last, EC_FATE_OK);
    ec_loop_free(lab.loop);
    unlink(path);
}

static void test_client_without_haproxy(void **state)
{
    (void)state;
    struct lab lab = {.loop = ec_loop_new()};
    lab.hap = ec_haproxy_open(lab.loop, "/tmp/ec-hap-nobody.sock");
    assert_false(ec_failed(ec_haproxy_send(lab.hap, EC_SPAN("show info"), on_reply, &lab)));
    assert_false(ec_failed(ec_haproxy_send(lab.hap, EC_SPAN("show info"), on_reply, &lab)));
    static char big[EC_HAPROXY_COMMAND_MAX_BYTES + 1];
    struct ec_span too_big = {big, sizeof big};
    assert_int_equal(ec_haproxy_send(lab.hap, too_big, on_reply, &lab).fate, EC_FATE_REJECT);
    ec_loop_run(lab.loop);
    assert_int_equal(lab.calls, 2);
    assert_int_equal(lab.last, EC_FATE_RETRY);
    ec_loop_free(lab.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_servers_by_column_name),
        cmocka_unit_test(test_bad_stats_are_refused),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_client_sends_in_order),
        cmocka_unit_test(test_client_without_haproxy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
