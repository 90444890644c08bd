/* Messages of a world: the packed ones of its rows read, new ones made, all in its arena. */
#include "world.h"

#include "base/buf.h"
#include "base/mem.h"

struct ec_span world_pack(struct world *world, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    char *bytes = ec_arena_alloc(world->arena, len + 1);
    protobuf_c_message_pack(message, (uint8_t *)bytes);
    return (struct ec_span){bytes, len};
}

void *world_message(struct world *world, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = ec_arena_alloc(world->arena, descriptor->sizeof_message);
    descriptor->message_init(message);
    return message;
}

char *world_text(struct world *world, const char *text)
{
    return ec_arena_strdup(world->arena, text ? text : "");
}

static void *unpack(struct world *world, const ProtobufCMessageDescriptor *descriptor,
                    struct ec_span packed)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &world->allocator, packed.len,
                                                          (const uint8_t *)packed.ptr);
    return message ? message : world_message(world, descriptor);
}

Enclii__V1__Commit *world_commit(struct world *world, struct ec_span packed)
{
    return unpack(world, &enclii__v1__commit__descriptor, packed);
}

Enclii__V1__Actor *world_actor(struct world *world, struct ec_span packed)
{
    return unpack(world, &enclii__v1__actor__descriptor, packed);
}

Enclii__V1__ServiceSpec *world_spec(struct world *world, struct ec_span packed)
{
    return unpack(world, &enclii__v1__service_spec__descriptor, packed);
}

const Enclii__V1__ServiceSpec *world_service_spec(struct world *world, struct service *service)
{
    if (!service->read_spec) {
        service->read_spec = world_spec(world, service->spec);
    }
    return service->read_spec;
}

void world_respec(struct world *world, struct service *service, Enclii__V1__ServiceSpec *spec)
{
    service->spec = world_pack(world, &spec->base);
    service->read_spec = spec;
    service->respec = true;
    world_touch(&service->mark);
}

Enclii__V1__ServiceRef *world_service_ref(struct world *world, const struct service *service)
{
    Enclii__V1__ServiceRef *ref = world_message(world, &enclii__v1__service_ref__descriptor);
    ref->project_id = world_text(world, service->project_id);
    ref->project_slug = world_text(world, service->project_slug);
    ref->service_id = world_text(world, service->id);
    ref->service_name = world_text(world, service->name);
    return ref;
}

Enclii__V1__PullRequestRef *world_pull_ref(struct world *world, int32_t number, bool trusted,
                                           const char *author)
{
    if (number == 0) {
        return NULL;
    }
    Enclii__V1__PullRequestRef *ref =
        world_message(world, &enclii__v1__pull_request_ref__descriptor);
    ref->number = number;
    ref->trusted = trusted;
    ref->author = world_text(world, author);
    return ref;
}

Enclii__V1__EnvironmentRef *world_environment_ref(struct world *world, const char *environment_id)
{
    const struct environment *env = world_environment(world, environment_id);
    Enclii__V1__EnvironmentRef *ref =
        world_message(world, &enclii__v1__environment_ref__descriptor);
    ref->environment_id = world_text(world, environment_id);
    ref->name = world_text(world, env ? env->name : "");
    return ref;
}

const char *world_steps(struct world *world, Enclii__V1__StepTime *const *steps, size_t count)
{
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, 256 * 1024);
    ec_buf_add_text(&out, "[");
    for (size_t i = 0; i < count; i++) {
        ec_buf_add_text(&out, i ? ",{\"name\":" : "{\"name\":");
        ec_buf_add_json_text(&out, ec_span_of(steps[i]->name));
        ec_buf_addf(&out, ",\"started_unix_ms\":%lld,\"duration_ms\":%lld,\"detail\":",
                    (long long)steps[i]->started_unix_ms, (long long)steps[i]->duration_ms);
        ec_buf_add_json_text(&out, ec_span_of(steps[i]->detail));
        ec_buf_add_text(&out, "}");
    }
    ec_buf_add_text(&out, "]");
    return out.overflowed ? "[]" : ec_arena_text(world->arena, ec_buf_span(&out));
}
