/* shop: the smallest web app worth deploying. GET / is the page, GET /health says whether it is
 * well. It listens on $PORT, which the platform sets, and answers one request per connection. */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "page.h"

static void answer(int peer, const char *status, const char *text)
{
    char out[1024];
    int len = snprintf(out, sizeof out,
                       "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                       "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                       status, strlen(text), text);
    if (write(peer, out, (size_t)len) != len) {
        perror("write");
    }
}

static void serve(int peer)
{
    char request[4096];
    ssize_t len = read(peer, request, sizeof request - 1);
    request[len > 0 ? len : 0] = '\0';
    if (strncmp(request, "GET /health", 11) == 0) {
        answer(peer, HEALTHY ? "200 OK" : "500 Internal Server Error",
               HEALTHY ? "ok\n" : "broken\n");
    } else {
        answer(peer, "200 OK", PAGE "\n");
    }
}

/* A container's first process gets no default action for SIGTERM: stop at once when asked to. */
static void stop(int number)
{
    (void)number;
    _exit(0);
}

int main(void)
{
    const char *port = getenv("PORT");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)atoi(port ? port : "8080"))};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) {
        perror("shop: cannot listen");
        return 1;
    }
    printf("shop listens on port %d: %s\n", ntohs(address.sin_port), PAGE);
    fflush(stdout);
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer >= 0) {
            serve(peer);
            close(peer);
        }
    }
}
