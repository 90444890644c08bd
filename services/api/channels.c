/* Channels: where notifications of a project go. A secret is sealed here, once, and never given out
 * again; `notifier` opens it with the same key and the context "channel/<id>". */
#include <string.h>

#include "api.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/notification.pb-c.h"
#include "trust/seal.h"

#define EVENT_TYPES_MAX 64
#define CHANNEL_COLUMNS "id project_id kind name url @event_types !enabled !has_secret created_at"
/* clang-format off */
#define CHANNEL_SQL \
    "select c.id, c.project_id, c.kind, c.name, c.url, c.event_types, c.enabled," \
    " c.sealed_secret <> '' as has_secret" \
    ", " TIME("c.created_at", "created_at") \
    " from enclii.channel c"
/* clang-format on */

static void on_channel_created(struct call *call, const struct ec_batch *batch)
{
    size_t last = ec_batch_count(batch) - 1;
    call_reply(call, 201, render_row(ec_batch_rows(batch, last), 0, CHANNEL_COLUMNS));
}

/* Only the scheme and form; `notifier` refuses private addresses when it connects. */
static bool is_http_url(const char *url)
{
    return (strncmp(url, "https://", 8) == 0 && url[8]) ||
           (strncmp(url, "http://", 7) == 0 && url[7]);
}

/* False = answered. */
static bool seal(struct call *call, const json_t *body, const char *id, struct ec_span *ret_sealed)
{
    *ret_sealed = EC_SPAN("");
    if (!json_object_get(body, "secret")) {
        return true;
    }
    const char *secret = body_text(call, body, "secret", 512);
    if (!secret) {
        return false;
    }
    if (!call->api->settings.seal_key) {
        call_problem(call, 503, "sealing_not_set_up", "secret",
                     "this installation has no ENCLII_SEAL_KEY, so secrets cannot be kept");
        return false;
    }
    struct ec_err err =
        ec_seal(call->arena, call->api->settings.seal_key,
                ec_arena_format(call->arena, "channel/%s", id), ec_span_of(secret), ret_sealed);
    if (ec_failed(err)) {
        ec_reply_error(call->req, err, "sealing_failed");
        return false;
    }
    return true;
}

/* False = answered. */
static bool take_event_types(struct call *call, const json_t *body, Enclii__V1__ChannelSet *set)
{
    const json_t *list = json_object_get(body, "events");
    if (!list) {
        return true;
    }
    set->n_event_types = json_array_size(list);
    set->event_types = ec_arena_alloc(call->arena, (set->n_event_types + 1) * sizeof(char *));
    bool well = json_is_array(list) && set->n_event_types <= EVENT_TYPES_MAX;
    for (size_t i = 0; well && i < set->n_event_types; i++) {
        const char *type = json_string_value(json_array_get(list, i));
        well = type && strlen(type) <= 100;
        set->event_types[i] = well ? ec_arena_strdup(call->arena, type) : NULL;
    }
    if (!well) {
        call_problem(call, 400, "invalid_field", "events",
                     "events must be a list of at most 64 event types, like deployment.healthy");
    }
    return well;
}

static void write_channel(struct call *call, const json_t *body, Enclii__V1__ChannelSet *set)
{
    json_t *types = json_object_get(body, "events");
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch,
                 "insert into enclii.channel (id, project_id, kind, name, url, sealed_secret,"
                 " event_types) values ($1::uuid, $2::uuid, $3, $4, $5, $6::bytea, $7::jsonb)",
                 ARGS(set->channel_id, call->project_id, set->kind, set->name, set->url,
                      ec_bytea_arg(call->arena, (struct ec_span){(char *)set->sealed_secret.data,
                                                                 set->sealed_secret.len}),
                      types ? ec_json_dump(call->arena, types) : "[]"));
    outbox_add(call, batch,
               &(struct outbox_row){EC_TOPIC_CHANNELS, set->channel_id, "dev.enclii.channel.set.v1",
                                    NULL, NULL, &set->base});
    audit_add(call, batch,
              &(struct audit){"channel.create", "channel", set->channel_id, set->name, NULL});
    ec_batch_add(batch, CHANNEL_SQL " where c.id = $1::uuid", ARGS(set->channel_id));
    call_write(call, batch, on_channel_created);
}

void on_channel_create(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    const char *kind = body ? body_text(call, body, "kind", 16) : NULL;
    const char *name = kind ? body_text(call, body, "name", 100) : NULL;
    const char *url = name ? body_text(call, body, "url", 2000) : NULL;
    if (!url) {
        return;
    }
    if (strcmp(kind, "webhook") != 0 && strcmp(kind, "github") != 0) {
        call_problem(call, 400, "invalid_field", "kind", "kind must be webhook or github");
        return;
    }
    if (!is_http_url(url)) {
        call_problem(call, 400, "invalid_field", "url", "url must start with https:// or http://");
        return;
    }
    struct ec_id id = ec_id_new();
    struct ec_span sealed;
    Enclii__V1__ChannelSet set = ENCLII__V1__CHANNEL_SET__INIT;
    if (!seal(call, body, id.text, &sealed) || !take_event_types(call, body, &set)) {
        return;
    }
    set.channel_id = id.text;
    set.project_id = ec_arena_strdup(call->arena, call->project_id);
    set.kind = ec_arena_strdup(call->arena, kind);
    set.name = ec_arena_strdup(call->arena, name);
    set.url = ec_arena_strdup(call->arena, url);
    set.sealed_secret.len = sealed.len;
    set.sealed_secret.data =
        memcpy(ec_arena_alloc(call->arena, sealed.len + 1), sealed.ptr, sealed.len);
    set.enabled = true;
    write_channel(call, body, &set);
}

static void on_channels(struct call *call, const struct ec_rows *rows)
{
    call_reply(call, 200, json_pack("{s:o}", "channels", render_list(rows, CHANNEL_COLUMNS)));
}

void on_channel_list(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call_query(
        call, CHANNEL_SQL " where c.project_id = $1::uuid order by c.created_at desc limit $2::int",
        ARGS(call->project_id, call_limit(call, 100)), on_channels);
}

static void on_channel_deleted(struct call *call, const struct ec_batch *batch)
{
    (void)batch;
    call_reply(call, 200, json_pack("{s:s}", "message", "channel removed"));
}

void on_channel_delete(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, "delete from enclii.channel where id = $1::uuid", ARGS(call->id));
    outbox_add(call, batch,
               &(struct outbox_row){.topic = EC_TOPIC_CHANNELS,
                                    .key = call->id,
                                    .type = "dev.enclii.channel.set.v1"});
    audit_add(call, batch, &(struct audit){"channel.delete", "channel", call->id, "", NULL});
    call_write(call, batch, on_channel_deleted);
}
