/* The client of HAProxy's runtime socket. HAProxy answers one line of commands per connection and
 * closes, so the end of a reply is the end of the stream: nothing has to be guessed. */
#include "router/haproxy.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

struct call {
    struct ec_haproxy *hap;
    uv_pipe_t pipe;
    uv_connect_t connect;
    uv_write_t write;
    char *command;
    size_t len;
    struct ec_buf reply;
    struct ec_err err;
    ec_haproxy_fn done;
    void *arg;
    struct call *next;
};

struct ec_haproxy {
    struct ec_loop *loop;
    char *path;
    struct call *first, *last; /* first is the one under way once `running` */
    size_t waiting_count;
    bool running;
    bool closed;
    bool calling_back; /* ec_haproxy_close may be called from there */
    struct ec_timer *deadline;
    char chunk[65536]; /* read buffer of the one call under way */
};

static void run_next(void *arg);
static void on_deadline(void *arg);

struct ec_haproxy *ec_haproxy_open(struct ec_loop *loop, const char *socket_path)
{
    struct ec_haproxy *hap = ec_alloc(sizeof *hap);
    hap->loop = loop;
    hap->path = ec_strdup(socket_path);
    hap->deadline = ec_timer_new(loop, on_deadline, hap);
    return hap;
}

static void free_if_over(struct ec_haproxy *hap)
{
    if (hap->closed && hap->first == NULL) {
        ec_timer_free(hap->deadline);
        free(hap->path);
        free(hap);
    }
}

/* Takes the first call off the queue and tells its owner. */
static void finish_first(struct ec_haproxy *hap)
{
    struct call *call = hap->first;
    hap->first = call->next;
    hap->last = hap->first ? hap->last : NULL;
    hap->waiting_count--;
    hap->running = false;
    if (!ec_failed(call->err) && call->reply.overflowed) {
        call->err = ec_retry(0, "HAProxy's answer is longer than 4 MiB");
    }
    hap->calling_back = true;
    call->done(call->arg, call->err, ec_buf_span(&call->reply));
    hap->calling_back = false;
    ec_buf_done(&call->reply);
    free(call->command);
    free(call);
}

static void on_closed(uv_handle_t *handle)
{
    struct call *call = handle->data;
    struct ec_haproxy *hap = call->hap;
    finish_first(hap);
    run_next(hap);
}

static void end_call(struct call *call, struct ec_err err)
{
    if (uv_is_closing((uv_handle_t *)&call->pipe)) {
        return;
    }
    call->err = err;
    ec_timer_stop(call->hap->deadline);
    uv_close((uv_handle_t *)&call->pipe, on_closed);
}

static void on_deadline(void *arg)
{
    struct ec_haproxy *hap = arg;
    if (hap->running) {
        end_call(hap->first, ec_retry(0, "HAProxy does not answer on its runtime socket"));
    }
}

static void on_chunk_wanted(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    (void)suggested;
    struct call *call = handle->data;
    *ret_buf = uv_buf_init(call->hap->chunk, sizeof call->hap->chunk);
}

static void on_chunk(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct call *call = stream->data;
    if (len > 0) {
        ec_buf_add(&call->reply, buf->base, (size_t)len);
    } else if (len == UV_EOF) {
        end_call(call, ec_ok());
    } else if (len < 0) {
        end_call(call, ec_retry((int)len, "HAProxy's runtime socket broke off"));
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct call *call = write->data;
    if (status < 0) {
        end_call(call, ec_retry(status, "cannot write to HAProxy's runtime socket"));
    }
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct call *call = connect->data;
    if (status < 0) {
        end_call(call, ec_retry(status, "HAProxy's runtime socket cannot be reached"));
        return;
    }
    uv_buf_t buf = uv_buf_init(call->command, (unsigned)call->len);
    call->write.data = call;
    int failed = uv_read_start((uv_stream_t *)&call->pipe, on_chunk_wanted, on_chunk);
    failed =
        failed ? failed : uv_write(&call->write, (uv_stream_t *)&call->pipe, &buf, 1, on_written);
    if (failed) {
        end_call(call, ec_retry(failed, "cannot write to HAProxy's runtime socket"));
    }
}

static void run_next(void *arg)
{
    struct ec_haproxy *hap = arg;
    while (hap->closed && hap->first != NULL && !hap->running) {
        hap->first->err = ec_retry(0, "HAProxy's client was closed");
        finish_first(hap);
    }
    if (hap->first == NULL || hap->running) {
        free_if_over(hap);
        return;
    }
    struct call *call = hap->first;
    hap->running = true;
    uv_pipe_init(ec_loop_uv(hap->loop), &call->pipe, 0);
    call->pipe.data = call;
    call->connect.data = call;
    ec_timer_start(hap->deadline, EC_HAPROXY_DEADLINE_MS, 0);
    uv_pipe_connect(&call->connect, &call->pipe, hap->path, on_connected);
}

struct ec_err ec_haproxy_send(struct ec_haproxy *hap, struct ec_span command, ec_haproxy_fn done,
                              void *arg)
{
    if (command.len > EC_HAPROXY_COMMAND_MAX_BYTES) {
        return ec_reject("this command is longer than HAProxy's buffer");
    }
    if (hap->closed || hap->waiting_count >= EC_HAPROXY_WAITING_MAX) {
        return ec_retry(0, "too many commands wait for HAProxy");
    }
    struct call *call = ec_alloc(sizeof *call);
    call->hap = hap;
    call->command = ec_alloc(command.len + 1);
    memcpy(call->command, command.ptr, command.len);
    call->command[command.len] = '\n';
    call->len = command.len + 1;
    ec_buf_init(&call->reply, EC_HAPROXY_REPLY_MAX_BYTES);
    call->done = done;
    call->arg = arg;
    hap->waiting_count++;
    if (hap->last == NULL) {
        hap->first = call;
        hap->last = call;
        ec_loop_defer(hap->loop, run_next, hap);
    } else {
        hap->last->next = call;
        hap->last = call;
    }
    return ec_ok();
}

void ec_haproxy_close(struct ec_haproxy *hap)
{
    if (hap == NULL || hap->closed) {
        return;
    }
    hap->closed = true;
    if (hap->running) {
        end_call(hap->first, ec_retry(0, "HAProxy's client was closed"));
    } else if (!hap->calling_back) {
        free_if_over(hap);
    } /* else run_next, which follows every callback and every first call, ends the rest */
}
