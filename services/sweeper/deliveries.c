/* One look at what a host says it delivered: page after page, newest first, back to where the last
 * look ended; then what no attempt got through is noted and asked for again (redeliver.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "store/columns.h"
#include "sweeper.h"

#define ARENA_MAX_BYTES ((size_t)32 << 20)
#define ATTEMPTS_MAX ((size_t)DELIVERY_PAGES_MAX * 100)
#define OVERLAP_MS 600000 /* the list's order is the host's clock's */

static struct ec_metric listings =
    EC_COUNTER("enclii_sweep_delivery_lists_total",
               "Looks at a webhook's deliveries, by how they ended.", "result");

/* The App's own deliveries are asked for in the name of any repository of the server. */
#define CLAIM                                                                                      \
    "with due as (select hook_key from sweeper.hook where next_at <= now()"                        \
    " and leased_until < now() order by next_at limit $1::int for update skip locked)"             \
    " update sweeper.hook h set leased_by = $2, lease = lease + 1,"                                \
    " leased_until = now() + $3::bigint * interval '1 millisecond',"                               \
    " repo_key = case when hook_id <> 'app' then repo_key else coalesce((select min(r.repo_key)"   \
    "  from sweeper.repo r where split_part(r.repo_key, '/', 1) = split_part(h.hook_key, '#', 1)"  \
    "  ), repo_key) end"                                                                           \
    " from due where h.hook_key = due.hook_key returning h.*,"                                     \
    " case when seen_at > '-infinity' then (extract(epoch from seen_at) * 1000)::bigint"           \
    "  else 0 end as seen_ms"

#define KNOWN                                                                                      \
    "select guid, attempt_id, event, status_code, tries, state, next_try_at <= now() as due,"      \
    " (extract(epoch from delivered_at) * 1000)::bigint as at_ms from sweeper.redelivery"          \
    " where hook_key = $1 order by delivered_at desc limit 5000"

#define NOTE_VERDICTS                                                                              \
    "insert into sweeper.redelivery as r (hook_key, guid, attempt_id, event, status_code,"         \
    " delivered_at, state) select c1, c2, c3, c4, c5, to_timestamp(c6 / 1000.0), c7"               \
    " from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[],"        \
    "  $7::text[]) as c(c1, c2, c3, c4, c5, c6, c7) order by c2"                                   \
    " on conflict (hook_key, guid) do update set attempt_id = excluded.attempt_id,"                \
    " status_code = excluded.status_code, delivered_at = excluded.delivered_at,"                   \
    " state = case when r.state = 'taken' then r.state else excluded.state end,"                   \
    " updated_at = now()"

#define SETTLE                                                                                     \
    "with u as (update sweeper.hook set leased_by = '', leased_until = '-infinity',"               \
    " next_at = now() + $4::bigint * interval '1 millisecond', failures = $5::int,"                \
    " last_error = $6, etag = case when $5::int > 0 then etag else $7 end,"                        \
    " seen_at = case when $8::bigint > 0 then to_timestamp($8::bigint / 1000.0) else seen_at end"  \
    " where hook_key = $1 and leased_by = $2 and lease = $3::bigint returning 1)"                  \
    " select ec_expect(1, count(*)) from u"

const char *listing_number(const struct listing_job *job, int64_t value)
{
    return ec_arena_format(job->arena, "%lld", (long long)value);
}

/* ---- the end ---- */

static void job_free(struct listing_job *job)
{
    struct sweeper *sw = job->sw;
    ec_arena_free(job->arena);
    sw->listing--;
    sw->busy--;
    sweeper_rest(sw);
}

static void on_settled(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct listing_job *job = arg;
    (void)rows;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "deliveries.not_settled", "its lease runs out, then again",
               EC_T("hook", job->hook_key), EC_ERR(err));
    }
    job_free(job);
}

/* The host says when it may be asked again; else failures back off as those of looks do. */
static int64_t wait_of(const struct listing_job *job, bool failed)
{
    const struct sweeper *sw = job->sw;
    int64_t interval_ms = sw->settings.deliveries_interval_ms;
    int64_t host_ms = sw->hosts ? ec_githost_wait_ms(sw->hosts, job->repo_key) : 0;
    int64_t wait_ms =
        failed ? decide_back_off_ms(interval_ms, job->failures + 1)
               : interval_ms - (int64_t)arc4random_uniform((uint32_t)(interval_ms / 10 + 1));
    return host_ms > wait_ms ? host_ms : wait_ms;
}

void listing_settle(struct listing_job *job, struct ec_err err)
{
    bool failed = ec_failed(err);
    ec_metric_add(&listings, job->fenced_off ? "taken_over" : failed ? "failed" : "ok", 1);
    if (job->fenced_off) {
        job_free(job);
        return;
    }
    if (failed) {
        ec_log(job->failures == 0 ? EC_LOG_WARN : EC_LOG_INFO, NULL, "deliveries.not_listed",
               err.what, EC_T("hook", job->hook_key), EC_N("failures", job->failures + 1));
    }
    const char *args[] = {job->hook_key,
                          job->sw->instance.text,
                          job->lease,
                          listing_number(job, wait_of(job, failed)),
                          listing_number(job, failed ? job->failures + 1 : 0),
                          failed ? err.what : "",
                          job->whole ? job->new_etag : "",
                          listing_number(job, job->whole && !failed ? job->seen_ms : 0)};
    struct ec_err run = ec_store_exec(job->sw->store, SETTLE, args, EC_LEN(args), on_settled, job);
    if (ec_failed(run)) {
        on_settled(job, run, NULL);
    }
}

void listing_fail(struct listing_job *job, struct ec_err err)
{
    err.what = ec_arena_strdup(job->arena, err.what); /* borrowed until we return */
    listing_settle(job, err);
}

/* ---- what it means ---- */

static void on_verdicts_noted(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct listing_job *job = arg;
    (void)batch;
    if (ec_failed(err)) {
        listing_fail(job, err);
        return;
    }
    job->at = 0;
    redeliver_next(job);
}

/* What got through at once, and what is as it was, needs no row. */
static void note_verdicts(struct listing_job *job)
{
    struct ec_batch *batch = ec_batch_new(job->sw->store);
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 7);
    for (size_t i = 0; i < job->verdicts.count; i++) {
        const struct verdict *verdict = &job->verdicts.list[i];
        const struct undelivered *delivery = &verdict->delivery;
        bool open = delivery->fate == DELIVERY_OPEN;
        if (!open && (!verdict->changed || !verdict->known)) {
            continue;
        }
        if (delivery->fate == DELIVERY_GIVEN_UP) {
            ec_metric_add(&redeliveries, "given_up", 1);
            ec_log(EC_LOG_ERROR, NULL, "delivery.given_up",
                   "no attempt got through; look at the webhook's page at the host",
                   EC_T("hook", job->hook_key), EC_T("delivery", delivery->guid),
                   EC_T("event", delivery->event), EC_N("status", delivery->status_code));
        }
        ec_columns_text(&cols, job->hook_key);
        ec_columns_text(&cols, delivery->guid);
        ec_columns_text(&cols, delivery->attempt_id);
        ec_columns_text(&cols, delivery->event);
        ec_columns_int(&cols, delivery->status_code);
        ec_columns_int(&cols, delivery->at_ms);
        ec_columns_text(&cols, decide_fate_name(delivery->fate));
    }
    ec_columns_flush(&cols, batch, NOTE_VERDICTS, false);
    struct ec_err err = ec_batch_run(batch, on_verdicts_noted, job);
    if (ec_failed(err)) {
        listing_fail(job, err);
    }
}

static void on_known(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct listing_job *job = arg;
    if (ec_failed(err)) {
        listing_fail(job, err);
        return;
    }
    size_t count = ec_rows_count(rows);
    struct undelivered *open = ec_arena_alloc(job->arena, count * sizeof *open + 1);
    for (size_t i = 0; i < count; i++) {
        open[i] = (struct undelivered){
            .guid = ec_arena_strdup(job->arena, ec_rows_text(rows, i, "guid")),
            .attempt_id = ec_arena_strdup(job->arena, ec_rows_text(rows, i, "attempt_id")),
            .event = ec_arena_strdup(job->arena, ec_rows_text(rows, i, "event")),
            .status_code = (int)ec_rows_int(rows, i, "status_code"),
            .at_ms = ec_rows_int(rows, i, "at_ms"),
            .tries = (int)ec_rows_int(rows, i, "tries"),
            .due = ec_rows_bool(rows, i, "due"),
            .fate = decide_fate_of(ec_rows_text(rows, i, "state")),
        };
    }
    decide_deliveries(job->arena, job->attempts, job->count, open, count, ec_unix_ms(),
                      &job->verdicts);
    note_verdicts(job);
}

static void load_known(struct listing_job *job)
{
    const char *args[] = {job->hook_key};
    struct ec_err err = ec_store_exec(job->sw->store, KNOWN, args, EC_LEN(args), on_known, job);
    if (ec_failed(err)) {
        listing_fail(job, err);
    }
}

/* ---- the list ---- */

static void on_page(void *arg, struct ec_err err, const struct ec_githost_deliveries *page);

static EC_RESULT ask_page(struct listing_job *job, const char *cursor)
{
    if (job->sw->stopping) {
        return ec_retry(0, "we are stopping");
    }
    const struct ec_githost_deliveries_query query = {.repo_key = job->repo_key,
                                                      .hook_id = job->hook_id,
                                                      .etag = *job->etag ? job->etag : NULL,
                                                      .cursor = cursor};
    return ec_githost_deliveries(job->sw->hosts, &query, on_page, job);
}

/* False: this one, and what follows, was looked at before. */
static bool take(struct listing_job *job, const struct ec_githost_delivery *delivery)
{
    if (delivery->delivered_unix_ms < job->since_ms || job->count == ATTEMPTS_MAX) {
        return false;
    }
    if (delivery->delivered_unix_ms > job->seen_ms) {
        job->seen_ms = delivery->delivered_unix_ms;
    }
    job->attempts[job->count++] =
        (struct attempt){.id = ec_arena_strdup(job->arena, delivery->id),
                         .guid = ec_arena_strdup(job->arena, delivery->guid),
                         .event = ec_arena_strdup(job->arena, delivery->event),
                         .status_code = delivery->status_code,
                         .at_ms = delivery->delivered_unix_ms};
    return true;
}

static void on_page(void *arg, struct ec_err err, const struct ec_githost_deliveries *page)
{
    struct listing_job *job = arg;
    if (ec_failed(err)) {
        listing_fail(job, err);
        return;
    }
    bool more = page->cursor != NULL && ++job->pages < DELIVERY_PAGES_MAX;
    if (!job->attempts) { /* the first page */
        job->attempts = ec_arena_alloc(job->arena, ATTEMPTS_MAX * sizeof *job->attempts);
        job->new_etag =
            page->unchanged ? job->etag : ec_arena_strdup(job->arena, page->etag ? page->etag : "");
    }
    bool newer = true;
    for (size_t i = 0; i < page->count && newer; i++) {
        newer = take(job, &page->list[i]);
    }
    if (more && newer && !page->unchanged) {
        err = ask_page(job, page->cursor);
        if (ec_failed(err)) {
            listing_fail(job, err);
        }
        return;
    }
    job->whole = page->unchanged || !newer || !page->cursor;
    load_known(job);
}

/* ---- which ---- */

/* Without a credential, or where no list is kept, there is nothing to look at; settings may change
 * that. */
static bool askable(const struct listing_job *job)
{
    const struct ec_githosts *hosts = job->sw->hosts;
    return strcmp(job->hook_id, "app") == 0
               ? ec_githost_has_app(hosts, job->repo_key)
               : ec_githost_has_api(hosts, job->repo_key) &&
                     ec_githost_kind(hosts, job->repo_key) != EC_GITHOST_GITEA;
}

static void begin(struct sweeper *sw, const struct ec_rows *rows, size_t row)
{
    struct ec_arena *arena = ec_arena_new(ARENA_MAX_BYTES);
    struct listing_job *job = ec_arena_alloc(arena, sizeof *job);
    int64_t seen_ms = ec_rows_int(rows, row, "seen_ms"), now_ms = ec_unix_ms();
    int64_t oldest_ms = now_ms - DELIVERY_OLD_MS;
#define COLUMN(name) ec_arena_strdup(arena, ec_rows_text(rows, row, #name))
    *job = (struct listing_job){.sw = sw,
                                .arena = arena,
                                .hook_key = COLUMN(hook_key),
                                .repo_key = COLUMN(repo_key),
                                .hook_id = COLUMN(hook_id),
                                .lease = COLUMN(lease),
                                .etag = COLUMN(etag),
                                .failures = (int)ec_rows_int(rows, row, "failures"),
                                .seen_ms = seen_ms};
#undef COLUMN
    job->since_ms = seen_ms - OVERLAP_MS > oldest_ms ? seen_ms - OVERLAP_MS : oldest_ms;
    sw->listing++;
    sw->busy++;
    if (sw->stopping || !askable(job)) {
        listing_settle(job, ec_ok());
        return;
    }
    struct ec_err err = ask_page(job, NULL);
    if (ec_failed(err)) {
        listing_fail(job, err);
    }
}

static void on_claimed(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct sweeper *sw = arg;
    sw->listing_claim = false;
    sw->busy--;
    for (size_t i = 0; !ec_failed(err) && i < ec_rows_count(rows); i++) {
        begin(sw, rows, i);
    }
    sweeper_rest(sw);
}

void deliveries_due(struct sweeper *sw)
{
    char limit[16], lease_ms[24];
    if (sw->stopping || sw->listing_claim || sw->listing >= sw->settings.parallel) {
        return;
    }
    snprintf(limit, sizeof limit, "%d", (int)sw->settings.parallel - (int)sw->listing);
    snprintf(lease_ms, sizeof lease_ms, "%lld", (long long)sw->settings.lease_ms);
    const char *args[] = {limit, sw->instance.text, lease_ms};
    if (!ec_failed(ec_store_exec(sw->store, CLAIM, args, EC_LEN(args), on_claimed, sw))) {
        sw->listing_claim = true;
        sw->busy++;
    }
}
