/* The builder's work folder stays below its limit, also when there is always a build. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/metric.h"
#include "support/builder_fixture.h"
#include "trust/digest.h"

#define MIB (1 << 20)

static struct builder_fixture *const fx = &test_builder;
static char slow_id[40];

static bool is_there(const char *kind, const char *name)
{
    return build_shell("test -e %s/scratch/%s/%s", fx->dir, kind, name) == 0;
}

/* A folder of 2 MiB that a repository left; hours since its last use. */
static void leave(const char *kind, const char *name, int hours)
{
    assert_int_equal(
        build_shell("cd %s/scratch/%s && mkdir %s && head -c 2097152 /dev/zero > %s/pack && "
                    "echo x > %s/enclii-url && touch -d '%d hours ago' %s/enclii-url %s",
                    fx->dir, kind, name, name, name, hours, name, name),
        0);
}

static bool slow_runs(void *arg)
{
    (void)arg;
    return strstr(fx->seen.log, "slow-begins") != NULL;
}

/* The other build goes on. */
static bool quick_ended(void *arg)
{
    (void)arg;
    return fx->seen.succeeded + fx->seen.failed > 0 && fx->builder.job_count == 1;
}

static bool evicted(void *arg)
{
    (void)arg;
    return !is_there("git", "old") && !fx->builder.measuring &&
           build_shell("! ls %s/scratch/jobs | grep -q evicted", fx->dir) == 0;
}

static bool pruned(void *arg)
{
    (void)arg;
    return build_shell("test -e %s/pruned", fx->dir) == 0;
}

static char slow_script[200];

static void begin_slow(void)
{
    build_begin();
    snprintf(slow_id, sizeof(slow_id), "%s", fx->seen.build_id);
    snprintf(slow_script, sizeof(slow_script),
             "echo slow-begins; while ! [ -e %s/go ]; do sleep 0.05; done; echo image-1 > $1",
             fx->dir);
    fx->build_script = slow_script;
    build_ask("b1", 1, 0);
    assert_true(test_run_until(fx->loop, 10000, slow_runs, NULL));
}

/* Its own folders stay, although they were used long ago and nothing fits. */
static void caches_are_cut_while_a_build_runs(void **state)
{
    (void)state;
    fx->builder.settings.slots = 2;
    fx->builder.settings.cache_max_bytes = (int64_t)4 * 5 * MIB; /* 5 MiB for each kind */
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4096);
    build_begin();
    const char *own = ec_sha256_hex(arena, ec_span_of(fx->clone_url));
    leave("mounts", own, 90);
    leave("git", "old", 50);
    leave("git", "older", 60);
    leave("git", "new", 1);
    leave("git", "newer", 0);
    leave("mounts", "old", 50);
    leave("mounts", "new", 1);
    begin_slow();
    build_begin();
    build_ask("b1", 1, 0);
    assert_true(test_run_until(fx->loop, 10000, quick_ended, NULL));
    fx->builder.measured_mono_ms = 0; /* a minute ago */
    build_begin();
    build_ask("b1", 1, 0);
    assert_true(test_run_until(fx->loop, 10000, quick_ended, NULL));
    assert_int_equal(fx->seen.succeeded, 1);
    assert_true(test_run_until(fx->loop, 10000, evicted, NULL));
    assert_false(is_there("git", "older"));
    assert_true(is_there("git", "new"));
    assert_true(is_there("git", "newer"));
    assert_true(is_there("git", own));
    assert_true(is_there("mounts", own));
    assert_false(is_there("mounts", "old"));
    assert_true(is_there("mounts", "new"));
    ec_cleanup(ec_buf_done) struct ec_buf metrics;
    ec_buf_init(&metrics, MIB);
    ec_metrics_print(&metrics);
    assert_non_null(strstr(metrics.ptr, "enclii_builder_cache_evicted_total{kind=\"git\"} 2"));
    assert_non_null(strstr(metrics.ptr, "enclii_builder_cache_evicted_total{kind=\"mounts\"} 1"));
    assert_non_null(strstr(metrics.ptr, "enclii_builder_cache_bytes{kind=\"git\"} 4"));
}

/* The slow one of the test before runs still. */
static void images_over_their_share_hold_new_builds_until_none_runs(void **state)
{
    (void)state;
    assert_int_equal(
        build_shell(
            "mkdir -p %s/scratch/storage && head -c 15728640 /dev/zero > %s/scratch/storage/layer",
            fx->dir, fx->dir),
        0);
    fx->builder.measured_mono_ms = fx->builder.images_mono_ms = -(int64_t)3600 * 1000;
    build_begin();
    build_ask("b1", 1, 0);
    assert_true(test_run_until(fx->loop, 10000, quick_ended, NULL));
    for (int i = 0; i < 200 && !fx->builder.trim_wanted; i++) {
        test_run_until(fx->loop, 50, build_failed, NULL);
    }
    assert_true(fx->builder.trim_wanted);
    build_begin();
    build_ask("b1", 1, 0);
    test_run_until(fx->loop, 1000, build_failed, NULL);
    assert_int_equal(fx->builder.job_count, 2); /* taken, and waits */
    assert_int_equal(fx->seen.steps, 0);
    assert_false(pruned(NULL));
    assert_int_equal(build_shell("touch %s/go", fx->dir), 0);
    assert_true(test_run_until(fx->loop, 10000, build_ended, NULL));
    assert_int_equal(fx->seen.succeeded, 1);
    assert_true(pruned(NULL));
    assert_false(fx->builder.trim_wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(caches_are_cut_while_a_build_runs),
        cmocka_unit_test(images_over_their_share_hold_new_builds_until_none_runs),
    };
    return cmocka_run_group_tests(tests, builder_fixture_open, builder_fixture_close);
}
