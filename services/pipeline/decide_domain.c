/* Host names. Each belongs to one service: the first that had a release with it. A new one is
 * announced to `domain`, which gets the certificate; one that no good release names any more goes
 * away. */
#include "decide.h"

#include <string.h>

#include "bus/topics.h"

#define RETRY_MS (10 * 60 * 1000)

static struct why why_of(const struct domain *domain, const char *rule)
{
    return (struct why){domain->service_id, "domain", domain->hostname, rule,
                        machine_text(&domain->cell)};
}

void decide_domain_announce(struct world *world, struct domain *domain)
{
    if (!domain->service || !machine_move(&domain->cell, DOMAIN_ISSUING, world->now_ms, 0)) {
        return;
    }
    world_touch(&domain->mark);
    Enclii__V1__DomainDesired *fact = world_message(world, &enclii__v1__domain_desired__descriptor);
    fact->hostname = world_text(world, domain->hostname);
    fact->service = world_service_ref(world, domain->service);
    fact->environment = world_environment_ref(world, domain->environment_id);
    fact->tls = domain->tls;
    fact->issuer = world_text(world, domain->issuer);
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_DOMAINS,
                                          .key = domain->hostname,
                                          .type = "dev.enclii.domain.desired.v1",
                                          .body = &fact->base});
    struct why why = why_of(domain, "certificate_wanted");
    world_why(world, &why, "announced to the issuer \"%s\"", domain->issuer);
}

static void claim(struct world *world, struct service *svc, const char *environment_id,
                  const Enclii__V1__RouteSpec *route)
{
    struct domain row = {
        .hostname = world_text(world, route->hostname),
        .service = svc,
        .service_id = svc->id,
        .environment_id = world_text(world, environment_id),
        .tls = route->tls,
        .issuer = route->tls ? world->rules->domain_issuer : "none",
        .fingerprint = "",
        .reason = "",
        .detail = "",
        .mark = ROW_NEW,
    };
    machine_begin(&row.cell, MACHINE_DOMAIN, world->now_ms);
    struct domain *domain = world_add_domain(world, &row);
    if (route->tls) {
        decide_domain_announce(world, domain);
    } else {
        machine_move(&domain->cell, DOMAIN_ACTIVE, world->now_ms, 0);
    }
}

/* The row was there: our own, dropped earlier in this batch, or somebody else's. */
static bool reclaim(struct world *world, struct domain *domain, struct service *svc,
                    const char *environment_id, const Enclii__V1__RouteSpec *route)
{
    bool ours = domain->service == svc && strcmp(domain->environment_id, environment_id) == 0;
    if (domain->mark != ROW_REMOVED && !ours) {
        world_why(
            world, &(struct why){svc->id, "domain", domain->hostname, "hostname_taken", "no route"},
            "another service or environment has this host name; it is left out of the routes");
        return false;
    }
    if (domain->mark == ROW_REMOVED || domain->tls != route->tls) {
        domain->service = svc;
        domain->service_id = svc->id;
        domain->environment_id = world_text(world, environment_id);
        domain->tls = route->tls;
        domain->issuer = route->tls ? world->rules->domain_issuer : "none";
        domain->mark = domain->mark == ROW_NEW ? ROW_NEW : ROW_CHANGED;
        machine_begin(&domain->cell, MACHINE_DOMAIN, world->now_ms);
        if (route->tls) {
            decide_domain_announce(world, domain);
        } else {
            machine_move(&domain->cell, DOMAIN_ACTIVE, world->now_ms, 0);
        }
    }
    return true;
}

size_t decide_routes(struct world *world, struct service *svc, const char *environment_id,
                     const Enclii__V1__ServiceSpec *spec, Enclii__V1__RouteSpec ***ret_routes)
{
    size_t count = 0;
    *ret_routes = ec_arena_alloc(world->arena, spec->n_routes * sizeof **ret_routes + 1);
    for (size_t i = 0; i < spec->n_routes; i++) {
        Enclii__V1__RouteSpec *route = spec->routes[i];
        struct domain *domain = world_domain(world, route->hostname);
        if (!domain) {
            claim(world, svc, environment_id, route);
        } else if (!reclaim(world, domain, svc, environment_id, route)) {
            continue;
        }
        (*ret_routes)[count++] = route;
    }
    return count;
}

static bool has_route(const Enclii__V1__ServiceSpec *spec, const char *hostname)
{
    for (size_t i = 0; spec && i < spec->n_routes; i++) {
        if (strcmp(spec->routes[i]->hostname, hostname) == 0) {
            return true;
        }
    }
    return false;
}

void decide_domains_drop(struct world *world, const struct service *svc, const char *environment_id,
                         const Enclii__V1__ServiceSpec *spec)
{
    for (struct domain *domain = world->first_domain; domain; domain = domain->next) {
        if (domain->service != svc || domain->mark == ROW_REMOVED ||
            strcmp(domain->environment_id, environment_id) != 0 ||
            has_route(spec, domain->hostname)) {
            continue;
        }
        domain->mark = ROW_REMOVED;
        world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_DOMAINS,
                                              .key = domain->hostname,
                                              .type = "dev.enclii.domain.desired.v1",
                                              .distinct = "gone"});
        struct why why = why_of(domain, "no_route_names_it");
        why.outcome = "removed";
        world_why(world, &why, "the release that runs has no route with this host name");
    }
}

/* ---- words of `domain` ---- */

void decide_domain_issued(struct world *world, const void *body)
{
    const Enclii__V1__DomainIssued *word = body;
    struct domain *domain = world_domain(world, word->hostname);
    if (!domain || domain->mark == ROW_REMOVED ||
        !machine_move(&domain->cell, DOMAIN_ACTIVE, world->now_ms, 0)) {
        return; /* removed meanwhile */
    }
    world_touch(&domain->mark);
    domain->fingerprint = world_text(world, word->fingerprint_sha256);
    domain->not_after_ms = word->not_after_unix_ms;
    domain->next_try_ms = word->renew_at_unix_ms;
    domain->reason = "";
    domain->detail = "";
    struct why why = why_of(domain, "certificate_served");
    world_why(world, &why, "the certificate %.16s... by %s is the one served", domain->fingerprint,
              word->issuer);
}

static void fail(struct world *world, struct domain *domain, const char *reason, const char *detail,
                 int64_t next_try_ms)
{
    int64_t wait_ms = next_try_ms > world->now_ms ? next_try_ms - world->now_ms : RETRY_MS;
    if (!machine_move(&domain->cell, DOMAIN_FAILED, world->now_ms, wait_ms)) {
        return;
    }
    world_touch(&domain->mark);
    domain->next_try_ms = world->now_ms + wait_ms;
    domain->reason = world_text(world, reason);
    domain->detail = world_text(world, detail);
    struct why why = why_of(domain, "certificate_failed");
    world_why(world, &why, "%s: %s; next try in %lld s", reason, detail,
              (long long)(wait_ms / 1000));
}

void decide_domain_failed(struct world *world, const void *body)
{
    const Enclii__V1__DomainFailed *word = body;
    struct domain *domain = world_domain(world, word->hostname);
    if (domain && domain->mark != ROW_REMOVED) {
        fail(world, domain, word->reason, word->detail, word->next_try_unix_ms);
    }
}

void decide_domain_overdue(struct world *world, struct domain *domain)
{
    if (domain->cell.state == DOMAIN_FAILED) {
        decide_domain_announce(world, domain);
        return;
    }
    fail(world, domain, "deadline",
         ec_arena_format(world->arena, "no word from `domain` while %s",
                         machine_text(&domain->cell)),
         0);
}
