/* Opening and closing: the server answers from the first moment (503 "starting" until the schema
 * that `pipeline` makes is there and the bootstrap token is in it), then the consumers begin. */
#include "api.h"

#include "base/log.h"
#include "base/mem.h"
#include "oci/object_store.h"
#include "oci/registry.h"
#include "service/service.h"

#define LOOK_MS 500
#define CLOSE_GRACE_MS 2000

static void look(void *arg);

static void look_again(struct api *api, const char *why_not)
{
    api->why_not = why_not;
    ec_timer_start(api->prepare_timer, LOOK_MS, 0);
}

static void on_bootstrapped(void *arg, struct ec_err err)
{
    struct api *api = arg;
    if (api->closed) {
        return;
    }
    if (ec_failed(err)) {
        ec_log(EC_LOG_WARN, NULL, "api.not_prepared", "cannot prepare", EC_ERR(err));
        look_again(api, "the database cannot be written to yet");
        return;
    }
    err = hub_open(api);
    if (!ec_failed(err)) {
        err = logs_open(api);
    }
    if (!ec_failed(err)) {
        err = dead_open(api);
    }
    if (ec_failed(err)) {
        ec_log(EC_LOG_ERROR, NULL, "api.not_prepared", "cannot consume", EC_ERR(err));
        api->why_not = "the event log cannot be read; see this service's log";
        return;
    }
    api->why_not = NULL;
    api->prepared = true;
    ec_log(EC_LOG_INFO, NULL, "api.prepared", "schema found, consumers started");
}

static void on_schema(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct api *api = arg;
    if (api->closed) {
        return;
    }
    if (ec_failed(err) || !ec_rows_bool(rows, 0, "there")) {
        look_again(api, ec_failed(err) ? "waiting for the database"
                                       : "waiting for pipeline to make the database schema");
        return;
    }
    err = auth_bootstrap(api, on_bootstrapped, api);
    if (ec_failed(err)) {
        look_again(api, "waiting for the database");
    }
}

static void look(void *arg)
{
    struct api *api = arg;
    /* The last table and function of the schema: migrations are applied whole. */
    struct ec_err err = ec_store_exec(api->store,
                                      "select to_regclass('enclii.dead_letter') is not null and"
                                      " to_regprocedure('ec_expect(bigint,bigint)') is not null"
                                      " as there",
                                      NULL, 0, on_schema, api);
    if (ec_failed(err)) {
        look_again(api, "waiting for the database");
    }
}

/* What releases are proved with. The key may come later than we do: `signer` makes it. */
static struct ec_err open_evidence(struct api *api)
{
    const struct api_settings *settings = &api->settings;
    if (settings->object_store[0]) {
        EC_TRY(ec_object_store_open(api->loop, settings->object_store, &api->objects));
    }
    if (!settings->registry[0] || !settings->key_file[0]) {
        return ec_ok();
    }
    struct ec_registry_spec spec = {
        .loop = api->loop, .fetcher = api->fetcher, .insecure = settings->registry_insecure};
    return ec_registry_open(&spec, &api->oci);
}

EC_RESULT api_read_keys(struct api *api, struct ec_arena *arena)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    const char *file = api->settings.key_file;
    if (api->keys.count > 0) {
        return ec_ok();
    }
    struct ec_err err = ec_secret_read(file, &pem);
    if (!ec_failed(err)) {
        err = ec_keyring_from_pem(arena, ec_secret_use(pem), &api->keys);
    }
    return ec_failed(err) ? ec_reject_in(arena, "%s: %s", file, err.what) : ec_ok();
}

EC_RESULT api_open(struct api *api)
{
    EC_TRY(open_evidence(api));
    EC_TRY(ec_githosts_open(api->loop, api->fetcher, &api->settings.githost, &api->githosts));
    struct ec_http_server_spec spec = {
        .listen = api->settings.listen,
        .routes = api_routes,
        .route_count = api_route_count,
        .state = api,
        .before = call_before,
    };
    EC_TRY(ec_http_server_open(api->loop, &spec, &api->server));
    api->auth = auth_new();
    api->why_not = "waiting for the database";
    live_start(api);
    api->prepare_timer = ec_timer_new(api->loop, look, api);
    ec_timer_start(api->prepare_timer, 0, 0);
    return ec_ok();
}

static void on_server_closed(void *arg)
{
    struct api *api = arg;
    ec_registry_close(api->oci);
    ec_object_store_close(api->objects);
    api->closed(api->closed_arg);
}

void api_close(struct api *api, ec_call_fn closed, void *arg)
{
    ec_timer_free(EC_TAKE(api->prepare_timer));
    ec_timer_free(EC_TAKE(api->live_timer));
    dead_close(api);
    ec_githosts_close(EC_TAKE(api->githosts)); /* calls under way end now */
    api->closed = closed;
    api->closed_arg = arg;
    ec_http_server_close(api->server, CLOSE_GRACE_MS, on_server_closed, api);
}

void api_free(struct api *api)
{
    hub_free(api->hub);
    auth_free(api->auth);
    ec_keyring_done(&api->keys);
}

/* ---- GET /health... ---- */

static void reply_health(struct ec_request *req, int status, const char *word, const char *message)
{
    json_t *body = json_pack("{s:s, s:s, s:s}", "status", word, "service", "enclii-api", "version",
                             ec_version);
    if (message) {
        json_object_set_new(body, "message", json_string(message));
    }
    ec_reply_json(req, status, body);
    json_decref(body);
}

void on_health(void *state, struct ec_request *req)
{
    const struct api *api = state;
    bool database = ec_store_ready(api->store), bus = ec_bus_ready(api->bus);
    const char *word = !database ? "unhealthy" : !bus || !api->prepared ? "degraded" : "healthy";
    json_t *body = json_pack("{s:s, s:s, s:s, s:{s:{s:s}, s:{s:s}}}", "status", word, "service",
                             "enclii-api", "version", ec_version, "components", "database",
                             "status", database ? "healthy" : "unhealthy", "bus", "status",
                             bus ? "healthy" : "unhealthy");
    ec_reply_json(req, database ? 200 : 503, body);
    json_decref(body);
}

void on_live(void *state, struct ec_request *req)
{
    (void)state;
    reply_health(req, 200, "ok", NULL);
}

void on_ready(void *state, struct ec_request *req)
{
    const struct api *api = state;
    const char *why_not = !api->prepared                ? api->why_not
                          : !ec_store_ready(api->store) ? "the database cannot be reached"
                                                        : NULL;
    reply_health(req, why_not ? 503 : 200, why_not ? "not ready" : "ready", why_not);
}
