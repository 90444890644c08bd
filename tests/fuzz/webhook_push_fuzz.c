/* A host's delivery: "<host>:<event>" on the first line, then the body, to events. An event that is
 * made fits into a record, is accepted by our own consumers' check, and holds no text that could be
 * mistaken for an option or move a terminal. */
#include "base/mem.h"
#include "bus/internal.h"
#include "fuzz.h"
#include "spec/spec.h"
#include "webhook.h"

static void check_name(const char *text)
{
    check(text[0] && text[0] != '-' && strlen(text) <= TEXT_MAX_BYTES);
    check(!strpbrk(text, " \t\r\n\x7f\x1b"));
}

/* Every text of the message and of those inside it; lists of paths are no texts for people. */
static void check_texts(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const void *value;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            continue;
        }
        memcpy(&value, (const char *)message + field->offset, sizeof value);
        if (field->type == PROTOBUF_C_TYPE_STRING) {
            check_shown(value, 8192, true);
        } else if (field->type == PROTOBUF_C_TYPE_MESSAGE && value) {
            check_texts(value);
        }
    }
}

static void check_wire(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    check(size <= BUS_VALUE_MAX_BYTES / 2);
    uint8_t *packed = ec_alloc(size + 1);
    protobuf_c_message_pack(message, packed);
    struct ec_span wire = {(const char *)packed, size};
    check(bus_wire_check(message->descriptor, wire) == NULL);
    free(packed);
}

static void check_push(struct ec_arena *arena, const Enclii__V1__PushReceived *push)
{
    check_name(push->ref);
    check_name(push->clone_url);
    const char *key = ec_repo_key(arena, push->clone_url);
    check(key && strcmp(key, push->repo_key) == 0);
    check(map_is_sha(push->after) && map_is_sha(push->before));
    check(!push->deleted == (push->head != NULL));
    check(!push->head || strcmp(push->head->sha, push->after) == 0);
    check(push->n_changed_paths <= PATHS_MAX);
}

static void check_out(struct ec_arena *arena, const struct outgoing *out)
{
    check(strncmp(out->type, "dev.enclii.", 11) == 0 && out->step[0]);
    check(out->key[0] && strlen(out->key) <= BUS_KEY_MAX_BYTES * 2);
    check_texts(out->body);
    check_wire(out->body);
    if (out->body->descriptor == &enclii__v1__push_received__descriptor) {
        check_push(arena, (const Enclii__V1__PushReceived *)(const void *)out->body);
    }
}

static const struct host *host_named(struct ec_span name)
{
    for (size_t i = 0; i < HOST_COUNT; i++) {
        if (ec_span_is(name, hosts[i].name)) {
            return &hosts[i];
        }
    }
    return &hosts[HOST_GITHUB];
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(32 << 20);
    struct ec_span rest = span_of_input(bytes, len), json = {"", 0};
    struct ec_span line = take_until(&rest, '\n');
    const struct host *host = host_named(take_until(&line, ':'));
    const char *event = ec_arena_text(arena, line);
    const char *type = rest.len > 0 && rest.ptr[0] == '{' ? "application/json"
                                                          : "application/x-www-form-urlencoded";
    struct ec_tape tape;
    if (decide_payload(arena, type, host->form, rest, &json) != PAYLOAD_JSON ||
        ec_failed(ec_tape_read(arena, json, &tape)) ||
        !ec_tape_is(ec_tape_root(&tape), EC_TAPE_OBJECT)) {
        return 0;
    }
    struct mapping *m = ec_arena_alloc(arena, sizeof *m);
    *m = (struct mapping){.arena = arena,
                          .tape = &tape,
                          .root = ec_tape_root(&tape),
                          .host = host,
                          .event = event,
                          .delivery_id = "d",
                          .received_ms = 1,
                          .claim = host->claim(arena, host, &tape)};
    m->repo_key = m->claim.key;
    const struct event_row *row = host_event(host, event);
    if (row && row->needs_repo && !m->repo_key) {
        return 0; /* refused before it is mapped */
    }
    struct fault fault = decide_delivery(m);
    check(!fault.field || fault.what);
    check(fault.field || m->ignored || m->out_count > 0);
    for (size_t i = 0; i < m->out_count && !fault.field; i++) {
        check_out(arena, &m->out[i]);
    }
    return 0;
}
