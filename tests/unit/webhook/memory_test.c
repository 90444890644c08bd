/* Bodies that are as large as they may be and made of what costs most: each is mapped, or refused,
 * within the memory of a request, and some is left to answer with. An arena that is full aborts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "../../../services/webhook/webhook.h"
#include "base/buf.h"
#include "base/mem.h"

#define REQUEST_ARENA_BYTES ((size_t)32 << 20) /* as in libs/net/http_request.c */
#define SHA_A "1111111111111111111111111111111111111111"
#define SHA_B "2222222222222222222222222222222222222222"
#define REPO "\"repository\":{\"full_name\":\"a/b\",\"clone_url\":\"https://h.example/a/b.git\"}"
#define PROJECT "\"project\":{\"git_http_url\":\"https://h.example/a/b.git\",\"id\":1}"
#define LINK "https://bitbucket.org/a/b"

/* The body is `head`, then as many `piece`s with commas between them as `bytes` hold, then `tail`.
 */
struct row {
    int host;
    const char *event, *head, *piece, *tail;
    size_t bytes;
    bool joined; /* the pieces are one text: no commas */
};

#define LONG_NAME                                                                                  \
    "http-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"  \
    "aaaaaaaaaaaaaaaaaaaaaaaa"

static const struct row rows[] = {
    /* Before any signature is looked at. */
    {HOST_BITBUCKET, "repo:push",
     "{\"repository\":{\"links\":{\"html\":{\"href\":\"" LINK "\"},"
     "\"clone\":[",
     "{\"name\":\"" LONG_NAME LONG_NAME "\"}", "]}}}", 24 << 20, false},
    {HOST_GITHUB, "push", "{\"ref\":\"x\",\"repository\":{\"full_name\":\"a/b\",\"clone_url\":\"",
     "u", "\"}}", 24 << 20, true},
    {HOST_GITHUB, "push",
     "{\"repository\":{\"clone_url\":\"https://h.example/a/b.git\",\"full_name\":\"", "\\u0041",
     "\"}}", 24 << 20, true},
    /* Signed, but written by whoever may commit, label or push an image. */
    {HOST_GITHUB, "push",
     "{\"ref\":\"refs/heads/main\",\"before\":\"" SHA_A "\",\"after\":\"" SHA_B "\"," REPO
     ",\"head_commit\":{\"message\":\"",
     "m", "\"}}", 24 << 20, true},
    {HOST_GITHUB, "push",
     "{\"before\":\"" SHA_A "\",\"after\":\"" SHA_B "\"," REPO ",\"ref\":\"refs/heads/", "m", "\"}",
     24 << 20, true},
    {HOST_GITHUB, "pull_request",
     "{\"action\":\"opened\",\"number\":1," REPO ",\"pull_request\":{\"head\":{\"sha\":\"" SHA_A
     "\"},\"labels\":[",
     "{}", "]}}", 1 << 20, false},
    {HOST_GITHUB, "installation",
     "{\"action\":\"created\",\"installation\":{\"id\":1},\"repositories\":[",
     "{\"full_name\":\"" LONG_NAME "\"}", "]}", 24 << 20, false},
    {HOST_GITLAB, "Push Hook",
     "{\"ref\":\"refs/heads/main\",\"before\":\"" SHA_A "\",\"after\":\"" SHA_B "\"," PROJECT
     ",\"commits\":[",
     "{}", "]}", 1 << 20, false},
    {HOST_GITLAB, "Push Hook",
     "{\"ref\":\"refs/heads/main\",\"before\":\"" SHA_A "\",\"after\":\"" SHA_B "\"," PROJECT
     ",\"commits\":[",
     "{\"id\":\"" LONG_NAME "\"}", "]}", 24 << 20, false},
    {HOST_BITBUCKET, "repo:push",
     "{\"repository\":{\"links\":{\"html\":{\"href\":\"" LINK "\"}}},"
     "\"push\":{\"changes\":[",
     "{\"new\":{\"name\":\"m\",\"type\":\"branch\",\"target\":{\"hash\":\"" SHA_A
     "\",\"message\":\"" LONG_NAME LONG_NAME LONG_NAME LONG_NAME "\"}}}",
     "]}}", 24 << 20, false},
    {HOST_REGISTRY, "notification", "{\"events\":[", "{}", "]}", 1 << 20, false},
    {HOST_REGISTRY, "notification", "{\"events\":[",
     "{\"action\":\"pull\",\"target\":{\"mediaType\":\"" LONG_NAME "manifest\"}}", "]}", 24 << 20,
     false},
    {HOST_GENERIC, "push",
     "{\"type\":\"push\",\"data\":{\"repository\":\"https://h.example/a/b.git\","
     "\"ref\":\"refs/heads/main\",\"after\":\"" SHA_A "\",\"before\":\"" SHA_B
     "\",\"changed_paths\":[",
     "\"" LONG_NAME "\"", "]}}", 24 << 20, false},
};

static struct ec_span body_of(const struct row *row, struct ec_buf *buf)
{
    size_t piece = strlen(row->piece) + !row->joined;
    ec_buf_init(buf, 26 << 20);
    ec_buf_add_text(buf, row->head);
    for (size_t used = 0; used + piece < row->bytes; used += piece) {
        ec_buf_add_text(buf, used && !row->joined ? "," : "");
        ec_buf_add_text(buf, row->piece);
    }
    ec_buf_add_text(buf, row->tail);
    assert_true(ec_buf_span(buf).len < BODY_MAX_BYTES);
    return ec_buf_span(buf);
}

/* What services/webhook/handlers.c does with it between the body and the answer. */
static void look(const struct row *row, struct ec_arena *arena, struct ec_span body)
{
    const struct host *host = &hosts[row->host];
    struct mapping *m = ec_arena_alloc(arena, sizeof *m);
    struct ec_tape tape;
    if (ec_failed(ec_tape_read(arena, body, &tape))) {
        return;
    }
    *m = (struct mapping){.arena = arena,
                          .tape = &tape,
                          .root = ec_tape_root(&tape),
                          .host = host,
                          .event = row->event,
                          .delivery_id = "d",
                          .received_ms = 1,
                          .claim = host->claim(arena, host, &tape)};
    m->repo_key = m->claim.key;
    const struct event_row *event = host_event(host, row->event);
    if (m->repo_key || !event->needs_repo) {
        decide_delivery(m);
    }
}

static void the_largest_bodies_leave_room_to_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(REQUEST_ARENA_BYTES);
        ec_cleanup(ec_buf_done) struct ec_buf buf;
        print_message("%zu: %s %s\n", i, hosts[rows[i].host].name, rows[i].event);
        look(&rows[i], arena, body_of(&rows[i], &buf));
        assert_non_null(ec_arena_alloc(arena, 64 * 1024));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_bodies_leave_room_to_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
