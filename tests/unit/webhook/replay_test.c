/* Deliveries as each host writes them, and what is decided of each: tests/unit/webhook/payloads/
 * holds one file per case {host, event, bound, body, and events | ignored | fault}. A field of an
 * expected event is named by its path in the message; lists are joined by commas. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../../services/webhook/webhook.h"
#include "base/json.h"
#include "base/mem.h"

#define FOLDER "tests/unit/webhook/payloads"

static struct ec_arena *arena;

static const char *scalar(const ProtobufCFieldDescriptor *field, const void *at)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return *(char *const *)at;
    case PROTOBUF_C_TYPE_BOOL:
        return *(const protobuf_c_boolean *)at ? "true" : "false";
    case PROTOBUF_C_TYPE_INT64:
        return ec_arena_format(arena, "%lld", (long long)*(const int64_t *)at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(void *const *)at ? "present" : "absent";
    default:
        return "?";
    }
}

static const char *joined(const ProtobufCFieldDescriptor *field, const char *base)
{
    size_t count = *(const size_t *)(base + field->quantifier_offset);
    char *const *list = *(char *const *const *)(base + field->offset);
    char *text = ec_arena_strdup(arena, "");
    for (size_t i = 0; i < count; i++) {
        text = ec_arena_format(arena, "%s%s%s", text, i ? "," : "", list[i]);
    }
    return text;
}

/* "head.message" of a message, as text; "n_<list>" is its length. */
static const char *value_of(const ProtobufCMessage *message, const char *path)
{
    const char *base = (const char *)message;
    const char *dot = strchr(path, '.');
    const char *name =
        ec_arena_text(arena, (struct ec_span){path, dot ? (size_t)(dot - path) : strlen(path)});
    bool length = strncmp(name, "n_", 2) == 0;
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(
        message->descriptor, name + (length ? 2 : 0));
    if (!field) {
        fail_msg("%s has no field %s", message->descriptor->name, name);
        return "";
    }
    if (length) {
        return ec_arena_format(arena, "%zu", *(const size_t *)(base + field->quantifier_offset));
    }
    if (dot) {
        const ProtobufCMessage *inner = *(const ProtobufCMessage *const *)(base + field->offset);
        return inner ? value_of(inner, dot + 1) : "absent";
    }
    return field->label == PROTOBUF_C_LABEL_REPEATED ? joined(field, base)
                                                     : scalar(field, base + field->offset);
}

static void check_event(const char *name, const json_t *want, const struct outgoing *out)
{
    const char *path;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)want, path, value)
    {
        const char *got = strcmp(path, "type") == 0  ? out->type
                          : strcmp(path, "key") == 0 ? out->key
                                                     : value_of(out->body, path);
        if (strcmp(got, json_string_value(value)) != 0) {
            fail_msg("%s: %s is \"%s\", want \"%s\"", name, path, got, json_string_value(value));
        }
    }
    size_t size = protobuf_c_message_get_packed_size(out->body);
    uint8_t *packed = ec_arena_alloc(arena, size + 1);
    assert_int_equal(protobuf_c_message_pack(out->body, packed), size);
}

static const struct host *host_named(const char *name)
{
    for (size_t i = 0; i < HOST_COUNT; i++) {
        if (strcmp(hosts[i].name, name) == 0) {
            return &hosts[i];
        }
    }
    fail_msg("there is no host %s", name);
    return NULL;
}

/* Names that a renamed repository is known by until the binding follows. */
static const char *bound_key(const char *key)
{
    static const char *const renamed[][2] = {
        {"github.com/acme/store", "github.com/acme/shop"},
        {"github.com/bigco/shop", "github.com/acme/shop"},
        {"bitbucket.org/team/store", "bitbucket.org/team/shop"},
    };
    for (size_t i = 0; i < EC_LEN(renamed); i++) {
        if (key && strcmp(key, renamed[i][0]) == 0) {
            return renamed[i][1];
        }
    }
    return key;
}

static void check_case(const char *name, const json_t *root)
{
    struct ec_tape tape;
    const char *body = ec_json_dump(arena, json_object_get(root, "body"));
    const struct host *host = host_named(ec_json_text(root, "host"));
    assert_false(ec_failed(ec_tape_read(arena, ec_span_of(body), &tape)));
    struct mapping *m = ec_arena_alloc(arena, sizeof *m);
    *m = (struct mapping){.arena = arena,
                          .tape = &tape,
                          .root = ec_tape_root(&tape),
                          .host = host,
                          .event = ec_json_text(root, "event"),
                          .delivery_id = "d-1",
                          .received_ms = 1,
                          .claim = host->claim(arena, host, &tape)};
    m->repo_key = bound_key(m->claim.key);
    if (!!m->claim.key != ec_json_bool(root, "bound", true)) {
        fail_msg("%s: the repository is %s", name, m->claim.key ? m->claim.key : "not named");
    }
    struct fault fault = decide_delivery(m);
    const json_t *events = json_object_get(root, "events");
    const char *want_fault = ec_json_text(root, "fault"),
               *want_ignored = ec_json_text(root, "ignored");
    if (strcmp(fault.field ? fault.field : "", want_fault) != 0 ||
        strcmp(m->ignored ? m->ignored : "", want_ignored) != 0 ||
        m->out_count != json_array_size(events)) {
        fail_msg("%s: fault %s, ignored %s, %zu events", name, fault.field ? fault.field : "none",
                 m->ignored ? m->ignored : "no", m->out_count);
    }
    for (size_t i = 0; i < m->out_count; i++) {
        check_event(name, json_array_get(events, i), &m->out[i]);
    }
}

static void every_payload_is_decided_as_written(void **state)
{
    (void)state;
    DIR *folder = opendir(FOLDER);
    assert_non_null(folder);
    int cases = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        json_error_t error;
        arena = ec_arena_new(8 << 20);
        json_t *root =
            json_load_file(ec_arena_format(arena, FOLDER "/%s", entry->d_name), 0, &error);
        if (!root) {
            fail_msg("%s:%d: %s", entry->d_name, error.line, error.text);
        }
        check_case(entry->d_name, root);
        json_decref(root);
        ec_arena_free(arena);
        cases++;
    }
    closedir(folder);
    assert_true(cases >= 60);
}

/* A host that writes nonsense gets a fault or is ignored; it never gets us to crash or to make an
 * event of it. */
static void nonsense_of_every_event(void **state)
{
    (void)state;
    static const char long_one[] =
        "{\"repository\":{\"clone_url\":\"https://x.y/a/b\"},\"project\":{"
        "\"git_http_url\":\"https://x.y/a/b\"},\"events\":[[],{}],"
        "\"changes\":[{}],\"action\":\"opened\"}";
    static const char *const bodies[] = {
        "{}", "[]", "null", "7", "{\"data\":[],\"push\":{\"changes\":[7,{}]}}", long_one};
    for (size_t h = 0; h < HOST_COUNT; h++) {
        for (const struct event_row *row = hosts[h].events; row->event; row++) {
            for (size_t i = 0; i < EC_LEN(bodies); i++) {
                struct ec_tape tape;
                arena = ec_arena_new(1 << 20);
                assert_false(ec_failed(ec_tape_read(arena, ec_span_of(bodies[i]), &tape)));
                struct mapping *m = ec_arena_alloc(arena, sizeof *m);
                *m = (struct mapping){.arena = arena,
                                      .tape = &tape,
                                      .root = ec_tape_root(&tape),
                                      .host = &hosts[h],
                                      .event = row->event,
                                      .delivery_id = "d",
                                      .claim = hosts[h].claim(arena, &hosts[h], &tape)};
                m->repo_key = m->claim.key ? m->claim.key : "x.y/a/b";
                struct fault fault = decide_delivery(m);
                if (fault.field) {
                    assert_int_equal(m->out_count, 0);
                    assert_non_null(fault.what);
                }
                ec_arena_free(arena);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_payload_is_decided_as_written),
        cmocka_unit_test(nonsense_of_every_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
