/* The life of one host name. Two flows: keep (issue → look → load → verify) and remove (unload).
 * Everything that happens to a site (wanted, unwanted, timer) only says "run"; a flow that is under
 * way when something changes is followed by another. */
#include "domain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "decide_renewal.h"
#include "tls_probe.h"
#include "trust/ca.h"

#define ARENA_MAX_BYTES (1u << 20)
#define PROBE_DEADLINE_MS 3000

static struct ec_metric certificates = EC_COUNTER("enclii_domain_certificates_total",
                                                  "Certificates by what became of them.", "result");

static void site_run(struct site *site);

static void on_timer(void *arg)
{
    site_run(arg);
}

struct site *site_find_or_new(struct domain *dom, const char *hostname)
{
    struct site *site = ec_map_get(dom->sites, hostname);
    if (site) {
        return site;
    }
    site = ec_alloc(sizeof(*site));
    site->dom = dom;
    snprintf(site->hostname, sizeof(site->hostname), "%s", hostname);
    if (!ec_map_put(dom->sites, hostname, site)) {
        free(site);
        return NULL;
    }
    site->timer = ec_timer_new(ec_service_loop(dom->svc), on_timer, site);
    return site;
}

static void site_free(struct site *site)
{
    ec_map_remove(site->dom->sites, site->hostname);
    ec_timer_free(site->timer);
    ec_arena_free(site->arena);
    free(site);
}

static void stopped_if_empty(struct domain *dom)
{
    if (ec_map_count(dom->sites) == 0) {
        ec_map_free(dom->sites, NULL);
        dom->sites = NULL;
        ec_service_stopped(dom->svc);
    }
}

void sites_stop(struct domain *dom)
{
    const char *hostname;
    void *value;
    for (size_t at = 0; ec_map_next(dom->sites, &at, &hostname, &value);) {
        struct site *site = value;
        if (site->busy) {
            ec_flow_cancel(&site->flow);
        } else {
            site_free(site);
        }
    }
    stopped_if_empty(dom);
}

/* ---- steps ---- */

static bool still_good(struct site *site)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    struct site_cert cert;
    if (ec_failed(cert_read(site->arena, site->dom, site->hostname, &pem, &cert))) {
        return false; /* none yet, or not readable: a new one repairs it */
    }
    struct ec_span bytes = ec_secret_use(pem);
    const struct issuer *issuer = site->dom->issuer;
    int64_t renew_at =
        decide_renew_at(site->hostname, cert.not_before_unix_ms, cert.not_after_unix_ms);
    if (ec_unix_ms() >= renew_at || !ec_cert_covers(bytes, site->hostname) ||
        !issuer->made(issuer, bytes)) {
        return false;
    }
    site->cert = cert;
    return true;
}

static void on_issued(void *arg, struct ec_err err, const char *chain_pem,
                      const struct ec_secret *key_pem)
{
    struct site *site = arg;
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    if (!ec_failed(err)) {
        err = cert_write(site->arena, site->dom, site->hostname, chain_pem, key_pem);
    }
    if (!ec_failed(err)) {
        err = cert_read(site->arena, site->dom, site->hostname, &pem, &site->cert);
        site->announced = false;
        ec_metric_add(&certificates, "issued", 1);
    }
    ec_flow_done(&site->flow, err);
}

static struct ec_err step_issue(void *job)
{
    struct site *site = job;
    if (still_good(site)) {
        ec_flow_done(&site->flow, ec_ok());
        return ec_ok();
    }
    const struct issuer *issuer = site->dom->issuer;
    return issuer->issue(issuer, site->hostname, on_issued, site);
}

static void on_looked(void *arg, struct ec_err err, const char *fingerprint)
{
    struct site *site = arg;
    site->served = !ec_failed(err) && strcmp(fingerprint, site->cert.fingerprint) == 0;
    ec_flow_done(&site->flow, ec_ok()); /* whatever it is: loading mends it, verifying judges it */
}

static struct ec_err step_look(void *job)
{
    struct site *site = job;
    return tls_probe_start(ec_service_loop(site->dom->svc), site->dom->settings.router_https,
                           site->hostname, PROBE_DEADLINE_MS, on_looked, site);
}

static struct ec_err step_load(void *job)
{
    return router_load(job);
}

static void on_verified(void *arg, struct ec_err err, const char *fingerprint)
{
    struct site *site = arg;
    if (!ec_failed(err) && strcmp(fingerprint, site->cert.fingerprint) != 0) {
        err = ec_retry(0, "the router still serves another certificate for this name");
    } else if (err.fate == EC_FATE_REJECT) {
        err = ec_retry(0, "the router serves no certificate for this name yet");
    }
    site->served = !ec_failed(err);
    ec_flow_done(&site->flow, err);
}

static struct ec_err step_verify(void *job)
{
    struct site *site = job;
    if (site->served) {
        ec_flow_done(&site->flow, ec_ok());
        return ec_ok();
    }
    return tls_probe_start(ec_service_loop(site->dom->svc), site->dom->settings.router_https,
                           site->hostname, PROBE_DEADLINE_MS, on_verified, site);
}

static struct ec_err step_unload(void *job)
{
    return router_unload(job);
}

static const struct ec_step keep_steps[] = {
    {"issue", step_issue, 3},
    {"look", step_look, 1},
    {"load", step_load, 3},
    {"verify", step_verify, 4},
};

static const struct ec_step remove_steps[] = {
    {"unload", step_unload, 5},
};

/* ---- what became of it ---- */

struct announcement {
    struct domain *dom;
    char hostname[HOSTNAME_MAX_BYTES], fingerprint[FINGERPRINT_SIZE];
};

static void on_announced(void *arg, struct ec_err err)
{
    struct announcement *told = arg;
    /* The site may be gone, and the domain's map with it. */
    struct site *site = told->dom->sites ? ec_map_get(told->dom->sites, told->hostname) : NULL;
    if (site && ec_failed(err) && strcmp(site->cert.fingerprint, told->fingerprint) == 0) {
        ec_log(EC_LOG_WARN, site->trace, "domain.untold",
               "that the certificate is served could not be published and is said again",
               EC_T("hostname", site->hostname), EC_ERR(err));
        site->announced = false;
        if (!site->busy && !ec_service_stopping(site->dom->svc)) {
            ec_timer_start(site->timer, (uint64_t)decide_next_try_ms(1), 0);
        }
    }
    free(told);
}

static void announce_issued(struct site *site, int64_t renew_at)
{
    Enclii__V1__DomainIssued body = ENCLII__V1__DOMAIN_ISSUED__INIT;
    struct ec_id id = ec_id_derive(site->cert.fingerprint, "issued");
    body.hostname = site->hostname;
    body.issuer = ec_arena_strdup(site->arena, site->dom->issuer->name);
    body.fingerprint_sha256 = site->cert.fingerprint;
    body.not_after_unix_ms = site->cert.not_after_unix_ms;
    body.renew_at_unix_ms = renew_at;
    const struct ec_message message = {.topic = EC_TOPIC_DOMAIN_EVENTS,
                                       .key = site->hostname,
                                       .type = "dev.enclii.domain.issued.v1",
                                       .id = id.text,
                                       .trace = site->trace,
                                       .body = &body.base};
    struct announcement *told = ec_alloc(sizeof *told);
    told->dom = site->dom;
    memcpy(told->hostname, site->hostname, sizeof told->hostname);
    memcpy(told->fingerprint, site->cert.fingerprint, sizeof told->fingerprint);
    struct ec_err err =
        ec_bus_publish(ec_service_bus(site->dom->svc), &message, on_announced, told);
    site->announced = !ec_failed(err); /* else the next look says it */
    if (ec_failed(err)) {
        free(told);
    }
}

static void announce_failed(struct site *site, struct ec_err err, const struct ec_step *step,
                            int64_t next_try_ms)
{
    Enclii__V1__DomainFailed body = ENCLII__V1__DOMAIN_FAILED__INIT;
    struct ec_id id = ec_id_new();
    body.hostname = site->hostname;
    body.reason = ec_arena_format(site->arena, "%s_failed", step->name);
    body.detail = ec_arena_strdup(site->arena, err.what);
    body.next_try_unix_ms = ec_unix_ms() + next_try_ms;
    const struct ec_message message = {.topic = EC_TOPIC_DOMAIN_EVENTS,
                                       .key = site->hostname,
                                       .type = "dev.enclii.domain.failed.v1",
                                       .id = id.text,
                                       .trace = site->trace,
                                       .body = &body.base};
    /* Nothing depends on it: the site is tried again anyway, and says so again. */
    ec_ignore(ec_bus_publish(ec_service_bus(site->dom->svc), &message, NULL, NULL));
    ec_metric_add(&certificates, "failed", 1);
    ec_log(EC_LOG_WARN, site->trace, "domain.failed", "no certificate served yet",
           EC_T("hostname", site->hostname), EC_T("step", step->name), EC_ERR(err));
}

static void on_kept(struct site *site, struct ec_err err, const struct ec_step *step)
{
    if (ec_failed(err)) {
        int64_t wait_ms = decide_next_try_ms(++site->failures);
        announce_failed(site, err, step, wait_ms);
        ec_timer_start(site->timer, (uint64_t)wait_ms, 0);
        return;
    }
    int64_t renew_at = decide_renew_at(site->hostname, site->cert.not_before_unix_ms,
                                       site->cert.not_after_unix_ms);
    site->failures = 0;
    if (!site->announced) {
        announce_issued(site, renew_at);
        ec_log(EC_LOG_INFO, site->trace, "domain.issued", "the certificate is served",
               EC_T("hostname", site->hostname), EC_T("fingerprint", site->cert.fingerprint));
    }
    int64_t look_ms =
        decide_next_look_ms(ec_unix_ms(), renew_at, site->dom->settings.look_every_ms);
    ec_timer_start(site->timer, (uint64_t)look_ms, 0);
}

static void on_end(void *job, struct ec_err err, const struct ec_step *step)
{
    struct site *site = job;
    struct domain *dom = site->dom;
    bool removed = site->flow.steps == remove_steps && !ec_failed(err);
    site->busy = false;
    if (ec_service_stopping(dom->svc)) {
        site_free(site);
        stopped_if_empty(dom);
        return;
    }
    if (site->flow.steps == keep_steps) {
        on_kept(site, err, step);
    } else if (!removed) {
        ec_timer_start(site->timer, (uint64_t)decide_next_try_ms(++site->failures), 0);
    }
    ec_arena_free(site->arena);
    site->arena = NULL;
    if (removed && !site->wanted) {
        ec_log(EC_LOG_INFO, NULL, "domain.removed", "nothing of it is left",
               EC_T("hostname", site->hostname));
        site_free(site);
    } else if (site->again) {
        site_run(site);
    }
}

static void site_run(struct site *site)
{
    if (ec_service_stopping(site->dom->svc)) {
        return;
    }
    if (site->busy) {
        site->again = true;
        return;
    }
    site->busy = true;
    site->again = false;
    site->arena = ec_arena_new(ARENA_MAX_BYTES);
    const struct ec_step *steps = site->wanted ? keep_steps : remove_steps;
    size_t count = site->wanted ? EC_LEN(keep_steps) : EC_LEN(remove_steps);
    ec_flow_start(&site->flow, ec_service_loop(site->dom->svc), steps, count, site, NULL, on_end);
}

void site_want(struct site *site, const Enclii__V1__DomainDesired *desired, const char *trace)
{
    site->wanted = true;
    snprintf(site->trace, sizeof(site->trace), "%s", trace);
    if (desired->service && desired->service->service_id) {
        snprintf(site->service_id, sizeof(site->service_id), "%s", desired->service->service_id);
    }
    site_run(site);
}

void site_unwant(struct site *site)
{
    site->wanted = false;
    site_run(site);
}
