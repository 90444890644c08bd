/* What a Dockerfile builds on. Pure. */
#pragma once

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
