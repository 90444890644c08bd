/* Start and stop: schema first, then the channels, then (in channels.c, once all are known) the
 * events. */
#include "notifier.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define TICK_MS 1000
#define SWEEP_MS 3600000

static void on_tick(void *arg)
{
    sender_wake(arg);
}

static void on_swept(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    (void)arg;
    (void)rows;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "notifications.not_swept", "trying again in an hour",
               EC_ERR(err));
    }
}

static void on_sweep(void *arg)
{
    struct notifier *no = arg;
    static const char days[] = {'0' + KEEP_DAYS / 10, '0' + KEEP_DAYS % 10, '\0'};
    const char *args[] = {days};
    /* If the queue is full now, the next hour does it. */
    ec_ignore(ec_store_exec(no->store,
                            "delete from notifier.notification where state <> 'waiting'"
                            " and created_at < now() - $1::int * interval '1 day'",
                            args, EC_LEN(args), on_swept, no));
    ec_ignore(ec_store_exec(no->store,
                            "delete from notifier.build"
                            " where queued_at < now() - $1::int * interval '1 day'",
                            args, EC_LEN(args), on_swept, no));
}

static void on_migrated(void *arg, struct ec_err err)
{
    struct notifier *no = arg;
    if (no->stopping) {
        return;
    }
    if (!ec_failed(err)) {
        err = channels_follow(no);
    }
    if (ec_failed(err)) {
        no->owner.failed(no->owner.arg,
                         err); /* also when the database is away: we are started again */
        return;
    }
    ec_timer_start(no->tick, TICK_MS, TICK_MS);
    ec_timer_start(no->sweep, SWEEP_MS, SWEEP_MS);
}

EC_RESULT notifier_start(struct notifier *no)
{
    EC_TRY(ec_githosts_open(no->loop, no->fetcher, &no->settings.githost, &no->githosts));
    no->tick = ec_timer_new(no->loop, on_tick, no);
    no->sweep = ec_timer_new(no->loop, on_sweep, no);
    return ec_store_migrate(no->store, "notifier", notifier_migrations, notifier_migration_count,
                            on_migrated, no);
}

void notifier_rest(struct notifier *no)
{
    if (no->stopping && no->sending == 0 && !no->claiming && no->owner.stopped) {
        ec_call_fn stopped = EC_TAKE(no->owner.stopped);
        ec_loop_defer(no->loop, stopped, no->owner.arg);
    }
}

void notifier_stop(struct notifier *no)
{
    no->stopping = true;
    ec_timer_free(EC_TAKE(no->tick));
    ec_timer_free(EC_TAKE(no->sweep));
    ec_githosts_close(EC_TAKE(no->githosts)); /* calls under way end now, and go out again later */
    notifier_rest(no);
}

void notifier_done(struct notifier *no)
{
    channels_free(no);
    ec_secret_free(no->settings.githost.github_token);
    ec_secret_free(no->settings.seal_key);
}
