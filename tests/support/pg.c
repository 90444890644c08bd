/* See pg.h. initdb and postgres are started by fork and exec; everything here waits. */
#include "support/pg.h"

#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

struct test_pg {
    char bin[256]; /* folder of initdb and postgres */
    char dir[64];  /* the cluster, its socket, its log */
    char url[192];
    struct ec_secret *secret;
    const struct passwd *user; /* NULL: as ourselves */
    pid_t pid;                 /* of postgres; 0 = down */
    char value[4096];
};

static bool find_bin(char *bin, size_t size)
{
    glob_t found = {0};
    bool ok = glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) == 0;
    if (ok) {
        snprintf(bin, size, "%s", found.gl_pathv[found.gl_pathc - 1]);
        *strrchr(bin, '/') = 0;
    }
    globfree(&found);
    return ok;
}

static void become(const struct test_pg *pg)
{
    if (pg->user && (setgroups(0, NULL) || setgid(pg->user->pw_gid) || setuid(pg->user->pw_uid))) {
        _exit(126);
    }
    prctl(PR_SET_PDEATHSIG, SIGQUIT); /* after setuid, which clears it */
}

static pid_t start(const struct test_pg *pg, const char *program, char *const argv[])
{
    pid_t pid = fork();
    if (pid == 0) {
        become(pg);
        char path[512], log[128];
        snprintf(log, sizeof(log), "%s/log", pg->dir);
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        if (chdir(pg->dir)) {
            _exit(126);
        }
        snprintf(path, sizeof(path), "%s/%s", pg->bin, program);
        execv(path, argv);
        _exit(127);
    }
    return pid;
}

static void die(const struct test_pg *pg, const char *what)
{
    fprintf(stderr, "test PostgreSQL: %s; see %s/log\n", what, pg->dir);
    abort();
}

static void remove_folder(const char *dir)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    ec_ignore(system(command) ? ec_retry(0, "left behind") : ec_ok()); /* only a /tmp folder */
}

static bool answers(const struct test_pg *pg)
{
    PGconn *conn = PQconnectdb(pg->url);
    bool ok = PQstatus(conn) == CONNECTION_OK;
    PQfinish(conn);
    return ok;
}

void test_pg_up(struct test_pg *pg)
{
    char data[80];
    snprintf(data, sizeof(data), "%s/data", pg->dir);
    bool real = getenv("TEST_PG_REAL") != NULL;
    char *argv[] = {"postgres",
                    "-D",
                    data,
                    "-k",
                    pg->dir,
                    "-c",
                    "listen_addresses=",
                    "-c",
                    "fsync=off",
                    "-c",
                    "full_page_writes=off",
                    "-c",
                    "shared_buffers=16MB",
                    "-c", /* a killed test leaves nothing behind in /dev/shm */
                    "dynamic_shared_memory_type=mmap",
                    "-c",
                    "max_connections=40",
                    "-c",
                    "autovacuum=off",
                    real ? "-c" : NULL,
                    "fsync=on",
                    "-c",
                    "full_page_writes=on",
                    "-c",
                    "shared_buffers=256MB",
                    "-c",
                    "max_wal_size=4GB",
                    "-c",
                    "autovacuum=on",
                    "-c",
                    "autovacuum_naptime=5s",
                    NULL};
    pg->pid = start(pg, "postgres", argv);
    for (int tries = 0; tries < 1200; tries++) {
        if (answers(pg)) {
            return;
        }
        if (waitpid(pg->pid, NULL, WNOHANG) == pg->pid) {
            die(pg, "postgres ended");
        }
        usleep(25000);
    }
    die(pg, "postgres does not answer after 30 s");
}

void test_pg_down(struct test_pg *pg)
{
    if (pg->pid) {
        kill(pg->pid, SIGQUIT);
        waitpid(pg->pid, NULL, 0);
        pg->pid = 0;
    }
}

static void init_cluster(struct test_pg *pg)
{
    char data[80];
    snprintf(data, sizeof(data), "%s/data", pg->dir);
    char *argv[] = {"initdb", "-D", data,   "-U",          "enclii",    "-A",
                    "trust",  "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions",
                    NULL};
    int status = 0;
    waitpid(start(pg, "initdb", argv), &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        die(pg, "initdb failed");
    }
}

struct test_pg *test_pg_start(void)
{
    struct test_pg *pg = ec_alloc(sizeof(*pg));
    if (!find_bin(pg->bin, sizeof(pg->bin))) {
        free(pg);
        return NULL;
    }
    snprintf(pg->dir, sizeof(pg->dir), "/tmp/enclii-test-pg-XXXXXX");
    if (!mkdtemp(pg->dir)) {
        die(pg, "cannot make a folder below /tmp");
    }
    if (geteuid() == 0) {
        pg->user = getpwnam("postgres") ? getpwnam("postgres") : getpwnam("nobody");
        if (!pg->user || chown(pg->dir, pg->user->pw_uid, pg->user->pw_gid)) {
            die(pg, "no user to run as");
        }
    }
    snprintf(pg->url, sizeof(pg->url), "postgresql:///postgres?host=%s&user=enclii", pg->dir);
    pg->secret = ec_secret_new(ec_span_of(pg->url));
    init_cluster(pg);
    test_pg_up(pg);
    return pg;
}

void test_pg_free(struct test_pg *pg)
{
    if (pg) {
        test_pg_down(pg);
        remove_folder(pg->dir);
        ec_secret_free(pg->secret);
        free(pg);
    }
}

const struct ec_secret *test_pg_url(const struct test_pg *pg)
{
    return pg->secret;
}

const char *test_pg_value(struct test_pg *pg, const char *sql)
{
    PGconn *conn = PQconnectdb(pg->url);
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fprintf(stderr, "%s\n%s\n", sql, PQerrorMessage(conn));
        die(pg, "SQL failed");
    }
    bool any = PQntuples(result) > 0;
    snprintf(pg->value, sizeof(pg->value), "%s", any ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(conn);
    return pg->value;
}

void test_pg_sql(struct test_pg *pg, const char *sql)
{
    (void)test_pg_value(pg, sql);
}

struct migrating {
    struct ec_loop *loop;
    struct ec_store *store;
    struct ec_err err;
};

static void on_closed(void *arg)
{
    struct migrating *mig = arg;
    ec_loop_stop(mig->loop);
}

static void on_migrated(void *arg, struct ec_err err)
{
    struct migrating *mig = arg;
    if (ec_failed(err)) {
        fprintf(stderr, "migration: %s\n", err.what);
        abort();
    }
    ec_store_close(mig->store, on_closed, mig);
}

void test_pg_migrate(struct test_pg *pg, const char *schema, const struct ec_migration *migrations,
                     size_t count)
{
    struct migrating mig = {.loop = ec_loop_new()};
    struct ec_store_spec spec = {.url = pg->secret, .application_name = "test", .connections = 1};
    struct ec_err err = ec_store_open(mig.loop, &spec, &mig.store);
    if (!ec_failed(err)) {
        err = ec_store_migrate(mig.store, schema, migrations, count, on_migrated, &mig);
    }
    if (ec_failed(err)) {
        die(pg, err.what);
    }
    ec_loop_run(mig.loop);
    ec_loop_free(mig.loop);
}
