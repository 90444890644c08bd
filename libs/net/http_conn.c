/* Connections: who is there, what it asks for, and the end of those that send too slowly. */
#include "net/http_private.h"

#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"

static void conn_open(struct ec_http_server *server, struct MHD_Connection *mhd, void **socket_arg)
{
    struct ec_http_conn *conn = ec_alloc(sizeof(*conn));
    conn->server = server;
    conn->mhd = mhd;
    conn->since_ms = ec_mono_ms();
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info && info->client_addr) {
        socklen_t len = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                 : sizeof(struct sockaddr_in);
        getnameinfo(info->client_addr, len, conn->peer, sizeof(conn->peer), NULL, 0,
                    NI_NUMERICHOST);
    }
    conn->next = server->conns;
    if (server->conns) {
        server->conns->prev = conn;
    }
    server->conns = conn;
    *socket_arg = conn;
}

static void conn_close(struct ec_http_conn *conn)
{
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        conn->server->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    free(conn->target);
    free(conn);
}

void ec_http_on_connection(void *arg, struct MHD_Connection *mhd, void **socket_arg,
                           enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_open(arg, mhd, socket_arg);
    } else if (*socket_arg) {
        conn_close(*socket_arg);
        *socket_arg = NULL;
    }
}

struct ec_http_conn *ec_http_conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

int ec_http_conn_fd(const struct ec_http_conn *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

/* The library knows only the decoded path, where "%2F" and "%00" have done their harm already. */
void *ec_http_on_target(void *arg, const char *target, struct MHD_Connection *mhd)
{
    (void)arg;
    struct ec_http_conn *conn = ec_http_conn_of(mhd);
    if (conn) {
        free(conn->target);
        conn->target = ec_strdup(target);
    }
    return NULL;
}

/* ---- deadlines ---- */

/* The library cannot answer in the middle of a request, so the words go to the socket directly:
 * nothing of a reply has been sent on it since the last request ended. */
static void conn_time_out(struct ec_http_conn *conn)
{
    static const char text[] = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                               "Content-Length: 0\r\n\r\n";
    int fd = ec_http_conn_fd(conn);
    if (conn->target) {
        ec_metric_add(&ec_http_requests, "408", 1);
        send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    shutdown(fd, SHUT_RDWR);
    conn->since_ms = ec_mono_ms();
}

void ec_http_sweep_conns(struct ec_http_server *server, int64_t now_ms)
{
    for (struct ec_http_conn *conn = server->conns; conn; conn = conn->next) {
        if (!conn->answering && now_ms - conn->since_ms > server->spec.request_deadline_ms) {
            conn_time_out(conn);
        }
    }
}
