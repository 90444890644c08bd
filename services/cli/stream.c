/* Server-sent events from the API for as long as they are wanted. A connection that is cut (the API
 * was started anew, a proxy grew tired) is made again, and goes on behind the last event seen
 * (Last-Event-ID); what comes twice is shown once. */
#include "cli.h"

#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

#define AGAIN_WITHIN_MS (2 * 60 * 1000) /* without an event, from the first loss on */
#define CALM_MS 10000                   /* a connection that held so long begins anew */
#define SEEN_MAX 2048                   /* ids kept: no less than the API sends again at once */

struct stream {
    struct cli *cli;
    struct stream_spec spec;
    struct ec_fetch *fetch; /* NULL while there is no connection */
    struct ec_timer *again;
    struct ec_backoff backoff;
    struct sse_reader reader;
    char last_id[SSE_ID_MAX_BYTES];
    uint64_t seen[SEEN_MAX]; /* hashes of ids; the oldest is overwritten */
    size_t seen_count;
    int64_t connected_ms; /* mono: the answer began; 0 = not yet */
    int64_t lost_ms;      /* mono: the first loss that nothing has made good; 0 = none */
    bool was_connected, told_lost;
    bool over, ended_by_us, too_large;
    struct ec_err err;
    int status;       /* of the last answer; 0 = none */
    const char *text; /* its body when it is no stream */
};

static void connect_stream(struct stream *stream);

/* FNV-1a: two of 2048 ids meet once in 10^13 times. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037u;
    for (; *text; text++) {
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    }
    return hash;
}

static bool seen_before(struct stream *stream, const char *id)
{
    uint64_t hash = hash_of(id);
    size_t count = stream->seen_count < SEEN_MAX ? stream->seen_count : SEEN_MAX;
    for (size_t i = 0; i < count; i++) {
        if (stream->seen[i] == hash) {
            return true;
        }
    }
    stream->seen[stream->seen_count++ % SEEN_MAX] = hash;
    return false;
}

static bool on_sse(void *arg, const struct sse_event *event)
{
    struct stream *stream = arg;
    if (event->id[0] && seen_before(stream, event->id)) {
        return true;
    }
    stream->lost_ms = 0; /* it goes on */
    return stream->spec.on_event(stream->spec.arg, event);
}

static void note_connected(struct stream *stream)
{
    stream->connected_ms = ec_mono_ms();
    stream->was_connected = true;
    if (stream->told_lost && !stream->spec.quiet) {
        give_up(EXIT_OK, "connected");
    }
    stream->told_lost = false;
}

static void on_piece(void *arg, struct ec_span piece)
{
    struct stream *stream = arg;
    if (stream->ended_by_us || stream->too_large) {
        return;
    }
    stream->ended_by_us = !sse_feed(&stream->reader, piece, on_sse, stream);
    stream->too_large = stream->reader.waiting.overflowed;
    if (stream->reader.began && !stream->connected_ms) { /* an error's text never does */
        note_connected(stream);
    }
}

enum stream_fate decide_stream_end(const struct stream_end *end)
{
    bool cut = end->no_answer || (end->status >= 200 && end->status < 300);
    bool busy = end->status == 429 || (end->status >= 502 && end->status <= 504);
    if (end->wanted_no_more) {
        return STREAM_OVER;
    }
    return (cut || busy) && end->lost_for_ms < AGAIN_WITHIN_MS ? STREAM_AGAIN : STREAM_OVER;
}

static void on_again(void *arg)
{
    connect_stream(arg);
}

static void connect_later(struct stream *stream)
{
    stream->lost_ms = stream->lost_ms ? stream->lost_ms : ec_mono_ms();
    if (!stream->told_lost && !stream->spec.quiet) {
        give_up(EXIT_OK,
                "%s; waiting for it, at most 2 minutes (ctrl-C ends this command, not what goes "
                "on there)",
                stream->was_connected ? "the connection to the platform was lost"
                                      : "the platform does not show this yet");
    }
    stream->told_lost = true;
    ec_timer_start(stream->again, ec_backoff_next_ms(&stream->backoff), 0);
}

static void on_fetch_end(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct stream *stream = arg;
    int64_t now = ec_mono_ms();
    if (stream->connected_ms && now - stream->connected_ms > CALM_MS) {
        stream->lost_ms = 0;
        ec_backoff_reset(&stream->backoff);
    }
    stream->fetch = NULL;
    stream->err = err;
    stream->err.what = ec_failed(err) ? ec_arena_strdup(stream->cli->arena, err.what) : NULL;
    stream->status = ec_failed(err) ? 0 : result->status;
    stream->text = ec_arena_text(stream->cli->arena, ec_buf_span(&stream->reader.waiting));
    const struct stream_end end = {
        .no_answer = ec_failed(err),
        .status = stream->status,
        .wanted_no_more = stream->ended_by_us || stream->too_large,
        .lost_for_ms = stream->lost_ms ? now - stream->lost_ms : 0,
    };
    if (decide_stream_end(&end) == STREAM_AGAIN) {
        connect_later(stream);
    } else {
        stream->over = true;
    }
}

static void connect_stream(struct stream *stream)
{
    struct cli *cli = stream->cli;
    /* What was half there when the connection broke comes whole. */
    snprintf(stream->last_id, sizeof stream->last_id, "%s", stream->reader.last_id);
    sse_done(&stream->reader);
    sse_init(&stream->reader);
    snprintf(stream->reader.last_id, sizeof stream->reader.last_id, "%s", stream->last_id);
    stream->connected_ms = 0;
    const char *path = stream->spec.path_again && stream->lost_ms
                           ? stream->spec.path_again(stream->spec.arg)
                           : stream->spec.path;
    const struct ec_header headers[] = {{"Accept", "text/event-stream"},
                                        {"Last-Event-ID", stream->last_id}};
    const struct ec_fetch_spec spec = {
        .url = ec_arena_format(cli->arena, "%s%s", cli->api_url, path),
        .headers = headers,
        .header_count = stream->last_id[0] ? 2 : 1,
        .bearer = cli->token,
        .deadline_ms = stream->spec.deadline_ms,
        .on_piece = on_piece,
    };
    stream->err = ec_fetch_start(cli->fetcher, &spec, on_fetch_end, stream, &stream->fetch);
    stream->over = ec_failed(stream->err);
}

struct stream *stream_open(struct cli *cli, const struct stream_spec *spec)
{
    struct stream *stream = ec_arena_alloc(cli->arena, sizeof *stream);
    *stream =
        (struct stream){.cli = cli, .spec = *spec, .backoff = {.first_ms = 200, .cap_ms = 3000}};
    stream->again = ec_timer_new(cli->loop, on_again, stream);
    sse_init(&stream->reader);
    connect_stream(stream);
    return stream;
}

bool stream_over(const struct stream *stream)
{
    return stream->over || stream->ended_by_us || stream->too_large;
}

int stream_close(struct stream *stream)
{
    struct cli *cli = stream->cli;
    ec_timer_free(EC_TAKE(stream->again));
    if (stream->fetch) {
        stream->ended_by_us = !stream->too_large;
        ec_fetch_cancel(stream->fetch);
        while (stream->fetch) {
            uv_run(ec_loop_uv(cli->loop), UV_RUN_ONCE);
        }
    }
    int status = EXIT_OK;
    if (stream->too_large) {
        status = give_up(EXIT_ERROR, "the platform at %s sent an event of more than %d MiB",
                         cli->api_url, SSE_EVENT_MAX_BYTES >> 20);
    } else if (!stream->ended_by_us && stream->over && !stream->spec.quiet) {
        status = api_refused(cli, stream->err, stream->status, stream->text);
    }
    sse_done(&stream->reader);
    return status;
}

int api_stream(struct cli *cli, const struct stream_spec *spec)
{
    struct stream *stream = stream_open(cli, spec);
    while (!stream_over(stream)) {
        uv_run(ec_loop_uv(cli->loop), UV_RUN_ONCE);
    }
    return stream_close(stream);
}
