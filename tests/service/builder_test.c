/* What becomes of a build: steps, digest, failures, cancelling, limits. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "support/builder_fixture.h"

static struct builder_fixture *const fx = &test_builder;

static void commit_becomes_digest(void **state)
{
    (void)state;
    build_begin();
    build_run_to_end();
    assert_string_equal(fx->seen.detail, "");
    assert_string_equal(fx->seen.step_names, "fetch detect build push ");
    assert_string_equal(fx->seen.digest, DIGEST);
    assert_string_equal(fx->seen.sha, fx->sha);
    assert_string_equal(fx->seen.detected, "Dockerfile");
    assert_string_equal(fx->seen.engine, "fake 1.2.3");
    assert_string_equal(fx->seen.base, "debian:bookworm-slim");
    assert_string_equal(fx->seen.base_digest, DIGEST);
    assert_int_equal(fx->seen.image_bytes, 22);
    assert_true(fx->seen.heartbeats_with_it > 0);
    assert_non_null(strstr(fx->seen.log, "hello from the commit"));
    assert_int_equal(build_shell("test -z \"$(ls %s/scratch/jobs)\"", fx->dir), 0);
    build_begin(); /* again, from the warm cache */
    build_run_to_end();
    assert_int_equal(fx->seen.succeeded, 1);
}

static void missing_dockerfile_is_explained(void **state)
{
    (void)state;
    build_begin();
    char context[] = "web";
    fx->spec.context = context;
    build_run_to_end();
    assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_NOT_DETECTED);
    assert_non_null(strstr(fx->seen.detail, "package.json"));
    assert_false(fx->seen.retryable);
    build_begin();
    char leak[] = "leak"; /* a symbolic link to a file of this machine */
    fx->spec.dockerfile = leak;
    build_run_to_end();
    assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_NOT_DETECTED);
}

static void failing_build_is_explained(void **state)
{
    (void)state;
    build_begin();
    fx->build_script = "printf '\\033[31merror: no such thing\\033[0m\\n' >&2; exit 3";
    build_run_to_end();
    assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_BUILD);
    assert_non_null(strstr(fx->seen.detail, "exit code 3: error: no such thing"));
    build_begin();
    fx->build_script = "sleep 30";
    fx->spec.timeout_ms = 700;
    build_run_to_end();
    assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_TIMED_OUT);
    build_begin();
    fx->build_script = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}";
    fx->spec.memory_max_bytes = 64 << 20;
    build_run_to_end();
    if (access("/sys/fs/cgroup/memory", W_OK) == 0) {
        assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_OUT_OF_MEMORY);
        assert_non_null(strstr(fx->seen.detail, "64 MiB"));
    }
}

static void push_is_tried_again(void **state)
{
    (void)state;
    build_begin();
    fx->push_script =
        "if mkdir $2/push-1 2>/dev/null; then echo 'connection refused' >&2; exit 1; fi; "
        "printf " DIGEST " > $1";
    build_run_to_end();
    assert_int_equal(fx->seen.succeeded, 1);
    assert_non_null(strstr(fx->seen.log, "connection refused"));
    build_begin();
    fx->push_script = "echo 'unauthorized: authentication required' >&2; exit 1";
    build_run_to_end();
    assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_PUSH);
    assert_false(fx->seen.retryable);
}

static void cancel_kills_the_tree(void **state)
{
    (void)state;
    build_begin();
    fx->build_script =
        "trap '' TERM; sh -c 'trap \"\" TERM; echo pid $$; while :; do sleep 0.1; done' "
        "& wait; wait";
    build_ask("b1", 1, 0);
    assert_true(test_run_until(fx->loop, 8000, build_log_has, "pid "));
    int pid = atoi(strstr(fx->seen.log, "pid ") + 4);
    assert_int_equal(kill(pid, 0), 0);
    int64_t began_ms = ec_mono_ms();
    build_cancel();
    build_cancel(); /* idempotent */
    assert_true(test_run_until(fx->loop, 5000, build_failed, NULL));
    assert_true(ec_mono_ms() - began_ms < 10000);
    assert_int_equal(build_shell("! grep -q '^State:.[RSD]' /proc/%d/status 2>/dev/null", pid), 0);
    assert_true(test_run_until(fx->loop, 5000, build_ended, NULL));
    assert_int_equal(fx->seen.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_CANCELLED);
    assert_string_equal(fx->seen.detail, "superseded by a newer push");
}

static bool counted(void *arg)
{
    (void)arg;
    return fx->running_now == 1 && strcmp(fx->seen.last_step, "build") == 0;
}

static void commands_for_others_and_no_slot(void **state)
{
    (void)state;
    build_begin();
    build_ask("b2", 1, 0);
    build_ask("b1", 1, 60000); /* stale */
    test_run_for(fx->loop, 300);
    assert_int_equal(fx->seen.started + fx->seen.failed, 0);
    fx->build_script = "sleep 20";
    build_ask("b1", 1, 0);
    build_ask("b1", 1, 0); /* doubled */
    assert_true(test_run_until(fx->loop, 5000, counted, NULL));
    assert_int_equal(fx->seen.started, 1);
    struct build_seen first = fx->seen;
    build_begin();
    build_ask("b1", 1, 0); /* another build: the only slot is taken */
    assert_true(test_run_until(fx->loop, 5000, build_failed, NULL));
    assert_true(fx->seen.retryable);
    fx->seen = first;
    build_cancel();
    assert_true(test_run_until(fx->loop, 5000, build_ended, NULL));
    assert_int_equal(fx->seen.started, 1);
    assert_int_equal(fx->seen.failed, 1);
}

static void long_output_is_cut(void **state)
{
    (void)state;
    build_begin();
    fx->build_script =
        "yes 'a line of a build that never stops talking' | head -c 3000000; echo image-1 > $1";
    build_run_to_end();
    assert_int_equal(fx->seen.succeeded, 1);
    assert_true(fx->seen.cut);
    assert_true(fx->seen.next_seq > 20000 && fx->seen.next_seq < 25000);
}

static bool not_running(void *arg)
{
    (void)arg;
    return fx->seen.failed > 0 && fx->seen.last;
}

static void stopping_hands_back(void **state)
{
    (void)state;
    build_begin();
    fx->build_script = "sleep 20";
    build_ask("b1", 1, 0);
    assert_true(test_run_until(fx->loop, 5000, counted, NULL));
    int64_t began_ms = ec_mono_ms();
    builder_fixture_stop();
    assert_true(ec_mono_ms() - began_ms < 10000);
    assert_true(test_run_until(fx->loop, 2000, not_running, NULL));
    assert_true(fx->seen.retryable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_becomes_digest),
        cmocka_unit_test(missing_dockerfile_is_explained),
        cmocka_unit_test(failing_build_is_explained),
        cmocka_unit_test(push_is_tried_again),
        cmocka_unit_test(cancel_kills_the_tree),
        cmocka_unit_test(commands_for_others_and_no_slot),
        cmocka_unit_test(long_output_is_cut),
        cmocka_unit_test(stopping_hands_back), /* last: it ends the builder */
    };
    ec_log_setup("test", EC_LOG_WARN);
    return cmocka_run_group_tests(tests, builder_fixture_open, builder_fixture_close);
}
