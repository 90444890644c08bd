/* One librdkafka handle in our loop. Its threads only write an eventfd when a queue becomes
 * non-empty; that wake-up is edge-like (once until served), so whoever stops early writes the
 * eventfd himself and comes back in the next turn, after the other sources had theirs. A tick polls
 * even when nothing comes, because a consumer that is never polled is thrown out of its group. */
#include "bus/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <syslog.h>
#include <unistd.h>

#include "base/log.h"

#define TICK_MS 1000

static void on_readable(void *arg, int status, int events)
{
    struct bus_source *source = arg;
    uint64_t count;
    (void)status;
    (void)events;
    if (read(source->wake_fd, &count, sizeof count) < 0) {
        return; /* nothing there: a blank wake-up */
    }
    source->turn(source->owner);
}

static void on_tick(void *arg)
{
    struct bus_source *source = arg;
    source->turn(source->owner);
}

EC_RESULT bus_source_open(struct bus_source *source, struct ec_loop *loop, rd_kafka_t *rk,
                          bool consumer, ec_call_fn turn, void *owner)
{
    static const uint64_t one = 1;
    source->rk = rk;
    source->turn = turn;
    source->owner = owner;
    source->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (source->wake_fd < 0) {
        return ec_fatal(-1, "bus: no eventfd: too many open files");
    }
    if (consumer) {
        rd_kafka_poll_set_consumer(rk);
        source->control = rd_kafka_queue_get_consumer(rk);
        source->data = rd_kafka_queue_new(rk);
        rd_kafka_queue_io_event_enable(source->data, source->wake_fd, &one, sizeof one);
    } else {
        source->control = rd_kafka_queue_get_main(rk);
    }
    rd_kafka_set_log_queue(rk, source->control);
    rd_kafka_queue_io_event_enable(source->control, source->wake_fd, &one, sizeof one);
    EC_TRY(ec_poll_new(loop, source->wake_fd, on_readable, source, &source->poll));
    ec_poll_want(source->poll, UV_READABLE);
    source->tick = ec_timer_new(loop, on_tick, source);
    bus_source_tick(source, TICK_MS);
    bus_source_wake(source); /* what came before the wake-up was enabled */
    return ec_ok();
}

void bus_source_tick(struct bus_source *source, uint32_t every_ms)
{
    ec_timer_start(source->tick, every_ms, every_ms);
}

void bus_source_wake(struct bus_source *source)
{
    const uint64_t one = 1;
    if (source->wake_fd >= 0 && write(source->wake_fd, &one, sizeof one) < 0) {
        return; /* the counter is at its maximum: it is readable anyway */
    }
}

void bus_source_close(struct bus_source *source, bool answered)
{
    if (!source->rk) {
        return;
    }
    ec_timer_free(source->tick);
    ec_poll_free(source->poll);
    rd_kafka_queue_io_event_enable(source->control, -1, NULL, 0);
    rd_kafka_queue_destroy(source->control);
    if (source->data) {
        rd_kafka_queue_io_event_enable(source->data, -1, NULL, 0);
        rd_kafka_queue_destroy(source->data);
    }
    if (answered) {
        rd_kafka_destroy(source->rk);
    } /* else it waits for its group; waiting with it would cost the others their orderly end */
    close(source->wake_fd);
    memset(source, 0, sizeof *source);
    source->wake_fd = -1;
}

static void log_event(rd_kafka_event_t *event)
{
    const char *fac, *text;
    int level;
    if (rd_kafka_event_log(event, &fac, &text, &level) == 0) {
        /* Connection trouble (FAIL) repeats itself each second; bus.up and bus.down tell it once.
         */
        bool tell = level <= LOG_ERR && strcmp(fac, "FAIL") != 0;
        ec_log(tell ? EC_LOG_WARN : EC_LOG_DEBUG, NULL, "bus.client", text, EC_T("facility", fac));
    }
}

bool bus_source_common(struct ec_bus *bus, rd_kafka_t *rk, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_LOG:
        log_event(event);
        return true;
    case RD_KAFKA_EVENT_ERROR:
        if (rd_kafka_event_error_is_fatal(event)) {
            char text[256] = "";
            rd_kafka_resp_err_t cause = rd_kafka_fatal_error(rk, text, sizeof text);
            ec_log(EC_LOG_ERROR, NULL, "bus.broken", text, EC_N("code", cause));
            bus_fatal(bus, ec_fatal((int)cause, "bus: the Kafka client cannot go on"));
            return true;
        }
        if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
            bus->up = false;
        }
        /* A lost connection repairs itself; a missing topic or a refused right does not. */
        ec_log(code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
                   ? EC_LOG_DEBUG
                   : EC_LOG_WARN,
               NULL, "bus.trouble", rd_kafka_event_error_string(event), EC_N("code", code));
        return true;
    default:
        return false;
    }
}
