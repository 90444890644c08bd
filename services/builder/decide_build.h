/* The builder's decisions, pure: facts in, verdict out. Texts are for the person who pushed: what
 * was looked for, what went wrong, what to do next. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "enclii/v1/build.pb-c.h"
#include "net/process.h"

/* ---- is this command for us, now? ---- */
enum command_verdict {
    COMMAND_ACCEPT,
    COMMAND_NOT_OURS,  /* another builder's */
    COMMAND_DUPLICATE, /* running already */
    COMMAND_STALE,     /* the lease is over: pipeline has given it to somebody else */
    COMMAND_NO_SLOT,   /* say so: retryable failure */
    COMMAND_INVALID,   /* a field that must never reach git or the file system */
};
struct command_facts {
    const char *builder_id;
    int64_t now_unix_ms;
    int64_t sent_unix_ms;
    bool running_same_attempt; /* or a newer one */
    int slots_free;
    bool draining;
    bool trusted_only; /* this builder takes no code of forks */
};
#define COMMAND_STALE_MS 15000 /* longer than a lease lives without a heartbeat */
enum command_verdict decide_command(const Enclii__V1__RunBuild *run,
                                    const struct command_facts *facts);
/* NULL when all fields are usable, else what is wrong. `protocols`: "http:https:ssh". */
const char *decide_command_fault(const Enclii__V1__RunBuild *run, const char *protocols);

/* ---- how is it built? ---- */
struct tree_facts {
    bool context_there;       /* the build context is a folder inside the repository */
    bool dockerfile_there;    /* the wanted Dockerfile is a file inside the repository */
    const char *const *found; /* NULL-ended: known marker files in the context */
};
struct build_plan {
    const char *dockerfile; /* relative to the context; NULL = not detected */
    const char *context;    /* relative to the repository; "." = its root */
    const char *detected_by;
    const char *detail; /* when not detected: what was looked for and what to add */
};
/* Files that tell what a repository is: to look for in the context. NULL-ended. */
extern const char *const build_markers[];
struct build_plan decide_build_type(struct ec_arena *arena, const Enclii__V1__BuildSpec *spec,
                                    const struct tree_facts *facts);
const char *build_context_of(const Enclii__V1__BuildSpec *spec);    /* "." when absent */
const char *build_dockerfile_of(const Enclii__V1__BuildSpec *spec); /* "Dockerfile" when absent */
/* A relative path that stays below its start: no "..", no leading "/", no control characters. */
bool path_stays_inside(const char *path);

/* ---- what does this end mean? ---- */
struct verdict {
    Enclii__V1__BuildFailure reason;
    bool retry; /* trouble that may pass: network, registry */
    const char *detail;
};
struct limits {
    int64_t memory_max_bytes;
    int64_t timeout_ms;
};
/* `output`: the last lines of the tool. Only for results that are no success. */
struct verdict decide_fetch_end(struct ec_arena *arena, const struct ec_process_result *result,
                                const char *output);
/* The host refuses to give a commit by its id: ask for the branch instead. */
bool decide_fetch_wants_branch(const char *output);
/* The repository that is kept between builds may be at fault: worth a try without it. */
bool decide_cache_damaged(const char *output);
struct verdict decide_build_end(struct ec_arena *arena, const struct ec_process_result *result,
                                const struct limits *limits, const char *output);
struct verdict decide_push_end(struct ec_arena *arena, const struct ec_process_result *result,
                               const char *output);
