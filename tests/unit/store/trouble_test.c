/* store against a real PostgreSQL that is in trouble, or a process that was: a server that takes no
 * writes, a session that is refused again and again, a loop that stood still. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/store.h"
#include "support/pg.h"

static struct test_pg *pg;
static struct ec_loop *loop;
static struct ec_store *store;
static struct ec_err last;

static void on_stop(void *arg)
{
    ec_loop_stop(arg);
}

static void run_for(uint32_t ms)
{
    struct ec_timer *timer = ec_timer_new(loop, on_stop, loop);
    ec_timer_start(timer, ms, 0);
    ec_loop_run(loop);
    ec_timer_free(timer);
}

static int setup(void **state)
{
    (void)state;
    loop = ec_loop_new();
    struct ec_store_spec spec = {.url = test_pg_url(pg), .connections = 1, .deadline_ms = 400};
    assert_int_equal(ec_store_open(loop, &spec, &store).fate, EC_FATE_OK);
    for (int i = 0; i < 1000 && !ec_store_ready(store); i++) {
        run_for(20);
    }
    assert_true(ec_store_ready(store));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ec_store_close(store, on_stop, loop);
    ec_loop_run(loop);
    ec_loop_free(loop);
    return 0;
}

static void on_rows(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    (void)arg;
    (void)rows;
    last = err;
    ec_loop_stop(loop);
}

static enum ec_fate insert(void)
{
    assert_int_equal(
        ec_store_exec(store, "insert into t (id) values (1)", NULL, 0, on_rows, NULL).fate,
        EC_FATE_OK);
    ec_loop_run(loop);
    return last.fate;
}

/* The session was made with a standby, and must not stay with it. */
static void test_a_read_only_session_is_not_kept(void **state)
{
    (void)state;
    test_pg_sql(pg, "drop table if exists t; create table t (id int);"
                    "alter role current_user set default_transaction_read_only = on");
    assert_int_equal(teardown(NULL), 0);
    assert_int_equal(setup(NULL), 0);
    assert_int_equal(insert(), EC_FATE_RETRY);
    test_pg_sql(pg, "begin read write; alter role current_user reset default_transaction_read_only;"
                    "commit");
    enum ec_fate fate = EC_FATE_RETRY;
    for (int i = 0; i < 20 && fate == EC_FATE_RETRY; i++) { /* a deadline may pass, too */
        fate = insert();
    }
    assert_int_equal(fate, EC_FATE_OK);
}

/* The server has answered; only the process did not look (it was stopped, or busy). */
static void test_an_answer_that_is_there_counts(void **state)
{
    (void)state;
    test_pg_sql(pg, "drop table if exists t; create table t (id int)");
    assert_int_equal(
        ec_store_exec(store, "insert into t (id) values (1)", NULL, 0, on_rows, NULL).fate,
        EC_FATE_OK);
    usleep(3000000); /* also a busy server has answered then */
    ec_loop_run(loop);
    assert_int_equal(last.fate, EC_FATE_OK);
    assert_true(ec_store_ready(store)); /* the same session goes on */
}

static void on_woken(void *arg)
{
    (void)arg;
}

/* A session that ends as soon as it is there: each one costs the server a process. */
static void test_a_refused_session_is_not_made_anew_all_the_time(void **state)
{
    (void)state;
    struct ec_listener *listener = NULL;
    struct ec_store_spec spec = {.url = test_pg_url(pg)};
    static const char count[] =
        "select sum(sessions)::bigint from pg_stat_database where datname = current_database()";
    long before = atol(test_pg_value(pg, count));
    /* An empty name is refused by LISTEN, as any name is by a standby. */
    assert_int_equal(ec_listener_open(loop, &spec, "", on_woken, NULL, &listener).fate, EC_FATE_OK);
    run_for(2500);
    long made = 0;
    for (int looks = 1; looks <= 100 && made < 1; looks++) {
        run_for(100); /* each is counted a little after its end; so is each of our looks */
        made = atol(test_pg_value(pg, count)) - before - looks;
    }
    ec_listener_close(listener);
    run_for(20);
    assert_in_range(made, 1, 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_read_only_session_is_not_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_that_is_there_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_refused_session_is_not_made_anew_all_the_time, setup,
                                        teardown),
    };
    pg = test_pg_start();
    if (!pg) {
        print_message("SKIP: PostgreSQL is not installed\n");
        return 0;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_pg_free(pg);
    return failed;
}
