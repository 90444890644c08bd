/* A load generator for webhook and its peers: keep-alive connections that send one signed delivery
 * again and again, each under its own delivery id.
 *
 *   webhook_load [options] PORT BODY_FILE SECRET_FILE
 *     -c N     connections (64)             -s SECONDS   how long (8)
 *     -p PATH  (/v1/webhooks/github)        -r N         deliveries a second, open loop
 *     -H       no server: how many HMACs of the body a CPU-second of this program makes
 *
 * Without -r each connection sends as soon as it has its answer. With -r deliveries are due at
 * fixed times and latency counts from then on, however late they are sent. Prints answered=N
 * refused=N unanswered=N seconds=S p50_ms=.. p99_ms=.. p999_ms=.. max_ms=..
 *
 * As a git host in a bad hour (tests/chaos/intake_loss.py):
 *     -j FILE  one line per attempt: NUMBER STATUS DUE_US ANSWERED_US EVENT_ID; status 0 = no
 * answer. The server may go away: what has no answer is written so, connections come again. Each
 * delivery is another push: the 40 letters b of the body become its number, and it is signed anew.
 * Its delivery id is load-<number>. -R S     then everything that was not answered 202 is delivered
 * again, until it is, for at most S seconds. Exit status 3 when something is left. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <signal.h>
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
#define HEAD_MAX 1024
#define NUMBERS_MAX 4000000   /* deliveries of one run */
#define SLOTS 1000000         /* latencies in steps of 10 us, up to 10 s */
#define RECONNECT_AFTER_S 0.1 /* the server went away */
#define PATIENCE_S 0.5        /* with a journal: no connection for so long is a failed delivery */
#define ANSWER_S 10.0         /* git hosts wait no longer */

enum phase { CLOSED, CONNECTING, FREE, WAITING };

struct connection {
    enum phase phase;
    int fd;
    uint32_t number;
    double due;
    double began; /* sent, or closed at */
    size_t sent, len;
    char *request;
    char answer[4096];
    size_t have;
};

static struct {
    int port, count, poll;
    double seconds, rate, redeliver_s;
    const char *path;
    FILE *journal;
} run = {.count = 64, .seconds = 8, .path = "/v1/webhooks/github"};
static struct connection connections[CONNECTIONS_MAX];
static char body[BODY_MAX], secret[256];
static size_t body_len, secret_len, mark; /* mark: where the number goes; 0 = nowhere */
static char signature[65];                /* of the body as it is */
static uint32_t latency[SLOTS];
static uint64_t answered, refused, unanswered;
static double worst_s;
static bool done[NUMBERS_MAX]; /* answered 202 */
static uint32_t number;        /* of the next delivery */

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

static void sign(const char *bytes, char hex[65])
{
    unsigned char mac[32];
    unsigned len = 0;
    HMAC(EVP_sha256(), secret, (int)secret_len, (const unsigned char *)bytes, body_len, mac, &len);
    for (int i = 0; i < 32; i++) {
        snprintf(hex + 2 * i, 3, "%02x", mac[i]);
    }
}

/* ---- what came of an attempt ---- */

static void write_journal(const struct connection *c, int status)
{
    static const char name[] = "\"event_id\":\"";
    const char *id = c->have > 0 ? strstr(c->answer, name) : NULL;
    fprintf(run.journal, "%u %d %.0f %.0f %.36s\n", c->number, status, c->due * 1e6, now() * 1e6,
            id ? id + strlen(name) : "-");
}

static void attempt_over(const struct connection *c, int status)
{
    if (run.journal) {
        write_journal(c, status);
        done[c->number] |= status == 202;
    }
    if (status == 0) {
        unanswered++;
        return;
    }
    double took = now() - c->due;
    size_t slot = (size_t)(took * 1e5);
    latency[slot < SLOTS ? slot : SLOTS - 1]++;
    worst_s = took > worst_s ? took : worst_s;
    if (status == 202 || (!run.journal && status == 200)) {
        answered++;
    } else if (refused++ == 0 && !run.journal) {
        fprintf(stderr, "%s\n", c->answer);
    }
}

/* ---- connections ---- */

static void hang_up(struct connection *c, const char *why)
{
    if (!run.journal) {
        die(why);
    }
    if (c->phase == WAITING) {
        attempt_over(c, 0);
    }
    close(c->fd);
    c->phase = CLOSED;
    c->began = now();
}

static void dial(struct connection *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)run.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    c->phase = CONNECTING;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->fd < 0 ||
        (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)) {
        hang_up(c, "connect");
        return;
    }
    epoll_ctl(run.poll, EPOLL_CTL_ADD, c->fd,
              &(struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c});
}

static void send_rest(struct connection *c)
{
    while (c->sent < c->len) {
        ssize_t n = send(c->fd, c->request + c->sent, c->len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            hang_up(c, "send");
            return;
        }
        c->sent += (size_t)n;
    }
}

static void deliver(struct connection *c, uint32_t which, double due)
{
    char text[41], hex[65];
    const char *signed_as = signature;
    c->number = which;
    c->due = due;
    c->began = now();
    if (mark > 0) { /* only one thread: the body may be changed in place */
        snprintf(text, sizeof text, "%040x", which);
        memcpy(body + mark, text, 40);
        sign(body, hex);
        signed_as = hex;
    }
    int head = snprintf(c->request, HEAD_MAX,
                        "POST %s HTTP/1.1\r\nHost: localhost\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n"
                        "X-GitHub-Event: push\r\nX-GitHub-Delivery: load-%s%08u\r\n"
                        "X-Hub-Signature-256: sha256=%s\r\n\r\n",
                        run.path, body_len, run.journal ? "" : "again-", which, signed_as);
    memcpy(c->request + head, body, body_len);
    c->len = (size_t)head + body_len;
    c->sent = c->have = 0;
    c->phase = WAITING;
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
        hang_up(c, "the server closed a connection");
        return;
    }
    c->have += (size_t)n;
    c->answer[c->have] = '\0';
    if (c->phase == WAITING && complete(c)) {
        attempt_over(c, atoi(c->answer + strlen("HTTP/1.1 ")));
        c->phase = FREE;
    }
}

static void on_event(struct connection *c, uint32_t events)
{
    if (c->phase == CONNECTING && events & (EPOLLERR | EPOLLHUP)) {
        hang_up(c, "connect");
    } else if (c->phase == CONNECTING && events & EPOLLOUT) {
        c->phase = FREE;
    } else if (c->phase == WAITING && events & EPOLLOUT) {
        send_rest(c);
    }
    if (c->phase >= FREE && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        on_readable(c);
    }
}

static void look_after(double t)
{
    for (int i = 0; i < run.count; i++) {
        struct connection *c = &connections[i];
        if (c->phase == CLOSED && t - c->began > RECONNECT_AFTER_S) {
            dial(c);
        } else if (c->phase == WAITING && t - c->began > ANSWER_S) {
            hang_up(c, "no answer in 10 s");
        }
    }
}

static void turn(int wait_ms)
{
    struct epoll_event events[256];
    int n = epoll_wait(run.poll, events, 256, wait_ms);
    for (int i = 0; i < n; i++) {
        on_event(events[i].data.ptr, events[i].events);
    }
    look_after(now());
}

static struct connection *free_connection(void)
{
    static int at; /* they take turns */
    for (int i = 0; i < run.count; i++) {
        at = (at + 1) % run.count;
        if (connections[at].phase == FREE) {
            return &connections[at];
        }
    }
    return NULL;
}

static bool anybody_waits(void)
{
    for (int i = 0; i < run.count; i++) {
        if (connections[i].phase == WAITING) {
            return true;
        }
    }
    return false;
}

/* ---- the load ---- */

/* Sends what is due; false when more is due than connections are free. */
static bool send_due(double *next, double gap)
{
    while (*next <= now() && number < NUMBERS_MAX) {
        struct connection *c = free_connection();
        if (c) {
            deliver(c, number++, gap > 0 ? *next : now());
        } else if (run.journal && now() - *next > PATIENCE_S) {
            attempt_over(&(struct connection){.number = number++, .due = *next}, 0);
        } else {
            return false;
        }
        *next += gap;
    }
    return true;
}

static double load(void)
{
    double gap = run.rate > 0 ? 1 / run.rate : 0, began = now(), next = began, t = began;
    while (t - began < run.seconds) {
        bool idle = send_due(&next, gap);
        double wait_ms = (next - now()) * 1000;
        turn(!idle ? 10 : wait_ms < 1 ? 1 : wait_ms > 20 ? 20 : (int)wait_ms);
        t = now();
    }
    double took = t - began;
    while (anybody_waits()) { /* what is under way counts: the slowest answers are the last */
        turn(10);
    }
    return took;
}

/* What a git host is asked for afterwards: everything once more that it knows to have failed. */
static bool deliver_again(void)
{
    double end = now() + run.redeliver_s;
    uint32_t left = 1;
    while (left > 0 && now() < end) {
        left = 0;
        for (uint32_t i = 0; i < number && now() < end; i++) {
            struct connection *c = done[i] ? NULL : free_connection();
            while (!done[i] && !c && now() < end) {
                turn(10);
                c = free_connection();
            }
            if (!done[i] && c) {
                deliver(c, i, now());
            }
        }
        while (anybody_waits()) {
            turn(10);
        }
        for (uint32_t i = 0; i < number; i++) {
            left += !done[i];
        }
    }
    return left == 0;
}

static double share_ms(double part)
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

static void hmac_alone(void)
{
    char hex[65];
    clock_t began = clock(), at = began;
    uint64_t count = 0;
    for (; at - began < CLOCKS_PER_SEC; at = clock()) {
        for (int i = 0; i < 100; i++, count++) {
            sign(body, hex);
        }
    }
    printf("%.0f\n", (double)count * CLOCKS_PER_SEC / (double)(at - began));
}

static size_t read_file(const char *name, char *into, size_t max)
{
    FILE *file = fopen(name, "rb");
    if (!file) {
        die(name);
    }
    size_t len = fread(into, 1, max, file);
    fclose(file);
    return len;
}

static void prepare(void)
{
    static const char place[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    char *found = run.journal ? memmem(body, body_len, place, 40) : NULL;
    mark = found ? (size_t)(found - body) : 0;
    sign(body, signature);
    run.poll = epoll_create1(0);
    for (int i = 0; i < run.count; i++) {
        connections[i].request = malloc(body_len + HEAD_MAX);
        dial(&connections[i]);
    }
    double end = now() + 10;
    while (!free_connection() && now() < end) {
        turn(10);
    }
}

int main(int argc, char **argv)
{
    bool hmac = false;
    for (int option; (option = getopt(argc, argv, "c:s:p:r:j:R:H")) != -1;) {
        run.count = option == 'c' ? atoi(optarg) : run.count;
        run.seconds = option == 's' ? atof(optarg) : run.seconds;
        run.path = option == 'p' ? optarg : run.path;
        run.rate = option == 'r' ? atof(optarg) : run.rate;
        run.redeliver_s = option == 'R' ? atof(optarg) : run.redeliver_s;
        run.journal = option == 'j' ? fopen(optarg, "w") : run.journal;
        hmac |= option == 'H';
    }
    if (argc - optind != 3 || run.count < 1 || run.count > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: %s [options] PORT BODY_FILE SECRET_FILE\n", argv[0]);
        return 2;
    }
    run.port = atoi(argv[optind]);
    body_len = read_file(argv[optind + 1], body, sizeof body);
    secret_len = read_file(argv[optind + 2], secret, sizeof secret);
    secret_len -= secret_len > 0 && secret[secret_len - 1] == '\n';
    if (hmac) {
        hmac_alone();
        return 0;
    }
    prepare();
    double took = load();
    bool all = run.redeliver_s <= 0 || deliver_again();
    printf("answered=%llu refused=%llu unanswered=%llu seconds=%.3f p50_ms=%.2f p99_ms=%.2f "
           "p999_ms=%.2f max_ms=%.2f\n",
           (unsigned long long)answered, (unsigned long long)refused,
           (unsigned long long)unanswered, took, share_ms(.5), share_ms(.99), share_ms(.999),
           worst_s * 1000);
    return all ? 0 : 3;
}
