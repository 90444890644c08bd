/* The wire check: walks a packed message by its descriptor before protobuf-c sees it. protobuf-c
 * has no limit on nesting (34 kB can overflow the stack) and does not validate UTF-8; this does,
 * without allocating. What passes may still be refused by protobuf-c, never the other way round
 * unsafe. */
#include "bus/internal.h"

#include <string.h>

#include "base/encode.h"

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static bool read_varint(struct cursor *cur, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (cur->at == cur->end) {
            return false;
        }
        uint8_t byte = *cur->at++;
        if (shift < 64) {
            value |= (uint64_t)(byte & 0x7f) << shift;
        }
        if (!(byte & 0x80)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool skip(struct cursor *cur, uint64_t count)
{
    if (count > (uint64_t)(cur->end - cur->at)) {
        return false;
    }
    cur->at += count;
    return true;
}

bool bus_utf8_valid(struct ec_span text)
{
    return ec_utf8_valid(text) && (text.len == 0 || !memchr(text.ptr, 0, text.len));
}

static const char *check(const ProtobufCMessageDescriptor *descriptor, struct cursor cur,
                         unsigned depth);

static const char *check_bytes(const ProtobufCFieldDescriptor *field, struct cursor inner,
                               unsigned depth)
{
    struct ec_span span = {(const char *)inner.at, (size_t)(inner.end - inner.at)};
    if (field && field->type == PROTOBUF_C_TYPE_STRING && !bus_utf8_valid(span)) {
        return "a text is not UTF-8";
    }
    if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return check(field->descriptor, inner, depth + 1);
    }
    return NULL;
}

static const char *check(const ProtobufCMessageDescriptor *descriptor, struct cursor cur,
                         unsigned depth)
{
    if (depth > BUS_DEPTH_MAX) {
        return "messages are nested too deep";
    }
    while (cur.at < cur.end) {
        uint64_t tag, value;
        bool good = read_varint(&cur, &tag) && tag >> 3 != 0 && tag >> 3 < (1u << 29);
        switch (good ? tag & 7 : 7) {
        case 0:
            good = read_varint(&cur, &value);
            break;
        case 1:
            good = skip(&cur, 8);
            break;
        case 5:
            good = skip(&cur, 4);
            break;
        case 2: {
            const uint8_t *start;
            good = read_varint(&cur, &value) && (start = cur.at, skip(&cur, value));
            const char *why = !good ? NULL
                                    : check_bytes(protobuf_c_message_descriptor_get_field(
                                                      descriptor, (unsigned)(tag >> 3)),
                                                  (struct cursor){start, cur.at}, depth);
            if (why) {
                return why;
            }
            break;
        }
        default: /* groups and unknown wire types */
            good = false;
        }
        if (!good) {
            return "the bytes are not a protobuf message";
        }
    }
    return NULL;
}

const char *bus_wire_check(const ProtobufCMessageDescriptor *descriptor, struct ec_span bytes)
{
    const uint8_t *start = (const uint8_t *)bytes.ptr;
    return check(descriptor, (struct cursor){start, start + bytes.len}, 1);
}
