/* Records and CloudEvents (binary mode of the Kafka protocol binding): headers in and out, the
 * event's life in its arena, and the decoding of strangers' bytes within stated limits. */
#include "bus/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/catalog.h"

/* ---- out ---- */

static void add_header(rd_kafka_headers_t *headers, const char *name, const char *value)
{
    rd_kafka_header_add(headers, name, -1, value, -1);
}

rd_kafka_headers_t *bus_headers_new(const struct ec_bus *bus, const struct ec_message *message)
{
    char time[EC_RFC3339_SIZE];
    ec_rfc3339(message->time_unix_ms ? message->time_unix_ms : ec_unix_ms(), time);
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    add_header(headers, "ce_specversion", "1.0");
    add_header(headers, "ce_id", message->id);
    add_header(headers, "ce_source", bus->source_name);
    add_header(headers, "ce_type", message->type);
    add_header(headers, "ce_time", time);
    add_header(headers, "ce_subject", message->subject ? message->subject : message->key);
    add_header(headers, "content-type", "application/protobuf");
    if (message->trace) {
        add_header(headers, "traceparent", message->trace);
    }
    return headers;
}

/* ---- arenas: most events are small, so their arenas are used again ---- */

struct ec_arena *bus_arena_take(struct ec_bus *bus)
{
    return bus->kept_count > 0 ? bus->kept[--bus->kept_count] : ec_arena_new(BUS_EVENT_ARENA_BYTES);
}

void bus_arena_give(struct ec_bus *bus, struct ec_arena *arena)
{
    if (bus->kept_count < BUS_ARENAS_KEPT && ec_arena_used_bytes(arena) <= 65536) {
        ec_arena_reset(arena);
        bus->kept[bus->kept_count++] = arena;
    } else {
        ec_arena_free(arena);
    }
}

struct ec_event *bus_event_new(struct ec_consumer *consumer, const rd_kafka_message_t *message)
{
    struct ec_event *ev = ec_alloc(sizeof *ev);
    ev->consumer = consumer;
    ev->arena = bus_arena_take(consumer->bus);
    ev->topic = ec_arena_strdup(ev->arena, rd_kafka_topic_name(message->rkt));
    ev->part = bus_consumer_part(consumer, ev->topic, message->partition);
    ev->epoch = ev->part->epoch;
    ev->offset = message->offset;
    ev->tombstone = message->payload == NULL;
    ev->id = ev->type = ev->subject = ev->key = "";
    /* Detaching is the cheap way to keep headers; the const of the events API is only about who
     * frees the message. */
    if (rd_kafka_message_detach_headers((rd_kafka_message_t *)(uintptr_t)message, &ev->headers)) {
        ev->headers = NULL;
    }
    return ev;
}

void bus_event_drop_body(struct ec_event *ev)
{
    if (ev->headers) {
        rd_kafka_headers_destroy(ev->headers);
        ev->headers = NULL;
    }
    if (ev->timer) {
        ec_timer_free(ev->timer);
        ev->timer = NULL;
    }
    if (ev->arena) {
        bus_arena_give(ev->consumer->bus, ev->arena);
        ev->arena = NULL;
    }
}

void bus_event_free(struct ec_event *ev)
{
    bus_event_drop_body(ev);
    free(ev);
}

/* ---- in: headers ---- */

static struct ec_err take_header(struct ec_event *ev, const char *name, struct ec_span value)
{
    static const struct {
        const char *name;
        size_t offset;
    } known[] = {
        {"ce_id", offsetof(struct ec_event, id)},
        {"ce_type", offsetof(struct ec_event, type)},
        {"ce_subject", offsetof(struct ec_event, subject)},
    };
    if (value.len > BUS_HEADER_MAX_BYTES || !bus_utf8_valid(value)) {
        return ec_reject_in(ev->arena, "header %.64s is too long or not UTF-8", name);
    }
    for (size_t i = 0; i < EC_LEN(known); i++) {
        if (strcmp(name, known[i].name) == 0) {
            const char *text = ec_arena_text(ev->arena, value);
            memcpy((char *)ev + known[i].offset, &text, sizeof text);
        }
    }
    if (strcmp(name, "ce_specversion") == 0 && !ec_span_is(value, "1.0")) {
        return ec_reject("header ce_specversion is not 1.0");
    }
    if (strcmp(name, "ce_time") == 0) {
        ev->time_unix_ms = ec_rfc3339_parse(ec_arena_text(ev->arena, value));
    }
    if (strcmp(name, "traceparent") == 0 && value.len < EC_TRACEPARENT_SIZE) {
        memcpy(ev->trace.parent, value.ptr, value.len);
        ev->trace.parent[value.len] = '\0';
    }
    return ec_ok();
}

/* A replay is for the group that failed, and for nobody else (docs/decisions). */
static bool for_another(const struct ec_event *ev)
{
    const void *value;
    size_t len;
    if (!ev->headers || rd_kafka_header_get_last(ev->headers, EC_HEADER_REPLAY_FOR, &value, &len)) {
        return false;
    }
    const char *we = ev->consumer->mourner;
    return !we || !ec_span_is((struct ec_span){value ? value : "", value ? len : 0}, we);
}

static EC_RESULT take_headers(struct ec_event *ev)
{
    const rd_kafka_headers_t *headers = ev->headers;
    if (!headers) {
        return ec_reject("the record has no headers, so it is no CloudEvent");
    }
    if (rd_kafka_header_cnt(headers) > BUS_HEADERS_MAX) {
        return ec_reject("the record has more than 32 headers");
    }
    const char *name;
    const void *value;
    size_t len;
    for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &name, &value, &len); i++) {
        EC_TRY(take_header(ev, name, (struct ec_span){value ? value : "", value ? len : 0}));
    }
    if (!*ev->id || !*ev->type) {
        return ec_reject("header ce_id or ce_type is missing");
    }
    return ec_ok();
}

/* ---- in: the body ---- */

/* protobuf-c's allocator: the event's arena, with a budget that grows with the input only. */
struct budget {
    struct ec_arena *arena;
    size_t left;
};

static void *budget_alloc(void *data, size_t size)
{
    struct budget *budget = data;
    if (size > budget->left) {
        return NULL;
    }
    budget->left -= size;
    return ec_arena_try(budget->arena, size);
}

static void budget_free(void *data, void *memory)
{
    (void)data;
    (void)memory; /* dies with the arena */
}

EC_RESULT ec_message_unpack(struct ec_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                            struct ec_span bytes, const ProtobufCMessage **ret_message)
{
    const char *why = bus_wire_check(descriptor, bytes);
    if (why) {
        return ec_reject_in(arena, "%s: %s", descriptor->name, why);
    }
    struct budget budget = {arena, bytes.len * BUS_UNPACK_GROWTH + BUS_UNPACK_FLOOR_BYTES};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
    const ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, &allocator, bytes.len, (const uint8_t *)bytes.ptr);
    if (!message) {
        return ec_reject_in(arena, "%s: malformed, or too large when unpacked", descriptor->name);
    }
    *ret_message = message;
    return ec_ok();
}

static EC_RESULT take_value(struct ec_event *ev, const rd_kafka_message_t *message)
{
    if (message->len > BUS_VALUE_MAX_BYTES) {
        ev->left_out_bytes = (int64_t)message->len;
        return ec_reject("the record is larger than 8 MiB");
    }
    ev->raw = ec_arena_copy(ev->arena, (struct ec_span){message->payload ? message->payload : "",
                                                        message->payload ? message->len : 0});
    return ec_ok();
}

static EC_RESULT take_key(struct ec_event *ev, const rd_kafka_message_t *message)
{
    if (!message->key) {
        return ec_ok(); /* "": all records without a key are one lane */
    }
    ev->key_bytes = ec_arena_copy(ev->arena, (struct ec_span){message->key, message->key_len});
    if (message->key_len > BUS_KEY_MAX_BYTES || !bus_utf8_valid(ev->key_bytes)) {
        return ec_reject("the key is longer than 512 bytes or not UTF-8");
    }
    ev->key = ec_arena_text(ev->arena, ev->key_bytes);
    return ec_ok();
}

EC_RESULT bus_event_read(struct ec_event *ev, const rd_kafka_message_t *message)
{
    struct ec_err key = take_key(ev, message), value = take_value(ev, message);
    if (for_another(ev)) {
        ev->elsewhere = true;
        return ec_ok();
    }
    EC_TRY(value);
    EC_TRY(key);
    EC_TRY(take_headers(ev));
    ev->route = bus_route_find(ev->consumer, ev->type);
    EC_TRY(bus_contract_type(ev));
    if (ev->route && ev->route->descriptor && !ev->tombstone) {
        const ProtobufCMessage *body = NULL;
        EC_TRY(ec_message_unpack(ev->arena, ev->route->descriptor, ev->raw, &body));
        ev->body = body;
    }
    return bus_contract_key(ev);
}

EC_RESULT bus_event_decode(struct ec_event *ev, const rd_kafka_message_t *message)
{
    ev->time_unix_ms = -1;
    struct ec_err err = ec_ok();
    if (ev->consumer->letters) {
        bus_letter_decode(ev, message);
    } else {
        err = bus_event_read(ev, message);
    }
    if (!ec_trace_valid(ev->trace.parent)) {
        ev->trace = ec_trace_new();
    }
    if (ev->time_unix_ms < 0) {
        ev->time_unix_ms = rd_kafka_message_timestamp(message, NULL);
    }
    if (!*ev->subject) {
        ev->subject = ev->key;
    }
    return err;
}

/* ---- accessors ---- */

const char *ec_event_id(const struct ec_event *ev)
{
    return ev->id;
}
const char *ec_event_type(const struct ec_event *ev)
{
    return ev->type;
}
const char *ec_event_subject(const struct ec_event *ev)
{
    return ev->subject;
}
const char *ec_event_key(const struct ec_event *ev)
{
    return ev->key;
}
const char *ec_event_topic(const struct ec_event *ev)
{
    return ev->topic;
}
const char *ec_event_trace(const struct ec_event *ev)
{
    return ev->trace.parent;
}
int64_t ec_event_time_unix_ms(const struct ec_event *ev)
{
    return ev->time_unix_ms;
}
int32_t ec_event_partition(const struct ec_event *ev)
{
    return ev->part->number;
}
int64_t ec_event_offset(const struct ec_event *ev)
{
    return ev->offset;
}
const void *ec_event_body(const struct ec_event *ev)
{
    return ev->body;
}
struct ec_span ec_event_raw(const struct ec_event *ev)
{
    return ev->raw;
}
struct ec_arena *ec_event_arena(struct ec_event *ev)
{
    return ev->arena;
}
