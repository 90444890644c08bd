/* What apps print, for whoever reads it now: a request opens a reading at the target, its lines go
 * out as AppLog events of at most LINES_PER_EVENT, one event under way at a time. A reader that has
 * not asked again by its time is gone. An app that is faster than the way out loses lines, and the
 * reader is told how many. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/topics.h"
#include "enclii/v1/app_log.pb-c.h"
#include "reconciler.h"

#define READERS_MAX 64
#define FLUSH_MS 50
#define LINES_PER_EVENT 200
#define LINES_MAX 2000 /* waiting, per reader */
#define TAIL_LINES_MAX 10000
#define AHEAD_MAX_MS 60000 /* nobody may stay for longer without asking again */

static struct ec_metric readers_now =
    EC_GAUGE("enclii_app_log_readers", "Readings of app output under way.", NULL);
static struct ec_metric lines_total = EC_COUNTER(
    "enclii_app_log_lines_total", "Lines of app output by what became of them.", "result");

struct line {
    int64_t unix_ms;
    char *replica, *text;
    bool error_stream;
};

struct reader {
    struct app_logs *logs;
    char id[EC_ID_SIZE], service_id[EC_ID_SIZE], environment_id[EC_ID_SIZE];
    int64_t until_unix_ms;
    struct target_log *log; /* NULL: could not be opened */
    struct ec_timer *flush;
    struct line *lines; /* a ring of LINES_MAX */
    size_t first, count;
    int64_t dropped;
    const char *problem; /* literal or the request's: why there is nothing */
    bool done;           /* nothing more comes from the target */
    bool told_last;      /* the event under way says so */
    bool sending;        /* one event is under way */
    bool gone;           /* freed when the event under way is */
};

struct app_logs {
    struct reconciler *rec;
    struct ec_map *readers; /* reader id → struct reader */
};

static void line_done(struct line *line)
{
    free(line->replica);
    free(line->text);
}

static void reader_free(struct reader *reader)
{
    for (size_t i = 0; i < reader->count; i++) {
        line_done(&reader->lines[(reader->first + i) % LINES_MAX]);
    }
    free(reader->lines);
    free(reader);
}

static void reader_end(struct reader *reader)
{
    struct app_logs *logs = reader->logs;
    (void)ec_map_remove(logs->readers, reader->id);
    ec_metric_set(&readers_now, NULL, (double)ec_map_count(logs->readers));
    if (reader->log) {
        logs->rec->ops->log_close(EC_TAKE(reader->log));
    }
    ec_timer_free(EC_TAKE(reader->flush));
    reader->gone = true;
    if (!reader->sending) {
        reader_free(reader);
    }
}

/* ---- out ---- */

static void on_line(void *arg, const struct target_log_line *line)
{
    struct reader *reader = arg;
    if (reader->count == LINES_MAX) {
        reader->dropped++;
        ec_metric_add(&lines_total, "dropped", 1);
        return;
    }
    reader->lines[(reader->first + reader->count++) % LINES_MAX] = (struct line){
        line->unix_ms, ec_strdup(line->replica), ec_strdup(line->text), line->error_stream};
    if (!ec_timer_active(reader->flush)) {
        ec_timer_start(reader->flush, FLUSH_MS, 0);
    }
}

static void on_sent(void *arg, struct ec_err err)
{
    struct reader *reader = arg;
    reader->sending = false; /* a live view may miss lines, but not the end */
    if (reader->gone) {
        reader_free(reader);
    } else if (reader->told_last && !ec_failed(err)) {
        reader_end(reader);
    } else {
        ec_timer_start(reader->flush, FLUSH_MS, 0);
    }
}

static size_t take_lines(struct reader *reader, struct ec_arena *arena,
                         Enclii__V1__AppLogLine **ret_lines)
{
    size_t count = 0;
    for (; count < LINES_PER_EVENT && reader->count > 0; count++, reader->count--) {
        struct line *from = &reader->lines[reader->first];
        Enclii__V1__AppLogLine *line = ec_arena_alloc(arena, sizeof *line);
        enclii__v1__app_log_line__init(line);
        line->unix_ms = from->unix_ms;
        line->replica = ec_arena_strdup(arena, from->replica);
        line->text = ec_arena_strdup(arena, from->text);
        line->error_stream = from->error_stream;
        ret_lines[count] = line;
        line_done(from);
        reader->first = (reader->first + 1) % LINES_MAX;
    }
    return count;
}

static void send_lines(struct reader *reader)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4u << 20);
    Enclii__V1__AppLogLine *lines[LINES_PER_EVENT];
    Enclii__V1__AppLog body = ENCLII__V1__APP_LOG__INIT;
    body.service_id = reader->service_id;
    body.environment_id = reader->environment_id;
    body.reader_id = reader->id;
    body.dropped_lines = reader->dropped;
    body.n_lines = take_lines(reader, arena, lines);
    body.lines = lines;
    body.last = reader->done && reader->count == 0;
    body.problem = (char *)(uintptr_t)(reader->problem ? reader->problem : "");
    reader->told_last = body.last;
    reader->dropped = 0;
    ec_metric_add(&lines_total, "sent", (double)body.n_lines);
    struct ec_id id = ec_id_new();
    const struct ec_message message = {
        .topic = EC_TOPIC_APP_LOGS,
        .key = ec_arena_format(arena, "%s:%s", reader->service_id, reader->environment_id),
        .type = "dev.enclii.app.log.v1",
        .subject = reader->id,
        .id = id.text,
        .body = &body.base,
    };
    reader->sending = true;
    struct ec_err err =
        ec_bus_publish(ec_service_bus(reader->logs->rec->svc), &message, on_sent, reader);
    if (ec_failed(err)) {
        reader->sending = false;
        ec_timer_start(reader->flush, FLUSH_MS, 0);
    }
}

static void on_flush(void *arg)
{
    struct reader *reader = arg;
    if (ec_unix_ms() > reader->until_unix_ms) {
        reader_end(reader);
    } else if (!reader->sending && (reader->count > 0 || reader->done)) {
        send_lines(reader);
    } else if (!reader->sending) {
        int64_t left_ms = reader->until_unix_ms - ec_unix_ms();
        ec_timer_start(reader->flush, (uint64_t)left_ms + 1, 0);
    }
}

static void on_read(void *arg)
{
    struct reader *reader = arg;
    reader->done = true;
    ec_timer_start(reader->flush, 1, 0);
}

/* ---- in ---- */

static struct reader *reader_new(struct app_logs *logs, const Enclii__V1__ReadAppLog *ask)
{
    struct reader *reader = ec_alloc(sizeof *reader);
    reader->logs = logs;
    strncpy(reader->id, ask->reader_id, EC_ID_SIZE - 1);
    strncpy(reader->service_id, ask->service_id, EC_ID_SIZE - 1);
    strncpy(reader->environment_id, ask->environment_id, EC_ID_SIZE - 1);
    reader->lines = ec_alloc(LINES_MAX * sizeof *reader->lines);
    reader->flush = ec_timer_new(ec_service_loop(logs->rec->svc), on_flush, reader);
    return reader;
}

static void open_log(struct reader *reader, const char *key, const Enclii__V1__ReadAppLog *ask)
{
    struct reconciler *rec = reader->logs->rec;
    const struct target_log_spec spec = {
        .tail_lines = ask->tail_lines < 0                ? 0
                      : ask->tail_lines > TAIL_LINES_MAX ? TAIL_LINES_MAX
                                                         : ask->tail_lines,
        .since_unix_ms = ask->since_unix_ms > 0 ? ask->since_unix_ms : 0,
        .follow = ask->follow,
    };
    const struct rollout *ro = ec_map_get(rec->rollouts, key);
    if (!ro || !ro->desired) {
        reader->problem = "nothing of this service runs in this environment";
    } else if (ec_failed(rec->ops->log_open(rec->target, key, &spec, on_line, on_read, reader,
                                            &reader->log))) {
        reader->problem = "too many people read logs on this machine; try again later";
    }
    reader->done = reader->problem != NULL;
    ec_timer_start(reader->flush, reader->done ? 1 : FLUSH_MS, 0);
}

static EC_RESULT on_read_app_log(void *state, struct ec_event *ev)
{
    struct app_logs *logs = state;
    const Enclii__V1__ReadAppLog *ask = ec_event_body(ev);
    if (!ask || !ec_id_valid(ask->reader_id) || !ec_id_valid(ask->service_id) ||
        !ec_id_valid(ask->environment_id)) {
        return ec_reject("reader_id, service_id and environment_id must be UUIDs");
    }
    int64_t now = ec_unix_ms();
    struct reader *reader = ec_map_get(logs->readers, ask->reader_id);
    if (ask->until_unix_ms <= now) { /* has left, or the request is old */
        if (reader) {
            reader_end(reader);
        }
        ec_event_finish(ev, ec_ok());
        return ec_ok();
    }
    bool is_new = !reader && ec_map_count(logs->readers) < READERS_MAX;
    if (is_new) {
        reader = reader_new(logs, ask);
        (void)ec_map_put(logs->readers, reader->id, reader);
        ec_metric_set(&readers_now, NULL, (double)ec_map_count(logs->readers));
        ec_log(EC_LOG_DEBUG, NULL, "app_log.read", "somebody reads an app's output",
               EC_T("key", ec_event_key(ev)));
    }
    if (reader) {
        int64_t most = now + AHEAD_MAX_MS;
        reader->until_unix_ms = ask->until_unix_ms < most ? ask->until_unix_ms : most;
    }
    if (is_new) {
        open_log(reader, ec_event_key(ev), ask);
    }
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static const struct ec_route routes[] = {
    {"dev.enclii.app.log.read.v1", &enclii__v1__read_app_log__descriptor, on_read_app_log},
};

struct ec_err app_logs_open(struct reconciler *rec)
{
    static const char *const topics[] = {EC_TOPIC_APP_LOG_REQUESTS, NULL};
    rec->app_logs = ec_alloc(sizeof *rec->app_logs);
    rec->app_logs->rec = rec;
    rec->app_logs->readers = ec_map_new(READERS_MAX);
    const struct ec_consume_spec spec = {
        .group = "reconciler-app-logs",
        .topics = topics,
        .routes = routes,
        .route_count = EC_LEN(routes),
        .state = rec->app_logs,
        .latest = true,
    };
    return ec_bus_consume(ec_service_bus(rec->svc), &spec, NULL);
}

void app_logs_close(struct reconciler *rec)
{
    void *value;
    for (size_t at = 0; ec_map_next(rec->app_logs->readers, &at, NULL, &value); at = 0) {
        reader_end(value);
    }
}
