/* domain: a certificate for every host name that should be served, loaded into the router and
 * checked as it is really served. The wanted host names are the compacted topic enclii.domains;
 * certificates are files, so nothing else has to be remembered. */
#pragma once

#include <stdint.h>

#include "base/map.h"
#include "base/secret.h"
#include "bus/bus.h"
#include "bus/topics.h"
#include "net/flow.h"
#include "router/haproxy.h"
#include "service/service.h"

#include "enclii/v1/domain.pb-c.h"
#include "issuer.h"

#define SITES_MAX 10000
#define HOSTNAME_MAX_BYTES 254
#define FINGERPRINT_SIZE 65 /* SHA-256 in hex and NUL */

struct domain_settings {
    const char *haproxy_socket;
    const char *haproxy_dir; /* crt.list and certs/<hostname>.pem */
    const char *ca_dir;
    const char *router_https; /* "127.0.0.1:8443": where served certificates are looked at */
    int64_t look_every_ms;    /* how often a served certificate is compared with its file */
};

struct domain {
    struct domain_settings settings;
    struct ec_service *svc;
    struct ec_haproxy *hap;
    const struct issuer *issuer; /* the only one for now: "local" */
    struct ec_map *sites;        /* hostname → struct site */
    bool caught_up;              /* the whole topic was read: unknown files may be removed */
    struct site *loading;        /* HAProxy takes one certificate at a time */
    struct site *first_waiting, *last_waiting; /* to be loaded */
};

/* The certificate in a site's file. */
struct site_cert {
    char fingerprint[FINGERPRINT_SIZE];
    int64_t not_before_unix_ms, not_after_unix_ms;
};

/* One host name. Owned by domain.sites; while `busy`, by its flow as well. */
struct site {
    struct domain *dom;
    char hostname[HOSTNAME_MAX_BYTES];
    char service_id[EC_ID_SIZE];
    char trace[EC_TRACEPARENT_SIZE]; /* of the event that asked for it */
    bool wanted;                     /* false: being removed */
    bool busy;                       /* a flow runs */
    bool again;                      /* something changed meanwhile: run once more */
    bool served;                     /* the router serves exactly the file's certificate */
    bool listed;                     /* crt.list, as last written, has it */
    bool announced;                  /* DomainIssued was published for `cert` by this process */
    struct site_cert cert;
    struct site *next_waiting;
    struct ec_flow flow;
    struct ec_arena *arena; /* of the running flow */
    struct ec_timer *timer; /* next look, renewal or next try */
    uint32_t failures;      /* in a row */
};

/* site.c: the life of one site. */
struct site *site_find_or_new(struct domain *dom, const char *hostname);
void site_want(struct site *site, const Enclii__V1__DomainDesired *desired, const char *trace);
void site_unwant(struct site *site);
/* Frees every idle site; the busy ones follow when their flow ends. The last one ends the service.
 */
void sites_stop(struct domain *dom);

/* router_certs.c: what the router knows. `done` owes nothing after site removal: steps of a flow.
 */
EC_RESULT router_load(struct site *site);   /* flow step; ends with ec_flow_done */
EC_RESULT router_unload(struct site *site); /* flow step */
/* Writes crt.list from dom->sites: what HAProxy loads when it starts. */
EC_RESULT router_write_list(const struct domain *dom);

/* cert_file.c: certs/<hostname>.pem (0600): certificate chain, then the key. */
char *cert_path(struct ec_arena *arena, const struct domain *dom, const char *hostname);
EC_RESULT cert_write(struct ec_arena *arena, const struct domain *dom, const char *hostname,
                     const char *chain_pem, const struct ec_secret *key_pem);
EC_RESULT cert_read(struct ec_arena *arena, const struct domain *dom, const char *hostname,
                    struct ec_secret **ret_pem, struct site_cert *ret_cert);
