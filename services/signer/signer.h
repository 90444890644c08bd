/* signer: the only holder of the signing key. Private header of the service. */
#pragma once

#include "base/arena.h"
#include "base/clock.h"
#include "base/secret.h"
#include "bus/bus.h"
#include "bus/topics.h"
#include "enclii/v1/release.pb-c.h"
#include "net/fetch.h"
#include "net/flow.h"
#include "net/process.h"
#include "oci/image_verify.h"
#include "oci/object_store.h"
#include "oci/registry.h"
#include "trust/intoto.h"
#include "trust/key.h"

/* Everything of one release: documents of at most 16 MiB in a few forms. */
#define JOB_ARENA_MAX_BYTES (192u << 20)
#define STEPS_MAX 8

struct settings {
    const char *signing_key_file;
    const char *object_store; /* URL */
    const char *work_dir;     /* Syft's scratch and the SBOM cache */
    const char *syft;         /* program */
    const char *docker_config_file;
    const char *registry; /* "host/prefix" that images must be below; "" = any */
    int64_t syft_timeout_ms;
    int64_t slots;
    bool registry_insecure;
};

struct signer {
    struct settings settings;
    struct ec_loop *loop;
    struct ec_bus *bus;
    struct ec_registry *registry;
    struct ec_object_store *objects;
    struct ec_key *key;
    struct job *jobs; /* releases being signed, newest first */
    bool stopping;
    ec_call_fn stopped; /* called once, when stopping and no job is left */
    void *stopped_arg;
};

enum document { DOC_SIGNATURE, DOC_PROVENANCE, DOC_SBOM, DOC_COUNT };

/* One release on its way; lives from the event until its last publish is acknowledged. */
struct job {
    struct signer *signer;
    struct job *next, *prev;
    struct ec_event *ev;
    const Enclii__V1__ReleaseCreated *release; /* borrowed from ev */
    struct ec_arena *arena;
    struct ec_flow flow;
    struct ec_ref image;
    const char *media_type; /* of the image's manifest */
    int64_t image_size_bytes;
    int64_t config_bytes;
    const char *refusal; /* reason when a step REJECTs; NULL: the step's usual one */
    json_t *sbom;        /* the document */
    int32_t sbom_components;
    const char *sbom_version;    /* "1.6" */
    char *provenance;            /* the predicate as text, what the object store keeps */
    char *statements[DOC_COUNT]; /* to be signed; NULL: a good bundle is there already */
    char *bundles[DOC_COUNT];    /* the signed statements, once made */
    char signed_at[EC_RFC3339_SIZE];
    const char *digests[DOC_COUNT]; /* referrers' manifests; NULL: still to be attached */
    const char *sbom_object, *provenance_object;
    struct ec_process *syft;
    char *syft_output; /* file */
    char *syft_says;   /* its last words on stderr */
    Enclii__V1__StepTime steps[STEPS_MAX];
    Enclii__V1__StepTime *step_list[STEPS_MAX];
    size_t step_count;
    const char *detail; /* of the running step, for people */
};

/* signer.c: what main does, usable by tests. The fetcher stays the caller's. */
EC_RESULT signer_open(struct signer *sg, struct ec_loop *loop, struct ec_bus *bus,
                      struct ec_fetcher *fetcher, struct ec_arena *arena);
EC_RESULT signer_consume(struct signer *sg);
/* Ends all jobs (their events will come again), then calls stopped. */
void signer_stop(struct signer *sg, ec_call_fn stopped, void *arg);
void signer_close(struct signer *sg); /* after stopped */

/* handlers.c */
struct ec_err on_release_created(void *state, struct ec_event *ev);

/* steps.c, sbom.c: the flow */
extern const struct ec_step sign_steps[];
extern const size_t sign_step_count;
struct ec_err start_sbom(void *arg);
void forget_sbom(
    struct job *job); /* drops it from the cache: the registry has it now, or nobody needs it */

/* decide.c: pure */
const char *decide_refusal(const char *step_name);
struct ec_err decide_request_valid(struct ec_arena *arena,
                                   const Enclii__V1__ReleaseCreated *release, const char *registry);
void decide_provenance(struct ec_arena *arena, const Enclii__V1__ReleaseCreated *release,
                       struct ec_provenance *ret_facts);
char *decide_builder_uri(struct ec_arena *arena, const char *builder_id);
