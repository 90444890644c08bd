/* The wire check: walks a packed message by its descriptor before protobuf-c sees it. protobuf-c
 * has no limit on nesting (34 kB can overflow the stack) and does not validate UTF-8; this does,
 * without allocating. What passes may still be refused by protobuf-c, never the other way round
 * unsafe. */
#include "bus/internal.h"

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

/* Length of the UTF-8 sequence at p (1..4), or 0; RFC 3629: no overlong forms, no surrogates. */
static unsigned utf8_len(const uint8_t *p, size_t left)
{
    static const struct {
        uint8_t from, to, second_from, second_to, len;
    } forms[] = {
        {0x01, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        unsigned len = forms[i].len;
        if (p[0] < forms[i].from || p[0] > forms[i].to || len > left) {
            continue;
        }
        bool good = len < 2 || (p[1] >= forms[i].second_from && p[1] <= forms[i].second_to);
        for (unsigned k = 2; k < len; k++) {
            good = good && (p[k] & 0xc0) == 0x80;
        }
        return good ? len : 0;
    }
    return 0;
}

bool bus_utf8_valid(struct ec_span text)
{
    const uint8_t *p = (const uint8_t *)text.ptr;
    for (size_t i = 0; i < text.len;) {
        if (p[i] >= 0x20 && p[i] < 0x80) {
            i++;
            continue;
        }
        unsigned len = utf8_len(p + i, text.len - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
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
