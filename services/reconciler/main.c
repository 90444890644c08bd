/* reconciler: brings this machine's containers and router to the desired state. The table says what
 * it takes in; rollout.c does the work. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "reconciler.h"

static const struct ec_route routes[] = {
    {"dev.enclii.desired.v1", &enclii__v1__desired__descriptor, NULL},
};

static const struct ec_setting setting_table[] = {
    {"ENCLII_DOCKER_SOCKET", EC_SETTING_PATH, offsetof(struct settings, docker_socket),
     "/var/run/docker.sock", "Docker Engine API socket (Docker or Podman).",
     "/run/podman/podman.sock", 0, 0},
    {"ENCLII_HAPROXY_SOCKET", EC_SETTING_PATH, offsetof(struct settings, haproxy_socket),
     "/run/haproxy/admin.sock", "HAProxy's runtime socket, level admin.", "/run/haproxy/admin.sock",
     0, 0},
    {"ENCLII_HAPROXY_DIR", EC_SETTING_PATH, offsetof(struct settings, haproxy_dir), NULL,
     "Folder with hosts.map and backends.map, as HAProxy's configuration names it.",
     "/var/lib/enclii/router", 0, 0},
    {"ENCLII_INSTANCE", EC_SETTING_TEXT, offsetof(struct settings, instance), "default",
     "Name of this platform; only containers that carry it are touched.", "default", 0, 0},
    {"ENCLII_ROUTER_HTTP", EC_SETTING_TEXT, offsetof(struct settings, router_http),
     "127.0.0.1:8080", "Address of the router's HTTP side, for the URLs that are told.",
     "127.0.0.1:8080", 0, 0},
    {"ENCLII_ROUTER_HTTPS", EC_SETTING_TEXT, offsetof(struct settings, router_https),
     "127.0.0.1:8443", "Address of the router's HTTPS side, for the URLs that are told.",
     "127.0.0.1:8443", 0, 0},
    {"ENCLII_LEFTOVER_GRACE", EC_SETTING_DURATION_MS, offsetof(struct settings, leftover_grace_ms),
     "24h",
     "How long a service that runs and whose desired state is missing is kept; as long as most of "
     "them are missing, all are kept.",
     "24h", 1000, 2592000000},
    {0},
};

static void on_desired(void *state, struct ec_event *ev)
{
    struct reconciler *rec = state;
    rollout_set(rollout_find(rec, ec_event_key(ev)), ev);
}

static void on_unreadable(void *state, const char *key)
{
    rollout_hold(rollout_find(state, key));
}

static void look_at_all(struct reconciler *rec)
{
    void *value;
    for (size_t at = 0; ec_map_next(rec->rollouts, &at, NULL, &value);) {
        rollout_look(value);
    }
}

static void on_caught_up(void *state)
{
    struct reconciler *rec = state;
    rec->caught_up = true;
    ec_log(EC_LOG_INFO, NULL, "desired.read", "the desired state was read whole",
           EC_N("services", ec_map_count(rec->rollouts)), EC_N("held", rec->held));
    leftovers_look(rec);
    look_at_all(rec);
}

static void on_target_changed(void *arg, const char *key)
{
    struct reconciler *rec = arg;
    struct rollout *ro = ec_map_get(rec->rollouts, key);
    if (ro != NULL) {
        rollout_look(ro);
    }
}

static struct ec_err start(struct ec_service *svc, void *state)
{
    struct reconciler *rec = state;
    rec->svc = svc;
    rec->ops = &target_docker_ops;
    rec->rollouts = ec_map_new(KEYS_MAX);
    leftovers_open(rec);
    const struct target_docker_settings settings = {
        .loop = ec_service_loop(svc),
        .fetcher = ec_service_fetcher(svc),
        .docker_socket = rec->is.docker_socket,
        .haproxy_socket = rec->is.haproxy_socket,
        .haproxy_dir = rec->is.haproxy_dir,
        .instance = rec->is.instance,
        .changed = on_target_changed,
        .arg = rec,
    };
    EC_TRY(target_docker_open(&settings, &rec->target));
    EC_TRY(app_logs_open(rec));
    static const char *const topics[] = {EC_TOPIC_DESIRED, NULL};
    const struct ec_table_spec table = {
        .topics = topics,
        .routes = routes,
        .route_count = EC_LEN(routes),
        .state = rec,
        .on_event = on_desired,
        .on_unreadable = on_unreadable,
        .on_caught_up = on_caught_up,
    };
    return ec_bus_table(ec_service_bus(svc), &table, NULL);
}

/* What runs keeps running; what was under way is found again by the next process. */
static void stop(struct ec_service *svc, void *state)
{
    struct reconciler *rec = state;
    void *value;
    for (size_t at = 0; ec_map_next(rec->rollouts, &at, NULL, &value);) {
        struct rollout *ro = value;
        ec_timer_free(EC_TAKE(ro->timer));
    }
    ec_timer_free(rec->clean_timer);
    app_logs_close(rec);
    rec->ops->close(rec->target);
    ec_service_stopped(svc);
}

static const char *unready(void *state)
{
    struct reconciler *rec = state;
    return rec->caught_up ? rec->ops->unready(rec->target) : "the desired state was not read yet";
}

int main(int argc, char **argv)
{
    static struct reconciler rec;
    return ec_service_main(argc, argv,
                           &(struct ec_service_spec){
                               .name = "reconciler",
                               .help = "brings containers and the router to the desired state",
                               .state = &rec,
                               .settings = &rec.is,
                               .setting_table = setting_table,
                               .needs_bus = true,
                               .needs_fetcher = true,
                               .start = start,
                               .stop = stop,
                               .unready = unready,
                           });
}
