/* See pipeline.h. */
#include "support/pipeline_process.h"

#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void become(const char *program, const char *const *env, const char *log)
{
    char self[512] = "", path[600];
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) {
        _exit(127);
    }
    snprintf(path, sizeof path, "%s/../../bin/%s", dirname(self), program);
    for (; env[0]; env += 2) {
        setenv(env[0], env[1], 1);
    }
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(path, path, NULL);
    _exit(127);
}

pid_t test_program_start(const char *program, const char *const *env, const char *log)
{
    pid_t pid = fork();
    if (pid == 0) {
        become(program, env, log);
    }
    return pid;
}

pid_t test_pipeline_start(const struct test_pg *pg, const struct test_kafka *kafka, const char *log)
{
    char url[256];
    struct ec_span secret = ec_secret_use(test_pg_url(pg));
    snprintf(url, sizeof url, "%.*s", (int)secret.len, secret.ptr);
    const char *const env[] = {"ENCLII_KAFKA_BROKERS",
                               test_kafka_brokers(kafka),
                               "ENCLII_KAFKA_FETCH_WAIT",
                               "10ms",
                               "ENCLII_DATABASE_URL",
                               url,
                               "ENCLII_REGISTRY",
                               "127.0.0.1:5000",
                               NULL};
    return test_program_start("enclii-pipeline", env, log);
}
