/* sweeper: asks the git hosts what their webhooks did not tell. Read sweeper.h, then look.c and
 * decide_refs.c. */
#include "sweeper.h"

#include <stddef.h>

#define S(field) offsetof(struct sweeper_settings, field)
#define HOUR_MS 3600000

static const struct ec_setting settings[] = {
    {"ENCLII_SWEEP_INTERVAL", EC_SETTING_DURATION_MS, S(interval_ms), "60",
     "A push whose webhook did not come is brought in within this time.", "60s", 500, 24 * HOUR_MS},
    {"ENCLII_SWEEP_GRACE", EC_SETTING_DURATION_MS, S(grace_ms), "5",
     "How long a webhook may be on its way: a push counts as lost only after a second look.", "5s",
     50, HOUR_MS},
    {"ENCLII_SWEEP_DELIVERIES_INTERVAL", EC_SETTING_DURATION_MS, S(deliveries_interval_ms), "5m",
     "How often a host that keeps a list of its deliveries is asked for failed ones.", "10m", 1000,
     24 * HOUR_MS},
    {"ENCLII_SWEEP_PARALLEL", EC_SETTING_INT, S(parallel), "4",
     "Repositories looked at at the same time, and as many webhooks.", "16", 1, 64},
    {"ENCLII_SWEEP_LEASE", EC_SETTING_DURATION_MS, S(lease_ms), "90",
     "After this time another instance takes over what a dead one was looking at.", "90s", 1000,
     HOUR_MS},
    {"ENCLII_SWEEP_FETCH_MAX", EC_SETTING_BYTES, S(fetch_max_bytes), "256MiB",
     "Largest file that git may write to find out what a push changed.", "1GiB", 1 << 20,
     (int64_t)1 << 40},
    {"ENCLII_WORK_DIR", EC_SETTING_PATH, S(work_dir), "/var/lib/enclii/sweeper",
     "Folder of this instance for scratch repositories; may be lost at any time.",
     "/var/lib/enclii/sweeper", 0, 0},
    {"ENCLII_GIT_PROTOCOLS", EC_SETTING_TEXT, S(git_protocols), "http:https:ssh",
     "Protocols of clone URLs, separated by colons.", "https", 0, 0},
    EC_GITHOST_SETTINGS(struct sweeper_settings, githost),
    {0},
};

static struct ec_err start(struct ec_service *svc, void *state)
{
    struct sweeper *sw = state;
    sw->loop = ec_service_loop(svc);
    sw->bus = ec_service_bus(svc);
    sw->store = ec_service_store(svc);
    sw->owner = ec_service_owner(svc);
    EC_TRY(ec_githosts_open(sw->loop, ec_service_fetcher(svc), &sw->settings.githost, &sw->hosts));
    return sweeper_start(sw);
}

static void stop(struct ec_service *svc, void *state)
{
    (void)svc;
    sweeper_stop(state);
}

static const char *unready(void *state)
{
    return sweeper_unready(state);
}

int main(int argc, char **argv)
{
    static struct sweeper sw;
    return ec_service_main(argc, argv,
                           &(struct ec_service_spec){
                               .name = "sweeper",
                               .help = "asks the git hosts what their webhooks did not tell",
                               .state = &sw,
                               .settings = &sw.settings,
                               .setting_table = settings,
                               .needs_bus = true,
                               .needs_store = true,
                               .needs_fetcher = true,
                               .start = start,
                               .stop = stop,
                               .unready = unready,
                           });
}
