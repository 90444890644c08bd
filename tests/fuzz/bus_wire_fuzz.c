/* Packed messages: the first byte picks the message, the rest are its bytes. What the wire check
 * lets through, protobuf-c unpacks or refuses within the budget; packed again it says the same. */
#include "base/mem.h"
#include "bus/internal.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/release.pb-c.h"
#include "enclii/v1/request.pb-c.h"
#include "fuzz.h"

static const ProtobufCMessageDescriptor *const kinds[] = {
    &enclii__v1__push_received__descriptor,    &enclii__v1__run_build__descriptor,
    &enclii__v1__build_log__descriptor,        &enclii__v1__builder_heartbeat__descriptor,
    &enclii__v1__desired__descriptor,          &enclii__v1__release_created__descriptor,
    &enclii__v1__release_signed__descriptor,   &enclii__v1__deployment_status__descriptor,
    &enclii__v1__request_rollback__descriptor,
};

struct budget {
    size_t left;
};

static void *take(void *data, size_t size)
{
    struct budget *budget = data;
    if (size > budget->left) {
        return NULL;
    }
    budget->left -= size;
    return malloc(size);
}

static void give(void *data, void *memory)
{
    (void)data;
    free(memory);
}

static uint8_t *pack(const ProtobufCMessage *message, size_t *ret_size)
{
    *ret_size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = ec_alloc(*ret_size + 1);
    check(protobuf_c_message_pack(message, packed) == *ret_size);
    return packed;
}

static void check_same(const ProtobufCMessage *message)
{
    size_t size, again_size;
    uint8_t *packed = pack(message, &size);
    struct ec_span wire = {(const char *)packed, size};
    check(bus_wire_check(message->descriptor, wire) == NULL);
    ProtobufCMessage *again = protobuf_c_message_unpack(message->descriptor, NULL, size, packed);
    check(again != NULL);
    uint8_t *packed_again = pack(again, &again_size);
    check(again_size == size && memcmp(packed, packed_again, size) == 0);
    protobuf_c_message_free_unpacked(again, NULL);
    free(packed);
    free(packed_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0) {
        return 0;
    }
    const ProtobufCMessageDescriptor *kind = kinds[bytes[0] % EC_LEN(kinds)];
    struct ec_span wire = span_of_input(bytes + 1, len - 1);
    if (bus_wire_check(kind, wire)) {
        return 0;
    }
    struct budget budget = {wire.len * BUS_UNPACK_GROWTH + BUS_UNPACK_FLOOR_BYTES};
    ProtobufCAllocator allocator = {take, give, &budget};
    ProtobufCMessage *message =
        protobuf_c_message_unpack(kind, &allocator, wire.len, (const uint8_t *)wire.ptr);
    if (message) {
        check_same(message);
        protobuf_c_message_free_unpacked(message, &allocator);
    }
    return 0;
}
