/* Dead letters: what cannot be decoded or was refused goes to "<topic>.<group>.dead", as it came,
 * with reason and origin in headers dead_*. Nothing is skipped silently: until the broker has the
 * letter the event is not finished, however long that takes. `enclii local up` makes the topics of
 * the readers in topics.yaml; one that is missing (group names chosen at run time) is created on
 * first use. */
#include "bus/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define CREATE_TIMEOUT_MS 2000
#define RETENTION_MS "2592000000" /* 30 days */

struct ec_metric bus_dead_letters = EC_COUNTER(
    "enclii_bus_dead_letters_total", "Events given up, by topic they came from.", "topic");

/* What we know of a dead-letter topic of this process. */
struct dead_topic {
    bool there; /* or as good as: the broker has answered */
};

static void send_letter(void *arg);

static const char *letter_topic(struct ec_event *ev)
{
    return ec_arena_format(ev->arena, "%s.%s.dead", ev->topic, ev->consumer->mourner);
}

static void letter_begins(struct ec_event *ev)
{
    struct ec_bus *bus = ev->consumer->bus;
    ev->prev_letter = NULL;
    ev->next_letter = bus->letters;
    if (ev->next_letter) {
        ev->next_letter->prev_letter = ev;
    }
    bus->letters = ev;
}

static void letter_ends(struct ec_event *ev)
{
    if (ev->prev_letter) {
        ev->prev_letter->next_letter = ev->next_letter;
    } else {
        ev->consumer->bus->letters = ev->next_letter;
    }
    if (ev->next_letter) {
        ev->next_letter->prev_letter = ev->prev_letter;
    }
    ev->dead_done(ev);
}

static struct ec_event *killed_ones; /* only so that nobody takes them for forgotten */

void bus_dead_mute(struct ec_bus *bus)
{
    for (struct ec_event *ev = bus->letters; ev; ev = ev->next_letter) {
        ec_timer_free(EC_TAKE(ev->timer));
    }
    killed_ones = bus->letters;
}

static void again_later(struct ec_event *ev)
{
    if (!ev->timer) {
        ev->timer = ec_timer_new(ev->consumer->bus->loop, send_letter, ev);
    }
    ec_timer_start(ev->timer, 100 + ec_backoff_next_ms(&ev->backoff), 0);
}

/* A letter may be too large with its origin added: then it goes without its value, at last without
 * headers and key. False: there is nothing left to leave out. */
static bool shrink(struct ec_event *ev)
{
    if (!ev->left_out_bytes) {
        ev->left_out_bytes = (int64_t)ev->raw.len + 1;
        return true;
    }
    bool more = ev->headers || ev->key_bytes.ptr;
    if (ev->headers) {
        rd_kafka_headers_destroy(EC_TAKE(ev->headers));
    }
    ev->key_bytes = (struct ec_span){NULL, 0};
    return more;
}

static void on_letter_sent(void *arg, struct ec_err err)
{
    struct ec_event *ev = arg;
    if (ev->consumer->killed) {
        return; /* its record comes again, after the restart */
    }
    if (err.fate == EC_FATE_RETRY || (err.fate == EC_FATE_REJECT && shrink(ev))) {
        ec_log(EC_LOG_WARN, ev->trace.parent, "bus.dead_letter_waits",
               "the dead letter could not be written; trying again", EC_ERR(err),
               EC_T("topic", ev->topic), EC_N("offset", ev->offset));
        again_later(ev);
        return;
    }
    if (ec_failed(err)) { /* all that is left of it is this line */
        ec_log(EC_LOG_ERROR, ev->trace.parent, "bus.dead_letter_lost",
               "the broker does not take it", EC_ERR(err), EC_T("topic", ev->topic),
               EC_N("offset", ev->offset));
    }
    letter_ends(ev);
}

/* The record's own, and ours after them. */
static rd_kafka_headers_t *letter_headers(struct ec_event *ev)
{
    rd_kafka_headers_t *headers =
        ev->headers ? rd_kafka_headers_copy(ev->headers) : rd_kafka_headers_new(8);
    for (size_t i = 0; bus_letter_headers[i]; i++) {
        rd_kafka_header_remove(headers, bus_letter_headers[i]);
    }
    char now[EC_RFC3339_SIZE];
    ec_rfc3339(ec_unix_ms(), now);
    const char *left_out = ec_arena_format(ev->arena, "%lld", (long long)ev->left_out_bytes);
    const char *pairs[][2] = {
        {"dead_reason", ev->end.what},
        {"dead_topic", ev->topic},
        {"dead_partition", ec_arena_format(ev->arena, "%d", (int)ev->part->number)},
        {"dead_offset", ec_arena_format(ev->arena, "%lld", (long long)ev->offset)},
        {"dead_group", ev->consumer->mourner},
        {"dead_time", now},
        {"dead_bytes", left_out},
    };
    for (size_t i = 0; i < EC_LEN(pairs) - (ev->left_out_bytes == 0); i++) {
        rd_kafka_header_add(headers, pairs[i][0], -1, pairs[i][1], -1);
    }
    return headers;
}

/* True when the topic is there or about to be; asks the broker on first use. */
static bool topic_ready(struct ec_bus *bus, const char *topic)
{
    struct dead_topic *known = ec_map_get(bus->dead_topics, topic);
    if (known) {
        return known->there;
    }
    known = ec_arena_alloc(bus->arena, sizeof *known);
    char why[128];
    rd_kafka_NewTopic_t *want = rd_kafka_NewTopic_new(topic, 1, -1, why, sizeof why);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(bus->producer.rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    if (!want || !ec_map_put(bus->dead_topics, topic, known)) {
        rd_kafka_AdminOptions_destroy(options);
        return true; /* the publish itself will tell what is wrong */
    }
    rd_kafka_NewTopic_set_config(want, "retention.ms", RETENTION_MS);
    rd_kafka_NewTopic_set_config(want, "max.message.bytes", "9437184");
    rd_kafka_AdminOptions_set_request_timeout(options, CREATE_TIMEOUT_MS, why, sizeof why);
    rd_kafka_CreateTopics(bus->producer.rk, &want, 1, options, bus->producer.control);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(want);
    return false;
}

/* Whatever the answer (made, was there, not allowed, no admin there), publishing is the real test.
 */
void bus_dead_topic_answer(struct ec_bus *bus, rd_kafka_event_t *event)
{
    void *state;
    (void)event;
    for (size_t at = 0; ec_map_next(bus->dead_topics, &at, NULL, &state);) {
        ((struct dead_topic *)state)->there = true;
    }
}

static void send_letter(void *arg)
{
    struct ec_event *ev = arg;
    struct ec_bus *bus = ev->consumer->bus;
    struct bus_record record = {.topic = letter_topic(ev), .key = ev->key_bytes};
    if (!topic_ready(bus, record.topic)) {
        again_later(ev);
        return;
    }
    if (!ev->tombstone && !ev->left_out_bytes) {
        record.value = ec_alloc(ev->raw.len + 1);
        record.value_len = ev->raw.len;
        memcpy(record.value, ev->raw.ptr, ev->raw.len);
    }
    record.headers = letter_headers(ev);
    struct ec_err err = bus_produce(bus, &record, on_letter_sent, ev);
    if (ec_failed(err)) {
        on_letter_sent(ev, err);
    }
}

/* A letter that outlives the event it is about. */
struct ec_event *bus_event_copy(const struct ec_event *from)
{
    struct ec_event *ev = ec_alloc(sizeof *ev);
    *ev = *from;
    ev->arena = bus_arena_take(from->consumer->bus);
    ev->topic = ec_arena_strdup(ev->arena, from->topic);
    ev->id = ec_arena_strdup(ev->arena, from->id);
    ev->type = ec_arena_strdup(ev->arena, from->type);
    ev->subject = ec_arena_strdup(ev->arena, from->subject);
    ev->key = ec_arena_strdup(ev->arena, from->key);
    ev->raw = ec_arena_copy(ev->arena, from->raw);
    ev->key_bytes = from->key_bytes.ptr ? ec_arena_copy(ev->arena, from->key_bytes) : ev->key_bytes;
    ev->headers = from->headers ? rd_kafka_headers_copy(from->headers) : NULL;
    ev->body = NULL;
    ev->timer = NULL;
    return ev;
}

void bus_dead_letter(struct ec_event *ev, struct ec_err why, ec_call_fn done)
{
    ev->state = BUS_DEAD;
    ev->end = why;
    ev->dead_done = done;
    ev->backoff = (struct ec_backoff){.first_ms = 100, .cap_ms = 10000};
    ec_metric_add(&bus_dead_letters, ev->topic, 1);
    ec_log(EC_LOG_ERROR, ev->trace.parent, "bus.dead_letter", "an event was given up", EC_ERR(why),
           EC_T("topic", ev->topic), EC_N("partition", ev->part->number),
           EC_N("offset", ev->offset), EC_T("type", ev->type), EC_T("id", ev->id));
    letter_begins(ev);
    send_letter(ev);
}
