/* Dead letters for administrators of the whole platform: list, look at, put back, let go. Putting
 * back is an outbox row with the record's own headers and ce_replayfor, in one transaction with the
 * letter's new state and the audit record; `pipeline` relays it. The rules are in
 * docs/decisions/0008-dead-letters.md. */
#include <string.h>

#include "api.h"
#include "base/encode.h"
#include "base/mem.h"
#include "bus/catalog.h"
#include "bus/topics.h"

#define SHOWN_MAX_BYTES (16u << 10) /* of a value, as base64 */
#define REPLAYS_MAX "100"           /* in the outbox at once: the relay holds them in memory */

#define LETTER_COLUMNS                                                                             \
    "id state consumer_group topic #partition #offset reason event_id event_type subject trace "   \
    "?event_at dead_at ?settled_at ?settled_by ?settled_why #value_bytes #left_out_bytes"
/* clang-format off */
#define LETTER_SQL \
    "select d.id, d.state, d.consumer_group, d.topic, d.partition, d.position as \"offset\"," \
    " d.reason, d.event_id, d.event_type, d.subject, d.trace, d.settled_by, d.settled_why," \
    " d.key, coalesce(length(d.value), 0) as value_bytes, d.left_out_bytes" \
    ", " TIME("d.event_at", "event_at") \
    ", " TIME("d.dead_at", "dead_at") \
    ", " TIME("d.settled_at", "settled_at")
/* clang-format on */

/* A token for one project sees nothing of the others, and letters belong to no project. */
static struct call *platform_admin(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    if (call->who.project_id[0]) {
        call_problem(call, 403, "forbidden", NULL,
                     "this token is for one project; dead letters need an admin token for all");
        return NULL;
    }
    return call;
}

/* The same for routes with {id}; NULL = answered. */
static struct call *letter_call(void *state, struct ec_request *req)
{
    struct call *call = platform_admin(state, req);
    if (call && !ec_id_valid(call->id = ec_request_param(req, "id"))) {
        call_problem(call, 400, "invalid_id", "id", "the id of a dead letter is a lower-case UUID");
        return NULL;
    }
    return call;
}

/* False = answered. */
static bool found(struct call *call, const struct ec_rows *rows)
{
    if (ec_rows_count(rows) == 0) {
        call_problem(call, 404, "not_found", "id", "there is no such dead letter");
        return false;
    }
    return true;
}

static void set_bytes(json_t *object, const char *name, struct ec_arena *arena,
                      struct ec_span bytes)
{
    if (bytes.len == 0 || (ec_utf8_valid(bytes) && !memchr(bytes.ptr, '\0', bytes.len))) {
        json_object_set_new(object, name, json_stringn(bytes.len ? bytes.ptr : "", bytes.len));
        return;
    }
    const char *other = ec_arena_format(arena, "%s_base64", name);
    json_object_set_new(object, other, json_string(ec_base64(arena, bytes)));
}

static json_t *render_letter(const struct ec_rows *rows, size_t row, struct ec_arena *arena)
{
    json_t *letter = render_row(rows, row, LETTER_COLUMNS);
    if (!ec_rows_null(rows, row, "key")) {
        set_bytes(letter, "key", arena, ec_rows_bytes(rows, row, "key", arena));
    }
    return letter;
}

/* ---- list ---- */

static void on_letters(struct call *call, const struct ec_batch *batch)
{
    const struct ec_rows *counts = ec_batch_rows(batch, 1);
    call_reply(call, 200,
               json_pack("{s:o, s:I}", "dead_letters",
                         render_each(ec_batch_rows(batch, 0), call->arena, render_letter), "open",
                         (json_int_t)ec_rows_int(counts, 0, "open")));
}

static const char *filter(const struct call *call, const char *name, const char *otherwise)
{
    const char *value = ec_request_query(call->req, name);
    return value ? value : otherwise;
}

void on_dead_list(void *state, struct ec_request *req)
{
    struct call *call = platform_admin(state, req);
    if (!call) {
        return;
    }
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(
        batch,
        LETTER_SQL
        " from enclii.dead_letter d where ($1 = 'all' or d.state = $1) and ($2 = '' or"
        " d.consumer_group = $2) and ($3 = '' or d.topic = $3) and ($4 = '' or d.event_type = $4"
        " or d.event_type = 'dev.enclii.' || $4 || '.v1') and starts_with(d.id::text, $6) order by "
        "d.dead_at desc, d.id"
        " limit $5::int",
        ARGS(filter(call, "state", "open"), filter(call, "group", ""), filter(call, "topic", ""),
             filter(call, "type", ""), call_limit(call, 100), filter(call, "id", "")));
    ec_batch_add(batch, "select count(*) as open from enclii.dead_letter where state = 'open'",
                 NULL, 0);
    call_read(call, batch, on_letters);
}

/* ---- one ---- */

static json_t *render_headers(struct ec_arena *arena, struct ec_span packed)
{
    json_t *list = json_array();
    struct ec_span name, value;
    for (size_t at = 0; ec_header_next(packed, &at, &name, &value);) {
        json_t *header = json_object();
        set_bytes(header, "name", arena, name);
        set_bytes(header, "value", arena, value.ptr ? value : EC_SPAN(""));
        json_array_append_new(list, header);
    }
    return list;
}

/* What the value says, if it is a message we know: else why not. */
static void set_message(json_t *letter, struct ec_arena *arena, const char *type,
                        struct ec_span value)
{
    const ProtobufCMessageDescriptor *descriptor = ec_catalog_find(type);
    const ProtobufCMessage *message = NULL;
    struct ec_err err = descriptor ? ec_message_unpack(arena, descriptor, value, &message)
                                   : ec_reject("no message of this type is known here");
    if (ec_failed(err)) {
        json_object_set_new(letter, "message_error", json_string(err.what));
    } else {
        json_object_set_new(letter, "message", ec_message_json(message));
    }
}

static void on_letter(struct call *call, const struct ec_rows *rows)
{
    if (!found(call, rows)) {
        return;
    }
    /* Of its own: a value of 1 MiB may unpack to sixteen times as much. */
    struct ec_arena *arena = ec_arena_new((size_t)64 << 20);
    json_t *letter = render_letter(rows, 0, arena);
    json_object_set_new(letter, "headers",
                        render_headers(arena, ec_rows_bytes(rows, 0, "headers", arena)));
    if (!ec_rows_null(rows, 0, "value")) {
        struct ec_span value = ec_rows_bytes(rows, 0, "value", arena), shown = value;
        shown.len = shown.len > SHOWN_MAX_BYTES ? SHOWN_MAX_BYTES : shown.len;
        json_object_set_new(letter, "value_base64", json_string(ec_base64(arena, shown)));
        set_message(letter, arena, ec_rows_text(rows, 0, "event_type"), value);
    }
    call_reply(call, 200, letter);
    ec_arena_free(arena);
}

void on_dead_get(void *state, struct ec_request *req)
{
    struct call *call = letter_call(state, req);
    if (call) {
        call_query(
            call, LETTER_SQL ", d.headers, d.value from enclii.dead_letter d where d.id = $1::uuid",
            ARGS(call->id), on_letter);
    }
}

/* ---- settling ---- */

static void on_settled(struct call *call, const struct ec_batch *batch)
{
    size_t last = ec_batch_count(batch) - 1;
    call_reply(call, 200, render_letter(ec_batch_rows(batch, last), 0, call->arena));
}

/* Adds the letter's new state, the audit record and the answer; runs the batch. */
static void settle(struct call *call, struct ec_batch *batch, const struct ec_rows *rows,
                   const char *to_state, const char *why)
{
    bool replayed = strcmp(to_state, "REPLAYED") == 0;
    ec_batch_add(batch,
                 "with u as (update enclii.dead_letter set state = $2, settled_at = now(),"
                 " settled_by = $3, settled_why = $4 where id = $1::uuid and state = 'open'"
                 " returning 1) select ec_expect(1, count(*)) from u",
                 ARGS(call->id, to_state, call->who.name, why));
    audit_add_why(call, batch,
                  &(struct audit){.action = replayed ? "dead_letter.replay" : "dead_letter.discard",
                                  .resource_type = "dead_letter",
                                  .resource_id = call->id,
                                  .resource_name = ec_rows_text(rows, 0, "event_type")},
                  why);
    ec_batch_add(batch, LETTER_SQL " from enclii.dead_letter d where d.id = $1::uuid",
                 ARGS(call->id));
    call_write(call, batch, on_settled);
}

/* False = answered. */
static bool is_open(struct call *call, const struct ec_rows *rows)
{
    if (!found(call, rows)) {
        return false;
    }
    const char *by = ec_rows_text(rows, 0, "settled_by");
    if (strcmp(ec_rows_text(rows, 0, "state"), "open") == 0) {
        return true;
    }
    call_problem(call, 409, "already_settled", NULL,
                 ec_arena_format(call->arena, "this letter was %s by %s at %s",
                                 strcmp(ec_rows_text(rows, 0, "state"), "REPLAYED") == 0
                                     ? "replayed"
                                     : "discarded",
                                 by, ec_rows_text(rows, 0, "settled_at")));
    return false;
}

/* Why a letter cannot go back, for people; NULL = it can. */
static const char *decide_not_replayable(const struct ec_rows *rows, struct ec_arena *arena)
{
    const char *name = ec_rows_text(rows, 0, "topic");
    const struct ec_topic *topic = ec_topic_find(name);
    struct ec_span key = ec_rows_bytes(rows, 0, "key", arena);
    if (!topic) {
        return "its topic is none of the platform's: discard it";
    }
    if (topic->compacted) {
        return "its topic keeps the newest record per key, so an old one must not come after it: "
               "restart the service that failed, it reads the topic from the beginning";
    }
    if (ec_rows_int(rows, 0, "left_out_bytes") > 0) {
        return "it was too large to be kept: whoever wrote it has to write it again";
    }
    if (key.len && (!ec_utf8_valid(key) || memchr(key.ptr, '\0', key.len))) {
        return "its key is not UTF-8, which every consumer refuses: discard it";
    }
    return NULL;
}

static void on_letter_to_replay(struct call *call, const struct ec_rows *rows)
{
    if (!is_open(call, rows)) {
        return;
    }
    const char *why_not = decide_not_replayable(rows, call->arena);
    if (why_not) {
        call_problem(call, 409, "not_replayable", NULL, why_not);
        return;
    }
    if (ec_rows_bool(rows, 0, "busy")) {
        ec_reply_header(call->req, "Retry-After", "2");
        call_problem(call, 503, "busy", NULL,
                     REPLAYS_MAX " replays are still on their way to Kafka; try again");
        return;
    }
    struct ec_span one = ec_header_add(call->arena, EC_SPAN(""), EC_HEADER_REPLAY_FOR,
                                       ec_rows_text(rows, 0, "consumer_group"));
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch,
                 "insert into enclii.outbox (topic, key, type, subject, event_id, trace, body,"
                 " headers) select topic, coalesce(convert_from(key, 'UTF8'), ''), event_type,"
                 " subject, event_id, trace, value, headers || $2::bytea from enclii.dead_letter"
                 " where id = $1::uuid and state = 'open'",
                 ARGS(call->id, ec_bytea_arg(call->arena, one)));
    settle(call, batch, rows, "REPLAYED", call->more);
}

static void on_letter_to_discard(struct call *call, const struct ec_rows *rows)
{
    if (is_open(call, rows)) {
        settle(call, ec_batch_new(call->api->store), rows, "DISCARDED", call->more);
    }
}

static const char busy_sql[] =
    LETTER_SQL ", (select count(*) >= " REPLAYS_MAX " from enclii.outbox where headers is not null)"
               " as busy from enclii.dead_letter d where d.id = $1::uuid";

void on_dead_replay(void *state, struct ec_request *req)
{
    struct call *call = letter_call(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call ? call_body(call) : NULL;
    const char *why = "";
    if (!body ||
        (json_object_get(body, "reason") && !(why = body_text(call, body, "reason", 500)))) {
        return;
    }
    call->more = ec_arena_strdup(call->arena, why);
    call_query(call, busy_sql, ARGS(call->id), on_letter_to_replay);
}

void on_dead_discard(void *state, struct ec_request *req)
{
    struct call *call = letter_call(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call ? call_body(call) : NULL;
    const char *why = body ? body_text(call, body, "reason", 500) : NULL;
    if (why) {
        call->more = ec_arena_strdup(call->arena, why);
        call_query(call, LETTER_SQL " from enclii.dead_letter d where d.id = $1::uuid",
                   ARGS(call->id), on_letter_to_discard);
    }
}
