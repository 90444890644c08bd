/* What exists and who may: the one table of routes. NEEDS(role, kind): the least role, and what the
 * path names (its project is checked against the token's before the handler runs, see call.c). */
#include "api.h"
#include "base/mem.h"

#define SMALL (16u << 10)
#define SPEC (512u << 10) /* a spec of 256 KiB, escaped as JSON */

#define ANYONE NEEDS(ROLE_PUBLIC, KIND_NONE)
#define VIEW(kind) NEEDS(ROLE_VIEWER, kind)
#define DEVELOP(kind) NEEDS(ROLE_DEVELOPER, kind)
#define ADMIN(kind) NEEDS(ROLE_ADMIN, kind)

const struct ec_http_route api_routes[] = {
    {"GET", "/health", on_health, 0, ANYONE},
    {"GET", "/health/live", on_live, 0, ANYONE},
    {"GET", "/health/ready", on_ready, 0, ANYONE},

    {"POST", "/v1/projects", on_project_create, SMALL, ADMIN(KIND_NONE)},
    {"GET", "/v1/projects", on_project_list, 0, VIEW(KIND_NONE)},
    {"GET", "/v1/projects/{slug}", on_project_get, 0, VIEW(KIND_PROJECT)},
    {"DELETE", "/v1/projects/{slug}", on_project_delete, 0, ADMIN(KIND_PROJECT)},
    {"POST", "/v1/projects/{slug}/environments", on_environment_create, SMALL,
     DEVELOP(KIND_PROJECT)},
    {"GET", "/v1/projects/{slug}/environments", on_environment_list, 0, VIEW(KIND_PROJECT)},
    {"GET", "/v1/projects/{slug}/environments/{environment}", on_environment_get, 0,
     VIEW(KIND_PROJECT)},

    {"POST", "/v1/projects/{slug}/services", on_service_create, SPEC, DEVELOP(KIND_PROJECT)},
    {"GET", "/v1/projects/{slug}/services", on_service_list, 0, VIEW(KIND_PROJECT)},
    {"GET", "/v1/services/{id}", on_service_get, 0, VIEW(KIND_SERVICE)},
    {"PATCH", "/v1/services/{id}", on_service_patch, SPEC, DEVELOP(KIND_SERVICE)},
    {"DELETE", "/v1/services/{id}", on_service_delete, 0, ADMIN(KIND_SERVICE)},
    {"GET", "/v1/services/{id}/status", on_service_status, 0, VIEW(KIND_SERVICE)},
    {"GET", "/v1/services/{id}/why", on_service_why, 0, VIEW(KIND_SERVICE)},
    {"GET", "/v1/services/{id}/events", on_service_events, 0, VIEW(KIND_SERVICE)},

    {"POST", "/v1/services/{id}/build", on_build_create, SMALL, DEVELOP(KIND_SERVICE)},
    {"GET", "/v1/services/{id}/builds", on_build_list, 0, VIEW(KIND_SERVICE)},
    {"GET", "/v1/builds/{id}", on_build_get, 0, VIEW(KIND_BUILD)},
    {"POST", "/v1/builds/{id}/cancel", on_build_cancel, SMALL, DEVELOP(KIND_BUILD)},
    {"GET", "/v1/builds/{id}/logs", on_build_logs, 0, VIEW(KIND_BUILD)},
    {"GET", "/v1/builds/{id}/logs/stream", on_build_logs_stream, 0, VIEW(KIND_BUILD)},

    {"GET", "/v1/services/{id}/releases", on_release_list, 0, VIEW(KIND_SERVICE)},
    {"GET", "/v1/releases/{id}", on_release_get, 0, VIEW(KIND_RELEASE)},
    {"GET", "/v1/releases/{id}/sbom", on_release_sbom, 0, VIEW(KIND_RELEASE)},
    {"GET", "/v1/releases/{id}/provenance", on_release_provenance, 0, VIEW(KIND_RELEASE)},
    {"GET", "/v1/releases/{id}/verify", on_release_verify, 0, VIEW(KIND_RELEASE)},

    {"POST", "/v1/services/{id}/deploy", on_deploy, SMALL, DEVELOP(KIND_SERVICE)},
    {"GET", "/v1/services/{id}/deployments", on_deployment_list, 0, VIEW(KIND_SERVICE)},
    {"GET", "/v1/services/{id}/deployments/latest", on_deployment_latest, 0, VIEW(KIND_SERVICE)},
    {"GET", "/v1/deployments/{id}", on_deployment_get, 0, VIEW(KIND_DEPLOYMENT)},
    {"POST", "/v1/deployments/{id}/rollback", on_rollback, SMALL, DEVELOP(KIND_DEPLOYMENT)},

    {"GET", "/v1/deliveries", on_delivery_list, 0, VIEW(KIND_NONE)},
    {"GET", "/v1/deliveries/{id}", on_delivery_get, 0, VIEW(KIND_NONE)},
    {"GET", "/v1/domains", on_domain_list, 0, VIEW(KIND_NONE)},
    {"GET", "/v1/timeline/{id}", on_timeline, 0, VIEW(KIND_NONE)},
    {"GET", "/v1/history", on_history, 0, VIEW(KIND_NONE)},

    {"POST", "/v1/projects/{slug}/channels", on_channel_create, SMALL, DEVELOP(KIND_PROJECT)},
    {"GET", "/v1/projects/{slug}/channels", on_channel_list, 0, VIEW(KIND_PROJECT)},
    {"DELETE", "/v1/channels/{id}", on_channel_delete, 0, DEVELOP(KIND_CHANNEL)},

    {"GET", "/v1/dead-letters", on_dead_list, 0, ADMIN(KIND_NONE)},
    {"GET", "/v1/dead-letters/{id}", on_dead_get, 0, ADMIN(KIND_NONE)},
    {"POST", "/v1/dead-letters/{id}/replay", on_dead_replay, SMALL, ADMIN(KIND_NONE)},
    {"POST", "/v1/dead-letters/{id}/discard", on_dead_discard, SMALL, ADMIN(KIND_NONE)},

    {"POST", "/v1/user/tokens", on_token_create, SMALL, VIEW(KIND_NONE)},
    {"GET", "/v1/user/tokens", on_token_list, 0, VIEW(KIND_NONE)},
    {"DELETE", "/v1/user/tokens/{id}", on_token_delete, 0, VIEW(KIND_NONE)},
};
const size_t api_route_count = EC_LEN(api_routes);
