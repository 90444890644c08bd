/* Starts and stops docker-registry for tests. Blocking on purpose: tests wait for it. */
#include "support/registry.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/port.h"

#define PROGRAM "/usr/bin/docker-registry"

struct test_registry {
    char dir[64];
    char host[32];
    int port;
    pid_t pid;
};

static void write_config(const struct test_registry *registry, bool with_password)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/config.yml", registry->dir);
    FILE *file = fopen(path, "w");
    fprintf(file,
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            "storage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}\n"
            "http: {addr: \"127.0.0.1:%d\"}\n",
            registry->dir, registry->port);
    if (with_password) {
        fprintf(file, "auth: {htpasswd: {realm: test, path: %s/htpasswd}}\n", registry->dir);
    }
    fclose(file);
    snprintf(path, sizeof(path), "%s/htpasswd", registry->dir);
    file = fopen(path, "w");
    fputs("user:$2b$04$TOu1hLfMLnVLcvdp3z53KuVyaVKHJgIq9DXFahPP3PQXl1WQFwtEG\n", file);
    fclose(file);
}

void test_registry_up(struct test_registry *registry)
{
    char config[128];
    snprintf(config, sizeof(config), "%s/config.yml", registry->dir);
    registry->pid = fork();
    if (registry->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout)) {
            _exit(126);
        }
        execl(PROGRAM, PROGRAM, "serve", config, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 500 && !test_port_answers(registry->port); i++) {
        usleep(10000);
    }
}

void test_registry_down(struct test_registry *registry)
{
    kill(registry->pid, SIGKILL);
    waitpid(registry->pid, NULL, 0);
}

struct test_registry *test_registry_start(bool with_password)
{
    if (access(PROGRAM, X_OK) != 0) {
        return NULL;
    }
    struct test_registry *registry = ec_alloc(sizeof(*registry));
    strcpy(registry->dir, "/tmp/enclii-registry-XXXXXX");
    if (!mkdtemp(registry->dir)) {
        abort();
    }
    registry->port = test_free_port();
    snprintf(registry->host, sizeof(registry->host), "127.0.0.1:%d", registry->port);
    write_config(registry, with_password);
    test_registry_up(registry);
    return registry;
}

void test_registry_free(struct test_registry *registry)
{
    if (!registry) {
        return;
    }
    test_registry_down(registry);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", registry->dir);
    if (system(command) != 0) {
        fprintf(stderr, "%s stays\n", registry->dir);
    }
    free(registry);
}

const char *test_registry_host(const struct test_registry *registry)
{
    return registry->host;
}
