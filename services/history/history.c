/* Starting and stopping: schema, months, then the consumer. */
#include "history.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define MIGRATE_AGAIN_MS 1000

extern const struct ec_migration history_migrations[];
extern const size_t history_migration_count;

int64_t history_now(const struct history *hi)
{
    return hi->now_unix_ms ? hi->now_unix_ms() : ec_unix_ms();
}

static void on_migrated(void *arg, struct ec_err err)
{
    struct history *hi = arg;
    hi->busy--;
    if (hi->stopping) {
        history_rest(hi);
        return;
    }
    if (err.fate == EC_FATE_RETRY) {
        ec_log(EC_LOG_WARN, NULL, "schema.not_ready", "trying again", EC_ERR(err));
        ec_timer_start(hi->tend_timer, MIGRATE_AGAIN_MS, 0);
        return;
    }
    if (ec_failed(err)) {
        hi->owner.failed(hi->owner.arg, err);
        return;
    }
    hi->migrated = true;
    months_tend(hi);
}

static void on_tend(void *arg)
{
    struct history *hi = arg;
    if (hi->migrated) {
        months_tend(hi);
        return;
    }
    hi->busy++;
    struct ec_err err = ec_store_migrate(hi->store, "history", history_migrations,
                                         history_migration_count, on_migrated, hi);
    if (ec_failed(err)) {
        hi->busy--;
        hi->owner.failed(hi->owner.arg, err);
    }
}

EC_RESULT history_start(struct history *hi)
{
    hi->tend_timer = ec_timer_new(hi->loop, on_tend, hi);
    ec_timer_start(hi->tend_timer, 0, 0);
    return ec_ok();
}

void history_rest(struct history *hi)
{
    if (hi->stopping && hi->busy == 0 && !hi->batch && hi->owner.stopped) {
        ec_call_fn stopped = EC_TAKE(hi->owner.stopped);
        ec_loop_defer(hi->loop, stopped, hi->owner.arg);
    }
}

void history_stop(struct history *hi)
{
    hi->stopping = true;
    ec_timer_free(EC_TAKE(hi->tend_timer));
    if (hi->consumer) {
        ec_consumer_pause(hi->consumer, true);
    }
    history_rest(hi);
}
