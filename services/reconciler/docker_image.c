/* Fetching images. The engine tells of its progress line by line, for a large image many megabytes
 * of it: only a line that says what went wrong is kept, and the last one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "docker.h"

#define SAID_MAX_BYTES (1u << 20) /* what is longer without an end of line is not looked at */

struct target_prepare {
    struct target *dk;
    char *image;
    uint32_t deadline_ms; /* of the pull */
    struct ec_fetch *fetch;
    struct ec_buf said; /* the last lines of the pull */
    struct ec_arena *arena;
    struct ec_err fault; /* what an earlier line said; its text is in the arena */
    target_done_fn done;
    void *arg;
};

static void prepare_free(struct target_prepare *prepare)
{
    ec_buf_done(&prepare->said);
    ec_arena_free(prepare->arena);
    free(prepare->image);
    free(prepare);
}

static void end_prepare(struct target_prepare *prepare, struct ec_err err)
{
    struct target *dk = prepare->dk;
    prepare->done(prepare->arg, err);
    prepare_free(prepare);
    docker_call_ended(dk);
}

static void on_progress(void *arg, struct ec_span piece)
{
    struct target_prepare *prepare = arg;
    ec_buf_add_span(&prepare->said, piece);
    const char *last = memrchr(prepare->said.ptr, '\n', prepare->said.len);
    const char *before =
        last != NULL ? memrchr(prepare->said.ptr, '\n', (size_t)(last - prepare->said.ptr)) : NULL;
    if (before == NULL) {
        return;
    }
    /* All but the last whole line: an answer that is no progress is one line. */
    size_t len = (size_t)(before + 1 - prepare->said.ptr);
    if (!ec_failed(prepare->fault)) {
        ec_arena_reset(prepare->arena);
        prepare->fault =
            docker_read_pull(prepare->arena, 200, (struct ec_span){prepare->said.ptr, len});
    }
    memmove(prepare->said.ptr, prepare->said.ptr + len, prepare->said.len - len);
    prepare->said.len -= len;
}

static void on_pulled(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    const struct target_prepare *prepare = arg;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES);
    if (!ec_failed(err)) {
        err = docker_read_pull(arena, result->status, ec_buf_span(&prepare->said));
        err = ec_failed(err) ? err : prepare->fault;
    } else if (err.sys == ETIMEDOUT) {
        err =
            ec_retry_in(arena, ETIMEDOUT,
                        "the image was not fetched within %u s: its registry is slow, or does not "
                        "answer the container engine",
                        prepare->deadline_ms / 1000);
    }
    end_prepare(arg, err);
}

static void on_image(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct target_prepare *prepare = arg;
    if (ec_failed(err) || result->status == 200) {
        end_prepare(prepare, err);
        return;
    }
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    char *image = ec_percent(arena, ec_span_of(prepare->image));
    const struct ec_fetch_spec call = {
        .method = "POST",
        .url = ec_arena_format(arena, "http://docker/v1.41/images/create?fromImage=%s", image),
        .deadline_ms = prepare->deadline_ms,
        .on_piece = on_progress,
    };
    err = docker_call_held(prepare->dk, &call, on_pulled, prepare, &prepare->fetch);
    if (ec_failed(err)) {
        end_prepare(prepare, err);
        return;
    }
    docker_call_ended(prepare->dk);
}

struct ec_err docker_prepare(struct target *dk, const char *image, uint32_t deadline_ms,
                             target_done_fn done, void *arg, struct target_prepare **ret_prepare)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(65536);
    if (strpbrk(image, " ?#%\\\n\r\t") != NULL || strstr(image, "..") != NULL) {
        return ec_reject("this is not an image reference");
    }
    const struct ec_fetch_spec call = {
        .url = ec_arena_format(arena, "http://docker/v1.41/images/%s/json", image)};
    struct target_prepare *prepare = ec_alloc(sizeof *prepare);
    *prepare = (struct target_prepare){.dk = dk,
                                       .image = ec_strdup(image),
                                       .deadline_ms = deadline_ms,
                                       .arena = ec_arena_new(DOCKER_ARENA_MAX_BYTES),
                                       .done = done,
                                       .arg = arg};
    ec_buf_init(&prepare->said, SAID_MAX_BYTES);
    struct ec_err err = docker_call_held(dk, &call, on_image, prepare, &prepare->fetch);
    if (ec_failed(err)) {
        prepare_free(prepare);
        return err;
    }
    *ret_prepare = prepare;
    return ec_ok();
}

void docker_prepare_stop(struct target_prepare *prepare)
{
    ec_fetch_cancel(prepare->fetch);
}
