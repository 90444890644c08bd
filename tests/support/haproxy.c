/* See haproxy.h. */
#include "support/haproxy.h"

#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/kafka.h"
#include "support/port.h"

#define PROGRAM "/usr/sbin/haproxy"
#define ADDRESS_AT 73 /* columns of `show stat` */
#define WEIGHT_AT 18

static bool answers(void *port)
{
    return test_port_answers(*(int *)port);
}

static FILE *file_in(const struct test_haproxy *hap, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", hap->dir, name);
    FILE *file = fopen(path, "we");
    if (!file) {
        perror(path);
        abort();
    }
    return file;
}

void test_haproxy_again(struct test_haproxy *hap)
{
    char path[96];
    snprintf(path, sizeof path, "%s/haproxy.cfg", hap->dir);
    hap->pid = fork();
    if (hap->pid == 0) {
        execl(PROGRAM, "haproxy", "-q", "-db", "-f", path, (char *)NULL);
        _exit(127);
    }
    if (!test_run_until(hap->loop, 5000, answers, &hap->port)) {
        fprintf(stderr, "HAProxy does not start\n");
        abort();
    }
}

bool test_haproxy_start(struct test_haproxy *hap, struct ec_loop *loop, const char *dir, int pool)
{
    *hap = (struct test_haproxy){.loop = loop, .dir = dir, .port = test_free_port()};
    snprintf(hap->socket_path, sizeof hap->socket_path, "%s/haproxy.sock", dir);
    if (access(PROGRAM, X_OK) != 0) {
        return false;
    }
    fclose(file_in(hap, "hosts.map"));
    FILE *config = file_in(hap, "haproxy.cfg");
    fprintf(
        config,
        "global\n stats socket %s mode 600 level admin\n"
        "defaults\n mode http\n timeout connect 1s\n timeout client 9s\n timeout server 9s\n"
        "frontend f\n bind 127.0.0.1:%d\n use_backend %%[str(x/),map_str(%s/hosts.map,be_none)]\n"
        "backend be_none\n http-request return status 404\n",
        hap->socket_path, hap->port, dir);
    for (int i = 0; i < pool; i++) {
        fprintf(config, "backend be_%03d\n balance roundrobin\n", i);
    }
    fclose(config);
    test_haproxy_again(hap);
    return true;
}

void test_haproxy_end(struct test_haproxy *hap)
{
    if (hap->pid > 0) {
        kill(hap->pid, SIGKILL);
        waitpid(hap->pid, NULL, 0);
        unlink(hap->socket_path);
        hap->pid = 0;
    }
}

void test_haproxy_shown(const struct test_haproxy *hap, const char *server, char *ret_text,
                        size_t size)
{
    char command[160], line[2048];
    snprintf(command, sizeof command, "echo 'show stat -1 4 -1' | socat - UNIX-CONNECT:%s",
             hap->socket_path);
    snprintf(ret_text, size, "%s", "");
    FILE *pipe = popen(command, "re");
    while (pipe && fgets(line, sizeof line, pipe) != NULL) {
        char *rest = line, *fields[ADDRESS_AT + 1] = {0};
        for (int i = 0; i <= ADDRESS_AT && rest != NULL; i++) {
            fields[i] = strsep(&rest, ",");
        }
        if (fields[ADDRESS_AT] != NULL && strcmp(fields[1], server) == 0) {
            snprintf(ret_text, size, "%s %s", fields[ADDRESS_AT], fields[WEIGHT_AT]);
        }
    }
    if (pipe) {
        pclose(pipe);
    }
}
