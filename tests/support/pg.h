/* A throw-away PostgreSQL for tests: its own cluster in a new folder below /tmp, on a UNIX socket
 * there, without fsync, as user `postgres` (or `nobody`) when we are root. It dies with the test
 * program, and its folder goes with test_pg_free. Blocking: for tests only. With TEST_PG_REAL in
 * the environment it is durable and vacuums, as a server in use: for benchmarks.
 *
 *   struct test_pg *pg = test_pg_start();          // NULL: PostgreSQL is not installed, skip
 *   struct ec_store_spec spec = {.url = test_pg_url(pg)};
 *   test_pg_migrate(pg, "enclii", pipeline_migrations, pipeline_migration_count);
 *   test_pg_sql(pg, "insert into ...");
 *   test_pg_free(pg);
 */
#pragma once

#include "base/secret.h"
#include "store/store.h"

struct test_pg;

struct test_pg *test_pg_start(void);
void test_pg_free(struct test_pg *pg); /* accepts NULL */
const struct ec_secret *test_pg_url(const struct test_pg *pg);
void test_pg_down(struct test_pg *pg); /* immediate shutdown: sessions are cut */
void test_pg_up(struct test_pg *pg);   /* after test_pg_down; waits until it answers */
/* Runs a script; ends the program with the server's message when it fails. */
void test_pg_sql(struct test_pg *pg, const char *sql);
/* First column of the first row, "" if there is none; lives until the next call. */
const char *test_pg_value(struct test_pg *pg, const char *sql);
void test_pg_migrate(struct test_pg *pg, const char *schema, const struct ec_migration *migrations,
                     size_t count);
