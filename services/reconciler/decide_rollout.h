/* The one place that decides what happens next to a service in an environment. Pure: facts in, one
 * step out. Effects are in rollout.c. */
#pragma once

#include "target.h"

enum rollout_step {
    STEP_NONE,            /* nothing to do until something changes */
    STEP_WAIT,            /* look again after wait_ms */
    STEP_PULL,            /* fetch the image of the new version */
    STEP_START,           /* bring the new version to its replicas */
    STEP_JUDGE,           /* read the counters once more before the new version gets more */
    STEP_ROUTE,           /* give the new version `percent` of the traffic, the rest to `version` */
    STEP_REMOVE,          /* remove `version` */
    STEP_FAIL,            /* the new version is bad: remember `reason`, collect its last words */
    STEP_ROUTE_BACK,      /* all traffic to `version` */
    STEP_RESTORE,         /* nothing good runs any more: start the previous version again */
    STEP_REPORT_DONE,     /* tell: rolled out */
    STEP_REPORT_REVERTED, /* tell: reverted */
    STEP_CLEAR,           /* remove everything of this key */
    STEP_FORGET,          /* nothing is left of it */
};

struct rollout_facts {
    /* What is wanted. */
    bool gone; /* tombstone */
    bool paused;
    bool settled; /* only keep it running */
    bool has_previous;
    int replicas;
    int replicas_previous;
    const int32_t *weights; /* percent, growing; 0 of them = 100 at once */
    size_t weight_count;
    int64_t step_ms;
    double error_rate_max;
    int64_t deadline_mono_ms; /* 0 = none */
    struct target_identity wanted;
    struct target_identity previous;

    /* What is. */
    const struct target_view *view;
    bool pulled;           /* the image is known to be there */
    const char *failure;   /* reason of a failure that was decided; NULL = none */
    bool judged;           /* the counters are from after the running step's time */
    bool reported;         /* the end was told; when gone: everything was removed once */
    int64_t retry_mono_ms; /* nothing is started before (back-off); 0 = now */
    int64_t step_mono_ms;  /* when the running step got its weight */
    int64_t drain_mono_ms; /* when the new version got everything; 0 = not yet */
    /* Counters of the running step, new version and the rest. */
    int64_t requests_new, errors_new, requests_old, errors_old;
    int64_t now_mono_ms;
};

struct rollout_decision {
    enum rollout_step step;
    int percent;
    const struct target_version *version; /* borrowed from facts->view; may be NULL */
    const char *reason;                   /* STEP_FAIL: as in DeploymentReverted */
    int64_t wait_ms;
};

#define ROLLOUT_DRAIN_MS 10000 /* longest wait for requests under way on the old version */
#define ROLLOUT_PULL_MAX_MS 300000
#define ROLLOUT_PULL_MIN_MS 1000 /* an image that is there already is found within it */
#define ROLLOUT_ERRORS_MIN 3     /* fewer errors in a step say nothing yet */

struct rollout_decision decide_next_step(const struct rollout_facts *facts);
/* How long fetching its image may take: not past the deadline. */
uint32_t decide_pull_ms(const struct rollout_facts *facts);
/* True when the new version answers clearly worse than it may, and worse than the old one. */
bool decide_errors_bad(const struct rollout_facts *facts);
const struct target_version *find_version(const struct target_view *view,
                                          const struct target_identity *identity);
const char *rollout_step_name(enum rollout_step step);
