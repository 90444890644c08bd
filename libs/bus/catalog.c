/* The catalog of events and their JSON form. A new kind of event gets a row here. */
#include "bus/catalog.h"

#include <string.h>

#include "base/mem.h"
#include "enclii/v1/app_log.pb-c.h"
#include "enclii/v1/audit.pb-c.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/domain.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/notification.pb-c.h"
#include "enclii/v1/release.pb-c.h"
#include "enclii/v1/repo.pb-c.h"
#include "enclii/v1/request.pb-c.h"

#define FACT(type, message)                                                                        \
    {                                                                                              \
        "dev.enclii." type ".v1", &enclii__v1__##message##__descriptor, NULL                       \
    }
const struct ec_route ec_catalog[] = {
    FACT("push.received", push_received),
    FACT("push.compared", push_compared),
    FACT("paths.wanted", paths_wanted),
    FACT("delivery.received", delivery_received),
    FACT("delivery.refused", delivery_refused),
    FACT("pull_request.changed", pull_request_changed),
    FACT("ci.changed", ci_changed),
    FACT("ref.changed", ref_changed),
    FACT("repository.changed", repository_changed),
    FACT("installation.changed", installation_changed),
    FACT("board_item.changed", board_item_changed),
    FACT("release_tag.changed", release_tag_changed),
    FACT("image.pushed", image_pushed),
    FACT("delivery.accepted", delivery_accepted),
    FACT("delivery.ignored", delivery_ignored),
    FACT("approval.needed", approval_needed),
    FACT("approval.given", approval_ended),
    FACT("approval.refused", approval_ended),
    FACT("approval.lapsed", approval_ended),
    FACT("approval.superseded", approval_ended),
    FACT("build.waiting", build_waiting),
    FACT("build.queued", build_queued),
    FACT("build.leased", build_leased),
    FACT("build.started", build_started),
    FACT("build.step", build_step_finished),
    FACT("build.succeeded", build_succeeded),
    FACT("build.failed", build_failed),
    FACT("build.cancelled", build_ended),
    FACT("build.superseded", build_ended),
    FACT("build.timed_out", build_ended),
    FACT("build.log", build_log),
    FACT("release.created", release_created),
    FACT("release.step", release_step_finished),
    FACT("release.signed", release_signed),
    FACT("release.refused", release_refused),
    FACT("release.ready", release_decided),
    FACT("release.rejected", release_decided),
    FACT("deployment.created", deployment_created),
    FACT("deployment.step", deployment_step_finished),
    FACT("deployment.rolled_out", deployment_rolled_out),
    FACT("deployment.reverted", deployment_reverted),
    FACT("deployment.status", deployment_status),
    FACT("deployment.healthy", deployment_ended),
    FACT("deployment.failed", deployment_ended),
    FACT("deployment.rolled_back", deployment_ended),
    FACT("deployment.superseded", deployment_ended),
    FACT("deployment.cancelled", deployment_ended),
    FACT("domain.issued", domain_issued),
    FACT("domain.failed", domain_failed),
    FACT("notification.sent", notification_sent),
    FACT("notification.failed", notification_failed),
    FACT("build.run", run_build),
    FACT("build.cancel", cancel_build),
    FACT("builder.heartbeat", builder_heartbeat),
    FACT("desired", desired),
    FACT("domain.desired", domain_desired),
    FACT("repo.bound", repo_bound),
    FACT("channel.set", channel_set),
    FACT("request.build", request_build),
    FACT("request.deploy", request_deploy),
    FACT("request.rollback", request_rollback),
    FACT("request.cancel", request_cancel),
    FACT("request.remove_service", request_remove_service),
    FACT("request.approve", request_approve),
    FACT("audit.recorded", audit_recorded),
    FACT("app.log.read", read_app_log),
    FACT("app.log", app_log),
};
const size_t ec_catalog_count = EC_LEN(ec_catalog);

const ProtobufCMessageDescriptor *ec_catalog_find(const char *type)
{
    for (size_t i = 0; i < EC_LEN(ec_catalog); i++) {
        if (strcmp(ec_catalog[i].type, type) == 0) {
            return ec_catalog[i].descriptor;
        }
    }
    return NULL;
}

/* ---- JSON ---- */

static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)at;
        return json_string(text ? text : "");
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *inner = *(ProtobufCMessage *const *)at;
        return inner ? ec_message_json(inner) : NULL;
    }
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(*(const double *)at);
    case PROTOBUF_C_TYPE_INT32:
        return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
        return json_integer(*(const int64_t *)at);
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *word =
            protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)at);
        return json_string(word ? word->name : "");
    }
    default:
        return NULL; /* bytes; other number types are not in our schemas */
    }
}

static size_t item_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT32:
        return sizeof(int32_t);
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(int);
    case PROTOBUF_C_TYPE_INT64:
        return sizeof(int64_t);
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(double);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return sizeof(void *);
    }
}

static json_t *repeated_json(const ProtobufCFieldDescriptor *field, const char *message)
{
    json_t *list = json_array();
    size_t count = *(const size_t *)(const void *)(message + field->quantifier_offset);
    const char *items = *(const char *const *)(const void *)(message + field->offset);
    for (size_t i = 0; i < count; i++) {
        json_t *item = value_json(field, items + i * item_size(field));
        if (item) {
            json_array_append_new(list, item);
        }
    }
    return list;
}

json_t *ec_message_json(const ProtobufCMessage *message)
{
    json_t *object = json_object();
    const char *bytes = (const char *)message;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        json_t *item = field->label == PROTOBUF_C_LABEL_REPEATED
                           ? repeated_json(field, bytes)
                           : value_json(field, bytes + field->offset);
        if (item) {
            json_object_set_new(object, field->name, item);
        }
    }
    return object;
}
