/* Pushes whose list of paths was cut by the host, and pull requests, which come without one: rows
 * of sweeper.compare are taken by whoever is free, the two commits are held against each other, and
 * the answer is told, also when it is that nobody could find out. A row older than `pipeline` waits
 * is dropped. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "sweeper.h"

#define ARENA_MAX_BYTES ((size_t)32 << 20)
#define LEASE_S "30"

static struct ec_metric compared = EC_COUNTER(
    "enclii_sweep_compares_total",
    "Pushes and pull requests whose changed paths were asked of git, by what came of it.",
    "result");

#define CLAIM                                                                                      \
    "with gone as (delete from sweeper.compare where asked_at < now() - interval '2 minutes'),"    \
    " due as (select repo_key, delivery_id from sweeper.compare where leased_until < now()"        \
    "  and asked_at >= now() - interval '2 minutes'"                                               \
    "  order by asked_at limit $1::int for update skip locked)"                                    \
    " update sweeper.compare c set leased_by = $2,"                                                \
    " leased_until = now() + interval '" LEASE_S " seconds'"                                       \
    " from due, sweeper.repo r where c.delivery_id = due.delivery_id and"                          \
    " c.repo_key = due.repo_key and r.repo_key = c.repo_key"                                       \
    " returning c.*, r.clone_url,"                                                                 \
    " (extract(epoch from now() - c.asked_at) * 1000)::bigint as age_ms"

#define DONE "delete from sweeper.compare where delivery_id = $1 and repo_key = $2"

struct compare {
    struct sweeper *sw;
    struct ec_arena *arena; /* holds this struct too */
    const char *delivery_id, *repo_key, *trace;
    struct details details;
};

static void compare_free(struct compare *compare)
{
    struct sweeper *sw = compare->sw;
    ec_arena_free(compare->arena);
    sw->comparing--;
    sw->busy--;
    compares_due(sw);
    sweeper_rest(sw);
}

static void on_deleted(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    (void)err; /* it is told again then, with the same id */
    (void)rows;
    compare_free(arg);
}

static void on_published(void *arg, struct ec_err err)
{
    struct compare *compare = arg;
    const char *args[] = {compare->delivery_id, compare->repo_key};
    if (!ec_failed(err)) {
        err = ec_store_exec(compare->sw->store, DONE, args, EC_LEN(args), on_deleted, compare);
    }
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, compare->trace, "push.not_compared", "its lease runs out, then again",
               EC_T("delivery", compare->delivery_id), EC_ERR(err));
        compare_free(compare);
    }
}

static void on_details(void *arg)
{
    struct compare *compare = arg;
    const struct details *d = &compare->details;
    Enclii__V1__PushCompared fact = ENCLII__V1__PUSH_COMPARED__INIT;
    if (compare->sw->stopping && !d->complete) {
        compare_free(compare); /* another instance, or our next life */
        return;
    }
    fact.delivery_id = ec_arena_strdup(compare->arena, compare->delivery_id);
    fact.repo_key = ec_arena_strdup(compare->arena, compare->repo_key);
    fact.complete = d->complete;
    fact.detail = ec_arena_strdup(compare->arena, d->why);
    fact.head_sha = ec_arena_strdup(compare->arena, d->base_ref ? d->after : "");
    if (d->complete) {
        fact.changed_paths = d->paths.list;
        fact.n_changed_paths = d->paths.count;
    }
    ec_metric_add(&compared, d->complete ? "complete" : "unknown", 1);
    ec_log(EC_LOG_INFO, compare->trace, "push.compared",
           d->complete ? "all that it changed is known" : d->why,
           EC_T("delivery", compare->delivery_id), EC_T("repo", compare->repo_key),
           EC_N("paths", fact.n_changed_paths));
    const char *cause =
        ec_arena_format(compare->arena, "%s %s", compare->repo_key, compare->delivery_id);
    const struct ec_message message = {.topic = EC_TOPIC_INTAKE,
                                       .key = compare->repo_key,
                                       .type = "dev.enclii.push.compared.v1",
                                       .subject = compare->delivery_id,
                                       .id = ec_id_derive(cause, "compared").text,
                                       .trace = compare->trace,
                                       .body = &fact.base};
    struct ec_err err = ec_bus_publish(compare->sw->bus, &message, on_published, compare);
    if (ec_failed(err)) {
        on_published(compare, err);
    }
}

static void begin(struct sweeper *sw, const struct ec_rows *rows, size_t row)
{
    bool pull = *ec_rows_text(rows, row, "base_ref") != '\0';
    struct ec_arena *arena = ec_arena_new(ARENA_MAX_BYTES);
    struct compare *compare = ec_arena_alloc(arena, sizeof *compare);
#define COLUMN(name) ec_arena_strdup(arena, ec_rows_text(rows, row, #name))
    *compare = (struct compare){.sw = sw,
                                .arena = arena,
                                .delivery_id = COLUMN(delivery_id),
                                .repo_key = COLUMN(repo_key),
                                .trace = COLUMN(trace)};
    compare->details = (struct details){.sw = sw,
                                        .arena = arena,
                                        .repo_key = compare->repo_key,
                                        .clone_url = COLUMN(clone_url),
                                        .before = COLUMN(before),
                                        .after = COLUMN(after),
                                        .head_ref = pull ? COLUMN(ref) : NULL,
                                        .base_ref = pull ? COLUMN(base_ref) : NULL,
                                        .end_mono_ms = ec_mono_ms() + COMPARE_DEADLINE_MS -
                                                       ec_rows_int(rows, row, "age_ms"),
                                        .done = on_details,
                                        .arg = compare};
#undef COLUMN
    sw->comparing++;
    sw->busy++;
    details_start(&compare->details);
}

static void on_claimed(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct sweeper *sw = arg;
    sw->comparing_claim = false;
    sw->busy--;
    for (size_t i = 0; !ec_failed(err) && i < ec_rows_count(rows); i++) {
        begin(sw, rows, i);
    }
    if (sw->compare_again) {
        compares_due(sw);
    }
    sweeper_rest(sw);
}

void compares_due(struct sweeper *sw)
{
    char limit[16];
    if (sw->comparing_claim || sw->comparing >= COMPARES_MAX) {
        sw->compare_again = true; /* whoever ends asks again */
        return;
    }
    snprintf(limit, sizeof limit, "%u", COMPARES_MAX - sw->comparing);
    const char *args[] = {limit, sw->instance.text};
    sw->compare_again = false;
    if (!sw->stopping &&
        !ec_failed(ec_store_exec(sw->store, CLAIM, args, EC_LEN(args), on_claimed, sw))) {
        sw->comparing_claim = true;
        sw->busy++;
    }
}
