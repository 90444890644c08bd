/* libs/net/loop.c: order, one call per promise, nothing starves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/loop.h"

static int calls;
static struct ec_loop *loop;

static int setup(void **state)
{
    (void)state;
    calls = 0;
    loop = ec_loop_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ec_loop_free(loop); /* asserts that nothing is open */
    return 0;
}

static void count_to_stop(void *arg)
{
    (void)arg;
    calls++;
}

static void test_deferred_calls_come_later_and_in_order(void **state)
{
    (void)state;
    ec_loop_defer(loop, count_to_stop, NULL);
    ec_loop_defer(loop, count_to_stop, NULL);
    assert_int_equal(calls, 0);
    ec_loop_run(loop);
    assert_int_equal(calls, 2);
}

static int defers_left;
static void defer_again(void *arg)
{
    calls++;
    if (--defers_left > 0) {
        ec_loop_defer(loop, defer_again, arg);
    }
}

static struct ec_timer *ticker;
static int ticks;
static void on_tick(void *arg)
{
    (void)arg;
    if (++ticks == 3) {
        ec_timer_free(ticker);
    }
}

static void test_a_call_that_defers_itself_does_not_starve_timers(void **state)
{
    (void)state;
    ticks = 0;
    defers_left = 1000000;
    ticker = ec_timer_new(loop, on_tick, NULL);
    ec_timer_start(ticker, 0, 1);
    ec_loop_defer(loop, defer_again, NULL);
    while (ticks < 3) {
        uv_run(ec_loop_uv(loop), UV_RUN_NOWAIT);
    }
    assert_true(calls < 1000000);
    defers_left = 1;
    ec_loop_run(loop);
}

static int fd;
static struct ec_poll *event_poll;
static void on_event(void *arg, int status, int events)
{
    (void)arg;
    assert_int_equal(status, 0);
    assert_true(events & UV_READABLE);
    uint64_t value;
    assert_int_equal(read(fd, &value, sizeof(value)), (int)sizeof(value));
    calls++;
    ec_poll_free(event_poll);
    close(fd);
}

static void test_poll_sees_a_foreign_descriptor(void **state)
{
    (void)state;
    fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_false(ec_failed(ec_poll_new(loop, fd, on_event, NULL, &event_poll)));
    ec_poll_want(event_poll, UV_READABLE);
    ec_loop_run(loop);
    assert_int_equal(calls, 1);
}

static int worked;
static void work(void *arg)
{
    (void)arg;
    __atomic_add_fetch(&worked, 1, __ATOMIC_SEQ_CST);
}

static void test_work_runs_all_and_reports_each_once(void **state)
{
    (void)state;
    worked = 0;
    for (int i = 0; i < 100; i++) {
        assert_false(ec_failed(ec_loop_work(loop, work, count_to_stop, NULL)));
    }
    ec_loop_run(loop);
    assert_int_equal(worked, 100);
    assert_int_equal(calls, 100);
}

static void test_work_queue_is_bounded(void **state)
{
    (void)state;
    int accepted = 0;
    while (!ec_failed(ec_loop_work(loop, work, count_to_stop, NULL)) && accepted < 2000) {
        accepted++;
    }
    assert_int_equal(accepted, EC_WORK_QUEUE_MAX + 3);
    ec_loop_run(loop);
    assert_int_equal(calls, accepted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_deferred_calls_come_later_and_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_call_that_defers_itself_does_not_starve_timers,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_poll_sees_a_foreign_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_work_runs_all_and_reports_each_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_work_queue_is_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
