/* api: settings, start, stop. The routes are in routes.c. */
#include "api.h"
#include "service/service.h"

#define AT(member) offsetof(struct api_settings, member)
static const struct ec_setting settings[] = {
    {"ENCLII_LISTEN", EC_SETTING_TEXT, AT(listen), "127.0.0.1:4200",
     "Address and port of the public API.", "0.0.0.0:4200", 0, 0},
    {"ENCLII_PUBLIC_URL", EC_SETTING_TEXT, AT(public_url), "",
     "How people reach this API; used in links.", "https://enclii.example.com", 0, 0},
    {"ENCLII_BOOTSTRAP_TOKEN", EC_SETTING_SECRET, AT(bootstrap_token), "",
     "The first administrator's API token: enclii_ and 64 hex digits.", "enclii_0123...", 0, 0},
    {"ENCLII_SEAL_KEY", EC_SETTING_SECRET, AT(seal_key), "",
     "Key for secrets at rest: 64 hex digits, the same in api, webhook and notifier.", "00ff...", 0,
     0},
    {"ENCLII_REGISTRY", EC_SETTING_TEXT, AT(registry), "",
     "Registry and prefix of our images; only these are verified.", "127.0.0.1:5000", 0, 0},
    {"ENCLII_REGISTRY_INSECURE", EC_SETTING_BOOL, AT(registry_insecure), "false",
     "Speak plain HTTP to a registry on this machine.", "true", 0, 0},
    {"ENCLII_SIGNING_PUBLIC_KEY_FILE", EC_SETTING_PATH, AT(key_file), "",
     "PEM file of the signer's public key, and behind it those it signed with before; without it "
     "releases cannot be verified here.",
     "/var/lib/enclii/signing.pem.pub", 0, 0},
    {"ENCLII_OBJECT_STORE", EC_SETTING_TEXT, AT(object_store), "",
     "Where the signer keeps SBOMs and provenance.", "file:///var/lib/enclii/objects", 0, 0},
    {"ENCLII_PLATFORM_DOMAIN", EC_SETTING_TEXT, AT(platform_domain), "apps.localhost",
     "Services without a host name of their own are under this one.", "apps.example.com", 0, 0},
    {"ENCLII_WEBHOOK_URL", EC_SETTING_URL, AT(webhook_url), "",
     "How git hosts reach the service webhook; set up there by `enclii hooks setup`.",
     "https://hooks.example.com", 0, 0},
    EC_GITHOST_SETTINGS(struct api_settings, githost),
    {NULL, EC_SETTING_TEXT, 0, NULL, NULL, NULL, 0, 0},
};

static struct ec_err api_start(struct ec_service *svc, void *state)
{
    struct api *api = state;
    api->loop = ec_service_loop(svc);
    api->store = ec_service_store(svc);
    api->bus = ec_service_bus(svc);
    api->fetcher = ec_service_fetcher(svc);
    return api_open(api);
}

static void on_closed(void *arg)
{
    ec_service_stopped(arg);
}

static void api_stop(struct ec_service *svc, void *state)
{
    api_close(state, on_closed, svc);
}

static const char *api_unready(void *state)
{
    const struct api *api = state;
    return api->prepared ? NULL : api->why_not;
}

int main(int argc, char **argv)
{
    static struct api api;
    int status = ec_service_main(argc, argv,
                                 &(struct ec_service_spec){
                                     .name = "api",
                                     .help = "The public HTTP API.",
                                     .state = &api,
                                     .settings = &api.settings,
                                     .setting_table = settings,
                                     .needs_bus = true,
                                     .needs_store = true,
                                     .needs_fetcher = true,
                                     .start = api_start,
                                     .stop = api_stop,
                                     .unready = api_unready,
                                 });
    api_free(&api);
    return status;
}
