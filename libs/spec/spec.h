/* The service spec: enclii.yaml → Enclii__V1__ServiceSpec, with defaults filled in. Faults carry
 * the line, the column, what was found and the nearest known name; all of them are reported, not
 * the first only. Limits: 256 KiB, depth 16, 10,000 nodes, no aliases. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"
#include "enclii/v1/spec.pb-c.h"

struct ec_spec_fault {
    int line, column; /* from 1; 0 = the whole document */
    const char *path; /* "spec.runtime.port" */
    const char *what; /* "must be 1..65535, is 99999" */
    const char *hint; /* "did you mean healthCheck?", or NULL */
};

struct ec_spec {
    const char *name;                 /* metadata.name */
    const char *project;              /* metadata.project, may be "" */
    Enclii__V1__ServiceSpec *service; /* in the arena */
    const struct ec_spec_fault *faults;
    size_t fault_count;                   /* > 0: `service` is not to be used */
    const struct ec_spec_fault *warnings; /* known keys that this version does not act on yet */
    size_t warning_count;
    size_t documents; /* how many documents of the text are of kind Service */
};

/* Never fails but by faults: the result says everything. Reads the first document of kind Service;
 * others (Kubernetes objects) are passed over. `arena` needs 1 MiB of room. */
void ec_spec_parse(struct ec_arena *arena, struct ec_span yaml, struct ec_spec *ret_spec);
/* The same for the `index`th Service (from 0). */
void ec_spec_parse_at(struct ec_arena *arena, struct ec_span yaml, size_t index,
                      struct ec_spec *ret_spec);
/* All faults and warnings as text for a terminal, "enclii.yaml:12:5: ..." */
char *ec_spec_faults_text(struct ec_arena *arena, const struct ec_spec *spec,
                          const char *file_name);
/* "github.com/acme/shop" from any clone URL form (https, ssh, git@, .git, user info, port kept);
 * NULL when it is none: the repository key of the intake and repos topics. */
char *ec_repo_key(struct ec_arena *arena, const char *url);
