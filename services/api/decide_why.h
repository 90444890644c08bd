/* Why a push is where it is: from the rows about it to one sentence. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

/* "" and 0 where a stage was not reached. States as in the tables. left_ms: until the deadline of
 * the state. */
struct why_facts {
    const char *repo_key, *branch; /* of the service; repo_key may be that of the delivery */
    int64_t auto_deploy;
    struct {
        const char *id, *state, *reason, *detail, *ref;
        const char *commit_sha; /* "" = no push: another event of the host */
        const char *event;      /* the host's name of it */
        const char *rule,
            *rule_detail; /* decided about it for this service: why it was not built */
    } delivery;
    struct {
        const char *id, *state, *reason, *detail, *commit_sha, *builder_id;
        int64_t pull_request;                /* 0 = of a push, or asked for */
        int64_t untrusted;                   /* of a fork */
        const char *author, *approved_by;    /* of the pull request; who let the commit in */
        int64_t attempt, ahead;              /* ahead: queued builds that go first */
        int64_t losses;                      /* of the attempts, those that builders lost */
        int64_t since_ms, left_ms;           /* in this state */
        int64_t builders, slots, busy_slots; /* alive now; of those not draining */
    } build;
    struct {
        const char *id, *state, *reason, *detail, *version;
        const char *rule, *rule_detail; /* decided about it: why it was not deployed */
        int64_t since_ms, left_ms;
    } release;
    struct {
        const char *id, *state, *reason, *detail, *version, *environment;
        const char *serving; /* the version that serves there now */
        int64_t weight, since_ms, left_ms;
    } deployment;
    struct {
        const char *hostname, *state, *reason, *detail;
        int64_t left_ms;
    } domain; /* the first that is not ACTIVE */
};

struct why {
    const char *stage; /* push, delivery, queue, build, signature, rollout, domain, done */
    const char *rule;  /* the one rule that holds it: stable */
    const char *sentence;
    int waiting;      /* 1: goes on by itself; 0: ended, or needs somebody */
    const char *next; /* waiting: what ends it; else what to do, "" = nothing */
};

void decide_why(const struct why_facts *facts, struct ec_arena *arena, struct why *ret_why);

/* ---- why_rules.c: every rule and reason that the platform gives, in words ---- */
struct why_rule {
    const char *rule;
    const char *means; /* one sentence */
    const char *next;  /* what to do about it; "" = nothing */
};
extern const struct why_rule why_rules[];
extern const size_t why_rule_count;
const struct why_rule *why_rule_find(const char *rule); /* NULL = not known */
