/* What exists and who may: the one table of routes; docs/api.md is made from it, comments included.
 * NEEDS(role, kind): the least role, and what the path names (its project is checked against the
 * token's before the handler runs, see call.c). */
#include "api.h"
#include "base/mem.h"

#define SMALL (16u << 10)
#define SPEC (512u << 10) /* a spec of 256 KiB, escaped as JSON */

#define ANYONE NEEDS(ROLE_PUBLIC, KIND_NONE)
#define VIEW(kind) NEEDS(ROLE_VIEWER, kind)
#define DEVELOP(kind) NEEDS(ROLE_DEVELOPER, kind)
#define ADMIN(kind) NEEDS(ROLE_ADMIN, kind)

const struct ec_http_route api_routes[] = {
    /* is it well: database and bus */
    {"GET", "/health", on_health, 0, ANYONE},
    /* the process answers */
    {"GET", "/health/live", on_live, 0, ANYONE},
    /* ready for work */
    {"GET", "/health/ready", on_ready, 0, ANYONE},

    /* makes a project; body: slug, name? */
    {"POST", "/v1/projects", on_project_create, SMALL, ADMIN(KIND_NONE)},
    /* the projects the token may see */
    {"GET", "/v1/projects", on_project_list, 0, VIEW(KIND_NONE)},
    /* one project */
    {"GET", "/v1/projects/{slug}", on_project_get, 0, VIEW(KIND_PROJECT)},
    /* removes a project that has no services */
    {"DELETE", "/v1/projects/{slug}", on_project_delete, 0, ADMIN(KIND_PROJECT)},
    /* makes an environment; body: name */
    {"POST", "/v1/projects/{slug}/environments", on_environment_create, SMALL,
     DEVELOP(KIND_PROJECT)},
    /* environments of the project */
    {"GET", "/v1/projects/{slug}/environments", on_environment_list, 0, VIEW(KIND_PROJECT)},
    /* one environment */
    {"GET", "/v1/projects/{slug}/environments/{environment}", on_environment_get, 0,
     VIEW(KIND_PROJECT)},

    /* makes a service; body: spec_yaml (the text of an enclii.yaml), or name and git_repo */
    {"POST", "/v1/projects/{slug}/services", on_service_create, SPEC, DEVELOP(KIND_PROJECT)},
    /* services of the project */
    {"GET", "/v1/projects/{slug}/services", on_service_list, 0, VIEW(KIND_PROJECT)},
    /* one service, with its spec */
    {"GET", "/v1/services/{id}", on_service_get, 0, VIEW(KIND_SERVICE)},
    /* changes a service; body: spec_yaml; takes effect with the next release */
    {"PATCH", "/v1/services/{id}", on_service_patch, SPEC, DEVELOP(KIND_SERVICE)},
    /* removes a service and all it runs */
    {"DELETE", "/v1/services/{id}", on_service_delete, 0, ADMIN(KIND_SERVICE)},
    /* what runs, and how it is */
    {"GET", "/v1/services/{id}/status", on_service_status, 0, VIEW(KIND_SERVICE)},
    /* why things are as they are, rule by rule */
    {"GET", "/v1/services/{id}/why", on_service_why, 0, VIEW(KIND_SERVICE)},
    /* what the app prints; query: environment, lines (100), since (RFC 3339) */
    {"GET", "/v1/services/{id}/logs", on_service_logs, 0, VIEW(KIND_SERVICE)},
    /* what the app prints, live (server-sent events log, gap, end) */
    {"GET", "/v1/services/{id}/logs/stream", on_service_logs_stream, 0, VIEW(KIND_SERVICE)},
    /* everything that happens to the service, live (server-sent events, resumes by Last-Event-ID)
     */
    {"GET", "/v1/services/{id}/events", on_service_events, 0, VIEW(KIND_SERVICE)},
    /* what happens everywhere the token may see, live; ?type= (build, build.queued), ?service=,
       ?replay=true */
    {"GET", "/v1/events", on_events, 0, VIEW(KIND_NONE)},

    /* asks for a build of a commit; body: git_sha, git_branch? */
    {"POST", "/v1/services/{id}/build", on_build_create, SMALL, DEVELOP(KIND_SERVICE)},
    /* builds, newest first; query: commit, limit */
    {"GET", "/v1/services/{id}/builds", on_build_list, 0, VIEW(KIND_SERVICE)},
    /* one build */
    {"GET", "/v1/builds/{id}", on_build_get, 0, VIEW(KIND_BUILD)},
    /* stops a build */
    {"POST", "/v1/builds/{id}/cancel", on_build_cancel, SMALL, DEVELOP(KIND_BUILD)},
    /* the output of a build */
    {"GET", "/v1/builds/{id}/logs", on_build_logs, 0, VIEW(KIND_BUILD)},
    /* the output of a build, live */
    {"GET", "/v1/builds/{id}/logs/stream", on_build_logs_stream, 0, VIEW(KIND_BUILD)},

    /* lets an untrusted build's commit in: its release may then be deployed; body: reason? */
    {"POST", "/v1/builds/{id}/approve", on_build_approve, SMALL, DEVELOP(KIND_BUILD)},
    /* the same, of a release */
    {"POST", "/v1/releases/{id}/approve", on_release_approve, SMALL, DEVELOP(KIND_RELEASE)},
    /* the same, of a pull request's head, which is built if it was not yet; body: commit, reason?
     */
    {"POST", "/v1/services/{id}/pull-requests/{number}/approve", on_pull_request_approve, SMALL,
     DEVELOP(KIND_SERVICE)},
    /* pull requests of the service's repository, newest first; query: state (open, closed, all) */
    {"GET", "/v1/services/{id}/pull-requests", on_pull_request_list, 0, VIEW(KIND_SERVICE)},

    /* releases, newest first */
    {"GET", "/v1/services/{id}/releases", on_release_list, 0, VIEW(KIND_SERVICE)},
    /* one release */
    {"GET", "/v1/releases/{id}", on_release_get, 0, VIEW(KIND_RELEASE)},
    /* its SBOM (CycloneDX) */
    {"GET", "/v1/releases/{id}/sbom", on_release_sbom, 0, VIEW(KIND_RELEASE)},
    /* its provenance (SLSA v1) */
    {"GET", "/v1/releases/{id}/provenance", on_release_provenance, 0, VIEW(KIND_RELEASE)},
    /* verifies signature, provenance and SBOM anew */
    {"GET", "/v1/releases/{id}/verify", on_release_verify, 0, VIEW(KIND_RELEASE)},

    /* brings a release to an environment; body: release_id, environment_name? */
    {"POST", "/v1/services/{id}/deploy", on_deploy, SMALL, DEVELOP(KIND_SERVICE)},
    /* deployments, newest first */
    {"GET", "/v1/services/{id}/deployments", on_deployment_list, 0, VIEW(KIND_SERVICE)},
    /* the newest deployment and its release; query: environment */
    {"GET", "/v1/services/{id}/deployments/latest", on_deployment_latest, 0, VIEW(KIND_SERVICE)},
    /* one deployment */
    {"GET", "/v1/deployments/{id}", on_deployment_get, 0, VIEW(KIND_DEPLOYMENT)},
    /* goes back to the release that was healthy before; body: to_release? */
    {"POST", "/v1/deployments/{id}/rollback", on_rollback, SMALL, DEVELOP(KIND_DEPLOYMENT)},

    /* webhooks that came in, and what became of them; query: repo, state, host, event, limit */
    {"GET", "/v1/deliveries", on_delivery_list, 0, VIEW(KIND_NONE)},
    /* one delivery */
    {"GET", "/v1/deliveries/{id}", on_delivery_get, 0, VIEW(KIND_NONE)},
    /* takes a push once more, without the git host */
    {"POST", "/v1/deliveries/{id}/redeliver", on_delivery_redeliver, SMALL, DEVELOP(KIND_NONE)},
    /* webhooks of repositories; query: repo (then that one, with what its host says of it) */
    {"GET", "/v1/hooks", on_hook_list, 0, VIEW(KIND_NONE)},
    /* makes or repairs a repository's webhook at its host, with a secret of its own; body: repo,
       rotate?, manual?, url? (admins) */
    {"POST", "/v1/hooks/setup", on_hook_setup, SMALL, DEVELOP(KIND_NONE)},
    /* a repository's webhook secret, shown once; body: repo, action (rotate, forget_previous,
       clear) */
    {"POST", "/v1/hooks/secret", on_hook_secret, SMALL, DEVELOP(KIND_NONE)},
    /* delivers a signed ping the way a git host would; body: repo */
    {"POST", "/v1/hooks/test", on_hook_test, SMALL, DEVELOP(KIND_NONE)},
    /* host names and their certificates; query: service_id */
    {"GET", "/v1/domains", on_domain_list, 0, VIEW(KIND_NONE)},
    /* why it is as it is, for each service it concerns: a commit, delivery, build, release or
     * deployment */
    {"GET", "/v1/why/{id}", on_why, 0, VIEW(KIND_NONE)},
    /* one push (commit, delivery, build, release or deployment) from webhook to notification */
    {"GET", "/v1/timeline/{id}", on_timeline, 0, VIEW(KIND_NONE)},
    /* all events, newest first; query: see docs/operations/history.md */
    {"GET", "/v1/history", on_history, 0, VIEW(KIND_NONE)},

    /* makes a channel for notifications; body: name, kind (webhook, github), url, secret?, events?
     */
    {"POST", "/v1/projects/{slug}/channels", on_channel_create, SMALL, DEVELOP(KIND_PROJECT)},
    /* channels of the project */
    {"GET", "/v1/projects/{slug}/channels", on_channel_list, 0, VIEW(KIND_PROJECT)},
    /* removes a channel */
    {"DELETE", "/v1/channels/{id}", on_channel_delete, 0, DEVELOP(KIND_CHANNEL)},

    /* dead letters, newest first; ?state= (open, REPLAYED, DISCARDED, all), ?group=, ?topic=,
       ?type=, ?id= (its beginning) */
    {"GET", "/v1/dead-letters", on_dead_list, 0, ADMIN(KIND_NONE)},
    /* one dead letter, with its record */
    {"GET", "/v1/dead-letters/{id}", on_dead_get, 0, ADMIN(KIND_NONE)},
    /* puts the record back on its topic, for the group that gave it up */
    {"POST", "/v1/dead-letters/{id}/replay", on_dead_replay, SMALL, ADMIN(KIND_NONE)},
    /* keeps the letter, marked as done with */
    {"POST", "/v1/dead-letters/{id}/discard", on_dead_discard, SMALL, ADMIN(KIND_NONE)},

    /* makes an API token, shown once; body: name, role?, project?, expires_in_days? */
    {"POST", "/v1/user/tokens", on_token_create, SMALL, VIEW(KIND_NONE)},
    /* the caller's tokens, without their text */
    {"GET", "/v1/user/tokens", on_token_list, 0, VIEW(KIND_NONE)},
    /* revokes a token */
    {"DELETE", "/v1/user/tokens/{id}", on_token_delete, 0, VIEW(KIND_NONE)},
};
const size_t api_route_count = EC_LEN(api_routes);
