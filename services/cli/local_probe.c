/* Is a component ready? One question at a time: a connection, an HTTP answer or a command's exit.
 */
#include "local.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/process.h"

#define PROBE_DEADLINE_MS 2000

struct local_probe {
    struct ec_loop *loop;
    probe_fn done;
    void *arg;
    bool ready;
    union {
        uv_handle_t handle;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    uv_connect_t connect;
};

static void finish(void *arg)
{
    struct local_probe *probe = arg;
    probe->done(probe->arg, probe->ready);
    free(probe);
}

static void on_closed(uv_handle_t *handle)
{
    finish(handle->data);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct local_probe *probe = connect->data;
    probe->ready = status == 0;
    uv_close(&probe->handle, on_closed);
}

static void connect_tcp(struct local_probe *probe, const char *port)
{
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", atoi(port), &address);
    uv_tcp_init(ec_loop_uv(probe->loop), &probe->tcp);
    probe->tcp.data = probe;
    /* Loopback answers at once, so that no deadline is needed. */
    if (uv_tcp_connect(&probe->connect, &probe->tcp, (struct sockaddr *)&address, on_connected)) {
        uv_close(&probe->handle, on_closed);
    }
}

static void connect_unix(struct local_probe *probe, const char *path)
{
    uv_pipe_init(ec_loop_uv(probe->loop), &probe->pipe, 0);
    probe->pipe.data = probe;
    uv_pipe_connect(&probe->connect, &probe->pipe, path, on_connected);
}

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct local_probe *probe = arg;
    probe->ready = !ec_failed(err) && result->status == 200;
    finish(probe);
}

static void fetch(struct local_probe *probe, struct ec_fetcher *fetcher, const char *url,
                  const char *socket)
{
    const struct ec_fetch_spec spec = {
        .url = url, .unix_socket = socket, .deadline_ms = PROBE_DEADLINE_MS};
    if (ec_failed(ec_fetch_start(fetcher, &spec, on_answer, probe, NULL))) {
        ec_loop_defer(probe->loop, finish, probe);
    }
}

static void on_process_end(void *arg, const struct ec_process_result *result)
{
    struct local_probe *probe = arg;
    probe->ready = result->exit_code == 0;
    finish(probe);
}

static void run(struct local_probe *probe, const char *const *argv, const char *const *env)
{
    struct ec_process *process = NULL;
    const struct ec_process_spec spec = {.argv = argv,
                                         .env = env,
                                         .deadline_ms = PROBE_DEADLINE_MS,
                                         .on_exit = on_process_end,
                                         .arg = probe};
    if (ec_failed(ec_process_start(probe->loop, &spec, &process))) {
        ec_loop_defer(probe->loop, finish, probe);
    }
}

void local_probe_start(const struct local *local, const struct component *component,
                       struct ec_loop *loop, struct ec_fetcher *fetcher, probe_fn done, void *arg)
{
    struct local_probe *probe = ec_alloc(sizeof *probe);
    probe->loop = loop;
    probe->done = done;
    probe->arg = arg;
    probe->connect.data = probe;
    const char *const *words = local_words(local, component, component->probe);
    if (strcmp(words[0], "tcp") == 0) {
        connect_tcp(probe, words[1]);
    } else if (strcmp(words[0], "unix") == 0) {
        connect_unix(probe, words[1]);
    } else if (strcmp(words[0], "http") == 0) {
        fetch(probe, fetcher,
              ec_arena_format(local->arena, "http://127.0.0.1:%s%s", words[1], words[2]), NULL);
    } else if (strcmp(words[0], "socket") == 0) {
        fetch(probe, fetcher, ec_arena_format(local->arena, "http://localhost%s", words[2]),
              words[1]);
    } else {
        run(probe, words + 1, local_env(local, component));
    }
}
