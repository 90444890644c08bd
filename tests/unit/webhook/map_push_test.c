/* GitHub's push payload → PushReceived, and the other pure decisions about a delivery. */
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
#include "spec/spec.h"

#define SHA_A "1111111111111111111111111111111111111111"
#define SHA_B "2222222222222222222222222222222222222222"
#define ZERO "0000000000000000000000000000000000000000"
#define REPO                                                                                       \
    "\"repository\":{\"full_name\":\"acme/shop\",\"clone_url\":\"https://github.com/acme/"         \
    "shop.git\"}"
#define HEAD                                                                                       \
    "\"head_commit\":{\"id\":\"" SHA_B "\",\"message\":\"fix: it\\n\\nlong\",\"timestamp\":"       \
    "\"2026-01-02T03:04:05Z\",\"author\":{\"name\":\"Ann\",\"email\":\"ann@example.org\"}}"
#define COMMIT(added, modified, removed)                                                           \
    "{\"added\":[" added "],\"modified\":[" modified "],\"removed\":[" removed "]}"
#define PUSH(ref, before, after, more)                                                             \
    "{\"ref\":\"" ref "\",\"before\":\"" before "\",\"after\":\"" after "\"," REPO                 \
    ",\"pusher\":{\"name\":\"ann\"}" more "}"

static struct ec_arena *arena;

static struct fault map(const char *text, Enclii__V1__PushReceived **ret_push)
{
    struct ec_tape *tape = ec_arena_alloc(arena, sizeof *tape);
    assert_false(ec_failed(ec_tape_read(arena, ec_span_of(text), tape)));
    struct mapping m = {.arena = arena,
                        .tape = tape,
                        .root = ec_tape_root(tape),
                        .host = &hosts[HOST_GITHUB],
                        .event = "push",
                        .delivery_id = "d",
                        .claim = claim_paths(arena, &hosts[HOST_GITHUB], tape)};
    m.repo_key = m.claim.key;
    struct fault fault = decide_delivery(&m);
    *ret_push = m.out_count ? (Enclii__V1__PushReceived *)(uintptr_t)m.out[0].body : NULL;
    return fault;
}

static Enclii__V1__PushReceived *good(const char *text)
{
    Enclii__V1__PushReceived *push = NULL;
    struct fault fault = map(text, &push);
    assert_null(fault.field);
    return push;
}

static void a_plain_push(void **state)
{
    (void)state;
    Enclii__V1__PushReceived *push =
        good(PUSH("refs/heads/main", SHA_A, SHA_B,
                  ",\"forced\":false," HEAD ",\"commits\":[" COMMIT(
                      "\"a.c\"", "\"b.c\"", "") "," COMMIT("\"c.c\"", "\"a.c\"", "\"d.c\"") "]"));
    assert_string_equal(push->host, "github");
    assert_string_equal(push->repo_key, "github.com/acme/shop");
    assert_string_equal(push->repo_full_name, "acme/shop");
    assert_string_equal(push->ref, "refs/heads/main");
    assert_string_equal(push->before, SHA_A);
    assert_string_equal(push->after, SHA_B);
    assert_false(push->created || push->deleted || push->forced);
    assert_string_equal(push->head->sha, SHA_B);
    assert_string_equal(push->head->ref, "refs/heads/main");
    assert_string_equal(push->head->message, "fix: it");
    assert_string_equal(push->head->author_name, "Ann");
    assert_int_equal(push->head->committed_unix_ms, 1767323045000);
    assert_string_equal(push->pusher, "ann");
    assert_int_equal(push->n_changed_paths, 4); /* a.c once */
    assert_true(push->changed_paths_complete);
}

static void kinds_of_pushes(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
        bool created, deleted, forced, head, complete;
    } rows[] = {
        {"branch deleted",
         PUSH("refs/heads/x", SHA_A, ZERO, ",\"deleted\":true,\"head_commit\":null,\"commits\":[]"),
         false, true, false, false, false},
        {"new branch",
         PUSH("refs/heads/x", ZERO, SHA_B,
              ",\"created\":true," HEAD ",\"commits\":[" COMMIT("\"a\"", "", "") "]"),
         true, false, false, true, false},
        {"tag without a commit", PUSH("refs/tags/v1", ZERO, SHA_B, ",\"head_commit\":null"), true,
         false, false, true, false},
        {"forced backwards",
         PUSH("refs/heads/x", SHA_A, SHA_B, ",\"forced\":true," HEAD ",\"commits\":[]"), false,
         false, true, true, false},
        {"no flags at all (Gitea)", PUSH("refs/heads/x", SHA_A, ZERO, ""), false, true, false,
         false, false},
        {"perhaps forced (Gitea, GitLab)",
         PUSH("refs/heads/x", SHA_A, SHA_B, "," HEAD ",\"commits\":[" COMMIT("\"a\"", "", "") "]"),
         false, false, false, true, false},
        {"list of commits was cut",
         PUSH("refs/heads/x", SHA_A, SHA_B,
              ",\"forced\":false," HEAD
              ",\"total_commits\":9,\"commits\":[" COMMIT("\"a\"", "", "") "]"),
         false, false, false, true, false},
        {"a path that is no text",
         PUSH("refs/heads/x", SHA_A, SHA_B,
              ",\"forced\":false," HEAD ",\"commits\":[" COMMIT("7", "\"b\"", "") "]"),
         false, false, false, true, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Enclii__V1__PushReceived *push = good(rows[i].text);
        if (push->created != rows[i].created || push->deleted != rows[i].deleted ||
            push->forced != rows[i].forced || !!push->head != rows[i].head ||
            push->changed_paths_complete != rows[i].complete) {
            fail_msg("%s: created %d deleted %d forced %d head %d complete %d", rows[i].name,
                     push->created, push->deleted, push->forced, !!push->head,
                     push->changed_paths_complete);
        }
        if (push->head) {
            assert_string_equal(push->head->sha, SHA_B); /* always `after` */
        }
    }
}

static void faults_name_the_field(void **state)
{
    (void)state;
    static const struct {
        const char *text, *field;
    } rows[] = {
        {PUSH("main", SHA_A, SHA_B, ""), "ref"},
        {PUSH("refs/heads/a b", SHA_A, SHA_B, ""), "ref"},
        {PUSH("refs/heads/a\\u001b", SHA_A, SHA_B, ""), "ref"},
        {PUSH("refs/heads/x", "abc", SHA_B, ""), "before"},
        {PUSH("refs/heads/x", SHA_A, "ABCDEF1111111111111111111111111111111111", ""), "after"},
        {PUSH("refs/heads/x", SHA_A, SHA_B "; rm -rf /", ""), "after"},
        {PUSH("refs/heads/x", SHA_A, SHA_B, ",\"head_commit\":[]"), "head_commit"},
        {PUSH("refs/heads/x", SHA_A, SHA_B, ",\"commits\":{}"), "commits"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Enclii__V1__PushReceived *push = NULL;
        struct fault fault = map(rows[i].text, &push);
        assert_non_null(fault.field);
        assert_string_equal(fault.field, rows[i].field);
        assert_null(push);
    }
}

static void long_messages_are_cut_between_characters(void **state)
{
    (void)state;
    char text[2048], message[600] = "";
    for (int i = 0; i < 120; i++) {
        strcat(message, "\xe2\x82\xac"); /* 3 bytes: 200 is in the middle of one */
    }
    snprintf(text, sizeof text,
             "{\"ref\":\"refs/heads/x\",\"before\":\"" SHA_A "\",\"after\":\"" SHA_B "\"," REPO
             ",\"head_commit\":{\"message\":\"%s\"}}",
             message);
    assert_int_equal(strlen(good(text)->head->message), 198);
}

static void texts_cannot_move_a_terminal(void **state)
{
    (void)state;
    Enclii__V1__PushReceived *push = good(PUSH("refs/heads/main", SHA_A, SHA_B,
                                               ",\"head_commit\":{\"message\":\"a\\u001b[2Jb\\nc\","
                                               "\"author\":{\"name\":\"x\\u009b\"}}"));
    assert_string_equal(push->head->message, "a [2Jb");
    assert_string_equal(push->head->author_name, "x ");
}

static void payloads(void **state)
{
    (void)state;
    static const struct {
        const char *type, *body;
        enum payload want;
        const char *json;
    } rows[] = {
        {"application/json", "{}", PAYLOAD_JSON, "{}"},
        {"Application/JSON; charset=utf-8", "{}", PAYLOAD_JSON, "{}"},
        {"application/jsonx", "{}", PAYLOAD_UNSUPPORTED, NULL},
        {NULL, "{}", PAYLOAD_UNSUPPORTED, NULL},
        {"text/plain", "{}", PAYLOAD_UNSUPPORTED, NULL},
        {"application/x-www-form-urlencoded", "a=b&payload=%7B%22a%22%3A+1%7d", PAYLOAD_JSON,
         "{\"a\": 1}"},
        {"application/x-www-form-urlencoded", "payloads=1&xpayload=2", PAYLOAD_MALFORMED, NULL},
        {"application/x-www-form-urlencoded", "payload=%7", PAYLOAD_MALFORMED, NULL},
        {"application/x-www-form-urlencoded", "payload=%zz", PAYLOAD_MALFORMED, NULL},
        {"application/x-www-form-urlencoded", "", PAYLOAD_MALFORMED, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ec_span json = {"", 0};
        assert_int_equal(decide_payload(arena, rows[i].type, true, ec_span_of(rows[i].body), &json),
                         rows[i].want);
        if (rows[i].json) {
            assert_true(ec_span_is(json, rows[i].json));
        }
    }
}

static void delivery_ids(void **state)
{
    (void)state;
    char id[200];
    memset(id, 'x', sizeof id);
    id[128] = '\0';
    assert_true(decide_delivery_id(id));
    id[128] = 'x';
    id[129] = '\0';
    assert_false(decide_delivery_id(id));
    assert_false(decide_delivery_id("a b"));
    assert_false(decide_delivery_id(""));
    assert_false(decide_delivery_id(NULL));
}

static int open_arena(void **state)
{
    (void)state;
    arena = ec_arena_new(16 << 20);
    return 0;
}

static int close_arena(void **state)
{
    (void)state;
    ec_arena_free(arena);
    return 0;
}

/* A registry tells of many images at once: none is dropped in silence. */
static struct fault map_images(size_t count, struct mapping *m)
{
    ec_cleanup(ec_buf_done) struct ec_buf text;
    ec_buf_init(&text, 1 << 20);
    ec_buf_add_text(&text, "{\"events\":[");
    for (size_t i = 0; i < count; i++) {
        ec_buf_addf(&text,
                    "%s{\"action\":\"push\",\"target\":{\"repository\":\"acme/shop\",\"tag\":"
                    "\"%zu\",\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\"}}",
                    i ? "," : "", i);
    }
    ec_buf_add_text(&text, "]}");
    struct ec_tape *tape = ec_arena_alloc(arena, sizeof *tape);
    assert_false(ec_failed(ec_tape_read(arena, ec_arena_copy(arena, ec_buf_span(&text)), tape)));
    *m = (struct mapping){.arena = arena,
                          .tape = tape,
                          .root = ec_tape_root(tape),
                          .host = &hosts[HOST_REGISTRY],
                          .event = "notification",
                          .delivery_id = "d",
                          .claim = claim_paths(arena, &hosts[HOST_REGISTRY], tape)};
    return decide_delivery(m);
}

static void every_image_of_a_notification(void **state)
{
    (void)state;
    struct mapping m;
    assert_null(map_images(200, &m).field);
    assert_int_equal(m.out_count, 200);
    const Enclii__V1__ImagePushed *last = (const void *)m.out[199].body;
    assert_string_equal(last->tag, "199");
    assert_string_equal(last->delivery->delivery_id, "d#200");
    assert_string_equal(m.out[199].step, "dev.enclii.image.pushed.v1#200");
    assert_null(map_images(OUT_MAX, &m).field);
    assert_int_equal(m.out_count, OUT_MAX);
    assert_string_equal(map_images(OUT_MAX + 1, &m).field, "the delivery");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_image_of_a_notification),
        cmocka_unit_test(a_plain_push),
        cmocka_unit_test(kinds_of_pushes),
        cmocka_unit_test(faults_name_the_field),
        cmocka_unit_test(long_messages_are_cut_between_characters),
        cmocka_unit_test(texts_cannot_move_a_terminal),
        cmocka_unit_test(payloads),
        cmocka_unit_test(delivery_ids),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
