/* Private to services/webhook. */
#pragma once

#include "base/map.h"
#include "base/secret.h"
#include "bus/topics.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/repo.pb-c.h"
#include "service/service.h"

#define BODY_MAX_BYTES (25u << 20) /* GitHub sends no more */
#define ACK_DEADLINE_MS 8000       /* GitHub gives up after 10 s */
#define RETRY_AFTER_S "10"
#define REPOS_MAX 100000
#define PATHS_MAX 10000  /* changed paths in one event */
#define COMMITS_MAX 2048 /* GitHub lists no more */
#define MESSAGE_MAX_BYTES 200

struct webhook_settings {
    const char *listen;
    struct ec_secret *secret;   /* of all repositories without their own; NULL = none */
    struct ec_secret *seal_key; /* opens repositories' own secrets; NULL = they are not used */
};

/* One repository that a service is bound to. */
struct repo {
    char *full_name;
    struct ec_secret *secret;   /* its own; NULL = the common one */
    struct ec_secret *previous; /* still accepted during a rotation; NULL = none */
};

struct webhook {
    struct webhook_settings settings;
    struct ec_service *svc;
    struct ec_loop *loop;
    struct ec_bus *bus;
    struct ec_http_server *server;
    uint32_t ack_deadline_ms; /* ACK_DEADLINE_MS, but in tests */
    struct ec_map *repos;     /* repository key → struct repo, from topic enclii.repos */
    bool repos_known;         /* the topic was read to its end: "unknown" now means unknown */
    uint32_t own_secrets;     /* repositories with a secret of their own */
};

extern struct ec_metric deliveries;

/* ---- decide_delivery.c: pure ---- */
enum payload { PAYLOAD_JSON, PAYLOAD_UNSUPPORTED, PAYLOAD_MALFORMED };
/* The JSON inside the body, by content type: plain, or in the form field "payload". */
enum payload decide_payload(struct ec_arena *arena, const char *content_type, struct ec_span body,
                            struct ec_span *ret_json);
/* The 64 hex digits of "sha256=<hex>"; empty when it is not of that form. */
struct ec_span decide_signature(const char *header);
enum event_kind { EVENT_PUSH, EVENT_PING, EVENT_OTHER };
enum event_kind decide_event(const char *name);
bool decide_delivery_id(const char *id); /* fit to be kept and shown */

/* ---- map_push.c: pure ---- */
struct push_fault {
    const char *field; /* NULL = no fault */
    const char *what;
};
/* GitHub's push → ours, in the arena; the changed paths (they may be many) are borrowed from root.
 */
struct push_fault map_push(struct ec_arena *arena, const json_t *root,
                           Enclii__V1__PushReceived **ret_push);

/* ---- handlers.c ---- */
void on_github_delivery(void *state, struct ec_request *req);

/* ---- repos.c: the table of known repositories ---- */
EC_RESULT repos_follow(struct webhook *wh);
void repos_free(struct webhook *wh);
struct repo *repos_find(const struct webhook *wh, const char *repo_key);
/* True when one of the secrets that hold for it signed the body. json may be empty (not readable).
 */
bool repos_signed(const struct webhook *wh, struct ec_arena *arena, struct ec_span body,
                  struct ec_span json, struct ec_span hex);
