/* What the files of the docker target share: the live picture of containers, and its parts. Belongs
 * to target_docker.c (the verbs), docker_watch.c (the picture), docker_probe.c (health),
 * docker_start.c (creating and removing), docker_traffic.c (weights), docker_image.c (images),
 * docker_logs.c (what containers print). */
#pragma once

#include "base/backoff.h"
#include "base/buf.h"
#include "base/map.h"
#include "docker_api.h"
#include "router_haproxy.h"
#include "target.h"

#define DOCKER_INSTANCES_MAX 5000
#define DOCKER_ARENA_MAX_BYTES (32u << 20)

/* One service in one environment, as far as this target is concerned. */
struct place {
    struct target *dk;
    char *key;
    struct target_share shares[TARGET_VERSIONS_MAX]; /* what shift_traffic asked for last */
    size_t share_count;
    bool shares_known; /* asked for, or read back from the router after our restart */
    bool changed;      /* the reconciler has to look again */
    size_t instances;  /* that point here; without any, and without shares, it is forgotten */
};

/* One container, from the list, with what our probes found. */
struct instance {
    struct place *place;
    char *id;
    char *name;
    struct target_identity identity;
    int replica;
    enum container_state state;
    int exit_code;
    int host_port;
    struct probe_spec probe; /* path is our own copy */
    bool listed;             /* in the list being read */
    /* On its way out: retiring (a replica too many: no new requests, those under way may end) →
     * removing (in no view, and the router is told to let go) → unrouted (it has: may be stopped) →
     * stopping (a request to stop or delete it is under way). */
    int64_t retire_mono_ms; /* when that began; 0 = it stays */
    bool removing, unrouted, stopping;
    /* Health. */
    struct ec_timer *timer;
    struct ec_fetch *fetch; /* the probe under way */
    bool freed;             /* gone from the list; the probe under way frees it */
    bool ever_healthy;
    bool ever_answered; /* a connection was accepted */
    int failures;       /* in a row */
    int last_status;    /* 0 = no answer */
    int64_t since_ms;   /* mono: running since, or last healthy */
};

struct refresh_waiter {
    target_done_fn done;
    void *arg;
    struct refresh_waiter *next;
};

struct target {
    struct target_docker_settings is;
    char *instance; /* own copy of is.instance */
    char *list_url;
    char *events_url;
    struct router *router;
    struct ec_map *instances; /* container id → struct instance */
    struct ec_map *places;    /* key → struct place */
    struct ec_fetch *events;
    struct ec_timer *refresh_timer; /* the next list */
    struct ec_timer *notify_timer;  /* tells the reconciler about changed places */
    struct refresh_waiter *waiting; /* for a list that begins from now on */
    struct refresh_waiter *served;  /* for the one under way */
    bool refreshing;
    bool refresh_again;      /* something changed while the list was read */
    int64_t refresh_mono_ms; /* when refresh_timer is due; 0 = it is not set */
    bool listed_once;
    bool reached; /* the engine answered the last list */
    bool closed;
    size_t log_sources; /* connections of log readings */
    size_t pending; /* callbacks owed to us, also when it is closed: it lives as long as we do */
};

/* docker_watch.c */
void docker_watch_start(struct target *dk);
/* A list that begins after this call; done may be NULL. */
void docker_refresh(struct target *dk, uint32_t delay_ms, target_done_fn done, void *arg);
struct place *docker_place(struct target *dk, const char *key); /* made if missing */
void docker_changed(struct place *place);
void docker_call_ended(struct target *dk); /* one owed callback came */
void docker_stop_waiting(struct target *dk);
EC_RESULT docker_call(struct target *dk, const struct ec_fetch_spec *call, ec_fetch_fn done,
                      void *arg);
/* The same, and it may be cancelled. */
EC_RESULT docker_call_held(struct target *dk, const struct ec_fetch_spec *call, ec_fetch_fn done,
                           void *arg, struct ec_fetch **ret_fetch);

/* docker_probe.c */
void docker_probe_anew(struct instance *instance); /* it was started again: nothing is known */
struct ec_timer *docker_probe_timer(struct instance *instance);
void docker_probe_start(struct instance *instance); /* idempotent */
void docker_instance_free(void *instance);
bool docker_ready(const struct instance *instance);
enum target_trouble docker_trouble(const struct instance *instance, char *ret_detail, size_t size);

/* docker_start.c */
EC_RESULT docker_apply(struct target *dk, const struct target_goal *goal, target_done_fn done,
                       void *arg);
void docker_discard(struct instance *instance, bool gently); /* stop and delete, behind */

/* docker_logs.c */
EC_RESULT docker_last_lines(struct target *dk, const char *key,
                            const struct target_identity *identity, int lines, target_logs_fn done,
                            void *arg);
EC_RESULT docker_log_open(struct target *dk, const char *key, const struct target_log_spec *spec,
                          target_line_fn line, ec_call_fn done, void *arg,
                          struct target_log **ret_log);
void docker_log_close(struct target_log *log);

/* docker_traffic.c */
void docker_route(struct place *place); /* tells the router what this place should have */
/* done: the router has what the key should have. */
void docker_sync(struct target *dk, const char *key, target_done_fn done, void *arg);
EC_RESULT docker_shift_traffic(struct target *dk, const char *key,
                               const struct target_share *shares, size_t count, target_done_fn done,
                               void *arg);
EC_RESULT docker_set_routes(struct target *dk, const char *key,
                            Enclii__V1__RouteSpec *const *routes, size_t count);

/* docker_image.c */
EC_RESULT docker_prepare(struct target *dk, const char *image, uint32_t deadline_ms,
                         target_done_fn done, void *arg, struct target_prepare **ret_prepare);
void docker_prepare_stop(struct target_prepare *prepare);

/* target_docker.c */
void docker_retire(struct target *dk); /* goes on with what is retiring */
void docker_observe(struct target *dk, const char *key, struct target_view *ret_view);
/* The place's instances that are not on their way out; *at begins at 0. */
bool docker_next(const struct place *place, size_t *at, struct instance **ret_instance);
