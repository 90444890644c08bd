/* One look at one repository: it is leased, the host lists its refs, that is held against what was
 * told, what is confirmed is recovered (recover.c), and everything is settled in one transaction
 * under the lease. A listing that is the same as the last one, with nothing told since, ends
 * there: most looks cost one command and two statements. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/git_ref.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "store/columns.h"
#include "sweeper.h"
#include "trust/digest.h"

struct ec_metric pushes_lost =
    EC_COUNTER("enclii_pushes_lost_total",
               "Pushes found on a host and not brought in within ten sweep intervals.", NULL);
static struct ec_metric looks =
    EC_COUNTER("enclii_sweep_looks_total", "Looks at repositories, by how they ended.", "result");
static struct ec_metric look_seconds =
    EC_HISTOGRAM("enclii_sweep_look_seconds", "One look at a repository.", NULL);

#define CLAIM                                                                                      \
    "with due as (select repo_key from sweeper.repo where next_at <= now()"                        \
    " and leased_until < now() order by next_at limit $1::int for update skip locked)"             \
    " update sweeper.repo r set leased_by = $2, lease = lease + 1,"                                \
    " leased_until = now() + $3::bigint * interval '1 millisecond'"                                \
    " from due where r.repo_key = due.repo_key returning r.*,"                                     \
    " r.asked_at < now() - interval '10 minutes' as ask_due"

/* Two statements' answers: when the least read partition was read to its end, and the refs: those
 * that are there or odd, and of those that are gone (a repository may have had any number) the ones
 * that are listed again. */
#define LEDGER                                                                                     \
    "select coalesce((extract(epoch from now() - min(at_end_at)) * 1000)::bigint, -1) as ms,"      \
    " bool_or(at_end_at is null) as unread from sweeper.consumed"                                  \
    " where consumer = '" SWEEPER_GROUP "' and topic = '" EC_TOPIC_INTAKE "'"
#define KNOWN                                                                                      \
    "select ref, sha, changes, coalesce(odd_sha, '') as odd_sha,"                                  \
    " coalesce((extract(epoch from now() - odd_at) * 1000)::bigint, 0) as odd_ms,"                 \
    " coalesce((extract(epoch from now() - odd_first_at) * 1000)::bigint, 0) as odd_first_ms"      \
    " from sweeper.ref left join unnest($2::text[]) as l(listed) on l.listed = ref"                \
    " where repo_key = $1 and (sha !~ '^0*$' or odd_sha is not null or l.listed is not null)"      \
    " and ($3 = '' or ref collate \"C\" <= $3) order by ref collate \"C\" limit $4::int"

/* ---- settling ---- */

/* Only under the lease: whoever took over has looked for himself. */
#define SETTLE                                                                                     \
    "with u as (update sweeper.repo set leased_by = '', leased_until = '-infinity',"               \
    " next_at = now() + $4::bigint * interval '1 millisecond', failures = $5::int,"                \
    " last_error = $6, baselined = baselined or $9::boolean,"                                      \
    " looked_at = case when $5::int = 0 then now() else looked_at end,"                            \
    " listed = case when heard = $8::bigint then $7 else '' end,"                                  \
    " asked_at = case when $10::boolean then now() else asked_at end"                              \
    " where repo_key = $1 and leased_by = $2 and lease = $3::bigint returning 1)"                  \
    " select ec_expect(1, count(*)) from u"

/* Before any ref of it, as sweeper.heard does: pushes are told at the same time. */
#define HOLD "select 1 from sweeper.repo where repo_key = $1 for no key update"
/* A push that was told meanwhile has changed the row: then it is not odd any more. */
#define NOTE_ODD                                                                                   \
    "insert into sweeper.ref as r (repo_key, ref, sha, changes, odd_sha, odd_at, odd_first_at)"    \
    " select c1, c2, c3, c4, c5, now(), now()"                                                     \
    " from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])"                   \
    "  as c(c1, c2, c3, c4, c5) order by c2"                                                       \
    " on conflict (repo_key, ref) do update set odd_sha = excluded.odd_sha, odd_at = now(),"       \
    "  odd_first_at = coalesce(r.odd_first_at, now())"                                             \
    " where r.sha = excluded.sha and r.changes = excluded.changes"
#define NOTE_CLEAR                                                                                 \
    "update sweeper.ref r set odd_sha = null, odd_at = null, odd_first_at = null, lost = false"    \
    " from unnest($1::text[], $2::text[]) as c(c1, c2) where r.repo_key = c1 and r.ref = c2"
#define NOTE_RECORD                                                                                \
    "insert into sweeper.ref (repo_key, ref, sha)"                                                 \
    " select * from unnest($1::text[], $2::text[], $3::text[]) as c(c1, c2, c3) order by 2"        \
    " on conflict do nothing"
#define NOTE_LOST                                                                                  \
    "update sweeper.ref set lost = true where repo_key = $1 and not lost"                          \
    " and odd_first_at < now() - $2::bigint * interval '1 millisecond' returning ref"

static void add_changes(const struct look *look, struct ec_batch *batch, enum change_kind kind,
                        const char *sql, size_t width)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, width);
    for (size_t i = 0; i < look->plan.count; i++) {
        const struct change *change = &look->plan.list[i];
        if (change->kind != kind) {
            continue;
        }
        ec_columns_text(&cols, look->repo_key);
        ec_columns_text(&cols, change->ref);
        if (kind == CHANGE_RECORD) {
            ec_columns_text(&cols, change->after);
        } else if (kind == CHANGE_ODD) {
            ec_columns_text(&cols, change->before);
            ec_columns_int(&cols, change->changes);
            ec_columns_text(&cols, change->after);
        }
    }
    ec_columns_flush(&cols, batch, sql, false);
}

static void look_free(struct look *look)
{
    struct sweeper *sw = look->sw;
    ec_metric_observe_s(&look_seconds, NULL, (double)(ec_mono_ms() - look->began_mono_ms) / 1000);
    ec_arena_free(look->arena); /* look lives in it */
    sw->looking--;
    sw->busy--;
    looks_due(sw);
    sweeper_rest(sw);
}

static void tell_lost(const struct look *look, const struct ec_rows *rows)
{
    for (size_t i = 0; i < ec_rows_count(rows); i++) {
        ec_metric_add(&pushes_lost, NULL, 1);
        ec_log(EC_LOG_ERROR, NULL, "push.lost",
               "found on the host, and could not be brought in for ten sweep intervals",
               EC_T("repo", look->repo_key), EC_T("ref", ec_rows_text(rows, i, "ref")));
    }
}

static void on_settled(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct look *look = arg;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "sweep.not_settled", "its lease runs out, then it is done again",
               EC_T("repo", look->repo_key), EC_ERR(err));
    } else if (ec_batch_count(batch) > 1) {
        tell_lost(look, ec_batch_rows(batch, ec_batch_count(batch) - 2));
    }
    look_free(look);
}

static double dice(void)
{
    return (double)arc4random() / (double)UINT32_MAX;
}

static int64_t wait_of(const struct look *look, bool failed)
{
    const struct sweeper_settings *set = &look->sw->settings;
    int64_t period_ms = decide_period_ms(set->interval_ms, set->grace_ms, dice());
    if (failed && !look->answered) {
        return decide_back_off_ms(period_ms, look->failures + 1);
    }
    return failed || look->plan.unsettled > 0 ? set->grace_ms : period_ms;
}

static void tell_end(const struct look *look, struct ec_err err)
{
    bool failed = ec_failed(err);
    ec_metric_add(&looks, look->fenced_off ? "taken_over" : failed ? "failed" : "ok", 1);
    if (failed) {
        ec_log(look->failures == 0 ? EC_LOG_WARN : EC_LOG_INFO, NULL, "sweep.failed", err.what,
               EC_T("repo", look->repo_key), EC_N("failures", look->failures + 1));
    } else if (!look->baselined) {
        ec_log(EC_LOG_INFO, NULL, "repo.baselined",
               "its refs are recorded as they are; what is pushed from now on is followed",
               EC_T("repo", look->repo_key), EC_N("refs", look->sweep.listing.count));
    } else if (look->failures > 0) {
        ec_log(EC_LOG_INFO, NULL, "sweep.recovered", "the host answers again",
               EC_T("repo", look->repo_key));
    }
}

/* What was noticed is kept also when recovering it failed: the next look then recovers at once. */
void look_settle(struct look *look, struct ec_err err)
{
    struct sweeper *sw = look->sw;
    tell_end(look, err);
    if (look->fenced_off) {
        look_free(look);
        return;
    }
    bool failed = ec_failed(err);
    bool quiet = !failed && look->listed && look->plan.unsettled == 0 && look->plan.count == 0;
    struct ec_batch *batch = ec_batch_new(sw->store);
    const char *held[] = {look->repo_key};
    ec_batch_add(batch, HOLD, held, EC_LEN(held));
    add_changes(look, batch, CHANGE_RECORD, NOTE_RECORD, 3);
    add_changes(look, batch, CHANGE_ODD, NOTE_ODD, 5);
    add_changes(look, batch, CHANGE_CLEAR, NOTE_CLEAR, 2);
    const char *lost[] = {look->repo_key, ec_arena_format(look->arena, "%lld",
                                                          (long long)(LOST_AFTER_INTERVALS *
                                                                      sw->settings.interval_ms))};
    ec_batch_add(batch, NOTE_LOST, lost, EC_LEN(lost));
    const char *args[] = {
        look->repo_key,
        sw->instance.text,
        look->lease,
        ec_arena_format(look->arena, "%lld", (long long)wait_of(look, failed)),
        ec_arena_format(look->arena, "%d", look->answered ? 0 : look->failures + 1),
        failed ? err.what : "",
        quiet ? look->listed : "",
        look->heard,
        failed ? "false" : "true",
        look->asked ? "true" : "false",
    };
    ec_batch_add(batch, SETTLE, args, EC_LEN(args));
    struct ec_err run = ec_batch_run(batch, on_settled, look);
    if (ec_failed(run)) {
        on_settled(look, run, NULL);
    }
}

/* ---- what is known ---- */

static void read_known(struct look *look, const struct ec_rows *rows)
{
    size_t there = ec_rows_count(rows), count = there < KNOWN_MAX ? there : KNOWN_MAX;
    struct known *known = ec_arena_alloc(look->arena, count * sizeof *known + 1);
    for (size_t i = 0; i < count; i++) {
        known[i] = (struct known){
            .ref = ec_arena_strdup(look->arena, ec_rows_text(rows, i, "ref")),
            .sha = ec_arena_strdup(look->arena, ec_rows_text(rows, i, "sha")),
            .changes = ec_rows_int(rows, i, "changes"),
            .odd_sha = ec_arena_strdup(look->arena, ec_rows_text(rows, i, "odd_sha")),
            .odd_ms = ec_rows_int(rows, i, "odd_ms"),
            .odd_first_ms = ec_rows_int(rows, i, "odd_first_ms"),
        };
    }
    look->sweep.known = known;
    look->sweep.known_count = count;
    look->sweep.known_cut = there > count;
    if (look->sweep.known_cut) {
        ec_log(EC_LOG_WARN, NULL, "sweep.cut", "more branches and tags were told than are followed",
               EC_T("repo", look->repo_key), EC_N("followed", KNOWN_MAX));
    }
}

/* A host that suddenly lists nothing is in trouble rather than empty. */
static bool suddenly_empty(const struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->known_count && sweep->listing.count == 0; i++) {
        if (!decide_all_zeros(sweep->known[i].sha)) {
            return true;
        }
    }
    return false;
}

static void on_known(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct look *look = arg;
    if (ec_failed(err)) {
        look_settle(look, err);
        return;
    }
    const struct ec_rows *ledger = ec_batch_rows(batch, 0);
    look->sweep.ledger_ms = ec_rows_bool(ledger, 0, "unread") ? -1 : ec_rows_int(ledger, 0, "ms");
    read_known(look, ec_batch_rows(batch, 1));
    if (suddenly_empty(&look->sweep)) {
        look->answered = false;
        look_settle(look, ec_retry(0, "the host lists no branch and no tag any more; nothing is "
                                      "concluded from that"));
        return;
    }
    decide_sweep(look->arena, &look->sweep, &look->plan);
    look->at = 0;
    if (look->plan.recovered > 0) {
        moved_ask(look, recover_next);
    } else {
        recover_next(look);
    }
}

/* {"a","b"}; gives the last in order, "" when there is none. */
static const char *add_listed(const struct listing *listing, struct ec_buf *list)
{
    const char *last = "";
    ec_buf_add_text(list, "{");
    for (size_t i = 0; i < listing->count; i++) {
        const char *ref = listing->refs[i].ref;
        ec_buf_add_text(list, i ? ",\"" : "\"");
        for (const char *at = ref; *at; at++) {
            ec_buf_add(list, "\\", *at == '"' || *at == '\\');
            ec_buf_add(list, at, 1);
        }
        ec_buf_add_text(list, "\"");
        last = strcmp(ref, last) > 0 ? ref : last;
    }
    ec_buf_add_text(list, "}");
    return last;
}

static void load_known(struct look *look)
{
    const struct listing *listing = &look->sweep.listing;
    struct ec_batch *batch = ec_batch_new(look->sw->store);
    ec_cleanup(ec_buf_done) struct ec_buf list;
    ec_buf_init(&list, (size_t)REFS_MAX * (2 * EC_GIT_REF_MAX_BYTES + 3) + 3);
    const char *last = add_listed(listing, &list);
    const char *args[] = {look->repo_key, ec_buf_span(&list).ptr, listing->cut ? last : "",
                          ec_arena_format(look->arena, "%d", KNOWN_MAX + 1)};
    ec_batch_add(batch, LEDGER, NULL, 0);
    ec_batch_add(batch, KNOWN, args, EC_LEN(args));
    struct ec_err err = ec_batch_run(batch, on_known, look);
    if (ec_failed(err)) {
        look_settle(look, err);
    }
}

/* ---- what the host says ---- */

static void on_listed_line(void *arg, struct ec_span line)
{
    struct look *look = arg;
    decide_listed(look->arena, &look->sweep.listing, line);
}

/* Of the listing, and of how much had been told when it was made: only when both are the same
 * nothing can be odd. */
static const char *digest_of(struct look *look)
{
    ec_cleanup(ec_buf_done) struct ec_buf text;
    ec_buf_init(&text, (size_t)REFS_MAX * (EC_GIT_REF_MAX_BYTES + 70));
    for (size_t i = 0; i < look->sweep.listing.count; i++) {
        ec_buf_add_text(&text, look->sweep.listing.refs[i].sha);
        ec_buf_add_text(&text, look->sweep.listing.refs[i].ref);
        ec_buf_add_text(&text, "\n");
    }
    return ec_arena_format(look->arena, "%s %s", ec_sha256_hex(look->arena, ec_buf_span(&text)),
                           look->heard);
}

static void settle_trouble(struct look *look)
{
    look_settle(look, look->trouble);
}

static void hold_against_known(struct look *look)
{
    if (strcmp(look->listed, look->was_listed) == 0) {
        look_settle(look, ec_ok());
    } else {
        load_known(look);
    }
}

static void on_listed(void *arg, struct ec_err err, int exit_code)
{
    struct look *look = arg;
    (void)exit_code;
    if (ec_failed(err)) {
        look->trouble = err;
        moved_ask(look, settle_trouble);
        return;
    }
    if (look->sweep.listing.cut) {
        ec_log(EC_LOG_WARN, NULL, "sweep.cut", "more branches and tags than are followed",
               EC_T("repo", look->repo_key), EC_N("followed", REFS_MAX));
    }
    look->answered = true;
    look->listed = digest_of(look);
    look->asked = look->ask_due && strstr(look->run.tail, "redirecting to ");
    if (look->asked) {
        moved_ask(look, hold_against_known);
    } else {
        hold_against_known(look);
    }
}

static void list(struct look *look)
{
    const char *words[] = {"ls-remote", "--refs", "--heads", "--tags", "--", look->clone_url, NULL};
    const char **args = ec_arena_alloc(look->arena, sizeof words);
    memcpy(args, words, sizeof words);
    look->run = (struct git_run){.sw = look->sw,
                                 .arena = look->arena,
                                 .repo_key = look->repo_key,
                                 .clone_url = look->clone_url,
                                 .args = args,
                                 .deadline_ms = LIST_DEADLINE_MS,
                                 .on_line = on_listed_line,
                                 .done = on_listed,
                                 .arg = look};
    struct ec_err err = git_run_start(&look->run);
    if (ec_failed(err)) {
        err.what = ec_arena_strdup(look->arena, err.what);
        look_settle(look, err);
    }
}

/* ---- which ---- */

static void begin(struct sweeper *sw, const struct ec_rows *rows, size_t row)
{
    struct ec_arena *arena = ec_arena_new(LOOK_MAX_BYTES);
    struct look *look = ec_arena_alloc(arena, sizeof *look);
#define COLUMN(name) ec_arena_strdup(arena, ec_rows_text(rows, row, #name))
    *look = (struct look){.sw = sw,
                          .arena = arena,
                          .repo_key = COLUMN(repo_key),
                          .clone_url = COLUMN(clone_url),
                          .full_name = COLUMN(full_name),
                          .host_repo_id = COLUMN(host_repo_id),
                          .lease = COLUMN(lease),
                          .bound_at = COLUMN(bound_at),
                          .move_told = strncmp(ec_rows_text(rows, row, "last_error"), MOVED_WORDS,
                                               strlen(MOVED_WORDS)) == 0,
                          .ask_due = ec_rows_bool(rows, row, "ask_due"),
                          .host = ec_githost_kind_name(
                              ec_githost_kind(sw->hosts, ec_rows_text(rows, row, "repo_key"))),
                          .was_listed = COLUMN(listed),
                          .heard = COLUMN(heard),
                          .baselined = ec_rows_bool(rows, row, "baselined"),
                          .failures = (int)ec_rows_int(rows, row, "failures"),
                          .began_mono_ms = ec_mono_ms(),
                          .sweep = {.baselined = ec_rows_bool(rows, row, "baselined"),
                                    .ledger_ms = -1,
                                    .grace_ms = sw->settings.grace_ms,
                                    .interval_ms = sw->settings.interval_ms}};
#undef COLUMN
    sw->looking++;
    sw->busy++;
    list(look);
}

static void on_claimed(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct sweeper *sw = arg;
    sw->claiming = false;
    sw->busy--;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "sweeps.not_claimed", "asking again soon", EC_ERR(err));
    }
    for (size_t i = 0; !ec_failed(err) && i < ec_rows_count(rows); i++) {
        begin(sw, rows, i);
    }
    sweeper_rest(sw);
}

void looks_due(struct sweeper *sw)
{
    char limit[16], lease_ms[24];
    if (sw->stopping || sw->claiming || sw->looking >= sw->settings.parallel) {
        return; /* the next tick, or the next end of a look, asks again */
    }
    snprintf(limit, sizeof limit, "%d", (int)sw->settings.parallel - (int)sw->looking);
    snprintf(lease_ms, sizeof lease_ms, "%lld", (long long)sw->settings.lease_ms);
    const char *args[] = {limit, sw->instance.text, lease_ms};
    struct ec_err err = ec_store_exec(sw->store, CLAIM, args, EC_LEN(args), on_claimed, sw);
    if (!ec_failed(err)) {
        sw->claiming = true;
        sw->busy++;
    }
}
