/* See engine_double.h. One connection per request, answered and closed; the event stream and a pull
 * that hangs stay open. */
#include "support/engine_double.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"
#include "base/mem.h"
#include "support/kafka.h"

#define REQUEST_MAX 65536

struct talk {
    uv_pipe_t pipe;
    uv_write_t write;
    struct engine_double *engine;
    char in[REQUEST_MAX];
    size_t len;
    bool answered, events;
    char *out, *held;
    struct talk *next;
};

struct engine_private {
    uv_pipe_t listener;
    struct talk *talks;
    bool listening;
};

static void on_talk_closed(uv_handle_t *handle)
{
    struct talk *talk = handle->data;
    struct talk **at = &talk->engine->its->talks;
    while (*at != talk) {
        at = &(*at)->next;
    }
    *at = talk->next;
    free(talk->out);
    free(talk->held);
    free(talk);
}

static void hang_up(struct talk *talk)
{
    if (!uv_is_closing((uv_handle_t *)&talk->pipe)) {
        uv_close((uv_handle_t *)&talk->pipe, on_talk_closed);
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct talk *talk = write->data;
    (void)status;
    if (!talk->events) {
        hang_up(talk);
    }
}

static void answer(struct talk *talk, int status, const char *body)
{
    talk->answered = true;
    talk->out = ec_format("HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
                          "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
                          status, strlen(body), body);
    uv_buf_t buf = uv_buf_init(talk->out, (unsigned)strlen(talk->out));
    talk->write.data = talk;
    uv_write(&talk->write, (uv_stream_t *)&talk->pipe, &buf, 1, on_written);
}

/* ---- what it knows ---- */

static struct engine_container *find(struct engine_double *engine, const char *name, size_t len)
{
    for (int i = 0; i < engine->count; i++) {
        if (strlen(engine->containers[i].name) == len &&
            memcmp(engine->containers[i].name, name, len) == 0) {
            return &engine->containers[i];
        }
    }
    return NULL;
}

struct engine_container *engine_double_add(struct engine_double *engine, const char *name,
                                           const char *key, const char *identity)
{
    struct engine_container *box = &engine->containers[engine->count++];
    *box = (struct engine_container){.running = true, .port = engine->port, .replica = "0"};
    snprintf(box->name, sizeof box->name, "%s", name);
    snprintf(box->key, sizeof box->key, "%s", key);
    snprintf(box->identity, sizeof box->identity, "%s", identity);
    return box;
}

static void send_list(struct talk *talk)
{
    struct engine_double *engine = talk->engine;
    json_t *list = json_array();
    for (int i = 0; i < engine->count; i++) {
        const struct engine_container *box = &engine->containers[i];
        json_array_append_new(
            list,
            json_pack("{s:s, s:[s], s:s, s:s, s:[{s:i, s:i}], s:{s:s, s:s, s:s, s:s}}", "Id",
                      box->name, "Names", box->name, "State", box->running ? "running" : "exited",
                      "Status", box->running ? "Up" : "Exited (0) 1 second ago", "Ports",
                      "PrivatePort", 8080, "PublicPort", box->port, "Labels", "enclii.key",
                      box->key, "enclii.identity", box->identity, "enclii.replica", box->replica,
                      "enclii.probe", "{\"path\":\"/\",\"port\":8080,\"deadline_ms\":60000}"));
    }
    char *text = json_dumps(list, 0);
    json_decref(list);
    if (engine->holds_lists) {
        talk->answered = true;
        talk->held = text;
        return;
    }
    answer(talk, 200, text);
    free(text);
}

void engine_double_release(struct engine_double *engine)
{
    engine->holds_lists = false;
    for (struct talk *talk = engine->its->talks; talk; talk = talk->next) {
        if (talk->held) {
            answer(talk, 200, talk->held);
            free(EC_TAKE(talk->held));
        }
    }
}

static void create(struct talk *talk, const char *query, const char *body)
{
    struct engine_double *engine = talk->engine;
    char name[96] = "";
    json_t *root = json_loads(body, 0, NULL);
    const json_t *labels = json_object_get(root, "Labels");
    engine->creates++;
    if (sscanf(query, "name=%95[^ &]", name) != 1 || !labels ||
        engine->count == ENGINE_CONTAINERS_MAX) {
        snprintf(engine->unexpected, sizeof engine->unexpected, "create %.200s", query);
    } else if (engine->create_hangs) {
        talk->answered = true;
    } else if (engine->create_fails) {
        answer(talk, 500, "{\"message\":\"no space left on device\"}");
    } else {
        struct engine_container *box = engine_double_add(
            engine, name, json_string_value(json_object_get(labels, "enclii.key")),
            json_string_value(json_object_get(labels, "enclii.identity")));
        box->running = false;
        snprintf(box->replica, sizeof box->replica, "%s",
                 json_string_value(json_object_get(labels, "enclii.replica")));
        answer(talk, 201, "{}");
    }
    json_decref(root);
}

static void on_container(struct talk *talk, const char *method, const char *rest)
{
    struct engine_double *engine = talk->engine;
    size_t len = strcspn(rest, "/?");
    const char *verb = rest + len;
    struct engine_container *box = find(engine, rest, len);
    bool post = strcmp(method, "POST") == 0;
    if (strncmp(verb, "/logs", 5) == 0) {
        answer(talk, 200, "");
    } else if (post && strcmp(verb, "/start") == 0) {
        engine->starts++;
        if (box) {
            box->running = true;
            box->port = engine->port;
        }
        answer(talk, box ? 204 : 404, "");
    } else if (post && strncmp(verb, "/stop?t=", 8) == 0) {
        engine->stops++;
        if (box) {
            box->running = false;
        }
        answer(talk, box ? 204 : 404, "");
    } else if (strcmp(method, "DELETE") == 0 && strcmp(verb, "?force=true&v=true") == 0) {
        engine->deletes++;
        if (box) {
            *box = engine->containers[--engine->count];
        }
        answer(talk, box ? 204 : 404, "");
    }
}

static void send_progress(struct talk *talk)
{
    static const char line[] = "{\"status\":\"Downloading\",\"id\":\"4f4fb700ef54\"}\n";
    struct engine_double *engine = talk->engine;
    struct ec_buf body;
    ec_buf_init(&body, 64u << 20);
    while ((int)body.len < engine->pull_bytes) {
        ec_buf_add_text(&body, line);
    }
    ec_buf_add_text(&body, engine->pull_end[0] ? engine->pull_end : line);
    engine->image = !engine->pull_end[0];
    ec_buf_add(&body, "", 1);
    answer(talk, 200, body.ptr);
    ec_buf_done(&body);
}

static void on_request(struct talk *talk, const char *method, const char *path, const char *body)
{
    struct engine_double *engine = talk->engine;
    bool get = strcmp(method, "GET") == 0;
    if (get && strncmp(path, "/containers/json?all=true&filters=", 34) == 0) {
        send_list(talk);
    } else if (get && strncmp(path, "/events?filters=", 16) == 0) {
        static char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        talk->answered = talk->events = true;
        uv_buf_t buf = uv_buf_init(head, sizeof head - 1);
        uv_try_write((uv_stream_t *)&talk->pipe, &buf, 1);
    } else if (get && strncmp(path, "/images/", 8) == 0) {
        answer(talk, engine->image ? 200 : 404, "{}");
    } else if (!get && strncmp(path, "/images/create?fromImage=", 25) == 0) {
        engine->pulls++;
        talk->answered = true;
        if (!engine->pull_hangs) {
            send_progress(talk);
        }
    } else if (!get && strncmp(path, "/containers/create?", 19) == 0) {
        create(talk, path + 19, body);
    } else if (strncmp(path, "/containers/", 12) == 0) {
        on_container(talk, method, path + 12);
    }
    if (!talk->answered) {
        snprintf(engine->unexpected, sizeof engine->unexpected, "%s %.200s", method, path);
        answer(talk, 500, "{\"message\":\"not known to the double\"}");
    }
}

/* ---- connections ---- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct talk *talk = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init(talk->in + talk->len, (unsigned)(REQUEST_MAX - 1 - talk->len));
}

static void on_bytes(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct talk *talk = stream->data;
    (void)buf;
    if (len < 0) {
        hang_up(talk);
        return;
    }
    talk->len += (size_t)len;
    talk->in[talk->len] = '\0';
    char *end = strstr(talk->in, "\r\n\r\n"), method[8], path[4096];
    const char *length = strcasestr(talk->in, "\r\nContent-Length:");
    size_t body = length && length < end ? (size_t)atol(length + 17) : 0;
    if (talk->answered || !end || talk->len < (size_t)(end + 4 - talk->in) + body) {
        return;
    }
    if (sscanf(talk->in, "%7s /v1.41%4095s", method, path) == 2) {
        on_request(talk, method, path, end + 4);
    } else {
        snprintf(talk->engine->unexpected, sizeof talk->engine->unexpected, "%.60s", talk->in);
        hang_up(talk);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct engine_double *engine = listener->data;
    struct talk *talk = ec_alloc(sizeof *talk);
    talk->engine = engine;
    talk->next = engine->its->talks;
    engine->its->talks = talk;
    uv_pipe_init(ec_loop_uv(engine->loop), &talk->pipe, 0);
    talk->pipe.data = talk;
    if (status < 0 || uv_accept(listener, (uv_stream_t *)&talk->pipe) != 0) {
        hang_up(talk);
        return;
    }
    uv_read_start((uv_stream_t *)&talk->pipe, on_room, on_bytes);
}

static void listen_now(struct engine_double *engine)
{
    unlink(engine->path);
    uv_pipe_init(ec_loop_uv(engine->loop), &engine->its->listener, 0);
    engine->its->listener.data = engine;
    if (uv_pipe_bind(&engine->its->listener, engine->path) != 0 ||
        uv_listen((uv_stream_t *)&engine->its->listener, 32, on_connection) != 0) {
        abort();
    }
    engine->its->listening = true;
}

static void on_deaf(uv_handle_t *handle)
{
    ((struct engine_double *)handle->data)->its->listening = false;
}

static bool is_deaf(void *engine)
{
    const struct engine_private *its = ((struct engine_double *)engine)->its;
    return !its->listening && !its->talks;
}

void engine_double_go(struct engine_double *engine, bool away)
{
    if (!away) {
        listen_now(engine);
        return;
    }
    uv_close((uv_handle_t *)&engine->its->listener, on_deaf);
    for (struct talk *talk = engine->its->talks; talk; talk = talk->next) {
        hang_up(talk);
    }
    if (!test_run_until(engine->loop, 5000, is_deaf, engine)) {
        abort();
    }
}

void engine_double_tell(struct engine_double *engine)
{
    static char event[] = "{}\n";
    for (struct talk *talk = engine->its->talks; talk; talk = talk->next) {
        uv_buf_t buf = uv_buf_init(event, sizeof event - 1);
        if (talk->events) {
            uv_try_write((uv_stream_t *)&talk->pipe, &buf, 1);
        }
    }
}

void engine_double_start(struct engine_double *engine, struct ec_loop *loop, const char *dir)
{
    *engine = (struct engine_double){.loop = loop, .image = true};
    snprintf(engine->path, sizeof engine->path, "%s/engine.sock", dir);
    engine->its = ec_alloc(sizeof *engine->its);
    listen_now(engine);
}

void engine_double_stop(struct engine_double *engine)
{
    engine_double_go(engine, true);
    unlink(engine->path);
    free(engine->its);
}
