/* Private to services/webhook. */
#pragma once

#include "base/map.h"
#include "base/secret.h"
#include "base/tape.h"
#include "bus/topics.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/repo.pb-c.h"
#include "service/service.h"

#define BODY_MAX_BYTES (25u << 20) /* GitHub sends no more */
#define ACK_DEADLINE_MS 8000       /* GitHub gives up after 10 s */
#define BUS_LINGER_MS 2 /* deliveries of two milliseconds share a request to the broker */
#define RETRY_AFTER_S "10"
#define REPOS_MAX 100000
#define PATHS_MAX 10000  /* changed paths in one event */
#define COMMITS_MAX 2048 /* GitHub lists no more */
#define TEXT_MAX_BYTES 1024
#define OUT_MAX 1024                        /* events of one delivery */
#define NAMES_MAX 5000                      /* repositories in one event */
#define LABELS_MAX 100                      /* GitHub lets a pull request have no more */
#define MAPPED_MAX_BYTES ((size_t)24 << 20) /* of the request's arena, before another event */
#define LOGGED_PER_SECOND 100               /* accepted or ignored deliveries */

struct webhook_settings {
    const char *listen;
    struct ec_secret *secret;   /* of all repositories without their own; NULL = none */
    struct ec_secret *seal_key; /* opens repositories' own secrets; NULL = they are not used */
};

/* One repository that a service is bound to. */
struct repo {
    char *key;
    char *id_key; /* "<server>#<the host's id>"; NULL = not known yet; others may say the same */
    struct ec_secret *secret;   /* its own; NULL = the common one */
    struct ec_secret *previous; /* still accepted during a rotation; NULL = none */
};

/* So many in a period, the rest is only counted. */
struct budget {
    int64_t period; /* its number: the second or the hour */
    int used;
};

struct webhook {
    struct webhook_settings settings;
    struct ec_service *svc;
    struct ec_loop *loop;
    struct ec_bus *bus;
    struct ec_http_server *server;
    uint32_t ack_deadline_ms;   /* ACK_DEADLINE_MS, but in tests */
    struct ec_map *repos;       /* repository key → struct repo, from topic enclii.repos */
    struct ec_map *repos_by_id; /* id_key → the first that said it; a renamed one keeps its id */
    uint32_t ids_waiting;       /* repositories whose id_key is another's */
    bool repos_known;           /* the topic was read to its end: "unknown" now means unknown */
    uint32_t own_secrets;       /* repositories with a secret of their own */
    struct budget refusals, refusals_of_hour; /* told to the ledger */
    struct budget logged;                     /* lines about what went well */
};

extern struct ec_metric deliveries;
extern const struct ec_http_route webhook_routes[];
extern const size_t webhook_route_count;

/* ---- what a delivery is, before and after it is trusted ---- */

/* Which repository a body says it is about; all texts in the arena, "" when it does not say. */
struct claim {
    const char *url, *full_name, *id, *default_branch;
    const char *key; /* ec_repo_key(url); NULL = no repository, or no clone URL */
};

/* The parts of a request that a signature covers or consists of. */
struct incoming {
    struct ec_arena *arena;
    struct ec_span body;   /* raw, as sent */
    struct ec_span json;   /* the payload inside: the body, or a field of the form */
    const char *signature; /* NULL = there is none */
    const char *signed_id; /* Standard Webhooks: webhook-id and webhook-timestamp are signed too */
    const char *signed_time;
    int64_t now_ms;
};

struct fault {
    const char *field; /* NULL = no fault */
    const char *what;
};

struct outgoing {
    const char *type; /* ce_type */
    const char *key;
    const char *step; /* with the delivery id it makes the event's id */
    const ProtobufCMessage *body;
};

struct host;

/* One delivery on its way to events; everything is in the arena. */
struct mapping {
    struct ec_arena *arena;
    const struct ec_tape *tape;
    const struct ec_node *root;
    const struct host *host;
    const char *event;
    struct claim claim;
    const char *repo_key; /* what the repository is bound as; differs from claim.key once renamed */
    const char *delivery_id;
    int64_t received_ms;
    struct outgoing *out;
    size_t out_count, out_room;
    bool out_full;       /* more than OUT_MAX, or than the arena holds: the delivery is refused */
    const char *ignored; /* the reason when nothing follows */
    const char *ignored_detail;
};

/* ---- hosts.c: who delivers, and how each of them writes things ---- */

struct event_row {
    const char *event; /* the host's name */
    struct fault (*map)(struct mapping *m, const struct event_row *row);
    const char *actions; /* " opened closed ": acted on; NULL = all */
    const struct event_shape *shape;
    bool needs_repo; /* is about a repository, or is malformed */
};

struct host {
    const char *name;
    const char *signature_headers[4]; /* NULL-ended, as the others; the first is named in answers */
    const char *event_headers[4];     /* none: event_path */
    const char *event_path;
    const char *id_headers[5]; /* none present: the hash of the body stands for it */
    bool (*verify)(const struct incoming *in, const struct ec_secret *secret);
    bool form;            /* also application/x-www-form-urlencoded with the field payload */
    const char *paths[4]; /* of the repository: clone URL, full name, id, default branch */
    struct claim (*claim)(struct ec_arena *arena, const struct host *host,
                          const struct ec_tape *tape);
    const struct event_row *events; /* ended by a row without event */
};

enum host_id {
    HOST_GITHUB,
    HOST_GITLAB,
    HOST_GITEA,
    HOST_BITBUCKET,
    HOST_GENERIC,
    HOST_REGISTRY,
    HOST_COUNT
};
extern const struct host hosts[HOST_COUNT];
const struct event_row *host_event(const struct host *host, const char *event);

/* ---- verify.c: pure; each in constant time over the raw bytes ---- */
bool verify_github(const struct incoming *in, const struct ec_secret *secret);
bool verify_gitlab(const struct incoming *in, const struct ec_secret *secret);
bool verify_gitea(const struct incoming *in, const struct ec_secret *secret);
bool verify_bitbucket(const struct incoming *in, const struct ec_secret *secret);
bool verify_standard(const struct incoming *in, const struct ec_secret *secret);
bool verify_bearer(const struct incoming *in, const struct ec_secret *secret);

/* ---- decide_delivery.c: pure ---- */
enum payload { PAYLOAD_JSON, PAYLOAD_UNSUPPORTED, PAYLOAD_MALFORMED };
/* The JSON inside the body, by content type: plain, or in the form field "payload". */
enum payload decide_payload(struct ec_arena *arena, const char *content_type, bool form,
                            struct ec_span body, struct ec_span *ret_json);
bool decide_delivery_id(const char *id); /* fit to be kept and shown */
/* Maps a verified delivery: events in m->out, or m->ignored with the reason, or a fault. */
struct fault decide_delivery(struct mapping *m);

/* ---- map.c: what the mappers share; pure ---- */
extern const struct fault no_fault;
/* A text that is short or of no use: what is longer than TEXT_MAX_BYTES comes cut somewhere behind
 * that. NULL: it is none. Whoever sends a body chooses how long its texts are. */
char *map_short(struct ec_arena *arena, const struct ec_tape *tape, const struct ec_node *node);
/* Texts of strangers that only people read are cut and cleaned, not refused. */
char *map_text(const struct mapping *m, const struct ec_node *from, const char *path);
/* A number or a text, as text. */
char *map_id(struct ec_arena *arena, const struct ec_tape *tape, const struct ec_node *from,
             const char *path);
char *map_cut(struct ec_arena *arena, const char *text, size_t max_bytes);
struct fault map_ignore(struct mapping *m, const char *reason, const char *detail);
void *map_message(const struct mapping *m, const ProtobufCMessageDescriptor *descriptor);
char **map_names(struct mapping *m, const struct ec_node *list, const char *member, size_t most,
                 size_t *ret_count);
void map_out(struct mapping *m, const char *type, const char *key, const ProtobufCMessage *body);
Enclii__V1__DeliveryInfo *map_info(const struct mapping *m, const char *action);
/* Fills fields of a message from places of the body. */
enum field_kind { FIELD_TEXT, FIELD_ID, FIELD_INT, FIELD_BOOL };
struct field {
    const char *path;
    size_t at; /* offsetof in the message */
    enum field_kind kind;
};
struct event_shape {
    const char *type;
    const ProtobufCMessageDescriptor *descriptor;
    const char *action_path, *sender_path;
    const struct field *fields; /* ended by a row without path */
    /* The rest, which is more than copying; may be NULL. */
    struct fault (*finish)(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info);
};
struct fault map_shape(struct mapping *m, const struct event_row *row);
struct fault map_ping(struct mapping *m, const struct event_row *row);
bool map_is_sha(const char *sha);
bool map_all_zeros(const char *sha);

/* ---- map_push.c, map_gitlab.c, map_bitbucket.c, map_generic.c, map_github.c: pure ---- */
Enclii__V1__PushReceived *push_new(const struct mapping *m);
struct fault push_ref(const struct mapping *m, Enclii__V1__PushReceived *push, const char *ref,
                      const char *before, const char *after);
void push_head(const struct mapping *m, Enclii__V1__PushReceived *push,
               const struct ec_node *commit);
/* The changed paths of a list of commits; `listed` is how many the host says there are. */
void push_paths(const struct mapping *m, Enclii__V1__PushReceived *push,
                const struct ec_node *commits, int64_t listed);
struct fault map_push(struct mapping *m, const struct event_row *row);
struct fault map_gitlab_push(struct mapping *m, const struct event_row *row);
struct fault map_bitbucket_push(struct mapping *m, const struct event_row *row);
struct fault map_bitbucket_server_push(struct mapping *m, const struct event_row *row);
struct fault map_generic_push(struct mapping *m, const struct event_row *row);
struct fault map_registry(struct mapping *m, const struct event_row *row);
struct fault map_harbor(struct mapping *m, const struct event_row *row);
struct claim claim_paths(struct ec_arena *arena, const struct host *host,
                         const struct ec_tape *tape);
struct claim claim_bitbucket(struct ec_arena *arena, const struct host *host,
                             const struct ec_tape *tape);
extern const struct event_row github_events[], gitlab_events[], gitea_events[], bitbucket_events[],
    generic_events[], registry_events[];

/* ---- handlers.c ---- */
void on_delivery(void *state, struct ec_request *req);
void on_refused(void *state, struct ec_request *req, int status, const char *code,
                const char *detail);

/* ---- refusals.c: the bounded part of the ledger ---- */
struct refusal {
    const struct host *host;
    const char *event, *delivery_id, *repo_key; /* as claimed; NULL = not known */
    int status;
    const char *reason, *detail;
};
bool budget_take(struct budget *budget, int64_t period, int most);
void refusal_tell(struct webhook *wh, struct ec_request *req, const struct refusal *refusal);

/* ---- repos.c: the table of known repositories ---- */
EC_RESULT repos_follow(struct webhook *wh);
void repos_free(struct webhook *wh);
/* By key; else by the host's id, which a renamed or transferred repository keeps. */
const struct repo *repos_find(const struct webhook *wh, struct ec_arena *arena,
                              const struct claim *claim);
/* True when one of the secrets that hold for it signed the delivery; repo NULL: the common one. */
bool repos_signed(const struct webhook *wh, const struct host *host, const struct repo *repo,
                  const struct incoming *in);
