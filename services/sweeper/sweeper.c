/* Starting and stopping: schema, then the topics, then the looks. */
#include "sweeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"

#define MIGRATE_AGAIN_MS 1000
#define TICK_MAX_MS 500
#define MINUTE_MS 30000
#define TICKS_EACH 4

static struct ec_metric blind = EC_GAUGE(
    "enclii_sweep_repos_blind", "Repositories whose host has not answered for ten minutes.", NULL);
static struct ec_metric repos =
    EC_GAUGE("enclii_sweep_repos", "Repositories that are looked at.", NULL);

static void on_numbers(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct sweeper *sw = arg;
    sw->busy--;
    if (!ec_failed(err)) {
        const struct ec_rows *rows = ec_batch_rows(batch, 0);
        ec_metric_set(&repos, NULL, (double)ec_rows_int(rows, 0, "repos"));
        ec_metric_set(&blind, NULL, (double)ec_rows_int(rows, 0, "blind"));
    }
    sweeper_rest(sw);
}

/* Refs that went long ago are forgotten here too: by then no host sends their push any more. */
static void on_minute(void *arg)
{
    struct sweeper *sw = arg;
    struct ec_batch *batch = ec_batch_new(sw->store);
    ec_batch_add(batch,
                 "select count(*) as repos, count(*) filter (where coalesce(looked_at, bound_at)"
                 " < now() - interval '" BLIND_AFTER_S " seconds') as blind from sweeper.repo",
                 NULL, 0);
    ec_batch_add(batch,
                 "delete from sweeper.ref where sha ~ '^0*$' and odd_sha is null"
                 " and seen_at < now() - interval '30 days'",
                 NULL, 0);
    ec_batch_add(batch,
                 "delete from sweeper.redelivery where updated_at < now() - interval '7 days'",
                 NULL, 0);
    if (!ec_failed(ec_batch_run(batch, on_numbers, sw))) {
        sw->busy++;
    }
}

static void on_tick(void *arg)
{
    struct sweeper *sw = arg;
    ledger_mark(sw);
    looks_due(sw);
    if (sw->ticks++ % TICKS_EACH == 0) { /* what the ledger has just been told is begun by it */
        compares_due(sw);
        deliveries_due(sw);
    }
}

static void begin(struct sweeper *sw)
{
    int64_t tick_ms = sw->settings.grace_ms / 4;
    tick_ms = tick_ms > TICK_MAX_MS ? TICK_MAX_MS : tick_ms < 20 ? 20 : tick_ms;
    sw->migrated = true;
    struct ec_err err = ledger_start(sw);
    if (ec_failed(err)) {
        sw->owner.failed(sw->owner.arg, err);
        return;
    }
    ec_timer_free(sw->tick);
    sw->tick = ec_timer_new(sw->loop, on_tick, sw);
    sw->minute = ec_timer_new(sw->loop, on_minute, sw);
    ec_timer_start(sw->tick, 0, (uint64_t)tick_ms);
    ec_timer_start(sw->minute, 1000, MINUTE_MS);
}

static void on_migrated(void *arg, struct ec_err err)
{
    struct sweeper *sw = arg;
    sw->busy--;
    if (sw->stopping) {
        sweeper_rest(sw);
    } else if (err.fate == EC_FATE_RETRY) {
        ec_log(EC_LOG_WARN, NULL, "schema.not_ready", "trying again", EC_ERR(err));
        ec_timer_start(sw->tick, MIGRATE_AGAIN_MS, 0);
    } else if (ec_failed(err)) {
        sw->owner.failed(sw->owner.arg, err);
    } else {
        begin(sw);
    }
}

static void migrate(void *arg)
{
    struct sweeper *sw = arg;
    sw->busy++;
    struct ec_err err = ec_store_migrate(sw->store, "sweeper", sweeper_migrations,
                                         sweeper_migration_count, on_migrated, sw);
    if (ec_failed(err)) {
        sw->busy--;
        sw->owner.failed(sw->owner.arg, err);
    }
}

/* One instance per work folder: what stands in it is of a life before. */
static EC_RESULT make_folders(const struct sweeper *sw)
{
    static const char *const names[] = {"", "/home", "/scratch"};
    char path[PATH_MAX_BYTES];
    snprintf(path, sizeof path, "%s/scratch", sw->settings.work_dir);
    ec_file_remove_tree(path);
    for (size_t i = 0; i < EC_LEN(names); i++) {
        snprintf(path, sizeof path, "%s%s", sw->settings.work_dir, names[i]);
        mkdir(path, 0750);
    }
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode)
               ? ec_ok()
               : ec_fatal(0, "ENCLII_WORK_DIR: the folder cannot be made or written");
}

EC_RESULT sweeper_start(struct sweeper *sw)
{
    if (sw->settings.grace_ms * 2 > sw->settings.interval_ms) {
        return ec_fatal(0, "ENCLII_SWEEP_GRACE: two of it must fit into ENCLII_SWEEP_INTERVAL");
    }
    EC_TRY(make_folders(sw));
    sw->instance = ec_id_new();
    ec_metric_declare(&pushes_recovered, "refs");
    ec_metric_declare(&pushes_recovered, "deliveries");
    ec_metric_declare(&pushes_lost, NULL);
    sw->tick = ec_timer_new(sw->loop, migrate, sw);
    ec_timer_start(sw->tick, 0, 0);
    return ec_ok();
}

const char *sweeper_unready(const struct sweeper *sw)
{
    return sw->migrated ? NULL : "the schema is not in place yet";
}

void sweeper_rest(struct sweeper *sw)
{
    if (sw->stopping && sw->busy == 0 && !sw->batch && sw->owner.stopped) {
        ec_call_fn stopped = EC_TAKE(sw->owner.stopped);
        ec_loop_defer(sw->loop, stopped, sw->owner.arg);
    }
}

void sweeper_stop(struct sweeper *sw)
{
    sw->stopping = true;
    ec_timer_free(EC_TAKE(sw->tick));
    ec_timer_free(EC_TAKE(sw->minute));
    if (sw->consumer) {
        ec_consumer_pause(sw->consumer, true);
    }
    git_run_cancel_all(sw);
    ec_githosts_close(EC_TAKE(sw->hosts)); /* calls under way end now */
    sweeper_rest(sw);
}

void sweeper_done(struct sweeper *sw)
{
    free(sw->parts);
    sw->parts = NULL;
}
