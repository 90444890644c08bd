/* notifier: tells people and systems how builds and deployments ended. handlers.c turns events into
 * rows (its route table says which), sender.c takes due rows out into the world. */
#include "notifier.h"

static struct notifier notifier;

static const struct ec_setting settings[] = {
    EC_GITHOST_SETTINGS(struct notifier_settings, githost),
    {"ENCLII_SEAL_KEY", EC_SETTING_SECRET, offsetof(struct notifier_settings, seal_key), "",
     "The platform's key, 64 hex digits; opens the channels' secrets.",
     "64 hex digits of openssl rand -hex 32", 0, 0},
    {"ENCLII_PUBLIC_URL", EC_SETTING_URL, offsetof(struct notifier_settings, public_url), "",
     "Where people reach the API; commit statuses link to it.", "https://enclii.example.org", 0, 0},
    {"ENCLII_NOTIFY_PRIVATE", EC_SETTING_BOOL,
     offsetof(struct notifier_settings, private_addresses), "false",
     "Let webhooks go to this machine and private networks.", "true", 0, 0},
    {0},
};

static struct ec_err start(struct ec_service *svc, void *state)
{
    struct notifier *no = state;
    no->loop = ec_service_loop(svc);
    no->bus = ec_service_bus(svc);
    no->store = ec_service_store(svc);
    no->fetcher = ec_service_fetcher(svc);
    no->owner = ec_service_owner(svc);
    return notifier_start(no);
}

static void stop(struct ec_service *svc, void *state)
{
    (void)svc;
    notifier_stop(state);
}

static const char *unready(void *state)
{
    const struct notifier *no = state;
    return no->channels_known ? NULL : "the channels (topic enclii.channels) are not read yet";
}

int main(int argc, char **argv)
{
    int status =
        ec_service_main(argc, argv,
                        &(struct ec_service_spec){
                            .name = "notifier",
                            .help = "tells people and systems how builds and deployments ended",
                            .state = &notifier,
                            .settings = &notifier.settings,
                            .setting_table = settings,
                            .needs_bus = true,
                            .needs_store = true,
                            .needs_fetcher = true,
                            .start = start,
                            .stop = stop,
                            .unready = unready,
                        });
    notifier_done(&notifier);
    return status;
}
