/* webhook: takes deliveries from git hosts, checks them, and answers only once the event is safe in
 * Kafka. It keeps nothing: what is a known repository comes from topic enclii.repos. */
#include "webhook.h"

static struct webhook webhook;

static const struct ec_setting settings[] = {
    {"ENCLII_LISTEN", EC_SETTING_TEXT, offsetof(struct webhook_settings, listen), "127.0.0.1:4210",
     "Where git hosts deliver.", "0.0.0.0:4210", 0, 0},
    {"ENCLII_GITHUB_WEBHOOK_SECRET", EC_SETTING_SECRET, offsetof(struct webhook_settings, secret),
     "", "Secret of the webhook as set at the git host.", "a-long-random-text", 0, 0},
    {"ENCLII_SEAL_KEY", EC_SETTING_SECRET, offsetof(struct webhook_settings, seal_key), "",
     "The platform's key, 64 hex digits; opens the secrets of single repositories.",
     "64 hex digits of openssl rand -hex 32", 0, 0},
    {0},
};

static struct ec_err webhook_start(struct ec_service *svc, void *state)
{
    struct webhook *wh = state;
    const struct ec_http_server_spec spec = {.listen = wh->settings.listen,
                                             .routes = webhook_routes,
                                             .route_count = webhook_route_count,
                                             .state = wh,
                                             .refused = on_refused,
                                             .reply_deadline_ms = ACK_DEADLINE_MS + 2000};
    wh->svc = svc;
    wh->loop = ec_service_loop(svc);
    wh->bus = ec_service_bus(svc);
    wh->ack_deadline_ms = ACK_DEADLINE_MS;
    EC_TRY(repos_follow(wh));
    return ec_http_server_open(wh->loop, &spec, &wh->server);
}

static void on_server_closed(void *arg)
{
    struct webhook *wh = arg;
    ec_service_stopped(wh->svc);
}

/* Deliveries that wait for their acknowledgement get it before the bus closes. */
static void webhook_stop(struct ec_service *svc, void *state)
{
    struct webhook *wh = state;
    (void)svc;
    ec_http_server_close(wh->server, 1500, on_server_closed, wh);
}

static const char *webhook_unready(void *state)
{
    const struct webhook *wh = state;
    return wh->repos_known ? NULL : "the list of repositories (topic enclii.repos) is not read yet";
}

int main(int argc, char **argv)
{
    int status =
        ec_service_main(argc, argv,
                        &(struct ec_service_spec){
                            .name = "webhook",
                            .help = "takes deliveries from git hosts and publishes verified pushes",
                            .state = &webhook,
                            .settings = &webhook.settings,
                            .setting_table = settings,
                            .needs_bus = true,
                            .bus_linger_ms = BUS_LINGER_MS,
                            .start = webhook_start,
                            .stop = webhook_stop,
                            .unready = webhook_unready,
                        });
    repos_free(&webhook);
    ec_secret_free(webhook.settings.secret);
    ec_secret_free(webhook.settings.seal_key);
    return status;
}
