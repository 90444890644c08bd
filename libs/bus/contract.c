/* What topics.yaml says of a topic, held against each record of it: the types that may be there,
 * and that the key is what the message is about. A type of the topic that this consumer has no use
 * for is passed over; one that the topic does not have is a dead letter, because whoever wrote it
 * means something that nobody here understands yet. */
#include "bus/internal.h"

#include <string.h>

#define PREFIX "dev.enclii."
#define FIELD_MAX 64

static bool has_type(const struct ec_topic *topic, struct ec_span name)
{
    for (const char *at = topic->types + 1; *at; at += strcspn(at, ",") + 1) {
        if (name.len > 0 && strncmp(at, name.ptr, name.len) == 0 && at[name.len] == ',') {
            return true;
        }
    }
    return false;
}

EC_RESULT bus_contract_type(const struct ec_event *ev)
{
    const struct ec_topic *topic = ev->part->contract;
    bool takes_all = ev->route && !ev->route->type;
    if (!topic || ev->tombstone || takes_all) {
        return ec_ok();
    }
    const char *version = strrchr(ev->type, '.');
    size_t prefix = strlen(PREFIX);
    bool ours = strncmp(ev->type, PREFIX, prefix) == 0 && version >= ev->type + prefix;
    struct ec_span name = {ours ? ev->type + prefix : "",
                           ours ? (size_t)(version - ev->type) - prefix : 0};
    if (!has_type(topic, name)) {
        return ec_reject_in(ev->arena, "type %.200s is not one of topic %s", ev->type, topic->name);
    }
    if (!ev->route && strcmp(version, ".v1") != 0) {
        return ec_reject_in(ev->arena,
                            "type %.200s is of a version that this program does not know: upgrade "
                            "it, then replay the letter",
                            ev->type);
    }
    return ec_ok();
}

/* A text field of the message, or of one that says where it belongs; NULL = it has none. */
static const char *text_field(const ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);
    if (field && field->type == PROTOBUF_C_TYPE_STRING &&
        field->label != PROTOBUF_C_LABEL_REPEATED) {
        const char *text;
        memcpy(&text, (const char *)message + field->offset, sizeof text);
        return text && *text ? text : NULL;
    }
    return NULL;
}

static const char *belongs_to(const ProtobufCMessage *message, const char *name)
{
    static const char *const holders[] = {"service", "environment"};
    const char *found = text_field(message, name);
    for (size_t i = 0; i < sizeof holders / sizeof holders[0] && !found; i++) {
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(message->descriptor, holders[i]);
        if (field && field->type == PROTOBUF_C_TYPE_MESSAGE &&
            field->label != PROTOBUF_C_LABEL_REPEATED) {
            const ProtobufCMessage *holder;
            memcpy(&holder, (const char *)message + field->offset, sizeof holder);
            found = holder ? text_field(holder, name) : NULL;
        }
    }
    return found;
}

EC_RESULT bus_contract_key(const struct ec_event *ev)
{
    const struct ec_topic *topic = ev->part->contract;
    if (!topic || !topic->key_field[0] || !ev->body) {
        return ec_ok();
    }
    const char *key = ev->key;
    for (const char *at = topic->key_field; *at;) {
        char name[FIELD_MAX] = "";
        size_t name_len = strcspn(at, ":"),
               key_len = at[name_len] ? strcspn(key, ":") : strlen(key);
        memcpy(name, at, name_len < sizeof name ? name_len : sizeof name - 1);
        const char *want = belongs_to(ev->body, name);
        if (want && *want && !ec_span_is((struct ec_span){key, key_len}, want)) {
            return ec_reject_in(ev->arena,
                                "the key is \"%.100s\", but the message's %s is \"%.100s\"",
                                ev->key, name, want);
        }
        at += name_len + (at[name_len] == ':');
        key += key_len + (key[key_len] == ':');
    }
    return ec_ok();
}
