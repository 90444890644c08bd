/* What a Dockerfile builds on, and what a cache of its layers must know. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/span.h"
#include "enclii/v1/spec.pb-c.h"

#define DOCKERFILE_BASES_MAX 32

/* References of the images that FROM lines name, each once, in order; without "scratch" and without
 * earlier stages. ARG defaults from before the first FROM and `args` are filled in. Gives their
 * number. */
size_t dockerfile_bases(struct ec_arena *arena, struct ec_span text,
                        const Enclii__V1__BuildSpec *args,
                        const char *ret_bases[DOCKERFILE_BASES_MAX]);

/* dockerfile_layers.c: the same with a label behind each FROM, so that only layers with the same
 * mark serve it. NULL when it would be too large. */
const char *dockerfile_marked(struct ec_arena *arena, struct ec_span text, const char *mark);
/* Whether a RUN line mounts what the cache does not see: files of the commit or of an image. */
bool dockerfile_mounts(struct ec_span text);
