/* Service specs: any text gives a result within the promised 1 MiB arena, and printing it works. */

#include "base/mem.h"
#include "fuzz.h"
#include "spec/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 20);
    struct ec_spec spec;
    ec_spec_parse(arena, (struct ec_span){(const char *)bytes, len}, &spec);
    if (spec.fault_count == 0) {
        /* What is called good must survive the wire. */
        size_t size = enclii__v1__service_spec__get_packed_size(spec.service);
        ec_cleanup(ec_freep) uint8_t *packed = ec_alloc(size);
        enclii__v1__service_spec__pack(spec.service, packed);
        Enclii__V1__ServiceSpec *again = enclii__v1__service_spec__unpack(NULL, size, packed);
        if (again == NULL || again->run->port < 1 || again->rollout->n_weights < 1) {
            abort();
        }
        enclii__v1__service_spec__free_unpacked(again, NULL);
    }
    ec_cleanup(ec_arena_freep) struct ec_arena *texts = ec_arena_new(1 << 20);
    ec_spec_faults_text(texts, &spec, "enclii.yaml");
    char *text =
        ec_arena_text(texts, (struct ec_span){(const char *)bytes, len < 4096 ? len : 4096});
    char *key = ec_repo_key(texts, text);
    if (key != NULL) {
        const char *slash = strchr(key, '/');
        bool url =
            memchr(key, '.', (size_t)(slash - key)) != NULL || strchr(slash + 1, '/') != NULL;
        const char *again = ec_repo_key(texts, key);
        if (url && (again == NULL || strcmp(again, key) != 0)) {
            abort();
        }
    }
    return 0;
}
