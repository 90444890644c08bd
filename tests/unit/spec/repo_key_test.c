/* Repository keys: one key for all forms of a URL, none for what is no clone URL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "spec/spec.h"

static void all_forms_give_one_key(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 20);
    static const char *const forms[][2] = {
        {"https://github.com/acme/shop", "github.com/acme/shop"},
        {"https://github.com/acme/shop.git", "github.com/acme/shop"},
        {"HTTPS://GitHub.com:443/acme/shop.git/", "github.com/acme/shop"},
        {"https://user:p%40ss@github.com/acme/shop", "github.com/acme/shop"},
        {"git@github.com:acme/shop.git", "github.com/acme/shop"},
        {"github.com:acme/shop.git", "github.com/acme/shop"},
        {"ssh://git@github.com/acme/shop.git", "github.com/acme/shop"},
        {"ssh://git@github.com:22/acme/shop", "github.com/acme/shop"},
        {"git://github.com/acme/shop", "github.com/acme/shop"},
        {"github.com/acme/shop", "github.com/acme/shop"},
        {"https://github.com/acme/shop.git.git//", "github.com/acme/shop"},
        {"https://github.com/acme/.git", "github.com/acme/.git"},
        {"http://127.0.0.1:3000/acme/shop.git", "127.0.0.1:3000/acme/shop"},
        {"127.0.0.1:3000/acme/shop", "127.0.0.1:3000/acme/shop"},
        {"http://gitea/acme/shop", "gitea/acme/shop"},
        {"http://localhost/acme/shop", "localhost/acme/shop"},
        {"ssh://git@host.example:2222/~me/repo.git", "host.example:2222/~me/repo"},
        {"https://gitlab.com/Group/Sub/Project", "gitlab.com/Group/Sub/Project"},
        {"http://[::1]:3000/acme/shop.git", "[::1]:3000/acme/shop"},
        {"https://example.com/.git.git", "example.com/.git"},
    };
    for (size_t i = 0; i < EC_LEN(forms); i++) {
        const char *key = ec_repo_key(arena, forms[i][0]);
        assert_non_null(key);
        assert_string_equal(key, forms[i][1]);
        assert_string_equal(ec_repo_key(arena, key), key);
    }
}

static void others_have_none(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 20);
    static const char *const bad[] = {
        "",
        "shop",
        "acme/shop",
        "/srv/git/shop",
        "./shop",
        "../git/acme/shop",
        "file:///srv/git/shop.git",
        "ftp://example.com/a",
        "https://",
        "https://github.com",
        "https://github.com/",
        "https:///acme/shop",
        "https://github.com/acme//shop",
        "https://github.com/acme/../shop",
        "https://github.com/acme/./shop",
        "https://github.com/acme/shop?x=1",
        "https://github.com/acme/shop#frag",
        "https://github.com/acme/sh op",
        "https://github.com/acme/%2e%2e/x",
        "https://github.com:port/acme/shop",
        "https://github.com:/acme/shop",
        "https://git_hub!.com/acme/shop",
        "http://[::1/acme",
        "http://[]/acme",
        "-oProxyCommand=x:y",
    };
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        const char *key = ec_repo_key(arena, bad[i]);
        if (key != NULL) {
            fail_msg("%s has the key %s", bad[i], key);
        }
    }
    assert_null(ec_repo_key(arena, NULL));
    assert_null(ec_repo_key(arena, "--upload-pack=touch@host:acme/shop"));
    assert_null(ec_repo_key(arena, "https://a b@host/acme/shop"));
    assert_non_null(ec_repo_key(arena, "https://user:pass@host/acme/shop"));
    char large[5000];
    memset(large, 'a', sizeof(large));
    memcpy(large, "https://a.b/", 12);
    large[sizeof(large) - 1] = '\0';
    assert_null(ec_repo_key(arena, large));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_forms_give_one_key),
        cmocka_unit_test(others_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
