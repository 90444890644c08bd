/* What a delivery is, decided from its headers and bytes alone. Pure. */
#include <string.h>
#include <strings.h>

#include "base/encode.h"
#include "webhook.h"

#define DELIVERY_ID_MAX_BYTES 128

/* "application/json; charset=utf-8" is application/json. */
static bool media_type_is(const char *header, const char *type)
{
    size_t len = strlen(type);
    return strncasecmp(header, type, len) == 0 &&
           (header[len] == '\0' || strchr("; \t", header[len]));
}

/* %XX and + of a form, in one pass into one buffer: the body may be as large as the arena allows.
 */
static bool decode_form(struct ec_arena *arena, struct ec_span text, struct ec_span *ret_value)
{
    char *out = ec_arena_try(arena, text.len + 1);
    size_t len = 0;
    if (!out) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if (byte == '%') {
            if (text.len - i < 3 || !ec_unhex((struct ec_span){text.ptr + i + 1, 2}, &byte, 1)) {
                return false;
            }
            i += 2;
        } else if (byte == '+') {
            byte = ' ';
        }
        out[len++] = (char)byte;
    }
    *ret_value = (struct ec_span){out, len};
    return true;
}

static bool form_field(struct ec_arena *arena, struct ec_span body, const char *name,
                       struct ec_span *ret_value)
{
    size_t name_len = strlen(name);
    for (size_t at = 0; at < body.len;) {
        const char *start = body.ptr + at;
        const char *amp = memchr(start, '&', body.len - at);
        size_t len = amp ? (size_t)(amp - start) : body.len - at;
        if (len > name_len && start[name_len] == '=' && memcmp(start, name, name_len) == 0) {
            return decode_form(arena, (struct ec_span){start + name_len + 1, len - name_len - 1},
                               ret_value);
        }
        at += len + 1;
    }
    return false;
}

enum payload decide_payload(struct ec_arena *arena, const char *content_type, bool form,
                            struct ec_span body, struct ec_span *ret_json)
{
    if (!content_type) {
        return PAYLOAD_UNSUPPORTED;
    }
    if (media_type_is(content_type, "application/json") ||
        media_type_is(content_type, "application/vnd.docker.distribution.events.v1+json") ||
        media_type_is(content_type, "application/vnd.docker.distribution.events.v2+json")) {
        *ret_json = body;
        return PAYLOAD_JSON;
    }
    if (form && media_type_is(content_type, "application/x-www-form-urlencoded")) {
        return form_field(arena, body, "payload", ret_json) ? PAYLOAD_JSON : PAYLOAD_MALFORMED;
    }
    return PAYLOAD_UNSUPPORTED;
}

bool decide_delivery_id(const char *id)
{
    size_t len = id ? strlen(id) : 0;
    for (size_t i = 0; i < len; i++) {
        if (id[i] <= ' ' || id[i] > '~') {
            return false;
        }
    }
    return len > 0 && len <= DELIVERY_ID_MAX_BYTES;
}

struct fault decide_delivery(struct mapping *m)
{
    const struct event_row *row = host_event(m->host, m->event);
    if (!row) {
        return map_ignore(
            m, "event_not_used",
            ec_arena_format(m->arena, "nothing follows from %s of %s",
                            *m->event ? map_cut(m->arena, m->event, 64) : "an event without a name",
                            m->host->name));
    }
    struct fault fault = row->map(m, row);
    if (!fault.field && m->out_full) {
        return (struct fault){"the delivery",
                              "tells of more than fits: at most 1024 refs or images, "
                              "5000 repositories, 24 MiB"};
    }
    return fault;
}
