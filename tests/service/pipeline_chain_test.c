/* pipeline on a real PostgreSQL and librdkafka's mock cluster: the whole way of a push, twice, and
 * what must not happen: redelivered, late and old words changing anything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "pipeline.h"
#include "support/kafka.h"
#include "support/pg.h"

#define PROJECT "00000000-0000-4000-8000-000000000001"
#define ENVIRONMENT "00000000-0000-4000-8000-000000000002"
#define SERVICE "00000000-0000-4000-8000-000000000003"
#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SHA_C "cccccccccccccccccccccccccccccccccccccccc"
#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define REPO "127.0.0.1:3000/acme/shop"

struct fixture {
    struct test_pg *pg;
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_store_spec store_spec;
    struct pipeline pl;
    bool stopped, store_closed;
    char failed[256];
};

static void set_true(void *flag)
{
    *(bool *)flag = true;
}

static void on_failed(void *owner, struct ec_err err)
{
    struct fixture *fix = owner;
    snprintf(fix->failed, sizeof fix->failed, "%s", err.what);
}

static void on_stopped(void *owner)
{
    ((struct fixture *)owner)->stopped = true;
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

static void start_pipeline(struct fixture *fix)
{
    fix->store_spec = (struct ec_store_spec){.url = test_pg_url(fix->pg), .application_name = "t"};
    fix->bus = test_kafka_bus(fix->kafka, "pipeline");
    assert_false(ec_failed(ec_store_open(fix->loop, &fix->store_spec, &fix->store)));
    fix->pl = (struct pipeline){
        .settings = {.registry = "127.0.0.1:5000",
                     .attempts_max = 3,
                     .silence_ms = 10000,
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

static void stop_pipeline(struct fixture *fix)
{
    pipeline_stop(&fix->pl);
    assert_true(test_run_until(fix->loop, 5000, test_is_true, &fix->stopped));
    test_kafka_close_bus(fix->kafka, fix->bus);
    pipeline_free(&fix->pl);
    ec_store_close(fix->store, set_true, &fix->store_closed);
    assert_true(test_run_until(fix->loop, 5000, test_is_true, &fix->store_closed));
}

static int set_up(void **state)
{
    struct test_pg *pg = test_pg_start();
    if (!pg) {
        return 0;
    }
    struct fixture *fix = ec_alloc(sizeof *fix);
    fix->pg = pg;
    fix->loop = ec_loop_new();
    fix->kafka = test_kafka_start(
        fix->loop, "enclii.intake:2", "enclii.requests:2", "enclii.build.events:2",
        "enclii.builders:1", "enclii.release.events:2", "enclii.deployment.events:2",
        "enclii.domain.events:1", "enclii.repos:1", "enclii.build.commands:2", "enclii.desired:2",
        "enclii.domains:1", "enclii.intake.pipeline.dead:1", "enclii.build.events.pipeline.dead:1",
        NULL);
    start_pipeline(fix);
    *state = fix;
    return 0;
}

/* Every test begins with an empty platform, but on the same topics: offsets and seen ids stay. */
static int one_service(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        return 0;
    }
    struct test_pg *pg = fix->pg;
    struct ec_arena *arena = ec_arena_new(1 << 20);
    test_pg_sql(pg, "set client_min_messages = warning; truncate enclii.project, enclii.delivery, "
                    "enclii.decision, enclii.outbox, "
                    "enclii.builder cascade");
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

static int tear_down(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        return 0;
    }
    stop_pipeline(fix);
    test_kafka_stop(fix->kafka);
    ec_loop_free(fix->loop);
    test_pg_free(fix->pg);
    free(fix);
    return 0;
}

/* ---- telling and looking ---- */

static void tell(struct fixture *fix, const char *topic, const char *key, const char *type,
                 const ProtobufCMessage *body, const char *id)
{
    struct ec_message message = {.topic = topic, .key = key, .type = type, .id = id, .body = body};
    test_kafka_publish(fix->kafka, fix->bus, &message);
}

struct expect {
    struct fixture *fix;
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

static void becomes(struct fixture *fix, const char *sql, const char *value)
{
    struct expect expect = {fix, sql, value, 0, false};
    if (!test_run_until(fix->loop, 20000, is_so, &expect)) {
        fail_msg("%s: \"%s\", not \"%s\" %s", sql, test_pg_value(fix->pg, sql), value, fix->failed);
    }
}

static void stays(struct fixture *fix, const char *sql, const char *value)
{
    bool never = false;
    test_run_until(fix->loop, 300, test_is_true, &never);
    assert_string_equal(test_pg_value(fix->pg, sql), value);
}

static char *value_of(struct fixture *fix, const char *sql)
{
    return ec_strdup(test_pg_value(fix->pg, sql));
}

static char *mutable(const char *text)
{
    static char texts[32][300];
    static unsigned at;
    char *copy = texts[at++ % EC_LEN(texts)];
    snprintf(copy, sizeof texts[0], "%s", text);
    return copy;
}

static void push(struct fixture *fix, const char *delivery, const char *sha)
{
    Enclii__V1__PushReceived body;
    Enclii__V1__Commit head;
    enclii__v1__push_received__init(&body);
    enclii__v1__commit__init(&head);
    head.sha = mutable(sha);
    head.ref = mutable("refs/heads/main");
    head.message = mutable("a change");
    body.delivery_id = mutable(delivery);
    body.repo_key = mutable(REPO);
    body.ref = mutable("refs/heads/main");
    body.after = mutable(sha);
    body.head = &head;
    body.pusher = mutable("ann \"\\ \xc3\xa9");
    body.received_unix_ms = ec_unix_ms();
    struct ec_id id = ec_id_derive(delivery, "push");
    tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.push.received.v1", &body.base, id.text);
}

static void heartbeat(struct fixture *fix, const char *builder, int slots)
{
    Enclii__V1__BuilderHeartbeat body;
    enclii__v1__builder_heartbeat__init(&body);
    body.builder_id = mutable(builder);
    body.slots = slots;
    struct ec_id id = ec_id_new();
    tell(fix, EC_TOPIC_BUILDERS, builder, "dev.enclii.builder.heartbeat.v1", &body.base, id.text);
}

static void build_started(struct fixture *fix, const char *build, int attempt)
{
    Enclii__V1__BuildStarted body;
    enclii__v1__build_started__init(&body);
    body.build_id = mutable(build);
    body.attempt = attempt;
    tell(fix, EC_TOPIC_BUILD_EVENTS, SERVICE, "dev.enclii.build.started.v1", &body.base,
         ec_id_new().text);
}

static void build_succeeded(struct fixture *fix, const char *build, int attempt, const char *sha)
{
    Enclii__V1__BuildSucceeded body;
    enclii__v1__build_succeeded__init(&body);
    body.build_id = mutable(build);
    body.attempt = attempt;
    body.digest = mutable(DIGEST);
    body.commit_sha = mutable(sha);
    tell(fix, EC_TOPIC_BUILD_EVENTS, SERVICE, "dev.enclii.build.succeeded.v1", &body.base,
         ec_id_derive(build, "succeeded").text);
}

static void release_signed(struct fixture *fix, const char *release)
{
    Enclii__V1__ReleaseSigned body;
    enclii__v1__release_signed__init(&body);
    body.release_id = mutable(release);
    body.digest = mutable(DIGEST);
    tell(fix, EC_TOPIC_RELEASE_EVENTS, SERVICE, "dev.enclii.release.signed.v1", &body.base,
         ec_id_derive(release, "signed").text);
}

static void rolled_out(struct fixture *fix, const char *deployment)
{
    Enclii__V1__DeploymentRolledOut body;
    enclii__v1__deployment_rolled_out__init(&body);
    body.deployment_id = mutable(deployment);
    tell(fix, EC_TOPIC_DEPLOYMENT_EVENTS, SERVICE, "dev.enclii.deployment.rolled_out.v1",
         &body.base, ec_id_new().text);
}

static void reverted(struct fixture *fix, const char *deployment)
{
    Enclii__V1__DeploymentReverted body;
    enclii__v1__deployment_reverted__init(&body);
    body.deployment_id = mutable(deployment);
    body.reason = mutable("unhealthy");
    body.detail = mutable("answered 500");
    tell(fix, EC_TOPIC_DEPLOYMENT_EVENTS, SERVICE, "dev.enclii.deployment.reverted.v1", &body.base,
         ec_id_new().text);
}

#define BUILD_OF(sha, column) "select " column " from enclii.build where commit_sha = '" sha "'"
#define RELEASE_OF(sha, column) "select " column " from enclii.release where commit_sha = '" sha "'"
#define DEPLOYMENT_OF(sha, column)                                                                 \
    "select d." column " from enclii.deployment d join enclii.release r on r.id = d.release_id "   \
    "where r.commit_sha = '" sha "' order by d.created_at desc"

/* From push to a deployment under way. */
static char *until_rolling(struct fixture *fix, const char *delivery, const char *sha)
{
    char sql[400];
    push(fix, delivery, sha);
    snprintf(sql, sizeof sql, "select state from enclii.build where commit_sha = '%s'", sha);
    becomes(fix, sql, "leased");
    snprintf(sql, sizeof sql, "select id from enclii.build where commit_sha = '%s'", sha);
    char *build = value_of(fix, sql);
    build_started(fix, build, 1);
    build_succeeded(fix, build, 1, sha);
    snprintf(sql, sizeof sql, "select state from enclii.release where commit_sha = '%s'", sha);
    becomes(fix, sql, "signing");
    snprintf(sql, sizeof sql, "select id from enclii.release where commit_sha = '%s'", sha);
    char *release = value_of(fix, sql);
    release_signed(fix, release);
    snprintf(sql, sizeof sql,
             "select state from enclii.deployment where release_id = '%s' order by created_at desc",
             release);
    becomes(fix, sql, "rolling");
    snprintf(sql, sizeof sql, "select id from enclii.deployment where release_id = '%s'", release);
    char *deployment = value_of(fix, sql);
    free(build);
    free(release);
    return deployment;
}

/* ---- tests ---- */

static void test_push_to_healthy_and_back(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    heartbeat(fix, "builder-1", 2);
    char *first = until_rolling(fix, "delivery-01", SHA_A);
    becomes(fix, "select state from enclii.delivery where id = 'delivery-01'", "ACCEPTED");
    becomes(fix, "select state from enclii.domain where hostname = 'shop.localhost'", "issuing");
    rolled_out(fix, first);
    becomes(fix, DEPLOYMENT_OF(SHA_A, "state"), "HEALTHY");
    becomes(fix, "select revision from enclii.desired", "2");

    /* The second release is bad: back to the first, which served all the time. */
    char *second = until_rolling(fix, "delivery-02", SHA_B);
    becomes(fix, "select revision from enclii.desired", "3");
    reverted(fix, second);
    becomes(fix, DEPLOYMENT_OF(SHA_B, "state"), "ROLLED_BACK");
    becomes(fix,
            "select r.version || ' ' || (d.release_id = d.good_release_id) || ' ' || revision from "
            "enclii.desired d join enclii.release r on r.id = d.release_id",
            "v1 true 4");
    becomes(fix, "select count(*) from enclii.outbox", "0");
    stays(fix,
          "select (select count(*) from enclii.build where deadline_at is not null) + (select "
          "count(*) from enclii.release where deadline_at is not null) + (select count(*) from "
          "enclii.deployment where deadline_at is not null)",
          "0");
    free(first);
    free(second);
}

static void test_redelivered_old_and_late_words_change_nothing(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    heartbeat(fix, "builder-1", 2);
    push(fix, "delivery-11", SHA_A);
    push(fix, "delivery-11", SHA_A);
    becomes(fix, BUILD_OF(SHA_A, "state"), "leased");
    stays(fix, "select count(*) from enclii.build", "1");
    char *build = value_of(fix, BUILD_OF(SHA_A, "id"));
    build_succeeded(fix, build, 7, SHA_A); /* an attempt that never was */
    stays(fix, BUILD_OF(SHA_A, "state"), "leased");

    push(fix, "delivery-12", SHA_B); /* newer: the older one is not wanted any more */
    becomes(fix, BUILD_OF(SHA_A, "state"), "SUPERSEDED");
    build_succeeded(fix, build, 1, SHA_A);
    stays(fix, "select count(*) from enclii.release", "0");
    becomes(fix,
            "select count(*) from enclii.decision where rule = 'late_result' and outcome = "
            "'ignored'",
            "0"); /* the same event id as above: not even looked at */
    free(build);
}

static void test_bad_events_go_to_the_dead_letters_and_the_rest_goes_on(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    build_started(fix, "no-uuid", 1);
    build_started(fix, "00000000-0000-4000-8000-00000000dead", 1); /* unknown: said, not fatal */
    push(fix, "delivery-21", SHA_A);
    becomes(fix, BUILD_OF(SHA_A, "state"), "queued");
    becomes(fix, "select count(*) from enclii.decision where rule = 'unknown_build'", "1");
    assert_string_equal(fix->failed, "");
}

static void test_a_restart_goes_on_from_the_stored_offsets(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg, "create table saved as table enclii.consumed");
    push(fix, "delivery-31", SHA_A);
    becomes(fix, BUILD_OF(SHA_A, "state"), "queued");
    char *ids = value_of(fix, "select string_agg(id::text, ',') from enclii.build");
    /* As if the process had died before anything was committed: the same batch comes again. */
    stop_pipeline(fix);
    test_pg_sql(fix->pg, "delete from enclii.consumed; insert into enclii.consumed table saved; "
                         "delete from enclii.inbox; delete from enclii.delivery; delete from "
                         "enclii.build; delete from enclii.outbox; update enclii.service set "
                         "builds = 0");
    start_pipeline(fix);
    becomes(fix, "select string_agg(id::text, ',') from enclii.build", ids);
    heartbeat(fix, "builder-1", 1);
    becomes(fix, BUILD_OF(SHA_A, "state"), "leased");
    /* And with its offsets, nothing comes again. */
    stop_pipeline(fix);
    start_pipeline(fix);
    push(fix, "delivery-32", SHA_C);
    becomes(fix, "select count(*) from enclii.build", "2");
    stays(fix, "select sum(duplicates) from enclii.delivery", "0");
    free(ids);
}

static void test_overdue_rows_end(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    push(fix, "delivery-41", SHA_A);
    becomes(fix, BUILD_OF(SHA_A, "state"), "queued");
    test_pg_sql(fix->pg, "update enclii.build set deadline_at = now() - interval '1 second'");
    becomes(fix, BUILD_OF(SHA_A, "state"), "TIMED_OUT");
    heartbeat(fix, "builder-1", 2);
    char *deployment = until_rolling(fix, "delivery-42", SHA_B);
    test_pg_sql(fix->pg, "update enclii.deployment set deadline_at = now() - interval '1 second'");
    becomes(fix, DEPLOYMENT_OF(SHA_B, "state"), "FAILED");
    becomes(fix, "select release_id is null from enclii.desired", "t");
    becomes(fix, "select count(*) from enclii.domain", "0");
    becomes(fix, "select count(*) from enclii.outbox", "0");
    free(deployment);
}

/* What the database refuses costs itself only, wherever it is in the batch. */
static void test_a_refused_event_is_found_among_others(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg, "alter table enclii.delivery add constraint no_poison check (ref <> "
                         "'refs/heads/main' or id <> 'delivery-55')");
    stop_pipeline(fix);
    fix->bus = test_kafka_bus(fix->kafka, "test"); /* while nobody reads: one batch */
    for (int n = 50; n < 60; n++) {
        char delivery[32], sha[41];
        snprintf(delivery, sizeof delivery, "delivery-%d", n);
        snprintf(sha, sizeof sha, "%040d", n);
        push(fix, delivery, sha);
    }
    test_kafka_close_bus(fix->kafka, fix->bus);
    start_pipeline(fix);
    becomes(fix, "select count(*) from enclii.delivery", "9");
    becomes(fix, "select count(*) from enclii.build where state = 'SUPERSEDED'", "8");
    push(fix, "delivery-60", SHA_A);
    becomes(fix, BUILD_OF(SHA_A, "state"), "queued");
    assert_string_equal(fix->failed, "");
    test_pg_sql(fix->pg, "alter table enclii.delivery drop constraint no_poison");
}

/* One push that would make more than a transaction may carry is a dead letter, not a crash. */
static void test_a_push_with_too_much_behind_it(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg, "insert into enclii.service (id, project_id, name, repo_key, repo_url, "
                         "spec) select gen_random_uuid(), '" PROJECT "', 'big' || n, '" REPO
                         "', 'http://h/x', convert_to(repeat('x', 400000), "
                         "'UTF8') from generate_series(1, 40) n");
    const char *sum = "select sum(next) from enclii.consumed where topic = 'enclii.intake'";
    char both[160];
    snprintf(both, sizeof both,
             "select sum(next) >= %ld from enclii.consumed where topic = 'enclii.intake'",
             atol(test_pg_value(fix->pg, sum)) + 2);
    push(fix, "delivery-71", SHA_A);
    push(fix, "delivery-72", SHA_B);
    becomes(fix, both, "t");
    becomes(fix, "select count(*) from enclii.outbox", "0");
    assert_string_equal(test_pg_value(fix->pg, "select count(*) from enclii.delivery"), "0");
    test_pg_sql(fix->pg, "delete from enclii.service where name like 'big%'");
    push(fix, "delivery-73", SHA_C);
    becomes(fix, BUILD_OF(SHA_C, "state"), "queued");
    assert_string_equal(fix->failed, "");
}

static void test_a_builder_that_comes_back_changes_nothing(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    heartbeat(fix, "builder-1", 1);
    push(fix, "delivery-81", SHA_A);
    becomes(fix, BUILD_OF(SHA_A, "state"), "leased");
    char *build = value_of(fix, BUILD_OF(SHA_A, "id"));
    build_started(fix, build, 1);
    becomes(fix, BUILD_OF(SHA_A, "state"), "running");
    /* It hangs; its lease goes to another one. */
    test_pg_sql(fix->pg, "update enclii.build set state = 'leased', deadline_at = now()");
    heartbeat(fix, "builder-2", 1);
    becomes(fix, BUILD_OF(SHA_A, "attempt || builder_id"), "2builder-2");
    build_started(fix, build, 1);
    build_succeeded(fix, build, 1, SHA_A);
    becomes(fix, "select count(*) from enclii.decision where rule = 'old_attempt'", "2");
    assert_string_equal(test_pg_value(fix->pg, BUILD_OF(SHA_A, "state || attempt")), "leased2");
    assert_string_equal(test_pg_value(fix->pg, "select count(*) from enclii.release"), "0");
    free(build);
}

static void test_old_rows_are_pruned(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    stop_pipeline(fix);
    test_pg_sql(fix->pg,
                "insert into enclii.inbox select 'old-' || n, now() - interval '30 days' "
                "from generate_series(1, 12000) n; insert into enclii.decision (at, "
                "subject_kind, subject_id, rule, outcome) values (now() - interval '1 "
                "year', 'x', 'old', 'r', 'o'), (now(), 'x', 'new', 'r', 'o'); insert into "
                "enclii.build_log (build_id, attempt, first_seq, lines, at) values ('" SERVICE
                "', 1, 1, '[]', now() - interval '1 year')");
    start_pipeline(fix);
    becomes(fix, "select count(*) from enclii.inbox where event_id like 'old-%'", "0");
    becomes(fix, "select string_agg(subject_id, ',') from enclii.decision", "new");
    becomes(fix, "select count(*) from enclii.build_log", "0");
}

/* ---- what hosts say besides pushes ---- */

static void test_the_ledger_and_moved_repositories(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    Enclii__V1__DeliveryInfo info = ENCLII__V1__DELIVERY_INFO__INIT;
    info.delivery_id = mutable("hook-1");
    info.host = mutable("github");
    info.event = mutable("pull_request");
    info.action = mutable("opened");
    info.repo_key = mutable(REPO);
    info.host_repo_id = mutable("77");
    Enclii__V1__PullRequestChanged pr = ENCLII__V1__PULL_REQUEST_CHANGED__INIT;
    pr.delivery = &info;
    Enclii__V1__DeliveryRefused bad = ENCLII__V1__DELIVERY_REFUSED__INIT;
    bad.refusal_id = mutable("00000000-0000-4000-8000-0000000000aa");
    bad.host = mutable("github");
    bad.reason = mutable("bad_signature");
    bad.status = 401;
    tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.pull_request.changed.v1", &pr.base, "i1");
    tell(fix, EC_TOPIC_INTAKE, "refused", "dev.enclii.delivery.refused.v1", &bad.base, "i2");
    becomes(fix, "select count(*) from enclii.refused_delivery where status = 401", "1");
    becomes(
        fix,
        "select state || ' ' || event || ' ' || action from enclii.delivery where id = 'hook-1'",
        "ACCEPTED pull_request opened");
    info.delivery_id = mutable("hook-2");
    info.event = mutable("repository");
    info.action = mutable("renamed");
    Enclii__V1__RepositoryChanged moved = ENCLII__V1__REPOSITORY_CHANGED__INIT;
    moved.delivery = &info;
    moved.new_repo_key = mutable("127.0.0.1:3000/acme/store");
    moved.new_clone_url = mutable("http://127.0.0.1:3000/acme/store.git");
    moved.new_full_name = mutable("acme/store");
    tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.repository.changed.v1", &moved.base, "i3");
    becomes(fix, "select repo_key || ' ' || repo_url from enclii.service where id = '" SERVICE "'",
            "127.0.0.1:3000/acme/store http://127.0.0.1:3000/acme/store.git");
    becomes(fix, "select repo_key || ' ' || host_repo_id from enclii.repo",
            "127.0.0.1:3000/acme/store 77");
}

int main(void)
{
    ec_log_setup("test", EC_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_push_to_healthy_and_back, one_service),
        cmocka_unit_test_setup(test_redelivered_old_and_late_words_change_nothing, one_service),
        cmocka_unit_test_setup(test_bad_events_go_to_the_dead_letters_and_the_rest_goes_on,
                               one_service),
        cmocka_unit_test_setup(test_a_restart_goes_on_from_the_stored_offsets, one_service),
        cmocka_unit_test_setup(test_the_ledger_and_moved_repositories, one_service),
        cmocka_unit_test_setup(test_overdue_rows_end, one_service),
        cmocka_unit_test_setup(test_a_refused_event_is_found_among_others, one_service),
        cmocka_unit_test_setup(test_a_push_with_too_much_behind_it, one_service),
        cmocka_unit_test_setup(test_a_builder_that_comes_back_changes_nothing, one_service),
        cmocka_unit_test_setup(test_old_rows_are_pruned, one_service),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
