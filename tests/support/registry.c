/* Starts and stops docker-registry for tests. Blocking on purpose: tests wait for it. */
#include "support/registry.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

#define PROGRAM "/usr/bin/docker-registry"

struct test_registry {
    char dir[64];
    char host[32];
    int port;
    pid_t pid;
};

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int free_port(void)
{
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        abort();
    }
    close(fd);
    return ntohs(address.sin_port);
}

static bool answers(int port)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return good;
}

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
    for (int i = 0; i < 500 && !answers(registry->port); i++) {
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
    registry->port = free_port();
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
