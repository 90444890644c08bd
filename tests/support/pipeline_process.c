/* See pipeline.h. */
#include "support/pipeline_process.h"

#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void become_pipeline(const struct test_pg *pg, const struct test_kafka *kafka,
                            const char *log)
{
    char self[512] = "", path[600], url[256];
    struct ec_span secret = ec_secret_use(test_pg_url(pg));
    snprintf(url, sizeof url, "%.*s", (int)secret.len, secret.ptr);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) {
        _exit(127);
    }
    snprintf(path, sizeof path, "%s/../../bin/enclii-pipeline", dirname(self));
    setenv("ENCLII_KAFKA_BROKERS", test_kafka_brokers(kafka), 1);
    setenv("ENCLII_KAFKA_FETCH_WAIT", "10ms", 1);
    setenv("ENCLII_DATABASE_URL", url, 1);
    setenv("ENCLII_REGISTRY", "127.0.0.1:5000", 1);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(path, path, NULL);
    _exit(127);
}

pid_t test_pipeline_start(const struct test_pg *pg, const struct test_kafka *kafka, const char *log)
{
    pid_t pid = fork();
    if (pid == 0) {
        become_pipeline(pg, kafka, log);
    }
    return pid;
}
