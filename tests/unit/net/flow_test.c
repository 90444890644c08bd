/* libs/net/flow.c: steps in order, retries, the first lasting error ends it, cancel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/flow.h"

struct job {
    struct ec_flow flow;
    char trail[64]; /* one letter per start */
    int steps_seen;
    int ends;
    struct ec_err err;
    const char *ended_at;
    int failures_left;
};

static struct ec_loop *loop;

static void trail(struct job *job, char letter)
{
    job->trail[strlen(job->trail)] = letter;
}

static void later(void *arg)
{
    struct job *job = arg;
    ec_flow_done(&job->flow, ec_ok());
}

static struct ec_err step_now(void *arg)
{
    struct job *job = arg;
    trail(job, 'n');
    ec_flow_done(&job->flow, ec_ok());
    return ec_ok();
}

static struct ec_err step_later(void *arg)
{
    struct job *job = arg;
    trail(job, 'l');
    ec_loop_defer(loop, later, job);
    return ec_ok();
}

static struct ec_err step_flaky(void *arg)
{
    struct job *job = arg;
    trail(job, 'f');
    if (job->failures_left-- > 0) {
        return ec_retry(0, "away");
    }
    ec_flow_done(&job->flow, ec_ok());
    return ec_ok();
}

static struct ec_err step_bad(void *arg)
{
    trail(arg, 'b');
    return ec_reject("bad");
}

static void on_step(void *arg, const struct ec_step *step, struct ec_err err, int64_t duration_ms)
{
    (void)step;
    (void)err;
    assert_true(duration_ms >= 0);
    ((struct job *)arg)->steps_seen++;
}

static void on_end(void *arg, struct ec_err err, const struct ec_step *step)
{
    struct job *job = arg;
    job->ends++;
    job->err = err;
    job->ended_at = step->name;
}

static void run(struct job *job, const struct ec_step *steps, size_t count)
{
    loop = ec_loop_new();
    ec_flow_start(&job->flow, loop, steps, count, job, on_step, on_end);
    assert_string_equal(job->trail, "");
    ec_loop_run(loop);
    ec_loop_free(loop);
    assert_int_equal(job->ends, 1);
}

static void test_steps_run_in_order(void **state)
{
    (void)state;
    struct job job = {0};
    const struct ec_step steps[] = {{"a", step_now, 1}, {"b", step_later, 1}, {"c", step_now, 1}};
    run(&job, steps, EC_LEN(steps));
    assert_string_equal(job.trail, "nln");
    assert_int_equal(job.steps_seen, 3);
    assert_false(ec_failed(job.err));
    assert_string_equal(job.ended_at, "c");
}

static void test_retry_errors_are_tried_again(void **state)
{
    (void)state;
    struct job job = {.failures_left = 2};
    const struct ec_step steps[] = {{"flaky", step_flaky, 3}};
    run(&job, steps, EC_LEN(steps));
    assert_string_equal(job.trail, "fff");
    assert_int_equal(job.steps_seen, 1);
    assert_false(ec_failed(job.err));
}

static void test_tries_end(void **state)
{
    (void)state;
    struct job job = {.failures_left = 9};
    const struct ec_step steps[] = {{"flaky", step_flaky, 2}, {"never", step_now, 1}};
    run(&job, steps, EC_LEN(steps));
    assert_string_equal(job.trail, "ff");
    assert_int_equal(job.err.fate, EC_FATE_RETRY);
    assert_string_equal(job.ended_at, "flaky");
}

static void test_a_lasting_error_stops_the_flow(void **state)
{
    (void)state;
    struct job job = {0};
    const struct ec_step steps[] = {
        {"a", step_now, 1}, {"bad", step_bad, 5}, {"never", step_now, 1}};
    run(&job, steps, EC_LEN(steps));
    assert_string_equal(job.trail, "nb");
    assert_int_equal(job.err.fate, EC_FATE_REJECT);
    assert_string_equal(job.ended_at, "bad");
}

static void cancel(void *arg)
{
    ec_flow_cancel(&((struct job *)arg)->flow);
}

static struct ec_err step_cancelling(void *arg)
{
    struct job *job = arg;
    trail(job, 'x');
    cancel(job);
    ec_flow_done(&job->flow, ec_ok());
    return ec_ok();
}

static void test_cancel_starts_nothing_more(void **state)
{
    (void)state;
    struct job job = {0};
    const struct ec_step steps[] = {{"x", step_cancelling, 1}, {"never", step_now, 1}};
    run(&job, steps, EC_LEN(steps));
    assert_string_equal(job.trail, "x");
    assert_int_equal(job.err.fate, EC_FATE_REJECT);
    assert_string_equal(job.err.what, "cancelled");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_run_in_order),
        cmocka_unit_test(test_retry_errors_are_tried_again),
        cmocka_unit_test(test_tries_end),
        cmocka_unit_test(test_a_lasting_error_stops_the_flow),
        cmocka_unit_test(test_cancel_starts_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
