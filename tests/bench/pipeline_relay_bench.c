/* The relay and the memory of a pipeline process that runs beside this program, on a durable
 * PostgreSQL (fsync) and the mock Kafka cluster in this program:
 *   relay    rows that wait in the outbox until all are published and deleted
 *   latency  from the commit of an outbox row to a consumer of its topic
 *   memory   of the process while it works off a backlog of events
 *
 *   TEST_PG_REAL=1 pipeline_relay_bench [rows] [events]
 */
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/deployment.pb-c.h"
#include "support/kafka.h"
#include "support/pg.h"
#include "support/pipeline_process.h"

#define LATENCY_ROWS 1000
#define LATENCY_GAP_US 5000
#define KEYS 5000
#define UNKNOWN "00000000-0000-4000-8000-00000000dead"

struct bench {
    struct ec_consumer *watch; /* of enclii.domains */
    struct test_pg *pg;
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    PGconn *conn;
    pid_t pid; /* of pipeline */
    char log[64];
    long events, acked;
    int64_t sent_us[LATENCY_ROWS]; /* when the row was committed */
    double took_ms[LATENCY_ROWS];
    long received;
    const char *sql; /* what is waited for */
    int64_t looked_ms;
    bool so;
};

static double cpu_s(pid_t pid)
{
    char path[64], text[1024] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    const char *rest = len > 0 ? strrchr(text, ')') : NULL;
    if (rest) {
        sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    }
    if (file) {
        fclose(file);
    }
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static long rss_kib(pid_t pid)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%*d %ld", &pages) != 1) {
        pages = 0;
    }
    if (file) {
        fclose(file);
    }
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static const char *ask(struct bench *bench, const char *sql)
{
    static char value[64];
    PGresult *result = PQexec(bench->conn, sql);
    snprintf(value, sizeof value, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    if (PQresultStatus(result) == PGRES_FATAL_ERROR) {
        fprintf(stderr, "%s\n%s\n", sql, PQerrorMessage(bench->conn));
        exit(1);
    }
    PQclear(result);
    return value;
}

static bool is_so(void *arg)
{
    struct bench *bench = arg;
    if (!bench->so && ec_mono_ms() - bench->looked_ms >= 50) {
        bench->looked_ms = ec_mono_ms();
        bench->so = strcmp(ask(bench, bench->sql), "t") == 0;
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

static struct ec_err on_row(void *state, struct ec_event *ev)
{
    struct bench *bench = state;
    int n = atoi(ec_event_key(ev) + 1);
    if (ec_event_key(ev)[0] == 'l' && n < LATENCY_ROWS) {
        bench->took_ms[n] = (double)(ec_mono_us() - bench->sent_us[n]) / 1000;
        bench->received++;
    }
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static void open_all(struct bench *bench)
{
    static const char *const topics[] = {EC_TOPIC_DOMAINS, NULL};
    static const struct ec_route routes[] = {{NULL, NULL, on_row}};
    bench->pg = test_pg_start();
    bench->loop = ec_loop_new();
    bench->kafka =
        test_kafka_start(bench->loop, "enclii.intake:1", "enclii.requests:1",
                         "enclii.build.events:6", "enclii.builders:1", "enclii.release.events:1",
                         "enclii.deployment.events:128", "enclii.domain.events:1",
                         "enclii.build.commands:1", "enclii.desired:1", "enclii.domains:1", NULL);
    bench->bus = test_kafka_bus(bench->kafka, "bench");
    struct ec_span url = ec_secret_use(test_pg_url(bench->pg));
    char *text = ec_strndup(url.ptr, url.len);
    bench->conn = PQconnectdb(text);
    free(text);
    snprintf(bench->log, sizeof bench->log, "/tmp/pipeline_relay_bench.%d.log", (int)getpid());
    struct ec_err err = ec_bus_consume(
        bench->bus,
        &(struct ec_consume_spec){
            .group = "watch", .topics = topics, .routes = routes, .route_count = 1, .state = bench},
        &bench->watch);
    if (ec_failed(err)) {
        exit(1);
    }
    bench->pid = test_pipeline_start(bench->pg, bench->kafka, bench->log);
    wait_for(bench, "select to_regclass('enclii.dead_letter') is not null");
    wait_for(bench, "select exists (select 1 from pg_locks where locktype = 'advisory')");
}

/* ---- parts ---- */

static void relay(struct bench *bench, long rows)
{
    char sql[400];
    kill(bench->pid, SIGSTOP); /* the backlog comes before the relay */
    snprintf(sql, sizeof sql,
             "insert into enclii.outbox (topic, key, type, event_id, body) select "
             "'enclii.build.events', 'k' || n %% %d, 'dev.enclii.bench.v1', gen_random_uuid(), "
             "convert_to(repeat('x', 300), 'UTF8') from generate_series(1, %ld) n",
             KEYS, rows);
    ask(bench, sql);
    double began_s = cpu_s(bench->pid);
    int64_t began_ms = ec_mono_ms();
    kill(bench->pid, SIGCONT);
    wait_for(bench, "select not exists (select 1 from enclii.outbox)");
    double took_s = (double)(ec_mono_ms() - began_ms) / 1000;
    double used_s = cpu_s(bench->pid) - began_s;
    printf("relay: %ld rows of %d keys published and deleted in %.2f s = %.0f rows/s; "
           "%.0f rows per CPU-second of pipeline\n",
           rows, KEYS, took_s, (double)rows / took_s, (double)rows / used_s);
}

static bool all_received(void *arg)
{
    return ((const struct bench *)arg)->received == LATENCY_ROWS;
}

static bool watches(void *arg)
{
    return ec_consumer_assigned(((const struct bench *)arg)->watch);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void latency(struct bench *bench)
{
    test_run_until(bench->loop, 10000, watches, bench); /* the mock cluster lets groups wait 3 s */
    test_run_for(bench->loop, 500);
    for (int n = 0; n < LATENCY_ROWS; n++) {
        char sql[200];
        int64_t due_us = ec_mono_us() + LATENCY_GAP_US;
        snprintf(sql, sizeof sql,
                 "insert into enclii.outbox (topic, key, type, event_id, body) values "
                 "('enclii.domains', 'l%d', 'dev.enclii.bench.v1', 'l%d', 'x')",
                 n, n);
        ask(bench, sql);
        bench->sent_us[n] = ec_mono_us();
        while (ec_mono_us() < due_us) {
            test_run_for(bench->loop, 1);
        }
    }
    test_run_until(bench->loop, 10000, all_received, bench);
    qsort(bench->took_ms, LATENCY_ROWS, sizeof bench->took_ms[0], by_size);
    printf("latency, commit of an outbox row to its consumer, %ld of %d rows, one per %d ms: "
           "p50 %.1f ms, p99 %.1f ms, max %.1f ms\n",
           bench->received, LATENCY_ROWS, LATENCY_GAP_US / 1000, bench->took_ms[LATENCY_ROWS / 2],
           bench->took_ms[LATENCY_ROWS * 99 / 100], bench->took_ms[LATENCY_ROWS - 1]);
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

static bool some_acked(void *arg)
{
    const struct bench *bench = arg;
    return bench->acked > bench->events - 2000;
}

/* Words about a deployment that does not exist: they cost the way in and the offsets, no more. */
static void publish_backlog(struct bench *bench, long count)
{
    char key[EC_ID_SIZE], id[] = UNKNOWN;
    Enclii__V1__DeploymentStatus body;
    enclii__v1__deployment_status__init(&body);
    body.deployment_id = id;
    for (long n = 0; n < count; n++) {
        snprintf(key, sizeof key, "00000000-0000-4000-8000-%012ld", n % 10000);
        struct ec_id event_id = ec_id_new();
        struct ec_message message = {.topic = EC_TOPIC_DEPLOYMENT_EVENTS,
                                     .key = key,
                                     .type = "dev.enclii.deployment.status.v1",
                                     .id = event_id.text,
                                     .body = &body.base};
        while (ec_failed(ec_bus_publish(bench->bus, &message, on_acked, bench))) {
            test_run_within(bench->loop, 10, some_acked, bench);
        }
        bench->events++;
    }
    test_run_until(bench->loop, 60000, all_acked, bench);
}

static void memory(struct bench *bench, long count)
{
    char sql[200];
    long idle_kib = rss_kib(bench->pid), most_kib = 0;
    kill(bench->pid, SIGSTOP);
    publish_backlog(bench, count);
    double began_s = cpu_s(bench->pid);
    kill(bench->pid, SIGCONT);
    int64_t began_ms = ec_mono_ms(), looked_ms = 0;
    snprintf(sql, sizeof sql,
             "select coalesce(sum(next), 0) from enclii.consumed where topic = '%s'",
             EC_TOPIC_DEPLOYMENT_EVENTS);
    while (atol(ask(bench, sql)) < count && ec_mono_ms() - began_ms < 300000) {
        test_run_for(bench->loop, 100);
        long now_kib = rss_kib(bench->pid);
        most_kib = now_kib > most_kib ? now_kib : most_kib;
        if (ec_mono_ms() - looked_ms > 5000) {
            looked_ms = ec_mono_ms();
            printf("  %5.1f s: %s events, resident %ld KiB\n",
                   (double)(looked_ms - began_ms) / 1000, ask(bench, sql), now_kib);
        }
    }
    double took_s = (double)(ec_mono_ms() - began_ms) / 1000;
    printf("backlog: %ld events in %.1f s = %.0f/s; %.0f per CPU-second of pipeline; resident "
           "%ld KiB before, %ld KiB at most\n",
           count, took_s, (double)count / took_s, (double)count / (cpu_s(bench->pid) - began_s),
           idle_kib, most_kib);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    long rows = argc > 1 ? atol(argv[1]) : 100000;
    long events = argc > 2 ? atol(argv[2]) : 1000000;
    ec_log_setup("bench", EC_LOG_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    open_all(&bench);
    relay(&bench, rows);
    latency(&bench);
    memory(&bench, events);
    kill(bench.pid, SIGTERM);
    waitpid(bench.pid, NULL, 0);
    PQfinish(bench.conn);
    test_kafka_close_bus(bench.kafka, bench.bus);
    test_kafka_stop(bench.kafka);
    ec_loop_free(bench.loop);
    test_pg_free(bench.pg);
    unlink(bench.log);
    return 0;
}
