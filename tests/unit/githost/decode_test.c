/* The pure parts: the JWT as openssl sees it, when limits count, what Links say, and what is wrong
 * with a file of hosts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/encode.h"
#include "base/file.h"
#include "base/mem.h"
#include "githost/githost_private.h"

#define NOW 1700000000

static struct ec_arena *arena;
static char dir[64];

static int setup(void **state)
{
    (void)state;
    arena = ec_arena_new(4 << 20);
    snprintf(dir, sizeof(dir), "/tmp/githost-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ec_arena_free(arena);
    return system(command);
}

static const char *path_of(const char *name)
{
    return ec_arena_format(arena, "%s/%s", dir, name);
}

static void write_file(const char *name, struct ec_span text)
{
    assert_int_equal(ec_file_replace(&(struct ec_file_spec){path_of(name), 0600, false, &text, 1}),
                     0);
}

static int run(const char *command)
{
    return system(ec_arena_format(arena, "cd %s && %s", dir, command));
}

/* ---- JWT ---- */

static void check_jwt(const char *key_name)
{
    struct ec_secret *pem = NULL, *jwt = NULL;
    struct ec_rsa *key = NULL;
    assert_int_equal(ec_secret_read(path_of(key_name), &pem).fate, EC_FATE_OK);
    assert_int_equal(ec_rsa_from_pem(ec_secret_use(pem), &key).fate, EC_FATE_OK);
    assert_int_equal(app_jwt(arena, key, "Iv1.0123", NOW, &jwt).fate, EC_FATE_OK);
    char *text = ec_arena_text(arena, ec_secret_use(jwt));
    char *dot = strrchr(text, '.');
    *dot = '\0';
    struct ec_span signature, claims;
    assert_true(ec_unbase64(arena, ec_span_of(dot + 1), &signature));
    write_file("signed", ec_span_of(text));
    write_file("signature", signature);
    assert_int_equal(run("openssl dgst -sha256 -verify key.pub -signature signature signed >log"),
                     0);
    assert_true(ec_unbase64(arena, ec_span_of(strchr(text, '.') + 1), &claims));
    assert_true(ec_span_is(claims, "{\"iat\":1699999940,\"exp\":1700000480,\"iss\":\"Iv1.0123\"}"));
    ec_rsa_free(key);
    ec_secret_free(pem);
    ec_secret_free(jwt);
}

static void openssl_verifies_the_jwt(void **state)
{
    (void)state;
    assert_int_equal(run("openssl genrsa -out pkcs8.pem 2048 2>log && openssl rsa -traditional "
                         "-in pkcs8.pem -out pkcs1.pem 2>log && openssl rsa -in pkcs8.pem -pubout "
                         "-out key.pub 2>log"),
                     0);
    check_jwt("pkcs8.pem");
    check_jwt("pkcs1.pem");
}

static void keys_that_are_none_are_refused(void **state)
{
    (void)state;
    struct ec_rsa *key = NULL;
    assert_int_equal(ec_rsa_from_pem(EC_SPAN("hello"), &key).fate, EC_FATE_REJECT);
    assert_int_equal(run("openssl ecparam -name prime256v1 -genkey -noout -out ec.pem && "
                         "openssl genrsa -out small.pem 1024 2>log && openssl genrsa -aes128 "
                         "-passout pass:x -out locked.pem 2048 2>log"),
                     0);
    const char *const names[] = {"ec.pem", "small.pem", "locked.pem"};
    for (size_t i = 0; i < EC_LEN(names); i++) {
        ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
        assert_int_equal(ec_secret_read(path_of(names[i]), &pem).fate, EC_FATE_OK);
        assert_int_equal(ec_rsa_from_pem(ec_secret_use(pem), &key).fate, EC_FATE_REJECT);
    }
    assert_null(key);
}

/* ---- limits ---- */

static void limits_are_judged_in_order(void **state)
{
    (void)state;
    const struct {
        struct limit_facts facts;
        bool refused;
        int64_t wait_ms;
    } cases[] = {
        {{.status = 200, .remaining = "4999", .reset = "1700000100"}, false, 0},
        {{.status = 200, .remaining = "0", .reset = "1700000100"}, false, 100000},
        {{.status = 403, .remaining = "4999"}, false, 0}, /* only not allowed */
        {{.status = 404}, false, 0},
        {{.status = 403, .retry_after = "30", .remaining = "0", .reset = "1700000100"},
         true,
         30000},
        {{.status = 429, .remaining = "0", .reset = "1700000100"}, true, 100000},
        {{.status = 403, .remaining = "0", .reset = "1699999999"}, true, 60000}, /* clocks differ */
        {{.status = 403, .remaining = "0", .reset = "1800000000"}, true, 3600000},
        {{.status = 429}, true, 60000},
        {{.status = 429, .strikes = 2}, true, 240000},
        {{.status = 429, .strikes = 1000}, true, 3600000},
        {{.status = 403, .says_limit = true, .remaining = "12"}, true, 60000},
        {{.status = 429, .retry_after = "Wed, 21 Oct 2026 07:28:00 GMT"}, true, 60000},
        {{.status = 429, .retry_after = "999999999999999999999"}, true, 3600000},
        {{.status = 429, .retry_after = "-5"}, true, 60000},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        struct limit_facts facts = cases[i].facts;
        facts.now_unix_s = NOW;
        struct limit_verdict verdict = decide_limit(&facts);
        if (verdict.refused != cases[i].refused || verdict.wait_ms != cases[i].wait_ms) {
            fail_msg("case %zu: refused %d, wait %lld ms", i, verdict.refused,
                     (long long)verdict.wait_ms);
        }
    }
}

/* ---- Link ---- */

static void links_say_where_it_goes_on(void **state)
{
    (void)state;
    const struct {
        const char *link, *next;
    } cases[] = {
        {NULL, NULL},
        {"", NULL},
        {"<https://api.github.com/x?per_page=100&cursor=v1_12>; rel=\"next\"", "v1_12"},
        {"<https://h/x?cursor=a>; rel=\"prev\", <https://h/x?cursor=b%2Bc>; rel=\"next\"", "b+c"},
        {"<https://h/x?cursor=a>; rel=\"prev\"", NULL},
        {"<https://h/x?xcursor=a&cursorx=b>; rel=\"next\"", NULL},
        {"<https://h/x?cursor=>; rel=\"next\"", NULL},
        {"<https://h/x?cursor=%zz>; rel=\"next\"", NULL},
        {"<https://h/x?cursor=a", NULL},
        {"<https://h/x?cursor=a&per_page=1>; rel=next", "a"},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        const char *next = decode_next(arena, cases[i].link, "cursor");
        if (!!next != !!cases[i].next || (next && strcmp(next, cases[i].next) != 0)) {
            fail_msg("case %zu: %s", i, next ? next : "nothing");
        }
    }
}

/* ---- answers ---- */

static json_t *json(const char *text)
{
    json_t *root = NULL;
    assert_int_equal(ec_json_parse(arena, ec_span_of(text), &root).fate, EC_FATE_OK);
    return root;
}

static void gitlabs_events_are_deliveries(void **state)
{
    (void)state;
    ec_cleanup(ec_json_freep) json_t *root =
        json("[{\"id\":5,\"url\":\"https://e/x\",\"trigger\":\"push_hooks\",\"request_headers\":"
             "{\"X-Gitlab-Event\":\"Push Hook\",\"X-Gitlab-Event-UUID\":\"13792a34\"},"
             "\"response_status\":\"200\"},{\"id\":6,\"request_headers\":{\"X-Gitlab-Event-UUID\":"
             "\"b\"},\"response_status\":\"internal error\"},{\"id\":7},null]");
    struct ec_githost_deliveries page = {0};
    assert_int_equal(decode_gitlab_deliveries(arena, root, &page).fate, EC_FATE_OK);
    assert_int_equal(page.count, 2);
    assert_string_equal(page.list[0].id, "5");
    assert_string_equal(page.list[0].guid, "13792a34");
    assert_string_equal(page.list[0].status, "OK");
    assert_string_equal(page.list[1].status, "internal error");
    assert_int_equal(page.list[1].status_code, 0);
    ec_cleanup(ec_json_freep) json_t *none = json("{}");
    assert_int_equal(decode_gitlab_deliveries(arena, none, &page).fate, EC_FATE_REJECT);
}

static void gitlabs_hooks_have_flags(void **state)
{
    (void)state;
    ec_cleanup(ec_json_freep) json_t *root =
        json("[{\"id\":1,\"url\":\"https://e/x\",\"push_events\":true,\"note_events\":false,"
             "\"alert_status\":\"disabled\",\"enable_ssl_verification\":true}]");
    struct hook_list hooks = {ec_arena_alloc(arena, HOOKS_MAX * sizeof(*hooks.items)), 0};
    assert_int_equal(decode_hooks(arena, EC_GITHOST_GITLAB, root, &hooks).fate, EC_FATE_OK);
    assert_int_equal(hooks.count, 1);
    assert_false(hooks.items[0].active);
    assert_string_equal(hooks.items[0].events[0], "push_events");
    assert_null(hooks.items[0].events[1]);
    hooks.items[0].active = true;
    assert_string_equal(ec_githost_hook_fault(arena, EC_GITHOST_GITLAB, hooks.items),
                        "it does not deliver \"tag_push_events\"");
}

static void gitlabs_members_have_levels(void **state)
{
    (void)state;
    ec_cleanup(ec_json_freep) json_t *root = json(
        "[{\"username\":\"ann2\",\"access_level\":50,\"state\":\"active\"},{\"username\":\"ann\","
        "\"access_level\":30,\"state\":\"active\"},{\"username\":\"bob\",\"access_level\":40,"
        "\"state\":\"blocked\"}]");
    assert_int_equal(decode_gitlab_level(root, "ann"), 30);
    assert_int_equal(decode_gitlab_level(root, "bob"), 0);
    assert_int_equal(decode_gitlab_level(root, "eve"), 0);
}

static void tokens_live_as_long_as_is_sensible(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int64_t life_ms; /* 0 = refused */
    } cases[] = {
        {"{\"token\":\"ghs_1\",\"expires_at\":\"2023-11-14T23:13:20Z\"}", 3600000},
        {"{\"token\":\"ghs_1\",\"expires_at\":\"2030-01-01T00:00:00Z\"}", 3600000},
        {"{\"token\":\"ghs_1\",\"expires_at\":\"2020-01-01T00:00:00Z\"}", 60000},
        {"{\"token\":\"ghs_1\"}", 60000},
        {"{\"token\":\"a b\"}", 0},
        {"{\"token\":\"a\\r\\nX: y\"}", 0},
        {"{\"token\":\"\"}", 0},
        {"{}", 0},
        {"[]", 0},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        ec_cleanup(ec_json_freep) json_t *root = json(cases[i].text);
        ec_cleanup(ec_secret_freep) struct ec_secret *token = NULL;
        int64_t life_ms = 0;
        struct ec_err err = decode_app_token(root, (int64_t)NOW * 1000, &token, &life_ms);
        if (ec_failed(err) != (cases[i].life_ms == 0) || life_ms != cases[i].life_ms) {
            fail_msg("case %zu: %s, %lld ms", i, ec_fate_name(err.fate), (long long)life_ms);
        }
    }
}

/* ---- the file of hosts ---- */

static void faults_of_the_file_are_named(void **state)
{
    (void)state;
    write_file("token", EC_SPAN("secret\n"));
    write_file("empty", EC_SPAN("\n"));
    const struct {
        const char *text, *fault; /* NULL: it is good; TOKEN stands for the file's path */
    } cases[] = {
        {"{\"hosts\": []}", NULL},
        {"{\"hosts\": [{\"server\": \"git.example\", \"kind\": \"gitlab\", \"token_file\": "
         "\"TOKEN\"}, {\"server\": \"code.example:3000\", \"kind\": \"forgejo\", \"token_file\": "
         "\"TOKEN\", \"plaintext\": true}]}",
         NULL},
        {"{\"hosts\": [}", "bad JSON at line 1"},
        {"[]", "it must be {\"hosts\": [...]}"},
        {"{\"hosts\": [{\"server\": \"Git.example\", \"kind\": \"gitlab\"}]}",
         "\"server\" must be"},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"svn\"}]}", "is \"svn\""},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"gitlab\", \"tokenfile\": \"x\"}]}",
         "did you mean \"token_file\"?"},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"gitlab\", \"token_file\": 1}]}",
         "\"token_file\" must be a text"},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"gitlab\", \"token_file\": \"/none\"}]}",
         "hosts[0] (\"a.b\"): the token file /none: the secret file cannot be opened: No such "
         "file"},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"github\", \"app_id\": \"1\"}]}",
         "either \"token_file\", or \"app_id\" with \"app_key_file\""},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"gitea\", \"app_id\": \"1\", "
         "\"app_key_file\": \"TOKEN\"}]}",
         "only hosts of kind github have Apps"},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"github\", \"app_id\": \"1\", "
         "\"app_key_file\": \"TOKEN\"}]}",
         "this is no PEM key"},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"gitea\", \"api\": \"http://a.b/api\"}]}",
         "the credential would be readable on the way"},
        {"{\"hosts\": [{\"server\": \"a.b\", \"kind\": \"git\"}, {\"server\": \"a.b\", \"kind\": "
         "\"git\"}]}",
         "a.b is listed twice"},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        char *text = ec_arena_strdup(arena, cases[i].text);
        for (char *at; (at = strstr(text, "TOKEN")) != NULL;) {
            text = ec_arena_format(arena, "%.*s%s%s", (int)(at - text), text, path_of("token"),
                                   at + 5);
        }
        write_file("hosts.json", ec_span_of(text));
        struct ec_githosts *hosts = NULL;
        struct ec_githost_settings settings = {.hosts_file = path_of("hosts.json")};
        struct ec_err err = ec_githosts_open(NULL, NULL, &settings, &hosts);
        const char *what = ec_failed(err) ? err.what : "";
        if (ec_failed(err) != (cases[i].fault != NULL) ||
            (cases[i].fault && !strstr(what, cases[i].fault))) {
            fail_msg("case %zu: %s", i, what);
        }
        ec_githosts_close(hosts);
    }
}

static void kinds_have_their_places(void **state)
{
    (void)state;
    write_file("token", EC_SPAN("secret"));
    write_file(
        "hosts.json",
        ec_span_of(ec_arena_format(
            arena,
            "{\"hosts\": [{\"server\": \"ghe.example\", \"kind\": \"github\", \"token_file\": "
            "\"%s\"}, {\"server\": \"127.0.0.1:3000\", \"kind\": \"gitea\", \"api\": "
            "\"http://127.0.0.1:3000/api/v1/\"}]}",
            path_of("token"))));
    struct ec_githosts *hosts = NULL;
    struct ec_githost_settings settings = {.hosts_file = path_of("hosts.json")};
    assert_int_equal(ec_githosts_open(NULL, NULL, &settings, &hosts).fate, EC_FATE_OK);
    const struct git_host *ghe = githost_find(hosts, "ghe.example/a/b");
    assert_string_equal(ghe->api, "https://ghe.example/api/v3");
    assert_string_equal(ghe->git_base, "https://ghe.example/");
    assert_true(ec_githost_has_api(hosts, "ghe.example/a/b"));
    const struct git_host *gitea = githost_find(hosts, "127.0.0.1:3000/a/b");
    assert_string_equal(gitea->api, "http://127.0.0.1:3000/api/v1");
    assert_string_equal(gitea->git_base, "http://127.0.0.1:3000/");
    assert_int_equal(ec_githost_kind(hosts, "127.0.0.1:3000/a/b"), EC_GITHOST_GITEA);
    assert_false(ec_githost_has_api(hosts, "127.0.0.1:3000/a/b")); /* no credential */
    assert_int_equal(ec_githost_kind(hosts, "127.0.0.1/a/b"), EC_GITHOST_GIT);
    ec_githosts_close(hosts);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(openssl_verifies_the_jwt),      T(keys_that_are_none_are_refused),
        T(limits_are_judged_in_order),    T(links_say_where_it_goes_on),
        T(gitlabs_events_are_deliveries), T(gitlabs_hooks_have_flags),
        T(gitlabs_members_have_levels),   T(tokens_live_as_long_as_is_sensible),
        T(faults_of_the_file_are_named),  T(kinds_have_their_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
