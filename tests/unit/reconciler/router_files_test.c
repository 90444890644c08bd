/* Backends and routes: who has what, what survives a restart, what may not be taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "router_files.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/ec-files-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    char path[128];
    static const char *const names[] = {"backends.map", "hosts.map"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static void read_file(const char *name, char *ret_text, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(ret_text, 1, size - 1, file);
    ret_text[len] = '\0';
    fclose(file);
}

static char shop[] = "shop.test/", api[] = "shop.test/api/", blog[] = "blog.test/";

static void test_assignment_survives(void **state)
{
    (void)state;
    struct router_files files;
    router_files_init(&files, dir);
    assert_null(router_files_backend(&files, "a:1")); /* no pool is known yet */
    router_files_pool(&files, "be_000");
    router_files_pool(&files, "be_none");
    router_files_pool(&files, "be_001");
    router_files_pool(&files, "be_000");
    char *const first[] = {shop, api};
    char *const second[] = {blog};
    assert_false(ec_failed(router_files_set(&files, "a:1", first, 2)));
    assert_false(ec_failed(router_files_set(&files, "b:1", second, 1)));
    assert_string_equal(router_files_backend(&files, "a:1"), "be_000");
    assert_string_equal(router_files_key(&files, "be_001"), "b:1");
    assert_null(router_files_backend(&files, "c:1")); /* the pool is used up */
    router_files_save(&files);
    router_files_done(&files);

    char text[1024];
    read_file("hosts.map", text, sizeof text);
    assert_non_null(strstr(text, "shop.test/api/ be_000\n"));
    assert_non_null(strstr(text, "blog.test/ be_001\n"));
    router_files_init(&files, dir);
    assert_string_equal(router_files_backend(&files, "b:1"), "be_001");
    router_files_prune(&files); /* a:1 was not asked for */
    assert_null(router_files_key(&files, "be_000"));
    assert_string_equal(router_files_backend(&files, "c:1"), "be_000");
    router_files_done(&files);
}

static void test_routes_have_one_owner(void **state)
{
    (void)state;
    struct router_files files;
    router_files_init(&files, dir);
    router_files_pool(&files, "be_000");
    router_files_pool(&files, "be_001");
    char *const one[] = {shop, shop};
    char *const both[] = {blog, shop};
    assert_false(ec_failed(router_files_set(&files, "a:1", one, 2)));
    assert_int_equal(router_files_set(&files, "b:1", both, 2).fate, EC_FATE_REJECT);
    assert_null(router_files_route(&files, "blog.test/")); /* nothing of a refused list */
    assert_false(ec_failed(router_files_set(&files, "a:1", NULL, 0)));
    assert_false(ec_failed(router_files_set(&files, "b:1", both, 2)));
    assert_string_equal(router_files_route(&files, "shop.test/"), "b:1");
    router_files_forget(&files, "b:1");
    assert_null(router_files_route(&files, "shop.test/"));
    router_files_save(&files);
    router_files_done(&files);
}

static void test_damaged_file(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/backends.map", dir);
    FILE *file = fopen(path, "w");
    fputs("alone\n\na:1 be_000\nb:1 be_000\na:1 be_002\nc:1 other\n", file);
    fclose(file);
    struct router_files files;
    router_files_init(&files, dir);
    assert_string_equal(router_files_key(&files, "be_000"), "a:1");
    assert_null(router_files_backend(&files, "b:1"));
    assert_null(router_files_key(&files, "other"));
    router_files_save(&files);
    router_files_done(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_assignment_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_routes_have_one_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
