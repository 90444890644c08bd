/* api: the public HTTP API. Read routes.c (what exists and who may), then call.c (how one request
 * goes through), then the file of the subject. Private to this service. */
#pragma once

#include "base/arena.h"
#include "base/json.h"
#include "base/secret.h"
#include "bus/bus.h"
#include "enclii/v1/common.pb-c.h"
#include "githost/githost.h"
#include "net/http_server.h"
#include "store/store.h"
#include "trust/keyring.h"

struct auth;
struct hub;
struct dead;
struct ec_fetcher;
struct ec_object_store;
struct ec_registry;

struct api_settings {
    const char *listen;          /* ENCLII_LISTEN */
    const char *public_url;      /* ENCLII_PUBLIC_URL: how people reach this API, "" = unknown */
    const char *registry;        /* ENCLII_REGISTRY, "" = none: verification is off; images of
                                  * another registry are never asked about */
    bool registry_insecure;      /* ENCLII_REGISTRY_INSECURE */
    const char *object_store;    /* ENCLII_OBJECT_STORE, "" = none: no SBOM downloads */
    const char *platform_domain; /* ENCLII_PLATFORM_DOMAIN */
    const char *key_file;        /* ENCLII_SIGNING_PUBLIC_KEY_FILE, "" = verification is off */
    struct ec_secret *bootstrap_token; /* ENCLII_BOOTSTRAP_TOKEN, NULL = none */
    struct ec_secret *seal_key; /* ENCLII_SEAL_KEY, NULL: secrets of channels and repositories are
                                 * refused */
    const char *webhook_url;    /* ENCLII_WEBHOOK_URL, "" or NULL = not known */
    struct ec_githost_settings githost;
};

struct api {
    struct api_settings settings;
    struct ec_loop *loop;
    struct ec_store *store;
    struct ec_bus *bus;
    struct ec_fetcher *fetcher;
    struct ec_object_store *objects; /* NULL: none set */
    struct ec_registry *oci;         /* NULL: verification is off */
    struct ec_githosts *githosts;    /* calls back to git hosts */
    struct ec_keyring keys; /* that sign now, or did; none: verification is off, or not read yet */
    struct ec_http_server *server;
    struct auth *auth;              /* tokens seen lately */
    struct hub *hub;                /* live events */
    struct dead *dead;              /* reader of dead letters */
    struct ec_timer *prepare_timer; /* looks for the schema until it is there */
    bool prepared;                  /* the schema exists and the bootstrap token is in it */
    const char *why_not;            /* while not prepared: one sentence */
    ec_call_fn closed;              /* of api_close */
    void *closed_arg;
    uint32_t streams;            /* open event and log streams, at most STREAMS_MAX */
    struct live *lives;          /* these */
    struct ec_timer *live_timer; /* looks whether their tokens still hold */
    bool looking;                /* that question is under way */
};
#define STREAMS_MAX 500

/* Everything that main wires: opens the server, then prepares and consumes in the background.
 * `api` has settings, loop, store, bus and fetcher filled. */
EC_RESULT api_open(struct api *api);
void api_close(struct api *api, ec_call_fn closed, void *arg);
/* Reads the public keys at first use; the error says why there are none. */
EC_RESULT api_read_keys(struct api *api, struct ec_arena *arena);
/* After the bus and the store have closed. */
void api_free(struct api *api);

/* ---- who may: roles grow, each may what the ones before may ---- */
enum role { ROLE_PUBLIC = 0, ROLE_VIEWER, ROLE_DEVELOPER, ROLE_ADMIN };
enum role role_parse(const char *name); /* ROLE_PUBLIC when it is none */
const char *role_name(enum role role);

/* What a route's {id} or {slug} names. The project it belongs to is looked up, and checked against
 * the token's project, before any handler runs. */
enum kind {
    KIND_NONE = 0, /* lists: the handler's SQL filters by call->who.project_id */
    KIND_PROJECT,
    KIND_SERVICE,
    KIND_BUILD,
    KIND_RELEASE,
    KIND_DEPLOYMENT,
    KIND_CHANNEL,
};
#define NEEDS(role, kind) ((role) | (kind) << 4)
#define NEEDS_ROLE(tag) ((enum role)((tag)&15))
#define NEEDS_KIND(tag) ((enum kind)((tag) >> 4))

struct principal {
    char token_id[EC_ID_SIZE];
    char name[128];
    char project_id[EC_ID_SIZE]; /* "" = all projects */
    enum role role;
};

/* ---- one request ---- */
struct call;
typedef void (*rows_fn)(struct call *call, const struct ec_rows *rows);
typedef void (*batch_fn)(struct call *call, const struct ec_batch *batch);

struct call {
    struct api *api;
    struct ec_request *req;
    struct ec_arena *arena; /* of the request */
    struct principal who;   /* a copy: the cache may forget it meanwhile */
    /* What the path names; "" where it does not apply. */
    const char *id;
    const char *project_id, *project_slug, *project_name;
    const char *service_id, *service_name;
    rows_fn then_rows;
    batch_fn then_batch;
    void *more; /* the handler's own */
};
bool call_before(void *state, struct ec_request *req); /* for the server */
struct call *call_of(void *state, struct ec_request *req);

#define ARGS(...)                                                                                  \
    (const char *const[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)

/* Questions with optional parts ("$2 = '' or ...") as first statement of their batch: PostgreSQL
 * plans the rest for what is asked now. Its plan for any values, which it takes after a while,
 * reads whole tables for rare ones. */
#define PLAN_ANEW "select set_config('plan_cache_mode', 'force_custom_plan', true)"
/* Read, then go on in `then`; errors are answered here. */
void call_query(struct call *call, const char *sql, const char *const *args, size_t arg_count,
                rows_fn then);
void call_read(struct call *call, struct ec_batch *batch, batch_fn then);
/* Write. takes the batch. A violated constraint becomes its 409. */
void call_write(struct call *call, struct ec_batch *batch, batch_fn then);
void call_reply(struct call *call, int status, json_t *body); /* takes body */
void call_problem(struct call *call, int status, const char *code, const char *field,
                  const char *detail);
/* One more stream may be opened; false = answered 503. */
bool call_stream_room(struct call *call);
/* The body as a JSON object; NULL = answered 400. Freed with json_decref. */
json_t *call_body(struct call *call);
/* A text member: NULL = answered 400 because it is missing, no text or longer than max. */
const char *body_text(struct call *call, const json_t *body, const char *name, size_t max);
/* ?limit=: 1..500, else `otherwise`; as text for SQL. */
const char *call_limit(struct call *call, int otherwise);
Enclii__V1__Actor call_actor(const struct call *call);
bool is_name(const char *text, size_t max); /* a-z 0-9 -, not at the ends */
bool is_commit(const char *text); /* 7 to 64 lower-case hex digits: one, or its beginning */

/* ---- outbox.c: what a transaction tells the others ---- */
struct outbox_row {
    const char *topic, *key, *type, *subject;
    const char *event_id;         /* NULL = a new one */
    const ProtobufCMessage *body; /* NULL = tombstone */
};
void outbox_add(struct call *call, struct ec_batch *batch, const struct outbox_row *row);
struct audit {
    const char *action, *resource_type, *resource_id, *resource_name;
    const char *outcome; /* NULL = "success" */
};
void audit_add(struct call *call, struct ec_batch *batch, const struct audit *audit);
void audit_add_why(struct call *call, struct ec_batch *batch, const struct audit *audit,
                   const char *why); /* why: in the person's own words */
/* One repository, many services: these two and the row change run under the repository's lock. */
void repo_lock(struct ec_batch *batch, const char *repo_key);
void repo_bind(struct call *call, struct ec_batch *batch, const char *repo_key, const char *url);
void repo_release(struct call *call, struct ec_batch *batch, const char *repo_key);

/* ---- auth.c ---- */
struct auth *auth_new(void);
void auth_free(struct auth *auth);
void auth_forget(struct auth *auth); /* a token was revoked */
/* Asks the cache; false = unknown. */
bool auth_cached(struct auth *auth, const char *hash, struct principal *ret_who);
void auth_remember(struct auth *auth, const char *hash, const struct principal *who);
EC_RESULT auth_bootstrap(struct api *api, ec_done_fn done, void *arg);

/* ---- render.c: rows to JSON ---- */
/* columns: "id name ?detail #replicas !enabled @steps": text, text left out when empty, number,
 * boolean, JSON. Column names are the keys. */
json_t *render_row(const struct ec_rows *rows, size_t row, const char *columns);
json_t *render_list(const struct ec_rows *rows, const char *columns);
json_t *render_service(const struct ec_rows *rows, size_t row, struct ec_arena *arena);
json_t *render_build(const struct ec_rows *rows, size_t row, struct ec_arena *arena);
json_t *render_release(const struct ec_rows *rows, size_t row, struct ec_arena *arena);
json_t *render_deployment(const struct ec_rows *rows, size_t row, struct ec_arena *arena);
typedef json_t *(*render_fn)(const struct ec_rows *rows, size_t row, struct ec_arena *arena);
json_t *render_each(const struct ec_rows *rows, struct ec_arena *arena, render_fn render);
const char *deployment_status(const char *state); /* pending, running, failed */
const char *deployment_health(const char *state); /* unknown, healthy, unhealthy */

/* SQL: a time as RFC 3339 text, "" for null. */
#define TIME(expr, as)                                                                             \
    "coalesce(to_char((" expr                                                                      \
    ") at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), '') as " as
/* SQL: the condition that a project-scoped token sees only its project; $n is who.project_id. */
#define IN_SCOPE(n, column) "(" n " = '' or " column "::text = " n ")"
extern const char SERVICE_SQL[], BUILD_SQL[], RELEASE_SQL[], DEPLOYMENT_SQL[];

/* ---- events.c: the hub of live events ---- */
struct hub_event;
EC_RESULT hub_open(struct api *api);
void hub_free(struct hub *hub);
/* Log lines of a build, or of an app's reader, as they come; `fn` gets the BuildLog or AppLog. */
struct hub_follower;
typedef void (*hub_log_fn)(void *arg, const void *log);
struct hub_follower *hub_follow_logs(struct hub *hub, const char *id, hub_log_fn fn, void *arg);
void hub_unfollow(struct hub *hub, struct hub_follower *follower);

/* ---- live.c: open streams; each ends with its token ---- */
struct live;
/* After call_stream_room. Like ec_reply_stream: `closed` comes exactly once, later. */
struct live *live_open(struct call *call, size_t buffer_max_bytes, ec_call_fn closed, void *arg);
void live_send(struct live *live, const char *id, const char *event, struct ec_span data);
void live_end(struct live *live);
void live_start(struct api *api);

/* ---- logs.c ---- */
EC_RESULT logs_open(struct api *api); /* group api-logs: build.logs → enclii.build_log */

/* ---- dead.c ---- */
EC_RESULT dead_open(struct api *api); /* group api-dead: topics *.dead → enclii.dead_letter */
void dead_close(struct api *api);

/* ---- timeline.c ---- */
/* What a token of one project does not see of a push to a repository that others build from, too.
 */
bool leave_out_foreign(json_t *body); /* whether there was any */

/* ---- handlers, by file ---- */
typedef void handler(void *state, struct ec_request *req);
handler on_health, on_live, on_ready;
handler on_project_create, on_project_list, on_project_get, on_project_delete;
handler on_environment_create, on_environment_list, on_environment_get;
handler on_service_create, on_service_list, on_service_get, on_service_patch, on_service_delete;
handler on_service_status, on_service_why, on_service_events, on_events;
handler on_build_create, on_build_list, on_build_get, on_build_cancel;
handler on_build_logs, on_build_logs_stream, on_service_logs, on_service_logs_stream;
handler on_build_approve, on_release_approve, on_pull_request_approve, on_pull_request_list;
handler on_release_list, on_release_get, on_release_sbom, on_release_provenance, on_release_verify;
handler on_deploy, on_deployment_list, on_deployment_latest, on_deployment_get, on_rollback;
handler on_delivery_list, on_delivery_get, on_delivery_redeliver, on_domain_list;
handler on_hook_list, on_hook_setup, on_hook_secret, on_hook_test;
handler on_timeline, on_history, on_why;
handler on_channel_create, on_channel_list, on_channel_delete;
handler on_dead_list, on_dead_get, on_dead_replay, on_dead_discard;
handler on_token_create, on_token_list, on_token_delete;

extern const struct ec_http_route api_routes[];
extern const size_t api_route_count;
