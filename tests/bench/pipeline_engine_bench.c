/* How fast pipeline decides durably: pushes wait in Kafka (the mock cluster, in this process),
 * pipeline starts, and the clock runs until all are decided and committed, then until the outbox is
 * empty. Real PostgreSQL; fsync as test_pg has it (off), so read the number as CPU and round trips,
 * not disk.
 *
 *   pipeline_engine_bench [pushes] [services]
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "bus/topics.h"
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
    int acked;
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
    return bench->acked == bench->pushes;
}

/* test_run_until asks once more at its end: an answer that was yes stays yes. */
static bool becomes(struct bench *bench, const char *sql, long at_least)
{
    if (!bench->so && ec_mono_ms() - bench->looked_ms >= 200) {
        bench->looked_ms = ec_mono_ms();
        bench->so = atol(test_pg_value(bench->pg, sql)) >= at_least;
    }
    return bench->so;
}

static bool all_decided(void *arg)
{
    struct bench *bench = arg;
    return becomes(bench, "select count(*) from enclii.delivery", bench->pushes);
}

static bool outbox_empty(void *arg)
{
    return becomes(arg, "select case when exists (select 1 from enclii.outbox) then 0 else 1 end",
                   1);
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
    struct ec_id id = ec_id_derive(delivery, "push");
    struct ec_message message = {.topic = EC_TOPIC_INTAKE,
                                 .key = repo,
                                 .type = "dev.enclii.push.received.v1",
                                 .id = id.text,
                                 .body = &push.base};
    while (ec_failed(ec_bus_publish(bench->bus, &message, on_acked, bench))) {
        test_run_until(bench->loop, 10, all_acked, bench);
    }
}

static void open_all(struct bench *bench)
{
    bench->pg = test_pg_start();
    bench->loop = ec_loop_new();
    bench->kafka =
        test_kafka_start(bench->loop, "enclii.intake:6", "enclii.requests:1",
                         "enclii.build.events:6", "enclii.builders:1", "enclii.release.events:1",
                         "enclii.deployment.events:1", "enclii.domain.events:1",
                         "enclii.build.commands:6", "enclii.desired:1", "enclii.domains:1", NULL);
    bench->bus = test_kafka_bus(bench->kafka, "pipeline");
    bench->store_spec = (struct ec_store_spec){.url = test_pg_url(bench->pg)};
    test_pg_migrate(bench->pg, "enclii", pipeline_migrations, pipeline_migration_count);
    if (getenv("BENCH_SQL")) {
        test_pg_sql(bench->pg, getenv("BENCH_SQL"));
    }
    on_failed(NULL, ec_store_open(bench->loop, &bench->store_spec, &bench->store));
}

static double cpu_s(int whose)
{
    struct rusage use;
    getrusage(whose, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void start(struct bench *bench)
{
    bench->pl = (struct pipeline){
        .settings = {.registry = "127.0.0.1:5000",
                     .attempts_max = 3,
                     .silence_ms = 10000,
                     .domain_issuer = "local"},
        .loop = bench->loop,
        .bus = bench->bus,
        .store = bench->store,
        .store_spec = &bench->store_spec,
        .owner = bench,
        .failed = on_failed,
        .stopped = on_stopped,
    };
    bench->stopped = false;
    on_failed(NULL, pipeline_start(&bench->pl));
}

static void make_services(struct bench *bench)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "insert into enclii.project (id, slug, name) select gen_random_uuid(), 'p' || n, 'p' "
             "from generate_series(0, 9) n; insert into enclii.service (id, project_id, name, "
             "repo_key, repo_url, spec) select gen_random_uuid(), (select id from enclii.project "
             "where slug = 'p' || (n %% 10)), 's' || n, 'h/acme/shop' || n, 'http://h/x', '' from "
             "generate_series(0, %d) n; analyze",
             bench->services - 1);
    test_pg_sql(bench->pg, sql);
}

static void print_metrics(void)
{
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, 1 << 20);
    ec_metrics_print(&out);
    fwrite(out.ptr, 1, out.len, stdout);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    bench.pushes = argc > 1 ? atoi(argv[1]) : 20000;
    bench.services = argc > 2 ? atoi(argv[2]) : 1000;
    ec_log_setup("bench", EC_LOG_ERROR);
    open_all(&bench);
    make_services(&bench);
    for (int n = 0; n < bench.pushes; n++) {
        publish_push(&bench, n);
    }
    test_run_until(bench.loop, 60000, all_acked, &bench);
    start(&bench);
    /* The clock begins with the first commit: joining the group takes seconds. */
    while (atol(test_pg_value(bench.pg, "select count(*) from enclii.delivery")) == 0) {
        test_run_until(bench.loop, 20, test_is_true, &bench.stopped);
    }
    long before = atol(test_pg_value(bench.pg, "select count(*) from enclii.delivery"));
    int64_t began_ms = ec_mono_ms();
    double began_cpu_s = cpu_s(RUSAGE_SELF), began_loop_s = cpu_s(RUSAGE_THREAD);
    bool done = test_run_until(bench.loop, 300000, all_decided, &bench);
    double decided_s = (double)(ec_mono_ms() - began_ms) / 1000,
           used_s = cpu_s(RUSAGE_SELF) - began_cpu_s;
    double loop_s = cpu_s(RUSAGE_THREAD) - began_loop_s;
    printf("%s: %ld pushes in %.2f s = %.0f/s; this process (with mock Kafka) used %.2f s of CPU, "
           "its loop %.2f s\n",
           done ? "decided" : "NOT ALL DECIDED", bench.pushes - before, decided_s,
           (double)(bench.pushes - before) / decided_s, used_s, loop_s);
    bench.so = false;
    done = test_run_until(bench.loop, 60000, outbox_empty, &bench);
    double relayed_s = (double)(ec_mono_ms() - began_ms) / 1000;
    printf("%s after %.2f s\n", done ? "outbox empty" : "OUTBOX NOT EMPTY", relayed_s);
    if (getenv("BENCH_METRICS")) {
        print_metrics();
    }
    pipeline_stop(&bench.pl);
    test_run_until(bench.loop, 5000, test_is_true, &bench.stopped);
    test_kafka_close_bus(bench.kafka, bench.bus);
    pipeline_free(&bench.pl);
    ec_store_close(bench.store, set_true, &bench.closed);
    test_run_until(bench.loop, 5000, test_is_true, &bench.closed);
    test_kafka_stop(bench.kafka);
    ec_loop_free(bench.loop);
    double before_pg_s = cpu_s(RUSAGE_CHILDREN); /* initdb */
    test_pg_free(bench.pg);
    printf("PostgreSQL used %.2f s of CPU\n", cpu_s(RUSAGE_CHILDREN) - before_pg_s);
    return done ? 0 : 1;
}
