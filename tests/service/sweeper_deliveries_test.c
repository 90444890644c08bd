/* What GitHub did not get through is asked for again, and nothing else: over the double of its API.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "support/github_double.h"
#include "support/sweeper_fixture.h"

#define LIST "GET /repos/acme/shop/hooks/%s/deliveries"

static struct github_double *github;
static char hook[32];

static int64_t attempt(const char *guid, const char *event, int status, int64_t age_s)
{
    return github_double_deliver(
        github, "acme/shop", strtoll(hook, NULL, 10),
        &(struct github_double_delivery){.guid = guid,
                                         .event = event,
                                         .status_code = status,
                                         .delivered_unix_ms = ec_unix_ms() - age_s * 1000});
}

static void assert_asked(const char *guid, unsigned times)
{
    if (github_double_redelivered(github, guid) != times) {
        fail_msg("%s was asked for %u times, not %u", guid, github_double_redelivered(github, guid),
                 times);
    }
}

static bool asked(void *guid)
{
    return github_double_redelivered(github, guid) > 0;
}

static void what_did_not_get_through_is_asked_for(void **state)
{
    (void)state;
    attempt("too-old", "push", 502, 4 * 24 * 3600);
    attempt("taken", "push", 202, 3000);
    attempt("failed", "push", 500, 2000);
    attempt("twice", "pull_request", 0, 1900);
    attempt("by-hand", "push", 500, 1800);
    attempt("by-hand", "push", 200, 1000);
    attempt("unknown", "push", 404, 900);
    attempt("twice", "pull_request", 503, 800);
    attempt("busy", "push", 429, 700);
    attempt("young", "push", 502, 1);
    github_double_page_size(github, 3);
    one.sw.settings.deliveries_interval_ms = 60000; /* one look */
    bind_repo(true);
    assert_true(test_run_until(loop, 10000, asked, (void *)(uintptr_t) "busy"));
    wait_for("select count(*) from sweeper.hook where hook_id <> 'app' and seen_at > '-infinity' "
             "and leased_by = ''",
             "1");
    assert_asked("failed", 1);
    assert_asked("twice", 1);
    assert_asked("busy", 1);
    assert_asked("too-old", 0);
    assert_asked("taken", 0);
    assert_asked("by-hand", 0);
    assert_asked("unknown", 0);
    assert_asked("young", 0);
    assert_string_equal(
        test_pg_value(pg, "select string_agg(guid || ' ' || state || ' ' || tries, ', ' order by "
                          "guid) from sweeper.redelivery"),
        "busy open 1, failed open 1, twice open 1, young open 0");
    assert_null(github_double_fault(github));
}

static void look_again(void)
{
    test_pg_sql(pg, "update sweeper.hook set next_at = now(), seen_at = seen_at,"
                    " last_error = 'look again'");
    wait_for("select count(*) from sweeper.hook where last_error = '' and leased_by = ''", "2");
}

/* The same list again (the host says so by its ETag): nothing is due yet. */
static void an_unchanged_list_is_not_read_again(void **state)
{
    (void)state;
    unsigned before = github_double_asked(github, text_of(LIST, hook));
    look_again();
    assert_int_equal(github_double_asked(github, text_of(LIST, hook)), before + 1);
    assert_asked("failed", 1);
    assert_asked("young", 0);
    assert_null(github_double_fault(github));
}

static bool counted(void *arg)
{
    (void)arg;
    return ec_metric_value(&pushes_recovered, "deliveries") == 1;
}

/* It got through, and its push was news. */
static void a_push_that_came_by_it_is_recovered(void **state)
{
    (void)state;
    tell("failed", "refs/heads/main", ZEROS, head(), true);
    wait_for("select state from sweeper.redelivery where guid = 'failed'", "taken");
    assert_int_equal((int)ec_metric_value(&pushes_recovered, "deliveries"),
                     0); /* known by a look */
    tell("busy", "refs/heads/new", ZEROS, head(), true);
    wait_for("select state from sweeper.redelivery where guid = 'busy'", "taken");
    assert_true(test_run_until(loop, 5000, counted, NULL));
    tell("busy", "refs/heads/new", ZEROS, head(), true);
    tell("nobody-asked", "refs/heads/other", ZEROS, head(), true);
    wait_for("select count(*) from sweeper.ref where ref = 'refs/heads/other'", "1");
    run_for(200);
    assert_int_equal((int)ec_metric_value(&pushes_recovered, "deliveries"), 1);
    attempt("twice", "pull_request", 202, 0); /* what came of ours */
    look_again();
    assert_string_equal(test_pg_value(pg, "select state from sweeper.redelivery where guid = "
                                          "'twice'"),
                        "taken");
}

/* While the host's limit is used up nothing is asked for; then it goes on. */
static void limits_of_the_host_are_kept(void **state)
{
    (void)state;
    attempt("limited", "push", 502, 600);
    github_double_limit(github, 1,
                        &(struct github_double_limit){.status = 403, .retry_after = "2"});
    test_pg_sql(pg, "update sweeper.hook set next_at = now()");
    wait_for("select sum(failures) from sweeper.hook", "1");
    assert_asked("limited", 0);
    one.sw.settings.deliveries_interval_ms = 200;
    test_pg_sql(pg, "update sweeper.hook set next_at = now() + interval '2 seconds'");
    assert_true(test_run_until(loop, 10000, asked, (void *)(uintptr_t) "limited"));
    wait_for("select sum(failures) from sweeper.hook", "0");
    assert_null(github_double_fault(github));
}

/* Five times with growing pauses, then never again. */
static void it_is_given_up_after_five_tries(void **state)
{
    (void)state;
    wait_for("select state from sweeper.redelivery where guid = 'limited'", "given_up");
    assert_asked("limited", DELIVERY_TRIES_MAX);
    run_for(1500);
    assert_asked("limited", DELIVERY_TRIES_MAX);
    assert_null(github_double_fault(github));
}

static void what_is_no_longer_bound_is_not_asked(void **state)
{
    (void)state;
    assert_string_equal(test_pg_value(pg, "select string_agg(hook_id, ' ' order by hook_id) from "
                                          "sweeper.hook where failures = 0"),
                        text_of("%s app", hook)); /* it is called by a token, not as an App */
    bind_repo(false);
    wait_for("select (select count(*) from sweeper.hook) + (select count(*) from"
             " sweeper.redelivery)",
             "0");
}

/* One list for all repositories of the server, asked for as the App. */
static void an_apps_own_deliveries(void **state)
{
    (void)state;
    down(&one);
    ec_secret_free(EC_TAKE(test_githost.github_token));
    test_githost.github_app_id = "4711";
    test_githost.github_app_key_file = github_double_app(github, "4711", "acme", 3600);
    test_hook_id = "";
    github_double_deliver(
        github, "acme/shop", 0,
        &(struct github_double_delivery){.guid = "app-1",
                                         .event = "pull_request",
                                         .status_code = 502,
                                         .delivered_unix_ms = ec_unix_ms() - 60000});
    up(&one, "one");
    bind_repo(true);
    assert_true(test_run_until(loop, 10000, asked, (void *)(uintptr_t) "app-1"));
    wait_for("select string_agg(hook_key, ' ') from sweeper.hook", "github.com#app");
    assert_null(github_double_fault(github));
}

static int close_all(void **state)
{
    github_double_close(github);
    return fixture_close(state);
}

static bool open_all(void)
{
    test_repo = "github.com/acme/shop";
    test_githost.github_token = ec_secret_new(EC_SPAN("ghp_test"));
    loop = ec_loop_new();
    github = github_double_open(loop);
    github_double_token(github, "ghp_test");
    github_double_repo(github, "acme/shop");
    int64_t id = github_double_hook(github, "acme/shop",
                                    json_pack("{s:s, s:b, s:[s], s:{s:s}}", "name", "web", "active",
                                              1, "events", "push", "config", "url",
                                              "https://hooks.example.org/v1/webhooks/github"));
    snprintf(hook, sizeof hook, "%lld", (long long)id);
    test_hook_id = hook;
    test_githost.github_api_url = github_double_url(github);
    return fixture_open();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_did_not_get_through_is_asked_for),
        cmocka_unit_test(an_unchanged_list_is_not_read_again),
        cmocka_unit_test(a_push_that_came_by_it_is_recovered),
        cmocka_unit_test(limits_of_the_host_are_kept),
        cmocka_unit_test(it_is_given_up_after_five_tries),
        cmocka_unit_test(what_is_no_longer_bound_is_not_asked),
        cmocka_unit_test(an_apps_own_deliveries),
    };
    return open_all() ? cmocka_run_group_tests(tests, NULL, close_all) : 0;
}
