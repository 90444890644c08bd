/* The ledger of deliveries: what every host sent, what was refused, and what came of it. A token
 * for one project sees those of its repositories. A push can be delivered again from here, without
 * the host: what it takes is kept with the row. */
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/intake.pb-c.h"

#define DELIVERY_COLUMNS                                                                           \
    "id host event ?action repo_key ?ref ?commit_sha ?pusher state ?reason ?detail #status ?peer " \
    "#duplicates !recovered !can_redeliver ?trace received_at decided_at"

/* Refused ones are kept apart: their ids are ours, because a stranger may claim any. */
/* clang-format off */
#define DELIVERY_SQL \
    "select d.*" \
    ", " TIME("d.received_time", "received_at") \
    ", " TIME("d.decided_time", "decided_at") \
    " from (select id, host, event, action, repo_key, ref, commit_sha, pusher, state, reason," \
    "    detail, 202 as status, '' as peer, duplicates, recovered," \
    "    push is not null as can_redeliver, trace, received_at as received_time," \
    "    decided_at as decided_time from enclii.delivery" \
    "  union all" \
    "  select id::text, host, event, '', repo_key, '', '', '', 'REFUSED', reason," \
    "    detail, status, peer, 0, false," \
    "    false, '', received_at, received_at from enclii.refused_delivery) d" \
    " where ($1 = '' or exists (select 1 from enclii.service s" \
    "   where s.repo_key = d.repo_key and s.project_id::text = $1))"
/* clang-format on */

static void on_deliveries(struct call *call, const struct ec_batch *batch)
{
    const struct ec_rows *rows = ec_batch_rows(batch, 1);
    call_reply(call, 200,
               json_pack("{s:o, s:i}", "deliveries", render_list(rows, DELIVERY_COLUMNS), "count",
                         (int)ec_rows_count(rows)));
}

static const char *asked(const struct call *call, const char *name)
{
    const char *value = ec_request_query(call->req, name);
    return value ? value : "";
}

void on_delivery_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, PLAN_ANEW, NULL, 0);
    ec_batch_add(batch,
                 DELIVERY_SQL
                 " and ($2 = '' or d.repo_key = $2) and ($3 = '' or d.state = upper($3))"
                 " and ($4 = '' or d.host = $4) and ($5 = '' or d.event = $5)"
                 " order by d.received_time desc limit $6::int",
                 ARGS(call->who.project_id, asked(call, "repo"), asked(call, "state"),
                      asked(call, "host"), asked(call, "event"), call_limit(call, 50)));
    call_read(call, batch, on_deliveries);
}

/* False = answered. */
static bool found(struct call *call, const struct ec_rows *rows)
{
    if (ec_rows_count(rows) > 0) {
        return true;
    }
    call_problem(call, 404, "not_found", "id",
                 "there is no such delivery (they are kept for a while only), or your token is for "
                 "another project");
    return false;
}

static void on_delivery(struct call *call, const struct ec_rows *rows)
{
    if (found(call, rows)) {
        call_reply(call, 200, render_row(rows, 0, DELIVERY_COLUMNS));
    }
}

void on_delivery_get(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call, DELIVERY_SQL " and d.id = $2",
               ARGS(call->who.project_id, ec_request_param(req, "id")), on_delivery);
}

/* ---- once more ---- */

static void on_redelivered(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    const char *id = call->more;
    call_reply(call, 202,
               json_pack("{s:s, s:s}", "delivery_id", id, "message",
                         "the push is delivered again; see `enclii deliveries show`"));
}

static void redeliver(struct call *call, const struct ec_rows *rows)
{
    struct ec_arena *arena = call->arena;
    if (!found(call, rows)) {
        return;
    }
    struct ec_span kept = ec_rows_bytes(rows, 0, "push", arena);
    Enclii__V1__PushReceived *push =
        kept.len ? enclii__v1__push_received__unpack(NULL, kept.len, (const uint8_t *)kept.ptr)
                 : NULL;
    if (!push) {
        call_problem(
            call, 409, "not_redeliverable", NULL,
            "only accepted or ignored pushes can be delivered again from here; let the git "
            "host deliver this one again");
        return;
    }
    struct ec_id event_id = ec_id_new();
    /* An id of its own: the ledger would take the same one for a duplicate. */
    char *id = ec_arena_format(arena, "%.90s~%.8s", ec_rows_text(rows, 0, "id"),
                               event_id.text + EC_ID_SIZE - 9);
    Enclii__V1__PushReceived again = *push;
    again.delivery_id = id;
    again.by_hand = true;
    again.received_unix_ms = ec_unix_ms();
    call->more = id;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_INTAKE, push->repo_key, "dev.enclii.push.received.v1",
                                    id, event_id.text, &again.base});
    audit_add(call, batch,
              &(struct audit){"delivery.redeliver", "delivery", id, push->repo_full_name, NULL});
    enclii__v1__push_received__free_unpacked(push, NULL);
    call_write(call, batch, on_redelivered);
}

void on_delivery_redeliver(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(call,
               "select d.id, d.push from enclii.delivery d where d.id = $2 and ($1 = '' or exists"
               " (select 1 from enclii.service s where s.repo_key = d.repo_key and"
               " s.project_id::text = $1)) union all"
               " select r.id::text, null from enclii.refused_delivery r where r.id::text = $2 and"
               " $1 = ''",
               ARGS(call->who.project_id, ec_request_param(req, "id")), redeliver);
}
