/* pipeline: the one service that decides. It reads what git hosts, people, builders, signer,
 * reconciler and domain say, moves the state of builds, releases, deployments and domains by one
 * table (machine.c), and tells the others what follows, through the outbox. */
#include "pipeline.h"

#include <stddef.h>
#include <string.h>

#include "service/service.h"

static const struct ec_setting settings[] = {
    {"ENCLII_REGISTRY", EC_SETTING_TEXT, offsetof(struct pipeline_settings, registry), NULL,
     "Registry and prefix that images are pushed to.", "127.0.0.1:5000", 0, 0},
    {"ENCLII_BUILD_ATTEMPTS", EC_SETTING_INT, offsetof(struct pipeline_settings, attempts_max), "3",
     "How often one build is tried when what it needs fails (git host, registry).", "3", 1, 10},
    {"ENCLII_BUILD_LOSSES", EC_SETTING_INT, offsetof(struct pipeline_settings, losses_max), "5",
     "How many builders one build may lose (killed, stopped, cut off, out of disk); no attempt of "
     "its own.",
     "5", 1, 100},
    {"ENCLII_BUILDS", EC_SETTING_INT, offsetof(struct pipeline_settings, builds_max), "0",
     "Builds at once on the whole platform; 0 means as many as builders have slots.", "20", 0,
     10000},
    {"ENCLII_PROJECT_BUILDS", EC_SETTING_INT,
     offsetof(struct pipeline_settings, project_builds_max), "0",
     "Builds of one project at once; 0 means as many as builders have slots.", "4", 0, 1000},
    {"ENCLII_BUILDER_SILENCE", EC_SETTING_DURATION_MS,
     offsetof(struct pipeline_settings, silence_ms), "10s",
     "A builder not heard for so long is gone; its builds go elsewhere.", "10s", 3000, 600000},
    {"ENCLII_SKIP_MARKERS", EC_SETTING_TEXT, offsetof(struct pipeline_settings, skip_markers),
     "[skip ci],[ci skip],[no ci],[skip enclii],[enclii skip],[skip actions],[actions skip]",
     "A commit whose message has one of these is not built; empty: every one is.",
     "[skip ci],[skip deploy]", 0, 0},
    {"ENCLII_CI_TIMEOUT", EC_SETTING_DURATION_MS, offsetof(struct pipeline_settings, ci_timeout_ms),
     "1h", "A push of a service with waitForCI waits so long for the git host's CI.", "1h", 60000,
     86400000},
    {"ENCLII_DOMAIN_ISSUER", EC_SETTING_TEXT, offsetof(struct pipeline_settings, domain_issuer),
     "local", "Who issues certificates for host names of routes.", "local", 0, 0},
    {"ENCLII_MEMBER", EC_SETTING_TEXT, offsetof(struct pipeline_settings, member), "",
     "A name only this instance has, the same after a restart: then a restarted instance goes on "
     "with its partitions at once, and the others do not stop. Empty: a new member each time.",
     "pipeline-0", 0, 0},
    {"ENCLII_KEEP_SEEN", EC_SETTING_DURATION_MS, offsetof(struct pipeline_settings, keep_seen_ms),
     "8d", "Ids of handled events are kept so long; longer than the topics keep the events.", "8d",
     86400000, INT64_MAX},
    {"ENCLII_KEEP_DELIVERIES", EC_SETTING_DURATION_MS,
     offsetof(struct pipeline_settings, keep_deliveries_ms), "30d",
     "The ledger of deliveries is kept so long; 0 means for ever.", "30d", 0, INT64_MAX},
    {"ENCLII_KEEP_DECISIONS", EC_SETTING_DURATION_MS,
     offsetof(struct pipeline_settings, keep_decisions_ms), "90d",
     "The reasons of decisions (`enclii why`) are kept so long; 0 means for ever.", "90d", 0,
     INT64_MAX},
    {"ENCLII_KEEP_BUILD_LOGS", EC_SETTING_DURATION_MS,
     offsetof(struct pipeline_settings, keep_logs_ms), "30d",
     "Build output is kept so long; 0 means for ever.", "30d", 0, INT64_MAX},
    {"ENCLII_KEEP_AUDIT", EC_SETTING_DURATION_MS, offsetof(struct pipeline_settings, keep_audit_ms),
     "365d", "Audit entries are kept so long; 0 means for ever.", "365d", 0, INT64_MAX},
    {0},
};

static struct ec_err start(struct ec_service *svc, void *state)
{
    struct pipeline *pl = state;
    pl->loop = ec_service_loop(svc);
    pl->bus = ec_service_bus(svc);
    pl->store = ec_service_store(svc);
    pl->store_spec = ec_service_store_spec(svc);
    pl->owner = ec_service_owner(svc);
    return pipeline_start(pl);
}

static void stop(struct ec_service *svc, void *state)
{
    (void)svc;
    pipeline_stop(state);
}

static const char *unready(void *state)
{
    const struct pipeline *pl = state;
    return pl->migrated ? NULL : "the database schema is not in place yet";
}

int main(int argc, char **argv)
{
    static struct pipeline pl;
    if (argc == 2 && strcmp(argv[1], "--print-states") == 0) {
        machine_print();
        return 0;
    }
    int status = ec_service_main(argc, argv,
                                 &(struct ec_service_spec){
                                     .name = "pipeline",
                                     .help = "decides what happens: builds, releases, deployments",
                                     .state = &pl,
                                     .settings = &pl.settings,
                                     .setting_table = settings,
                                     .needs_bus = true,
                                     .needs_store = true,
                                     .bus_linger_ms = 2,
                                     .start = start,
                                     .stop = stop,
                                     .unready = unready,
                                 });
    pipeline_free(&pl);
    return status;
}
