/* A record as anybody with access to a topic may write it: headers, one "name: value" a line, an
 * empty line, the key on a line, then the value. What is accepted is a CloudEvent whose texts are
 * UTF-8 and whose body says the same when it is packed again; what it takes is bounded. */
#include "base/mem.h"
#include "bus/internal.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "fuzz.h"

static const struct ec_route routes[] = {
    {"dev.enclii.push.received.v1", &enclii__v1__push_received__descriptor, NULL},
    {"dev.enclii.build.run.v1", &enclii__v1__run_build__descriptor, NULL},
    {"dev.enclii.build.log.v1", &enclii__v1__build_log__descriptor, NULL},
    {"raw", NULL, NULL},
};

static rd_kafka_headers_t *read_headers(struct ec_arena *arena, struct ec_span *rest)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    struct ec_span line;
    while (rest->len > 0 && (line = take_until(rest, '\n')).len > 0) {
        const char *name = ec_arena_text(arena, take_until(&line, ':'));
        size_t space = line.len > 0 && line.ptr[0] == ' ';
        rd_kafka_header_add(headers, name, -1, line.ptr + space, (ssize_t)(line.len - space));
    }
    return headers;
}

static void check_body(const struct ec_event *ev)
{
    const ProtobufCMessage *body = ev->body;
    size_t size = protobuf_c_message_get_packed_size(body);
    uint8_t *packed = ec_alloc(size + 1);
    protobuf_c_message_pack(body, packed);
    check(bus_wire_check(body->descriptor, (struct ec_span){(const char *)packed, size}) == NULL);
    ProtobufCMessage *again = protobuf_c_message_unpack(body->descriptor, NULL, size, packed);
    check(again && protobuf_c_message_get_packed_size(again) == size);
    protobuf_c_message_free_unpacked(again, NULL);
    free(packed);
}

static void check_event(const struct ec_event *ev, struct ec_span value)
{
    check(ev->id[0] && ev->type[0] && ec_span_eq(ev->raw, value));
    const char *const texts[] = {ev->id, ev->type, ev->subject, ev->key};
    for (size_t i = 0; i < EC_LEN(texts); i++) {
        check(ec_utf8_valid(ec_span_of(texts[i])) && strlen(texts[i]) <= BUS_HEADER_MAX_BYTES);
    }
    check(!ev->route || strcmp(ev->route->type, ev->type) == 0);
    check((ev->body != NULL) == (ev->route && ev->route->descriptor));
    if (ev->body) {
        check_body(ev);
    }
}

/* The record as one of a topic, whose contract it then has to keep, or of a foreign topic. */
static void read_as(const char *topic, struct ec_event *ev, const rd_kafka_message_t *message)
{
    struct bus_partition part = {.contract = ec_topic_find(topic)};
    struct ec_span value = {message->payload, message->len};
    size_t before = ec_arena_used_bytes(ev->arena);
    ev->part = &part;
    ev->topic = topic;
    ev->id = ev->type = ev->subject = ev->key = "";
    struct ec_err err = bus_event_read(ev, message);
    check(ec_failed(err) ? err.fate == EC_FATE_REJECT && err.what[0] : true);
    if (!ec_failed(err) && !ev->elsewhere) {
        check_event(ev, value);
    }
    check(ec_arena_used_bytes(ev->arena) - before <= value.len * (BUS_UNPACK_GROWTH + 2) +
                                                         BUS_UNPACK_FLOOR_BYTES +
                                                         2 * message->key_len + 65536 * 2);
    ev->route = NULL;
    ev->body = NULL;
    ev->elsewhere = false;
    ev->part = NULL;
}

/* The same record found in a dead-letter topic: everything is shown, nothing is believed. */
static void read_as_letter(struct ec_event *ev, const rd_kafka_message_t *message)
{
    struct bus_partition part = {.number = 1};
    ev->part = &part;
    ev->topic = "dead.x";
    ev->id = ev->type = ev->subject = ev->key = "";
    bus_letter_decode(ev, message);
    const struct ec_letter *letter = ec_event_letter(ev);
    const char *const texts[] = {ev->id,         ev->type,      ev->subject,  ev->key,
                                 letter->reason, letter->topic, letter->group};
    for (size_t i = 0; i < EC_LEN(texts); i++) {
        check_shown(texts[i], 2048, true);
    }
    check(letter->partition >= 0 && letter->offset >= 0 && letter->left_out_bytes >= 0);
    rd_kafka_headers_t *again = bus_headers_unpack(letter->headers);
    check(rd_kafka_header_cnt(again) <= rd_kafka_header_cnt(ev->headers));
    rd_kafka_headers_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *input = ec_arena_new(16 << 20);
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 << 20);
    struct ec_consumer consumer = {.routes = routes, .route_count = EC_LEN(routes)};
    struct ec_event ev = {.consumer = &consumer, .arena = arena, .time_unix_ms = -1};
    struct ec_span rest = span_of_input(bytes, len);
    ev.headers = read_headers(input, &rest);
    struct ec_span key = take_until(&rest, '\n');
    rd_kafka_message_t message = {.key = (void *)(uintptr_t)key.ptr,
                                  .key_len = key.len,
                                  .payload = (void *)(uintptr_t)rest.ptr,
                                  .len = rest.len};
    read_as(EC_TOPIC_INTAKE, &ev, &message);
    read_as(EC_TOPIC_BUILD_COMMANDS, &ev, &message);
    read_as("foreign", &ev, &message);
    read_as_letter(&ev, &message);
    struct ec_span name, value;
    for (size_t at = 0; ec_header_next(rest, &at, &name, &value);) {
        check(name.ptr + name.len <= rest.ptr + rest.len && at <= rest.len);
    }
    rd_kafka_headers_destroy(ev.headers);
    return 0;
}
