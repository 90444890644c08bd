/* history: keeps what was said, for as long as the setting says. Read history.h, then ingest.c. */
#include "history.h"

#include <stddef.h>

#include "service/service.h"

#define DAYS(n) ((int64_t)(n)*86400000)

static const struct ec_setting settings[] = {
    {"ENCLII_HISTORY_RETENTION", EC_SETTING_DURATION_MS,
     offsetof(struct history_settings, retention_ms), "90d",
     "How long events are kept; a month goes when its last event is older.", "365d", DAYS(1),
     DAYS(3650)},
    {"ENCLII_HISTORY_MONTHS_AHEAD", EC_SETTING_INT, offsetof(struct history_settings, months_ahead),
     "2", "Monthly partitions made before they are needed.", "2", 1, 12},
    {0},
};

static struct ec_err start(struct ec_service *svc, void *state)
{
    struct history *hi = state;
    hi->loop = ec_service_loop(svc);
    hi->bus = ec_service_bus(svc);
    hi->store = ec_service_store(svc);
    hi->owner = ec_service_owner(svc);
    return history_start(hi);
}

static void stop(struct ec_service *svc, void *state)
{
    (void)svc;
    history_stop(state);
}

static const char *unready(void *state)
{
    const struct history *hi = state;
    return hi->ready ? NULL : "the schema and its partitions are not in place yet";
}

int main(int argc, char **argv)
{
    static struct history hi;
    return ec_service_main(argc, argv,
                           &(struct ec_service_spec){
                               .name = "history",
                               .help = "keeps all events, for timelines and questions",
                               .state = &hi,
                               .settings = &hi.settings,
                               .setting_table = settings,
                               .needs_bus = true,
                               .needs_store = true,
                               .start = start,
                               .stop = stop,
                               .unready = unready,
                           });
}
