/* Migrations. Each is one simple-protocol script, hence one implicit transaction: take the lock,
 * record the name, apply the text. Two processes that migrate at once meet at the lock; the second
 * one's record violates the primary key, its script is rolled back and it looks again. */
#include <ctype.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/internal.h"
#include "trust/digest.h"

#define MIGRATE_DEADLINE_MS (5 * 60 * 1000)
#define MIGRATE_TEXT_MAX_BYTES (8u << 20)

struct migrate {
    struct ec_store *store;
    struct ec_arena *arena;
    const char *schema;
    const struct ec_migration *migrations;
    size_t count;
    size_t at;      /* the one being applied */
    uint32_t looks; /* times we lost the race, bounded by the number of migrations */
    ec_done_fn done;
    void *arg;
};

static struct ec_err look(struct migrate *mig);

static const char prepare_sql[] =
    "set local statement_timeout = 0; set local lock_timeout = 0;"
    "select pg_advisory_xact_lock(hashtextextended('enclii.migrate', 0));"
    "create schema if not exists %s;"
    "create table if not exists %s.schema_migrations ("
    "  name text primary key, sha256 text not null, applied_at timestamptz not null default now());"
    "create or replace function public.ec_expect(expected bigint, got bigint) returns bigint "
    "language plpgsql as $$ begin"
    "  if got <> expected then"
    "    raise exception 'expected %% row(s), got %%', expected, got using errcode = '40001';"
    "  end if; return got; end $$;";

static const char apply_sql[] =
    "set local statement_timeout = 0; set local lock_timeout = 0;"
    "select pg_advisory_xact_lock(hashtextextended('enclii.migrate', 0));"
    "insert into %s.schema_migrations (name, sha256) values ('%s', '%s');\n%s";

static void finish(struct migrate *mig, struct ec_err err)
{
    mig->done(mig->arg, err);
    ec_arena_free(mig->arena);
}

static struct ec_err run_script(struct migrate *mig, const char *sql, ec_batch_fn done)
{
    struct ec_batch *batch = ec_batch_new(mig->store);
    batch->script = true;
    batch->deadline_ms = MIGRATE_DEADLINE_MS;
    ec_batch_add(batch, sql, NULL, 0);
    return ec_batch_run(batch, done, mig);
}

static struct ec_err apply(struct migrate *mig);

static void on_applied(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct migrate *mig = arg;
    const char *name = mig->migrations[mig->at].name;
    const char *constraint = ec_rows_constraint(ec_batch_rows(batch, 0));
    if (strcmp(constraint, "schema_migrations_pkey") == 0 && mig->looks++ < mig->count) {
        err = look(mig);
    } else if (ec_failed(err)) {
        const char *what = ec_arena_format(mig->arena, "migration %s: %s", name, err.what);
        /* Data in the way of a migration does not go away by itself. */
        err = err.fate == EC_FATE_RETRY ? ec_retry(0, what) : ec_fatal(0, what);
    } else {
        ec_log(EC_LOG_INFO, NULL, "store.migrated", "migration applied", EC_T("name", name));
        mig->at++;
        err = apply(mig);
    }
    if (ec_failed(err)) {
        finish(mig, err);
    }
}

static struct ec_err apply(struct migrate *mig)
{
    if (mig->at == mig->count) {
        finish(mig, ec_ok());
        return ec_ok();
    }
    const struct ec_migration *next = &mig->migrations[mig->at];
    const char *hex = ec_sha256_hex(mig->arena, ec_span_of(next->sql));
    const char *sql =
        ec_arena_format(mig->arena, apply_sql, mig->schema, next->name, hex, next->sql);
    return run_script(mig, sql, on_applied);
}

/* How many are applied already; FATAL when one of them has another text now. */
static struct ec_err compare(struct migrate *mig, const struct ec_rows *rows)
{
    size_t known = 0;
    for (size_t i = 0; i < mig->count; i++) {
        const char *applied = "";
        for (size_t r = 0; r < ec_rows_count(rows); r++) {
            if (strcmp(ec_rows_text(rows, r, "name"), mig->migrations[i].name) == 0) {
                applied = ec_rows_text(rows, r, "sha256");
            }
        }
        const char *hex = ec_sha256_hex(mig->arena, ec_span_of(mig->migrations[i].sql));
        if (applied[0] && strcmp(applied, hex) != 0) {
            return ec_fatal(0,
                            ec_arena_format(mig->arena,
                                            "migration %s was applied with another text; write a "
                                            "new migration instead of changing it",
                                            mig->migrations[i].name));
        }
        if (applied[0] && i != known) {
            return ec_fatal(0,
                            ec_arena_format(mig->arena, "migration %s is applied but %s is not",
                                            mig->migrations[i].name, mig->migrations[known].name));
        }
        known += applied[0] ? 1 : 0;
    }
    mig->at = known;
    return ec_ok();
}

static void on_looked(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct migrate *mig = arg;
    if (!ec_failed(err)) {
        err = compare(mig, rows);
    }
    if (!ec_failed(err)) {
        err = apply(mig);
    }
    if (ec_failed(err)) {
        finish(mig, err);
    }
}

static struct ec_err look(struct migrate *mig)
{
    return ec_store_exec(
        mig->store,
        ec_arena_format(mig->arena, "select name, sha256 from %s.schema_migrations", mig->schema),
        NULL, 0, on_looked, mig);
}

static void on_prepared(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct migrate *mig = arg;
    (void)batch;
    if (!ec_failed(err)) {
        err = look(mig);
    }
    if (ec_failed(err)) {
        finish(mig, err);
    }
}

/* Names go into SQL text as they are. */
static bool is_plain(const char *name)
{
    for (const char *at = name; *at; at++) {
        if (!islower((unsigned char)*at) && !isdigit((unsigned char)*at) && *at != '_') {
            return false;
        }
    }
    return name[0] != 0;
}

EC_RESULT ec_store_migrate(struct ec_store *store, const char *schema,
                           const struct ec_migration *migrations, size_t count, ec_done_fn done,
                           void *arg)
{
    bool plain = is_plain(schema);
    for (size_t i = 0; i < count; i++) {
        plain = plain && is_plain(migrations[i].name);
    }
    if (!plain) {
        return ec_fatal(0, "migrations: names of schemas and migrations are [a-z0-9_]+");
    }
    struct ec_arena *arena = ec_arena_new(MIGRATE_TEXT_MAX_BYTES);
    struct migrate *mig = ec_arena_alloc(arena, sizeof(*mig));
    *mig = (struct migrate){.store = store,
                            .arena = arena,
                            .schema = schema,
                            .migrations = migrations,
                            .count = count,
                            .done = done,
                            .arg = arg};
    struct ec_err err =
        run_script(mig, ec_arena_format(arena, prepare_sql, schema, schema), on_prepared);
    if (ec_failed(err)) {
        ec_arena_free(arena);
    }
    return err;
}
