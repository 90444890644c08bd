/* The part of the world that is about others' words on a commit: pull requests, approvals of them,
 * and runs of the git host's CI. Few of each in a batch, so they are found by looking. */
#pragma once

#include "decide.h"
#include "store/store.h"

/* The last word about a pull request. */
struct pull {
    const char *id; /* "<repo_key>#<number>" */
    const char *repo_key;
    int32_t number;
    const char *state; /* "open", "CLOSED", "MERGED" */
    const char *title, *url;
    const char *ref; /* of its head in the base repository; "" = it is nowhere to be had */
    const char *head_sha, *base_ref;
    bool from_fork, draft;
    const char *author, *author_association, *delivery_id;
    int64_t host_updated_ms; /* by the host's clock; 0 = not told */
    const char *asked_of;    /* ids of services that wait for an approval of the head */
    /* What it changes, while that is decided upon; NULL = not known. Not stored. */
    const Enclii__V1__PushCompared *compared;
    enum row_mark mark;
    struct pull *next;
};

/* One person let one commit of one pull request into one service. */
struct approval {
    struct service *service;
    int32_t pull_request;
    const char *commit_sha, *approved_by, *approved_by_id, *reason;
    enum row_mark mark;
    struct approval *next;
};

/* One run of the host's CI about a commit. */
struct ci_run {
    const char *repo_key, *sha, *kind, *run_id;
    const char *name, *status, *conclusion, *url;
    int64_t attempt;
    enum row_mark mark;
    struct ci_run *next;
};

const char *pull_id(struct world *world, const char *repo_key, int64_t number);
struct pull *world_pull(const struct world *world, const char *id);
/* The open fork's pull request whose head this commit is, in the service's repository. */
struct pull *world_fork_of(const struct world *world, const struct service *svc, const char *sha);
struct pull *world_add_pull(struct world *world, const struct pull *row);
struct approval *world_approval(const struct world *world, const struct service *svc,
                                int32_t pull_request, const char *sha);
struct approval *world_add_approval(struct world *world, const struct approval *row);
struct ci_run *world_ci_run(const struct world *world, const struct ci_run *like);
struct ci_run *world_add_ci_run(struct world *world, const struct ci_run *row);

/* ---- decide_pull_request.c ---- */
const char *want_pull_request(struct wanted *wanted, const char *key, const void *body);
void decide_pull_request(struct world *world, const void *body);
/* OWNER, MEMBER or COLLABORATOR. */
bool decide_is_member(const char *association);
/* Why a service does not build the head; rule NULL = it does. */
struct filter pull_filter(struct world *world, struct service *svc, const struct pull *pull);
/* The end of the delivery that told the head: builds it where it is wanted. */
void pull_take(struct world *world, struct delivery *row, struct pull *pull);
/* A build of its head. */
struct build *decide_build_pull(struct world *world, struct service *svc, const struct pull *pull,
                                const Enclii__V1__Actor *actor);

/* ---- decide_pull_paths.c ---- */
/* True: the delivery waits to learn what the pull request changes. */
bool decide_pull_waits(struct world *world, struct delivery *row, const struct pull *pull);
/* What waits for this pull request is ignored. */
void decide_pull_waits_end(struct world *world, const struct pull *pull, const char *rule,
                           const char *detail);
/* word NULL: nobody said it in time. */
void decide_pull_compared(struct world *world, struct delivery *row,
                          const Enclii__V1__PushCompared *word);

/* ---- decide_ci.c ---- */
struct ci_verdict {
    enum { CI_UNKNOWN, CI_RUNNING, CI_GOOD, CI_BAD } is;
    const struct ci_run *run; /* that speaks; NULL when unknown */
};
struct ci_verdict decide_ci_verdict(const struct world *world, const char *repo_key,
                                    const char *sha);
const char *want_ci(struct wanted *wanted, const char *key, const void *body);
void decide_ci_changed(struct world *world, const void *body);
/* A build that waits goes on, ends, or waits for what its detail says. */
void decide_ci_build(struct world *world, struct build *build);
void decide_ci_overdue(struct world *world, struct build *build);

/* ---- decide_approve.c ---- */
const char *want_request_approve(struct wanted *wanted, const char *key, const void *body);
void decide_request_approve(struct world *world, const void *body);
/* What a member says to let the head in. */
const char *approval_command(struct world *world, const struct service *svc,
                             const struct pull *pull);
/* Told once per head and service. */
void approval_need(struct world *world, const struct service *svc, struct pull *pull);
/* Nobody gave it, and nobody will: `how` is "lapsed" or "superseded". */
void approval_end(struct world *world, struct pull *pull, const char *how, const char *reason);
