/* libs/store against a real PostgreSQL: transactions, conflicts, loss of the server, deadlines,
 * bounds, notifications, migrations. One cluster for the whole program, one store per test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/columns.h"
#include "store/store.h"
#include "support/pg.h"

static struct test_pg *pg;

struct fixture {
    struct ec_loop *loop;
    struct ec_store *store;
    struct ec_timer *guard; /* a test that hangs fails by itself */
    int answers, wanted;
    struct ec_err err;
    char what[256];
    char constraint[64];
    char text[64];
    int64_t count;
    int woken;
};

static void on_guard(void *arg)
{
    (void)arg;
    fail_msg("the test took longer than 40 s");
}

static void fixture_open(struct fixture *fx, uint32_t connections, uint32_t waiting_max,
                         uint32_t deadline_ms)
{
    *fx = (struct fixture){.loop = ec_loop_new(), .wanted = 1};
    struct ec_store_spec spec = {test_pg_url(pg), "store_test", connections, waiting_max,
                                 deadline_ms};
    assert_int_equal(ec_store_open(fx->loop, &spec, &fx->store).fate, EC_FATE_OK);
    fx->guard = ec_timer_new(fx->loop, on_guard, fx);
    ec_timer_start(fx->guard, 40000, 0);
}

static void on_closed(void *arg)
{
    struct fixture *fx = arg;
    ec_loop_stop(fx->loop);
}

static void fixture_close(struct fixture *fx)
{
    ec_timer_free(fx->guard);
    ec_store_close(fx->store, on_closed, fx);
    ec_loop_run(fx->loop);
    ec_loop_free(fx->loop);
}

static void note(struct fixture *fx, struct ec_err err, const struct ec_rows *rows)
{
    fx->err = err;
    snprintf(fx->what, sizeof(fx->what), "%s", err.what ? err.what : "");
    snprintf(fx->constraint, sizeof(fx->constraint), "%s", ec_rows_constraint(rows));
    fx->count = (int64_t)ec_rows_count(rows);
    if (fx->count && !ec_failed(err)) {
        snprintf(fx->text, sizeof(fx->text), "%s", ec_rows_text(rows, 0, "a"));
    }
    if (++fx->answers == fx->wanted) {
        ec_loop_stop(fx->loop);
    }
}

static void on_rows(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    note(arg, err, rows);
}

static void on_batch(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    note(arg, err, ec_batch_rows(batch, 0));
}

/* Runs one statement and waits for its answer. */
static void ask(struct fixture *fx, const char *sql, const char *arg)
{
    fx->answers = 0;
    const char *args[] = {arg};
    assert_int_equal(ec_store_exec(fx->store, sql, args, arg ? 1 : 0, on_rows, fx).fate,
                     EC_FATE_OK);
    assert_int_equal(fx->answers, 0); /* never before returning */
    ec_loop_run(fx->loop);
}

static void run(struct fixture *fx, struct ec_batch *batch)
{
    fx->answers = 0;
    assert_int_equal(ec_batch_run(batch, on_batch, fx).fate, EC_FATE_OK);
    assert_int_equal(fx->answers, 0);
    ec_loop_run(fx->loop);
}

static void reset_table(void)
{
    test_pg_sql(pg,
                "drop table if exists t; create table t (id int constraint t_id_taken primary key,"
                " v text, version int not null default 1)");
}

static void test_values(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    ask(&fx, "select $1::text as a", "caf\xc3\xa9 'quoted'");
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(fx.text, "caf\xc3\xa9 'quoted'");
    assert_true(ec_store_ready(fx.store));
    ask(&fx, "select 1 as a where false", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_int_equal(fx.count, 0);
    fixture_close(&fx);
}

static void on_bytes(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct fixture *fx = arg;
    struct ec_arena *arena = ec_arena_new(1 << 20);
    struct ec_span bytes = ec_rows_bytes(rows, 0, "a", arena);
    assert_int_equal(bytes.len, 4);
    assert_memory_equal(bytes.ptr, "\x00\xff\x10z", 4);
    assert_true(ec_rows_null(rows, 0, "nothing"));
    assert_int_equal(ec_rows_int(rows, 0, "n"), -42);
    assert_true(ec_rows_bool(rows, 0, "yes"));
    ec_arena_free(arena);
    note(fx, err, NULL);
}

static void test_bytes_and_types(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    struct ec_arena *arena = ec_arena_new(1 << 20);
    const char *args[] = {ec_bytea_arg(arena, (struct ec_span){"\x00\xff\x10z", 4}), NULL};
    const char *sql = "select $1::bytea as a, $2::text as nothing, -42::bigint as n, true as yes";
    assert_int_equal(ec_store_exec(fx.store, sql, args, 2, on_bytes, &fx).fate, EC_FATE_OK);
    ec_loop_run(fx.loop);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    ec_arena_free(arena);
    fixture_close(&fx);
}

static void test_batch_commits_whole(void **state)
{
    (void)state;
    reset_table();
    struct fixture fx;
    fixture_open(&fx, 2, 0, 0);
    struct ec_batch *batch = ec_batch_new(fx.store);
    const char *one[] = {"1", "a"}, *two[] = {"2", NULL};
    ec_batch_add(batch, "insert into t (id, v) values ($1, $2)", one, 2);
    ec_batch_add(batch, "insert into t (id, v) values ($1, $2)", two, 2);
    run(&fx, batch);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(test_pg_value(pg, "select count(*) from t"), "2");
    assert_string_equal(test_pg_value(pg, "select v is null from t where id = 2"), "t");
    fixture_close(&fx);
}

/* A failing statement in the middle: nothing stays, the constraint is named, the session goes on.
 */
static void test_batch_rolls_back_whole(void **state)
{
    (void)state;
    reset_table();
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    struct ec_batch *batch = ec_batch_new(fx.store);
    const char *one[] = {"1"};
    ec_batch_add(batch, "insert into t (id) values ($1)", one, 1);
    ec_batch_add(batch, "insert into t (id, v) values ($1, 'again')", one, 1);
    ec_batch_add(batch, "select 'never reached' as a", NULL, 0);
    run(&fx, batch);
    assert_int_equal(fx.err.fate, EC_FATE_REJECT);
    assert_string_equal(fx.constraint, "t_id_taken");
    assert_string_equal(test_pg_value(pg, "select count(*) from t"), "0");
    /* The statements after the failure were never prepared: they must work now. */
    ask(&fx, "select 'never reached' as a", NULL);
    assert_string_equal(fx.text, "never reached");
    ask(&fx, "insert into t (id, v) values ($1, 'again')", "7");
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    fixture_close(&fx);
}

static void test_empty_batch_succeeds(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    run(&fx, ec_batch_new(fx.store));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    fixture_close(&fx);
}

static void test_expect_conflict_is_retry(void **state)
{
    (void)state;
    reset_table();
    test_pg_migrate(pg, "expecting", NULL, 0);
    test_pg_sql(pg, "insert into t values (1, 'a', 5)");
    const char *sql = "with u as (update t set version = version + 1 where id = 1 and version = $1 "
                      "returning 1) select ec_expect(1, count(*)) as a from u";
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    const char *stale[] = {"4"}, *current[] = {"5"};
    struct ec_batch *batch = ec_batch_new(fx.store);
    ec_batch_add(batch, "insert into t (id) values (99)", NULL, 0);
    ec_batch_add(batch, sql, stale, 1);
    run(&fx, batch);
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    assert_non_null(strstr(fx.what, "expected 1 row(s), got 0"));
    assert_string_equal(test_pg_value(pg, "select count(*) from t"), "1");
    batch = ec_batch_new(fx.store);
    ec_batch_add(batch, sql, current, 1);
    run(&fx, batch);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(test_pg_value(pg, "select version from t where id = 1"), "6");
    fixture_close(&fx);
}

static void test_fates(void **state)
{
    (void)state;
    reset_table();
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    ask(&fx, "select $1::int as a", "twelve");
    assert_int_equal(fx.err.fate, EC_FATE_REJECT);
    ask(&fx, "drop table if exists named", NULL);
    ask(&fx, "create table named (name text primary key)", NULL);
    ask(&fx, /* too long for an index: the text is at fault, not the statement */
        "insert into named select string_agg(gen_random_uuid()::text, '') "
        "from generate_series(1, 200)",
        NULL);
    assert_int_equal(fx.err.fate, EC_FATE_REJECT);
    ask(&fx, "selec 1", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_FATAL);
    ask(&fx, "select nowhere from t", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_FATAL);
    ask(&fx, "select 'still here' as a", NULL);
    assert_string_equal(fx.text, "still here");
    fixture_close(&fx);
}

/* A table changed under a prepared statement: one RETRY, then a new session answers. */
static void test_stale_plan_is_retry(void **state)
{
    (void)state;
    reset_table();
    test_pg_sql(pg, "insert into t values (1, 'x')");
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    ask(&fx, "select v as a, * from t", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    test_pg_sql(pg, "alter table t add column more int");
    ask(&fx, "select v as a, * from t", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    ask(&fx, "select v as a, * from t", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    fixture_close(&fx);
}

static void on_restart(void *arg)
{
    (void)arg;
    test_pg_down(pg);
    test_pg_up(pg);
}

static void test_restart_is_retry_then_works(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_open(&fx, 2, 0, 0);
    ask(&fx, "select 1 as a", NULL);
    struct ec_timer *timer = ec_timer_new(fx.loop, on_restart, &fx);
    ec_timer_start(timer, 100, 0);
    ask(&fx, "select pg_sleep(5), 2 as a", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    ask(&fx, "select 3 as a", NULL); /* waits until a session is back */
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(fx.text, "3");
    ec_timer_free(timer);
    fixture_close(&fx);
}

static void test_deadline_ends_and_cancels(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_open(&fx, 1, 0, 300);
    int64_t began = ec_mono_ms();
    ask(&fx, "select pg_sleep(30), 1 as a", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    assert_in_range(ec_mono_ms() - began, 250, 1500);
    ask(&fx, "select 1 as a", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(test_pg_value(pg, "select count(*) from pg_stat_activity where query like "
                                          "'select pg_sleep(30)%' and state = 'active'"),
                        "0");
    fixture_close(&fx);
}

static void test_database_away_ends_at_deadline(void **state)
{
    (void)state;
    test_pg_down(pg);
    struct fixture fx;
    fixture_open(&fx, 1, 0, 300);
    ask(&fx, "select 1 as a", NULL);
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    assert_false(ec_store_ready(fx.store));
    fixture_close(&fx);
    test_pg_up(pg);
}

static void test_waiting_is_bounded(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_open(&fx, 1, 3, 0);
    fx.wanted = 3;
    for (int i = 0; i < 3; i++) { /* nothing is connected yet: all three wait */
        assert_int_equal(ec_store_exec(fx.store, "select 1 as a", NULL, 0, on_rows, &fx).fate,
                         EC_FATE_OK);
    }
    assert_int_equal(ec_store_exec(fx.store, "select 1 as a", NULL, 0, on_rows, &fx).fate,
                     EC_FATE_RETRY);
    ec_loop_run(fx.loop);
    assert_int_equal(fx.answers, 3);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    fixture_close(&fx);
}

/* Closing with work under way: every callback still comes, once. */
static void test_close_ends_everything(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    ask(&fx, "select 1 as a", NULL);
    fx.answers = 0;
    fx.wanted = 100;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ec_store_exec(fx.store, "select pg_sleep(1)", NULL, 0, on_rows, &fx).fate,
                         EC_FATE_OK);
    }
    fixture_close(&fx);
    assert_int_equal(fx.answers, 5);
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
}

static void on_woken(void *arg)
{
    struct fixture *fx = arg;
    fx->woken++;
    if (fx->woken == 1) { /* the connection itself; now a real one */
        test_pg_sql(pg, "notify enclii_outbox");
    } else {
        ec_loop_stop(fx->loop);
    }
}

static void test_notify_wakes(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    struct ec_store_spec spec = {.url = test_pg_url(pg)};
    struct ec_listener *listener = NULL;
    assert_int_equal(
        ec_listener_open(fx.loop, &spec, "enclii_outbox", on_woken, &fx, &listener).fate,
        EC_FATE_OK);
    ec_loop_run(fx.loop);
    assert_int_equal(fx.woken, 2);
    test_pg_down(pg);
    test_pg_up(pg);
    ec_loop_run(fx.loop); /* the reconnection wakes by itself */
    assert_int_equal(fx.woken, 3);
    ec_listener_close(listener);
    fixture_close(&fx);
}

static void on_migrated(void *arg, struct ec_err err)
{
    note(arg, err, NULL);
}

static void migrate(struct fixture *fx, const struct ec_migration *migrations, size_t count)
{
    fx->answers = 0;
    assert_int_equal(ec_store_migrate(fx->store, "mig", migrations, count, on_migrated, fx).fate,
                     EC_FATE_OK);
    ec_loop_run(fx->loop);
}

static void test_migrations(void **state)
{
    (void)state;
    struct ec_migration list[] = {
        {"001_start", "create table mig.a (id int); insert into mig.a values (1);"},
        {"002_more", "alter table mig.a add column v text; -- ends with a comment"},
    };
    struct fixture fx;
    fixture_open(&fx, 2, 0, 0);
    migrate(&fx, list, 1);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    migrate(&fx, list, 2);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    migrate(&fx, list, 2); /* nothing to do */
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(test_pg_value(pg, "select count(*) from mig.schema_migrations"), "2");
    assert_string_equal(test_pg_value(pg, "select count(*) from mig.a"), "1");
    list[0].sql = "create table mig.b (id int);";
    migrate(&fx, list, 2);
    assert_int_equal(fx.err.fate, EC_FATE_FATAL);
    assert_non_null(strstr(fx.what, "001_start"));
    fixture_close(&fx);
}

static void test_broken_migration_leaves_nothing(void **state)
{
    (void)state;
    static const struct ec_migration list[] = {
        {"001_broken", "create table mig.half (id int); select nonsense;"},
    };
    test_pg_sql(pg, "drop schema if exists mig cascade");
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    migrate(&fx, list, 1);
    assert_int_equal(fx.err.fate, EC_FATE_FATAL);
    assert_string_equal(test_pg_value(pg, "select to_regclass('mig.half') is null"), "t");
    ask(&fx, "select 'usable' as a", NULL);
    assert_string_equal(fx.text, "usable");
    fixture_close(&fx);
}

/* Two processes migrating at the same moment: both succeed, each migration is applied once. */
static void test_migrations_race(void **state)
{
    (void)state;
    static const struct ec_migration list[] = {
        {"001_start", "create table mig.a (id int); select pg_sleep(0.1);"},
        {"002_next", "create table mig.b (id int);"},
    };
    test_pg_sql(pg, "drop schema if exists mig cascade");
    struct fixture fx;
    fixture_open(&fx, 2, 0, 0);
    fx.wanted = 2;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ec_store_migrate(fx.store, "mig", list, 2, on_migrated, &fx).fate,
                         EC_FATE_OK);
    }
    ec_loop_run(fx.loop);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_string_equal(test_pg_value(pg, "select count(*) from mig.schema_migrations"), "2");
    fixture_close(&fx);
}

static void test_ten_thousand_inserts(void **state)
{
    (void)state;
    reset_table();
    struct fixture fx;
    fixture_open(&fx, 1, 0, 0);
    ask(&fx, "select 1 as a", NULL);
    int64_t began = ec_mono_us();
    struct ec_batch *batch = ec_batch_new(fx.store);
    for (int i = 0; i < 10000; i++) {
        char id[16];
        snprintf(id, sizeof(id), "%d", i);
        const char *args[] = {id, "sixteen bytes ok"};
        ec_batch_add(batch, "insert into t (id, v) values ($1, $2)", args, 2);
    }
    run(&fx, batch);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    int64_t us = ec_mono_us() - began;
    print_message("10000 inserts in one batch: %lld ms, %.1f us each\n", (long long)(us / 1000),
                  (double)us / 10000);
    assert_string_equal(test_pg_value(pg, "select count(*) from t"), "10000");
    fixture_close(&fx);
}

/* Each column is within its limit, together they are not: to be refused, not to be died of. */
static void test_too_much_for_one_batch_is_refused(void **state)
{
    (void)state;
    enum { TEXT_BYTES = 24 << 20 };
    char *text = ec_alloc(TEXT_BYTES + 1);
    memset(text, 'x', TEXT_BYTES);
    struct ec_batch *batch = ec_batch_new(NULL);
    bool fits = true;
    for (int i = 0; i < 2; i++) {
        assert_true(fits);
        ec_cleanup(ec_columns_done) struct ec_columns cols;
        ec_columns_init(&cols, 2);
        ec_columns_text(&cols, text);
        ec_columns_text(&cols, i == 0 ? "" : text);
        fits = ec_columns_flush(&cols, batch, "select $1::text[], $2::text[]", false);
    }
    assert_false(fits);
    assert_int_equal(ec_batch_count(batch), 1);
    ec_batch_free(batch);
    free(text);
}

static void test_bad_url_is_fatal_and_silent(void **state)
{
    (void)state;
    struct ec_loop *loop = ec_loop_new();
    struct ec_secret *url = ec_secret_new(EC_SPAN("postgres//user:hunter2@host/db"));
    struct ec_store_spec spec = {.url = url};
    struct ec_store *store = NULL;
    struct ec_err err = ec_store_open(loop, &spec, &store);
    assert_int_equal(err.fate, EC_FATE_FATAL);
    assert_null(strstr(err.what, "hunter2"));
    ec_secret_free(url);
    ec_loop_free(loop);
}

static int stop_server(void **state)
{
    (void)state;
    test_pg_free(pg);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_bytes_and_types),
        cmocka_unit_test(test_batch_commits_whole),
        cmocka_unit_test(test_batch_rolls_back_whole),
        cmocka_unit_test(test_empty_batch_succeeds),
        cmocka_unit_test(test_expect_conflict_is_retry),
        cmocka_unit_test(test_fates),
        cmocka_unit_test(test_stale_plan_is_retry),
        cmocka_unit_test(test_restart_is_retry_then_works),
        cmocka_unit_test(test_deadline_ends_and_cancels),
        cmocka_unit_test(test_database_away_ends_at_deadline),
        cmocka_unit_test(test_waiting_is_bounded),
        cmocka_unit_test(test_close_ends_everything),
        cmocka_unit_test(test_notify_wakes),
        cmocka_unit_test(test_migrations),
        cmocka_unit_test(test_broken_migration_leaves_nothing),
        cmocka_unit_test(test_migrations_race),
        cmocka_unit_test(test_ten_thousand_inserts),
        cmocka_unit_test(test_too_much_for_one_batch_is_refused),
        cmocka_unit_test(test_bad_url_is_fatal_and_silent),
    };
    pg = test_pg_start();
    if (!pg) {
        print_message("SKIP: PostgreSQL is not installed\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, stop_server);
}
