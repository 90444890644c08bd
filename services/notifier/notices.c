/* Notices → rows. What is to be told becomes one row per channel that wants it, in one transaction;
 * the row's id is derived from event and channel, so a redelivered event changes nothing. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "notifier.h"

/* $15: what must have been the last word in this context; "" = whatever was. */
#define PUSH_ROW                                                                                   \
    "insert into notifier.notification (id, channel_id, event_id, kind, about, type, service_id,"  \
    " subject_id, commit_sha, context, status, final, body, trace)"                                \
    " select $1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::boolean, $13, $14"           \
    " where $15 = '' or $15 = (select o.about from notifier.notification o"                        \
    "  where o.kind <> 'webhook' and o.channel_id = $2 and o.commit_sha = $9 and o.context = $10"  \
    "  order by o.created_at desc, o.id desc limit 1)"                                             \
    " on conflict do nothing"
/* What was only "pending" needs not be told once the end is known, unless it is on its way. */
#define DROP_PENDING                                                                               \
    "update notifier.notification set state = 'dropped' where channel_id = $1 and commit_sha = $2" \
    " and context = $3 and kind <> 'webhook' and not final and state = 'waiting'"                  \
    " and coalesce(claimed_until, '-infinity') < now()"

static void on_rows_stored(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct work *work = arg;
    struct notifier *no = work->no;
    (void)batch;
    ec_event_finish(work->ev, err);
    if (!ec_failed(err)) {
        sender_wake(no);
    }
}

static void add_row(struct work *work, const struct channel *channel, struct ec_batch *batch)
{
    const struct notice *notice = &work->notice;
    struct ec_arena *arena = ec_event_arena(work->ev);
    bool status = decide_sets_statuses(channel->kind);
    struct ec_id id = ec_id_derive(notice->event_id, channel->id);
    const char *context = decide_context(arena, notice);
    const char *body = status ? decide_status_row(arena, notice, work->no->settings.public_url)
                              : decide_body(arena, notice, id.text);
    const char *args[] = {id.text,
                          channel->id,
                          notice->event_id,
                          channel->kind,
                          notice->rule->about,
                          notice->rule->type,
                          notice->service_id,
                          notice->subject_id,
                          notice->commit_sha,
                          context,
                          notice->rule->status,
                          notice->rule->final ? "true" : "false",
                          body,
                          notice->trace,
                          status && notice->rule->after ? notice->rule->after : ""};
    if (status && notice->rule->final) {
        const char *drop[] = {channel->id, notice->commit_sha, context};
        ec_batch_add(batch, DROP_PENDING, drop, EC_LEN(drop));
    }
    ec_batch_add(batch, PUSH_ROW, args, EC_LEN(args));
}

EC_RESULT notice_tell(struct work *work)
{
    const struct notice *notice = &work->notice;
    struct ec_batch *batch = ec_batch_new(work->no->store);
    void *value;
    if (notice->rule->tell) {
        const char *sentence = notice->rule->of == OF_PULL
                                   ? decide_sentence(ec_event_arena(work->ev), notice)
                                   : notice->detail;
        ec_log(EC_LOG_INFO, notice->trace, "notice.told", notice->rule->text,
               EC_T("about", notice->rule->about), EC_T("service", notice->service_name),
               EC_T("environment", notice->environment), EC_T("subject", notice->subject_id),
               EC_T("detail", sentence));
    }
    if (*work->repo_key) {
        notice_repo(batch, notice->service_id, work->repo_key);
    }
    for (size_t at = 0; ec_map_next(work->no->channels, &at, NULL, &value);) {
        if (decide_channel_wants(value, notice)) {
            add_row(work, value, batch);
        }
    }
    return ec_batch_run(batch, on_rows_stored, work);
}

struct work *notice_begin(struct notifier *no, struct ec_event *ev)
{
    struct work *work = ec_arena_alloc(ec_event_arena(ev), sizeof *work);
    work->no = no;
    work->ev = ev;
    work->repo_key = "";
    work->notice = (struct notice){.rule = decide_rule(ec_event_type(ev)),
                                   .event_id = ec_event_id(ev),
                                   .trace = ec_event_trace(ev),
                                   .time_unix_ms = ec_event_time_unix_ms(ev),
                                   .environment = "",
                                   .url = "",
                                   .detail = "",
                                   .project_id = "",
                                   .project_slug = "",
                                   .service_name = "",
                                   .service_id = "",
                                   .commit_sha = "",
                                   .commit_ref = "",
                                   .commit_message = "",
                                   .pull = {.title = "",
                                            .url = "",
                                            .author = "",
                                            .author_association = "",
                                            .command = "",
                                            .by = "",
                                            .reason = ""}};
    return work;
}

void notice_service(struct notice *notice, const Enclii__V1__ServiceRef *service)
{
    if (service) {
        notice->project_id = service->project_id;
        notice->project_slug = service->project_slug;
        notice->service_id = service->service_id;
        notice->service_name = service->service_name;
    }
}

void notice_commit(struct notice *notice, const Enclii__V1__Commit *commit)
{
    if (commit) {
        notice->commit_sha = commit->sha;
        notice->commit_ref = commit->ref;
        notice->commit_message = commit->message;
    }
}

void notice_repo(struct ec_batch *batch, const char *service_id, const char *repo_key)
{
    const char *args[] = {service_id, repo_key};
    ec_batch_add(batch,
                 "insert into notifier.service (service_id, repo_key) values ($1, $2)"
                 " on conflict (service_id) do update set repo_key = excluded.repo_key,"
                 " updated_at = now() where service.repo_key <> excluded.repo_key",
                 args, EC_LEN(args));
}
