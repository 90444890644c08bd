/* See api_fixture.h. */
#include "support/api_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

extern const struct ec_migration pipeline_migrations[];
extern const size_t pipeline_migration_count;
extern const struct ec_migration history_migrations[];
extern const size_t history_migration_count;

static void check(struct ec_err err)
{
    if (ec_failed(err)) {
        fprintf(stderr, "api fixture: %s\n", err.what);
        abort();
    }
}

static bool is_prepared(void *arg)
{
    const struct api *api = arg;
    return api->prepared && ec_bus_ready(api->bus);
}

static void open_parts(struct api_fixture *fx)
{
    fx->loop = ec_loop_new();
    fx->kafka = test_kafka_start(
        fx->loop, "enclii.intake:1", "enclii.build.events:1", "enclii.build.logs:1",
        "enclii.release.events:1", "enclii.deployment.events:1", "enclii.domain.events:1",
        "enclii.notification.events:1", "enclii.build.events.pipeline.dead:1", "enclii.repos:1",
        "enclii.requests:1", "enclii.builders:1", "enclii.build.commands:1", "enclii.desired:1",
        "enclii.domains:1", "enclii.channels:1", "enclii.audit:1", NULL);
    fx->bus = test_kafka_bus(fx->kafka, "api");
    struct ec_store_spec spec = {
        .url = test_pg_url(fx->pg), .application_name = "api", .deadline_ms = 5000};
    check(ec_store_open(fx->loop, &spec, &fx->store));
    check(ec_fetcher_open(fx->loop, "api-test", 20, &fx->fetcher));
}

static struct api_fixture *last;

bool api_fixture_open(struct api_fixture *fx, const char *object_store)
{
    fx->pg = test_pg_start();
    if (!fx->pg) {
        print_message("SKIP: PostgreSQL is not installed\n");
        return false;
    }
    last = fx;
    test_pg_migrate(fx->pg, "enclii", pipeline_migrations, pipeline_migration_count);
    test_pg_migrate(fx->pg, "history", history_migrations, history_migration_count);
    open_parts(fx);
    fx->api.loop = fx->loop;
    fx->api.store = fx->store;
    fx->api.bus = fx->bus;
    fx->api.fetcher = fx->fetcher;
    fx->api.settings = (struct api_settings){
        .listen = "127.0.0.1:0",
        .public_url = "",
        .registry = "",
        .object_store = object_store,
        .platform_domain = "apps.test",
        .key_file = "",
        .webhook_url = "",
        .bootstrap_token = ec_secret_new(EC_SPAN(ADMIN_TOKEN)),
        .seal_key = ec_secret_new(
            EC_SPAN("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")),
    };
    check(api_open(&fx->api));
    snprintf(fx->base, sizeof(fx->base), "http://127.0.0.1:%u",
             ec_http_server_port(fx->api.server));
    if (!test_run_until(fx->loop, 10000, is_prepared, &fx->api)) {
        fprintf(stderr, "api fixture: not prepared: %s\n", fx->api.why_not);
        abort();
    }
    return true;
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

void api_fixture_close(struct api_fixture *fx)
{
    bool api_closed = false, store_closed = false;
    api_close(&fx->api, on_closed, &api_closed);
    test_run_until(fx->loop, 5000, test_is_true, &api_closed);
    test_kafka_close_bus(fx->kafka, fx->bus);
    test_kafka_stop(fx->kafka);
    ec_fetcher_close(fx->fetcher);
    ec_store_close(fx->store, on_closed, &store_closed);
    test_run_until(fx->loop, 5000, test_is_true, &store_closed);
    ec_loop_free(fx->loop);
    api_free(&fx->api);
    ec_secret_free(fx->api.settings.bootstrap_token);
    ec_secret_free(fx->api.settings.seal_key);
    json_decref(fx->json);
    test_pg_free(fx->pg);
}

int api_group_close(void **state)
{
    (void)state;
    api_fixture_close(EC_TAKE(last));
    return 0;
}

void api_sql(struct api_fixture *fx, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    test_pg_sql(fx->pg, text);
}

/* ---- requests ---- */

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct api_fixture *fx = arg;
    fx->status = ec_failed(err) ? 0 : result->status;
    if (ec_failed(err)) {
        fprintf(stderr, "api fixture: no answer came: %s\n", err.what);
    }
    size_t len = result->body.len < sizeof(fx->text) ? result->body.len : sizeof(fx->text) - 1;
    memcpy(fx->text, result->body.ptr ? result->body.ptr : "", len);
    fx->text[len] = 0;
    json_decref(fx->json);
    fx->json = json_loads(fx->text, 0, NULL);
    fx->answered = true;
}

int api_ask(struct api_fixture *fx, const char *method, const char *path, const char *token,
            const char *body)
{
    char url[512];
    snprintf(url, sizeof(url), "%s%s", fx->base, path);
    struct ec_secret *bearer = token ? ec_secret_new(ec_span_of(token)) : NULL;
    struct ec_header type = {"Content-Type", "application/json"};
    struct ec_fetch_spec spec = {
        .method = method,
        .url = url,
        .headers = &type,
        .header_count = body ? 1 : 0,
        .bearer = bearer,
        .body = ec_span_of(body),
    };
    fx->answered = false;
    check(ec_fetch_start(fx->fetcher, &spec, on_answer, fx, NULL));
    assert_true(test_run_until(fx->loop, 10000, test_is_true, &fx->answered));
    ec_secret_free(bearer);
    return fx->status;
}

const char *api_text(const struct api_fixture *fx, const char *path)
{
    return ec_json_text(fx->json, path);
}

/* ---- things to work with ---- */

const char *api_spec(const char *name, const char *repo)
{
    static char text[2048];
    snprintf(text, sizeof(text),
             "{\"spec_yaml\":\"apiVersion: enclii.dev/v1\\nkind: Service\\nmetadata:\\n"
             "  name: %s\\nspec:\\n  source:\\n    git:\\n      repository: %s\\n"
             "  build:\\n    type: dockerfile\\n  runtime:\\n    port: 8080\\n\"}",
             name, repo);
    return text;
}

static void copy_id(char out[EC_ID_SIZE], const char *text)
{
    assert_int_equal(strlen(text), EC_ID_SIZE - 1);
    memcpy(out, text, EC_ID_SIZE);
}

void api_place(struct api_fixture *fx, const char *slug, struct api_place *ret_place)
{
    char path[160], body[160], repo[128];
    snprintf(ret_place->slug, sizeof(ret_place->slug), "%s", slug);
    snprintf(body, sizeof(body), "{\"slug\":\"%s\",\"name\":\"The %s\"}", slug, slug);
    int status = api_ask(fx, "POST", "/v1/projects", ADMIN_TOKEN, body);
    for (int tries = 0; status == 503 && tries < 50; tries++) { /* on a busy machine: not yet */
        test_run_for(fx->loop, 100);
        status = api_ask(fx, "POST", "/v1/projects", ADMIN_TOKEN, body);
    }
    if (status != 201) {
        fprintf(stderr, "api fixture: POST /v1/projects: %d %s\n", status, fx->text);
        abort();
    }
    copy_id(ret_place->project_id, api_text(fx, "id"));
    snprintf(path, sizeof(path), "/v1/projects/%s/environments/production", slug);
    assert_int_equal(api_ask(fx, "GET", path, ADMIN_TOKEN, NULL), 200);
    copy_id(ret_place->environment_id, api_text(fx, "id"));
    snprintf(path, sizeof(path), "/v1/projects/%s/services", slug);
    snprintf(repo, sizeof(repo), "http://git.test/acme/%s.git", slug);
    if (api_ask(fx, "POST", path, ADMIN_TOKEN, api_spec("web", repo)) != 201) {
        fail_msg("%s", fx->text);
    }
    copy_id(ret_place->service_id, api_text(fx, "id"));
}

void api_token(struct api_fixture *fx, const char *role, const char *project, char out[80])
{
    char body[256];
    snprintf(body, sizeof(body), "{\"name\":\"%s\",\"role\":\"%s\"%s%s%s}", role, role,
             project ? ",\"project\":\"" : "", project ? project : "", project ? "\"" : "");
    assert_int_equal(api_ask(fx, "POST", "/v1/user/tokens", ADMIN_TOKEN, body), 201);
    snprintf(out, 80, "%s", api_text(fx, "token"));
}

/* ---- streams ---- */

static void on_piece(void *arg, struct ec_span piece)
{
    struct api_stream *stream = arg;
    size_t room = sizeof(stream->text) - 1 - stream->len;
    size_t len = piece.len < room ? piece.len : room;
    memcpy(stream->text + stream->len, piece.ptr, len);
    stream->len += len;
    stream->text[stream->len] = 0;
}

static void on_ended(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct api_stream *stream = arg;
    stream->status = ec_failed(err) ? 0 : result->status;
    stream->ended = true;
}

void api_stream_open(struct api_fixture *fx, struct api_stream *stream, const char *path,
                     const char *token, const char *last_event_id)
{
    char url[512];
    snprintf(url, sizeof(url), "%s%s", fx->base, path);
    *stream = (struct api_stream){0};
    char authorization[128];
    snprintf(authorization, sizeof(authorization), "Bearer %s", token);
    struct ec_header headers[] = {{"Authorization", authorization},
                                  {"Last-Event-ID", last_event_id}};
    struct ec_fetch_spec spec = {
        .url = url,
        .headers = headers,
        .header_count = last_event_id ? 2 : 1,
        .deadline_ms = 60000,
        .on_piece = on_piece,
    };
    check(ec_fetch_start(fx->fetcher, &spec, on_ended, stream, &stream->fetch));
}

struct wanted {
    const struct api_stream *stream;
    const char *what;
};

static bool holds(void *arg)
{
    const struct wanted *wanted = arg;
    return strstr(wanted->stream->text, wanted->what) != NULL;
}

void api_stream_until(struct api_fixture *fx, struct api_stream *stream, const char *what,
                      int limit_ms)
{
    struct wanted wanted = {stream, what};
    if (!test_run_until(fx->loop, limit_ms, holds, &wanted)) {
        fail_msg("the stream never said %s; it said (status %d): %s", what, stream->status,
                 stream->text);
    }
}

void api_stream_close(struct api_fixture *fx, struct api_stream *stream)
{
    if (!stream->ended) {
        ec_fetch_cancel(stream->fetch);
    }
    test_run_until(fx->loop, 2000, test_is_true, &stream->ended);
}
