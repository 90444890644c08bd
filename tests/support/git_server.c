/* See git_server.h. */
#include "support/git_server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/port.h"

#define NGINX "/usr/sbin/nginx"
#define FCGIWRAP "/usr/sbin/fcgiwrap"
#define BACKEND "/usr/lib/git-core/git-http-backend"

struct test_git_server {
    char dir[64], root[80], host[32];
    pid_t nginx, cgi;
    int port;
};

static const char config[] =
    "daemon off;\nmaster_process off;\nworker_processes 1;\npid %1$s/pid;\nerror_log stderr crit;\n"
    "events { worker_connections 64; }\n"
    "http {\n"
    "    log_format short '$status $request_method $uri';\n"
    "    access_log %1$s/access.log short;\n"
    "    client_body_temp_path %1$s/t1; fastcgi_temp_path %1$s/t2; proxy_temp_path %1$s/t3;\n"
    "    uwsgi_temp_path %1$s/t4; scgi_temp_path %1$s/t5;\n"
    "    server {\n"
    "        listen %2$s;\n"
    "        auth_basic private; auth_basic_user_file %1$s/htpasswd;\n"
    "        include %1$s/moved*.conf;\n"
    "        location / {\n"
    "            fastcgi_pass unix:%1$s/cgi.sock;\n"
    "            fastcgi_param SCRIPT_FILENAME " BACKEND ";\n"
    "            fastcgi_param PATH_INFO $uri;\n"
    "            fastcgi_param GIT_PROJECT_ROOT %1$s/root;\n"
    "            fastcgi_param GIT_HTTP_EXPORT_ALL 1;\n"
    "            fastcgi_param GIT_PROTOCOL $http_git_protocol;\n"
    "            fastcgi_param REQUEST_METHOD $request_method;\n"
    "            fastcgi_param QUERY_STRING $query_string;\n"
    "            fastcgi_param CONTENT_TYPE $content_type;\n"
    "            fastcgi_param CONTENT_LENGTH $content_length;\n"
    "            fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;\n"
    "        }\n"
    "    }\n"
    "}\n";

static void write_file(const struct test_git_server *server, const char *name, const char *format,
                       const char *a, const char *b)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", server->dir, name);
    FILE *file = fopen(path, "w");
    if (!file) {
        abort();
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    fprintf(file, format, a, b);
#pragma GCC diagnostic pop
    fclose(file);
}

static pid_t run(const char *const *argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return pid;
}

static void start_nginx(struct test_git_server *server)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/nginx.conf", server->dir);
    server->nginx =
        run((const char *const[]){NGINX, "-p", server->dir, "-c", path, "-e", "stderr", NULL});
    for (int i = 0; i < 500 && !test_port_answers(server->port); i++) {
        usleep(10000);
    }
}

struct test_git_server *test_git_server_start(const char *user, const char *password)
{
    if (access(NGINX, X_OK) != 0 || access(FCGIWRAP, X_OK) != 0 || access(BACKEND, X_OK) != 0) {
        return NULL;
    }
    struct test_git_server *server = ec_alloc(sizeof(*server));
    int port = server->port = test_free_port();
    char socket_arg[96];
    snprintf(server->dir, sizeof(server->dir), "/tmp/enclii-git-XXXXXX");
    if (!mkdtemp(server->dir)) {
        abort();
    }
    snprintf(server->host, sizeof(server->host), "127.0.0.1:%d", port);
    snprintf(server->root, sizeof(server->root), "%s/root", server->dir);
    mkdir(server->root, 0700);
    write_file(server, "nginx.conf", config, server->dir, server->host);
    write_file(server, "htpasswd", "%s:{PLAIN}%s\n", user, password);
    snprintf(socket_arg, sizeof(socket_arg), "unix:%s/cgi.sock", server->dir);
    server->cgi = run((const char *const[]){FCGIWRAP, "-c", "1", "-s", socket_arg, NULL});
    start_nginx(server);
    return server;
}

void test_git_server_redirect(struct test_git_server *server, const char *from, const char *to)
{
    char rule[200];
    snprintf(rule, sizeof(rule), "rewrite ^%s(/.*)$ http://%s%s$1 permanent;\n", from, server->host,
             to);
    write_file(server, "moved.conf", "%s%s", rule, "");
    kill(server->nginx, SIGKILL);
    waitpid(server->nginx, NULL, 0);
    start_nginx(server);
}

void test_git_server_free(struct test_git_server *server)
{
    char command[128];
    if (!server) {
        return;
    }
    kill(server->nginx, SIGKILL);
    kill(server->cgi, SIGKILL); /* one process: it has no children but the request's */
    waitpid(server->nginx, NULL, 0);
    waitpid(server->cgi, NULL, 0);
    snprintf(command, sizeof(command), "rm -rf %s", server->dir);
    if (system(command) != 0) {
        abort();
    }
    free(server);
}

const char *test_git_server_host(const struct test_git_server *server)
{
    return server->host;
}

const char *test_git_server_root(const struct test_git_server *server)
{
    return server->root;
}

const char *test_git_server_log(const struct test_git_server *server)
{
    static char text[65536];
    char path[128];
    snprintf(path, sizeof(path), "%s/access.log", server->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    text[len > 0 ? len : 0] = '\0';
    if (fd >= 0) {
        close(fd);
    }
    return text;
}
