/* The frame every service runs in: settings, log, loop, bus, store, fetcher, admin HTTP (/metrics,
 * /health/live, /health/ready), signals, orderly stop. A service's main.c is its route table, a
 * start function and main. Read services/hello first.
 *
 * Stop (SIGTERM, SIGINT): not ready → `stop` of the service (end intake, finish or hand back work,
 * then ec_service_stopped) → bus closes (commit) → store closes → loop ends → exit 0. A second
 * signal or 5 s end the process at once (exit 1). */
#pragma once

#include "base/settings.h"
#include "bus/bus.h"
#include "net/fetch.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "store/store.h"

struct ec_service;

/* Whom the core of a service tells how it ends: the frame, or a test in its place. */
struct ec_owner {
    void *arg;
    void (*failed)(void *arg, struct ec_err err); /* it cannot go on */
    ec_call_fn stopped; /* after its stop function: nothing is under way */
};

struct ec_service_spec {
    const char *name;                       /* "webhook" */
    const char *help;                       /* one line for --help */
    void *state;                            /* the service's one state struct */
    void *settings;                         /* its settings struct (usually inside state) */
    const struct ec_setting *setting_table; /* ended by a row with name NULL; may be NULL */
    bool needs_bus, needs_store, needs_fetcher;
    uint32_t bus_linger_ms;
    /* Once everything it needs is open. Returns FATAL to leave. */
    struct ec_err (*start)(struct ec_service *svc, void *state);
    /* May be NULL; else owes one ec_service_stopped. */
    void (*stop)(struct ec_service *svc, void *state);
    /* Own readiness: NULL when ready, else one sentence why not. May be NULL. */
    const char *(*unready)(void *state);
};

/* The common settings (ENCLII_LOG_LEVEL, ENCLII_ADMIN_LISTEN, ENCLII_KAFKA_BROKERS,
 * ENCLII_KAFKA_TLS_*, ENCLII_DATABASE_URL ...) are in service.c's table; a service's own table adds
 * to it. argv: --help prints all settings; --settings markdown, env or json prints them for docs,
 * as a file to start from, or for programs; --version the version. */
int ec_service_main(int argc, char **argv, const struct ec_service_spec *spec);

struct ec_loop *ec_service_loop(struct ec_service *svc);
struct ec_bus *ec_service_bus(struct ec_service *svc);
struct ec_store *ec_service_store(struct ec_service *svc);
const struct ec_store_spec *ec_service_store_spec(struct ec_service *svc); /* for listeners */
struct ec_fetcher *ec_service_fetcher(struct ec_service *svc);
struct ec_arena *ec_service_arena(struct ec_service *svc); /* for start-up data; lives until exit */
void ec_service_stopped(struct ec_service *svc);
/* Ends the process in order, with that error and a non-zero status. */
void ec_service_fail(struct ec_service *svc, struct ec_err err);
/* An owner that does the two above. */
struct ec_owner ec_service_owner(struct ec_service *svc);
bool ec_service_stopping(const struct ec_service *svc);

/* The version of this build, from git at compile time: "0.1.0+abc1234". */
extern const char ec_version[];
