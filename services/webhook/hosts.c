/* The hosts: one row says where each of them puts its signature, its event and its delivery id, how
 * it signs, and where its bodies name the repository. A new host is a row here, a verify function
 * and a table of its events. */
#include <string.h>

#include "base/mem.h"
#include "webhook.h"

const struct host hosts[HOST_COUNT] = {
    [HOST_GITHUB] = {"github",
                     {"X-Hub-Signature-256"},
                     {"X-GitHub-Event"},
                     NULL,
                     {"X-GitHub-Delivery"},
                     verify_github,
                     true,
                     {"repository.clone_url", "repository.full_name", "repository.id",
                      "repository.default_branch"},
                     claim_paths,
                     github_events},
    [HOST_GITLAB] =
        {"gitlab",
         {"X-Gitlab-Token", "webhook-signature"},
         {"X-Gitlab-Event"},
         NULL,
         /* Events that a webhook's receiver caused by calls of its own share the UUID. */
         {"Idempotency-Key", "X-Gitlab-Event-UUID", "webhook-id"},
         verify_gitlab,
         false,
         {"project.git_http_url", "project.path_with_namespace", "project.id",
          "project.default_branch"},
         claim_paths,
         gitlab_events},
    [HOST_GITEA] = {"gitea",
                    {"X-Gitea-Signature", "X-Forgejo-Signature", "X-Hub-Signature-256"},
                    {"X-Forgejo-Event", "X-Gitea-Event"},
                    NULL,
                    {"X-Forgejo-Delivery", "X-Gitea-Delivery"},
                    verify_gitea,
                    true,
                    {"repository.clone_url", "repository.full_name", "repository.id",
                     "repository.default_branch"},
                    claim_paths,
                    gitea_events},
    [HOST_BITBUCKET] = {"bitbucket",
                        {"X-Hub-Signature"},
                        {"X-Event-Key"},
                        NULL,
                        {"X-Request-UUID", "X-Request-Id"},
                        verify_bitbucket,
                        false,
                        {"repository.links.html.href", "repository.full_name", "repository.uuid",
                         "repository.mainbranch.name"},
                        claim_bitbucket,
                        bitbucket_events},
    [HOST_GENERIC] = {"generic",
                      {"webhook-signature"},
                      {NULL},
                      "type",
                      {"webhook-id"},
                      verify_standard,
                      false,
                      {"data.repository", "data.repository_name", "data.repository_id",
                       "data.default_branch"},
                      claim_paths,
                      generic_events},
    [HOST_REGISTRY] = {"registry",
                       {"Authorization"},
                       {NULL},
                       "type",
                       {NULL},
                       verify_bearer,
                       false,
                       {NULL},
                       claim_paths,
                       registry_events},
};

const struct event_row *host_event(const struct host *host, const char *event)
{
    for (const struct event_row *row = host->events; row->event; row++) {
        if (strcmp(row->event, event) == 0) {
            return row;
        }
    }
    return NULL;
}

/* The tag of a route says whose it is. A body above the limit is refused before it is read. */
const struct ec_http_route webhook_routes[] = {
    {"POST", "/v1/webhooks/github", on_delivery, BODY_MAX_BYTES, HOST_GITHUB},
    {"POST", "/v1/webhooks/gitlab", on_delivery, BODY_MAX_BYTES, HOST_GITLAB},
    {"POST", "/v1/webhooks/gitea", on_delivery, BODY_MAX_BYTES, HOST_GITEA},
    {"POST", "/v1/webhooks/forgejo", on_delivery, BODY_MAX_BYTES, HOST_GITEA},
    {"POST", "/v1/webhooks/bitbucket", on_delivery, BODY_MAX_BYTES, HOST_BITBUCKET},
    {"POST", "/v1/webhooks/generic", on_delivery, BODY_MAX_BYTES, HOST_GENERIC},
    {"POST", "/v1/webhooks/registry", on_delivery, BODY_MAX_BYTES, HOST_REGISTRY},
};
const size_t webhook_route_count = EC_LEN(webhook_routes);
