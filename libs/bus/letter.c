/* Reading dead letters, and headers as packed bytes so that they can be kept in a database and put
 * back as they came. A letter may be anything, so nothing in it is believed: what is no text
 * becomes "" or is cleaned for people. Packed: per header two big-endian 32-bit lengths (name,
 * value; all ones = no value), name, value. */
#include "bus/internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"

#define NO_VALUE UINT32_MAX
#define TEXT_MAX_BYTES 2048

const char *const bus_letter_headers[] = {"dead_reason", "dead_topic",         "dead_partition",
                                          "dead_offset", "dead_group",         "dead_time",
                                          "dead_bytes",  EC_HEADER_REPLAY_FOR, NULL};

/* ---- packed headers ---- */

static uint32_t read_u32(const char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return ntohl(value);
}

static char *write_u32(char *at, uint32_t value)
{
    value = htonl(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

bool ec_header_next(struct ec_span packed, size_t *at, struct ec_span *ret_name,
                    struct ec_span *ret_value)
{
    if (packed.len < *at + 8) {
        return false;
    }
    const char *head = packed.ptr + *at;
    uint32_t name_len = read_u32(head), value_len = read_u32(head + 4);
    size_t value_size = value_len == NO_VALUE ? 0 : value_len, left = packed.len - *at - 8;
    if (name_len > left || value_size > left - name_len) {
        return false;
    }
    *ret_name = (struct ec_span){head + 8, name_len};
    *ret_value = (struct ec_span){value_len == NO_VALUE ? NULL : head + 8 + name_len, value_size};
    *at += 8 + name_len + value_size;
    return true;
}

static char *write_header(char *at, struct ec_span name, struct ec_span value)
{
    at = write_u32(at, (uint32_t)name.len);
    at = write_u32(at, value.ptr ? (uint32_t)value.len : NO_VALUE);
    memcpy(at, name.ptr, name.len);
    if (value.len > 0) {
        memcpy(at + name.len, value.ptr, value.len);
    }
    return at + name.len + value.len;
}

struct ec_span ec_header_add(struct ec_arena *arena, struct ec_span packed, const char *name,
                             const char *value)
{
    size_t size = packed.len + 8 + strlen(name) + strlen(value);
    char *bytes = ec_arena_alloc(arena, size);
    if (packed.len > 0) {
        memcpy(bytes, packed.ptr, packed.len);
    }
    write_header(bytes + packed.len, ec_span_of(name), ec_span_of(value));
    return (struct ec_span){bytes, size};
}

rd_kafka_headers_t *bus_headers_unpack(struct ec_span packed)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    struct ec_span name, value;
    for (size_t at = 0; ec_header_next(packed, &at, &name, &value);) {
        rd_kafka_header_add(headers, name.ptr, (ssize_t)name.len, value.ptr, (ssize_t)value.len);
    }
    return headers;
}

static bool is_letters_own(const char *name)
{
    for (size_t i = 0; bus_letter_headers[i]; i++) {
        if (strcmp(name, bus_letter_headers[i]) == 0) {
            return true;
        }
    }
    return false;
}

static struct ec_span pack_original(struct ec_event *ev)
{
    const char *name;
    const void *value;
    size_t len, size = 1;
    for (size_t i = 0; !rd_kafka_header_get_all(ev->headers, i, &name, &value, &len); i++) {
        size += 8 + strlen(name) + len;
    }
    char *bytes = ec_arena_alloc(ev->arena, size), *at = bytes;
    for (size_t i = 0; !rd_kafka_header_get_all(ev->headers, i, &name, &value, &len); i++) {
        if (!is_letters_own(name)) {
            at = write_header(at, ec_span_of(name), (struct ec_span){value, value ? len : 0});
        }
    }
    return (struct ec_span){bytes, (size_t)(at - bytes)};
}

/* ---- letters ---- */

/* The last header of that name as clean text; "" = none. */
static const char *header_text(struct ec_event *ev, const char *name)
{
    const void *value;
    size_t len;
    if (!ev->headers || rd_kafka_header_get_last(ev->headers, name, &value, &len) || !value) {
        return "";
    }
    return ec_text_clean(ev->arena, (struct ec_span){value, len}, TEXT_MAX_BYTES);
}

static int64_t header_number(struct ec_event *ev, const char *name, int64_t most)
{
    const char *text = header_text(ev, name);
    char *end;
    long long value = strtoll(text, &end, 10);
    return *text && !*end && value >= 0 && value <= most ? value : 0;
}

void bus_letter_decode(struct ec_event *ev, const rd_kafka_message_t *message)
{
    struct ec_letter *letter = ec_arena_alloc(ev->arena, sizeof *letter);
    ev->letter = letter;
    ev->raw = ec_arena_copy(ev->arena, (struct ec_span){message->payload ? message->payload : "",
                                                        message->payload ? message->len : 0});
    if (message->key) {
        letter->key = ec_arena_copy(ev->arena, (struct ec_span){message->key, message->key_len});
        ev->key = ec_text_clean(ev->arena, letter->key, TEXT_MAX_BYTES);
    }
    ev->id = header_text(ev, "ce_id");
    ev->type = header_text(ev, "ce_type");
    ev->subject = header_text(ev, "ce_subject");
    ev->time_unix_ms = ec_rfc3339_parse(header_text(ev, "ce_time"));
    const char *trace = header_text(ev, "traceparent");
    if (strlen(trace) < sizeof ev->trace.parent) {
        memcpy(ev->trace.parent, trace, strlen(trace) + 1);
    }
    letter->reason = header_text(ev, "dead_reason");
    letter->topic = header_text(ev, "dead_topic");
    letter->group = header_text(ev, "dead_group");
    letter->partition = (int32_t)header_number(ev, "dead_partition", INT32_MAX);
    letter->offset = header_number(ev, "dead_offset", INT64_MAX);
    letter->tombstone = ev->tombstone;
    letter->left_out_bytes = header_number(ev, "dead_bytes", INT64_MAX);
    letter->time_unix_ms = ec_rfc3339_parse(header_text(ev, "dead_time"));
    letter->headers = ev->headers ? pack_original(ev) : (struct ec_span){"", 0};
    if (!*letter->topic || !*letter->group) { /* not written by our bus: it is known by itself */
        letter->topic = ev->topic;
        letter->group = "?";
        letter->partition = ev->part->number;
        letter->offset = ev->offset;
        letter->reason = "a record in a dead-letter topic that says not where it came from";
    }
    ev->route = bus_route_find(ev->consumer, ev->type);
}

const struct ec_letter *ec_event_letter(const struct ec_event *ev)
{
    return ev->letter;
}
