/* What runs here and is in no record of enclii.desired. Mostly the state was removed while this
 * machine was away for so long that Kafka forgot the removal; but a topic that was emptied by hand
 * or by a wrong retention looks the same, and would take everything down. So leftovers are held:
 * they run and serve as they are, until a record or a tombstone of their key is read, or until they
 * waited ENCLII_LEFTOVER_GRACE for one. When more is unknown than known they are never removed
 * without one. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "reconciler.h"

#define READY_EVERY_MS 500
#define GRACE_EVERY_MS 60000

static struct ec_metric leftovers = EC_GAUGE(
    "enclii_leftovers",
    "Services that run here and whose desired state is missing: they are left as they are.", NULL);

bool decide_leftover_goes(size_t known, size_t unknown, int64_t waited_ms, int64_t grace_ms)
{
    return waited_ms >= grace_ms && unknown <= known;
}

/* Of the keys that have something here. */
static size_t count_known(struct reconciler *rec, const char **keys, size_t count)
{
    size_t known = 0;
    for (size_t i = 0; i < count; i++) {
        const struct rollout *ro = ec_map_get(rec->rollouts, keys[i]);
        known += ro != NULL && !ro->leftover;
    }
    return known;
}

static void told(struct reconciler *rec)
{
    ec_metric_set(&leftovers, NULL, rec->leftovers);
}

static void hold_unknown(struct reconciler *rec, const char **keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ec_map_get(rec->rollouts, keys[i]) != NULL) {
            continue;
        }
        struct rollout *ro = rollout_find(rec, keys[i]);
        ro->held = ro->leftover = true;
        ro->leftover_mono_ms = ec_mono_ms();
        rec->leftovers++;
        ec_log(EC_LOG_WARN, NULL, "leftover.kept",
               "this service runs here and its desired state is missing: it is left as it is",
               EC_T("key", ro->key));
    }
    size_t known = count_known(rec, keys, count);
    if (rec->leftovers > known) {
        ec_log(EC_LOG_ERROR, NULL, "desired.missing",
               "most of what runs here is not in enclii.desired: was the topic emptied? Nothing is "
               "removed; deploy the services again (docs/operations/backup.md)",
               EC_N("missing", rec->leftovers), EC_N("known", known));
    }
    told(rec);
}

void leftover_let_go(struct rollout *ro)
{
    if (ro->leftover) {
        ro->leftover = false;
        ro->rec->leftovers--;
        told(ro->rec);
    }
}

static void end_grace(struct reconciler *rec, const char **keys, size_t count)
{
    size_t known = count_known(rec, keys, count), unknown = rec->leftovers;
    void *value;
    for (size_t at = 0; ec_map_next(rec->rollouts, &at, NULL, &value);) {
        struct rollout *ro = value;
        if (!ro->leftover ||
            !decide_leftover_goes(known, unknown, ec_mono_ms() - ro->leftover_mono_ms,
                                  rec->is.leftover_grace_ms)) {
            continue;
        }
        ec_log(EC_LOG_WARN, NULL, "leftover.removed", "nobody wanted it in all this time",
               EC_T("key", ro->key));
        ro->held = false;
        leftover_let_go(ro);
        rollout_look(ro);
    }
}

/* All that is wanted was told, and all that is here was seen: routes and servers of nobody may go.
 */
static void complete(struct reconciler *rec)
{
    void *value;
    rec->completed = true;
    for (size_t at = 0; ec_map_next(rec->rollouts, &at, NULL, &value);) {
        const struct rollout *ro = value;
        if (ro->held) {
            rec->ops->keep(rec->target, ro->key);
        }
    }
    rec->ops->complete(rec->target);
}

static void on_due(void *arg)
{
    struct reconciler *rec = arg;
    if (rec->ops->unready(rec->target) != NULL) {
        ec_timer_start(rec->clean_timer, READY_EVERY_MS, 0);
        return;
    }
    const char **keys = ec_alloc(KEYS_MAX * sizeof *keys);
    size_t count = rec->ops->keys(rec->target, keys, KEYS_MAX);
    if (!rec->completed) {
        hold_unknown(rec, keys, count);
        complete(rec);
    } else {
        end_grace(rec, keys, count);
    }
    free(keys);
    int64_t every_ms =
        rec->is.leftover_grace_ms < GRACE_EVERY_MS ? rec->is.leftover_grace_ms : GRACE_EVERY_MS;
    if (rec->leftovers > 0) {
        ec_timer_start(rec->clean_timer, (uint64_t)every_ms, 0);
    }
}

void leftovers_open(struct reconciler *rec)
{
    rec->clean_timer = ec_timer_new(ec_service_loop(rec->svc), on_due, rec);
}

void leftovers_look(struct reconciler *rec)
{
    ec_timer_start(rec->clean_timer, 1, 0);
}
