/* Repositories that are renamed while nobody tells it: what was pushed around that is found under
 * the new name, and what stands under the old one is nobody's. Git by HTTP from a real server, the
 * API from the double of GitHub. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>
#include <cmocka.h>

#include "base/arena.h"
#include "support/github_double.h"
#include "support/sweeper_host.h"

#define TOKEN "ghp_4711"

static struct github_double *github;
static char repo_id[32];

static const char *key_of(const char *name)
{
    return text_of("%s/acme/%s", test_git_server_host(host), name);
}

static const char *url_of(const char *name)
{
    return text_of("http://%s/acme/%s.git", test_git_server_host(host), name);
}

static void bind_as(const char *name, const char *renamed_from)
{
    test_repo = key_of(name);
    test_url = url_of(name);
    test_repo_id = repo_id;
    test_renamed_from = renamed_from;
    bind_repo(true);
    test_renamed_from = "";
}

static void unbind(const char *name)
{
    test_repo = key_of(name);
    bind_repo(false);
}

/* A repository on the server, followed, with `work` pushing to it. */
static void make(const char *name)
{
    github_double_repo(github, text_of("acme/%s", name));
    github_double_rename(github, text_of("acme/%s", name), text_of("acme/%s", name), url_of(name));
    snprintf(repo_id, sizeof repo_id, "%lld",
             (long long)github_double_repo_id(github, text_of("acme/%s", name)));
    sh("git clone -q --bare shop.git %1$s/acme/%2$s.git;"
       "git -C %1$s/acme/%2$s.git config uploadpack.allowFilter true;"
       "cd work; git remote set-url origin %1$s/acme/%2$s.git; git push -qf origin HEAD:main",
       test_git_server_root(host), name);
    bind_as(name, "");
    wait_for(text_of("select count(*) from sweeper.repo where baselined and repo_key = '%s'",
                     key_of(name)),
             "1");
}

/* On the server and in the API; the double's old name is free. */
static void rename_it(const char *from, const char *to)
{
    sh("cd %1$s/acme; mv %2$s.git %3$s.git; cd %4$s/work;"
       "git remote set-url origin %1$s/acme/%3$s.git",
       test_git_server_root(host), from, to, folder);
    github_double_rename(github, text_of("acme/%s", from), text_of("acme/%s", to), url_of(to));
}

static bool moves_reached(void *arg)
{
    return moved_count >= *(const int *)arg;
}

static void expect_move(int already, const char *from, const char *to)
{
    int want = already + 1;
    assert_true(test_run_until(loop, 15000, moves_reached, &want));
    assert_string_equal(moved_from, key_of(from));
    assert_string_equal(moved_to, key_of(to));
    assert_string_equal(moved_url, url_of(to));
}

/* As pipeline does when it was told: the new binding, then the old one's tombstone. */
static void follow(const char *from, const char *to)
{
    bind_as(to, key_of(from));
    unbind(from);
}

static const struct seen *found(int already)
{
    int want = already + 1;
    assert_true(test_run_until(loop, 15000, pushes_reached, &want));
    return &pushes[already];
}

static void no_fault(void)
{
    if (github_double_fault(github)) {
        fail_msg("GitHub would not have taken: %s", github_double_fault(github));
    }
}

static void a_push_around_a_rename_is_found(void **state)
{
    (void)state;
    int had = push_count, moves = moved_count;
    make("one");
    const char *before = head();
    commit("src/one.c", "before the rename");
    sh("cd work; git push -q origin HEAD:main");
    rename_it("one", "uno"); /* the old address answers 404 */
    commit("src/uno.c", "after the rename");
    sh("cd work; git push -q origin HEAD:main");
    expect_move(moves, "one", "uno");
    nothing_more(had);
    assert_string_equal(test_pg_value(pg,
                                      "select last_error like 'the repository is now %acme/uno; %'"
                                      " from sweeper.repo"),
                        "t");
    follow("one", "uno");
    const struct seen *seen = found(had);
    assert_string_equal(seen->key, key_of("uno"));
    assert_string_equal(seen->before, before); /* the refs went with it: no new baseline */
    assert_string_equal(seen->after, head());
    assert_string_equal(seen->paths, "src/one.c src/uno.c");
    nothing_more(had + 1);
    wait_for("select string_agg(repo_key || failures, ' ') from sweeper.repo",
             text_of("%s0", key_of("uno")));
    unbind("uno");
    wait_for("select count(*) from sweeper.ref", "0");
    no_fault();
}

static void an_address_that_leads_elsewhere_is_asked_about(void **state)
{
    (void)state;
    int had = push_count, moves = moved_count;
    make("two");
    sh("cd %1$s/acme; mv two.git due.git; cd %2$s/work;"
       "git remote set-url origin %1$s/acme/due.git",
       test_git_server_root(host), folder);
    test_git_server_redirect(host, "/acme/two.git", "/acme/due.git"); /* git follows that */
    wait_for("select asked_at > now() - interval '1 minute' and failures = 0 from sweeper.repo",
             "t");
    assert_int_equal(moved_count, moves); /* the API says that it is where it was */
    github_double_rename(github, "acme/two", "acme/due", url_of("due"));
    unsigned asks = github_double_asked(github, text_of("GET /repositories/%s", repo_id));
    run_for(3 * INTERVAL_MS);
    assert_int_equal(github_double_asked(github, text_of("GET /repositories/%s", repo_id)), asks);
    test_pg_value(pg, "update sweeper.repo set asked_at = '-infinity' returning 1");
    expect_move(moves, "two", "due"); /* though nothing was pushed */
    follow("two", "due");
    commit("src/due.c", "under the new name");
    sh("cd work; git push -q origin HEAD:main");
    const struct seen *seen = found(had);
    assert_string_equal(seen->key, key_of("due"));
    nothing_more(had + 1);
    unbind("due");
    wait_for("select count(*) from sweeper.repo", "0");
    no_fault();
}

/* Somebody takes the name that is free now: his commits are not ours to deploy. */
static void what_stands_under_the_old_name_is_not_ours(void **state)
{
    (void)state;
    int had = push_count, moves = moved_count;
    make("three");
    const char *before = head();
    /* Not even while the host's limit lets nobody ask whose it is. */
    github_double_limit(
        github, 1,
        &(struct github_double_limit){.status = 429, .retry_after = "3", .message = "rate limit"});
    rename_it("three", "tre");
    sh("cd %1$s/acme; git clone -q --bare tre.git three.git; rm -rf foreign;"
       "git clone -q three.git foreign; cd foreign; echo x > evil.c; git add -A;"
       "git commit -qm foreign; git push -q origin HEAD:main; cd ..; rm -rf foreign",
       test_git_server_root(host));
    expect_move(moves, "three", "tre");
    nothing_more(had);
    follow("three", "tre");
    commit("src/tre.c", "ours");
    sh("cd work; git push -q origin HEAD:main");
    const struct seen *seen = found(had);
    assert_string_equal(seen->before, before);
    assert_string_equal(seen->paths, "src/tre.c");
    nothing_more(had + 1);
    no_fault();
}

/* Nobody follows: it is told again, under one id and ever less often. */
static void a_move_is_told_under_one_id(void **state)
{
    (void)state;
    int moves = moved_count;
    char id[64];
    make("four");
    rename_it("four", "quattro");
    expect_move(moves, "four", "quattro");
    snprintf(id, sizeof id, "%s", moved_id);
    expect_move(moves + 1, "four", "quattro");
    assert_string_equal(moved_id, id);
    wait_for("select failures >= 2 from sweeper.repo where repo_key like '%four'", "t");
    unbind("four");
}

/* Bound by a name that was given up long ago: every delivery comes by the new one, so that none
 * ever tells the id. */
static void an_old_name_leads_to_the_new_one(void **state)
{
    (void)state;
    int moves = moved_count;
    sh("git clone -q --bare shop.git %s/acme/cinque.git", test_git_server_root(host));
    test_git_server_redirect(host, "/acme/five.git", "/acme/cinque.git");
    repo_id[0] = '\0';
    bind_as("five", "");
    expect_move(moves, "five", "cinque");
    unbind("five");
    wait_for("select count(*) from sweeper.repo where repo_key like '%five'", "0");
}

static void where_git_was_sent(void **state)
{
    (void)state;
    static const struct {
        const char *words, *to;
    } cases[] = {
        {"warning: redirecting to https://h/acme/store/\n", "https://h/acme/store"},
        {"warning: x\nwarning: redirecting to https://h/a/b.git\nmore", "https://h/a/b.git"},
        {"warning: redirecting to ", "-"},
        {"warning: redirecting to ///\n", "-"},
        {"fatal: not found", "-"},
        {"", "-"},
    };
    struct ec_arena *arena = ec_arena_new(1 << 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *to = decide_redirect(arena, cases[i].words);
        assert_string_equal(to ? to : "-", cases[i].to);
    }
    ec_arena_free(arena);
}

static void only_on_the_same_server(void **state)
{
    (void)state;
    static const struct {
        const char *url, *to;
    } cases[] = {
        {"https://github.com/acme/store.git", "github.com/acme/store"},
        {"https://github.com/acme/shop.git", NULL},
        {"https://github.com.evil.example/acme/store.git", NULL},
        {"https://evil.example/acme/store.git", NULL},
        {"file:///etc/passwd", NULL},
        {"--upload-pack=x", NULL},
        {"", NULL},
    };
    struct ec_arena *arena = ec_arena_new(1 << 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *to = decide_moved(arena, "github.com/acme/shop", cases[i].url);
        assert_string_equal(to ? to : "-", cases[i].to ? cases[i].to : "-");
    }
    ec_arena_free(arena);
}

static int close_all(void **state)
{
    github_double_close(github);
    return host_close(state);
}

/* Before the service starts, on its loop. */
static void open_github(void)
{
    github = github_double_open(loop);
    github_double_token(github, TOKEN);
    host_known(text_of("\"kind\": \"github\", \"api\": \"%s\"", github_double_url(github)));
}

static bool open_all(void)
{
    if (!host_open("x-access-token", TOKEN)) {
        return false;
    }
    loop = ec_loop_new();
    open_github();
    return fixture_open();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_name_leads_to_the_new_one),
        cmocka_unit_test(where_git_was_sent),
        cmocka_unit_test(only_on_the_same_server),
        cmocka_unit_test(a_push_around_a_rename_is_found),
        cmocka_unit_test(an_address_that_leads_elsewhere_is_asked_about),
        cmocka_unit_test(what_stands_under_the_old_name_is_not_ours),
        cmocka_unit_test(a_move_is_told_under_one_id),
    };
    return open_all() ? cmocka_run_group_tests(tests, NULL, close_all) : 0;
}
