/* Retention: rows that only tell about the past go away when they are old enough. The leader
 * deletes a bounded number at a time, one table after the other, so that no transaction is long and
 * no other statement waits for it. What people own (builds, releases, deployments) is not touched.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "pipeline.h"

#define ROUND_EVERY_MS 60000
#define STEP_GAP_MS 100 /* between two deletes: others want the database too */
#define LEADER_ASK_MS 1000
#define STEP_ROWS 5000

static struct ec_metric pruned =
    EC_COUNTER("enclii_pruned_rows_total", "Old rows deleted, by table.", "table");

/* The oldest STEP_ROWS rows of a table that are older than $1 milliseconds. */
#define OLD(table, age)                                                                            \
    "with gone as (delete from enclii." table                                                      \
    " where ctid = any(array(select ctid from enclii." table " where " age                         \
    " < now() - $1::bigint * interval '1 millisecond' limit $2::int)) "                            \
    "returning 1) select count(*) as count from gone"

static const struct {
    const char *table;
    const char *sql;
    size_t keep; /* offset of its age in struct pipeline_settings */
} rules[] = {
    {"inbox", OLD("inbox", "seen_at"), offsetof(struct pipeline_settings, keep_seen_ms)},
    {"decision", OLD("decision", "at"), offsetof(struct pipeline_settings, keep_decisions_ms)},
    {"delivery", OLD("delivery", "received_at"),
     offsetof(struct pipeline_settings, keep_deliveries_ms)},
    {"refused_delivery", OLD("refused_delivery", "received_at"),
     offsetof(struct pipeline_settings, keep_deliveries_ms)},
    {"build_log", OLD("build_log", "at"), offsetof(struct pipeline_settings, keep_logs_ms)},
    {"audit_log", OLD("audit_log", "at"), offsetof(struct pipeline_settings, keep_audit_ms)},
    /* Open ones stay, and those that tables still write at each start. */
    {"dead_letter", OLD("dead_letter", "settled_at is not null and greatest(settled_at, dead_at)"),
     offsetof(struct pipeline_settings, keep_decisions_ms)},
    {"ref", OLD("ref", "seen_at"), offsetof(struct pipeline_settings, keep_deliveries_ms)},
    {"pull_request", OLD("pull_request", "state <> 'open' and updated_at"),
     offsetof(struct pipeline_settings, keep_decisions_ms)},
    {"ci_run", OLD("ci_run", "updated_at"), offsetof(struct pipeline_settings, keep_seen_ms)},
    {"builder", OLD("builder", "heard_at"), offsetof(struct pipeline_settings, keep_seen_ms)},
};

struct prune {
    struct pipeline *pl;
    struct ec_timer *timer;
    size_t at; /* rule */
};

static void on_timer(void *arg);

static void go_on(struct prune *prune, bool more)
{
    if (!prune->timer) {
        return; /* stopped */
    }
    prune->at = more ? prune->at : prune->at + 1;
    bool round_ends = prune->at == EC_LEN(rules);
    prune->at = round_ends ? 0 : prune->at;
    ec_timer_start(prune->timer, round_ends ? ROUND_EVERY_MS : STEP_GAP_MS, 0);
}

static void on_deleted(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct prune *prune = arg;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "prune.failed", "old rows stay for now; trying again",
               EC_T("table", rules[prune->at].table), EC_ERR(err));
        go_on(prune, false);
        return;
    }
    int64_t count = ec_rows_int(rows, 0, "count");
    ec_metric_add(&pruned, rules[prune->at].table, (double)count);
    go_on(prune, count == STEP_ROWS);
}

static void on_timer(void *arg)
{
    struct prune *prune = arg;
    const char *settings = (const char *)&prune->pl->settings;
    int64_t keep_ms = *(const int64_t *)(const void *)(settings + rules[prune->at].keep);
    if (!ec_leader_is(prune->pl->leader)) {
        ec_timer_start(prune->timer, LEADER_ASK_MS, 0);
        return;
    }
    if (keep_ms == 0) {
        go_on(prune, false);
        return;
    }
    char age[24], count[16];
    snprintf(age, sizeof age, "%lld", (long long)keep_ms);
    snprintf(count, sizeof count, "%d", STEP_ROWS);
    const char *args[] = {age, count};
    struct ec_err err =
        ec_store_exec(prune->pl->store, rules[prune->at].sql, args, 2, on_deleted, prune);
    if (ec_failed(err)) {
        go_on(prune, false);
    }
}

struct prune *prune_new(struct pipeline *pl)
{
    struct prune *prune = ec_alloc(sizeof *prune);
    prune->pl = pl;
    prune->timer = ec_timer_new(pl->loop, on_timer, prune);
    for (size_t i = 0; i < EC_LEN(rules); i++) {
        ec_metric_declare(&pruned, rules[i].table);
    }
    ec_timer_start(prune->timer, LEADER_ASK_MS, 0);
    return prune;
}

void prune_stop(struct prune *prune)
{
    ec_timer_free(EC_TAKE(prune->timer));
}

void prune_free(struct prune *prune)
{
    free(prune);
}
