/* What containers print: the last lines of one, and readings of all of a key. Each reading follows
 * every container of its key over a connection of its own; containers that start later are found by
 * looking again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "docker.h"
#include "log_frames.h"

#define LOOK_MS 500
#define SOURCES_MAX 64             /* connections of all readings; the fetcher has 256 */
#define FOLLOW_DEADLINE_MS 3600000 /* then it goes on from the last line on a new connection */
#define PAST_DEADLINE_MS 5000
#define LABEL_SIZE 64
#define LINE_ARENA_MAX_BYTES (4u * LOG_LINE_MAX_BYTES)

/* ---- the last lines of one ---- */

struct last_lines {
    struct target *dk;
    target_logs_fn done;
    void *arg;
};

static void on_last_lines(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct last_lines *last = arg;
    struct target *dk = last->dk;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    char *text = ec_arena_strdup(arena, "");
    if (!ec_failed(err)) {
        err = ec_fetch_status_err(result->status, "the container engine has no logs of it");
        text = ec_failed(err) ? text : docker_read_logs(arena, result->body);
    }
    last->done(last->arg, err, ec_span_of(text));
    free(last);
    docker_call_ended(dk);
}

struct ec_err docker_last_lines(struct target *dk, const char *key,
                                const struct target_identity *identity, int lines,
                                target_logs_fn done, void *arg)
{
    const struct place *place = ec_map_get(dk->places, key);
    const struct instance *worst = NULL;
    struct instance *instance;
    for (size_t at = 0; place != NULL && docker_next(place, &at, &instance);) {
        bool same = strcmp(instance->identity.text, identity->text) == 0;
        bool worse = worst == NULL || instance->state == CONTAINER_EXITED ||
                     (!docker_ready(instance) && worst->state != CONTAINER_EXITED);
        worst = same && worse ? instance : worst;
    }
    if (worst == NULL) {
        return ec_reject("nothing of this version runs here");
    }
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    const struct ec_fetch_spec call = {
        .url = ec_arena_format(
            arena, "http://docker/v1.41/containers/%s/logs?stdout=true&stderr=true&tail=%d",
            worst->name, lines),
        .deadline_ms = 5000,
    };
    struct last_lines *last = ec_alloc(sizeof *last);
    *last = (struct last_lines){dk, done, arg};
    struct ec_err err = docker_call(dk, &call, on_last_lines, last);
    if (ec_failed(err)) {
        free(last);
    }
    return err;
}

/* ---- readings ---- */

struct source {
    struct target *dk;
    struct target_log *log; /* NULL: the reading is closed, on_source_end frees this */
    struct ec_fetch *fetch; /* NULL = has ended */
    char *container_id;
    char label[LABEL_SIZE];
    int64_t last_unix_ms; /* of the newest line */
    struct log_frames frames;
    struct source *next;
};

struct target_log {
    struct target *dk;
    char *key;
    struct target_log_spec spec;
    target_line_fn line;
    ec_call_fn done;
    void *arg;
    struct source *sources;
    struct ec_timer *look;
};

/* "enclii-shop-production-1a2b3c4-0-9f8e7d" → "1a2b3c4-0" */
static void set_label(struct source *source, const char *name)
{
    const char *end = strrchr(name, '-');
    const char *at = end ? end : name + strlen(name);
    for (int dashes = 0; at > name && dashes < 2;) {
        at--;
        dashes += *at == '-' ? 1 : 0;
    }
    at += *at == '-' ? 1 : 0;
    int len = (int)((end ? end : name + strlen(name)) - at);
    snprintf(source->label, sizeof source->label, "%.*s", len, at);
}

/* Each line begins with its time: "2026-01-02T03:04:05.678901234Z text". */
static void on_source_line(void *arg, bool error_stream, struct ec_span raw)
{
    struct source *source = arg;
    const struct target_log *log = source->log;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(LINE_ARENA_MAX_BYTES);
    const char *text = ec_text_clean(arena, raw, LOG_LINE_MAX_BYTES);
    char time[40];
    const char *space = strchr(text, ' ');
    size_t len = space ? (size_t)(space - text) : 0;
    int64_t unix_ms = -1;
    if (len > 0 && len < sizeof time) {
        memcpy(time, text, len);
        time[len] = '\0';
        unix_ms = ec_rfc3339_parse(time);
    }
    const struct target_log_line line = {
        .unix_ms = unix_ms >= 0 ? unix_ms : ec_unix_ms(),
        .replica = source->label,
        .text = unix_ms >= 0 ? space + 1 : text,
        .error_stream = error_stream,
    };
    source->last_unix_ms = line.unix_ms;
    if (line.unix_ms >= log->spec.since_unix_ms) {
        log->line(log->arg, &line);
    }
}

static void on_source_bytes(void *arg, struct ec_span piece)
{
    struct source *source = arg;
    if (source->log) {
        log_frames_feed(&source->frames, piece, on_source_line, source);
    }
}

static void source_free(struct source *source)
{
    free(source->container_id);
    free(source);
}

static void look(struct target_log *log);

/* A container that is gone has nothing more to say; one that still runs is found again. */
static void on_source_end(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct source *source = arg;
    struct target_log *log = source->log;
    (void)err;
    (void)result;
    docker_call_ended(source->dk);
    source->dk->log_sources--;
    source->fetch = NULL;
    if (!log) {
        source_free(source);
        return;
    }
    log_frames_end(&source->frames, on_source_line, source);
    memset(&source->frames, 0, sizeof source->frames);
    ec_timer_start(log->look, log->spec.follow ? LOOK_MS : 1, 0);
}

static bool open_source(struct target_log *log, struct source *source)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    bool again = source->last_unix_ms > 0;
    int64_t since_ms = again ? source->last_unix_ms + 1 : log->spec.since_unix_ms;
    char *tail = again ? "all" : ec_arena_format(arena, "%d", log->spec.tail_lines);
    const struct ec_fetch_spec call = {
        .url = ec_arena_format(arena,
                               "http://docker/v1.41/containers/%s/logs?stdout=true&stderr=true"
                               "&timestamps=true&follow=%s&tail=%s&since=%lld.%03lld",
                               source->container_id, log->spec.follow ? "true" : "false", tail,
                               (long long)since_ms / 1000, (long long)since_ms % 1000),
        .unix_socket = log->dk->is.docker_socket,
        .deadline_ms = log->spec.follow ? FOLLOW_DEADLINE_MS : PAST_DEADLINE_MS,
        .on_piece = on_source_bytes,
    };
    struct ec_err err =
        ec_fetch_start(log->dk->is.fetcher, &call, on_source_end, source, &source->fetch);
    if (ec_failed(err)) {
        source->fetch = NULL;
        return false;
    }
    log->dk->pending++;
    log->dk->log_sources++;
    return true;
}

static struct source *find_source(const struct target_log *log, const char *container_id)
{
    struct source *source = log->sources;
    while (source && strcmp(source->container_id, container_id) != 0) {
        source = source->next;
    }
    return source;
}

static void add_source(struct target_log *log, const struct instance *instance)
{
    struct source *source = ec_alloc(sizeof *source);
    source->dk = log->dk;
    source->log = log;
    source->container_id = ec_strdup(instance->id);
    set_label(source, instance->name);
    source->next = log->sources;
    log->sources = source;
    (void)open_source(log, source); /* looked at again */
}

/* Opens what is not open and should be. Without follow each container is read once. */
static void look(struct target_log *log)
{
    void *value;
    for (size_t at = 0; ec_map_next(log->dk->instances, &at, NULL, &value);) {
        const struct instance *instance = value;
        if (strcmp(instance->place->key, log->key) != 0 || log->dk->log_sources >= SOURCES_MAX) {
            continue;
        }
        struct source *source = find_source(log, instance->id);
        if (!source) {
            add_source(log, instance);
        } else if (!source->fetch && log->spec.follow && instance->state == CONTAINER_RUNNING) {
            (void)open_source(log, source);
        }
    }
}

static void on_look(void *arg)
{
    struct target_log *log = arg;
    bool open = false;
    if (log->spec.follow) {
        look(log);
        ec_timer_start(log->look, LOOK_MS, 0);
        return;
    }
    for (const struct source *source = log->sources; source; source = source->next) {
        open = open || source->fetch;
    }
    if (!open) {
        log->done(log->arg);
    }
}

struct ec_err docker_log_open(struct target *dk, const char *key,
                              const struct target_log_spec *spec, target_line_fn line,
                              ec_call_fn done, void *arg, struct target_log **ret_log)
{
    if (dk->log_sources >= SOURCES_MAX) {
        return ec_retry(0, "too many people read logs on this machine; try again later");
    }
    struct target_log *log = ec_alloc(sizeof *log);
    log->dk = dk;
    log->key = ec_strdup(key);
    log->spec = *spec;
    log->line = line;
    log->done = done;
    log->arg = arg;
    log->look = ec_timer_new(dk->is.loop, on_look, log);
    look(log);
    ec_timer_start(log->look, spec->follow ? LOOK_MS : 1, 0);
    *ret_log = log;
    return ec_ok();
}

void docker_log_close(struct target_log *log)
{
    struct source *next = NULL;
    for (struct source *source = log->sources; source; source = next) {
        next = source->next;
        source->log = NULL;
        if (source->fetch) {
            ec_fetch_cancel(source->fetch); /* on_source_end frees it */
        } else {
            source_free(source);
        }
    }
    ec_timer_free(log->look);
    free(log->key);
    free(log);
}
