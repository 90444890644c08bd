/* Leadership on a real PostgreSQL: one at a time, handed over when the holder goes or is cut off.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/leader.h"
#include "support/kafka.h"
#include "support/pg.h"

struct seat {
    struct ec_leader *leader;
    int changes;
};

static void on_changed(void *arg)
{
    ((struct seat *)arg)->changes++;
}

static bool leads(void *arg)
{
    return ec_leader_is(((struct seat *)arg)->leader);
}

static bool leads_not(void *arg)
{
    return !leads(arg);
}

static void test_one_leads_and_the_other_follows(void **state)
{
    (void)state;
    struct test_pg *pg = test_pg_start();
    if (!pg) {
        skip();
    }
    struct ec_loop *loop = ec_loop_new();
    struct ec_store_spec spec = {.url = test_pg_url(pg)};
    struct seat a = {0}, b = {0};
    assert_false(ec_leader_is(NULL));
    assert_false(ec_failed(ec_leader_open(loop, &spec, "seat", on_changed, &a, &a.leader)));
    assert_true(test_run_until(loop, 5000, leads, &a));
    assert_false(ec_failed(ec_leader_open(loop, &spec, "seat", on_changed, &b, &b.leader)));
    assert_false(test_run_within(loop, 1200, leads, &b));
    assert_true(leads(&a));

    int64_t began_ms = ec_mono_ms();
    ec_leader_close(a.leader);
    assert_true(test_run_until(loop, 3000, leads, &b));
    print_message("handed over in %lld ms\n", (long long)(ec_mono_ms() - began_ms));
    assert_int_equal(a.changes, 1);

    /* Cut off: it must know before anybody else can lead, and come back by itself. */
    test_pg_down(pg);
    assert_true(test_run_until(loop, 3000, leads_not, &b));
    test_pg_up(pg);
    assert_true(test_run_until(loop, 10000, leads, &b));
    assert_int_equal(b.changes, 3);
    ec_leader_close(b.leader);
    test_run_for(loop, 100);
    ec_loop_free(loop);
    test_pg_free(pg);
}

int main(void)
{
    ec_log_setup("test", EC_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_leads_and_the_other_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
