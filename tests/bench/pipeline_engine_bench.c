/* How fast pipeline decides, durably: events wait in Kafka (the mock cluster, in this process)
 * while its consumer is paused; then the clock runs until all are decided and committed. Pushes
 * first, then the words of builders, signer and reconciler that bring the newest push of each
 * service to HEALTHY. With TEST_PG_REAL in the environment PostgreSQL is durable (fsync) and
 * vacuums.
 *
 *   TEST_PG_REAL=1 pipeline_engine_bench [pushes] [services]
 */
#include <glob.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/release.pb-c.h"
#include "pipeline.h"
#include "support/kafka.h"
#include "support/pg.h"

extern const struct ec_migration pipeline_migrations[];
extern const size_t pipeline_migration_count;

struct bench {
    struct test_pg *pg;
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_store_spec store_spec;
    struct pipeline pl;
    bool stopped, closed;
    int pushes, services;
    int published, acked;
    const char *sql; /* what is waited for */
    int64_t looked_ms;
    bool so;
};

static void on_failed(void *owner, struct ec_err err)
{
    (void)owner;
    if (ec_failed(err)) {
        fprintf(stderr, "failed: %s\n", err.what);
        exit(1);
    }
}

static void on_stopped(void *owner)
{
    ((struct bench *)owner)->stopped = true;
}

static void set_true(void *flag)
{
    *(bool *)flag = true;
}

static void on_acked(void *arg, struct ec_err err)
{
    ((struct bench *)arg)->acked += !ec_failed(err);
}

static bool all_acked(void *arg)
{
    const struct bench *bench = arg;
    return bench->acked == bench->published;
}

/* test_run_until asks once more at its end: an answer that was yes stays yes. */
static bool is_so(void *arg)
{
    struct bench *bench = arg;
    if (!bench->so && ec_mono_ms() - bench->looked_ms >= 100) {
        bench->looked_ms = ec_mono_ms();
        bench->so = strcmp(test_pg_value(bench->pg, bench->sql), "t") == 0;
    }
    return bench->so;
}

static void wait_for(struct bench *bench, const char *sql)
{
    bench->sql = sql;
    bench->so = false;
    if (!test_run_until(bench->loop, 300000, is_so, bench)) {
        fprintf(stderr, "never: %s\n", sql);
        exit(1);
    }
}

static void publish(struct bench *bench, const char *topic, const char *key, const char *type,
                    const ProtobufCMessage *body)
{
    struct ec_id id = ec_id_new();
    struct ec_message message = {
        .topic = topic, .key = key, .type = type, .id = id.text, .body = body};
    while (ec_failed(ec_bus_publish(bench->bus, &message, on_acked, bench))) {
        test_run_within(bench->loop, 10, all_acked, bench);
    }
    bench->published++;
}

static void publish_push(struct bench *bench, int n)
{
    char repo[64], sha[41], delivery[32], branch[] = "refs/heads/main";
    Enclii__V1__PushReceived push;
    Enclii__V1__Commit head;
    enclii__v1__push_received__init(&push);
    enclii__v1__commit__init(&head);
    snprintf(repo, sizeof repo, "h/acme/shop%d", n % bench->services);
    snprintf(sha, sizeof sha, "%040d", n);
    snprintf(delivery, sizeof delivery, "delivery-%d", n);
    head.sha = push.after = sha;
    head.ref = push.ref = branch;
    push.head = &head;
    push.repo_key = repo;
    push.delivery_id = delivery;
    publish(bench, EC_TOPIC_INTAKE, repo, "dev.enclii.push.received.v1", &push.base);
}

static void open_all(struct bench *bench)
{
    bench->pg = test_pg_start();
    bench->loop = ec_loop_new();
    bench->kafka =
        test_kafka_start(bench->loop, "enclii.intake:6", "enclii.requests:1",
                         "enclii.build.events:6", "enclii.builders:1", "enclii.release.events:6",
                         "enclii.deployment.events:6", "enclii.domain.events:1",
                         "enclii.build.commands:6", "enclii.desired:1", "enclii.domains:1", NULL);
    bench->bus = test_kafka_bus(bench->kafka, "pipeline");
    bench->store_spec = (struct ec_store_spec){.url = test_pg_url(bench->pg)};
    test_pg_migrate(bench->pg, "enclii", pipeline_migrations, pipeline_migration_count);
    on_failed(NULL, ec_store_open(bench->loop, &bench->store_spec, &bench->store));
}

static double cpu_s(int whose)
{
    struct rusage use;
    getrusage(whose, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

struct proc {
    int pid, parent;
    unsigned long ticks, of_gone; /* its own; of its children that ended */
};

static bool read_proc(const char *path, struct proc *ret_proc)
{
    char text[1024] = "";
    unsigned long ticks[4] = {0};
    FILE *file = fopen(path, "r");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    const char *rest = len > 0 ? strrchr(text, ')') : NULL;
    ret_proc->pid = atoi(text);
    if (!rest || sscanf(rest, ") %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu",
                        &ret_proc->parent, &ticks[0], &ticks[1], &ticks[2], &ticks[3]) != 5) {
        return false;
    }
    ret_proc->ticks = ticks[0] + ticks[1];
    ret_proc->of_gone = ticks[2] + ticks[3];
    return true;
}

/* Our child (PostgreSQL) and its children, the gone ones included. */
static double pg_cpu_s(void)
{
    glob_t found = {0};
    struct proc proc;
    int server = 0;
    unsigned long ticks = 0;
    glob("/proc/[0-9]*/stat", 0, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        if (read_proc(found.gl_pathv[i], &proc) && proc.parent == getpid()) {
            server = proc.pid;
            ticks += proc.ticks + proc.of_gone;
        }
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        if (read_proc(found.gl_pathv[i], &proc) && proc.parent == server) {
            ticks += proc.ticks;
        }
    }
    globfree(&found);
    return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static void start(struct bench *bench)
{
    bench->pl = (struct pipeline){
        .settings = {.registry = "127.0.0.1:5000",
                     .attempts_max = 3,
                     .losses_max = 5,
                     .silence_ms = 3600000, /* its builders are made up */
                     .domain_issuer = "local"},
        .loop = bench->loop,
        .bus = bench->bus,
        .store = bench->store,
        .store_spec = &bench->store_spec,
        .owner.arg = bench,
        .owner.failed = on_failed,
        .owner.stopped = on_stopped,
    };
    bench->stopped = false;
    on_failed(NULL, pipeline_start(&bench->pl));
}

static void make_services(struct bench *bench)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "insert into enclii.project (id, slug, name) select gen_random_uuid(), 'p' || n, 'p' "
             "from generate_series(0, 9) n; insert into enclii.environment (id, project_id, name) "
             "select gen_random_uuid(), id, 'production' from enclii.project; "
             "insert into enclii.service (id, project_id, name, "
             "repo_key, repo_url, spec) select gen_random_uuid(), (select id from enclii.project "
             "where slug = 'p' || (n %% 10)), 's' || n, 'h/acme/shop' || n, 'http://h/x', '' from "
             "generate_series(0, %d) n; analyze",
             bench->services - 1);
    test_pg_sql(bench->pg, sql);
}

/* ---- phases ---- */

static void begin(struct bench *bench)
{
    ec_consumer_pause(bench->pl.consumer, true);
    bench->published = bench->acked = 0;
}

static void measure(struct bench *bench, const char *name, const char *done_sql)
{
    test_run_until(bench->loop, 60000, all_acked, bench);
    double loop_s = cpu_s(RUSAGE_THREAD), pg_s = pg_cpu_s();
    int64_t began_ms = ec_mono_ms();
    ec_consumer_pause(bench->pl.consumer, false);
    wait_for(bench, done_sql);
    double took_s = (double)(ec_mono_ms() - began_ms) / 1000;
    loop_s = cpu_s(RUSAGE_THREAD) - loop_s;
    pg_s = pg_cpu_s() - pg_s;
    double events = bench->published;
    printf("%-12s %6.0f events in %6.2f s = %6.0f/s; per CPU-second of pipeline's thread %6.0f, "
           "of PostgreSQL %6.0f, of both %6.0f\n",
           name, events, took_s, events / took_s, events / loop_s, events / pg_s,
           events / (loop_s + pg_s));
    wait_for(bench, "select not exists (select 1 from enclii.outbox)");
}

static void pushes(struct bench *bench)
{
    char sql[128];
    publish_push(bench, 0); /* joining the group takes seconds */
    wait_for(bench, "select exists (select 1 from enclii.delivery)");
    begin(bench);
    for (int n = 1; n <= bench->pushes; n++) {
        publish_push(bench, n);
    }
    snprintf(sql, sizeof sql, "select count(*) = %d from enclii.delivery", bench->pushes + 1);
    measure(bench, "pushes", sql);
}

/* For each open row of `table` (id, service id): the words that bring it on. */
static void for_each(struct bench *bench, const char *sql,
                     void (*tell)(struct bench *bench, char *id, const char *service))
{
    struct ec_span url = ec_secret_use(test_pg_url(bench->pg));
    char *text = ec_strndup(url.ptr, url.len);
    PGconn *conn = PQconnectdb(text);
    PGresult *rows = PQexec(conn, sql);
    for (int at = 0; at < PQntuples(rows); at++) {
        tell(bench, PQgetvalue(rows, at, 0), PQgetvalue(rows, at, 1));
    }
    PQclear(rows);
    PQfinish(conn);
    free(text);
}

static Enclii__V1__StepTime *a_step(void)
{
    static char name[] = "fetch", detail[] = "in a bench";
    static Enclii__V1__StepTime step;
    enclii__v1__step_time__init(&step);
    step.name = name;
    step.detail = detail;
    step.started_unix_ms = ec_unix_ms();
    step.duration_ms = 5;
    return &step;
}

static char digest[] = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

static void tell_build(struct bench *bench, char *id, const char *service)
{
    Enclii__V1__BuildStarted started = ENCLII__V1__BUILD_STARTED__INIT;
    Enclii__V1__BuildStepFinished step = ENCLII__V1__BUILD_STEP_FINISHED__INIT;
    Enclii__V1__BuildSucceeded succeeded = ENCLII__V1__BUILD_SUCCEEDED__INIT;
    started.build_id = step.build_id = succeeded.build_id = id;
    started.attempt = step.attempt = succeeded.attempt = 1;
    step.step = a_step();
    succeeded.digest = digest;
    publish(bench, EC_TOPIC_BUILD_EVENTS, service, "dev.enclii.build.started.v1", &started.base);
    for (int n = 0; n < 4; n++) {
        publish(bench, EC_TOPIC_BUILD_EVENTS, service, "dev.enclii.build.step.v1", &step.base);
    }
    publish(bench, EC_TOPIC_BUILD_EVENTS, service, "dev.enclii.build.succeeded.v1",
            &succeeded.base);
}

static void tell_release(struct bench *bench, char *id, const char *service)
{
    Enclii__V1__ReleaseStepFinished step = ENCLII__V1__RELEASE_STEP_FINISHED__INIT;
    Enclii__V1__ReleaseSigned done = ENCLII__V1__RELEASE_SIGNED__INIT;
    step.release_id = done.release_id = id;
    step.step = a_step();
    done.digest = digest;
    for (int n = 0; n < 3; n++) {
        publish(bench, EC_TOPIC_RELEASE_EVENTS, service, "dev.enclii.release.step.v1", &step.base);
    }
    publish(bench, EC_TOPIC_RELEASE_EVENTS, service, "dev.enclii.release.signed.v1", &done.base);
}

static void tell_deployment(struct bench *bench, char *id, const char *service)
{
    Enclii__V1__DeploymentStepFinished step = ENCLII__V1__DEPLOYMENT_STEP_FINISHED__INIT;
    Enclii__V1__DeploymentRolledOut done = ENCLII__V1__DEPLOYMENT_ROLLED_OUT__INIT;
    step.deployment_id = done.deployment_id = id;
    step.step = a_step();
    for (int n = 0; n < 3; n++) {
        publish(bench, EC_TOPIC_DEPLOYMENT_EVENTS, service, "dev.enclii.deployment.step.v1",
                &step.base);
    }
    publish(bench, EC_TOPIC_DEPLOYMENT_EVENTS, service, "dev.enclii.deployment.rolled_out.v1",
            &done.base);
}

/* As if the queue had leased all that is open. */
static void words(struct bench *bench)
{
    test_pg_sql(bench->pg,
                "update enclii.build set state = 'leased', attempt = 1, builder_id = 'b', "
                "leased_at = now(), heard_at = now(), deadline_at = now() + interval '1 "
                "hour', cas = cas + 1 where state = 'queued'");
    begin(bench);
    for_each(bench, "select id, service_id from enclii.build where state = 'leased'", tell_build);
    measure(bench, "builds",
            "select not exists (select 1 from enclii.build where deadline_at is "
            "not null)");
    begin(bench);
    for_each(bench, "select id, service_id from enclii.release where state = 'signing'",
             tell_release);
    measure(bench, "releases",
            "select not exists (select 1 from enclii.release where deadline_at "
            "is not null)");
    begin(bench);
    for_each(bench, "select id, service_id from enclii.deployment where state = 'rolling'",
             tell_deployment);
    measure(bench, "deployments",
            "select not exists (select 1 from enclii.deployment where "
            "deadline_at is not null)");
}

static void close_all(struct bench *bench)
{
    pipeline_stop(&bench->pl);
    test_run_until(bench->loop, 5000, test_is_true, &bench->stopped);
    test_kafka_close_bus(bench->kafka, bench->bus);
    pipeline_free(&bench->pl);
    ec_store_close(bench->store, set_true, &bench->closed);
    test_run_until(bench->loop, 5000, test_is_true, &bench->closed);
    test_kafka_stop(bench->kafka);
    ec_loop_free(bench->loop);
    test_pg_free(bench->pg);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    bench.pushes = argc > 1 ? atoi(argv[1]) : 10000;
    bench.services = argc > 2 ? atoi(argv[2]) : 5000;
    ec_log_setup("bench", EC_LOG_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    open_all(&bench);
    make_services(&bench);
    start(&bench);
    pushes(&bench);
    words(&bench);
    close_all(&bench);
    return 0;
}
