/* What no attempt got through is asked for again, one after another, each try noted under the lease
 * before it is made. */
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "sweeper.h"

struct ec_metric redeliveries =
    EC_COUNTER("enclii_sweep_redeliveries_total",
               "Failed deliveries that a host was asked to repeat, by what came of it.", "result");

/* The try counts before it is made: a crash costs one, and never makes more than there may be. */
#define NOTE_TRY                                                                                   \
    "with held as (update sweeper.hook"                                                            \
    " set leased_until = now() + $4::bigint * interval '1 millisecond'"                            \
    " where hook_key = $1 and leased_by = $2 and lease = $3::bigint returning 1)"                  \
    " update sweeper.redelivery set tries = tries + 1, updated_at = now(),"                        \
    " next_try_at = now() + $6::bigint * interval '1 millisecond'"                                 \
    " where hook_key = $1 and guid = $5 and exists (select 1 from held) returning tries"

static void on_asked(void *arg, struct ec_err err)
{
    struct listing_job *job = arg;
    const struct undelivered *delivery = &job->verdicts.list[job->at].delivery;
    ec_metric_add(&redeliveries, ec_failed(err) ? "failed" : "asked", 1);
    ec_log(ec_failed(err) ? EC_LOG_WARN : EC_LOG_INFO, NULL, "delivery.asked_again",
           ec_failed(err) ? err.what : "no attempt got through; the host was asked for another",
           EC_T("hook", job->hook_key), EC_T("delivery", delivery->guid),
           EC_T("event", delivery->event), EC_N("status", delivery->status_code),
           EC_N("tries", delivery->tries + 1));
    job->at++;
    if (err.fate == EC_FATE_RETRY) { /* the host or its limit: the others wait too */
        listing_fail(job, err);
    } else {
        redeliver_next(job);
    }
}

static void on_try_noted(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct listing_job *job = arg;
    if (!ec_failed(err) && ec_rows_count(rows) == 0) {
        job->fenced_off = true;
        listing_settle(job, ec_ok());
        return;
    }
    if (!ec_failed(err) && job->sw->stopping) {
        err = ec_retry(0, "we are stopping");
    }
    if (!ec_failed(err)) {
        err = ec_githost_redeliver(job->sw->hosts, job->repo_key, job->hook_id,
                                   job->verdicts.list[job->at].delivery.attempt_id, on_asked, job);
    }
    if (ec_failed(err)) {
        listing_fail(job, err);
    }
}

void redeliver_next(struct listing_job *job)
{
    const struct sweeper *sw = job->sw;
    while (job->at < job->verdicts.count && !job->verdicts.list[job->at].ask) {
        job->at++;
    }
    if (job->at == job->verdicts.count) {
        listing_settle(job, ec_ok());
        return;
    }
    const struct undelivered *delivery = &job->verdicts.list[job->at].delivery;
    int64_t pause_ms = decide_again_ms(sw->settings.deliveries_interval_ms, delivery->tries + 1);
    const char *args[] = {job->hook_key,  sw->instance.text,
                          job->lease,     listing_number(job, sw->settings.lease_ms),
                          delivery->guid, listing_number(job, pause_ms)};
    struct ec_err err = ec_store_exec(sw->store, NOTE_TRY, args, EC_LEN(args), on_try_noted, job);
    if (ec_failed(err)) {
        listing_fail(job, err);
    }
}
