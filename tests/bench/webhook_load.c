/* A load generator for webhook and its peers: keep-alive connections that send the same signed
 * delivery again and again, each under its own delivery id, and count the answers 202. With a rate,
 * requests are due at fixed times and the latency counts from then on, however late they are sent.
 *
 *   webhook_load PORT BODY_FILE SIGNATURE CONNECTIONS SECONDS [PER_SECOND]
 * prints: answered refused seconds p50_ms p99_ms */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define BODY_MAX (1024 * 1024)
#define SLOTS 200000 /* latencies in steps of 10 us, up to 2 s */

struct connection {
    int fd;
    bool waiting; /* for an answer */
    double due;
    size_t sent, len;
    char *request;
    char answer[4096];
    size_t have;
};

static struct connection connections[CONNECTIONS_MAX];
static char body[BODY_MAX];
static size_t body_len;
static const char *signature;
static uint32_t latency[SLOTS];
static uint64_t answered, refused, number;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void send_rest(struct connection *c)
{
    while (c->sent < c->len) {
        ssize_t n = send(c->fd, c->request + c->sent, c->len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            die("send");
        }
        c->sent += (size_t)n;
    }
}

static void begin(struct connection *c, double due)
{
    int head = snprintf(c->request, 1024,
                        "POST /v1/webhooks/github HTTP/1.1\r\nHost: localhost\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n"
                        "X-GitHub-Event: push\r\nX-GitHub-Delivery: bench-%d-%llu\r\n"
                        "X-Hub-Signature-256: sha256=%s\r\n\r\n",
                        body_len, getpid(), (unsigned long long)number++, signature);
    memcpy(c->request + head, body, body_len);
    c->len = (size_t)head + body_len;
    c->sent = 0;
    c->have = 0;
    c->due = due;
    c->waiting = true;
    send_rest(c);
}

/* Whether a whole answer is there. */
static bool complete(const struct connection *c)
{
    const char *end = memmem(c->answer, c->have, "\r\n\r\n", 4);
    const char *length = strcasestr(c->answer, "content-length:");
    return end && length && c->have >= (size_t)(end + 4 - c->answer) + (size_t)atol(length + 15);
}

static void on_readable(struct connection *c)
{
    ssize_t n = recv(c->fd, c->answer + c->have, sizeof c->answer - 1 - c->have, 0);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        die("the server closed a connection");
    }
    c->have += (size_t)n;
    c->answer[c->have] = '\0';
    if (!complete(c)) {
        return;
    }
    size_t slot = (size_t)((now() - c->due) * 1e5);
    latency[slot < SLOTS ? slot : SLOTS - 1]++;
    if (strncmp(c->answer, "HTTP/1.1 202", 12) == 0) {
        answered++;
    } else if (refused++ == 0) {
        fprintf(stderr, "%s\n", c->answer);
    }
    c->waiting = false;
}

static void connect_all(int count, int port, int poll)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        int one = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        c->request = malloc(body_len + 1024);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) {
            die("connect");
        }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd,
                  &(struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c});
    }
}

static double share(double part)
{
    uint64_t all = answered + refused, seen = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        seen += latency[i];
        if ((double)seen >= part * (double)all) {
            return (double)i / 100;
        }
    }
    return (double)SLOTS / 100;
}

/* Sends what is due; returns how long to wait. */
static int send_due(int count, double *next, double gap, double end)
{
    double t = now();
    for (int i = 0; i < count && t < end; i++) {
        struct connection *c = &connections[i];
        if (!c->waiting && *next <= t) {
            begin(c, gap > 0 ? *next : t);
            *next = gap > 0 ? *next + gap : 0;
        }
    }
    double wait_ms = (*next - t) * 1000;
    return gap > 0 && wait_ms < 20 ? (wait_ms > 1 ? (int)wait_ms : 1) : 20;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: %s PORT BODY_FILE SIGNATURE CONNECTIONS SECONDS [PER_SECOND]\n",
                argv[0]);
        return 1;
    }
    FILE *file = fopen(argv[2], "rb");
    int count = atoi(argv[4]), poll = epoll_create1(0);
    if (!file || count < 1 || count > CONNECTIONS_MAX) {
        die(argv[2]);
    }
    body_len = fread(body, 1, sizeof body, file);
    fclose(file);
    signature = argv[3];
    connect_all(count, atoi(argv[1]), poll);
    double gap = argc > 6 ? 1 / atof(argv[6]) : 0, began = now(), end = began + atof(argv[5]);
    double next = gap > 0 ? began : 0;
    while (now() < end) {
        struct epoll_event events[256];
        int wait_ms = send_due(count, &next, gap, end);
        int n = epoll_wait(poll, events, 256, wait_ms);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT && c->waiting) {
                send_rest(c);
            }
            if (events[i].events & EPOLLIN && c->waiting) {
                on_readable(c);
            }
        }
    }
    printf("%llu %llu %.3f %.2f %.2f\n", (unsigned long long)answered, (unsigned long long)refused,
           now() - began, share(.5), share(.99));
    return 0;
}
