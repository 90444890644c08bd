/* domain: settings, the table topic it follows, start, main. Read site.c next. */
#include "domain.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "trust/ca.h"

static const struct ec_setting domain_settings[] = {
    {"ENCLII_HAPROXY_SOCKET", EC_SETTING_PATH, offsetof(struct domain_settings, haproxy_socket),
     NULL, "HAProxy's runtime socket.", "/run/enclii/haproxy.sock", 0, 0},
    {"ENCLII_HAPROXY_DIR", EC_SETTING_PATH, offsetof(struct domain_settings, haproxy_dir), NULL,
     "Folder of crt.list and certs/.", "/var/lib/enclii/router", 0, 0},
    {"ENCLII_CA_DIR", EC_SETTING_PATH, offsetof(struct domain_settings, ca_dir), NULL,
     "Folder of the local CA; made at first start. Trust ca.crt in it to trust every app.",
     "/var/lib/enclii/ca", 0, 0},
    {"ENCLII_ROUTER_HTTPS", EC_SETTING_TEXT, offsetof(struct domain_settings, router_https),
     "127.0.0.1:8443", "Where certificates are looked at as they are served.", "127.0.0.1:8443", 0,
     0},
    {"ENCLII_DOMAIN_LOOK_EVERY", EC_SETTING_DURATION_MS,
     offsetof(struct domain_settings, look_every_ms), "10m",
     "How often a served certificate is compared with its file.", "10m", 1000, 86400000},
    {0},
};

/* A record of enclii.domains. The key is the host name; no body means: remove it. */
static void on_domain(void *state, struct ec_event *ev)
{
    struct domain *dom = state;
    const char *hostname = ec_event_key(ev);
    const Enclii__V1__DomainDesired *desired = ec_event_body(ev);
    if (!ec_hostname_valid(hostname)) {
        ec_table_reject(ev, "the key is not a host name");
        return;
    }
    if (desired && desired->tls) {
        struct site *site = site_find_or_new(dom, hostname);
        if (!site) {
            ec_table_reject(ev, "too many host names for one service: it gets no certificate");
            return;
        }
        site_want(site, desired, ec_event_trace(ev));
        return;
    }
    /* Also for a name we do not know: a certificate of an earlier run may be left. */
    struct site *site = site_find_or_new(dom, hostname);
    if (site) {
        site_unwant(site);
    }
}

static const struct ec_route routes[] = {
    /* when this arrives              it carries */
    {"dev.enclii.domain.desired.v1", &enclii__v1__domain_desired__descriptor, NULL},
};

static void on_caught_up(void *state)
{
    ((struct domain *)state)->caught_up = true;
}

static const char *domain_unready(void *state)
{
    return ((struct domain *)state)->caught_up ? NULL : "still reading enclii.domains";
}

static struct ec_err domain_start(struct ec_service *svc, void *state)
{
    struct domain *dom = state;
    struct issuer *issuer = NULL;
    dom->svc = svc;
    dom->sites = ec_map_new(SITES_MAX);
    EC_TRY(issuer_local_open(ec_service_loop(svc), dom->settings.ca_dir, &issuer));
    dom->issuer = issuer;
    dom->hap = ec_haproxy_open(ec_service_loop(svc), dom->settings.haproxy_socket);
    static const char *const topics[] = {EC_TOPIC_DOMAINS, NULL};
    const struct ec_table_spec spec = {.topics = topics,
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .state = dom,
                                       .on_event = on_domain,
                                       .on_caught_up = on_caught_up};
    return ec_bus_table(ec_service_bus(svc), &spec, NULL);
}

/* Certificates are files and idempotent to load: what is under way may end with an error. */
static void domain_stop(struct ec_service *svc, void *state)
{
    (void)svc;
    struct domain *dom = state;
    ec_haproxy_close(dom->hap); /* lives until the last answer; refuses what comes with it */
    sites_stop(dom);
}

int main(int argc, char **argv)
{
    static struct domain dom;
    return ec_service_main(argc, argv,
                           &(struct ec_service_spec){
                               .name = "domain",
                               .help = "certificates for host names, loaded into the router",
                               .state = &dom,
                               .settings = &dom.settings,
                               .setting_table = domain_settings,
                               .needs_bus = true,
                               .start = domain_start,
                               .stop = domain_stop,
                               .unready = domain_unready,
                           });
}
