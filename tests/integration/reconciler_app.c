/* The app of reconciler_test.sh: one file, static, configured when it is compiled.
 * -DBODY=... -DSTATUS=... and one of -DCRASH -DDEAF -DERRORS. */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef BODY
#define BODY "one"
#endif
#ifndef STATUS
#define STATUS "200 OK"
#endif
#if defined(CRASH)
#define MODE 'c' /* ends at once */
#elif defined(DEAF)
#define MODE 'd' /* never listens */
#elif defined(ERRORS)
#define MODE 'e' /* healthy, but every page is a 500 */
#else
#define MODE 'o'
#endif

static void on_term(int number)
{
    (void)number;
    _exit(0);
}

static void answer(int fd)
{
    char text[4096];
    ssize_t len = read(fd, text, sizeof text - 1);
    if (len > 0) {
        text[len] = '\0';
        int probe = strncmp(text, "GET /healthz", 12) == 0;
        const char *status = MODE == 'e' && !probe ? "500 Internal Server Error" : STATUS;
        char out[512];
        int out_len = snprintf(out, sizeof out,
                               "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                               "Connection: close\r\n\r\n%s",
                               status, strlen(BODY), BODY);
        if (write(fd, out, (size_t)out_len) < 0) {
            perror("write");
        }
    }
    shutdown(fd, SHUT_WR);
    while (read(fd, text, sizeof text) > 0) {
    }
    close(fd);
}

int main(void)
{
    signal(SIGTERM, on_term);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (MODE == 'c') {
        fprintf(stderr, "cannot open the configuration\n");
        return 3;
    }
    if (MODE == 'd') {
        printf("here, but deaf\n");
        for (;;) {
            pause();
        }
    }
    const char *port = getenv("PORT");
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)atoi(port ? port : "8080"))};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 64) != 0) {
        perror("listen");
        return 1;
    }
    printf("listening on %s\n", port ? port : "8080");
    for (;;) {
        int peer = accept(fd, NULL, NULL);
        if (peer >= 0) {
            answer(peer);
        }
    }
}
