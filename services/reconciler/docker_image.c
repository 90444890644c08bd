/* Fetching images. */
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "docker.h"

#define PULL_DEADLINE_MS 300000

struct prepare {
    struct target *dk;
    char *image;
    target_done_fn done;
    void *arg;
};

static void end_prepare(struct prepare *prepare, struct ec_err err)
{
    struct target *dk = prepare->dk;
    prepare->done(prepare->arg, err);
    free(prepare->image);
    free(prepare);
    docker_call_ended(dk);
}

static void on_pulled(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    if (!ec_failed(err)) {
        err = docker_read_pull(arena, result->status, result->body);
    }
    end_prepare(arg, err);
}

static void on_image(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct prepare *prepare = arg;
    if (ec_failed(err) || result->status == 200) {
        end_prepare(prepare, err);
        return;
    }
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    char *image = ec_percent(arena, ec_span_of(prepare->image));
    const struct ec_fetch_spec call = {
        .method = "POST",
        .url = ec_arena_format(arena, "http://docker/v1.41/images/create?fromImage=%s", image),
        .deadline_ms = PULL_DEADLINE_MS,
        .body_max_bytes = 8u << 20,
    };
    err = docker_call(prepare->dk, &call, on_pulled, prepare);
    if (ec_failed(err)) {
        end_prepare(prepare, err);
        return;
    }
    docker_call_ended(prepare->dk);
}

struct ec_err docker_prepare(struct target *dk, const char *image, target_done_fn done, void *arg)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    if (strpbrk(image, " ?#%\\\n\r\t") != NULL || strstr(image, "..") != NULL) {
        return ec_reject("this is not an image reference");
    }
    const struct ec_fetch_spec call = {
        .url = ec_arena_format(arena, "http://docker/v1.41/images/%s/json", image)};
    struct prepare *prepare = ec_alloc(sizeof *prepare);
    *prepare = (struct prepare){dk, ec_strdup(image), done, arg};
    struct ec_err err = docker_call(dk, &call, on_image, prepare);
    if (ec_failed(err)) {
        free(prepare->image);
        free(prepare);
    }
    return err;
}
