/* The listening socket of an HTTP server. Our own, because the library would set SO_REUSEPORT: then
 * a second process would silently take half of the requests instead of being told that the port is
 * taken. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/http_private.h"

static EC_RESULT listen_error(int error, const char *listen_text)
{
    static char text[256]; /* errors carry no memory of their own */
    const char *hint = error == EADDRINUSE ? "; stop the other process or choose another port"
                       : error == EINVAL   ? "; the form is 127.0.0.1:4200 or [::1]:4200"
                                           : "";
    snprintf(text, sizeof(text), "cannot listen on %s: %s%s", listen_text, strerror(error), hint);
    return ec_fatal(error, text);
}

/* No name is looked up: that would wait. */
static EC_RESULT parse_listen(const char *listen_text, struct addrinfo **ret_info)
{
    const char *colon = strrchr(listen_text, ':');
    if (!colon) {
        return listen_error(EINVAL, listen_text);
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    ec_cleanup(ec_freep) char *host = ec_strndup(listen_text, (size_t)(colon - listen_text));
    const char *name = host;
    size_t len = strlen(host);
    if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        name = host + 1;
    }
    if (strcmp(name, "localhost") == 0) {
        name = "127.0.0.1";
    }
    /* lint: blocks, not with AI_NUMERICHOST: no name is looked up */
    int code = getaddrinfo(name[0] ? name : NULL, colon + 1, &hints, ret_info);
    return code == 0 ? ec_ok() : listen_error(EINVAL, listen_text);
}

EC_RESULT ec_http_listen(const char *listen_text, int *ret_fd, uint16_t *ret_port)
{
    struct addrinfo *info = NULL;
    EC_TRY(parse_listen(listen_text, &info));
    int on = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    bool listening = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
                     bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, 1024) == 0 &&
                     getsockname(fd, (struct sockaddr *)&bound, &len) == 0;
    int error = errno;
    freeaddrinfo(info);
    if (!listening) {
        if (fd >= 0) {
            close(fd);
        }
        return listen_error(error, listen_text);
    }
    *ret_fd = fd;
    *ret_port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                  : ((struct sockaddr_in *)&bound)->sin_port);
    return ec_ok();
}
