/* The part of the database that one batch of events touches, read in one go, changed in memory by
 * the decide_* functions, written back in one transaction. Rows are found by id; a row remembers
 * whether it is new or changed; facts (outbox), decisions (`why`) and seen event ids are collected
 * in order. Everything lives in one arena and dies with the world. Texts are never NULL, absent ids
 * are "". */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/span.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/common.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/spec.pb-c.h"
#include "machine.h"

#define WORLD_ARENA_MAX_BYTES ((size_t)512 << 20)
#define WORLD_MAX_BYTES                                                                            \
    ((size_t)256 << 20) /* above it is too large; the rest is for one decision */
#define WORLD_ROWS_MAX 200000

/* What the deciders may know about how the platform is set up. */
struct rules {
    const char
        *registry; /* "127.0.0.1:5000": images are pushed to <registry>/<project>/<service> */
    int32_t attempts_max;       /* of one build, without those that builders lost */
    int32_t losses_max;         /* that many end it */
    int32_t builds_max;         /* at once; 0 = no limit */
    int32_t project_builds_max; /* builds of one project at once; 0 = no limit */
    int64_t silence_ms;         /* a builder not heard for so long is gone */
    const char *domain_issuer;  /* "local" */
    const char *skip_markers;   /* "[skip ci],[no ci]": a commit message with one is not built */
    int64_t ci_timeout_ms;      /* a push waits so long for the host's CI, where it waits */
};

enum row_mark { ROW_CLEAN, ROW_NEW, ROW_CHANGED, ROW_REMOVED };

struct build;
struct pull;
struct approval;
struct ci_run;
struct release;
struct deployment;
struct desired;
struct domain;

struct service {
    const char *id, *project_id, *project_slug, *name;
    const char *repo_key, *repo_url, *branch, *environment;
    bool auto_deploy;
    bool removed;
    struct ec_span spec;
    Enclii__V1__ServiceSpec *read_spec; /* of the above, once somebody asked; NULL before */
    bool respec; /* spec and branch are changed too: seldom, so not written each time */
    int32_t releases, builds;               /* numbers given so far */
    int32_t releases_before, builds_before; /* as read: the compare of the compare-and-swap */
    enum row_mark mark;
    /* Everything loaded of this service, newest read last. */
    struct build *first_build;
    struct release *first_release;
    struct deployment *first_deployment;
    struct desired *first_desired;
    struct domain *first_domain;
    struct service *next;
};

struct environment {
    const char *id, *project_id, *name, *target;
    struct environment *next;
};

struct build {
    const char *id;
    struct service *service;
    int32_t number;
    const char *delivery_id;
    struct ec_span spec, commit, actor; /* packed messages */
    const char *commit_sha, *ref;
    struct machine_cell cell;
    int32_t attempt; /* of the last lease; results of any other one count for nothing */
    int32_t losses; /* of these, the ones that a builder lost or gave back: not the build's fault */
    const char *builder_id;
    int32_t priority;
    const char *reason, *detail, *digest, *image_repo, *trace;
    const char *steps; /* JSON array to append to the stored one (or to put in its place) */
    bool steps_replace;
    int64_t push_received_ms, queued_ms, leased_ms, started_ms, finished_ms, heard_ms;
    int32_t pull_request;                    /* its number; 0 = of a push, or asked for */
    bool trusted;                            /* false: a fork's code */
    const char *author, *author_association; /* of the pull request */
    const char *approved_by;                 /* who let this commit in; "" = nobody */
    int64_t cas;
    enum row_mark mark;
    struct build *next_of_service, *next;
};

struct release {
    const char *id;
    struct service *service;
    const char *build_id;
    int32_t build_number, number;
    const char *version;
    struct machine_cell cell;
    const char *reason, *detail;
    struct ec_span commit, spec;
    const char *commit_sha, *image_repo, *digest;
    const char *sbom_digest, *provenance_digest, *signature_digest, *sbom_object;
    const char *provenance_object, *sbom_format, *key_id;
    int32_t sbom_components;
    const char *steps;
    bool steps_replace;
    const char *trace;
    int64_t push_received_ms, created_ms, ready_ms;
    int32_t pull_request; /* as of its build */
    bool trusted;
    const char *approved_by;
    int64_t cas;
    enum row_mark mark;
    struct release *next_of_service, *next;
};

struct deployment {
    const char *id;
    struct service *service;
    const char *environment_id;
    const char *release_id, *previous_release_id;
    struct machine_cell cell;
    int32_t weight;
    const char *reason, *detail;
    struct ec_span actor;
    bool rollback;
    const char *steps;
    bool steps_replace;
    const char *urls; /* JSON array */
    const char *trace;
    int64_t push_received_ms, created_ms, finished_ms;
    int32_t replicas_ready;
    int64_t cas;
    enum row_mark mark;
    struct deployment *next_of_service, *next;
};

struct desired {
    struct service *service;
    const char *environment_id;
    int64_t revision, revision_before;
    const char *deployment_id;
    const char *release_id; /* "" = nothing should run */
    const char *good_release_id, *good_deployment_id;
    const char
        *before_release_id; /* the last good one before release_id; read only for rollbacks */
    int32_t newest_build;
    enum row_mark mark;
    struct desired *next_of_service, *next;
};

struct domain {
    const char *hostname;
    struct service *service; /* NULL: of a service that is not loaded */
    const char *service_id;
    const char *environment_id;
    bool stored; /* was read from the database */
    bool tls;
    struct machine_cell cell;
    const char *issuer, *fingerprint, *reason, *detail;
    int64_t not_after_ms, next_try_ms;
    int64_t cas;
    enum row_mark mark;
    struct domain *next_of_service, *next;
};

struct delivery {
    const char *id, *repo_key, *ref, *commit_sha, *pusher;
    struct machine_cell cell;
    const char *reason, *detail, *trace;
    const char *host, *event, *action; /* as the host names them */
    struct ec_span push;               /* PushReceived, packed; empty = it was none */
    int32_t pull_request;              /* whose head it told; 0 = of none */
    int32_t duplicates;
    bool recovered;
    int64_t received_ms;
    int64_t cas;
    enum row_mark mark;
    struct delivery *next;
};

/* A delivery that webhook answered with a problem. */
struct refusal {
    const Enclii__V1__DeliveryRefused *fact;
    struct refusal *next;
};

/* A repository, as the host knows it. */
struct repo {
    const char *repo_key, *host_repo_id, *clone_url, *full_name;
    struct ec_span sealed_secret, sealed_previous_secret; /* of its webhook; empty = none */
    const char *sealed_for; /* the key they were sealed for; "" = repo_key */
    const char *hook_id;
    const char *renamed_from; /* "" = nothing to move */
    enum row_mark mark;
    struct repo *next;
};

/* The last commit pushed to a ref of a repository. */
struct git_ref {
    const char *repo_key, *ref;
    const char *sha; /* "" = none yet */
    /* Pushes between these did not come; several are parted by spaces, "" = none is missing. */
    const char *gap_from, *gap_to;
    int64_t seen_ms;
    enum row_mark mark;
    struct git_ref *next;
};

struct builder {
    const char *id;
    int32_t slots;
    int32_t busy; /* builds it has now; filled for the queue */
    bool draining;
    bool trusted_only;        /* takes no code of forks */
    const char *cached_repos; /* JSON array of clone URLs */
    const char *version;
    int64_t heard_ms;
    enum row_mark mark;
    struct builder *next;
};

/* One outbox row. body NULL = tombstone. */
struct fact {
    const char *topic, *key, *type, *subject, *event_id, *trace;
    struct ec_span body;
    bool tombstone;
    struct fact *next;
};

struct decision {
    const char *service_id; /* "" = none */
    const char *subject_kind, *subject_id, *rule, *outcome, *detail;
    struct decision *next;
};

struct seen {
    const char *event_id;
    struct seen *next;
};

/* The event being decided. Ids of what it makes derive from its id: the same event, the same ids.
 */
struct cause {
    const char *id;
    const char *trace;
    const char *key;
};

struct world {
    struct ec_arena *arena;
    ProtobufCAllocator allocator; /* unpacks into the arena */
    const struct rules *rules;
    int64_t now_ms; /* the database's clock */
    struct cause cause;
    /* By id; desireds by "<service id>:<environment id>", inbox by event id, refs by
     * "<repository key>\n<ref>". */
    struct ec_map *services, *environments, *builds, *releases, *deployments, *desireds, *domains,
        *deliveries, *builders, *inbox, *repos, *refs;
    /* The same rows in the order they came. */
    struct service *first_service, **service_end;
    struct environment *first_environment, **environment_end;
    struct build *first_build, **build_end;
    struct release *first_release, **release_end;
    struct deployment *first_deployment, **deployment_end;
    struct desired *first_desired, **desired_end;
    struct domain *first_domain, **domain_end;
    struct delivery *first_delivery, **delivery_end;
    struct builder *first_builder, **builder_end;
    struct refusal *first_refusal, **refusal_end;
    struct repo *first_repo, **repo_end;
    struct git_ref *first_ref, **ref_end;
    struct fact *first_fact, **fact_end;
    struct decision *first_decision, **decision_end;
    struct seen *first_seen, **seen_end;
    size_t fact_count, decision_count, seen_count;
    /* In no order; pulls.h */
    struct pull *first_pull;
    struct approval *first_approval;
    struct ci_run *first_ci_run;
};

/* More than is handled in one go: whoever asks stops adding, and the engine makes it less. */
bool world_too_large(const struct world *world);

struct world *world_new(const struct rules *rules, int64_t now_ms);
void world_free(struct world *world); /* accepts NULL */
void world_freep(struct world **world);

/* Adding rows: the struct is copied into the arena; texts are borrowed for the world's life and
 * must be of its arena. A row that is there already is returned as it is. */
struct service *world_add_service(struct world *world, const struct service *row);
struct environment *world_add_environment(struct world *world, const struct environment *row);
struct build *world_add_build(struct world *world, const struct build *row);
struct release *world_add_release(struct world *world, const struct release *row);
struct deployment *world_add_deployment(struct world *world, const struct deployment *row);
struct desired *world_add_desired(struct world *world, const struct desired *row);
struct domain *world_add_domain(struct world *world, const struct domain *row);
struct delivery *world_add_delivery(struct world *world, const struct delivery *row);
struct builder *world_add_builder(struct world *world, const struct builder *row);
struct repo *world_add_repo(struct world *world, const struct repo *row);
struct git_ref *world_add_ref(struct world *world, const struct git_ref *row);
void world_add_refusal(struct world *world, const Enclii__V1__DeliveryRefused *fact);

/* Finding rows; NULL when it is not there. */
struct service *world_service(const struct world *world, const char *id);
struct build *world_build(const struct world *world, const char *id);
struct release *world_release(const struct world *world, const char *id);
struct deployment *world_deployment(const struct world *world, const char *id);
struct desired *world_desired(const struct world *world, const char *service_id,
                              const char *environment_id);
struct domain *world_domain(const struct world *world, const char *hostname);
struct delivery *world_delivery(const struct world *world, const char *id);
struct builder *world_builder(const struct world *world, const char *id);
struct repo *world_repo(const struct world *world, const char *repo_key);
struct git_ref *world_ref(const struct world *world, const char *repo_key, const char *ref);
struct environment *world_environment(const struct world *world, const char *id);
struct environment *world_environment_named(const struct world *world, const char *project_id,
                                            const char *name);
struct deployment *world_open_deployment(const struct service *service, const char *environment_id);

/* Marks a row as changed; a new row stays new. */
void world_touch(enum row_mark *mark);

/* An event id that had its effect: true when it is known already. */
bool world_saw(const struct world *world, const char *event_id);
void world_see(struct world *world, const char *event_id);

/* A fact for the outbox. `distinct` may be NULL; it keeps the ids of several facts of one type and
 * subject apart that follow from one cause. */
struct fact_spec {
    const char *topic, *key, *type, *subject, *trace, *distinct;
    const ProtobufCMessage *body; /* NULL = tombstone */
};
void world_fact(struct world *world, const struct fact_spec *spec);

/* Why something is as it is, for people; detail is cut at 2000 bytes. */
struct why {
    const char *service_id; /* NULL = none */
    const char *kind, *id;  /* "build", its id */
    const char *rule, *outcome;
};
void world_why(struct world *world, const struct why *why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Packed messages of rows. The unpacked ones live in the arena; never NULL (an undecodable one is
 * empty: it was packed by us). */
/* A fresh message of that kind in the arena, all fields absent. */
void *world_message(struct world *world, const ProtobufCMessageDescriptor *descriptor);
/* A copy; protobuf-c wants char *, and the row may go before the fact is packed. NULL gives "". */
char *world_text(struct world *world, const char *text);
struct ec_span world_pack(struct world *world, const ProtobufCMessage *message);
Enclii__V1__Commit *world_commit(struct world *world, struct ec_span packed);
Enclii__V1__Actor *world_actor(struct world *world, struct ec_span packed);
Enclii__V1__ServiceSpec *world_spec(struct world *world, struct ec_span packed);
/* Of a service as it is now; unpacked once, not to be changed. */
const Enclii__V1__ServiceSpec *world_service_spec(struct world *world, struct service *service);
/* Puts another one in its place. */
void world_respec(struct world *world, struct service *service, Enclii__V1__ServiceSpec *spec);
Enclii__V1__ServiceRef *world_service_ref(struct world *world, const struct service *service);
/* NULL when number is 0: it was not made from a pull request. */
Enclii__V1__PullRequestRef *world_pull_ref(struct world *world, int32_t number, bool trusted,
                                           const char *author);
Enclii__V1__EnvironmentRef *world_environment_ref(struct world *world, const char *environment_id);
/* [{"name","started_unix_ms","duration_ms","detail"}] */
const char *world_steps(struct world *world, Enclii__V1__StepTime *const *steps, size_t count);
