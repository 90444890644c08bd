/* What the reconciler needs of a place where services run. The Docker Engine is the first one; a
 * Kubernetes cluster fits behind the same table.
 *
 * A target thinks in versions: one release of one service in one environment ("key"), with all its
 * replicas. It watches by itself (events, its own health probes, the router) and keeps what it
 * knows; `observe` reads that without waiting, and `changed` tells when it is worth looking again.
 * Verbs are idempotent: they bring something about, whatever was there before. Nothing is kept that
 * the target itself does not show: after kill -9 a new process sees the same versions.
 *
 * Verbs with a callback return an error and never call back, or OK and call back exactly once,
 * later. An error's text is borrowed until the callback returns. RETRY = the target is away or
 * busy; REJECT = this version cannot run. */
#pragma once

#include "base/id.h"
#include "base/span.h"
#include "enclii/v1/deployment.pb-c.h"
#include "net/fetch.h"
#include "net/loop.h"

#define TARGET_VERSIONS_MAX 8
#define TARGET_DETAIL_SIZE 512
#define TARGET_PROBE_PATH_MAX 1024

/* Names one version: "<release id>/<first 12 hex of SHA-256 of its run specification>". */
#define TARGET_IDENTITY_SIZE (EC_ID_SIZE + 13)
struct target_identity {
    char text[TARGET_IDENTITY_SIZE];
};

enum target_trouble {
    TARGET_FINE = 0,
    TARGET_EXITED,         /* a replica ended by itself */
    TARGET_NEVER_LISTENED, /* deadline over, no connection was ever accepted */
    TARGET_UNHEALTHY,      /* deadline over, or failures_max in a row: it answers, but not well */
};

struct target_version {
    struct target_identity identity;
    int total; /* replicas, dead ones included, without those being removed */
    int running;
    int ready;          /* healthy by the probe */
    int weight_percent; /* of the traffic, as the router really has it */
    int open;           /* requests under way */
    int64_t requests;   /* since its replicas were added to the router */
    int64_t errors;
    enum target_trouble trouble;
    char detail[TARGET_DETAIL_SIZE]; /* of the trouble, for people */
};

struct target_view {
    struct target_version versions[TARGET_VERSIONS_MAX];
    size_t count;
};

/* The version to bring about, borrowed until the verb returns. */
struct target_goal {
    const char *key;
    struct target_identity identity;
    const char *deployment_id;
    const Enclii__V1__ServiceRef *service;
    const Enclii__V1__EnvironmentRef *environment;
    const Enclii__V1__DesiredRelease *release;
};

struct target_share {
    struct target_identity identity;
    int percent;
};

struct target;         /* the implementation's own */
struct target_prepare; /* an image being fetched */

typedef void (*target_done_fn)(void *arg, struct ec_err err);
typedef void (*target_logs_fn)(void *arg, struct ec_err err, struct ec_span text);

/* Reading what the replicas of a key print. */
struct target_log_spec {
    int tail_lines;        /* of each replica's past */
    int64_t since_unix_ms; /* 0 = no limit */
    bool follow;           /* also what comes, replicas that start later included */
};
struct target_log_line {
    int64_t unix_ms;
    const char *replica; /* "1a2b3c4-0"; borrowed, like text */
    const char *text;    /* UTF-8, without control characters */
    bool error_stream;
};
struct target_log; /* one reading */
typedef void (*target_line_fn)(void *arg, const struct target_log_line *line);

struct target_ops {
    const char *name;
    void (*observe)(struct target *target, const char *key, struct target_view *ret_view);
    /* The image is where it will be needed. At once if it is there already. The handle is good
     * until done is called; after a stop that comes soon, with an error. */
    EC_RESULT(*prepare)
    (struct target *target, const char *image, uint32_t deadline_ms, target_done_fn done, void *arg,
     struct target_prepare **ret_prepare);
    void (*prepare_stop)(struct target_prepare *prepare);
    /* The version has exactly its replicas: starts missing ones, replaces dead ones, removes
     * surplus. Done when they are started, not when they are healthy. */
    EC_RESULT(*apply)
    (struct target *target, const struct target_goal *goal, target_done_fn done, void *arg);
    /* Which host names and paths belong to the key; takes effect soon. */
    EC_RESULT(*set_routes)
    (struct target *target, const char *key, Enclii__V1__RouteSpec *const *routes, size_t count);
    /* Versions that are not named get nothing. Done when the router has it. */
    EC_RESULT(*shift_traffic)
    (struct target *target, const char *key, const struct target_share *shares, size_t count,
     target_done_fn done, void *arg);
    /* NULL: all versions and routes of the key. Done when none of them is seen or routed any more;
     * stopping them gently goes on behind. */
    EC_RESULT(*remove)
    (struct target *target, const char *key, const struct target_identity *identity,
     target_done_fn done, void *arg);
    /* The last lines of the replica that is worst off. */
    EC_RESULT(*logs)
    (struct target *target, const char *key, const struct target_identity *identity, int lines,
     target_logs_fn done, void *arg);
    /* Calls `line` for each, in order per replica. Without follow, `done` comes once the past is
     * read; with follow it never comes. RETRY: too many readings. */
    EC_RESULT(*log_open)
    (struct target *target, const char *key, const struct target_log_spec *spec,
     target_line_fn line, ec_call_fn done, void *arg, struct target_log **ret_log);
    void (*log_close)(struct target_log *log); /* also after done; no callback comes any more */
    /* Keys that have anything here; borrowed until the next turn. */
    size_t (*keys)(struct target *target, const char **ret_keys, size_t max);
    /* Nobody knows what is wanted of this key: what it has, containers and routes, stays. */
    void (*keep)(struct target *target, const char *key);
    /* Every wanted key was told, or is kept: routes of others may go. */
    void (*complete)(struct target *target);
    /* NULL once everything that runs was seen and the router answers; else one sentence. */
    const char *(*unready)(struct target *target);
    void (*close)(struct target *target); /* leaves what runs running */
};

struct target_docker_settings {
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;
    const char *docker_socket;
    const char *haproxy_socket;
    const char *haproxy_dir;
    const char *instance; /* containers carry it: two platforms on one machine */
    void (*changed)(void *arg, const char *key); /* key NULL: anything may have changed */
    void *arg;
};
extern const struct target_ops target_docker_ops;
/* Begins to watch. */
EC_RESULT target_docker_open(const struct target_docker_settings *settings,
                             struct target **ret_target);
