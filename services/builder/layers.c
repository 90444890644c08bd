/* Layers of trusted builds are kept for the next build in one image storage. Buildah takes any
 * layer there for a step whose text, and the text of all before it, is the same: without more, what
 * one repository's RUN line made would go into another one's image. So each repository has a mark
 * that nobody can guess, in a label behind each FROM and in the names of its images; and folders of
 * its own for cache mounts. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "builder.h"
#include "dockerfile.h"
#include "trust/digest.h"
#include "trust/token.h"

#define KEY_BYTES 32
#define MARK_DIGITS 32

/* With a new key all layers are made anew: as if the cache had been lost. */
struct ec_err layers_open(struct builder *b)
{
    const char *path = builder_path(b, "layers-key");
    unsigned char key[KEY_BYTES];
    if (access(path, R_OK) != 0) {
        EC_TRY(ec_random_bytes(key, sizeof(key)));
        char *hex = ec_sha256_hex(b->arena, (struct ec_span){(char *)key, sizeof(key)});
        struct ec_span bytes = ec_span_of(hex);
        int code = ec_file_replace(&(struct ec_file_spec){path, 0600, false, &bytes, 1});
        if (code) {
            return ec_fatal(code, ec_arena_format(b->arena, "cannot write %s", path));
        }
    }
    return ec_secret_read(path, &b->layers_key);
}

const char *layers_mark(struct job *job)
{
    const char *hex =
        ec_hmac_sha256_hex(job->arena, job->builder->layers_key, ec_span_of(job->run->clone_url));
    return ec_arena_text(job->arena, (struct ec_span){hex, MARK_DIGITS});
}

const char *layers_mounts_dir(struct job *job)
{
    return ec_arena_format(job->arena, "%s/mounts/%s", job->builder->settings.work_dir,
                           ec_sha256_hex(job->arena, ec_span_of(job->run->clone_url)));
}

void layers_prepare(struct job *job, struct ec_span dockerfile, bool complete)
{
    const char *name = strrchr(job->dockerfile_path, '/') + 1;
    const char *path = ec_arena_format(job->arena, "%s/%s", job->home_dir, name);
    job->layered = false;
    if (!job->run->trusted) {
        return;
    }
    mkdir(layers_mounts_dir(job), 0700); /* where it cannot be made, Buildah says so */
    if (!complete || dockerfile_mounts(dockerfile)) {
        build_log_say(&job->log, job->step,
                      "note: every step runs anew: the layer cache does not see what RUN --mount "
                      "brings in (COPY it, then unchanged steps are kept)");
        return;
    }
    const char *marked = dockerfile_marked(job->arena, dockerfile, layers_mark(job));
    struct ec_span bytes = ec_span_of(marked ? marked : "");
    if (!marked || ec_file_replace(&(struct ec_file_spec){path, 0600, false, &bytes, 1}) != 0) {
        return;
    }
    job->marked_path = path;
    job->layered = true;
}
