/* See pipeline_fixture.h. */
#include "support/pipeline_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/topics.h"

static void set_true(void *flag)
{
    *(bool *)flag = true;
}

static void on_failed(void *owner, struct ec_err err)
{
    struct pl_fixture *fix = owner;
    snprintf(fix->failed, sizeof fix->failed, "%s", err.what);
}

static void on_stopped(void *owner)
{
    ((struct pl_fixture *)owner)->stopped = true;
}

static struct ec_span service_spec(struct ec_arena *arena)
{
    Enclii__V1__ServiceSpec spec;
    Enclii__V1__RouteSpec route;
    Enclii__V1__RunSpec run;
    enclii__v1__service_spec__init(&spec);
    enclii__v1__route_spec__init(&route);
    enclii__v1__run_spec__init(&run);
    Enclii__V1__RouteSpec *routes[] = {&route};
    route.hostname = ec_arena_strdup(arena, "shop.localhost");
    route.tls = true;
    run.port = 8080;
    spec.n_routes = 1;
    spec.routes = routes;
    spec.run = &run;
    size_t len = enclii__v1__service_spec__get_packed_size(&spec);
    uint8_t *bytes = ec_arena_alloc(arena, len);
    enclii__v1__service_spec__pack(&spec, bytes);
    return (struct ec_span){(char *)bytes, len};
}

/* ---- one pipeline process ---- */

void pl_start(struct pl_fixture *fix)
{
    fix->store_spec = (struct ec_store_spec){.url = test_pg_url(fix->pg), .application_name = "t"};
    fix->bus = test_kafka_bus(fix->kafka, "pipeline");
    assert_false(ec_failed(ec_store_open(fix->loop, &fix->store_spec, &fix->store)));
    fix->pl = (struct pipeline){
        .settings = {.registry = "127.0.0.1:5000",
                     .attempts_max = 3,
                     .losses_max = 5,
                     .silence_ms = 10000,
                     .ci_timeout_ms = 3600000,
                     .domain_issuer = "local",
                     .keep_seen_ms = INT64_C(8) * 86400000,
                     .keep_decisions_ms = INT64_C(90) * 86400000,
                     .keep_logs_ms = INT64_C(30) * 86400000},
        .loop = fix->loop,
        .bus = fix->bus,
        .store = fix->store,
        .store_spec = &fix->store_spec,
        .owner.arg = fix,
        .owner.failed = on_failed,
        .owner.stopped = on_stopped,
    };
    fix->stopped = fix->store_closed = false;
    assert_false(ec_failed(pipeline_start(&fix->pl)));
    if (!test_run_until(fix->loop, 10000, test_is_true, &fix->pl.migrated)) {
        fail_msg("not migrated: %s", fix->failed);
    }
}

void pl_stop(struct pl_fixture *fix)
{
    pipeline_stop(&fix->pl);
    assert_true(test_run_until(fix->loop, 5000, test_is_true, &fix->stopped));
    test_kafka_close_bus(fix->kafka, fix->bus);
    pipeline_free(&fix->pl);
    ec_store_close(fix->store, set_true, &fix->store_closed);
    assert_true(test_run_until(fix->loop, 5000, test_is_true, &fix->store_closed));
}

int pl_set_up(void **state)
{
    struct test_pg *pg = test_pg_start();
    if (!pg) {
        return 0;
    }
    struct pl_fixture *fix = ec_alloc(sizeof *fix);
    fix->pg = pg;
    fix->loop = ec_loop_new();
    fix->kafka = test_kafka_start(
        fix->loop, "enclii.intake:2", "enclii.requests:2", "enclii.build.events:2",
        "enclii.builders:1", "enclii.release.events:2", "enclii.deployment.events:2",
        "enclii.domain.events:1", "enclii.repos:1", "enclii.build.commands:2", "enclii.desired:2",
        "enclii.domains:1", "enclii.intake.pipeline.dead:1", "enclii.build.events.pipeline.dead:1",
        NULL);
    pl_start(fix);
    *state = fix;
    return 0;
}

int pl_one_service(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        return 0;
    }
    struct test_pg *pg = fix->pg;
    /* Once this is handled, so is all that tests before have sent. */
    pl_heartbeat(fix, "marker", 0);
    pl_becomes(fix, "select count(*) from enclii.builder where id = 'marker'", "1");
    struct ec_arena *arena = ec_arena_new(1 << 20);
    test_pg_sql(
        pg, "set client_min_messages = warning; truncate enclii.project, enclii.delivery, "
            "enclii.decision, enclii.outbox, "
            "enclii.builder, enclii.ref, enclii.repo, enclii.pull_request, enclii.ci_run cascade");
    test_pg_sql(pg, "insert into enclii.project (id, slug, name) values ('" PROJECT
                    "', 'acme', 'Acme');"
                    "insert into enclii.environment (id, project_id, name) values ('" ENVIRONMENT
                    "', '" PROJECT "', 'production')");
    test_pg_sql(pg, ec_arena_format(arena,
                                    "insert into enclii.service (id, project_id, name, repo_key, "
                                    "repo_url, spec) values ('%s', '%s', 'shop', '%s', "
                                    "'http://%s.git', '%s')",
                                    SERVICE, PROJECT, REPO, REPO,
                                    ec_bytea_arg(arena, service_spec(arena))));
    ec_arena_free(arena);
    return 0;
}

int pl_tear_down(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        return 0;
    }
    pl_stop(fix);
    test_kafka_stop(fix->kafka);
    ec_loop_free(fix->loop);
    test_pg_free(fix->pg);
    free(fix);
    return 0;
}

/* ---- telling and looking ---- */

void pl_tell(struct pl_fixture *fix, const char *topic, const char *key, const char *type,
             const ProtobufCMessage *body, const char *id)
{
    struct ec_message message = {.topic = topic, .key = key, .type = type, .id = id, .body = body};
    test_kafka_publish(fix->kafka, fix->bus, &message);
}

struct expect {
    struct pl_fixture *fix;
    const char *sql, *value;
    int64_t looked_ms;
    bool so;
};

static bool is_so(void *arg)
{
    struct expect *expect = arg;
    if (!expect->so && ec_mono_ms() - expect->looked_ms >= 15) { /* psql is slow */
        expect->looked_ms = ec_mono_ms();
        expect->so = strcmp(test_pg_value(expect->fix->pg, expect->sql), expect->value) == 0;
    }
    return expect->so;
}

void pl_becomes(struct pl_fixture *fix, const char *sql, const char *value)
{
    struct expect expect = {fix, sql, value, 0, false};
    if (!test_run_until(fix->loop, 20000, is_so, &expect)) {
        fail_msg("%s: \"%s\", not \"%s\" %s", sql, test_pg_value(fix->pg, sql), value, fix->failed);
    }
}

void pl_stays(struct pl_fixture *fix, const char *sql, const char *value)
{
    test_run_for(fix->loop, 300);
    assert_string_equal(test_pg_value(fix->pg, sql), value);
}

char *pl_value(struct pl_fixture *fix, const char *sql)
{
    return ec_strdup(test_pg_value(fix->pg, sql));
}

char *pl_text(const char *text)
{
    static char texts[32][300];
    static unsigned at;
    char *copy = texts[at++ % EC_LEN(texts)];
    snprintf(copy, sizeof texts[0], "%s", text);
    return copy;
}

void pl_push(struct pl_fixture *fix, const char *delivery, const char *sha)
{
    Enclii__V1__PushReceived body;
    Enclii__V1__Commit head;
    enclii__v1__push_received__init(&body);
    enclii__v1__commit__init(&head);
    head.sha = pl_text(sha);
    head.ref = pl_text("refs/heads/main");
    head.message = pl_text("a change");
    body.delivery_id = pl_text(delivery);
    body.repo_key = pl_text(REPO);
    body.ref = pl_text("refs/heads/main");
    body.after = pl_text(sha);
    body.head = &head;
    body.pusher = pl_text("ann \"\\ \xc3\xa9");
    body.received_unix_ms = ec_unix_ms();
    struct ec_id id = ec_id_derive(delivery, "push");
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.push.received.v1", &body.base, id.text);
}

void pl_heartbeat(struct pl_fixture *fix, const char *builder, int slots)
{
    Enclii__V1__BuilderHeartbeat body;
    enclii__v1__builder_heartbeat__init(&body);
    body.builder_id = pl_text(builder);
    body.slots = slots;
    struct ec_id id = ec_id_new();
    pl_tell(fix, EC_TOPIC_BUILDERS, builder, "dev.enclii.builder.heartbeat.v1", &body.base,
            id.text);
}

void pl_build_started(struct pl_fixture *fix, const char *build, int attempt)
{
    Enclii__V1__BuildStarted body;
    enclii__v1__build_started__init(&body);
    body.build_id = pl_text(build);
    body.attempt = attempt;
    pl_tell(fix, EC_TOPIC_BUILD_EVENTS, SERVICE, "dev.enclii.build.started.v1", &body.base,
            ec_id_new().text);
}

void pl_build_succeeded(struct pl_fixture *fix, const char *build, int attempt, const char *sha)
{
    Enclii__V1__BuildSucceeded body;
    enclii__v1__build_succeeded__init(&body);
    body.build_id = pl_text(build);
    body.attempt = attempt;
    body.digest = pl_text(DIGEST);
    body.commit_sha = pl_text(sha);
    pl_tell(fix, EC_TOPIC_BUILD_EVENTS, SERVICE, "dev.enclii.build.succeeded.v1", &body.base,
            ec_id_derive(build, "succeeded").text);
}

void pl_release_signed(struct pl_fixture *fix, const char *release)
{
    Enclii__V1__ReleaseSigned body;
    enclii__v1__release_signed__init(&body);
    body.release_id = pl_text(release);
    body.digest = pl_text(DIGEST);
    pl_tell(fix, EC_TOPIC_RELEASE_EVENTS, SERVICE, "dev.enclii.release.signed.v1", &body.base,
            ec_id_derive(release, "signed").text);
}

void pl_rolled_out(struct pl_fixture *fix, const char *deployment)
{
    Enclii__V1__DeploymentRolledOut body;
    enclii__v1__deployment_rolled_out__init(&body);
    body.deployment_id = pl_text(deployment);
    pl_tell(fix, EC_TOPIC_DEPLOYMENT_EVENTS, SERVICE, "dev.enclii.deployment.rolled_out.v1",
            &body.base, ec_id_new().text);
}

void pl_reverted(struct pl_fixture *fix, const char *deployment)
{
    Enclii__V1__DeploymentReverted body;
    enclii__v1__deployment_reverted__init(&body);
    body.deployment_id = pl_text(deployment);
    body.reason = pl_text("unhealthy");
    body.detail = pl_text("answered 500");
    pl_tell(fix, EC_TOPIC_DEPLOYMENT_EVENTS, SERVICE, "dev.enclii.deployment.reverted.v1",
            &body.base, ec_id_new().text);
}

/* ---- pull requests ---- */

static int serial;

Enclii__V1__DeliveryInfo pl_info(const char *event, const char *action)
{
    Enclii__V1__DeliveryInfo made = ENCLII__V1__DELIVERY_INFO__INIT;
    char id[32];
    snprintf(id, sizeof id, "d-%d", ++serial);
    made.delivery_id = pl_text(id);
    made.host = pl_text("github");
    made.event = pl_text(event);
    made.action = pl_text(action);
    made.repo_key = pl_text(REPO);
    made.sender = pl_text("eve");
    return made;
}

void pl_pull(struct pl_fixture *fix, const char *action, const char *sha)
{
    Enclii__V1__DeliveryInfo about = pl_info("pull_request", action);
    Enclii__V1__PullRequestChanged pr = ENCLII__V1__PULL_REQUEST_CHANGED__INIT;
    pr.delivery = &about;
    pr.number = 7;
    pr.title = pl_text("Add a cat");
    pr.head_sha = pl_text(sha);
    pr.base_ref = pl_text("main");
    pr.from_fork = true;
    pr.author = pl_text("eve");
    pr.author_association = pl_text("NONE");
    pr.updated_unix_ms = 1700000000000 + serial;
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.pull_request.changed.v1", &pr.base,
            about.delivery_id);
}

void pl_approve(struct pl_fixture *fix, const char *sha)
{
    Enclii__V1__Actor ada = ENCLII__V1__ACTOR__INIT;
    Enclii__V1__RequestApprove req = ENCLII__V1__REQUEST_APPROVE__INIT;
    char id[32];
    snprintf(id, sizeof id, "approve-%d", ++serial);
    ada.name = pl_text("ada");
    req.request_id = pl_text(id);
    req.service_id = pl_text(SERVICE);
    req.pull_request = 7;
    req.commit_sha = pl_text(sha);
    req.actor = &ada;
    pl_tell(fix, EC_TOPIC_REQUESTS, SERVICE, "dev.enclii.request.approve.v1", &req.base, id);
}
