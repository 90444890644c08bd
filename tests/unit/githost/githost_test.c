/* Calls to git hosts against the double of GitHub: tokens, Apps, pages, limits, webhooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "githost/githost.h"
#include "support/github_double.h"
#include "support/kafka.h"

#define SHOP "github.com/acme/shop"
#define GUID(n) "aaaaaaaa-0000-4000-8000-00000000000" n

static struct fixture {
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;
    struct github_double *github;
    struct ec_githosts *hosts;
    struct ec_secret *token;
    struct ec_arena *arena;
    /* of the last answers */
    int calls;
    struct ec_err err;
    const char *header;
    struct ec_githost_deliveries page;
    struct ec_githost_hook hooks[50];
    size_t hook_count;
    const char *hook_id;
    bool may;
    char repo[200];
} fx;

static int setup(void **state)
{
    (void)state;
    fx = (struct fixture){0};
    fx.loop = ec_loop_new();
    fx.arena = ec_arena_new(4 << 20);
    assert_int_equal(ec_fetcher_open(fx.loop, "enclii-test", 8, &fx.fetcher).fate, EC_FATE_OK);
    fx.github = github_double_open(fx.loop);
    github_double_repo(fx.github, "acme/shop");
    return 0;
}

static void open_hosts(const struct ec_githost_settings *settings)
{
    struct ec_githost_settings with = *settings;
    with.github_api_url = github_double_url(fx.github);
    assert_int_equal(ec_githosts_open(fx.loop, fx.fetcher, &with, &fx.hosts).fate, EC_FATE_OK);
}

static void open_with_token(void)
{
    fx.token = ec_secret_new(EC_SPAN("ghp_test"));
    github_double_token(fx.github, "ghp_test");
    open_hosts(&(struct ec_githost_settings){.github_token = fx.token});
}

static void open_with_app(int token_life_s)
{
    const char *key = github_double_app(fx.github, "12345", "acme", token_life_s);
    open_hosts(&(struct ec_githost_settings){.github_app_id = "12345", .github_app_key_file = key});
}

static int teardown(void **state)
{
    (void)state;
    ec_githosts_close(fx.hosts);
    github_double_close(fx.github);
    ec_fetcher_close(fx.fetcher);
    ec_loop_run(fx.loop);
    ec_loop_free(fx.loop);
    ec_secret_free(fx.token);
    ec_arena_free(fx.arena);
    return 0;
}

static void no_fault(void)
{
    if (github_double_fault(fx.github)) {
        fail_msg("GitHub would not have taken: %s", github_double_fault(fx.github));
    }
}

static void ended(struct ec_err err)
{
    fx.err = err;
    fx.err.what = ec_arena_strdup(fx.arena, err.what);
    fx.calls++;
}

static bool calls_are(void *arg)
{
    return fx.calls >= *(int *)arg;
}

static void wait_for(int calls)
{
    assert_true(test_run_until(fx.loop, 10000, calls_are, &calls));
    assert_int_equal(fx.calls, calls);
    fx.calls = 0;
}

static void expect_fate(enum ec_fate fate)
{
    if (fx.err.fate != fate) {
        fail_msg("%s: %s", ec_fate_name(fx.err.fate), fx.err.what);
    }
}

static void on_auth(void *arg, struct ec_err err, const struct ec_secret *header)
{
    (void)arg;
    fx.header = header ? ec_arena_text(fx.arena, ec_secret_use(header)) : NULL;
    ended(err);
}

static const char *auth_of(const char *repo_key)
{
    fx.header = NULL;
    assert_int_equal(ec_githost_git_auth(fx.hosts, repo_key, on_auth, NULL).fate, EC_FATE_OK);
    assert_int_equal(fx.calls, 0); /* later, never before it returns */
    wait_for(1);
    return fx.header;
}

static const char *basic(const char *pair)
{
    return ec_arena_format(fx.arena, "Authorization: Basic %s",
                           ec_base64(fx.arena, ec_span_of(pair)));
}

static void on_page(void *arg, struct ec_err err, const struct ec_githost_deliveries *page)
{
    (void)arg;
    fx.page = (struct ec_githost_deliveries){0};
    if (page) {
        struct ec_githost_delivery *list =
            ec_arena_alloc(fx.arena, (page->count + 1) * sizeof(*list));
        for (size_t i = 0; i < page->count; i++) {
            list[i] = page->list[i];
            list[i].id = ec_arena_strdup(fx.arena, list[i].id);
            list[i].guid = ec_arena_strdup(fx.arena, list[i].guid);
            list[i].status = ec_arena_strdup(fx.arena, list[i].status);
            list[i].event = ec_arena_strdup(fx.arena, list[i].event);
        }
        fx.page = *page;
        fx.page.list = list;
        fx.page.etag = ec_arena_strdup(fx.arena, page->etag);
        fx.page.cursor = ec_arena_strdup(fx.arena, page->cursor);
    }
    ended(err);
}

static struct ec_err ask(const char *hook_id, const char *etag, const char *cursor)
{
    struct ec_githost_deliveries_query query = {SHOP, hook_id, etag, cursor};
    struct ec_err err = ec_githost_deliveries(fx.hosts, &query, on_page, NULL);
    if (!ec_failed(err)) {
        wait_for(1);
    }
    return err;
}

static void on_done(void *arg, struct ec_err err)
{
    (void)arg;
    ended(err);
}

/* ---- tokens ---- */

static void git_gets_the_token_for_its_server_only(void **state)
{
    (void)state;
    open_with_token();
    assert_string_equal(auth_of(SHOP), basic("x-access-token:ghp_test"));
    assert_null(auth_of("gitlab.com/acme/shop"));
    assert_null(auth_of("github.com.evil.example/acme/shop"));
    ec_cleanup(ec_secret_freep) struct ec_secret *header =
        ec_secret_new(EC_SPAN("Authorization: Basic eDp5"));
    const char *const *env = ec_githost_git_env(fx.arena, fx.hosts, SHOP, header,
                                                (const char *const[]){"HOME=/none", NULL});
    const char *const wanted[] = {"HOME=/none", "GIT_CONFIG_COUNT=1",
                                  "GIT_CONFIG_KEY_0=http.https://github.com/.extraHeader",
                                  "GIT_CONFIG_VALUE_0=Authorization: Basic eDp5"};
    for (size_t i = 0; i < EC_LEN(wanted); i++) {
        assert_string_equal(env[i], wanted[i]);
    }
    assert_null(env[EC_LEN(wanted)]);
    assert_null(ec_githost_git_env(fx.arena, fx.hosts, SHOP, NULL, NULL)[0]);
}

static void deliveries_come_page_by_page(void **state)
{
    (void)state;
    open_with_token();
    github_double_page_size(fx.github, 2);
    for (int i = 0; i < 5; i++) {
        struct github_double_delivery delivery = {.guid = ec_arena_format(fx.arena, GUID("%d"), i),
                                                  .status_code = i == 3 ? 502 : 202};
        github_double_deliver(fx.github, "acme/shop", 77, &delivery);
    }
    assert_int_equal(ask("77", NULL, NULL).fate, EC_FATE_OK);
    expect_fate(EC_FATE_OK);
    assert_int_equal(fx.page.count, 2);
    assert_string_equal(fx.page.list[0].guid, GUID("4"));
    assert_string_equal(fx.page.list[0].status, "OK");
    assert_int_equal(fx.page.list[1].status_code, 502);
    assert_true(llabs(fx.page.list[1].delivered_unix_ms - ec_unix_ms()) < 60000);
    const char *etag = fx.page.etag, *failed = fx.page.list[1].id;
    assert_non_null(fx.page.cursor);
    assert_int_equal(ask("77", NULL, fx.page.cursor).fate, EC_FATE_OK);
    assert_string_equal(fx.page.list[1].guid, GUID("1"));
    assert_int_equal(ask("77", NULL, fx.page.cursor).fate, EC_FATE_OK);
    assert_int_equal(fx.page.count, 1);
    assert_null(fx.page.cursor);
    /* Nothing new: nothing is sent. */
    assert_int_equal(ask("77", etag, NULL).fate, EC_FATE_OK);
    assert_true(fx.page.unchanged);
    assert_int_equal(fx.page.count, 0);
    assert_int_equal(ec_githost_redeliver(fx.hosts, SHOP, "77", failed, on_done, NULL).fate,
                     EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_OK);
    assert_int_equal(github_double_redelivered(fx.github, GUID("3")), 1);
    no_fault();
}

static void what_the_host_refuses_says_what_to_do(void **state)
{
    (void)state;
    open_with_token();
    struct ec_githost_deliveries_query query = {"github.com/acme/other", "77", NULL, NULL};
    assert_int_equal(ec_githost_deliveries(fx.hosts, &query, on_page, NULL).fate, EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_REJECT);
    assert_string_equal(fx.err.what,
                        "github.com answered 404 to GET /repos/acme/other/hooks/77/"
                        "deliveries?per_page=100: Not Found; is it there, and may the token see it "
                        "and its webhooks?");
    github_double_revoke(fx.github);
    assert_int_equal(ask("77", NULL, NULL).fate, EC_FATE_OK);
    expect_fate(EC_FATE_REJECT);
    assert_int_equal(fx.err.sys, 401);
    /* What would not be a path of theirs is not sent. */
    query.repo_key = "github.com/acme/shop/more";
    assert_int_equal(ec_githost_deliveries(fx.hosts, &query, on_page, NULL).fate, EC_FATE_REJECT);
    assert_int_equal(ask("../..", NULL, NULL).fate, EC_FATE_REJECT);
    assert_int_equal(ask("app", NULL, NULL).fate, EC_FATE_REJECT); /* this is no App */
    query.repo_key = "git.example/acme/shop";
    assert_int_equal(ec_githost_deliveries(fx.hosts, &query, on_page, NULL).fate, EC_FATE_REJECT);
    no_fault();
}

/* ---- the App ---- */

static void an_app_gets_one_token_for_all(void **state)
{
    (void)state;
    open_with_app(3600);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(ec_githost_git_auth(fx.hosts, SHOP, on_auth, NULL).fate, EC_FATE_OK);
    }
    wait_for(10);
    expect_fate(EC_FATE_OK);
    assert_int_equal(strncmp(fx.header, "Authorization: Basic ", 21), 0);
    struct ec_span clear;
    assert_true(ec_unbase64(fx.arena, ec_span_of(fx.header + 21), &clear));
    assert_true(ec_span_starts(clear, "x-access-token:ghs_"));
    assert_int_equal(github_double_asked(fx.github, "GET /repos/acme/shop/installation"), 1);
    assert_int_equal(github_double_asked(fx.github, "POST /app/installations/4711/access_tokens"),
                     1);
    /* The App's own deliveries go with the JWT. */
    github_double_deliver(fx.github, "", 0, &(struct github_double_delivery){.guid = GUID("1")});
    assert_int_equal(ask("app", NULL, NULL).fate, EC_FATE_OK);
    expect_fate(EC_FATE_OK);
    assert_string_equal(fx.page.list[0].guid, GUID("1"));
    assert_int_equal(fx.page.list[0].status_code, 0);
    assert_int_equal(
        ec_githost_redeliver(fx.hosts, SHOP, "app", fx.page.list[0].id, on_done, NULL).fate,
        EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_OK);
    no_fault();
}

static void a_revoked_token_is_replaced_once(void **state)
{
    (void)state;
    open_with_app(3600);
    assert_int_equal(ask("77", NULL, NULL).fate, EC_FATE_OK);
    expect_fate(EC_FATE_OK);
    github_double_revoke(fx.github);
    assert_int_equal(ask("77", NULL, NULL).fate, EC_FATE_OK);
    expect_fate(EC_FATE_OK);
    assert_int_equal(github_double_asked(fx.github, "POST /app/installations/4711/access_tokens"),
                     2);
    no_fault();
}

static void after_a_404_the_installation_is_asked_for_anew(void **state)
{
    (void)state;
    open_with_app(3600);
    assert_int_equal(ec_githost_redeliver(fx.hosts, SHOP, "77", "1", on_done, NULL).fate,
                     EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_REJECT);
    assert_int_equal(fx.err.sys, 404);
    auth_of(SHOP);
    expect_fate(EC_FATE_OK);
    assert_int_equal(github_double_asked(fx.github, "GET /repos/acme/shop/installation"), 2);
    assert_int_equal(github_double_asked(fx.github, "POST /app/installations/4711/access_tokens"),
                     1);
}

static void an_app_that_is_not_installed_says_so(void **state)
{
    (void)state;
    open_with_app(3600);
    assert_null(auth_of("github.com/other/shop"));
    expect_fate(EC_FATE_REJECT);
    assert_non_null(strstr(fx.err.what, "the GitHub App 12345 is not installed for other/shop"));
}

/* ---- limits ---- */

static void a_limit_holds_back_further_calls(void **state)
{
    (void)state;
    open_with_token();
    github_double_limit(fx.github, 1,
                        &(struct github_double_limit){.status = 403,
                                                      .retry_after = "42",
                                                      .message = "You have exceeded a secondary "
                                                                 "rate limit"});
    assert_int_equal(ask("77", NULL, NULL).fate, EC_FATE_OK);
    expect_fate(EC_FATE_RETRY);
    int64_t wait_ms = ec_githost_wait_ms(fx.hosts, SHOP);
    assert_true(wait_ms > 20000 && wait_ms <= 42000);
    assert_int_equal(ec_githost_wait_ms(fx.hosts, "gitlab.com/acme/shop"), 0);
    assert_int_equal(ask("77", NULL, NULL).fate, EC_FATE_RETRY); /* nothing goes out */
    assert_int_equal(github_double_asked(fx.github, "GET /repos/acme/shop/hooks/77/deliveries"), 1);
    no_fault();
}

/* ---- webhooks ---- */

static void on_hooks(void *arg, struct ec_err err, const struct ec_githost_hook *list, size_t count)
{
    (void)arg;
    fx.hook_count = count;
    for (size_t i = 0; i < count && i < EC_LEN(fx.hooks); i++) {
        const char **events = ec_arena_alloc(fx.arena, 65 * sizeof(*events));
        for (size_t e = 0; list[i].events[e]; e++) {
            events[e] = ec_arena_strdup(fx.arena, list[i].events[e]);
        }
        fx.hooks[i] = list[i];
        fx.hooks[i].events = events;
        fx.hooks[i].id = ec_arena_strdup(fx.arena, list[i].id);
        fx.hooks[i].url = ec_arena_strdup(fx.arena, list[i].url);
        fx.hooks[i].content_type = ec_arena_strdup(fx.arena, list[i].content_type);
    }
    ended(err);
}

static void read_hooks(void)
{
    assert_int_equal(ec_githost_hooks(fx.hosts, SHOP, on_hooks, NULL).fate, EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_OK);
}

static void on_put(void *arg, struct ec_err err, const char *hook_id)
{
    (void)arg;
    fx.hook_id = ec_arena_strdup(fx.arena, hook_id);
    ended(err);
}

static void put_hook(const char *hook_id, const char *url, const char *secret)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *kept = ec_secret_new(ec_span_of(secret));
    struct ec_githost_hook_spec spec = {SHOP, hook_id, url, kept};
    assert_int_equal(ec_githost_hook_put(fx.hosts, &spec, on_put, NULL).fate, EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_OK);
}

/* Refusals of calls that were under way together are one refusal. */
static void calls_refused_together_wait_once(void **state)
{
    (void)state;
    open_with_token();
    github_double_limit(
        fx.github, 6,
        &(struct github_double_limit){.status = 403, .message = "a secondary rate limit"});
    for (int i = 0; i < 6; i++) {
        assert_int_equal(ec_githost_hooks(fx.hosts, SHOP, on_hooks, NULL).fate, EC_FATE_OK);
    }
    wait_for(6);
    expect_fate(EC_FATE_RETRY);
    int64_t wait_ms = ec_githost_wait_ms(fx.hosts, SHOP);
    assert_true(wait_ms > 50000 && wait_ms <= 60000);
    no_fault();
}

static void a_webhook_is_made_and_repaired(void **state)
{
    (void)state;
    open_with_token();
    char url[100];
    snprintf(url, sizeof(url), "%s/nowhere", github_double_url(fx.github));
    github_double_page_size(fx.github, 2);
    for (int i = 0; i < 4; i++) { /* others' */
        json_t *other = json_pack("{s:s, s:b, s:[s], s:{s:s, s:s, s:s}}", "name", "web", "active",
                                  1, "events", "push", "config", "url", "https://ci.example/hook",
                                  "content_type", "form", "insecure_ssl", "0");
        github_double_hook(fx.github, "acme/shop", other);
    }
    read_hooks();
    assert_int_equal(fx.hook_count, 4);
    assert_null(ec_githost_hook_find(fx.hooks, fx.hook_count, url));
    put_hook(NULL, url, "0123456789abcdef");
    read_hooks();
    const struct ec_githost_hook *ours = ec_githost_hook_find(fx.hooks, fx.hook_count, url);
    assert_non_null(ours);
    assert_string_equal(ours->id, fx.hook_id);
    assert_null(ec_githost_hook_fault(fx.arena, EC_GITHOST_GITHUB, ours));
    /* Somebody switches it off there, and takes an event away. */
    json_t *there = json_array_get(github_double_hooks(fx.github, "acme/shop"), 4);
    json_object_set_new(there, "active", json_false());
    read_hooks();
    ours = ec_githost_hook_find(fx.hooks, fx.hook_count, url);
    assert_non_null(
        strstr(ec_githost_hook_fault(fx.arena, EC_GITHOST_GITHUB, ours), "switched off"));
    json_object_set_new(there, "active", json_true());
    json_object_set_new(there, "events", json_pack("[s]", "push"));
    read_hooks();
    ours = ec_githost_hook_find(fx.hooks, fx.hook_count, url);
    assert_string_equal(ec_githost_hook_fault(fx.arena, EC_GITHOST_GITHUB, ours),
                        "it does not deliver \"pull_request\"");
    put_hook(ours->id, url, "fedcba9876543210");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(there, "config"), "secret")),
        "fedcba9876543210");
    read_hooks();
    ours = ec_githost_hook_find(fx.hooks, fx.hook_count, url);
    assert_null(ec_githost_hook_fault(fx.arena, EC_GITHOST_GITHUB, ours));
    assert_int_equal(ec_githost_hook_ping(fx.hosts, SHOP, ours->id, on_done, NULL).fate,
                     EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_OK);
    no_fault();
}

static void on_repo(void *arg, struct ec_err err, const struct ec_githost_repo *repo)
{
    (void)arg;
    snprintf(fx.repo, sizeof(fx.repo), "%s %s", repo ? repo->full_name : "",
             repo ? repo->clone_url : "");
    ended(err);
}

static void a_repository_is_found_under_its_new_name(void **state)
{
    (void)state;
    char id[32];
    open_with_token();
    snprintf(id, sizeof(id), "%lld", (long long)github_double_repo_id(fx.github, "acme/shop"));
    github_double_rename(fx.github, "acme/shop", "store/front",
                         "https://github.com/store/front.git");
    assert_int_equal(ec_githost_repo(fx.hosts, SHOP, id, on_repo, NULL).fate, EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_OK);
    assert_string_equal(fx.repo, "store/front https://github.com/store/front.git");
    assert_int_equal(ec_githost_repo(fx.hosts, SHOP, "1", on_repo, NULL).fate, EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_REJECT); /* gone, or not for us to see */
    assert_int_equal(ec_githost_repo(fx.hosts, SHOP, "../user", on_repo, NULL).fate,
                     EC_FATE_REJECT);
    no_fault();
}

static void on_may(void *arg, struct ec_err err, bool may)
{
    (void)arg;
    fx.may = may;
    ended(err);
}

static void who_may_push_is_asked(void **state)
{
    (void)state;
    open_with_token();
    github_double_collaborator(fx.github, "acme/shop", "ann", "write");
    github_double_collaborator(fx.github, "acme/shop", "bob", "read");
    const struct {
        const char *user;
        bool may;
    } cases[] = {{"ann", true}, {"bob", false}, {"eve", false}};
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        assert_int_equal(ec_githost_may_push(fx.hosts, SHOP, cases[i].user, on_may, NULL).fate,
                         EC_FATE_OK);
        wait_for(1);
        expect_fate(EC_FATE_OK);
        assert_int_equal(fx.may, cases[i].may);
    }
    no_fault();
}

static void a_commits_status_is_told_by_an_app_too(void **state)
{
    (void)state;
    struct ec_githost_status status = {.sha = "0123abcd",
                                       .ref = "refs/heads/main",
                                       .state = EC_GITHOST_CANCELLED,
                                       .context = "enclii/shop/build",
                                       .description = "A newer push took its place",
                                       .target_url = ""};
    open_with_app(3600);
    assert_int_equal(ec_githost_commit_status(fx.hosts, SHOP, &status, on_done, NULL).fate,
                     EC_FATE_OK);
    wait_for(1);
    expect_fate(EC_FATE_OK);
    assert_int_equal(github_double_asked(fx.github, "POST /repos/acme/shop/statuses/0123abcd"), 1);
    status.sha = "../x";
    assert_int_equal(ec_githost_commit_status(fx.hosts, SHOP, &status, on_done, NULL).fate,
                     EC_FATE_REJECT);
    assert_true(ec_githosts_any_api(fx.hosts, EC_GITHOST_GITHUB));
    assert_false(ec_githosts_any_api(fx.hosts, EC_GITHOST_GITLAB));
    no_fault();
}

/* ---- life ---- */

static void closing_ends_what_is_under_way(void **state)
{
    (void)state;
    open_with_app(3600);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ec_githost_git_auth(fx.hosts, SHOP, on_auth, NULL).fate, EC_FATE_OK);
    }
    uv_run(ec_loop_uv(fx.loop), UV_RUN_NOWAIT);
    ec_githosts_close(EC_TAKE(fx.hosts));
    wait_for(3);
    expect_fate(EC_FATE_REJECT);
    assert_string_equal(fx.err.what, "cancelled");
}

static void too_many_at_once_are_refused(void **state)
{
    (void)state;
    open_with_token();
    int accepted = 0;
    struct ec_err err = ec_ok();
    while (!ec_failed(err = ec_githost_git_auth(fx.hosts, SHOP, on_auth, NULL))) {
        accepted++;
    }
    assert_int_equal(accepted, 256);
    assert_int_equal(err.fate, EC_FATE_RETRY);
    wait_for(256);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(git_gets_the_token_for_its_server_only),
        T(deliveries_come_page_by_page),
        T(what_the_host_refuses_says_what_to_do),
        T(an_app_gets_one_token_for_all),
        T(a_revoked_token_is_replaced_once),
        T(after_a_404_the_installation_is_asked_for_anew),
        T(an_app_that_is_not_installed_says_so),
        T(a_limit_holds_back_further_calls),
        T(calls_refused_together_wait_once),
        T(a_webhook_is_made_and_repaired),
        T(a_repository_is_found_under_its_new_name),
        T(who_may_push_is_asked),
        T(a_commits_status_is_told_by_an_app_too),
        T(closing_ends_what_is_under_way),
        T(too_many_at_once_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
