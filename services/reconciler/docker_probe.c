/* Health by our own eyes: an HTTP GET to each replica through its published port, quickly until the
 * first good answer, then each period. The engine's own health checks are not used (Podman without
 * systemd never runs them). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "docker.h"

#define FIRST_EVERY_MS 50 /* until the first healthy answer */

static void on_timer(void *arg);

bool docker_ready(const struct instance *instance)
{
    return instance->state == CONTAINER_RUNNING && instance->ever_healthy &&
           instance->failures < instance->probe.failures_max;
}

static void describe_silence(const struct instance *instance, char *ret_detail, size_t size)
{
    snprintf(ret_detail, size,
             "nothing listened on port %d within %lld s: the app must listen on 0.0.0.0:$PORT",
             instance->probe.port, (long long)(instance->probe.deadline_ms / 1000));
}

static void describe_answers(const struct instance *instance, char *ret_detail, size_t size)
{
    if (instance->last_status > 0) {
        snprintf(ret_detail, size, "GET %s answered %d; 2xx or 3xx within %lld s was expected",
                 instance->probe.path, instance->last_status,
                 (long long)(instance->probe.deadline_ms / 1000));
    } else {
        snprintf(ret_detail, size, "GET %s got no answer within %lld ms", instance->probe.path,
                 (long long)instance->probe.timeout_ms);
    }
}

enum target_trouble docker_trouble(const struct instance *instance, char *ret_detail, size_t size)
{
    if (instance->state == CONTAINER_EXITED) {
        struct ec_arena *arena = ec_arena_new(4096);
        snprintf(ret_detail, size, "replica %d %s", instance->replica,
                 docker_exit_text(arena, instance->exit_code));
        ec_arena_free(arena);
        return TARGET_EXITED;
    }
    bool over = ec_mono_ms() - instance->since_ms >= instance->probe.deadline_ms;
    if (instance->state != CONTAINER_RUNNING || docker_ready(instance) || !over) {
        return TARGET_FINE;
    }
    if (!instance->ever_answered) {
        describe_silence(instance, ret_detail, size);
        return TARGET_NEVER_LISTENED;
    }
    describe_answers(instance, ret_detail, size);
    return TARGET_UNHEALTHY;
}

static void free_now(struct instance *instance)
{
    instance->place->instances--;
    ec_timer_free(instance->timer);
    free(instance->id);
    free(instance->name);
    free((void *)(uintptr_t)instance->probe.path);
    free(instance);
}

void docker_instance_free(void *arg)
{
    struct instance *instance = arg;
    instance->freed = true;
    if (instance->timer != NULL) {
        ec_timer_stop(instance->timer);
    }
    if (instance->fetch != NULL) {
        ec_fetch_cancel(instance->fetch);
    } else if (!instance->stopping) {
        free_now(instance);
    }
}

static void note_answer(struct instance *instance, int status, bool accepted)
{
    bool was = docker_ready(instance);
    bool good = status >= 200 && status < 400;
    instance->last_status = status;
    instance->ever_answered = instance->ever_answered || status > 0 || accepted;
    if (good) {
        instance->failures = 0;
        instance->ever_healthy = true;
        instance->since_ms = ec_mono_ms();
    } else {
        instance->failures += instance->failures < 1000 ? 1 : 0;
    }
    char detail[TARGET_DETAIL_SIZE];
    bool trouble = docker_trouble(instance, detail, sizeof detail) != TARGET_FINE;
    if (was != docker_ready(instance) || trouble) {
        docker_route(instance->place);
        docker_changed(instance->place);
    }
}

/* The page itself does not matter, however long it is. */
static void on_piece(void *arg, struct ec_span piece)
{
    (void)arg;
    (void)piece;
}

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct instance *instance = arg;
    struct target *dk = instance->place->dk;
    instance->fetch = NULL;
    if (instance->freed || dk->closed) {
        if (instance->freed) {
            docker_instance_free(instance);
        }
        docker_call_ended(dk);
        return;
    }
    /* No answer in time, but no refusal either: somebody took the connection. */
    bool accepted = ec_failed(err) && err.sys == ETIMEDOUT;
    note_answer(instance, ec_failed(err) ? 0 : result->status, accepted);
    int64_t next = instance->ever_healthy ? instance->probe.period_ms : FIRST_EVERY_MS;
    ec_timer_start(instance->timer, (uint64_t)(next > 0 ? next : 1), 0);
    docker_call_ended(dk);
}

static void on_timer(void *arg)
{
    struct instance *instance = arg;
    struct target *dk = instance->place->dk;
    if (dk->closed || instance->removing || instance->state != CONTAINER_RUNNING) {
        return; /* started again when the list says that it runs */
    }
    if (instance->host_port == 0) {
        ec_timer_start(instance->timer, FIRST_EVERY_MS, 0);
        return;
    }
    char url[TARGET_PROBE_PATH_MAX + 64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", instance->host_port, instance->probe.path);
    const struct ec_header headers[] = {
        {"Connection", "close"}, {"User-Agent", "enclii-probe"}, {"Accept", "*/*"}};
    const struct ec_fetch_spec call = {
        .url = url,
        .headers = headers,
        .header_count = EC_LEN(headers),
        .deadline_ms = (uint32_t)instance->probe.timeout_ms,
        .on_piece = on_piece,
    };
    struct ec_err err =
        ec_fetch_start(dk->is.fetcher, &call, on_answer, instance, &instance->fetch);
    if (ec_failed(err)) {
        instance->fetch = NULL;
        note_answer(instance, 0, false);
        ec_timer_start(instance->timer, (uint64_t)instance->probe.period_ms, 0);
        return;
    }
    dk->pending++;
}

void docker_probe_anew(struct instance *instance)
{
    instance->ever_healthy = instance->ever_answered = false;
    instance->failures = instance->last_status = 0;
    instance->since_ms = ec_mono_ms();
    ec_timer_stop(instance->timer);
    if (instance->fetch != NULL) {
        ec_fetch_cancel(instance->fetch); /* whose answer is of the time before */
    }
}

void docker_probe_start(struct instance *instance)
{
    bool runs = instance->state == CONTAINER_RUNNING && !instance->removing;
    if (!runs || instance->fetch != NULL || ec_timer_active(instance->timer)) {
        return;
    }
    if (instance->since_ms == 0) {
        instance->since_ms = ec_mono_ms();
    }
    ec_timer_start(instance->timer,
                   (uint64_t)(instance->ever_healthy ? 1 : instance->probe.delay_ms), 0);
}

struct ec_timer *docker_probe_timer(struct instance *instance)
{
    return ec_timer_new(instance->place->dk->is.loop, on_timer, instance);
}
