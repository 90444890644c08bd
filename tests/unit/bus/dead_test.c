/* Dead letters on an in-process cluster: what is bad costs itself only, for all three kinds of
 * consumers; the letter says why and keeps the record as it came; a replay is for one group.
 * (Records above 5 MB do not fit the mock: tests/integration/dead_test.sh has them.) */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "bus/catalog.h"
#include "bus/internal.h"
#include "enclii/v1/build.pb-c.h"
#include "support/kafka.h"

#define TOPIC "enclii.build.events"
#define TYPE "dev.enclii.build.queued.v1"
#define SERVICE "0190a6b0-0000-7000-8000-000000000001"
#define LETTERS_MAX 32

struct kept {
    char reason[256], topic[64], group[32], id[64], type[80];
    int64_t offset, left_out_bytes;
    char key[64];
    bool has_key;
    size_t value_len;
    char headers[512]; /* "name=value;" */
};

struct seen {
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    struct kept letters[LETTERS_MAX];
    int letter_count, good, want_letters, want_good;
    int64_t stored;
    char unreadable[256]; /* keys of a table, each with ";" */
    bool caught_up;
    struct ec_event *held; /* its handler ends later than everything */
};

static void setup(struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    seen->loop = ec_loop_new();
    seen->kafka = test_kafka_start(seen->loop, TOPIC ":1", TOPIC ".one.dead:1", TOPIC ".two.dead:1",
                                   "enclii.repos:1", TOPIC ".tester.dead:1", NULL);
    seen->bus = test_kafka_bus(seen->kafka, "tester");
}

static void teardown(struct seen *seen)
{
    assert_null(test_kafka_fatal(seen->kafka));
    test_kafka_close_bus(seen->kafka, seen->bus);
    test_kafka_stop(seen->kafka);
    ec_loop_free(seen->loop);
}

/* ---- records as strangers write them ---- */

static void put(struct seen *seen, struct ec_span key, struct ec_span value,
                const char *const *headers)
{
    test_kafka_publish_record(seen->kafka, TOPIC, key, value, headers);
}

static struct ec_span packed(const char *service_id)
{
    static uint8_t bytes[512];
    Enclii__V1__BuildQueued fact = ENCLII__V1__BUILD_QUEUED__INIT;
    Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
    char id[64];
    snprintf(id, sizeof id, "%s", service_id);
    service.service_id = id;
    fact.build_id = (char[]){"b1"};
    fact.service = &service;
    return (struct ec_span){(char *)bytes, enclii__v1__build_queued__pack(&fact, bytes)};
}

#define HEADERS(id, type)                                                                          \
    (const char *const[])                                                                          \
    {                                                                                              \
        "ce_specversion", "1.0", "ce_id", id, "ce_source", "/stranger", "ce_type", type, "x-more", \
            "kept", NULL                                                                           \
    }

static void put_good(struct seen *seen, const char *id)
{
    put(seen, ec_span_of(SERVICE), packed(SERVICE), HEADERS(id, TYPE));
}

/* Nine bad records, a good one after each, under the same key where there is one. */
static const char *const reasons[] = {
    "the bytes are not a protobuf message",
    "type dev.enclii.build.exploded.v1 is not one of topic enclii.build.events",
    "the key is \"other\", but the message's service_id is \"0190a6b0",
    "the record has no headers, so it is no CloudEvent",
    "type dev.enclii.build.queued.v7 is of a version that this program does not know",
    "malformed, or too large when unpacked",
    "the key is longer than 512 bytes or not UTF-8",
    "ce_specversion is not 1.0",
    "type dev.enclii.repo.bound.v1 is not one of topic enclii.build.events",
};

static void put_bad_and_good(struct seen *seen)
{
    struct ec_span key = ec_span_of(SERVICE);
    char groups[4096], id[16];
    /* 150,000 empty steps of 2 bytes each would be far more in memory. */
    size_t flood_len = 300000;
    char *flood = ec_alloc(flood_len);
    memset(groups, 0x0b, sizeof groups); /* nested groups, 4096 deep */
    for (size_t i = 0; i < flood_len; i += 2) {
        memcpy(flood + i, "\x5a\x00", 2);
    }
    for (int i = 0; i < (int)EC_LEN(reasons); i++) {
        switch (i) {
        case 0:
            put(seen, key, (struct ec_span){groups, sizeof groups}, HEADERS("bad-0", TYPE));
            break;
        case 1:
            put(seen, key, packed(SERVICE), HEADERS("bad-1", "dev.enclii.build.exploded.v1"));
            break;
        case 2:
            put(seen, EC_SPAN("other"), packed(SERVICE), HEADERS("bad-2", TYPE));
            break;
        case 3:
            put(seen, (struct ec_span){NULL, 0}, EC_SPAN("hello"), NULL);
            break;
        case 4:
            put(seen, key, packed(SERVICE), HEADERS("bad-4", "dev.enclii.build.queued.v7"));
            break;
        case 5:
            put(seen, key, (struct ec_span){flood, flood_len},
                HEADERS("bad-5", "dev.enclii.build.succeeded.v1"));
            break;
        case 6:
            put(seen, EC_SPAN("\xff\xfe"), packed(SERVICE), HEADERS("bad-6", TYPE));
            break;
        case 7:
            put(seen, key, packed(SERVICE),
                (const char *const[]){"ce_id", "bad-7", "ce_type", TYPE, "ce_specversion", "2.0",
                                      NULL});
            break;
        default:
            put(seen, key, packed(SERVICE), HEADERS("bad-8", "dev.enclii.repo.bound.v1"));
        }
        snprintf(id, sizeof id, "good-%d", i);
        put_good(seen, id);
    }
    free(flood);
}

/* ---- who reads ---- */

static struct ec_err on_letter(void *state, struct ec_event *ev)
{
    struct seen *seen = state;
    const struct ec_letter *letter = ec_event_letter(ev);
    struct ec_span name, value;
    assert_non_null(letter);
    assert_in_range(seen->letter_count, 0, LETTERS_MAX - 1);
    struct kept *kept = &seen->letters[seen->letter_count++];
    snprintf(kept->reason, sizeof kept->reason, "%s", letter->reason);
    snprintf(kept->topic, sizeof kept->topic, "%s", letter->topic);
    snprintf(kept->group, sizeof kept->group, "%s", letter->group);
    snprintf(kept->id, sizeof kept->id, "%s", ec_event_id(ev));
    snprintf(kept->type, sizeof kept->type, "%s", ec_event_type(ev));
    kept->offset = letter->offset;
    kept->left_out_bytes = letter->left_out_bytes;
    kept->has_key = letter->key.ptr != NULL;
    kept->value_len = ec_event_raw(ev).len;
    if (letter->key.len < sizeof kept->key) {
        memcpy(kept->key, letter->key.len ? letter->key.ptr : "", letter->key.len);
    }
    for (size_t at = 0; ec_header_next(letter->headers, &at, &name, &value);) {
        size_t used = strlen(kept->headers);
        snprintf(kept->headers + used, sizeof kept->headers - used, "%.*s=%.*s;", (int)name.len,
                 name.ptr, (int)value.len, value.len ? value.ptr : "");
    }
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static void read_letters(struct seen *seen)
{
    static const char *const topics[] = {"^enclii\\..*\\.dead$", NULL};
    static const struct ec_route any[] = {{NULL, NULL, on_letter}};
    assert_false(ec_failed(ec_bus_consume(seen->bus,
                                          &(struct ec_consume_spec){.group = "letters",
                                                                    .topics = topics,
                                                                    .routes = any,
                                                                    .route_count = 1,
                                                                    .state = seen,
                                                                    .letters = true},
                                          NULL)));
}

static struct ec_err on_build(void *state, struct ec_event *ev)
{
    struct seen *seen = state;
    if (strcmp(ec_event_id(ev), "refused") == 0) {
        return ec_reject("nobody knows this build");
    }
    if (strcmp(ec_event_id(ev), "held") == 0) {
        seen->held = ev;
        return ec_ok();
    }
    seen->good++;
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static const struct ec_route routes[] = {
    {TYPE, &enclii__v1__build_queued__descriptor, on_build},
    {"dev.enclii.build.succeeded.v1", &enclii__v1__build_succeeded__descriptor, on_build},
};
static const char *const topics[] = {TOPIC, NULL};

static void read_as_group(struct seen *seen, const char *group)
{
    assert_false(ec_failed(ec_bus_consume(seen->bus,
                                          &(struct ec_consume_spec){.group = group,
                                                                    .topics = topics,
                                                                    .routes = routes,
                                                                    .route_count = EC_LEN(routes),
                                                                    .state = seen},
                                          NULL)));
}

static void load_offsets(void *state, struct ec_offset *offsets, size_t count, void *token)
{
    for (size_t i = 0; i < count; i++) {
        offsets[i].next = ((struct seen *)state)->stored;
    }
    ec_offsets_loaded(token, ec_ok());
}

static void on_batch(void *state, struct ec_batch_in *batch)
{
    struct seen *seen = state;
    bool whole = true; /* else the rest of it comes again */
    for (size_t i = 0; i < ec_batch_in_count(batch); i++) {
        if (strcmp(ec_event_id(ec_batch_in_event(batch, i)), "refused") == 0) {
            ec_batch_in_reject(batch, i, "nobody knows this build");
            whole = false;
        }
    }
    seen->good += whole ? (int)ec_batch_in_count(batch) : 0;
    ec_batch_in_finish(batch, ec_ok());
}

static void read_as_batch(struct seen *seen)
{
    seen->stored = -1;
    assert_false(ec_failed(
        ec_bus_consume_batch(seen->bus,
                             &(struct ec_consume_batch_spec){.group = "one",
                                                             .topics = topics,
                                                             .routes = routes,
                                                             .route_count = EC_LEN(routes),
                                                             .state = seen,
                                                             .load_offsets = load_offsets,
                                                             .on_batch = on_batch},
                             NULL)));
}

static void on_row(void *state, struct ec_event *ev)
{
    struct seen *seen = state;
    if (strcmp(ec_event_id(ev), "refused") == 0) {
        ec_table_reject(ev, "nobody knows this build");
    } else {
        seen->good++;
    }
}

static void on_unreadable(void *state, const char *key)
{
    struct seen *seen = state;
    size_t used = strlen(seen->unreadable);
    assert_false(seen->caught_up);
    snprintf(seen->unreadable + used, sizeof seen->unreadable - used, "%s;", key);
}

static void on_caught_up(void *state)
{
    ((struct seen *)state)->caught_up = true;
}

static void read_as_table(struct seen *seen)
{
    assert_false(ec_failed(ec_bus_table(seen->bus,
                                        &(struct ec_table_spec){.topics = topics,
                                                                .routes = routes,
                                                                .route_count = EC_LEN(routes),
                                                                .state = seen,
                                                                .on_event = on_row,
                                                                .on_unreadable = on_unreadable,
                                                                .on_caught_up = on_caught_up},
                                        NULL)));
}

static bool all_there(void *arg)
{
    const struct seen *seen = arg;
    return seen->letter_count >= seen->want_letters && seen->good >= seen->want_good;
}

static void wait_for(struct seen *seen, int letters, int good)
{
    seen->want_letters = letters;
    seen->want_good = good;
    test_run_until(seen->loop, 20000, all_there, seen);
    assert_int_equal(seen->letter_count, letters);
    assert_int_equal(seen->good, good);
}

/* ---- tests ---- */

static int by_offset(const void *a, const void *b)
{
    return (int)(((const struct kept *)a)->offset - ((const struct kept *)b)->offset);
}

static void check_letters(struct seen *seen, const char *group)
{
    qsort(seen->letters, (size_t)seen->letter_count, sizeof seen->letters[0], by_offset);
    for (int i = 0; i < (int)EC_LEN(reasons); i++) {
        const struct kept *kept = &seen->letters[i];
        if (!strstr(kept->reason, reasons[i])) {
            fail_msg("letter %d says \"%s\", not \"%s\"", i, kept->reason, reasons[i]);
        }
        assert_string_equal(kept->topic, TOPIC);
        assert_string_equal(kept->group, group);
        assert_int_equal(kept->offset, 2 * i); /* the good ones are between */
        assert_int_equal(kept->left_out_bytes, 0);
    }
    assert_string_equal(seen->letters[1].headers,
                        "ce_specversion=1.0;ce_id=bad-1;ce_source=/stranger;"
                        "ce_type=dev.enclii.build.exploded.v1;x-more=kept;");
    assert_string_equal(seen->letters[1].key, SERVICE);
    assert_int_equal(seen->letters[1].value_len, packed(SERVICE).len);
    assert_string_equal(seen->letters[2].key, "other");
    assert_false(seen->letters[3].has_key);
    assert_string_equal(seen->letters[3].headers, "");
    assert_int_equal(seen->letters[5].value_len, 300000);
    assert_memory_equal(seen->letters[6].key, "\xff\xfe", 3);
    assert_string_equal(seen->letters[9].reason, "nobody knows this build");
    assert_string_equal(seen->letters[9].id, "refused");
}

static void bad_input_costs_itself_only(void (*read)(struct seen *), const char *group)
{
    struct seen seen;
    setup(&seen);
    put_bad_and_good(&seen);
    put(&seen, ec_span_of(SERVICE), packed(SERVICE), HEADERS("refused", TYPE));
    put_good(&seen, "last"); /* behind a letter under its own key: passes */
    read(&seen);
    read_letters(&seen);
    wait_for(&seen, (int)EC_LEN(reasons) + 1, (int)EC_LEN(reasons) + 1);
    check_letters(&seen, group);
    teardown(&seen);
}

static void read_as_one(struct seen *seen)
{
    read_as_group(seen, "one");
}

static void a_group_goes_on(void **state)
{
    (void)state;
    bad_input_costs_itself_only(read_as_one, "one");
}

static void a_batch_goes_on(void **state)
{
    (void)state;
    bad_input_costs_itself_only(read_as_batch, "one");
}

static void a_table_goes_on(void **state)
{
    (void)state;
    bad_input_costs_itself_only(read_as_table, "tester");
}

static void a_table_knows_whose_row_is_unreadable(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    put(&seen, EC_SPAN("broken"), EC_SPAN("\xff"), HEADERS("bad-1", TYPE));
    put(&seen, EC_SPAN("\xff\xfe"), packed(SERVICE), HEADERS("bad-2", TYPE)); /* whose? */
    put(&seen, (struct ec_span){NULL, 0}, EC_SPAN("hello"), NULL);
    put(&seen, EC_SPAN("elsewhere"), EC_SPAN("\xff"),
        (const char *const[]){EC_HEADER_REPLAY_FOR, "three", NULL});
    put_good(&seen, "good");
    read_as_table(&seen);
    read_letters(&seen);
    wait_for(&seen, 3, 1);
    assert_string_equal(seen.unreadable, "broken;");
    assert_true(seen.caught_up);
    teardown(&seen);
}

static void set_closed(void *closed)
{
    *(bool *)closed = true;
}

/* Its record comes again after the restart; nothing of it may be left to go off. */
static void the_end_does_not_wait_for_a_letter(void **state)
{
    (void)state;
    struct seen seen;
    bool closed = false;
    setup(&seen);
    read_as_group(&seen, "one");
    put(&seen, EC_SPAN("broken"), EC_SPAN("\xff"), HEADERS("bad", TYPE));
    put_good(&seen, "good");
    wait_for(&seen, 0, 1);
    test_kafka_down(seen.kafka, true);
    test_run_for(seen.loop, 300);
    ec_bus_close(seen.bus, 300, set_closed, &closed);
    assert_true(test_run_until(seen.loop, 5000, test_is_true, &closed));
    test_run_for(seen.loop, 1000);
    test_kafka_stop(seen.kafka);
    ec_loop_free(seen.loop); /* ends the process when a timer is left */
}

/* What a handler waits for may come when the bus has been closed under it. */
static void a_handler_may_end_after_the_bus(void **state)
{
    (void)state;
    struct seen seen;
    bool closed = false;
    setup(&seen);
    read_as_group(&seen, "one");
    put(&seen, ec_span_of("other"), packed("other"), HEADERS("held", TYPE));
    put_good(&seen, "good");
    wait_for(&seen, 0, 1);
    assert_non_null(seen.held);
    mallopt(M_PERTURB, 0x55); /* what is freed is not readable any more */
    ec_bus_close(seen.bus, 100, set_closed, &closed);
    assert_true(test_run_until(seen.loop, 5000, test_is_true, &closed));
    ec_event_finish(seen.held, ec_ok());
    mallopt(M_PERTURB, 0);
    test_kafka_stop(seen.kafka);
    ec_loop_free(seen.loop);
}

static void a_replay_is_for_one_group(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    put(&seen, ec_span_of(SERVICE), packed(SERVICE),
        (const char *const[]){"ce_specversion", "1.0", "ce_id", "again", "ce_type", TYPE,
                              EC_HEADER_REPLAY_FOR, "one", NULL});
    /* For the others it is not even bad. */
    put(&seen, EC_SPAN("other"), EC_SPAN("\xff"),
        (const char *const[]){EC_HEADER_REPLAY_FOR, "three", NULL});
    read_as_group(&seen, "one"); /* handles it */
    read_as_group(&seen, "two"); /* passes it over, as does a table */
    read_as_table(&seen);
    read_letters(&seen);
    wait_for(&seen, 0, 1);
    put_good(&seen, "good"); /* and all three go on */
    wait_for(&seen, 0, 4);
    teardown(&seen);
}

static void a_letter_is_never_refused(void **state)
{
    (void)state;
    struct seen seen;
    setup(&seen);
    test_kafka_publish_record(seen.kafka, TOPIC ".one.dead", (struct ec_span){NULL, 0},
                              EC_SPAN("?"), NULL);
    read_letters(&seen);
    wait_for(&seen, 1, 0);
    assert_string_equal(seen.letters[0].topic, TOPIC ".one.dead");
    assert_string_equal(seen.letters[0].group, "?");
    test_run_for(seen.loop, 200);
    assert_int_equal(seen.letter_count, 1); /* no letter about the letter */
    teardown(&seen);
}

static void packed_headers_survive_damage(void **state)
{
    (void)state;
    struct ec_arena *arena = ec_arena_new(1 << 20);
    struct ec_span packed = ec_header_add(arena, (struct ec_span){"", 0}, "a", "1"), name, value;
    packed = ec_header_add(arena, packed, "bb", "");
    size_t at = 0;
    assert_true(ec_header_next(packed, &at, &name, &value));
    assert_true(ec_span_is(name, "a") && ec_span_is(value, "1"));
    assert_true(ec_header_next(packed, &at, &name, &value));
    assert_true(ec_span_is(name, "bb") && value.len == 0 && value.ptr);
    assert_false(ec_header_next(packed, &at, &name, &value));
    for (size_t len = 0; len < packed.len; len++) { /* cut anywhere: no read beyond */
        char *cut = ec_alloc(len + 1);
        memcpy(cut, packed.ptr, len);
        int count = 0;
        for (at = 0; ec_header_next((struct ec_span){cut, len}, &at, &name, &value);) {
            count++;
        }
        assert_int_equal(count, len >= 10 ? 1 : 0);
        free(cut);
    }
    at = 0;
    assert_false(ec_header_next(EC_SPAN("\xff\xff\xff\xff\xff\xff\xff\xff"), &at, &name, &value));
    ec_arena_free(arena);
}

/* topics.yaml and the catalog name the same types. */
static void every_type_has_a_topic(void **state)
{
    (void)state;
    size_t count = 0;
    for (size_t i = 0; i < ec_topic_count; i++) {
        for (const char *at = ec_topics[i].types + 1; *at; at += strcspn(at, ",") + 1) {
            char type[128];
            snprintf(type, sizeof type, "dev.enclii.%.*s.v1", (int)strcspn(at, ","), at);
            count++;
            if (!ec_catalog_find(type)) {
                fail_msg("topics.yaml has type %s, libs/bus/catalog.c has not", type);
            }
        }
    }
    assert_int_equal(count, ec_catalog_count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_goes_on),
        cmocka_unit_test(a_batch_goes_on),
        cmocka_unit_test(a_table_goes_on),
        cmocka_unit_test(a_table_knows_whose_row_is_unreadable),
        cmocka_unit_test(the_end_does_not_wait_for_a_letter),
        cmocka_unit_test(a_handler_may_end_after_the_bus),
        cmocka_unit_test(a_replay_is_for_one_group),
        cmocka_unit_test(a_letter_is_never_refused),
        cmocka_unit_test(packed_headers_survive_damage),
        cmocka_unit_test(every_type_has_a_topic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
