/* Partitions: looked at when we start and every hour. Making waits for nobody; dropping gives up
 * after two seconds of waiting for readers and comes again with the next look. */
#include "base/arena.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "history.h"

#define TEND_MS 3600000
#define TEND_AGAIN_MS 5000

static struct ec_metric months =
    EC_GAUGE("enclii_history_months", "Monthly partitions of the event history.", NULL);

bool months_known(const struct history *hi, int month)
{
    for (size_t i = 0; i < hi->month_count; i++) {
        if (hi->months[i] == month) {
            return true;
        }
    }
    return false;
}

void months_learn(struct history *hi, int month)
{
    if (!months_known(hi, month) && hi->month_count < MONTHS_MAX) {
        hi->months[hi->month_count++] = month;
    }
    ec_metric_set(&months, NULL, (double)hi->month_count);
}

void months_forget(struct history *hi)
{
    hi->month_count = 0;
}

static void tended(struct history *hi, struct ec_err err)
{
    hi->tending = false;
    hi->busy--;
    if (hi->stopping) {
        history_rest(hi);
        return;
    }
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "history.months_not_tended", "trying again", EC_ERR(err));
        ec_timer_start(hi->tend_timer, TEND_AGAIN_MS, 0);
    } else {
        ec_timer_start(hi->tend_timer, TEND_MS, 0);
    }
    if (!ec_failed(err) && !hi->ready) {
        hi->ready = true;
        err = ingest_start(hi);
        if (ec_failed(err)) {
            hi->owner.failed(hi->owner.arg, err);
        }
    }
}

static void on_changed(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    (void)batch;
    tended(arg, err);
}

static void change(struct history *hi, const struct months_plan *plan)
{
    struct ec_batch *batch = ec_batch_new(hi->store);
    char text[MONTH_TEXT_SIZE];
    const char *args[] = {text};
    for (size_t i = 0; i < plan->make_count; i++) {
        month_text(plan->make[i], text);
        ec_batch_add(batch, "select history.make_month($1::date)", args, 1);
        months_learn(hi, plan->make[i]);
    }
    for (size_t i = 0; i < plan->drop_count; i++) {
        month_text(plan->drop[i], text);
        ec_batch_add(batch, "select history.drop_month($1::date)", args, 1);
        ec_log(EC_LOG_INFO, NULL, "history.month_dropped", "out of retention", EC_T("month", text));
    }
    struct ec_err err = ec_batch_run(batch, on_changed, hi);
    if (ec_failed(err)) {
        months_forget(hi);
        tended(hi, err);
    }
}

static void on_months(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct history *hi = arg;
    if (ec_failed(err) || hi->stopping) {
        tended(hi, err);
        return;
    }
    int there[MONTHS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < ec_rows_count(rows) && count < MONTHS_MAX; i++) {
        count += month_parse(ec_rows_text(rows, i, "first"), &there[count]);
    }
    struct months_plan plan;
    decide_months(history_now(hi), &hi->settings, there, count, &plan);
    months_forget(hi);
    for (size_t i = 0; i < count; i++) {
        bool goes = false;
        for (size_t d = 0; d < plan.drop_count; d++) {
            goes = goes || plan.drop[d] == there[i];
        }
        if (!goes) {
            months_learn(hi, there[i]);
        }
    }
    change(hi, &plan);
}

void months_tend(struct history *hi)
{
    if (hi->tending || hi->stopping) {
        return;
    }
    hi->tending = true;
    hi->busy++;
    struct ec_err err = ec_store_exec(
        hi->store, "select to_char(first, 'YYYY-MM-DD') as first from history.months order by 1",
        NULL, 0, on_months, hi);
    if (ec_failed(err)) {
        tended(hi, err);
    }
}
