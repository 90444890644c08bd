/* Dockerfiles of strangers: base images, each once, at most DOCKERFILE_BASES_MAX, in memory that is
 * in proportion to the file. */
#include "base/mem.h"
#include "dockerfile.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 * len + 262144);
    Enclii__V1__BuildSpec spec;
    enclii__v1__build_spec__init(&spec);
    const char *bases[DOCKERFILE_BASES_MAX];
    size_t count = dockerfile_bases(arena, span_of_input(bytes, len), &spec, bases);
    check(count <= DOCKERFILE_BASES_MAX);
    for (size_t i = 0; i < count; i++) {
        check(bases[i][0] && strcmp(bases[i], "scratch") != 0 && strlen(bases[i]) <= 1024);
        for (size_t k = 0; k < i; k++) {
            check(strcmp(bases[i], bases[k]) != 0);
        }
    }
    struct ec_span text = span_of_input(bytes, len);
    const char *marked = dockerfile_marked(arena, text, "m4rk");
    check(!marked || memchr(bytes, 0, len) || strlen(marked) >= len); /* nothing is lost */
    (void)dockerfile_mounts(text);
    return 0;
}
