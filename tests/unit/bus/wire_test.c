/* What strangers' bytes may look like before protobuf-c sees them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "bus/internal.h"
#include "enclii/v1/intake.pb-c.h"

static const char *verdict(const void *bytes, size_t len)
{
    return bus_wire_check(&enclii__v1__push_received__descriptor, (struct ec_span){bytes, len});
}

static void packed_messages_pass(void **state)
{
    (void)state;
    Enclii__V1__Commit head = ENCLII__V1__COMMIT__INIT;
    Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
    char *paths[] = {(char[]){"a.c"}, (char[]){"gr\xc3\xbc\xc3\x9f.md"}};
    uint8_t bytes[512];
    head.message = (char[]){"h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80"};
    push.delivery_id = (char[]){"d-1"};
    push.head = &head;
    push.n_changed_paths = 2;
    push.changed_paths = paths;
    push.received_unix_ms = INT64_MAX;
    size_t len = enclii__v1__push_received__pack(&push, bytes);
    assert_null(verdict(bytes, len));
    assert_null(verdict(bytes, 0));
    for (size_t cut = 1; cut < len; cut++) { /* a cut message is whole fields, or refused */
        const char *why = verdict(bytes, cut);
        Enclii__V1__PushReceived *back =
            why ? NULL : enclii__v1__push_received__unpack(NULL, cut, bytes);
        assert_true(why || back);
        if (back) {
            enclii__v1__push_received__free_unpacked(back, NULL);
        }
    }
}

static void bad_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff",     "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80",
                                      "\xe2\x82", "a\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char bytes[16] = {0x0a, (char)strlen(bad[i])};
        memcpy(bytes + 2, bad[i], strlen(bad[i]));
        assert_string_equal(verdict(bytes, 2 + strlen(bad[i])), "a text is not UTF-8");
    }
    assert_string_equal(verdict("\x0a\x03"
                                "a\0b",
                                5),
                        "a text is not UTF-8"); /* an embedded NUL */
}

static void bad_form_is_refused(void **state)
{
    (void)state;
    const char *why = "the bytes are not a protobuf message";
    assert_string_equal(verdict("\x0a\x05"
                                "ab",
                                4),
                        why);                         /* longer than there is */
    assert_string_equal(verdict("\x0b", 1), why);     /* a group */
    assert_string_equal(verdict("\x00\x01", 2), why); /* field number 0 */
    assert_string_equal(verdict("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11), why);
    assert_string_equal(verdict("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
                                "x",
                                12),
                        why);
}

/* Nothing of ours recurses; google.protobuf.Value-like types may come, so the walk itself is tested
 * with a descriptor that contains itself. */
static void deep_nesting_is_refused(void **state)
{
    (void)state;
    ProtobufCMessageDescriptor self = {.magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC};
    ProtobufCFieldDescriptor field = {.name = "self", .id = 1, .type = PROTOBUF_C_TYPE_MESSAGE};
    ProtobufCIntRange ranges[] = {{1, 0}, {0, 1}};
    field.descriptor = &self;
    self.n_fields = 1;
    self.fields = &field;
    self.n_field_ranges = 1;
    self.field_ranges = ranges;
    for (int depth = 1; depth < 60; depth++) {
        char bytes[256];
        size_t at = sizeof bytes;
        for (int i = 1; i < depth; i++) {
            bytes[at - 1] = (char)(sizeof bytes - at);
            bytes[at - 2] = 0x0a;
            at -= 2;
        }
        const char *why = bus_wire_check(&self, (struct ec_span){bytes + at, sizeof bytes - at});
        if (depth <= BUS_DEPTH_MAX) {
            assert_null(why);
        } else {
            assert_string_equal(why, "messages are nested too deep");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_messages_pass),
        cmocka_unit_test(bad_text_is_refused),
        cmocka_unit_test(bad_form_is_refused),
        cmocka_unit_test(deep_nesting_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
