/* Open streams: how many there may be, and whose they are. A stream lives for hours, its token may
 * not: every LOOK_MS the tokens of all open streams are looked at in one question, and what belongs
 * to a revoked or expired one ends. The client comes back and is told why by a 401. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/buf.h"
#include "base/id.h"
#include "base/mem.h"

#define LOOK_MS 2000

struct live {
    struct api *api;
    struct ec_stream *out;
    char token_id[EC_ID_SIZE];
    ec_call_fn closed;
    void *arg;
    struct live *next;
};

static void on_closed(void *arg)
{
    struct live *live = arg;
    struct api *api = live->api;
    struct live **at = &api->lives;
    while (*at != live) {
        at = &(*at)->next;
    }
    *at = live->next;
    api->streams--;
    live->closed(live->arg);
    free(live);
}

struct live *live_open(struct call *call, size_t buffer_max_bytes, ec_call_fn closed, void *arg)
{
    struct api *api = call->api;
    struct live *live = ec_alloc(sizeof(*live));
    *live = (struct live){.api = api, .closed = closed, .arg = arg, .next = api->lives};
    memcpy(live->token_id, call->who.token_id, EC_ID_SIZE);
    api->lives = live;
    api->streams++;
    live->out = ec_reply_stream(call->req, buffer_max_bytes, on_closed, live);
    return live;
}

void live_send(struct live *live, const char *id, const char *event, struct ec_span data)
{
    ec_stream_send(live->out, id, event, data);
}

void live_end(struct live *live)
{
    ec_stream_end(live->out);
}

/* ---- whose token holds no longer ---- */

static const char ended_sql[] =
    "select t::text as id from unnest($1::uuid[]) t where not exists (select from enclii.api_token "
    "a"
    " where a.id = t and a.revoked_at is null and (a.expires_at is null or a.expires_at > now()))";

static void on_ended(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct api *api = arg;
    api->looking = false;
    for (size_t i = 0; !ec_failed(err) && i < ec_rows_count(rows); i++) {
        for (struct live *at = api->lives; at; at = at->next) {
            if (strcmp(at->token_id, ec_rows_text(rows, i, "id")) == 0) {
                ec_stream_end(at->out);
            }
        }
    }
}

static void on_look(void *arg)
{
    struct api *api = arg;
    if (!api->lives || api->looking) {
        return;
    }
    ec_cleanup(ec_buf_done) struct ec_buf ids;
    ec_buf_init(&ids, (STREAMS_MAX + 1) * (EC_ID_SIZE + 1));
    for (const struct live *at = api->lives; at; at = at->next) {
        ec_buf_addf(&ids, "%c%s", at == api->lives ? '{' : ',', at->token_id);
    }
    ec_buf_add(&ids, "}", 2); /* with the end of a text */
    struct ec_err err = ec_store_exec(api->store, ended_sql, ARGS(ids.ptr), on_ended, api);
    api->looking = !ec_failed(err); /* else the next tick asks */
}

void live_start(struct api *api)
{
    api->live_timer = ec_timer_new(api->loop, on_look, api);
    ec_timer_start(api->live_timer, LOOK_MS, LOOK_MS);
}
