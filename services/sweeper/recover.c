/* The confirmed changes of a look, one after another: what it changed is asked of git, the lease is
 * renewed (whoever lost it stops here), the push is published, and once the broker has it the ref
 * is recorded. Two instances that do the same give it the same id. */
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "sweeper.h"

#define DETAILS_MS 25000

struct ec_metric pushes_recovered =
    EC_COUNTER("enclii_pushes_recovered_total",
               "Pushes brought in whose webhook did not arrive, by how they were found.", "how");

/* Also asks whether the push was told after all while we looked at it. */
#define RENEW                                                                                      \
    "with held as (update sweeper.repo"                                                            \
    " set leased_until = now() + $4::bigint * interval '1 millisecond'"                            \
    " where repo_key = $1 and leased_by = $2 and lease = $3::bigint returning 1)"                  \
    " select (select count(*) from held) > 0 as held, not exists (select 1 from sweeper.ref"       \
    "  where repo_key = $1 and ref = $5 and (sha <> $6 or changes <> $7::bigint)) as untold"

#define RECORD "select sweeper.heard($1, $2, $3, $4, true)"

static const struct change *current(const struct look *look)
{
    return &look->plan.list[look->at];
}

static void on_recorded(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct look *look = arg;
    (void)rows;
    if (ec_failed(err)) { /* our own event will tell us */
        ec_log(EC_LOG_WARN, look->trace.parent, "push.not_recorded",
               "the next look publishes it "
               "again, with the same id",
               EC_ERR(err), EC_T("delivery", look->delivery_id));
    }
    look->at++;
    recover_next(look);
}

static void on_published(void *arg, struct ec_err err)
{
    struct look *look = arg;
    const struct change *change = current(look);
    if (ec_failed(err)) {
        look->plan.unsettled++;
        look_settle(look, ec_retry(err.sys, ec_arena_strdup(look->arena, err.what)));
        return;
    }
    ec_metric_add(&pushes_recovered, "refs", 1);
    ec_log(EC_LOG_WARN, look->trace.parent, "push.recovered",
           "its webhook did not come; it goes the same way now", EC_T("repo", look->repo_key),
           EC_T("ref", change->ref), EC_T("before", change->before), EC_T("after", change->after),
           EC_T("delivery", look->delivery_id));
    const char *args[] = {look->repo_key, change->ref, change->before, change->after};
    err = ec_store_exec(look->sw->store, RECORD, args, EC_LEN(args), on_recorded, look);
    if (ec_failed(err)) {
        on_recorded(look, err, NULL);
    }
}

static char *text(const struct look *look, const char *value)
{
    return ec_arena_strdup(look->arena, value);
}

/* As `webhook` says it; who pushed is not known, so the author stands in for that. */
static void fill_head(const struct look *look, Enclii__V1__PushReceived *push,
                      Enclii__V1__Commit *head)
{
    const struct details *d = &look->details;
    size_t first = strcspn(d->message, "\r\n");
    head->sha = push->after;
    head->ref = push->ref;
    head->message =
        ec_text_clean(look->arena, (struct ec_span){d->message, first}, SUBJECT_MAX_BYTES);
    head->author_name = d->author_name;
    head->author_email = d->author_email;
    head->committed_unix_ms = d->committed_unix_ms;
    push->head = head;
    push->message = d->message;
    push->pusher = d->author_name;
    push->forced = d->forced;
    push->changed_paths = d->paths.list;
    push->n_changed_paths = d->paths.count;
    push->changed_paths_complete = d->complete;
}

static void publish(struct look *look)
{
    const struct change *change = current(look);
    Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
    Enclii__V1__Commit head = ENCLII__V1__COMMIT__INIT;
    push.delivery_id = text(look, look->delivery_id);
    push.host = text(look, look->host);
    push.repo_key = text(look, look->repo_key);
    push.repo_full_name = text(look, look->full_name);
    push.clone_url = text(look, look->clone_url);
    push.ref = text(look, change->ref);
    push.before = text(look, change->before);
    push.after = text(look, change->after);
    push.created = decide_all_zeros(change->before);
    push.deleted = decide_all_zeros(change->after);
    push.received_unix_ms = ec_unix_ms();
    push.host_repo_id = text(look, look->host_repo_id);
    push.recovered = true;
    if (!push.deleted) {
        fill_head(look, &push, &head);
    }
    const struct ec_message message = {.topic = EC_TOPIC_INTAKE,
                                       .key = look->repo_key,
                                       .type = "dev.enclii.push.received.v1",
                                       .subject = look->delivery_id,
                                       .id = ec_id_derive(look->delivery_id, "push").text,
                                       .trace = look->trace.parent,
                                       .body = &push.base};
    struct ec_err err = ec_bus_publish(look->sw->bus, &message, on_published, look);
    if (ec_failed(err)) {
        on_published(look, err);
    }
}

static void on_renewed(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct look *look = arg;
    if (ec_failed(err)) {
        look_settle(look, err);
    } else if (!ec_rows_bool(rows, 0, "held")) {
        look->fenced_off = true;
        look_settle(look, ec_ok());
    } else if (!ec_rows_bool(rows, 0, "untold")) {
        look->at++;
        recover_next(look);
    } else {
        publish(look);
    }
}

static void renew(void *arg)
{
    struct look *look = arg;
    const struct change *change = current(look);
    const char *args[] = {
        look->repo_key,
        look->sw->instance.text,
        look->lease,
        ec_arena_format(look->arena, "%lld", (long long)look->sw->settings.lease_ms),
        change->ref,
        change->before,
        ec_arena_format(look->arena, "%lld", (long long)change->changes),
    };
    struct ec_err err = look->sw->stopping ? ec_retry(0, "we are stopping")
                                           : ec_store_exec(look->sw->store, RENEW, args,
                                                           EC_LEN(args), on_renewed, look);
    if (ec_failed(err)) {
        look_settle(look, err);
    }
}

static void recover(struct look *look, const struct change *change)
{
    look->trace = ec_trace_new();
    look->delivery_id = decide_delivery_id(look->arena, look->repo_key, change);
    look->details = (struct details){.sw = look->sw,
                                     .arena = look->arena,
                                     .repo_key = look->repo_key,
                                     .clone_url = look->clone_url,
                                     .before = change->before,
                                     .after = change->after,
                                     .head = true,
                                     .end_mono_ms = ec_mono_ms() + DETAILS_MS,
                                     .done = renew,
                                     .arg = look};
    if (decide_all_zeros(change->after)) {
        renew(look);
    } else {
        details_start(&look->details);
    }
}

void recover_next(struct look *look)
{
    while (look->at < look->plan.count && current(look)->kind != CHANGE_RECOVER) {
        look->at++;
    }
    bool full = ec_arena_used_bytes(look->arena) > RECOVERY_MAX_BYTES;
    if (look->at == look->plan.count || look->sw->stopping || full) {
        look->plan.unsettled += look->at < look->plan.count; /* soon, by somebody */
        look_settle(look, ec_ok());
        return;
    }
    recover(look, current(look));
}
