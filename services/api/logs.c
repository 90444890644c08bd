/* Build output. The group api-logs keeps every BuildLog in enclii.build_log (its key makes a second
 * delivery harmless). A live stream reads the stored rows first, then takes lines straight from the
 * hub as long as they follow without a gap; at a gap, and every LOOK_MS, it reads the rows again,
 * so that it misses nothing whoever stores them. It ends when the build has ended and its rows are
 * all sent. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"

#define LOOK_MS 1000
#define STREAM_BUFFER_MAX_BYTES (1u << 20)
#define ROWS_PER_LOOK "200"
/* An ended build without a last line: so many looks in a row that find nothing, and none will come.
 * Builders write one for what they end themselves; Kafka may have it still. */
#define QUIET_LOOKS_MAX 3
#define QUIET_LOOKS_MAX_OF_BUILDERS 15

/* ---- storing ---- */

static void on_stored(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    (void)rows;
    ec_event_finish(arg, err);
}

static const char *lines_json(struct ec_arena *arena, const Enclii__V1__BuildLog *log)
{
    json_t *list = json_array();
    for (size_t i = 0; i < log->n_lines; i++) {
        const Enclii__V1__LogLine *line = log->lines[i];
        json_t *item = json_pack("{s:I, s:s, s:s}", "t", (json_int_t)line->unix_ms, "s", line->step,
                                 "l", line->text);
        json_array_append_new(list, item ? item : json_pack("{s:s}", "l", "(not UTF-8)"));
    }
    char *text = ec_json_dump(arena, list);
    json_decref(list);
    return text;
}

static EC_RESULT on_build_log(void *state, struct ec_event *ev)
{
    struct api *api = state;
    const Enclii__V1__BuildLog *log = ec_event_body(ev);
    struct ec_arena *arena = ec_event_arena(ev);
    if (!log || !ec_id_valid(log->build_id)) {
        return ec_reject("build log: build_id is no UUID");
    }
    return ec_store_exec(api->store,
                         "insert into enclii.build_log (build_id, attempt, first_seq, lines, last)"
                         " values ($1::uuid, $2::int, $3::bigint, $4::jsonb, $5::boolean)"
                         " on conflict do nothing",
                         ARGS(log->build_id, ec_arena_format(arena, "%d", log->attempt),
                              ec_arena_format(arena, "%lld", (long long)log->first_seq),
                              lines_json(arena, log), log->last ? "true" : "false"),
                         on_stored, ev);
}

EC_RESULT logs_open(struct api *api)
{
    static const char *const topics[] = {EC_TOPIC_BUILD_LOGS, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.build.log.v1", &enclii__v1__build_log__descriptor, on_build_log},
    };
    struct ec_consume_spec spec = {
        .group = "api-logs",
        .topics = topics,
        .routes = routes,
        .route_count = EC_LEN(routes),
        .state = api,
    };
    return ec_bus_consume(api->bus, &spec, NULL);
}

/* ---- reading ---- */

static json_t *line_json(int64_t attempt, int64_t seq, int64_t unix_ms, const char *step,
                         const char *text)
{
    char time[EC_RFC3339_SIZE];
    ec_rfc3339(unix_ms, time);
    return json_pack("{s:I, s:I, s:s, s:s, s:s}", "attempt", (json_int_t)attempt, "seq",
                     (json_int_t)seq, "time", time, "step", step, "text", text);
}

/* Rows of the newest attempt (or $2) that hold lines from $3 on, and the build's state. */
static const char rows_sql[] =
    "select l.attempt, l.first_seq, l.lines, l.last, b.state from enclii.build b"
    " left join enclii.build_log l on l.build_id = b.id"
    "  and l.attempt = case when $2::int > 0 then $2::int else greatest(b.attempt, 1) end"
    "  and l.first_seq + jsonb_array_length(l.lines) > $3::bigint"
    " where b.id = $1::uuid order by l.first_seq limit " ROWS_PER_LOOK;

static void on_log_rows(struct call *call, const struct ec_rows *rows)
{
    json_t *lines = json_array();
    int64_t from = *(const int64_t *)call->more, next = from, attempt = 0;
    bool last = false;
    for (size_t r = 0; r < ec_rows_count(rows) && !ec_rows_null(rows, r, "lines"); r++) {
        json_t *stored = json_loads(ec_rows_text(rows, r, "lines"), 0, NULL);
        int64_t seq = ec_rows_int(rows, r, "first_seq");
        attempt = ec_rows_int(rows, r, "attempt");
        const json_t *line = NULL;
        size_t at = 0;
        json_array_foreach(stored, at, line)
        {
            if (seq + (int64_t)at >= next) {
                json_array_append_new(
                    lines, line_json(attempt, seq + (int64_t)at, ec_json_int(line, "t", 0),
                                     ec_json_text(line, "s"), ec_json_text(line, "l")));
                next = seq + (int64_t)at + 1;
            }
        }
        last = ec_rows_bool(rows, r, "last");
        json_decref(stored);
    }
    call_reply(call, 200,
               json_pack("{s:s, s:s, s:I, s:o, s:I, s:b}", "build_id", call->id, "state",
                         ec_rows_text(rows, 0, "state"), "attempt", (json_int_t)attempt, "lines",
                         lines, "next_seq", (json_int_t)next, "last", last));
}

static int64_t query_number(struct ec_request *req, const char *name, int64_t least)
{
    const char *text = ec_request_query(req, name);
    long long value = text ? strtoll(text, NULL, 10) : least;
    return value < least ? least : value;
}

void on_build_logs(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    int64_t *from = ec_arena_alloc(call->arena, sizeof(*from));
    *from = query_number(req, "from_seq", 1);
    call->more = from;
    call_query(call, rows_sql,
               ARGS(call->id,
                    ec_arena_format(call->arena, "%d", (int)query_number(req, "attempt", 0)),
                    ec_arena_format(call->arena, "%lld", (long long)*from)),
               on_log_rows);
}

/* ---- the live stream ---- */

/* What follows line $3 - 1 of attempt $2, later attempts included, and the build's state. */
static const char tail_sql[] =
    "select l.attempt, l.first_seq, l.lines, l.last, b.state from enclii.build b"
    " left join enclii.build_log l on l.build_id = b.id and (l.attempt > $2::int"
    "  or (l.attempt = $2::int and l.first_seq + jsonb_array_length(l.lines) > $3::bigint))"
    " where b.id = $1::uuid order by l.attempt, l.first_seq limit " ROWS_PER_LOOK;

struct tail {
    struct api *api;
    struct live *out; /* NULL once it has closed */
    struct hub_follower *follower;
    struct ec_timer *look;
    char build_id[EC_ID_SIZE];
    int64_t attempt; /* 0 until the first line */
    int64_t next_seq;
    bool last;    /* the attempt's last line was sent */
    int quiet;    /* looks in a row that found nothing */
    bool looking; /* a read of the rows is under way */
    bool over;    /* the end was said; only closing is left */
    bool again;   /* and another one is wanted after it */
};

static void look_now(struct tail *tail);

static void tail_free_if_done(struct tail *tail)
{
    if (!tail->out && !tail->looking) {
        free(tail);
    }
}

static void on_tail_closed(void *arg)
{
    struct tail *tail = arg;
    tail->out = NULL;
    hub_unfollow(tail->api->hub, tail->follower);
    ec_timer_free(tail->look);
    tail_free_if_done(tail);
}

static void send_line(struct tail *tail, json_t *line)
{
    char id[48];
    snprintf(id, sizeof(id), "%lld:%lld", (long long)tail->attempt, (long long)tail->next_seq);
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    if (text) {
        live_send(tail->out, id, "log", ec_span_of(text));
    }
    free(text);
    json_decref(line);
    tail->next_seq++;
}

static void begin_attempt(struct tail *tail, int64_t attempt)
{
    if (attempt > tail->attempt) {
        tail->attempt = attempt;
        tail->next_seq = 1;
        tail->last = false;
    }
}

/* Straight from the topic, when nothing is missing before it. */
static void on_live_lines(void *arg, const void *build_log)
{
    struct tail *tail = arg;
    const Enclii__V1__BuildLog *log = build_log;
    bool follows = log->attempt == tail->attempt
                       ? log->first_seq <= tail->next_seq
                       : log->attempt > tail->attempt && log->first_seq == 1;
    if (tail->looking || !follows || log->last) {
        look_now(tail);
        return;
    }
    begin_attempt(tail, log->attempt);
    for (size_t i = 0; i < log->n_lines; i++) {
        if (log->first_seq + (int64_t)i == tail->next_seq) {
            send_line(tail, line_json(tail->attempt, tail->next_seq, log->lines[i]->unix_ms,
                                      log->lines[i]->step, log->lines[i]->text));
        }
    }
}

static void send_row(struct tail *tail, const struct ec_rows *rows, size_t row)
{
    json_t *lines = json_loads(ec_rows_text(rows, row, "lines"), 0, NULL);
    int64_t seq = ec_rows_int(rows, row, "first_seq");
    const json_t *line = NULL;
    size_t at = 0;
    begin_attempt(tail, ec_rows_int(rows, row, "attempt"));
    json_array_foreach(lines, at, line)
    {
        if (seq + (int64_t)at >= tail->next_seq) {
            tail->next_seq = seq + (int64_t)at;
            send_line(tail, line_json(tail->attempt, tail->next_seq, ec_json_int(line, "t", 0),
                                      ec_json_text(line, "s"), ec_json_text(line, "l")));
        }
    }
    json_decref(lines);
}

static bool is_final(const char *state)
{
    return state[0] >= 'A' && state[0] <= 'Z';
}

static bool is_complete(const struct tail *tail, const char *state)
{
    bool by_builder = strcmp(state, "SUCCEEDED") == 0 || strcmp(state, "FAILED") == 0;
    return tail->last ||
           tail->quiet >= (by_builder ? QUIET_LOOKS_MAX_OF_BUILDERS : QUIET_LOOKS_MAX);
}

static void on_looked(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct tail *tail = arg;
    tail->looking = false;
    if (!tail->out) {
        tail_free_if_done(tail);
        return;
    }
    if (ec_failed(err)) {
        return; /* the timer looks again */
    }
    size_t count = 0;
    for (; count < ec_rows_count(rows) && !ec_rows_null(rows, count, "lines"); count++) {
        send_row(tail, rows, count);
        tail->last = ec_rows_bool(rows, count, "last");
    }
    tail->quiet = count ? 0 : tail->quiet + 1;
    const char *state = ec_rows_text(rows, 0, "state");
    if (is_final(state) && is_complete(tail, state)) {
        char text[64];
        snprintf(text, sizeof(text), "{\"state\":\"%s\"}", state);
        live_send(tail->out, NULL, "end", ec_span_of(text));
        tail->over = true;
        ec_timer_stop(tail->look);
        live_end(tail->out);
    } else if (tail->again || count) {
        look_now(tail);
    }
}

static void look_now(struct tail *tail)
{
    tail->again = tail->looking;
    if (tail->looking || tail->over) {
        return;
    }
    char attempt[24], seq[24];
    snprintf(attempt, sizeof(attempt), "%lld", (long long)tail->attempt);
    snprintf(seq, sizeof(seq), "%lld", (long long)tail->next_seq);
    struct ec_err err = ec_store_exec(tail->api->store, tail_sql,
                                      ARGS(tail->build_id, attempt, seq), on_looked, tail);
    tail->looking = !ec_failed(err);
}

static void on_look(void *arg)
{
    look_now(arg);
}

/* "2:17" → the line after it. */
static void resume(struct tail *tail, const char *last_event_id)
{
    long long attempt = 0, seq = 0;
    if (last_event_id && sscanf(last_event_id, "%9lld:%15lld", &attempt, &seq) == 2) {
        tail->attempt = attempt;
        tail->next_seq = seq + 1;
    }
}

void on_build_logs_stream(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    struct api *api = call->api;
    if (!call_stream_room(call)) {
        return;
    }
    struct tail *tail = ec_alloc(sizeof(*tail));
    tail->api = api;
    tail->next_seq = 1;
    snprintf(tail->build_id, sizeof(tail->build_id), "%s", call->id);
    resume(tail, ec_request_header(req, "Last-Event-ID"));
    tail->follower = hub_follow_logs(api->hub, tail->build_id, on_live_lines, tail);
    tail->look = ec_timer_new(api->loop, on_look, tail);
    ec_timer_start(tail->look, LOOK_MS, LOOK_MS);
    tail->out = live_open(call, STREAM_BUFFER_MAX_BYTES, on_tail_closed, tail);
    look_now(tail);
}
