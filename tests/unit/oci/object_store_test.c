/* The folder driver: objects come back, never change, and keys cannot leave the folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/mem.h"
#include "oci/object_store.h"

static struct ec_loop *loop;
static struct ec_object_store *store;
static char dir[64];
static struct ec_err last;
static char last_bytes[64];
static int pending;

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/enclii-objects-XXXXXX");
    assert_non_null(mkdtemp(dir));
    loop = ec_loop_new();
    char url[128];
    snprintf(url, sizeof(url), "file://%s/deep/er/", dir);
    assert_int_equal(ec_object_store_open(loop, url, &store).fate, EC_FATE_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ec_object_store_close(store);
    ec_loop_run(loop);
    ec_loop_free(loop);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

static void on_done(void *arg, struct ec_err err, struct ec_span bytes)
{
    (void)arg;
    last = err;
    snprintf(last_bytes, sizeof(last_bytes), "%.*s", (int)bytes.len, bytes.ptr);
    if (--pending == 0) {
        ec_loop_stop(loop);
    }
}

static void put(const char *key, const char *text)
{
    pending = 1;
    assert_int_equal(ec_object_put(store, key, ec_span_of(text), on_done, NULL).fate, EC_FATE_OK);
    ec_loop_run(loop);
}

static void get(const char *key)
{
    pending = 1;
    assert_int_equal(ec_object_get(store, key, on_done, NULL).fate, EC_FATE_OK);
    ec_loop_run(loop);
}

static void an_object_comes_back_and_never_changes(void **state)
{
    (void)state;
    put("sbom/a/b.json", "first");
    assert_int_equal(last.fate, EC_FATE_OK);
    get("sbom/a/b.json");
    assert_string_equal(last_bytes, "first");
    put("sbom/a/b.json", "first");
    assert_int_equal(last.fate, EC_FATE_OK);
    put("sbom/a/b.json", "second");
    assert_int_equal(last.fate, EC_FATE_REJECT);
    get("sbom/a/b.json");
    assert_string_equal(last_bytes, "first");
}

static void two_writers_at_once_leave_one_object(void **state)
{
    (void)state;
    pending = 2;
    assert_int_equal(ec_object_put(store, "k", EC_SPAN("same"), on_done, NULL).fate, EC_FATE_OK);
    assert_int_equal(ec_object_put(store, "k", EC_SPAN("same"), on_done, NULL).fate, EC_FATE_OK);
    ec_loop_run(loop);
    assert_int_equal(last.fate, EC_FATE_OK);
    char command[160];
    snprintf(command, sizeof(command), "test $(ls '%s/deep/er' | wc -l) = 1", dir);
    assert_int_equal(system(command), 0); /* and no temporary file */
}

static void what_is_not_there_is_said_so(void **state)
{
    (void)state;
    get("nothing");
    assert_int_equal(last.fate, EC_FATE_REJECT);
    assert_int_equal(last.sys, -ENOENT);
}

static void keys_stay_inside(void **state)
{
    (void)state;
    const char *bad[] = {"", "/a", "a/", "../a", "a/../b", "a//b", ".a", "a b", "a\nb", "a/./b"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_int_equal(ec_object_get(store, bad[i], on_done, NULL).fate, EC_FATE_REJECT);
        assert_int_equal(ec_object_put(store, bad[i], EC_SPAN("x"), on_done, NULL).fate,
                         EC_FATE_REJECT);
    }
}

static void other_urls_are_refused(void **state)
{
    (void)state;
    const char *bad[] = {"", "s3://bucket", "file://relative", "/plain", "file:///"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        struct ec_object_store *none = NULL;
        assert_int_equal(ec_object_store_open(loop, bad[i], &none).fate, EC_FATE_FATAL);
        assert_null(none);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_object_comes_back_and_never_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(two_writers_at_once_leave_one_object, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_said_so, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_stay_inside, setup, teardown),
        cmocka_unit_test_setup_teardown(other_urls_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
