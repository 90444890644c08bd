/* How fast history stores, and whether its memory stays flat: events wait in Kafka (the mock
 * cluster, in this process), history starts, and the clock runs from the first commit until all are
 * rows. The mock cluster hands out records slowly, so the time of storing alone is printed too;
 * that one has the target: 10,000 rows/s. Real PostgreSQL; fsync as test_pg has it (off).
 *
 *   history_ingest_bench [events]
 */
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
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/release.pb-c.h"
#include "history.h"
#include "support/kafka.h"
#include "support/pg.h"

struct bench {
    struct test_pg *pg;
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;    /* history's */
    struct ec_bus *source; /* fills the topics, many events in one record batch */
    struct ec_store *store;
    struct history hi;
    bool stopped, closed;
    long events, acked, seen;
    int64_t looked_ms;
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
    return bench->acked == bench->events;
}

static long rss_kb(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file && fscanf(file, "%*s %ld", &pages) != 1) {
        pages = 0;
    }
    if (file) {
        fclose(file);
    }
    return pages * 4;
}

/* What a push says, roughly: mostly steps, some larger ones with a list of steps. */
static void publish(struct bench *bench, long n)
{
    char service[48], build[48], id[48], trace[64], name[] = "build", detail[] = "layer 7 of 12";
    char engine[] = "buildah 1.28.2";
    snprintf(service, sizeof service, "00000000-0000-4000-8000-%012ld", n % 500);
    snprintf(build, sizeof build, "00000000-0000-4000-9000-%012ld", n / 20);
    snprintf(id, sizeof id, "00000000-0000-5000-8000-%012ld", n);
    snprintf(trace, sizeof trace, "00-%032lx-b7ad6b7169203331-01", n / 20 + 1);
    Enclii__V1__StepTime step = ENCLII__V1__STEP_TIME__INIT, *steps[] = {&step, &step, &step};
    step.name = name;
    step.detail = detail;
    step.started_unix_ms = ec_unix_ms();
    step.duration_ms = 1234;
    Enclii__V1__BuildStepFinished finished = ENCLII__V1__BUILD_STEP_FINISHED__INIT;
    finished.build_id = build;
    finished.builder_id = name;
    finished.step = &step;
    Enclii__V1__BuildSucceeded succeeded = ENCLII__V1__BUILD_SUCCEEDED__INIT;
    succeeded.build_id = build;
    succeeded.digest = succeeded.commit_sha = service;
    succeeded.engine = engine;
    succeeded.steps = steps;
    succeeded.n_steps = EC_LEN(steps);
    bool large = n % 5 == 0;
    struct ec_message message = {.topic = EC_TOPIC_BUILD_EVENTS,
                                 .key = service,
                                 .type = large ? "dev.enclii.build.succeeded.v1"
                                               : "dev.enclii.build.step.v1",
                                 .subject = build,
                                 .id = id,
                                 .trace = trace,
                                 .body = large ? &succeeded.base : &finished.base};
    while (ec_failed(ec_bus_publish(bench->source, &message, on_acked, bench))) {
        test_run_within(bench->loop, 10, all_acked, bench);
    }
}

static void open_all(struct bench *bench)
{
    bench->pg = test_pg_start();
    bench->loop = ec_loop_new();
    bench->kafka = test_kafka_start(
        bench->loop, "enclii.intake:1", "enclii.requests:1", "enclii.build.commands:1",
        "enclii.build.events:6", "enclii.release.events:1", "enclii.desired:1",
        "enclii.deployment.events:1", "enclii.domains:1", "enclii.domain.events:1",
        "enclii.notification.events:1", "enclii.audit:1", NULL);
    bench->bus = test_kafka_bus(bench->kafka, "history");
    struct ec_bus_spec source = {
        .brokers = test_kafka_brokers(bench->kafka), .service = "bench", .linger_ms = 20};
    on_failed(NULL, ec_bus_open(bench->loop, &source, &bench->source));
    struct ec_store_spec spec = {.url = test_pg_url(bench->pg), .application_name = "history"};
    on_failed(NULL, ec_store_open(bench->loop, &spec, &bench->store));
    bench->hi = (struct history){
        .settings = {.retention_ms = (int64_t)90 * 86400000, .months_ahead = 2},
        .loop = bench->loop,
        .bus = bench->bus,
        .store = bench->store,
        .owner.arg = bench,
        .owner.failed = on_failed,
        .owner.stopped = on_stopped,
    };
}

static bool all_stored(void *arg)
{
    struct bench *bench = arg;
    if (ec_mono_ms() - bench->looked_ms >= 250) {
        bench->looked_ms = ec_mono_ms();
        long seen = atol(test_pg_value(bench->pg, "select count(*) from history.event"));
        if (bench->seen * 4 / bench->events != seen * 4 / bench->events) {
            printf("  %7ld rows stored, %ld kB resident\n", seen, rss_kb());
        }
        bench->seen = seen;
    }
    return bench->seen >= bench->events;
}

static bool first_stored(void *arg)
{
    struct bench *bench = arg;
    return bench->hi.ready &&
           atol(test_pg_value(bench->pg, "select count(*) from history.event")) > 0;
}

static double cpu_s(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

/* How long history was at it: without the time it waited for the mock cluster to hand out records.
 */
static double busy_s(void)
{
    static const char name[] = "\nenclii_history_batch_seconds_sum ";
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, 1 << 20);
    ec_metrics_print(&out);
    const char *at = strstr(out.ptr, name);
    return at ? strtod(at + strlen(name), NULL) : 0;
}

/* CPU that PostgreSQL used for history's connections: whatever else runs here, this stays. */
static double database_cpu_s(struct bench *bench)
{
    return strtod(test_pg_value(bench->pg,
                                "select sum((f)[14]::numeric + (f)[15]::numeric) / 100 from (select"
                                " string_to_array(pg_read_file('/proc/' || pid || '/stat'), ' ') as"
                                " f from pg_stat_activity where application_name = 'history') x"),
                  NULL);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    bench.events = argc > 1 ? atol(argv[1]) : 100000;
    ec_log_setup("bench", EC_LOG_ERROR);
    open_all(&bench);
    for (long n = 0; n < bench.events; n++) {
        publish(&bench, n);
    }
    test_run_until(bench.loop, 60000, all_acked, &bench);
    test_kafka_close_bus(bench.kafka, bench.source);
    on_failed(NULL, history_start(&bench.hi));
    test_run_until(bench.loop, 30000, first_stored, &bench);
    long before = atol(test_pg_value(bench.pg, "select count(*) from history.event"));
    int64_t began_ms = ec_mono_ms();
    double began_cpu_s = cpu_s(), began_database_s = database_cpu_s(&bench);
    bool done = test_run_until(bench.loop, 300000, all_stored, &bench);
    double took_s = (double)(ec_mono_ms() - began_ms) / 1000;
    printf("history: %s %ld rows in %.2f s = %.0f rows/s; this process (with mock Kafka) used "
           "%.2f s of CPU\n",
           done ? "stored" : "NOT ALL STORED,", bench.seen - before, took_s,
           (double)(bench.seen - before) / took_s, cpu_s() - began_cpu_s);
    double database_s = database_cpu_s(&bench) - began_database_s;
    printf("  CPU of PostgreSQL for it: %.2f s; %.0f rows per second of CPU, all together\n",
           database_s, (double)(bench.seen - before) / (database_s + cpu_s() - began_cpu_s));
    printf("  storing alone: %.0f rows/s\n", (double)bench.events / busy_s());
    printf("  %s bytes per row with its indexes\n",
           test_pg_value(bench.pg, "select (sum(pg_total_relation_size(inhrelid)) / (select "
                                   "count(*) from history.event))::int from pg_inherits where "
                                   "inhparent = 'history.event'::regclass"));
    history_stop(&bench.hi);
    test_run_until(bench.loop, 5000, test_is_true, &bench.stopped);
    test_kafka_close_bus(bench.kafka, bench.bus);
    ec_store_close(bench.store, set_true, &bench.closed);
    test_run_until(bench.loop, 5000, test_is_true, &bench.closed);
    test_kafka_stop(bench.kafka);
    ec_loop_free(bench.loop);
    test_pg_free(bench.pg);
    return done ? 0 : 1;
}
