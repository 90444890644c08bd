/* Why a service is as it is: from the newest rows of its last push to one sentence. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

/* "" and 0 where a stage was not reached. States as in the tables. */
struct why_facts {
    const char *repo_key, *branch;
    struct {
        const char *id, *state, *reason, *detail, *ref, *commit_sha;
    } delivery;
    struct {
        const char *id, *state, *reason, *detail, *commit_sha, *builder_id;
        int64_t attempt, ahead; /* ahead: queued builds that go first */
        int64_t since_ms;       /* in this state */
        int64_t builders;       /* alive now */
    } build;
    struct {
        const char *id, *state, *reason, *detail, *version;
        int64_t since_ms;
    } release;
    struct {
        const char *id, *state, *reason, *detail, *version, *environment;
        int64_t weight, since_ms, auto_deploy;
    } deployment;
    struct {
        const char *hostname, *state, *reason, *detail;
    } domain; /* the first that is not ACTIVE */
};

struct why {
    const char *stage; /* push, delivery, queue, build, signature, rollout, domain, done */
    const char *rule;  /* the one rule that holds it: stable, lower_snake_case */
    const char *sentence;
    int waiting; /* 1: goes on by itself; 0: ended, or needs somebody */
};

void decide_why(const struct why_facts *facts, struct ec_arena *arena, struct why *ret_why);
