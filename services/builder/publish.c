/* Facts must arrive: what the broker did not acknowledge is sent again, with the same id, so that a
 * doubled one is recognised. */
#include "builder.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define AGAIN_MS 1000

struct outgoing {
    struct builder *builder;
    struct outgoing *prev, *next;
    struct ec_message message; /* its texts are ours */
    struct ec_timer *again;
    bool waiting; /* the bus owes a callback */
    bool given_up;
    ec_call_fn acked;
    void *arg;
};

static void outgoing_free(struct outgoing *out)
{
    free((void *)(uintptr_t)out->message.topic);
    free((void *)(uintptr_t)out->message.key);
    free((void *)(uintptr_t)out->message.type);
    free((void *)(uintptr_t)out->message.subject);
    free((void *)(uintptr_t)out->message.id);
    free((void *)(uintptr_t)out->message.trace);
    free((void *)(uintptr_t)out->message.raw.ptr);
    ec_timer_free(out->again);
    free(out);
}

static void outgoing_end(struct outgoing *out)
{
    if (out->prev) {
        out->prev->next = out->next;
    } else {
        out->builder->outgoing = out->next;
    }
    if (out->next) {
        out->next->prev = out->prev;
    }
    ec_call_fn acked = out->acked;
    void *arg = out->arg;
    bool waiting = out->waiting;
    if (!waiting) {
        outgoing_free(out);
    }
    if (acked) {
        acked(arg);
    }
}

static void on_published(void *arg, struct ec_err err)
{
    struct outgoing *out = arg;
    out->waiting = false;
    if (out->given_up) {
        outgoing_free(out);
    } else if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, out->message.trace, "publish.failed", "an event is sent again",
               EC_T("type", out->message.type), EC_ERR(err));
        ec_timer_start(out->again, AGAIN_MS, 0);
    } else {
        outgoing_end(out);
    }
}

static void on_again(void *arg)
{
    struct outgoing *out = arg;
    struct ec_err err = ec_bus_publish(out->builder->bus, &out->message, on_published, out);
    out->waiting = !ec_failed(err);
    if (err.fate == EC_FATE_RETRY) {
        ec_timer_start(out->again, AGAIN_MS, 0);
    } else if (ec_failed(err)) { /* it will never be accepted: our own bug, said loudly */
        ec_log(EC_LOG_ERROR, out->message.trace, "publish.refused", "an event was dropped",
               EC_T("type", out->message.type), EC_ERR(err));
        ec_timer_stop(out->again);
        outgoing_end(out);
    }
}

void publish(struct builder *b, const struct ec_message *message, ec_call_fn acked, void *arg)
{
    struct outgoing *out = ec_alloc(sizeof(*out));
    size_t len = protobuf_c_message_get_packed_size(message->body);
    uint8_t *raw = ec_alloc(len + 1);
    protobuf_c_message_pack(message->body, raw);
    out->builder = b;
    out->message = (struct ec_message){
        .topic = ec_strdup(message->topic),
        .key = ec_strdup(message->key),
        .type = ec_strdup(message->type),
        .subject = message->subject ? ec_strdup(message->subject) : NULL,
        .id = ec_strdup(message->id),
        .trace = message->trace ? ec_strdup(message->trace) : NULL,
        .raw = {(char *)raw, len},
        .time_unix_ms = message->time_unix_ms,
    };
    out->acked = acked;
    out->arg = arg;
    out->again = ec_timer_new(b->loop, on_again, out);
    out->next = b->outgoing;
    if (out->next) {
        out->next->prev = out;
    }
    b->outgoing = out;
    struct ec_err err = ec_bus_publish(b->bus, &out->message, on_published, out);
    out->waiting = !ec_failed(err);
    if (ec_failed(err)) { /* on_again tells trouble from refusal, in a later turn */
        ec_timer_start(out->again, err.fate == EC_FATE_RETRY ? AGAIN_MS : 1, 0);
    }
}

void publish_give_up(struct builder *b)
{
    while (b->outgoing) {
        struct outgoing *out = b->outgoing;
        out->given_up = true;
        ec_timer_stop(out->again);
        outgoing_end(out);
    }
}
