/* What people are told to enter, and which webhook is ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "decide_hooks.h"

static void each_server_has_its_page(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    const struct {
        enum ec_githost_kind kind;
        const char *repo, *host, *path, *page;
    } cases[] = {
        {EC_GITHOST_GIT, "github.com/a/b", "github", "/v1/webhooks/github",
         "https://github.com/a/b/settings/hooks/new"},
        {EC_GITHOST_GITHUB, "ghe.example/a/b", "github", "/v1/webhooks/github",
         "https://ghe.example/a/b/settings/hooks/new"},
        {EC_GITHOST_GIT, "gitlab.com/a/b/c", "gitlab", "/v1/webhooks/gitlab",
         "https://gitlab.com/a/b/c/-/hooks"},
        {EC_GITHOST_GITEA, "tea.example:3000/a/b", "gitea", "/v1/webhooks/gitea",
         "https://tea.example:3000/a/b/settings/hooks/gitea/new"},
        {EC_GITHOST_GIT, "codeberg.org/a/b", "gitea", "/v1/webhooks/gitea",
         "https://codeberg.org/a/b/settings/hooks/gitea/new"},
        {EC_GITHOST_GIT, "bitbucket.org/a/b", "bitbucket", "/v1/webhooks/bitbucket",
         "https://bitbucket.org/a/b/admin/webhooks"},
        {EC_GITHOST_GIT, "git.example/a/b", "", "/v1/webhooks/generic", ""},
        {EC_GITHOST_GIT, "github.com.evil.example/a/b", "", "/v1/webhooks/generic", ""},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        struct hook_page page = decide_hook_page(arena, cases[i].kind, cases[i].repo);
        assert_string_equal(page.host, cases[i].host);
        assert_string_equal(page.path, cases[i].path);
        assert_string_equal(page.page, cases[i].page);
        assert_non_null(page.events[0]);
    }
}

static void ours_is_known_by_address_then_by_id(void **state)
{
    (void)state;
    const struct ec_githost_hook list[] = {{.id = "1", .url = "https://ci.example/x"},
                                           {.id = "2", .url = "https://old.example/x"},
                                           {.id = "3", .url = "https://e/x"}};
    assert_string_equal(decide_our_hook(list, 3, "https://e/x", "2")->id, "3");
    assert_string_equal(decide_our_hook(list, 3, "https://new/x", "2")->id, "2");
    assert_null(decide_our_hook(list, 3, "https://new/x", ""));
    assert_null(decide_our_hook(list, 0, "https://e/x", "3"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_server_has_its_page),
        cmocka_unit_test(ours_is_known_by_address_then_by_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
