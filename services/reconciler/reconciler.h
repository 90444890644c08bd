/* reconciler: brings targets to the desired state. Read main.c, then decide_rollout.c (what comes
 * next), then rollout_facts.c (what that
 * looks at), then rollout.c (doing it), then target.h (what a target is). */
#pragma once

#include "base/arena.h"
#include "base/backoff.h"
#include "base/map.h"
#include "bus/bus.h"
#include "decide_rollout.h"
#include "enclii/v1/deployment.pb-c.h"
#include "service/service.h"
#include "target.h"

#define KEYS_MAX 5000
#define STEPS_MAX 64 /* step times kept for one deployment */

struct settings {
    const char *docker_socket;
    const char *haproxy_socket;
    const char *haproxy_dir;
    const char *instance;    /* label of this platform's containers */
    const char *router_http; /* public address of the HTTP frontend, for URLs */
    const char *router_https;
    int64_t leftover_grace_ms; /* of what runs and is in no record */
};

struct app_logs; /* app_logs.c */

/* The whole state; all of it can be lost. */
struct reconciler {
    struct settings is;
    struct ec_service *svc;
    const struct target_ops *ops;
    struct target *target;
    struct ec_map *rollouts; /* key → struct rollout */
    bool caught_up;          /* the whole topic was read once */
    bool completed;          /* and what is here was seen: routes of nobody may go */
    unsigned held;           /* rollouts whose record cannot be used */
    unsigned leftovers;      /* rollouts that have none; both are held */
    unsigned unrouted;       /* rollouts whose routes another one has */
    struct ec_timer *clean_timer;
    struct app_logs *app_logs; /* who reads what the apps print */
};

/* One service in one environment. All its times are of the monotonic clock: one that is set anew
 * neither ends a rollout nor holds it up. */
struct rollout {
    struct reconciler *rec;
    char *key;
    struct ec_arena *arena;             /* of `desired`; replaced with it */
    const Enclii__V1__Desired *desired; /* NULL = tombstone */
    char trace[EC_TRACEPARENT_SIZE];    /* of the event that brought it */
    bool held;     /* its newest record cannot be used, and no earlier one is known: not touched */
    bool leftover; /* it runs here and has no record at all: held, too */
    int64_t leftover_mono_ms; /* since when */
    bool unrouted;            /* another key has one of its routes */
    struct target_identity wanted;
    struct target_identity previous;

    struct ec_timer *timer; /* look again */
    bool busy;              /* one effect at a time */
    bool again;             /* something changed while busy, or before the target was ready */
    struct rollout_decision doing;  /* the effect under way; its version pointer is not kept */
    uint64_t aim;                   /* grows with everything else that is wanted */
    uint64_t doing_aim;             /* of the effect under way */
    int64_t began_mono_ms;          /* the same */
    struct target_prepare *pulling; /* while that is an image; stopped when it is wanted no more */

    /* Progress of this deployment; begins anew with every new one. */
    int64_t deadline_mono_ms; /* of the deployment; 0 = none */
    bool pulled;
    bool judged;   /* the counters were read after the running step's time */
    bool reported; /* the final event was acknowledged (or is on its way) */
    bool healthy_told;
    const char *failure;            /* literal; see DeploymentReverted.reason */
    char detail[2048];              /* of the failure, for people */
    char fault[TARGET_DETAIL_SIZE]; /* what the last step that was retried met */
    struct ec_backoff backoff;      /* of starts */
    int64_t retry_mono_ms;
    int64_t started_mono_ms; /* last successful start */
    int64_t step_mono_ms;
    int64_t drain_mono_ms;
    struct target_version base_new, base_old; /* counters when the step began */
    Enclii__V1__StepTime steps[STEPS_MAX];
    size_t step_count;

    /* What was told last as DeploymentStatus. */
    int ready_told, wanted_told;
};

/* rollout.c */
struct rollout *rollout_find(struct reconciler *rec, const char *key); /* made if missing */
void rollout_look(struct rollout *ro);                                 /* soon, not now */
void rollout_free(void *rollout);

/* rollout_desired.c */
void rollout_set(struct rollout *ro, struct ec_event *ev); /* from enclii.desired */
void rollout_hold(struct rollout *ro);                     /* a record of its key cannot be used */
void rollout_routes_again(struct reconciler *rec);         /* another key's are free now */

/* leftovers.c */
void leftovers_open(struct reconciler *rec);
void leftovers_look(struct reconciler *rec); /* the topic was read whole */
void leftover_let_go(struct rollout *ro);    /* it is known again */
bool decide_leftover_goes(size_t known, size_t unknown, int64_t waited_ms, int64_t grace_ms);

/* rollout_facts.c */
void rollout_facts_now(struct rollout *ro, const struct target_view *view,
                       struct rollout_facts *ret_facts);
int rollout_replicas(const Enclii__V1__DesiredRelease *release); /* 1 when it does not say */
/* Sums of all versions but the wanted one. */
struct target_version rollout_rest(const struct rollout *ro, const struct target_view *view);

/* publish.c */
void publish_step(struct rollout *ro, const char *name, int64_t began_mono_ms, int weight,
                  const char *detail);
void publish_rolled_out(struct rollout *ro);
void publish_reverted(struct rollout *ro, bool previous_serves);
void publish_status(struct rollout *ro, const struct target_view *view, const char *note);

/* app_logs.c */
EC_RESULT app_logs_open(struct reconciler *rec);
void app_logs_close(struct reconciler *rec); /* before the target */
