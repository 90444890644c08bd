/* What goes out to GitLab and Gitea: each request against the one that their documentation has, by
 * a server that answers nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "githost/githost.h"
#include "net/http_server.h"
#include "support/kafka.h"

static struct fixture {
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;
    struct ec_http_server *server;
    struct ec_githosts *hosts;
    struct ec_arena *arena;
    char dir[64], lab[64], tea[64], bucket[64]; /* repository keys */
    /* of the last request */
    char path[300], auth[100], body[2000];
    /* of the last answer */
    bool over, may;
    struct ec_err err;
    char id[32], guid[64], cursor[32];
    bool pending; /* of GitLab's line of checks */
    int asked;
    size_t count;
} fx;

/* ---- the server ---- */

static void answer(struct ec_request *req, int status, const char *json)
{
    json_t *body = json_loads(json, JSON_DECODE_ANY, NULL);
    struct ec_span sent = ec_request_body(req);
    snprintf(fx.path, sizeof(fx.path), "%s %s", ec_request_method(req), ec_request_path(req));
    snprintf(fx.body, sizeof(fx.body), "%.*s", (int)sent.len, sent.ptr ? sent.ptr : "");
    ec_reply_json(req, status, body);
    json_decref(body);
}

static bool before(void *state, struct ec_request *req)
{
    (void)state;
    const char *lab = ec_request_header(req, "PRIVATE-TOKEN");
    const char *tea = ec_request_header(req, "Authorization");
    snprintf(fx.auth, sizeof(fx.auth), "%s|%s", lab ? lab : "", tea ? tea : "");
    return true;
}

static void lab_hooks(void *state, struct ec_request *req)
{
    (void)state;
    const char *page = ec_request_query(req, "page");
    assert_string_equal(ec_request_query(req, "per_page"), "100");
    if (!page) {
        ec_reply_header(req, "Link", "<http://h/hooks?page=2&per_page=100>; rel=\"next\"");
    } else {
        assert_string_equal(page, "2");
    }
    answer(req, 200,
           page ? "[{\"id\":2,\"url\":\"https://e/2\",\"push_events\":true}]"
                : "[{\"id\":1,\"url\":\"https://e/1\",\"push_events\":true}]");
}

static void lab_made(void *state, struct ec_request *req)
{
    (void)state;
    answer(req, 201, "{\"id\":7}");
}

static void lab_events(void *state, struct ec_request *req)
{
    (void)state;
    assert_string_equal(ec_request_query(req, "per_page"), "20");
    ec_reply_header(req, "Link", "<http://h/events?page=3>; rel=\"next\"");
    answer(req, 200,
           "[{\"id\":5,\"request_headers\":{\"X-Gitlab-Event-UUID\":\"u-1\"},\"response_status\":"
           "\"500\"}]");
}

static void lab_members(void *state, struct ec_request *req)
{
    (void)state;
    assert_string_equal(ec_request_query(req, "query"), "ann");
    answer(req, 200, "[{\"username\":\"ann\",\"access_level\":40,\"state\":\"active\"}]");
}

static void tea_hooks(void *state, struct ec_request *req)
{
    (void)state;
    assert_string_equal(ec_request_query(req, "limit"), "50");
    answer(
        req, 200,
        "[{\"id\":3,\"type\":\"gitea\",\"active\":true,\"events\":[\"push\"],\"config\":{\"url\":"
        "\"https://e/3\",\"content_type\":\"json\"}}]");
}

static void tea_made(void *state, struct ec_request *req)
{
    (void)state;
    answer(req, 201, "{\"id\":3}");
}

static void tea_permission(void *state, struct ec_request *req)
{
    (void)state;
    answer(req, 200, "{\"permission\":\"read\",\"role_name\":\"read\"}");
}

#define SHA "2222222222222222222222222222222222222222"
#define FORKS_SHA "3333333333333333333333333333333333333333"

/* GitLab's rules: one line of a commit is pending once; a commit that is on no branch has no place
 * until its ref is named; branches go by their short names. */
static void lab_status(void *state, struct ec_request *req)
{
    static const char *const states[] = {"pending", "running", "success", "failed", "canceled"};
    (void)state;
    ec_cleanup(ec_json_freep) json_t *body = NULL;
    assert_false(ec_failed(ec_json_parse(fx.arena, ec_request_body(req), &body)));
    const char *word = ec_json_text(body, "state"), *ref = ec_json_text(body, "ref");
    bool known = false, pending = strcmp(word, "pending") == 0;
    for (size_t i = 0; i < EC_LEN(states); i++) {
        known = known || strcmp(word, states[i]) == 0;
    }
    bool fork = strcmp(ec_request_param(req, "sha"), FORKS_SHA) == 0;
    fx.asked++;
    if (fork && !ref[0]) {
        answer(req, 404, "{\"message\":\"404 References for commit Not Found\"}");
    } else if (!known || !ec_json_text(body, "name")[0] ||
               strcmp(ref, fork ? "refs/merge-requests/7/head" : "main") != 0) {
        answer(req, 400, "{\"message\":\"bad request\"}");
    } else if (pending && fx.pending) {
        answer(req, 400,
               "{\"message\":\"Cannot transition status via :enqueue from :pending (Reason(s): "
               "Status cannot transition via \\\"enqueue\\\")\"}");
    } else {
        fx.pending = pending;
        answer(req, 201, "{\"id\":1}");
    }
}

static void tea_status(void *state, struct ec_request *req)
{
    (void)state;
    answer(req, 201, "{\"id\":1}");
}

/* Bitbucket's: key (40 at most), state and url must be there, and nothing that it does not know. */
static void bucket_status(void *state, struct ec_request *req)
{
    static const char *const known[] = {"key", "state", "url", "name", "description", "refname"};
    static const char *const states[] = {"SUCCESSFUL", "FAILED", "INPROGRESS", "STOPPED"};
    (void)state;
    ec_cleanup(ec_json_freep) json_t *body = NULL;
    const char *member;
    json_t *value;
    size_t strange = 0;
    bool good = false;
    assert_false(ec_failed(ec_json_parse(fx.arena, ec_request_body(req), &body)));
    json_object_foreach(body, member, value)
    {
        bool is = false;
        for (size_t i = 0; i < EC_LEN(known); i++) {
            is = is || strcmp(member, known[i]) == 0;
        }
        strange += !is || !json_is_string(value);
    }
    for (size_t i = 0; i < EC_LEN(states); i++) {
        good = good || strcmp(ec_json_text(body, "state"), states[i]) == 0;
    }
    size_t key = strlen(ec_json_text(body, "key"));
    good = good && key > 0 && key <= 40 && strange == 0 &&
           strncmp(ec_json_text(body, "url"), "https://", 8) == 0;
    answer(req, good ? 201 : 400, good ? "{\"type\":\"build\"}" : "{\"type\":\"error\"}");
}

static void lab_project(void *state, struct ec_request *req)
{
    (void)state;
    answer(req, 200,
           "{\"id\":42,\"path_with_namespace\":\"group/sub/store\",\"http_url_to_repo\":"
           "\"https://lab.example/group/sub/store.git\",\"default_branch\":\"main\"}");
}

static void tea_repo(void *state, struct ec_request *req)
{
    (void)state;
    answer(req, 200,
           "{\"id\":42,\"full_name\":\"acme/store\",\"clone_url\":"
           "\"https://tea.example/acme/store.git\",\"archived\":true}");
}

static void empty(void *state, struct ec_request *req)
{
    (void)state;
    answer(req, 200, "{}");
}

/* {id} is one segment: "group%2Fsub%2Fshop" as sent; the path below is shown decoded. */
#define LAB "/api/v4/projects/{id}"
#define TEA "/api/v1/repos/{owner}/{name}"
#define BUCKET "/2.0/repositories/{workspace}/{slug}"
static const struct ec_http_route routes[] = {
    {"GET", LAB, lab_project, 0, 0},
    {"GET", "/api/v1/repositories/{id}", tea_repo, 0, 0},
    {"GET", LAB "/hooks", lab_hooks, 0, 0},
    {"POST", LAB "/hooks", lab_made, 4096, 0},
    {"PUT", LAB "/hooks/{hook}", lab_made, 4096, 0},
    {"GET", LAB "/hooks/{hook}/events", lab_events, 0, 0},
    {"POST", LAB "/hooks/{hook}/events/{event}/resend", empty, 4096, 0},
    {"GET", LAB "/members/all", lab_members, 0, 0},
    {"POST", LAB "/statuses/{sha}", lab_status, 4096, 0},
    {"GET", TEA "/hooks", tea_hooks, 0, 0},
    {"POST", TEA "/hooks", tea_made, 4096, 0},
    {"PATCH", TEA "/hooks/{hook}", tea_made, 4096, 0},
    {"POST", TEA "/hooks/{hook}/tests", empty, 4096, 0},
    {"GET", TEA "/collaborators/{user}/permission", tea_permission, 0, 0},
    {"POST", TEA "/statuses/{sha}", tea_status, 4096, 0},
    {"POST", BUCKET "/commit/{sha}/statuses/build", bucket_status, 4096, 0},
};

/* ---- set up ---- */

static void write_file(const char *name, const char *text)
{
    struct ec_span span = ec_span_of(text);
    const char *path = ec_arena_format(fx.arena, "%s/%s", fx.dir, name);
    assert_int_equal(ec_file_replace(&(struct ec_file_spec){path, 0600, false, &span, 1}), 0);
}

static int setup(void **state)
{
    (void)state;
    fx = (struct fixture){0};
    fx.loop = ec_loop_new();
    fx.arena = ec_arena_new(1 << 20);
    strcpy(fx.dir, "/tmp/githost-test-XXXXXX");
    assert_non_null(mkdtemp(fx.dir));
    struct ec_http_server_spec spec = {
        .listen = "127.0.0.1:0", .routes = routes, .route_count = EC_LEN(routes), .before = before};
    assert_int_equal(ec_http_server_open(fx.loop, &spec, &fx.server).fate, EC_FATE_OK);
    assert_int_equal(ec_fetcher_open(fx.loop, "enclii-test", 8, &fx.fetcher).fate, EC_FATE_OK);
    unsigned port = ec_http_server_port(fx.server);
    write_file("token", "secret-1\n");
    write_file(
        "hosts.json",
        ec_arena_format(fx.arena,
                        "{\"hosts\": [{\"server\": \"bucket.test\", \"kind\": \"bitbucket\", "
                        "\"api\": \"http://127.0.0.1:%u/2.0\", \"token_file\": "
                        "\"%s/token\"}, {\"server\": \"lab.test\", \"kind\": \"gitlab\", "
                        "\"api\": \"http://127.0.0.1:%u/api/v4\", \"token_file\": "
                        "\"%s/token\"}, {\"server\": \"tea.test\", \"kind\": \"forgejo\", "
                        "\"api\": \"http://127.0.0.1:%u/api/v1\", \"token_file\": "
                        "\"%s/token\"}]}",
                        port, fx.dir, port, fx.dir, port, fx.dir));
    struct ec_githost_settings settings = {.hosts_file =
                                               ec_arena_format(fx.arena, "%s/hosts.json", fx.dir)};
    struct ec_err err = ec_githosts_open(fx.loop, fx.fetcher, &settings, &fx.hosts);
    assert_string_equal(err.what ? err.what : "", "");
    strcpy(fx.lab, "lab.test/group/sub/shop");
    strcpy(fx.tea, "tea.test/acme/shop");
    strcpy(fx.bucket, "bucket.test/acme/shop");
    return 0;
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static int teardown(void **state)
{
    (void)state;
    bool closed = false;
    char command[100];
    ec_githosts_close(fx.hosts);
    ec_fetcher_close(fx.fetcher);
    ec_http_server_close(fx.server, 100, on_closed, &closed);
    assert_true(test_run_until(fx.loop, 5000, test_is_true, &closed));
    ec_loop_free(fx.loop);
    ec_arena_free(fx.arena);
    snprintf(command, sizeof(command), "rm -rf %s", fx.dir);
    return system(command);
}

/* ---- answers ---- */

static void finish(struct ec_err err)
{
    fx.err = err;
    fx.err.what = ec_arena_strdup(fx.arena, err.what);
    fx.over = true;
}

static void on_hooks(void *arg, struct ec_err err, const struct ec_githost_hook *list, size_t count)
{
    (void)arg;
    fx.count = count;
    if (count > 0) {
        snprintf(fx.id, sizeof(fx.id), "%s", list[count - 1].id);
    }
    finish(err);
}

static void on_put(void *arg, struct ec_err err, const char *id)
{
    (void)arg;
    snprintf(fx.id, sizeof(fx.id), "%s", id ? id : "");
    finish(err);
}

static void on_page(void *arg, struct ec_err err, const struct ec_githost_deliveries *page)
{
    (void)arg;
    fx.count = page ? page->count : 0;
    snprintf(fx.guid, sizeof(fx.guid), "%s", fx.count ? page->list[0].guid : "");
    snprintf(fx.cursor, sizeof(fx.cursor), "%s", page && page->cursor ? page->cursor : "");
    finish(err);
}

static void on_done(void *arg, struct ec_err err)
{
    (void)arg;
    finish(err);
}

static void on_repo(void *arg, struct ec_err err, const struct ec_githost_repo *repo)
{
    (void)arg;
    snprintf(fx.id, sizeof(fx.id), "%s", repo ? repo->full_name : "");
    snprintf(fx.guid, sizeof(fx.guid), "%s", repo ? repo->clone_url : "");
    finish(err);
}

static void on_may(void *arg, struct ec_err err, bool may)
{
    (void)arg;
    fx.may = may;
    finish(err);
}

static void ends_well(struct ec_err started)
{
    assert_string_equal(started.what ? started.what : "", "");
    assert_true(test_run_until(fx.loop, 5000, test_is_true, &fx.over));
    fx.over = false;
    assert_string_equal(fx.err.what ? fx.err.what : "", "");
}

static struct ec_err put(const char *repo, const char *hook_id)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *secret = ec_secret_new(EC_SPAN("s3cret"));
    struct ec_githost_hook_spec spec = {repo, hook_id, "https://e/x", secret};
    return ec_githost_hook_put(fx.hosts, &spec, on_put, NULL);
}

/* ---- tests ---- */

static void gitlab(void **state)
{
    (void)state;
    ends_well(ec_githost_repo(fx.hosts, fx.lab, "42", on_repo, NULL));
    assert_string_equal(fx.path, "GET /api/v4/projects/42");
    assert_string_equal(fx.id, "group/sub/store");
    assert_string_equal(fx.guid, "https://lab.example/group/sub/store.git");
    ends_well(ec_githost_hooks(fx.hosts, fx.lab, on_hooks, NULL));
    assert_string_equal(fx.path, "GET /api/v4/projects/group/sub/shop/hooks");
    assert_string_equal(fx.auth, "secret-1|");
    assert_int_equal(fx.count, 2); /* of both pages */
    assert_string_equal(fx.id, "2");
    ends_well(put(fx.lab, NULL));
    assert_string_equal(fx.path, "POST /api/v4/projects/group/sub/shop/hooks");
    assert_string_equal(fx.body,
                        "{\"url\":\"https://e/x\",\"token\":\"s3cret\",\"enable_ssl_verification\":"
                        "true,\"push_events\":true,\"tag_push_events\":true,"
                        "\"merge_requests_events\":true,\"pipeline_events\":true,"
                        "\"releases_events\":true}");
    assert_string_equal(fx.id, "7");
    ends_well(put(fx.lab, "7"));
    assert_string_equal(fx.path, "PUT /api/v4/projects/group/sub/shop/hooks/7");
    struct ec_githost_deliveries_query query = {fx.lab, "7", NULL, NULL};
    ends_well(ec_githost_deliveries(fx.hosts, &query, on_page, NULL));
    assert_string_equal(fx.path, "GET /api/v4/projects/group/sub/shop/hooks/7/events");
    assert_string_equal(fx.guid, "u-1");
    assert_string_equal(fx.cursor, "3");
    ends_well(ec_githost_redeliver(fx.hosts, fx.lab, "7", "5", on_done, NULL));
    assert_string_equal(fx.path, "POST /api/v4/projects/group/sub/shop/hooks/7/events/5/resend");
    ends_well(ec_githost_may_push(fx.hosts, fx.lab, "ann", on_may, NULL));
    assert_true(fx.may);
    assert_int_equal(ec_githost_hook_ping(fx.hosts, fx.lab, "7", on_done, NULL).fate,
                     EC_FATE_REJECT); /* its tests are real pushes */
}

static void gitea(void **state)
{
    (void)state;
    ends_well(ec_githost_repo(fx.hosts, fx.tea, "42", on_repo, NULL));
    assert_string_equal(fx.path, "GET /api/v1/repositories/42");
    assert_string_equal(fx.id, "acme/store");
    ends_well(ec_githost_hooks(fx.hosts, fx.tea, on_hooks, NULL));
    assert_string_equal(fx.path, "GET /api/v1/repos/acme/shop/hooks");
    assert_string_equal(fx.auth, "|token secret-1");
    assert_int_equal(fx.count, 1);
    ends_well(put(fx.tea, NULL));
    assert_string_equal(fx.path, "POST /api/v1/repos/acme/shop/hooks");
    assert_string_equal(fx.body,
                        "{\"config\":{\"url\":\"https://e/x\",\"content_type\":\"json\",\"secret\":"
                        "\"s3cret\"},\"events\":[\"push\",\"pull_request\",\"pull_request_sync\","
                        "\"pull_request_label\",\"create\",\"delete\",\"repository\",\"release\"],"
                        "\"active\":true,\"type\":\"gitea\"}");
    ends_well(put(fx.tea, "3"));
    assert_string_equal(fx.path, "PATCH /api/v1/repos/acme/shop/hooks/3");
    assert_null(strstr(fx.body, "\"type\""));
    ends_well(ec_githost_hook_ping(fx.hosts, fx.tea, "3", on_done, NULL));
    assert_string_equal(fx.path, "POST /api/v1/repos/acme/shop/hooks/3/tests");
    ends_well(ec_githost_may_push(fx.hosts, fx.tea, "ann", on_may, NULL));
    assert_false(fx.may);
    struct ec_githost_deliveries_query query = {fx.tea, "3", NULL, NULL};
    assert_int_equal(ec_githost_deliveries(fx.hosts, &query, on_page, NULL).fate, EC_FATE_REJECT);
}

/* ---- statuses ---- */

static struct ec_err tell(const char *repo, const char *sha, const char *ref,
                          enum ec_githost_state state)
{
    struct ec_githost_status status = {.sha = sha,
                                       .ref = ref,
                                       .state = state,
                                       .context = "enclii/shop/build",
                                       .description = "The build failed: no Dockerfile\nhere",
                                       .target_url = "https://e/s/1"};
    return ec_githost_commit_status(fx.hosts, repo, &status, on_done, NULL);
}

static void gitlab_statuses(void **state)
{
    (void)state;
    static const char forks_ref[] = "refs/merge-requests/7/head";
    ends_well(tell(fx.lab, SHA, "refs/heads/main", EC_GITHOST_FAILURE));
    assert_string_equal(fx.path, "POST /api/v4/projects/group/sub/shop/statuses/" SHA);
    assert_string_equal(fx.auth, "secret-1|");
    assert_string_equal(fx.body, "{\"state\":\"failed\",\"description\":\"The build failed: no "
                                 "Dockerfile\",\"name\":\"enclii/shop/build\",\"target_url\":"
                                 "\"https://e/s/1\",\"ref\":\"main\"}");
    ends_well(tell(fx.lab, SHA, "refs/heads/main", EC_GITHOST_PENDING));
    ends_well(tell(fx.lab, SHA, "refs/heads/main", EC_GITHOST_PENDING)); /* it is that already */
    assert_int_equal(fx.asked, 3);
    ends_well(tell(fx.lab, SHA, "refs/tags/main", EC_GITHOST_CANCELLED));
    assert_non_null(strstr(fx.body, "\"state\":\"canceled\""));
    assert_int_equal(fx.asked, 4);
    ends_well(tell(fx.lab, FORKS_SHA, forks_ref, EC_GITHOST_PENDING)); /* of no branch */
    assert_int_equal(fx.asked, 6);
    assert_non_null(strstr(fx.body, "\"ref\":\"refs/merge-requests/7/head\""));
    /* What it refuses is refused, and asked once. */
    struct ec_err err = tell(fx.lab, SHA, "refs/heads/other", EC_GITHOST_SUCCESS);
    assert_int_equal(err.fate, EC_FATE_OK);
    assert_true(test_run_until(fx.loop, 5000, test_is_true, &fx.over));
    assert_int_equal(fx.err.fate, EC_FATE_REJECT);
    assert_int_equal(fx.err.sys, 400);
    assert_int_equal(fx.asked, 7);
}

static void gitea_statuses(void **state)
{
    (void)state;
    ends_well(tell(fx.tea, SHA, "refs/heads/main", EC_GITHOST_FAILURE));
    assert_string_equal(fx.path, "POST /api/v1/repos/acme/shop/statuses/" SHA);
    assert_string_equal(fx.auth, "|token secret-1");
    assert_string_equal(fx.body, "{\"state\":\"failure\",\"description\":\"The build failed: no "
                                 "Dockerfile\",\"context\":\"enclii/shop/build\",\"target_url\":"
                                 "\"https://e/s/1\"}");
    ends_well(tell(fx.tea, SHA, "", EC_GITHOST_CANCELLED));
    assert_non_null(strstr(fx.body, "\"state\":\"error\""));
    assert_int_equal(tell("other.test/acme/shop", SHA, "", EC_GITHOST_SUCCESS).fate,
                     EC_FATE_REJECT); /* a host that is not listed */
}

static void bitbucket_statuses(void **state)
{
    (void)state;
    ends_well(tell(fx.bucket, SHA, "refs/heads/main", EC_GITHOST_FAILURE));
    assert_string_equal(fx.path, "POST /2.0/repositories/acme/shop/commit/" SHA "/statuses/build");
    assert_string_equal(fx.auth, "|Bearer secret-1");
    assert_string_equal(fx.body, "{\"state\":\"FAILED\",\"description\":\"The build failed: no "
                                 "Dockerfile\",\"name\":\"enclii/shop/build\",\"url\":"
                                 "\"https://e/s/1\",\"key\":\"enclii/shop/build\"}");
    ends_well(tell(fx.bucket, SHA, "", EC_GITHOST_CANCELLED));
    assert_non_null(strstr(fx.body, "\"state\":\"STOPPED\""));
    struct ec_githost_status bare = {.sha = SHA,
                                     .ref = "",
                                     .state = EC_GITHOST_PENDING,
                                     .context = "enclii/a-service-with-a-long-name/production",
                                     .description = "",
                                     .target_url = ""};
    ends_well(ec_githost_commit_status(fx.hosts, fx.bucket, &bare, on_done, NULL));
    assert_non_null(strstr(fx.body, "\"url\":\"https://bucket.test/acme/shop\""));
    assert_non_null(strstr(fx.body, "\"name\":\"enclii/a-service-with-a-long-name/production\""));
    /* For everything else it is a host without an API. */
    assert_false(ec_githost_has_api(fx.hosts, fx.bucket));
    assert_true(ec_githosts_any_api(fx.hosts, EC_GITHOST_BITBUCKET));
    assert_int_equal(ec_githost_hooks(fx.hosts, fx.bucket, on_hooks, NULL).fate, EC_FATE_REJECT);
    assert_int_equal(ec_githost_repo(fx.hosts, fx.bucket, "42", on_repo, NULL).fate,
                     EC_FATE_REJECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gitlab, setup, teardown),
        cmocka_unit_test_setup_teardown(gitea, setup, teardown),
        cmocka_unit_test_setup_teardown(gitlab_statuses, setup, teardown),
        cmocka_unit_test_setup_teardown(gitea_statuses, setup, teardown),
        cmocka_unit_test_setup_teardown(bitbucket_statuses, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
