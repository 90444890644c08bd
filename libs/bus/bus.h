/* Kafka, in and out, on our loop (librdkafka events API; its threads never call us).
 *
 * Every record is a CloudEvent in binary mode (headers ce_id ce_source ce_type ce_time ce_subject
 * ce_specversion, traceparent, content-type: application/protobuf); the value is the bare message.
 *
 * Out: idempotent producer, acks=all. ec_bus_publish calls back after the broker's acknowledgement.
 * In, three ways:
 *   group  ec_bus_consume        a consumer group; a route table by ce_type; one handler per event;
 *                                events of one key run one after another, keys in parallel
 *   batch  ec_bus_consume_batch  a consumer group whose offsets live in the caller's database table
 *   table  ec_bus_table          every instance reads a compacted topic whole, then follows it
 *
 * Dead letters: what cannot be decoded, breaks the contract of its topic (topics.yaml: an unknown
 * type or version, a key that is not the message's) or is REJECTed goes as it came to
 * "<topic>.<group>.dead" (a table: "<topic>.<service>.dead"), with reason and origin. What is
 * behind it goes on at once, also under its own key; while an event is tried again its key waits. A
 * record with header ce_replayfor is a dead letter put back: every group but that one passes it
 * over. A live view (a table with tail_ms) writes no letters: it has no effect that could be
 * missing. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/id.h"
#include "base/span.h"
#include "net/loop.h"

struct ec_bus;

struct ec_bus_spec {
    const char *brokers;          /* "host:port,..." */
    const char *service;          /* client.id and ce_source "/enclii/<service>" */
    uint32_t publish_waiting_max; /* unacknowledged messages; 0 = 10000; above: RETRY at once */
    uint32_t publish_deadline_ms; /* 0 = 30 s: then the callback gets RETRY */
    uint32_t linger_ms;           /* batching delay of the producer; 0 = none */
    uint32_t fetch_wait_ms;       /* longest wait of an empty fetch; 0 = 500 (tests: 10) */
    uint32_t session_timeout_ms;  /* a silent group member is gone after it; 0 = 10 s */
    /* mTLS: all three or none. */
    const char *tls_ca_file, *tls_cert_file, *tls_key_file;
    /* Called at most once, for FATAL of a handler or of the client itself: leave in order.
     * NULL = log and exit(1). */
    void (*fatal)(void *arg, struct ec_err err);
    void *fatal_arg;
};

EC_RESULT ec_bus_open(struct ec_loop *loop, const struct ec_bus_spec *spec,
                      struct ec_bus **ret_bus);
bool ec_bus_ready(const struct ec_bus *bus); /* a connection to a broker is up */
/* Stops consumers (in-flight events finish, offsets commit), flushes the producer, all within
 * grace_ms, then calls closed. */
void ec_bus_close(struct ec_bus *bus, uint32_t grace_ms, ec_call_fn closed, void *arg);
/* Creates missing topics from the table (partitions, retention, compaction) and a dead-letter topic
 * "<topic>.<reader>.dead" for each reader; for `enclii local up` and tests. replication 1 or 3.
 * Blocks: not for services. */
EC_RESULT ec_bus_create_topics(const struct ec_bus_spec *spec, int16_t replication);

/* Gives each service its rights (topics.h), to principals like "User:CN={service}". Adds, removes
 * none. Blocks: not for services. */
EC_RESULT ec_bus_create_acls(const struct ec_bus_spec *spec, const char *principal,
                             size_t *ret_count);

/* ---- out ---- */
struct ec_message {
    const char *topic;
    const char *key;              /* never NULL */
    const char *type;             /* "dev.enclii.build.queued.v1" */
    const char *subject;          /* the aggregate's id; NULL = key */
    const char *id;               /* ce_id; ec_id_derive for effects of a cause */
    const char *trace;            /* traceparent; NULL = none */
    const ProtobufCMessage *body; /* packed here; NULL with raw.ptr NULL = tombstone */
    struct ec_span raw;           /* or: already packed bytes */
    struct ec_span headers; /* packed (ec_letter): exactly these instead of those made of type,
                             * subject, id, trace and time; ptr NULL = none */
    int64_t time_unix_ms;   /* ce_time; 0 = now */
};
typedef void (*ec_published_fn)(void *arg, struct ec_err err);
/* done may be NULL when nobody can wait for it (progress and log events). */
EC_RESULT ec_bus_publish(struct ec_bus *bus, const struct ec_message *message, ec_published_fn done,
                         void *arg);
/* Gives up what the broker has not acknowledged, for who may not write any more: the callers are
 * told RETRY, soon. What had left this machine may still arrive. Dead letters are sent again. */
void ec_bus_purge(struct ec_bus *bus);

/* ---- in: one event ---- */
struct ec_event; /* borrowed from the bus until ec_event_finish */

const char *ec_event_id(const struct ec_event *ev);
const char *ec_event_type(const struct ec_event *ev);
const char *ec_event_subject(const struct ec_event *ev);
const char *ec_event_key(const struct ec_event *ev);
const char *ec_event_topic(const struct ec_event *ev);
const char *ec_event_trace(const struct ec_event *ev); /* a valid traceparent, always */
int64_t ec_event_time_unix_ms(const struct ec_event *ev);
int32_t ec_event_partition(const struct ec_event *ev);
int64_t ec_event_offset(const struct ec_event *ev);
const void *ec_event_body(const struct ec_event *ev);   /* the unpacked message; NULL = tombstone */
struct ec_span ec_event_raw(const struct ec_event *ev); /* its packed bytes */
struct ec_arena *ec_event_arena(struct ec_event *ev);   /* dies with ec_event_finish */

/* A dead letter, as a consumer of `letters` gets it: what the record was, whatever it was. Texts
 * are UTF-8; id, type, subject, key as text and time are "" or 0 where the record's were none. */
struct ec_letter {
    const char *reason, *topic, *group; /* why, from where, who gave it up */
    int32_t partition;
    int64_t offset;
    struct ec_span key;     /* as it came; ptr NULL = it had none */
    struct ec_span headers; /* as they came, packed, see ec_header_next */
    bool tombstone;         /* it had no value */
    int64_t left_out_bytes; /* > 0: the value was too large to be kept in the letter */
    int64_t time_unix_ms;   /* when it was given up; -1 = not said */
};
const struct ec_letter *ec_event_letter(const struct ec_event *ev); /* NULL: it is none */
/* Walks packed headers; *at begins at 0. */
bool ec_header_next(struct ec_span packed, size_t *at, struct ec_span *ret_name,
                    struct ec_span *ret_value);
/* `packed` and one more. */
struct ec_span ec_header_add(struct ec_arena *arena, struct ec_span packed, const char *name,
                             const char *value);
#define EC_HEADER_REPLAY_FOR "ce_replayfor"

/* Ends the event: OK stores its offset; RETRY runs the handler again after a back-off (at least
 * EC_EVENT_TRIES times and for retry_for_ms, so that an outage is not the event's fault; then dead
 * letter); REJECT dead-letters; FATAL ends the process. Never calls the handler before returning.
 */
#define EC_EVENT_TRIES 10
#define EC_EVENT_RETRY_FOR_MS 600000
void ec_event_finish(struct ec_event *ev, struct ec_err err);

/* Returns an error (the event is finished with it) or OK and owes one ec_event_finish. */
typedef struct ec_err (*ec_event_fn)(void *state, struct ec_event *ev);

struct ec_route {
    const char *type;                             /* ce_type; NULL = every other type */
    const ProtobufCMessageDescriptor *descriptor; /* NULL = leave packed (ec_event_raw) */
    ec_event_fn handler;                          /* NULL = known and ignored */
};

struct ec_consumer;

struct ec_consume_spec {
    const char *group;             /* also names the dead-letter topics */
    const char *const *topics;     /* NULL-ended */
    const struct ec_route *routes; /* types without a row are skipped and counted */
    size_t route_count;
    uint32_t inflight_max; /* events being handled at once; 0 = 64; four times as many wait */
    uint32_t retry_for_ms; /* 0 = EC_EVENT_RETRY_FOR_MS */
    void *state;
    /* NULL, or a name unique in the group: after a kill -9 a member of the same name takes its
     * place at once, not after the session timeout */
    const char *member;
    bool latest; /* a new group starts at the end (live views), not the beginning */
    /* The topics hold dead letters ("^..." = a regular expression; new topics are found within
     * 10 s). Nothing is refused; what the handler REJECTs is logged and stays in its topic. */
    bool letters;
};
EC_RESULT ec_bus_consume(struct ec_bus *bus, const struct ec_consume_spec *spec,
                         struct ec_consumer **ret_consumer); /* ret may be NULL */
/* Partitions are ours: what is published now will come to us, not to a member that is gone. */
bool ec_consumer_assigned(const struct ec_consumer *consumer);
/* Of a batch consumer with `ends`: it has partitions, all that stands in them was given out, and
 * the last batch is finished. */
bool ec_consumer_at_end(const struct ec_consumer *consumer);

/* ---- in: batches with offsets of the caller's own ---- */
struct ec_offset {
    const char *topic;
    int32_t partition;
    int64_t next; /* first offset not yet consumed; -1 = none stored */
};
/* Up to batch_max events, in order per partition. What could not be decoded is dead-lettered before
 * the batch comes; types without a route row are skipped. Partitions are not given away while a
 * batch is being handled, so nobody else loads their offsets meanwhile. */
struct ec_batch_in;
size_t ec_batch_in_count(const struct ec_batch_in *batch);
struct ec_event *ec_batch_in_event(const struct ec_batch_in *batch, size_t index);
/* Next offsets per partition after this batch, to be stored with its effects; none when an event of
 * it was rejected. To be asked last. */
size_t ec_batch_in_offsets(const struct ec_batch_in *batch, const struct ec_offset **ret_offsets);
/* The batch's only dead-letter door: this event has no effect. Its letter is published at once;
 * from then on the batch has no offsets, so that a crash loses no letter: once it is finished and
 * the broker has the letters, the rest of it comes again. */
void ec_batch_in_reject(struct ec_batch_in *batch, size_t index, const char *reason);
/* OK: go on. RETRY: the same batch comes again after a back-off. FATAL ends the process. */
void ec_batch_in_finish(struct ec_batch_in *batch, struct ec_err err);

struct ec_consume_batch_spec {
    const char *group;
    const char *const *topics;
    const struct ec_route *routes; /* for types and descriptors; handlers unused */
    size_t route_count;
    uint32_t batch_max;       /* 0 = 500 */
    uint32_t batch_max_bytes; /* of values; 0 = 16 MiB; a larger event comes alone */
    const char *member;       /* as in ec_consume_spec */
    bool ends;                /* ec_consumer_at_end will be asked */
    void *state;
    /* On assignment: look up `count` offsets (fill next), then call ec_offsets_loaded(token, err).
     */
    void (*load_offsets)(void *state, struct ec_offset *offsets, size_t count, void *token);
    /* One batch at a time; owes ec_batch_in_finish. */
    void (*on_batch)(void *state, struct ec_batch_in *batch);
};
EC_RESULT ec_bus_consume_batch(struct ec_bus *bus, const struct ec_consume_batch_spec *spec,
                               struct ec_consumer **ret_consumer);
void ec_offsets_loaded(void *token, struct ec_err err);

/* ---- in: a compacted topic as a table, or a topic's tail ---- */
struct ec_table_spec {
    const char *const *topics;     /* NULL-ended */
    const struct ec_route *routes; /* handlers unused */
    size_t route_count;
    void *state;
    /* Called in order per key; the event ends when it returns. Body NULL = the key was removed
     * (a tombstone comes whatever its type). */
    void (*on_event)(void *state, struct ec_event *ev);
    /* A record of this key could not be read and is a dead letter. The row before it holds; but a
     * reader that starts later may find no row before it, because the topic is compacted. May be
     * NULL: then a key without a row is like one that never was. */
    void (*on_unreadable)(void *state, const char *key);
    void (*on_caught_up)(
        void *state); /* once: everything there at the start was seen; may be NULL */
    int64_t tail_ms;  /* 0 = from the beginning; else only what is younger than that */
};
EC_RESULT ec_bus_table(struct ec_bus *bus, const struct ec_table_spec *spec,
                       struct ec_consumer **ret_consumer);
/* From within on_event: this row has no effect, or not the whole of it, and goes to the dead
 * letters. */
void ec_table_reject(struct ec_event *ev, const char *reason);

void ec_consumer_pause(struct ec_consumer *consumer, bool paused); /* explicit back-pressure */
