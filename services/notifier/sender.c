/* Rows → the world. Due rows are claimed (SKIP LOCKED, so several instances share the work), sent,
 * and settled by what the answer means. A claim ends by itself, so a killed instance loses nothing.
 * For one commit and context only the oldest waiting row is due: a "pending" never overtakes a
 * final state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "notifier.h"

#define OUTGOING_ARENA_BYTES (4u << 20)

struct ec_metric notifications =
    EC_COUNTER("enclii_notifications_total", "Notifications, by result.", "result");

/* The row is locked while it is chosen, so claimed_until needs no further guard. $3: lanes that are
 * full, a line each. */
#define CLAIM                                                                                      \
    "with due as (select n.id, lane from notifier.notification n"                                  \
    " left join notifier.service s on s.service_id = n.service_id cross join lateral"              \
    "   (select n.channel_id || ' ' || split_part(coalesce(s.repo_key, ''), '/', 1) as lane) l"    \
    " where n.state = 'waiting' and lane <> all (string_to_array($3, E'\\n'))"                     \
    " and n.next_try_at <= now() and coalesce(n.claimed_until, '-infinity') < now()"               \
    " and not (n.kind <> 'webhook' and exists (select 1 from notifier.notification o"              \
    "   where o.kind <> 'webhook' and o.state = 'waiting' and o.channel_id = n.channel_id"         \
    "   and o.commit_sha = n.commit_sha and o.context = n.context"                                 \
    "   and (o.created_at, o.id) < (n.created_at, n.id)))"                                         \
    " order by n.next_try_at limit $1::int for update of n skip locked)"                           \
    " update notifier.notification n set attempts = attempts + 1,"                                 \
    " claimed_until = now() + $2::int * interval '1 second' from due where n.id = due.id"          \
    " returning n.*, lane, (extract(epoch from n.created_at) * 1000)::bigint as created_ms,"       \
    " coalesce((select repo_key from notifier.service s where s.service_id = n.service_id), '')"   \
    "   as repo_key"

/* A pending status whose end is already known is not tried again. */
#define SETTLE                                                                                     \
    "update notifier.notification n set claimed_until = null, last_error = $3,"                    \
    " next_try_at = now() + $4::bigint * interval '1 millisecond',"                                \
    " state = case when $2 = 'waiting' and not final and exists (select 1"                         \
    "   from notifier.notification o where o.kind <> 'webhook' and o.final"                        \
    "   and o.channel_id = n.channel_id and o.commit_sha = n.commit_sha"                           \
    "   and o.context = n.context and o.created_at >= n.created_at)"                               \
    "   then 'dropped' else $2 end where id = $1::uuid"

static void finish(struct outgoing *out)
{
    struct notifier *no = out->no;
    struct outgoing **at = &no->first_outgoing;
    while (*at != out) {
        at = &(*at)->next;
    }
    *at = out->next;
    ec_arena_free(out->arena); /* out lives in it */
    no->sending--;
    sender_wake(no);
    notifier_rest(no);
}

static void on_settled(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct outgoing *out = arg;
    (void)rows;
    if (ec_failed(err)) {
        /* The claim runs out and it is sent once more: receivers know it by its id. */
        ec_log(EC_LOG_WARN, out->trace, "notification.not_settled", "it will be sent again",
               EC_ERR(err), EC_T("notification", out->id));
    }
    finish(out);
}

/* Nobody waits for this fact: if it is lost, the row still tells. */
static void publish_end(struct outgoing *out, bool sent, const char *reason)
{
    Enclii__V1__NotificationSent yes = ENCLII__V1__NOTIFICATION_SENT__INIT;
    Enclii__V1__NotificationFailed not = ENCLII__V1__NOTIFICATION_FAILED__INIT;
    yes.notification_id = not .notification_id = ec_arena_strdup(out->arena, out->id);
    yes.channel_id = not .channel_id = ec_arena_strdup(out->arena, out->channel_id);
    yes.kind = not .kind = ec_arena_strdup(out->arena, out->kind);
    yes.service_id = not .service_id = ec_arena_strdup(out->arena, out->service_id);
    yes.about = not .about = ec_arena_strdup(out->arena, out->about);
    yes.subject_id = not .subject_id = ec_arena_strdup(out->arena, out->subject_id);
    yes.attempts = not .attempts = out->attempts;
    yes.duration_ms = ec_mono_ms() - out->started_mono_ms;
    not .reason = ec_arena_strdup(out->arena, reason);
    struct ec_id id = ec_id_derive(out->id, sent ? "sent" : "failed");
    const struct ec_message message = {.topic = EC_TOPIC_NOTIFICATION_EVENTS,
                                       .key = out->channel_id,
                                       .type = sent ? "dev.enclii.notification.sent.v1"
                                                    : "dev.enclii.notification.failed.v1",
                                       .subject = out->id,
                                       .id = id.text,
                                       .trace = out->trace,
                                       .body = sent ? &yes.base : &not .base};
    ec_ignore(ec_bus_publish(out->no->bus, &message, NULL, NULL));
}

static void store_end(struct outgoing *out, const char *state, const char *reason, int64_t wait_ms)
{
    const char *args[] = {out->id, state, reason,
                          ec_arena_format(out->arena, "%lld", (long long)wait_ms)};
    struct ec_err err = ec_store_exec(out->no->store, SETTLE, args, EC_LEN(args), on_settled, out);
    if (ec_failed(err)) {
        on_settled(out, err, NULL);
    }
}

static void settle(struct outgoing *out, enum outcome outcome, const char *reason, int64_t asked_ms)
{
    bool too_old = ec_unix_ms() - out->created_unix_ms > GIVE_UP_MS;
    const char *state = outcome == OUTCOME_SENT               ? "sent"
                        : outcome == OUTCOME_NEEDLESS         ? "dropped"
                        : outcome == OUTCOME_NEVER || too_old ? "failed"
                                                              : "waiting";
    bool again = strcmp(state, "waiting") == 0;
    int64_t wait_ms = again ? decide_wait_ms(out->attempts, asked_ms) : 0;
    ec_metric_add(&notifications, again ? "retried" : state, 1);
    if (outcome == OUTCOME_NEEDLESS) {
        store_end(out, state, reason, wait_ms);
        return;
    }
    ec_log(outcome == OUTCOME_SENT ? EC_LOG_INFO : EC_LOG_WARN, out->trace,
           again                     ? "notification.retried"
           : outcome == OUTCOME_SENT ? "notification.sent"
                                     : "notification.failed",
           outcome == OUTCOME_SENT ? "told" : reason, EC_T("notification", out->id),
           EC_T("channel", out->channel_id), EC_T("about", out->about),
           EC_N("attempts", out->attempts), EC_N("wait_ms", wait_ms));
    if (!again) {
        publish_end(out, outcome == OUTCOME_SENT, reason);
    }
    store_end(out, state, reason, wait_ms);
}

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct outgoing *out = arg;
    if (ec_failed(err)) {
        settle(out, err.fate == EC_FATE_REJECT ? OUTCOME_NEVER : OUTCOME_AGAIN,
               ec_arena_strdup(out->arena, err.what), 0);
        return;
    }
    const char *asked = ec_fetch_header(result, "retry-after");
    int64_t asked_s = asked ? strtoll(asked, NULL, 10) : 0;
    int64_t asked_ms = asked_s > GIVE_UP_MS / 1000 ? GIVE_UP_MS : asked_s * 1000;
    settle(out, decide_outcome(out->kind, result->status, out->attempts),
           ec_arena_format(out->arena, "answer %d", result->status), asked_ms);
}

static void settle_failed(struct outgoing *out, struct ec_err err)
{
    const struct notifier *no = out->no;
    bool never =
        err.fate == EC_FATE_REJECT && !no->stopping &&
        (err.sys == 0 || decide_outcome(out->kind, err.sys, out->attempts) == OUTCOME_NEVER);
    int64_t asked_ms = never ? 0 : ec_githost_wait_ms(no->githosts, out->repo_key);
    settle(out,
           out->needless ? OUTCOME_NEEDLESS
           : never       ? OUTCOME_NEVER
                         : OUTCOME_AGAIN,
           ec_arena_strdup(out->arena, err.what), asked_ms);
}

static void on_told(void *arg, struct ec_err err)
{
    struct outgoing *out = arg;
    if (ec_failed(err)) {
        settle_failed(out, err);
    } else {
        settle(out, OUTCOME_SENT, "", 0);
    }
}

static void send_row(struct notifier *no, const struct ec_rows *rows, size_t row)
{
    struct ec_arena *arena = ec_arena_new(OUTGOING_ARENA_BYTES);
    struct outgoing *out = ec_arena_alloc(arena, sizeof *out);
#define COLUMN(name) ec_arena_strdup(arena, ec_rows_text(rows, row, #name))
    *out = (struct outgoing){.no = no,
                             .arena = arena,
                             .id = COLUMN(id),
                             .channel_id = COLUMN(channel_id),
                             .kind = COLUMN(kind),
                             .about = COLUMN(about),
                             .type = COLUMN(type),
                             .service_id = COLUMN(service_id),
                             .subject_id = COLUMN(subject_id),
                             .commit_sha = COLUMN(commit_sha),
                             .body = COLUMN(body),
                             .trace = COLUMN(trace),
                             .repo_key = COLUMN(repo_key),
                             .lane = COLUMN(lane),
                             .next = no->first_outgoing,
                             .attempts = (int)ec_rows_int(rows, row, "attempts"),
                             .created_unix_ms = ec_rows_int(rows, row, "created_ms"),
                             .started_mono_ms = ec_mono_ms(),
                             .final = ec_rows_bool(rows, row, "final"),
                             .done = on_answer,
                             .told = on_told};
#undef COLUMN
    no->first_outgoing = out;
    no->sending++;
    struct ec_err err = target_send(out, ec_map_get(no->channels, out->channel_id));
    if (ec_failed(err)) {
        settle_failed(out, err);
    }
}

/* A claim takes no more rows than one lane may have, so it does not have to tell lanes apart; what
 * it left is asked for at once. */
static uint32_t claim_max(const struct notifier *no)
{
    uint32_t room = SENDING_MAX - no->sending;
    return room < LANE_SENDING_MAX ? room : LANE_SENDING_MAX;
}

static const char *full_lanes(const struct notifier *no, struct ec_arena *arena)
{
    const char *lines = "";
    for (const struct outgoing *out = no->first_outgoing; out; out = out->next) {
        size_t behind = 1;
        for (const struct outgoing *o = out->next; o; o = o->next) {
            behind += strcmp(o->lane, out->lane) == 0;
        }
        if (behind == LANE_SENDING_MAX) { /* said once, though more of them may be under way */
            lines = ec_arena_format(arena, "%s%s\n", lines, out->lane);
        }
    }
    return lines;
}

static void on_claimed(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct notifier *no = arg;
    no->claiming = false;
    no->claim_again |= !ec_failed(err) && ec_rows_count(rows) > 0;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "notifications.not_claimed", "asking again in a second",
               EC_ERR(err));
    }
    for (size_t i = 0; !ec_failed(err) && i < ec_rows_count(rows); i++) {
        send_row(no, rows, i);
    }
    if (no->claim_again) {
        sender_wake(no);
    }
    notifier_rest(no);
}

static void claim(struct notifier *no)
{
    char limit[16], seconds[16];
    snprintf(limit, sizeof limit, "%u", claim_max(no));
    snprintf(seconds, sizeof seconds, "%d", CLAIM_S);
    ec_cleanup(ec_arena_freep) struct ec_arena *scratch = ec_arena_new(64 << 10);
    const char *args[] = {limit, seconds, full_lanes(no, scratch)};
    no->claim_again = false;
    no->claiming = true;
    struct ec_err err = ec_store_exec(no->store, CLAIM, args, EC_LEN(args), on_claimed, no);
    if (ec_failed(err)) {
        no->claiming = false; /* the next tick asks again */
    }
}

void sender_wake(struct notifier *no)
{
    if (no->stopping || !no->channels_known) {
        return;
    }
    if (no->claiming || no->sending >= SENDING_MAX) {
        no->claim_again = true;
        return;
    }
    claim(no);
}
