/* The deciders: pure functions of (world, event). They read and change rows of the world, and
 * record facts, decisions and nothing else; no I/O, no clock but world->now_ms, no randomness. The
 * same world and event give the same rows and the same event ids. */
#pragma once

#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/domain.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/release.pb-c.h"
#include "enclii/v1/request.pb-c.h"
#include "world.h"

/* Ids of rows to read for a batch. Each list is in the arena, without duplicates. */
struct id_list {
    const char **ids;
    size_t count, room;
    struct ec_map *known;
};
struct wanted {
    struct ec_arena *arena;
    struct id_list services, repos, refs, builds, releases, deployments, hostnames, deliveries,
        builders, events;
    struct id_list pulls, commits, ci_commits; /* commits: their builds, pulls and approvals */
    bool rollback; /* somebody goes back: read the last good release before the current one */
    bool deploys;  /* something may be deployed: read who owns its host names */
    bool queue;    /* read all builders and what they have at work */
};
void want(struct wanted *wanted, struct id_list *list, const char *id); /* "" is not added */

struct wanted *
wanted_new(struct ec_arena *arena);      /* lives in the arena; wanted_done when it goes */
void wanted_done(struct wanted *wanted); /* accepts NULL */

/* The row of a delivery by the id its host gave it, which is unique within a repository only. */
void want_delivery(struct wanted *wanted, const char *repo_key, const char *id);
/* What every event of a host needs; the service whose id is the key. */
const char *want_host_event(struct wanted *wanted, const char *key, const void *body);
const char *want_service(struct wanted *wanted, const char *key);

/* One kind of event that pipeline takes in. */
struct event_kind {
    const char *type;
    const ProtobufCMessageDescriptor *descriptor;
    /* Names the rows it needs; gives NULL, or why the event is bad (it goes to the dead letters).
     */
    const char *(*want)(struct wanted *wanted, const char *key, const void *body);
    void (*decide)(struct world *world, const void *body);
    bool once; /* its id goes to the inbox: a second record with it has no effect */
};
extern const struct event_kind event_kinds[];
extern const size_t event_kind_count;
const struct event_kind *event_kind_find(const char *type);
/* Sets the cause, skips what was seen, runs the decider. */
void decide_event(struct world *world, const struct event_kind *kind, const struct cause *cause,
                  const void *body);

/* ---- decide_delivery.c: which delivery it is, and its two ends ---- */
/* The row of that repository's delivery ("": of none); NULL = it has none yet. */
struct delivery *delivery_find(const struct world *world, const char *repo_key, const char *id);
/* The id of the row it gets: the host's, unless another repository has a delivery of that id. */
const char *delivery_row_id(struct world *world, const char *repo_key, const char *id);
/* The id then; whoever signs for one repository can so take no other's away. */
const char *delivery_own_id(struct ec_arena *arena, const char *repo_key, const char *id);
/* Why nothing follows; rule NULL = something does. */
struct filter {
    const char *rule, *detail;
};
Enclii__V1__DeliveryAccepted *delivery_fact(struct world *world); /* without builds yet */
void delivery_add_build(struct world *world, Enclii__V1__DeliveryAccepted *fact,
                        const struct build *build);
/* `commit` may be NULL. */
void delivery_accept(struct world *world, struct delivery *row, Enclii__V1__Commit *commit,
                     Enclii__V1__DeliveryAccepted *fact);
void delivery_ignore(struct world *world, struct delivery *row, Enclii__V1__Commit *commit,
                     const struct filter *filter);

/* ---- decide_push.c ---- */
void decide_push(struct world *world, const void *body);
/* The two ways a delivery ends: whatever the services of the repository want of it, or nothing. */
void push_take(struct world *world, struct delivery *row, const Enclii__V1__PushReceived *push);
void push_ignore(struct world *world, struct delivery *row, const Enclii__V1__PushReceived *push,
                 const struct filter *filter);
/* None of all the changed paths is one that the service watches. */
struct filter decide_paths(struct world *world, struct service *svc, char *const *paths,
                           size_t count);
/* A service's branch rule against a ref: "main", "release-*" (a star stops at slashes, two do not),
 * or a whole ref with stars, "refs/tags/v*"; several are parted by commas. */
bool decide_branch(const char *rule, const char *ref);
/* The marker of the list that the message has, or its trailer "skip-checks: true"; else NULL. */
const char *decide_skip_marker(struct ec_arena *arena, const char *markers, const char *message);

/* ---- decide_news.c: is it news? ---- */
struct filter decide_news(struct world *world, const Enclii__V1__PushReceived *push);

/* ---- decide_compare.c: pushes whose list of paths was cut ---- */
/* True: it waits. Else `push` may be taken, as it is now. */
bool decide_compare_waits(struct world *world, struct delivery *row,
                          Enclii__V1__PushReceived *push);
void decide_compared(struct world *world, const void *body);
void decide_delivery_overdue(struct world *world, struct delivery *row);

/* ---- decide_intake.c: what hosts say besides pushes ---- */
void decide_host_event(struct world *world, const void *body);
/* The row of a delivery that is no push; NULL when it was there already, and is counted. */
struct delivery *decide_ledger(struct world *world, const Enclii__V1__DeliveryInfo *info,
                               uint8_t state, const char *reason, const char *detail);
void decide_refused(struct world *world, const void *body);
void decide_repository(struct world *world, const void *body);
/* The host's id of a repository, and its new address once it has moved. */
void decide_identity(struct world *world, const Enclii__V1__PushReceived *push);

/* ---- paths.c: gitignore-style patterns ("docs/", "*.md", "!docs/api.md", "src/[**]/x.c") ---- */
bool paths_glob(const char *pattern, const char *text); /* the whole text, as one pattern */
bool paths_match(char *const *patterns, size_t pattern_count, const char *path);

/* ---- decide_build.c ---- */
struct build_order {
    struct service *service;
    const Enclii__V1__Commit *commit;
    const Enclii__V1__Actor *actor;
    const char *delivery_id; /* "" = asked for by hand */
    int32_t priority;
    int64_t push_received_ms; /* 0 = no push */
    bool wait_for_ci;
    const struct pull *pull; /* NULL = of a push, or asked for */
};
#define PRIORITY_DRAFT 2
#define PRIORITY_PULL 5
#define PRIORITY_PUSH 10    /* somebody waits for it: the highest class that waiting leads to */
#define PRIORITY_REQUEST 10 /* so does this */
/* A queued build, or one that waits for the host's CI; supersedes older open ones of the same
 * branch. */
struct build *decide_new_build(struct world *world, const struct build_order *order);
/* A waiting build goes into the queue. */
void decide_build_queue(struct world *world, struct build *build, const char *rule,
                        const char *detail);
void decide_build_started(struct world *world, const void *body);
void decide_build_step(struct world *world, const void *body);
void decide_build_succeeded(struct world *world, const void *body);
void decide_build_failed(struct world *world, const void *body);
/* Cancel by request, removal or supersede: `to` is BUILD_CANCELLED, _TIMED_OUT or _SUPERSEDED;
 * tells the builder. False when it has ended already. */
struct build_end {
    uint8_t to;
    const char *rule, *detail;
    const char *by_build_id; /* of the newer build, or "" */
};
bool decide_build_end(struct world *world, struct build *build, const struct build_end *end);
/* The builder is gone or gave up for its own reasons (a loss), or what the build needs did not
 * answer (an attempt): once more, or FAILED when there were too many of either. */
void decide_build_again(struct world *world, struct build *build, Enclii__V1__BuildFailure reason,
                        const char *detail);

/* How it is built. A fork's code gets no build arguments: nothing marks which of them are secret.
 */
Enclii__V1__BuildSpec *decide_build_spec(struct world *world, const Enclii__V1__ServiceSpec *spec,
                                         bool trusted);

/* ---- decide_queue.c ---- */
struct queue_load { /* builds leased or running now, and whose turn it was last */
    const char *project_id;
    const char *builder_id;
    int32_t count;
    int64_t leased_ms; /* when the project last got this builder */
    struct queue_load *next;
};
struct lease {
    struct build *build;
    struct builder *builder;
};
/* Chooses at most `room` leases among the queued builds and the builders of the world. */
size_t decide_queue(const struct world *world, const struct queue_load *load,
                    struct lease *ret_leases, size_t room);
void decide_lease(struct world *world, const struct lease *lease);
void decide_heartbeat(struct world *world, const void *body);

/* ---- decide_release.c ---- */
struct release *decide_new_release(struct world *world, struct build *build,
                                   const Enclii__V1__BuildSucceeded *claim);
void decide_release_step(struct world *world, const void *body);
void decide_release_signed(struct world *world, const void *body);
void decide_release_refused(struct world *world, const void *body);
void decide_release_reject(struct world *world, struct release *release, const char *reason,
                           const char *detail);

/* ---- decide_deployment.c ---- */
struct deploy_order {
    struct service *service;
    const char *environment_id;
    struct release *release;
    const char *deployment_id;
    const Enclii__V1__Actor *actor;
    const char *trace;
    bool rollback;
    int64_t push_received_ms;
    const char *rule, *detail; /* why */
};
void decide_deploy(struct world *world, const struct deploy_order *order);
/* It cannot be done: the deployment is kept, ended, with order->rule and ->detail as its reason. */
void decide_deploy_refused(struct world *world, const struct deploy_order *order);
void decide_deployment_step(struct world *world, const void *body);
void decide_deployment_rolled_out(struct world *world, const void *body);
void decide_deployment_reverted(struct world *world, const void *body);
void decide_deployment_status(struct world *world, const void *body);
/* Ends an open deployment in `to` and brings back what was good before (or nothing). */
struct deployment_end {
    uint8_t to;
    const char *reason, *detail;
};
void decide_deployment_back(struct world *world, struct deployment *dep,
                            const struct deployment_end *end);
/* Ends it without touching what is desired (a newer one takes its place, the service goes away). */
void decide_deployment_end(struct world *world, struct deployment *dep,
                           const struct deployment_end *end);
/* Nothing of this service should run in that environment any more. */
void decide_nothing(struct world *world, struct desired *desired);

/* ---- decide_domain.c ---- */
/* A new release wants these routes: claims host names, announces new domains. Gives the routes that
 * this service may have (a host name belongs to one service). */
size_t decide_routes(struct world *world, struct service *service, const char *environment_id,
                     const Enclii__V1__ServiceSpec *spec, Enclii__V1__RouteSpec ***ret_routes);
/* Domains of the environment that no route of `spec` names go away; spec NULL = all. */
void decide_domains_drop(struct world *world, const struct service *service,
                         const char *environment_id, const Enclii__V1__ServiceSpec *spec);
void decide_domain_issued(struct world *world, const void *body);
void decide_domain_failed(struct world *world, const void *body);
void decide_domain_announce(struct world *world, struct domain *domain);

/* ---- decide_request.c ---- */
void decide_request_build(struct world *world, const void *body);
void decide_request_deploy(struct world *world, const void *body);
void decide_request_rollback(struct world *world, const void *body);
void decide_request_cancel(struct world *world, const void *body);
void decide_request_remove(struct world *world, const void *body);

/* ---- decide_deadline.c: what the reaper does with one overdue row of the world ---- */
void decide_build_overdue(struct world *world, struct build *build);
void decide_build_silent(struct world *world, struct build *build); /* its builder is gone */
void decide_release_overdue(struct world *world, struct release *release);
void decide_deployment_overdue(struct world *world, struct deployment *dep);
void decide_domain_overdue(struct world *world, struct domain *domain);
