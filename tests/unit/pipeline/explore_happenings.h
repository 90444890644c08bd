/* What can happen to a push, its builds, releases and deployments, as explore_test.c plays it. */
#pragma once

#include "base/id.h"
#include "support.h"

/* Ends the test. */
static void wrong(const char *what, const char *id);

static struct build *build_at(struct world *world, bool newest)
{
    struct build *found = NULL;
    for (struct build *b = world->first_build; b && (newest || !found); b = b->next) {
        found = b;
    }
    return found;
}

static struct release *release_at(struct world *world, bool newest)
{
    struct release *found = NULL;
    for (struct release *r = world->first_release; r && (newest || !found); r = r->next) {
        found = r;
    }
    return found;
}

static struct deployment *deployment_at(struct world *world, bool newest)
{
    struct deployment *found = NULL;
    for (struct deployment *d = world->first_deployment; d && (newest || !found); d = d->next) {
        found = d;
    }
    return found;
}

static void do_push(struct world *w)
{
    static int serial;
    char sha[41];
    snprintf(sha, sizeof sha, "%040d", ++serial);
    test_push(w, sha, sha);
}

static void do_push_again(struct world *w)
{
    size_t before = ec_map_count(w->builds);
    if (w->first_delivery) {
        test_push(w, w->first_delivery->id, w->first_delivery->commit_sha);
    }
    if (ec_map_count(w->builds) != before) {
        wrong("a redelivery was built", w->first_delivery->id);
    }
}

static void do_lease(struct world *w)
{
    struct lease leases[8];
    size_t count = decide_queue(w, NULL, leases, EC_LEN(leases));
    for (size_t i = 0; i < count; i++) {
        decide_lease(w, &leases[i]);
    }
}

static void started(struct world *w, bool newest, int32_t older)
{
    struct build *b = build_at(w, newest);
    if (b) {
        Enclii__V1__BuildStarted *m = world_message(w, &enclii__v1__build_started__descriptor);
        m->build_id = world_text(w, b->id);
        m->attempt = b->attempt - older;
        test_event(w, "build.started", NULL, &m->base);
    }
}

static void do_started(struct world *w)
{
    started(w, true, 0);
}
static void do_started_first(struct world *w)
{
    started(w, false, 0);
}

static void succeeded(struct world *w, bool newest, int32_t older)
{
    struct build *b = build_at(w, newest);
    if (b) {
        Enclii__V1__BuildSucceeded *m = world_message(w, &enclii__v1__build_succeeded__descriptor);
        m->build_id = world_text(w, b->id);
        m->attempt = b->attempt - older;
        m->digest = world_text(w, DIGEST);
        test_event(w, "build.succeeded", NULL, &m->base);
    }
}

static void do_succeeded(struct world *w)
{
    succeeded(w, true, 0);
}
static void do_succeeded_first(struct world *w)
{
    succeeded(w, false, 0);
}
static void do_succeeded_old(struct world *w)
{
    struct build *b = build_at(w, true);
    uint8_t before = b ? b->cell.state : 0;
    succeeded(w, true, 1);
    if (b && b->cell.state != before) {
        wrong("the word of an old attempt counted", b->id);
    }
}

static void failed(struct world *w, bool retryable)
{
    struct build *b = build_at(w, true);
    if (b) {
        Enclii__V1__BuildFailed *m = world_message(w, &enclii__v1__build_failed__descriptor);
        m->build_id = world_text(w, b->id);
        m->builder_id = world_text(w, "builder");
        m->attempt = b->attempt;
        m->retryable = retryable;
        m->reason = ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_BUILD;
        test_event(w, "build.failed", NULL, &m->base);
    }
}

static void do_failed(struct world *w)
{
    failed(w, false);
}
static void do_failed_retryable(struct world *w)
{
    failed(w, true);
}

static void do_silent(struct world *w)
{
    struct build *b = build_at(w, true);
    if (b && (b->cell.state == BUILD_LEASED || b->cell.state == BUILD_RUNNING)) {
        decide_build_silent(w, b);
        b->cas++; /* as the commit does */
    }
}

static void signed_(struct world *w, bool newest)
{
    struct release *r = release_at(w, newest);
    if (r) {
        Enclii__V1__ReleaseSigned *m = world_message(w, &enclii__v1__release_signed__descriptor);
        m->release_id = world_text(w, r->id);
        m->digest = world_text(w, DIGEST);
        test_event(w, "release.signed", NULL, &m->base);
    }
}

static void do_signed(struct world *w)
{
    signed_(w, true);
}
static void do_signed_first(struct world *w)
{
    signed_(w, false);
}

static void do_refused(struct world *w)
{
    struct release *r = release_at(w, true);
    if (r) {
        Enclii__V1__ReleaseRefused *m = world_message(w, &enclii__v1__release_refused__descriptor);
        m->release_id = world_text(w, r->id);
        test_event(w, "release.refused", NULL, &m->base);
    }
}

static void rolled_out(struct world *w, bool newest)
{
    struct deployment *d = deployment_at(w, newest);
    if (d) {
        Enclii__V1__DeploymentRolledOut *m =
            world_message(w, &enclii__v1__deployment_rolled_out__descriptor);
        m->deployment_id = world_text(w, d->id);
        test_event(w, "deployment.rolled_out", NULL, &m->base);
    }
}

static void do_rolled_out(struct world *w)
{
    rolled_out(w, true);
}
static void do_rolled_out_first(struct world *w)
{
    rolled_out(w, false);
}

static void do_reverted(struct world *w)
{
    struct deployment *d = deployment_at(w, true);
    if (d) {
        Enclii__V1__DeploymentReverted *m =
            world_message(w, &enclii__v1__deployment_reverted__descriptor);
        m->deployment_id = world_text(w, d->id);
        test_event(w, "deployment.reverted", NULL, &m->base);
    }
}

static void do_deploy(struct world *w)
{
    struct release *r = release_at(w, false);
    if (r) {
        Enclii__V1__RequestDeploy *m = world_message(w, &enclii__v1__request_deploy__descriptor);
        m->service_id = world_text(w, w->first_service->id);
        m->release_id = world_text(w, r->id);
        m->environment_id = world_text(w, ENVIRONMENT);
        m->deployment_id = world_text(w, ec_id_new().text);
        test_event(w, "request.deploy", NULL, &m->base);
    }
}

static void do_rollback(struct world *w)
{
    Enclii__V1__RequestRollback *m = world_message(w, &enclii__v1__request_rollback__descriptor);
    m->service_id = world_text(w, w->first_service->id);
    m->environment_id = world_text(w, ENVIRONMENT);
    m->deployment_id = world_text(w, ec_id_new().text);
    if (w->first_desired && w->first_release && w->first_release->cell.state == RELEASE_READY) {
        w->first_desired->before_release_id = w->first_release->id; /* as load.c finds it */
    }
    test_event(w, "request.rollback", NULL, &m->base);
}

static void cancel(struct world *w, const char *build_id, const char *deployment_id)
{
    Enclii__V1__RequestCancel *m = world_message(w, &enclii__v1__request_cancel__descriptor);
    m->service_id = world_text(w, w->first_service->id);
    m->build_id = world_text(w, build_id);
    m->deployment_id = world_text(w, deployment_id);
    test_event(w, "request.cancel", NULL, &m->base);
}

static void do_cancel_build(struct world *w)
{
    struct build *b = build_at(w, true);
    cancel(w, b ? b->id : "none", "");
}

static void do_cancel_deployment(struct world *w)
{
    struct deployment *d = deployment_at(w, true);
    cancel(w, "", d ? d->id : "none");
}

static void do_remove(struct world *w)
{
    Enclii__V1__RequestRemoveService *m =
        world_message(w, &enclii__v1__request_remove_service__descriptor);
    m->service_id = world_text(w, w->first_service->id);
    test_event(w, "request.remove_service", NULL, &m->base);
}

static void do_issued(struct world *w)
{
    Enclii__V1__DomainIssued *m = world_message(w, &enclii__v1__domain_issued__descriptor);
    m->hostname = world_text(w, "shop.localhost");
    test_event(w, "domain.issued", NULL, &m->base);
}

static void do_domain_failed(struct world *w)
{
    Enclii__V1__DomainFailed *m = world_message(w, &enclii__v1__domain_failed__descriptor);
    m->hostname = world_text(w, "shop.localhost");
    m->reason = world_text(w, "no_dns");
    test_event(w, "domain.failed", NULL, &m->base);
}

static void do_heartbeat(struct world *w)
{
    Enclii__V1__BuilderHeartbeat *m = world_message(w, &enclii__v1__builder_heartbeat__descriptor);
    m->builder_id = world_text(w, "builder");
    m->slots = 100;
    test_event(w, "builder.heartbeat", NULL, &m->base);
}

/* The reaper, once everything is overdue. Rows get a new version as a commit gives them. */
static void do_overdue(struct world *w)
{
    for (struct build *b = w->first_build; b; b = b->next) {
        if (!machine_ended(&b->cell)) {
            decide_build_overdue(w, b);
            b->cas++;
        }
    }
    for (struct release *r = w->first_release; r; r = r->next) {
        if (!machine_ended(&r->cell)) {
            decide_release_overdue(w, r);
            r->cas++;
        }
    }
    for (struct deployment *d = w->first_deployment; d; d = d->next) {
        if (!machine_ended(&d->cell)) {
            decide_deployment_overdue(w, d);
            d->cas++;
        }
    }
    for (struct domain *d = w->first_domain; d; d = d->next) {
        if (!machine_ended(&d->cell) && d->mark != ROW_REMOVED) {
            w->cause.id = ec_arena_format(w->arena, "domain-%zu", w->fact_count);
            decide_domain_overdue(w, d);
        }
    }
}

static const struct happening {
    const char *name;
    void (*act)(struct world *world);
} happenings[] = {
    {"push", do_push},
    {"push again", do_push_again},
    {"lease", do_lease},
    {"started", do_started},
    {"first started", do_started_first},
    {"succeeded", do_succeeded},
    {"first succeeded", do_succeeded_first},
    {"old attempt succeeded", do_succeeded_old},
    {"failed", do_failed},
    {"failed retryable", do_failed_retryable},
    {"silent", do_silent},
    {"signed", do_signed},
    {"first signed", do_signed_first},
    {"refused", do_refused},
    {"rolled out", do_rolled_out},
    {"first rolled out", do_rolled_out_first},
    {"reverted", do_reverted},
    {"deploy", do_deploy},
    {"cancel build", do_cancel_build},
    {"cancel deployment", do_cancel_deployment},
    {"remove", do_remove},
    {"issued", do_issued},
    {"overdue", do_overdue},
    {"rollback", do_rollback},
    {"domain failed", do_domain_failed},
    {"heartbeat", do_heartbeat},
};
