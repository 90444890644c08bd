/* The Docker Engine API's texts: what we send and what comes back, as values. Pure. Written for
 * Docker 20+ and Podman 4.3, which differ in the ways noted in docker_api.c. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "target.h"

enum container_state { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED };

/* How a replica is asked whether it is healthy; kept in a label, so that a new process knows. */
struct probe_spec {
    const char *path;
    int port; /* inside the container */
    int64_t delay_ms, period_ms, timeout_ms, deadline_ms;
    int failures_max;
};

/* One container of ours, from the list. Texts are borrowed from the arena. */
struct container {
    const char *id;
    const char *name;
    const char *key;
    const char *identity;
    const char *deployment_id;
    int replica;
    enum container_state state;
    int exit_code;
    int host_port; /* 0 = not published (yet) */
    struct probe_spec probe;
};

EC_RESULT docker_read_list(struct ec_arena *arena, struct ec_span json, struct container **ret_list,
                           size_t *ret_count);
/* The body of POST /containers/create; NULL when a text of the goal is not UTF-8. */
char *docker_create_body(struct ec_arena *arena, const struct target_goal *goal, int replica,
                         const char *instance);
/* "enclii-shop-production-1a2b3c4-0-9f8e7d" */
char *docker_container_name(struct ec_arena *arena, const struct target_goal *goal, int replica);
/* The engine's own words in an error answer; "" when there are none. */
const char *docker_read_message(struct ec_arena *arena, struct ec_span body);
/* The progress lines of a pull: an error is in the last ones, with status 200. */
EC_RESULT docker_read_pull(struct ec_arena *arena, int status, struct ec_span body);
/* Log frames (8 bytes of header each) as text. */
char *docker_read_logs(struct ec_arena *arena, struct ec_span frames);
/* "exited with code 3", "was killed (code 137): most likely it used more memory than its limit" */
char *docker_exit_text(struct ec_arena *arena, int exit_code);
/* The version's name: release and specification, without the number of replicas. release->run is
 * set. */
struct target_identity docker_identity(const Enclii__V1__DesiredRelease *release);
