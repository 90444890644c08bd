/* Creating, starting and removing containers. `apply` is one job per version: a part per missing
 * replica (create → start), all at once, then one look at the list, which also tells the ports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"
#include "docker.h"

#define REPLICAS_MAX 100
#define CALL_DEADLINE_MS 30000
#define STOP_GRACE_S 10

struct apply_job {
    struct target *dk;
    target_done_fn done;
    void *arg;
    size_t running;    /* parts under way */
    struct ec_err err; /* the first part's that failed */
    char fault[TARGET_DETAIL_SIZE];
};

struct part {
    struct apply_job *job;
    char *name;
};

struct discard {
    struct target *dk;
    struct instance *instance; /* NULL: a leftover that is in no picture */
    char *name;
};

static const struct ec_header json_headers[] = {{"Content-Type", "application/json"}};

/* ---- removing ---- */

static void on_deleted(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct discard *discard = arg;
    struct target *dk = discard->dk;
    bool gone = !ec_failed(err) && (result->status < 300 || result->status == 404);
    if (!gone && !dk->closed) {
        ec_log(EC_LOG_WARN, NULL, "replica.remove_failed", "a container could not be removed yet",
               EC_T("container", discard->name));
    }
    if (discard->instance != NULL) {
        discard->instance->stopping = false;
        if (discard->instance->freed) {
            docker_instance_free(discard->instance);
        }
    }
    if (!dk->closed) {
        docker_refresh(dk, gone ? 20 : 1000, NULL, NULL);
    }
    free(discard->name);
    free(discard);
    docker_call_ended(dk);
}

static void start_delete(struct discard *discard)
{
    char url[300];
    snprintf(url, sizeof url, "http://docker/v1.41/containers/%s?force=true&v=true", discard->name);
    const struct ec_fetch_spec call = {
        .method = "DELETE", .url = url, .deadline_ms = CALL_DEADLINE_MS};
    struct ec_err err = docker_call(discard->dk, &call, on_deleted, discard);
    if (ec_failed(err)) {
        discard->dk->pending++; /* on_deleted takes it back */
        on_deleted(discard, err, NULL);
    }
}

static void on_stopped(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct discard *discard = arg;
    struct target *dk = discard->dk;
    (void)err; /* whatever came of it: deleting by force does the rest */
    (void)result;
    start_delete(discard);
    docker_call_ended(dk);
}

static void discard_by_name(struct target *dk, struct instance *instance, const char *name,
                            bool gently)
{
    struct discard *discard = ec_alloc(sizeof *discard);
    *discard = (struct discard){dk, instance, ec_strdup(name)};
    char url[300];
    snprintf(url, sizeof url, "http://docker/v1.41/containers/%s/stop?t=%d", name, STOP_GRACE_S);
    const struct ec_fetch_spec call = {
        .method = "POST", .url = url, .deadline_ms = CALL_DEADLINE_MS};
    if (!gently || ec_failed(docker_call(dk, &call, on_stopped, discard))) {
        start_delete(discard);
    }
}

void docker_discard(struct instance *instance, bool gently)
{
    instance->removing = instance->unrouted = true;
    if (instance->stopping) {
        return;
    }
    instance->stopping = true;
    ec_timer_stop(instance->timer);
    discard_by_name(instance->place->dk, instance, instance->name,
                    gently && instance->state == CONTAINER_RUNNING);
}

/* ---- applying ---- */

static void on_refreshed(void *arg, struct ec_err err)
{
    struct apply_job *job = arg;
    /* The version's own failure says more than one of the list. */
    job->done(job->arg, ec_failed(job->err) ? job->err : err);
    free(job);
}

static void part_ended(struct part *part, struct ec_err err)
{
    struct apply_job *job = part->job;
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "replica.start_failed", "a container did not start",
               EC_T("container", part->name), EC_ERR(err));
    }
    if (ec_failed(err) && !ec_failed(job->err)) {
        snprintf(job->fault, sizeof job->fault, "%s", err.what);
        job->err = err;
        job->err.what = job->fault;
    }
    free(part->name);
    free(part);
    if (--job->running == 0) {
        docker_refresh(job->dk, 1, on_refreshed, job);
    }
}

/* What an answer of the engine to "create" and "start" means for the version. */
static struct ec_err answer_err(struct ec_arena *arena, struct ec_err err,
                                const struct ec_fetch_result *result)
{
    if (ec_failed(err) || result->status < 300 || result->status == 304) {
        return err;
    }
    const char *message = docker_read_message(arena, result->body);
    if (result->status == 404 || result->status == 409) {
        return ec_retry_in(arena, result->status, "%s", message);
    }
    return ec_reject_in(arena, "the container engine says (%d): %s", result->status, message);
}

static void on_started(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct part *part = arg;
    struct target *dk = part->job->dk;
    struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    err = answer_err(arena, err, result);
    if (ec_failed(err) && !dk->closed) {
        discard_by_name(dk, NULL, part->name, false);
    }
    part_ended(part, err);
    ec_arena_free(arena);
    docker_call_ended(dk);
}

static void on_created(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct part *part = arg;
    struct target *dk = part->job->dk;
    struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    err = answer_err(arena, err, result);
    if (!ec_failed(err)) {
        char url[300];
        snprintf(url, sizeof url, "http://docker/v1.41/containers/%s/start", part->name);
        const struct ec_fetch_spec call = {
            .method = "POST", .url = url, .deadline_ms = CALL_DEADLINE_MS};
        err = docker_call(dk, &call, on_started, part);
    }
    if (ec_failed(err)) {
        part_ended(part, err);
    }
    ec_arena_free(arena);
    docker_call_ended(dk);
}

static struct ec_err start_part(struct apply_job *job, const struct target_goal *goal, int replica)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    char *name = docker_container_name(arena, goal, replica);
    char *body = docker_create_body(arena, goal, replica, job->dk->instance);
    if (body == NULL) {
        return ec_reject("a text of the service's specification is not UTF-8");
    }
    char *url = ec_arena_format(arena, "http://docker/v1.41/containers/create?name=%s", name);
    const struct ec_fetch_spec call = {
        .method = "POST",
        .url = url,
        .headers = json_headers,
        .header_count = EC_LEN(json_headers),
        .body = ec_span_of(body),
        .deadline_ms = CALL_DEADLINE_MS,
    };
    struct part *part = ec_alloc(sizeof *part);
    *part = (struct part){job, ec_strdup(name)};
    struct ec_err err = docker_call(job->dk, &call, on_created, part);
    if (ec_failed(err)) {
        free(part->name);
        free(part);
        return err;
    }
    job->running++;
    return ec_ok();
}

/* Marks which replica numbers run; what is dead, doubled or surplus goes. */
static void sort_replicas(struct target *dk, const struct target_goal *goal, int replicas,
                          bool ret_there[REPLICAS_MAX])
{
    const char *id;
    void *value;
    for (size_t at = 0; ec_map_next(dk->instances, &at, &id, &value);) {
        struct instance *instance = value;
        char detail[TARGET_DETAIL_SIZE];
        if (instance->removing || instance->retire_mono_ms > 0 ||
            strcmp(instance->place->key, goal->key) != 0 ||
            strcmp(instance->identity.text, goal->identity.text) != 0) {
            continue;
        }
        bool good = instance->state == CONTAINER_RUNNING &&
                    docker_trouble(instance, detail, sizeof detail) == TARGET_FINE;
        bool fits = instance->replica >= 0 && instance->replica < replicas;
        if (good && fits && !ret_there[instance->replica]) {
            ret_there[instance->replica] = true;
        } else if (good) {
            instance->retire_mono_ms = ec_mono_ms();
        } else {
            docker_discard(instance, instance->state == CONTAINER_RUNNING);
        }
    }
}

struct ec_err docker_apply(struct target *dk, const struct target_goal *goal, target_done_fn done,
                           void *arg)
{
    int replicas = goal->release->run->replicas > 0 ? goal->release->run->replicas : 1;
    if (replicas > REPLICAS_MAX) {
        return ec_reject("one machine runs at most 100 replicas of a service");
    }
    bool there[REPLICAS_MAX] = {false};
    sort_replicas(dk, goal, replicas, there);
    docker_route(docker_place(dk, goal->key)); /* what goes gets no request any more */
    struct apply_job *job = ec_alloc(sizeof *job);
    *job = (struct apply_job){.dk = dk, .done = done, .arg = arg};
    struct ec_err err = ec_ok();
    for (int i = 0; i < replicas && !ec_failed(err); i++) {
        err = there[i] ? ec_ok() : start_part(job, goal, i);
    }
    if (ec_failed(err) && job->running == 0) {
        free(job);
        return err;
    }
    job->err = err;
    if (job->running == 0) {
        docker_refresh(dk, 1, on_refreshed, job);
    }
    return ec_ok();
}
