/* Real pipeline processes on one database: who leads when the leader is killed, what a kill between
 * publishing and deleting costs, the order of rows whose transactions overlap, a rolling restart
 * while pushes come. PostgreSQL is real, Kafka the mock cluster in this program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "support/kafka.h"
#include "support/pg.h"
#include "support/pipeline_process.h"

#define SERVICES 20
#define SEEN_MAX 4096

struct fixture {
    struct test_pg *pg;
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    char folder[64]; /* of the processes' logs */
    pid_t pids[8];
    char logs[8][96];
    unsigned started;
    int pushed;
    char seen[SEEN_MAX][40]; /* ids on enclii.domains, in order */
    size_t seen_count;
    const char *sql; /* what becomes() waits for */
    int64_t looked_ms;
    bool so;
};

/* ---- processes ---- */

static unsigned start_pipeline(struct fixture *fix)
{
    unsigned at = fix->started++;
    assert_true(at < EC_LEN(fix->pids));
    snprintf(fix->logs[at], sizeof fix->logs[at], "%s/log%u", fix->folder, at);
    fix->pids[at] = test_pipeline_start(fix->pg, fix->kafka, fix->logs[at]);
    return at;
}

/* Gives the exit status, or -1 when a signal ended it. */
static int end_pipeline(struct fixture *fix, unsigned at, int signal)
{
    int status = 0;
    kill(fix->pids[at], signal);
    assert_int_equal(waitpid(fix->pids[at], &status, 0), fix->pids[at]);
    fix->pids[at] = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool log_says(const struct fixture *fix, unsigned at, const char *text)
{
    static char log[1 << 20];
    int fd = open(fix->logs[at], O_RDONLY);
    ssize_t len = fd < 0 ? 0 : read(fd, log, sizeof log - 1);
    close(fd);
    log[len > 0 ? len : 0] = 0;
    return strstr(log, text) != NULL;
}

static void end_all(struct fixture *fix)
{
    for (unsigned at = 0; at < fix->started; at++) {
        if (fix->pids[at] > 0) {
            end_pipeline(fix, at, SIGKILL);
        }
    }
    fix->started = 0;
}

/* ---- looking ---- */

static bool is_so(void *arg)
{
    struct fixture *fix = arg;
    if (!fix->so && ec_mono_ms() - fix->looked_ms >= 15) {
        fix->looked_ms = ec_mono_ms();
        fix->so = strcmp(test_pg_value(fix->pg, fix->sql), "t") == 0;
    }
    return fix->so;
}

static void becomes_true(struct fixture *fix, const char *sql, int within_ms)
{
    fix->sql = sql;
    fix->so = false;
    if (!test_run_until(fix->loop, within_ms, is_so, fix)) {
        fail_msg("not within %d ms: %s (log in %s)", within_ms, sql, fix->folder);
    }
}

static struct ec_err on_any(void *state, struct ec_event *ev)
{
    struct fixture *fix = state;
    if (fix->seen_count < SEEN_MAX) {
        snprintf(fix->seen[fix->seen_count++], sizeof fix->seen[0], "%s", ec_event_id(ev));
    }
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

struct count_wait {
    const struct fixture *fix;
    size_t count;
};

static bool has_seen(void *arg)
{
    const struct count_wait *wait = arg;
    return wait->fix->seen_count >= wait->count;
}

static void sees(struct fixture *fix, size_t count)
{
    struct count_wait wait = {fix, count};
    if (!test_run_until(fix->loop, 10000, has_seen, &wait)) {
        fail_msg("%zu records came, not %zu", fix->seen_count, count);
    }
}

/* ---- set up ---- */

static int set_up(void **state)
{
    static const char *const topics[] = {EC_TOPIC_DOMAINS, NULL};
    static const struct ec_route routes[] = {{NULL, NULL, on_any}};
    struct test_pg *pg = test_pg_start();
    if (!pg) {
        return 0;
    }
    struct fixture *fix = ec_alloc(sizeof *fix);
    fix->pg = pg;
    snprintf(fix->folder, sizeof fix->folder, "/tmp/enclii-test-pl-XXXXXX");
    assert_non_null(mkdtemp(fix->folder));
    fix->loop = ec_loop_new();
    fix->kafka =
        test_kafka_start(fix->loop, "enclii.intake:4", "enclii.requests:2", "enclii.build.events:4",
                         "enclii.builders:1", "enclii.release.events:2",
                         "enclii.deployment.events:2", "enclii.domain.events:1",
                         "enclii.build.commands:2", "enclii.desired:2", "enclii.domains:1", NULL);
    fix->bus = test_kafka_bus(fix->kafka, "test");
    assert_false(ec_failed(ec_bus_consume(
        fix->bus,
        &(struct ec_consume_spec){
            .group = "watch", .topics = topics, .routes = routes, .route_count = 1, .state = fix},
        NULL)));
    start_pipeline(fix);
    becomes_true(fix, "select to_regclass('enclii.outbox') is not null", 10000);
    becomes_true(fix, "select exists (select 1 from pg_locks where locktype = 'advisory')", 10000);
    test_pg_sql(pg, "insert into enclii.project (id, slug, name) values (gen_random_uuid(), 'p', "
                    "'p'); insert into enclii.service (id, project_id, name, repo_key, repo_url, "
                    "spec) select gen_random_uuid(), (select id from enclii.project), 's' || n, "
                    "'h/r' || n, 'http://h/x', '' from generate_series(0, 19) n");
    *state = fix;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        return 0;
    }
    end_all(fix);
    test_kafka_close_bus(fix->kafka, fix->bus);
    test_kafka_stop(fix->kafka);
    ec_loop_free(fix->loop);
    test_pg_free(fix->pg);
    for (unsigned at = 0; at < EC_LEN(fix->logs); at++) {
        unlink(fix->logs[at]);
    }
    rmdir(fix->folder);
    free(fix);
    return 0;
}

static void push(struct fixture *fix)
{
    char repo[32], sha[41], delivery[32], branch[] = "refs/heads/main";
    int n = fix->pushed++;
    Enclii__V1__PushReceived body;
    Enclii__V1__Commit head;
    enclii__v1__push_received__init(&body);
    enclii__v1__commit__init(&head);
    snprintf(repo, sizeof repo, "h/r%d", n % SERVICES);
    snprintf(sha, sizeof sha, "%040d", n);
    snprintf(delivery, sizeof delivery, "d%d", n);
    head.sha = body.after = sha;
    head.ref = body.ref = branch;
    body.head = &head;
    body.repo_key = repo;
    body.delivery_id = delivery;
    struct ec_id id = ec_id_derive(delivery, "push");
    test_kafka_publish(fix->kafka, fix->bus,
                       &(struct ec_message){.topic = EC_TOPIC_INTAKE,
                                            .key = repo,
                                            .type = "dev.enclii.push.received.v1",
                                            .id = id.text,
                                            .body = &body.base});
}

/* Every push is one delivery with one build, and the last of each service is not superseded. */
static void all_decided_once(struct fixture *fix, int within_ms)
{
    char sql[512];
    snprintf(sql, sizeof sql, "select count(*) = %d from enclii.delivery", fix->pushed);
    becomes_true(fix, sql, within_ms);
    snprintf(sql, sizeof sql,
             "select count(*) = %d and count(distinct commit_sha) = %d and bool_and(number = place)"
             " from (select *, row_number() over (partition by service_id order by commit_sha) as "
             "place from enclii.build) b",
             fix->pushed, fix->pushed);
    assert_string_equal(test_pg_value(fix->pg, sql), "t");
    assert_string_equal(test_pg_value(fix->pg, "select sum(duplicates) from enclii.delivery"), "0");
    becomes_true(fix, "select not exists (select 1 from enclii.outbox)", within_ms);
}

#define OUTBOX(key, id)                                                                            \
    "insert into enclii.outbox (topic, key, type, event_id, body) values ('enclii.domains', '" key \
    "', 'dev.enclii.test.v1', '" id "', 'x')"

/* ---- tests ---- */

static void test_the_leader_is_killed(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    unsigned second = start_pipeline(fix);
    for (int n = 0; n < 40; n++) {
        push(fix);
    }
    all_decided_once(fix, 40000);
    unsigned leader = log_says(fix, 0, "leader.gained") ? 0 : second;
    int64_t killed_ms = ec_mono_ms();
    end_pipeline(fix, leader, SIGKILL);
    test_pg_sql(fix->pg, OUTBOX("t", "after-the-kill"));
    sees(fix, 1); /* the successor's relay has it */
    long long took_ms = ec_mono_ms() - killed_ms;
    print_message("takeover took %lld ms\n", took_ms);
    assert_true(took_ms < 10000);
    /* Its partitions come to the other one when its session has timed out. */
    for (int n = 0; n < 40; n++) {
        push(fix);
    }
    all_decided_once(fix, 40000);
}

static void test_rolling_restart_while_pushes_come(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    unsigned old = fix->pids[0] > 0 ? 0 : 1;
    for (int n = 0; n < 20; n++) {
        push(fix);
    }
    start_pipeline(fix);
    for (int n = 0; n < 20; n++) {
        push(fix);
    }
    int64_t began_ms = ec_mono_ms();
    assert_int_equal(end_pipeline(fix, old, SIGTERM), 0);
    print_message("a stop took %lld ms\n", (long long)(ec_mono_ms() - began_ms));
    assert_true(ec_mono_ms() - began_ms < 9000);
    for (int n = 0; n < 20; n++) {
        push(fix);
    }
    all_decided_once(fix, 40000);
}

/* Two sessions: the smaller id is committed last. */
static void test_rows_of_overlapping_transactions_keep_their_order(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    struct ec_span url = ec_secret_use(test_pg_url(fix->pg));
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)url.len, url.ptr);
    PGconn *slow = PQconnectdb(text);
    size_t before = fix->seen_count;
    PQclear(PQexec(slow, "begin"));
    PQclear(PQexec(slow, OUTBOX("gap", "gap-1")));
    test_pg_sql(fix->pg, OUTBOX("gap", "gap-2"));
    test_run_for(fix->loop, 500);
    assert_int_equal(fix->seen_count, before); /* the second waits for the first */
    PQclear(PQexec(slow, OUTBOX("gap", "gap-3")));
    PQclear(PQexec(slow, "commit"));
    PQfinish(slow);
    sees(fix, before + 3);
    assert_string_equal(fix->seen[before], "gap-1");
    assert_string_equal(fix->seen[before + 1], "gap-2");
    assert_string_equal(fix->seen[before + 2], "gap-3");
    becomes_true(fix, "select not exists (select 1 from enclii.outbox)", 5000);
}

/* The relay has published, its delete hangs on a lock, and it dies: its successor publishes the
 * same rows again, under the same ids and in the same order, and deletes them. */
static void test_killed_between_publish_and_delete(void **state)
{
    struct fixture *fix = *state;
    if (!fix) {
        skip();
    }
    end_all(fix);
    struct ec_span url = ec_secret_use(test_pg_url(fix->pg));
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)url.len, url.ptr);
    size_t before = fix->seen_count;
    for (int n = 1; n <= 5; n++) {
        char sql[256];
        snprintf(sql, sizeof sql, OUTBOX("kill", "kill-%d"), n);
        test_pg_sql(fix->pg, sql);
    }
    PGconn *lock = PQconnectdb(text);
    PQclear(PQexec(lock, "begin"));
    PQclear(PQexec(lock, "lock table enclii.outbox in share mode")); /* reads go, deletes wait */
    unsigned first = start_pipeline(fix);
    sees(fix, before + 5);
    becomes_true(
        fix, "select exists (select 1 from pg_stat_activity where wait_event_type = 'Lock')", 5000);
    end_pipeline(fix, first, SIGKILL);
    test_pg_sql(fix->pg, "select pg_terminate_backend(pid) from pg_stat_activity where "
                         "wait_event_type = 'Lock'");
    PQclear(PQexec(lock, "rollback"));
    PQfinish(lock);
    assert_string_equal(test_pg_value(fix->pg, "select count(*) from enclii.outbox"), "5");
    start_pipeline(fix);
    sees(fix, before + 10);
    for (size_t n = 0; n < 10; n++) {
        char id[16];
        snprintf(id, sizeof id, "kill-%zu", n % 5 + 1);
        assert_string_equal(fix->seen[before + n], id);
    }
    becomes_true(fix, "select not exists (select 1 from enclii.outbox)", 5000);
}

int main(void)
{
    ec_log_setup("test", EC_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_leader_is_killed),
        cmocka_unit_test(test_rolling_restart_while_pushes_come),
        cmocka_unit_test(test_rows_of_overlapping_transactions_keep_their_order),
        cmocka_unit_test(test_killed_between_publish_and_delete),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
