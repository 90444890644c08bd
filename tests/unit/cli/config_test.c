/* Where the platform is, and which token it is told: none that was kept for another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/secret.h"
#include "cli.h"
#include "local.h"

const struct command commands[] = {{NULL, NULL, NULL, NULL, NULL, false}};
static struct ec_arena *arena;
static char folder[] = "/tmp/enclii-config-test.XXXXXX";

static void write_to(const char *path, const char *text)
{
    struct local files = {.arena = arena};
    char *at = ec_arena_strdup(arena, path);
    *strrchr(at, '/') = '\0';
    assert_false(ec_failed(local_make_folder(&files, at, 0700)));
    assert_false(ec_failed(local_write_file(&files, path, text, 0600)));
}

/* A platform of this machine on port 14200, and a login to prod. */
static int set_up(void **state)
{
    (void)state;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    arena = ec_arena_new(1 << 20);
    const char *at = mkdtemp(folder);
    setenv("XDG_CONFIG_HOME", at, 1);
    setenv("ENCLII_HOME", ec_arena_format(arena, "%s/home", at), 1);
    unsetenv("ENCLII_API_URL");
    unsetenv("ENCLII_API_TOKEN");
    write_to(ec_arena_format(arena, "%s/home/local.json", at),
             "{\"ENCLII_LOCAL_API_PORT\": 14200}");
    write_to(ec_arena_format(arena, "%s/home/secrets/admin_token", at), "local-token\n");
    write_to(ec_arena_format(arena, "%s/enclii/config.json", at),
             "{\"url\": \"https://prod.example\", \"token\": \"prod-token\"}");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    int code = system(ec_arena_format(arena, "rm -r '%s'", folder));
    ec_arena_freep(&arena);
    return code;
}

/* NULL = no token. */
static const char *token_at(const char *api, const char *want_url)
{
    struct cli cli = {.arena = arena};
    if (api) {
        cli.options[cli.option_count].name = "api";
        cli.options[cli.option_count++].value = api;
    }
    assert_false(ec_failed(config_load(&cli)));
    assert_string_equal(cli.api_url, want_url);
    char *token = cli.token ? ec_arena_text(arena, ec_secret_use(cli.token)) : NULL;
    ec_secret_free(cli.token);
    return token;
}

static void a_token_goes_where_it_was_kept_for(void **state)
{
    (void)state;
    assert_string_equal(token_at(NULL, "https://prod.example"), "prod-token");
    assert_string_equal(token_at("https://prod.example/", "https://prod.example"), "prod-token");
    assert_null(token_at("https://staging.example", "https://staging.example"));
    assert_null(token_at("https://prod.example.evil", "https://prod.example.evil"));
    assert_null(token_at("http://prod.example", "http://prod.example"));
    setenv("ENCLII_API_URL", "https://staging.example", 1);
    assert_null(token_at(NULL, "https://staging.example"));
    setenv("ENCLII_API_TOKEN", "said", 1);
    assert_string_equal(token_at(NULL, "https://staging.example"), "said");
}

static void the_local_one_stays_on_this_machine(void **state)
{
    (void)state;
    assert_string_equal(token_at("http://127.0.0.1:14200", "http://127.0.0.1:14200"),
                        "local-token");
    assert_string_equal(token_at("http://localhost:14200/", "http://localhost:14200"),
                        "local-token");
    write_to(ec_arena_format(arena, "%s/enclii/config.json", folder), "{\"project\": \"shop\"}");
    assert_string_equal(token_at(NULL, "http://127.0.0.1:14200"), "local-token");
    assert_null(token_at("http://127.0.0.1:14201", "http://127.0.0.1:14201"));
    assert_null(token_at("https://staging.example", "https://staging.example"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_token_goes_where_it_was_kept_for),
        TEST(the_local_one_stays_on_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
