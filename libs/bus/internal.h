/* Private to libs/bus: what its files share. One source is one librdkafka handle hooked into the
 * loop; a consumer is a source with one of three kinds (group, batch, table) on top. */
#pragma once

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/backoff.h"
#include "base/map.h"
#include "base/metric.h"
#include "bus/bus.h"
#include "bus/topics.h"

#define BUS_VALUE_MAX_BYTES (8u << 20)
#define BUS_KEY_MAX_BYTES 512
#define BUS_HEADERS_MAX 32
#define BUS_HEADER_MAX_BYTES 1024
#define BUS_DEPTH_MAX 32
/* An unpacked message may take this many times its packed size, plus a floor. */
#define BUS_UNPACK_GROWTH 16
#define BUS_UNPACK_FLOOR_BYTES 4096
/* What a handler may take from an event's arena on top of its message. */
#define BUS_EVENT_ARENA_BYTES ((size_t)BUS_VALUE_MAX_BYTES * (BUS_UNPACK_GROWTH + 2) + (16u << 20))
#define BUS_TURN_BUDGET 256
#define BUS_ARENAS_KEPT 64
#define BUS_WARM_MAX 32

/* ---- source.c: a librdkafka handle in our loop ---- */
struct bus_source {
    rd_kafka_t *rk;
    rd_kafka_queue_t *control; /* everything but records */
    rd_kafka_queue_t *data;    /* records of all partitions; NULL for the producer */
    int wake_fd;               /* eventfd: librdkafka's threads write it, and we do to come back */
    struct ec_poll *poll;
    struct ec_timer *tick; /* keeps max.poll.interval.ms alive on idle topics */
    ec_call_fn turn;
    void *owner;
};
EC_RESULT bus_source_open(struct bus_source *source, struct ec_loop *loop, rd_kafka_t *rk,
                          bool consumer, ec_call_fn turn, void *owner);
void bus_source_wake(struct bus_source *source);
void bus_source_tick(struct bus_source *source, uint32_t every_ms);
/* Frees queues and the handle. Not answered: a consumer that could not leave its group in time; its
 * handle stays until the process ends, which is soon. */
void bus_source_close(struct bus_source *source, bool answered);
/* LOG and ERROR events of either kind; true = it was one of these. */
bool bus_source_common(struct ec_bus *bus, rd_kafka_t *rk, rd_kafka_event_t *event);

/* ---- conf.c ---- */
EC_RESULT bus_conf_producer(const struct ec_bus_spec *spec, rd_kafka_t **ret_rk);
struct bus_consumer_conf {
    const char *group;
    bool commit; /* offsets are kept by the broker */
    bool latest;
    bool eof;           /* PARTITION_EOF wanted */
    bool letters;       /* topics by a pattern: new ones are to be found soon */
    const char *member; /* NULL = a new member each time */
};
EC_RESULT bus_conf_consumer(const struct ec_bus_spec *spec, const struct bus_consumer_conf *want,
                            rd_kafka_t **ret_rk);

/* ---- bus.c ---- */
struct ec_bus {
    struct ec_loop *loop;
    struct ec_bus_spec spec; /* its texts are copies in `arena` */
    struct ec_arena *arena;
    char *source_name; /* ce_source */
    struct bus_source producer;
    rd_kafka_topic_t *warm[BUS_WARM_MAX]; /* topics this service writes: their leaders are known */
    unsigned warm_count;
    uint32_t waiting;   /* published, not acknowledged */
    bool up;            /* a broker connection is up, by the last statistics */
    bool told, told_up; /* what the log said last about it */
    bool failed;        /* fatal was called */
    struct ec_consumer *consumers;
    struct ec_map *dead_topics;             /* dead-letter topics known or asked for */
    struct ec_event *letters;               /* those whose dead letter is on its way */
    struct ec_arena *kept[BUS_ARENAS_KEPT]; /* event arenas for reuse */
    unsigned kept_count;
    bool closing;
    bool producer_closing;
    struct ec_timer *deadline; /* of closing */
    int64_t close_by_mono_ms;
    ec_call_fn closed;
    void *closed_arg;
};
void bus_fatal(struct ec_bus *bus, struct ec_err err);
struct ec_arena *bus_arena_take(struct ec_bus *bus);
void bus_arena_give(struct ec_bus *bus, struct ec_arena *arena);
void bus_consumer_gone(struct ec_bus *bus, struct ec_consumer *consumer); /* step of closing */

/* ---- produce.c ---- */
struct bus_record {
    const char *topic;
    struct ec_span key;
    void *value; /* malloc'ed, taken; NULL = tombstone */
    size_t value_len;
    rd_kafka_headers_t *headers; /* taken */
};
/* takes value and headers, also on error. */
EC_RESULT bus_produce(struct ec_bus *bus, struct bus_record *record, ec_published_fn done,
                      void *arg);
void bus_producer_event(struct ec_bus *bus, rd_kafka_event_t *event);

/* ---- cloudevent.c and wire.c ---- */
enum bus_event_state { BUS_WAITING, BUS_READY, BUS_RUNNING, BUS_BACKOFF, BUS_DEAD, BUS_DONE };

struct ec_event {
    struct ec_consumer *consumer;
    struct bus_partition *part;
    uint32_t epoch; /* of the partition when taken: another one now = somebody else's event */
    int64_t offset;
    struct ec_arena *arena; /* all texts and the body; NULL once done */
    const char *topic, *id, *type, *subject, *key;
    struct ec_span key_bytes; /* as it came; ptr NULL = none */
    struct ec_trace trace;
    int64_t time_unix_ms;
    struct ec_span raw;
    bool tombstone;
    const void *body;
    const struct ec_route *route; /* NULL = no row for this type */
    rd_kafka_headers_t *headers;  /* as they came, ours; NULL = none */
    int64_t left_out_bytes;       /* of a value too large to look at */
    bool elsewhere;               /* a replay for another group */
    struct ec_letter *letter;     /* of a consumer of letters */
    /* group consumer */
    enum bus_event_state state;
    struct bus_lane *lane;
    struct ec_event *next_in_lane;
    struct ec_event *next_ready;
    struct ec_event *next_in_part; /* by offset */
    uint32_t tries;
    int64_t first_try_mono_ms;
    struct ec_backoff backoff;
    struct ec_timer *timer;
    struct ec_err end; /* why it is dead-lettered; text in arena or literal */
    ec_call_fn dead_done;
    struct ec_event *next_letter, *prev_letter; /* bus->letters */
};
struct ec_event *bus_event_new(struct ec_consumer *consumer, const rd_kafka_message_t *message);
/* Headers, route and body. REJECT (text in the event's arena) when it is none of ours. */
EC_RESULT bus_event_decode(struct ec_event *ev, const rd_kafka_message_t *message);
/* Its core: looks at the message's key and value and at ev->headers only. */
EC_RESULT bus_event_read(struct ec_event *ev, const rd_kafka_message_t *message);
void bus_event_drop_body(struct ec_event *ev); /* keeps the slot */
void bus_event_free(struct ec_event *ev);
/* ce_* headers for a record; gives. */
rd_kafka_headers_t *bus_headers_new(const struct ec_bus *bus, const struct ec_message *message);
/* Depth, UTF-8 and form of a packed message, before anything is allocated for it. NULL = fine. */
const char *bus_wire_check(const ProtobufCMessageDescriptor *descriptor, struct ec_span bytes);
bool bus_utf8_valid(struct ec_span text); /* also refuses NUL */

/* ---- contract.c: what topics.yaml says of a topic ---- */
EC_RESULT bus_contract_type(const struct ec_event *ev); /* its route is looked up, if it has one */
EC_RESULT bus_contract_key(const struct ec_event *ev);  /* after unpacking */

/* ---- letter.c: reading dead letters, packing headers ---- */
void bus_letter_decode(struct ec_event *ev, const rd_kafka_message_t *message);
rd_kafka_headers_t *bus_headers_unpack(struct ec_span packed); /* gives */

/* ---- dead.c: done(ev) once the broker has the dead letter; tries for ever ---- */
void bus_dead_letter(struct ec_event *ev, struct ec_err why, ec_call_fn done);
struct ec_event *bus_event_copy(const struct ec_event *from); /* for a letter of its own life */
extern const char *const bus_letter_headers[];                /* what a letter adds; NULL-ended */
void bus_dead_mute(struct ec_bus *bus);                       /* killed: no letter is tried again */
void bus_dead_topic_answer(struct ec_bus *bus, rd_kafka_event_t *event);

/* ---- consumer.c: what the three kinds share ---- */
struct bus_partition {
    char *topic;
    const struct ec_topic *contract; /* NULL = none of topics.yaml */
    int32_t number;
    bool owned;
    uint32_t epoch; /* grows when it is taken away */
    int64_t next;   /* offset after the last finished record; -1 = none yet */
    int64_t end;    /* table: first offset that was not there at the start; 0 = none */
    bool dirty;     /* next is not stored yet */
    bool caught_up; /* table: the end was seen once; batch: it is there now */
    struct ec_event *head, *tail; /* group: unfinished and finished ones behind them, by offset */
};

struct bus_kind {
    void (*assigned)(struct ec_consumer *c, rd_kafka_topic_partition_list_t *list); /* takes */
    void (*revoked)(struct ec_consumer *c, bool lost); /* owes bus_consumer_release */
    void (*record)(struct ec_consumer *c, const rd_kafka_message_t *message);
    void (*end)(struct ec_consumer *c, struct bus_partition *part); /* nothing follows for now */
    void (*work)(struct ec_consumer *c); /* each turn: take records, run handlers */
    bool (*idle)(const struct ec_consumer *c);
    void (*mute)(struct ec_consumer *c); /* killed: no timer of it may go off any more */
    void (*free)(struct ec_consumer *c);
};

/* Of the consumer's client; see rebuild.c. There is a source up to BUS_LETTING_GO. */
enum bus_life {
    BUS_LIVE,
    BUS_BREAKING,   /* it broke: nothing more is taken */
    BUS_LETTING_GO, /* what is in hand is being let go */
    BUS_ENDING,     /* the worker pool destroys it */
    BUS_RESTING,    /* none, until the next one joins or the bus closes */
};
#define BUS_REBUILDS_MAX 5 /* within ten minutes; then the process ends */

struct ec_consumer {
    struct ec_bus *bus;
    const struct bus_kind *kind;
    struct bus_source source;
    struct bus_consumer_conf want; /* its texts are in the bus's arena */
    const char *const *topics;     /* the same; NULL for tables */
    enum bus_life life;
    rd_kafka_t *old;        /* of BUS_ENDING */
    struct ec_timer *again; /* NULL = never broke */
    struct ec_backoff again_backoff;
    int64_t broken_mono_ms[BUS_REBUILDS_MAX]; /* the last times, a ring */
    size_t broken_count;
    bool killed;         /* grace was over: whatever still calls back finds no bus */
    const char *group;   /* NULL for tables */
    const char *mourner; /* names the dead-letter topics: the group or a table's service; NULL = a
                          * live view or a consumer of letters, which write none */
    bool letters;
    const struct ec_route *routes;
    size_t route_count;
    void *state;
    bool paused;
    bool subscribed;
    bool stopping; /* takes nothing more */
    bool closing;  /* librdkafka is leaving the group */
    struct bus_partition **parts;
    size_t part_count;
    int64_t lag_due_mono_ms;
    struct ec_consumer *next;
};
EC_RESULT bus_consumer_open(struct ec_consumer *c, struct ec_bus *bus, rd_kafka_t *rk);
/* A member of a group: keeps copies of both and joins. */
EC_RESULT bus_consumer_open_member(struct ec_consumer *c, struct ec_bus *bus,
                                   const struct bus_consumer_conf *want, const char *const *topics);
EC_RESULT bus_consumer_join(struct ec_consumer *c); /* with a new handle */
void bus_consumer_link(struct ec_consumer *c);
struct bus_partition *bus_consumer_part(struct ec_consumer *c, const char *topic, int32_t number);
/* Begins fetching the list (frees it) into the data queue. */
void bus_consumer_take(struct ec_consumer *c, rd_kafka_topic_partition_list_t *list);
/* Gives every partition back. */
void bus_consumer_release(struct ec_consumer *c);
void bus_consumer_store_offsets(struct ec_consumer *c); /* of dirty partitions */
/* Polls at most `budget` records to kind->record while `more` says so; wakes itself for the rest.
 */
void bus_consumer_poll(struct ec_consumer *c, unsigned budget, bool (*more)(struct ec_consumer *c));
void bus_consumer_stop(struct ec_consumer *c);
void bus_consumer_kill(struct ec_consumer *c); /* grace is over */
void bus_consumer_free(struct ec_consumer *c); /* it has no source any more */
const struct ec_route *bus_route_find(const struct ec_consumer *c, const char *type);

/* ---- rebuild.c: when the client breaks ---- */
void bus_consumer_broken(struct ec_consumer *c);
void bus_rebuild_let_go(struct ec_consumer *c);
void bus_rebuild_end_old(struct ec_consumer *c); /* once nothing is in hand */
/* False: it broke too often lately (0 = an unused place). */
bool decide_rebuild(const int64_t *broken_mono_ms, size_t count, int64_t now_mono_ms);

extern struct ec_metric bus_events, bus_dead_letters, bus_lag, bus_publish_seconds, bus_published;
