/* An app's own output. Each reader asks the reconciler over Kafka (ReadAppLog), again every
 * ASK_EVERY_MS for as long as it stays, and gets its lines as AppLog events through the hub. Two
 * forms: the past as one answer, and a live stream that goes on after a restart of the reconciler
 * from the last line it has seen. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/app_log.pb-c.h"

#define ASK_EVERY_MS 5000
#define STAY_MS 20000
#define ANSWER_DEADLINE_MS 5000
#define STREAM_BUFFER_MAX_BYTES (1u << 20)
#define LINES_MAX 10000

struct log_line {
    int64_t unix_ms;
    size_t seq; /* order of arrival: lines of one millisecond keep it */
    json_t *json;
};

struct app_reader {
    struct api *api;
    struct call *call; /* one answer: until it is given */
    struct live *out;  /* live: until it closes */
    struct hub_follower *follower;
    struct ec_timer *timer; /* asks again; or the answer's deadline */
    char reader_id[EC_ID_SIZE], service_id[EC_ID_SIZE], environment_id[EC_ID_SIZE];
    const char *environment; /* one answer: its name */
    int32_t tail_lines;
    int64_t since_unix_ms;
    bool over; /* live: the end was said */
    struct log_line *lines;
    size_t count, room;
    int64_t dropped;
};

/* ---- asking ---- */

static struct ec_err ask(struct app_reader *reader, int64_t until_unix_ms)
{
    Enclii__V1__ReadAppLog body = ENCLII__V1__READ_APP_LOG__INIT;
    body.service_id = reader->service_id;
    body.environment_id = reader->environment_id;
    body.reader_id = reader->reader_id;
    body.tail_lines = reader->tail_lines;
    body.since_unix_ms = reader->since_unix_ms;
    body.follow = reader->call == NULL;
    body.until_unix_ms = until_unix_ms;
    char key[2 * EC_ID_SIZE];
    snprintf(key, sizeof(key), "%s:%s", reader->service_id, reader->environment_id);
    struct ec_id id = ec_id_new();
    return ec_bus_publish(reader->api->bus,
                          &(struct ec_message){.topic = EC_TOPIC_APP_LOG_REQUESTS,
                                               .key = key,
                                               .type = "dev.enclii.app.log.read.v1",
                                               .subject = reader->reader_id,
                                               .id = id.text,
                                               .body = &body.base},
                          NULL, NULL); /* asked again */
}

static json_t *line_json(const Enclii__V1__AppLogLine *line)
{
    char time[EC_RFC3339_SIZE];
    ec_rfc3339(line->unix_ms, time);
    return json_pack("{s:s, s:s, s:s, s:s}", "time", time, "replica", line->replica, "stream",
                     line->error_stream ? "stderr" : "stdout", "text", line->text);
}

static struct app_reader *reader_new(struct call *call, hub_log_fn on_lines)
{
    struct app_reader *reader = ec_alloc(sizeof(*reader));
    struct ec_id id = ec_id_new();
    const char *lines = ec_request_query(call->req, "lines");
    const char *since = ec_request_query(call->req, "since");
    long wanted = lines ? strtol(lines, NULL, 10) : 100;
    reader->api = call->api;
    memcpy(reader->reader_id, id.text, EC_ID_SIZE);
    snprintf(reader->service_id, EC_ID_SIZE, "%s", call->service_id);
    reader->tail_lines = wanted < 0 ? 0 : wanted > LINES_MAX ? LINES_MAX : (int32_t)wanted;
    reader->since_unix_ms = since ? ec_rfc3339_parse(since) : 0;
    reader->follower = hub_follow_logs(call->api->hub, reader->reader_id, on_lines, reader);
    return reader;
}

static void reader_free(struct app_reader *reader)
{
    hub_unfollow(reader->api->hub, reader->follower);
    ec_timer_free(reader->timer);
    for (size_t i = 0; i < reader->count; i++) {
        json_decref(reader->lines[i].json);
    }
    free(reader->lines);
    free(reader);
}

/* ---- one answer ---- */

static int by_time(const void *a, const void *b)
{
    const struct log_line *left = a, *right = b;
    if (left->unix_ms != right->unix_ms) {
        return left->unix_ms < right->unix_ms ? -1 : 1;
    }
    return left->seq < right->seq ? -1 : 1;
}

static void keep_line(struct app_reader *reader, const Enclii__V1__AppLogLine *line)
{
    if (reader->count == LINES_MAX) {
        reader->dropped++;
        return;
    }
    if (reader->count == reader->room) {
        reader->room = reader->room ? reader->room * 2 : 64;
        struct log_line *more = ec_alloc(reader->room * sizeof(*more));
        if (reader->count) {
            memcpy(more, reader->lines, reader->count * sizeof(*more));
        }
        free(reader->lines);
        reader->lines = more;
    }
    reader->lines[reader->count] = (struct log_line){line->unix_ms, reader->count, line_json(line)};
    reader->count++;
}

static void answer(struct app_reader *reader, const char *problem)
{
    qsort(reader->lines, reader->count, sizeof(*reader->lines), by_time);
    json_t *lines = json_array();
    size_t wanted = (size_t)reader->tail_lines;
    for (size_t i = reader->count > wanted ? reader->count - wanted : 0; i < reader->count; i++) {
        json_array_append(lines, reader->lines[i].json);
    }
    call_reply(reader->call, 200,
               json_pack("{s:s, s:s, s:o, s:I, s:s}", "service_id", reader->service_id,
                         "environment", reader->environment, "lines", lines, "dropped_lines",
                         (json_int_t)reader->dropped, "problem", problem));
    reader_free(reader);
}

static void on_past_lines(void *arg, const void *app_log)
{
    struct app_reader *reader = arg;
    const Enclii__V1__AppLog *log = app_log;
    reader->dropped += log->dropped_lines;
    for (size_t i = 0; i < log->n_lines; i++) {
        keep_line(reader, log->lines[i]);
    }
    if (log->last) {
        answer(reader, log->problem);
    }
}

static void on_answer_due(void *arg)
{
    struct app_reader *reader = arg;
    call_problem(
        reader->call, 503, "logs_unavailable", NULL,
        "the reconciler did not send the output in time; is it running? The build's output "
        "is at /v1/builds/{id}/logs");
    reader_free(reader);
}

static void begin_answer(struct call *call, const struct ec_rows *rows)
{
    struct app_reader *reader = reader_new(call, on_past_lines);
    reader->call = call;
    reader->environment = ec_arena_strdup(call->arena, ec_rows_text(rows, 0, "name"));
    snprintf(reader->environment_id, EC_ID_SIZE, "%s", ec_rows_text(rows, 0, "id"));
    reader->timer = ec_timer_new(call->api->loop, on_answer_due, reader);
    ec_timer_start(reader->timer, ANSWER_DEADLINE_MS, 0);
    ec_ignore(ask(reader, ec_unix_ms() + ANSWER_DEADLINE_MS)); /* the deadline answers */
}

/* ---- live ---- */

static void on_live_lines(void *arg, const void *app_log)
{
    struct app_reader *reader = arg;
    const Enclii__V1__AppLog *log = app_log;
    if (reader->over) {
        return;
    }
    if (log->dropped_lines > 0) {
        char text[64];
        snprintf(text, sizeof(text), "{\"dropped_lines\":%lld}", (long long)log->dropped_lines);
        live_send(reader->out, NULL, "gap", ec_span_of(text));
    }
    for (size_t i = 0; i < log->n_lines; i++) {
        json_t *line = line_json(log->lines[i]);
        char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
        if (text) {
            live_send(reader->out, NULL, "log", ec_span_of(text));
        }
        free(text);
        json_decref(line);
        if (log->lines[i]->unix_ms >= reader->since_unix_ms) {
            reader->since_unix_ms = log->lines[i]->unix_ms + 1; /* from here after a restart */
        }
    }
    if (log->last) {
        json_t *end = json_pack("{s:s}", "problem", log->problem);
        char *text = json_dumps(end, JSON_COMPACT);
        live_send(reader->out, NULL, "end", ec_span_of(text));
        free(text);
        json_decref(end);
        reader->over = true;
        ec_timer_stop(reader->timer);
        live_end(reader->out);
    }
}

static void on_ask_again(void *arg)
{
    struct app_reader *reader = arg;
    ec_ignore(ask(reader, ec_unix_ms() + STAY_MS)); /* the next one asks again */
}

static void on_live_closed(void *arg)
{
    struct app_reader *reader = arg;
    ec_ignore(ask(reader, 1)); /* it has left; else its time ends */
    reader_free(reader);
}

static void begin_stream(struct call *call, const struct ec_rows *rows)
{
    struct api *api = call->api;
    if (!call_stream_room(call)) {
        return;
    }
    struct app_reader *reader = reader_new(call, on_live_lines);
    snprintf(reader->environment_id, EC_ID_SIZE, "%s", ec_rows_text(rows, 0, "id"));
    reader->timer = ec_timer_new(api->loop, on_ask_again, reader);
    ec_timer_start(reader->timer, 1, ASK_EVERY_MS);
    reader->out = live_open(call, STREAM_BUFFER_MAX_BYTES, on_live_closed, reader);
}

/* ---- both ---- */

static void on_environment(struct call *call, const struct ec_rows *rows)
{
    const char *since = ec_request_query(call->req, "since");
    if (since && ec_rfc3339_parse(since) < 0) {
        call_problem(call, 400, "invalid_field", "since",
                     "since must be a time like 2026-01-02T03:04:05Z");
    } else if (ec_rows_count(rows) == 0) {
        call_problem(call, 404, "environment_not_found", "environment",
                     "the project has no such environment");
    } else if (call->more) {
        begin_stream(call, rows);
    } else {
        begin_answer(call, rows);
    }
}

static void find_environment(struct call *call)
{
    const char *environment = ec_request_query(call->req, "environment");
    call_query(call,
               "select e.id, e.name from enclii.environment e join enclii.service s"
               " on s.project_id = e.project_id where s.id = $1::uuid"
               " and e.name = coalesce(nullif($2, ''), s.environment)",
               ARGS(call->service_id, environment ? environment : ""), on_environment);
}

void on_service_logs(void *state, struct ec_request *req)
{
    find_environment(call_of(state, req));
}

void on_service_logs_stream(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    call->more = call->api; /* anything: a stream is wanted */
    find_environment(call);
}
