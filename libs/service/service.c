/* The frame: everything a service needs is opened here, in one order, and closed in the reverse
 * one. The service itself only says what it needs and gives three functions (start, stop, unready).
 */
#include "service/service.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "service/common.h"

#define ARENA_BYTES ((size_t)16 << 20)
#define STOP_DEADLINE_MS 5000
#define BUS_GRACE_MS 3500
#define ADMIN_GRACE_MS 200
#define FETCH_CONNECTIONS_MAX 256

struct ec_service {
    const struct ec_service_spec *spec;
    struct service_common common;
    struct ec_arena *arena;
    struct ec_loop *loop;
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_store_spec store_spec;
    struct ec_fetcher *fetcher;
    struct ec_http_server *admin;
    uv_signal_t signals[2];
    struct ec_timer *deadline; /* of stopping */
    bool started;              /* spec->start was called and returned OK */
    bool stopping;
    bool stopped; /* the service has said so */
    int status;   /* of the process */
};

static struct ec_metric build_info =
    EC_GAUGE("enclii_build_info", "1, with the version of this program.", "version");
static struct ec_metric ready_gauge = EC_GAUGE("enclii_ready", "1 when ready for work.", NULL);

/* ---- what it is made of ---- */

struct ec_loop *ec_service_loop(struct ec_service *svc)
{
    return svc->loop;
}
struct ec_bus *ec_service_bus(struct ec_service *svc)
{
    return svc->bus;
}
struct ec_store *ec_service_store(struct ec_service *svc)
{
    return svc->store;
}
struct ec_fetcher *ec_service_fetcher(struct ec_service *svc)
{
    return svc->fetcher;
}
struct ec_arena *ec_service_arena(struct ec_service *svc)
{
    return svc->arena;
}

static void owner_failed(void *svc, struct ec_err err)
{
    ec_service_fail(svc, err);
}

static void owner_stopped(void *svc)
{
    ec_service_stopped(svc);
}

struct ec_owner ec_service_owner(struct ec_service *svc)
{
    return (struct ec_owner){svc, owner_failed, owner_stopped};
}

bool ec_service_stopping(const struct ec_service *svc)
{
    return svc->stopping;
}

const struct ec_store_spec *ec_service_store_spec(struct ec_service *svc)
{
    return &svc->store_spec;
}

/* ---- health ---- */

/* Fills reasons with what is missing; gives how many. */
static size_t unready_reasons(struct ec_service *svc, const char *reasons[4])
{
    size_t count = 0;
    if (svc->stopping || !svc->started) {
        reasons[count++] = svc->stopping ? "stopping" : "starting";
    }
    if (svc->bus && !ec_bus_ready(svc->bus)) {
        reasons[count++] = "no Kafka broker is reachable (ENCLII_KAFKA_BROKERS)";
    }
    if (svc->store && !ec_store_ready(svc->store)) {
        reasons[count++] = "the database is not reachable (ENCLII_DATABASE_URL)";
    }
    const char *own =
        svc->started && svc->spec->unready ? svc->spec->unready(svc->spec->state) : NULL;
    if (own) {
        reasons[count++] = own;
    }
    return count;
}

static void on_live(void *state, struct ec_request *req)
{
    struct ec_service *svc = state;
    json_t *body =
        json_pack("{s:b, s:s, s:s}", "live", 1, "service", svc->spec->name, "version", ec_version);
    ec_reply_json(req, 200, body);
    json_decref(body);
}

static void on_ready(void *state, struct ec_request *req)
{
    struct ec_service *svc = state;
    const char *reasons[4];
    size_t count = unready_reasons(svc, reasons);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, json_string(reasons[i]));
    }
    json_t *body = json_pack("{s:b, s:s, s:o}", "ready", count == 0, "service", svc->spec->name,
                             "reasons", list);
    ec_reply_json(req, count == 0 ? 200 : 503, body);
    json_decref(body);
}

static void on_metrics(void *state, struct ec_request *req)
{
    struct ec_service *svc = state;
    const char *reasons[4];
    struct ec_buf out;
    ec_metric_set(&ready_gauge, NULL, unready_reasons(svc, reasons) == 0);
    ec_buf_init(&out, 4u << 20);
    ec_metrics_print(&out);
    ec_reply_text(req, 200, "text/plain; version=0.0.4; charset=utf-8", ec_buf_span(&out));
    ec_buf_done(&out);
}

static const struct ec_http_route admin_routes[] = {
    {"GET", "/health/live", on_live, 0, 0},
    {"GET", "/health/ready", on_ready, 0, 0},
    {"GET", "/metrics", on_metrics, 0, 0},
};

/* ---- the end, step by step ---- */

static void on_admin_closed(void *arg)
{
    struct ec_service *svc = arg;
    for (size_t i = 0; i < EC_LEN(svc->signals); i++) {
        uv_close((uv_handle_t *)&svc->signals[i], NULL);
    }
    ec_timer_free(svc->deadline);
    ec_loop_stop(svc->loop);
}

static void on_store_closed(void *arg)
{
    struct ec_service *svc = arg;
    svc->store = NULL;
    if (svc->fetcher) {
        ec_fetcher_close(svc->fetcher);
        svc->fetcher = NULL;
    }
    if (svc->admin) {
        ec_http_server_close(svc->admin, ADMIN_GRACE_MS, on_admin_closed, svc);
        svc->admin = NULL;
        return;
    }
    on_admin_closed(svc);
}

static void on_bus_closed(void *arg)
{
    struct ec_service *svc = arg;
    svc->bus = NULL;
    if (svc->store) {
        ec_store_close(svc->store, on_store_closed, svc);
    } else {
        on_store_closed(svc);
    }
}

void ec_service_stopped(struct ec_service *svc)
{
    if (svc->stopped) {
        return;
    }
    svc->stopped = true;
    if (svc->bus) {
        ec_bus_close(svc->bus, BUS_GRACE_MS, on_bus_closed, svc);
    } else {
        on_bus_closed(svc);
    }
}

static void on_deadline(void *arg)
{
    struct ec_service *svc = arg;
    ec_log(EC_LOG_ERROR, NULL, "service.stop_too_slow", "ending at once after 5 s",
           EC_T("waited_for", !svc->stopped ? "the service"
                              : svc->bus    ? "the bus"
                              : svc->store  ? "the store"
                                            : "the rest"));
    _exit(1);
}

static void begin_stop(struct ec_service *svc)
{
    if (svc->stopping) {
        return;
    }
    svc->stopping = true;
    ec_log(EC_LOG_INFO, NULL, "service.stopping", "ending in order");
    svc->deadline = ec_timer_new(svc->loop, on_deadline, svc);
    ec_timer_start(svc->deadline, STOP_DEADLINE_MS, 0);
    if (svc->started && svc->spec->stop) {
        svc->spec->stop(svc, svc->spec->state);
    } else {
        ec_service_stopped(svc);
    }
}

void ec_service_fail(struct ec_service *svc, struct ec_err err)
{
    if (svc->status == 0) {
        ec_log(EC_LOG_ERROR, NULL, "service.failed", "leaving; to be started again", EC_ERR(err));
    }
    svc->status = 1;
    begin_stop(svc);
}

static void on_bus_fatal(void *arg, struct ec_err err)
{
    ec_service_fail(arg, err);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct ec_service *svc = handle->data;
    if (svc->stopping) {
        ec_log(EC_LOG_WARN, NULL, "service.killed", "second signal: ending at once",
               EC_N("signal", number));
        _exit(1);
    }
    begin_stop(svc);
}

/* ---- the beginning ---- */

static void watch_signals(struct ec_service *svc)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < EC_LEN(svc->signals); i++) {
        uv_signal_init(ec_loop_uv(svc->loop), &svc->signals[i]);
        svc->signals[i].data = svc;
        uv_signal_start(&svc->signals[i], on_signal, numbers[i]);
    }
}

static EC_RESULT open_bus(struct ec_service *svc)
{
    const struct service_common *common = &svc->common;
    EC_TRY(service_check_brokers(common));
    struct ec_bus_spec spec = {
        .brokers = common->brokers,
        .service = svc->spec->name,
        .linger_ms = svc->spec->bus_linger_ms,
        .fetch_wait_ms = (uint32_t)common->kafka_fetch_wait_ms,
        .tls_ca_file = *common->tls_ca ? common->tls_ca : NULL,
        .tls_cert_file = *common->tls_cert ? common->tls_cert : NULL,
        .tls_key_file = *common->tls_key ? common->tls_key : NULL,
        .fatal = on_bus_fatal,
        .fatal_arg = svc,
    };
    return ec_bus_open(svc->loop, &spec, &svc->bus);
}

static EC_RESULT open_store(struct ec_service *svc)
{
    if (!svc->common.database_url) {
        return ec_fatal(0, "ENCLII_DATABASE_URL is needed: postgres://user:password@host:port/db");
    }
    svc->store_spec = (struct ec_store_spec){.url = svc->common.database_url,
                                             .application_name = svc->spec->name};
    return ec_store_open(svc->loop, &svc->store_spec, &svc->store);
}

static EC_RESULT open_all(struct ec_service *svc)
{
    const struct ec_http_server_spec admin = {.listen = svc->common.admin_listen,
                                              .routes = admin_routes,
                                              .route_count = EC_LEN(admin_routes),
                                              .state = svc,
                                              .connections_max = 64};
    EC_TRY(ec_http_server_open(svc->loop, &admin, &svc->admin));
    if (svc->spec->needs_bus) {
        EC_TRY(open_bus(svc));
    }
    if (svc->spec->needs_store) {
        EC_TRY(open_store(svc));
    }
    if (svc->spec->needs_fetcher) {
        const char *agent =
            ec_arena_format(svc->arena, "enclii-%s/%s", svc->spec->name, ec_version);
        EC_TRY(ec_fetcher_open(svc->loop, agent, FETCH_CONNECTIONS_MAX, &svc->fetcher));
    }
    EC_TRY(svc->spec->start(svc, svc->spec->state));
    svc->started = true;
    return ec_ok();
}

static void print_settings(const struct ec_service_spec *spec, enum ec_settings_form form)
{
    ec_settings_print(service_common_settings, form);
    ec_settings_print(spec->setting_table, form);
}

static void print_settings_json(const struct ec_service_spec *spec)
{
    json_t *common = json_array(), *own = json_array();
    ec_settings_list(service_common_settings, common);
    ec_settings_list(spec->setting_table, own);
    json_t *all = json_pack("{s:s, s:s, s:b, s:b, s:o, s:o}", "service", spec->name, "help",
                            spec->help, "needs_kafka", spec->needs_bus, "needs_database",
                            spec->needs_store, "common", common, "own", own);
    json_dumpf(all, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(all);
}

/* True when the program was only asked to tell something. */
static bool answered(int argc, char **argv, const struct ec_service_spec *spec)
{
    const char *asked = argv[1], *form = argc == 3 ? argv[2] : "";
    if (argc == 2 && strcmp(asked, "--version") == 0) {
        printf("enclii-%s %s\n", spec->name, ec_version);
        return true;
    }
    if (argc == 2 && strcmp(asked, "--help") == 0) {
        printf("enclii-%s: %s\nSettings are environment variables:\n\n", spec->name, spec->help);
        print_settings(spec, EC_SETTINGS_TEXT);
        return true;
    }
    if (strcmp(asked, "--settings") != 0) {
        return false;
    }
    if (strcmp(form, "markdown") == 0) {
        print_settings(spec, EC_SETTINGS_MARKDOWN);
        return true;
    }
    if (strcmp(form, "env") == 0) {
        print_settings(spec, EC_SETTINGS_ENV);
        return true;
    }
    if (strcmp(form, "json") == 0) {
        print_settings_json(spec);
        return true;
    }
    return false;
}

static EC_RESULT read_settings(struct ec_service *svc)
{
    const struct ec_setting *tables[] = {service_common_settings, svc->spec->setting_table, NULL};
    void *structs[] = {&svc->common, svc->spec->settings, NULL};
    enum ec_log_level level = EC_LOG_INFO;
    EC_TRY(ec_settings_read(tables, structs, svc->arena));
    if (!ec_log_level_parse(svc->common.log_level, &level)) {
        return ec_fatal(0, "ENCLII_LOG_LEVEL must be debug, info, warn or error");
    }
    ec_log_setup(svc->spec->name, level);
    return ec_ok();
}

int ec_service_main(int argc, char **argv, const struct ec_service_spec *spec)
{
    struct ec_service *svc = ec_alloc(sizeof *svc);
    svc->spec = spec;
    if (argc > 1) {
        bool told = answered(argc, argv, spec);
        if (!told) {
            fprintf(stderr, "enclii-%s takes --help, --version or --settings markdown|env|json\n",
                    spec->name);
        }
        free(svc);
        return told ? 0 : 2;
    }
    ec_log_setup(spec->name, EC_LOG_INFO);
    svc->arena = ec_arena_new(ARENA_BYTES);
    struct ec_err err = read_settings(svc);
    if (ec_failed(err)) {
        ec_log(EC_LOG_ERROR, NULL, "service.settings_refused", err.what);
        ec_arena_free(svc->arena);
        free(svc);
        return 2;
    }
    svc->loop = ec_loop_new();
    watch_signals(svc);
    ec_metric_set(&build_info, ec_version, 1);
    err = open_all(svc);
    if (ec_failed(err)) {
        ec_service_fail(svc, err);
    } else {
        ec_log(EC_LOG_INFO, NULL, "service.started", spec->help, EC_T("version", ec_version),
               EC_T("admin", svc->common.admin_listen),
               EC_N("admin_port", ec_http_server_port(svc->admin)));
    }
    ec_loop_run(svc->loop);
    ec_loop_free(svc->loop);
    ec_log(EC_LOG_INFO, NULL, "service.stopped", "ended in order", EC_N("status", svc->status));
    int status = svc->status;
    ec_secret_free(svc->common.database_url);
    ec_arena_free(svc->arena);
    free(svc);
    return status;
}
