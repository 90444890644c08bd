/* See raw.h. */
#include "support/raw.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static void sleep_ms(uint32_t ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static bool send_all(int fd, const char *ptr, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, ptr, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        ptr += n;
        len -= (size_t)n;
    }
    return true;
}

static void read_reply(struct raw *raw, int fd)
{
    uint32_t ms = raw->read_ms ? raw->read_ms : 2000;
    struct timeval limit = {ms / 1000, (ms % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    size_t max = raw->read_max ? raw->read_max : sizeof(raw->reply) - 1;
    while (raw->reply_len < max) {
        ssize_t n = recv(fd, raw->reply + raw->reply_len, max - raw->reply_len, 0);
        if (n <= 0) {
            raw->closed = n == 0;
            return;
        }
        raw->reply_len += (size_t)n;
        raw->reply[raw->reply_len] = '\0';
    }
}

static void *raw_thread(void *arg)
{
    struct raw *raw = arg;
    int64_t began_ms = ec_mono_ms();
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(raw->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
        send_all(fd, raw->send, raw->send_len ? raw->send_len : strlen(raw->send));
        sleep_ms(raw->pause_ms);
        if (raw->send_more) {
            send_all(fd, raw->send_more, strlen(raw->send_more));
        }
        if (!raw->hang_up) {
            read_reply(raw, fd);
        }
    }
    close(fd);
    raw->took_ms = ec_mono_ms() - began_ms;
    __atomic_store_n(&raw->done, true, __ATOMIC_RELEASE); /* the last access of this thread */
    return NULL;
}

void raw_start(struct raw *raw)
{
    pthread_t thread;
    raw->done = false;
    raw->reply_len = 0;
    raw->reply[0] = '\0';
    pthread_create(&thread, NULL, raw_thread, raw);
    pthread_detach(thread);
}

/* ThreadSanitizer makes everything this many times slower, and so much longer it may take. */
#ifdef __SANITIZE_THREAD__
#define SLOWNESS 6
#else
#define SLOWNESS 1
#endif

struct until {
    struct ec_loop *loop;
    volatile bool *flag;
    int64_t end_ms;
};

static void on_tick(void *arg)
{
    struct until *until = arg;
    if ((until->flag && __atomic_load_n(until->flag, __ATOMIC_ACQUIRE)) ||
        ec_mono_ms() >= until->end_ms) {
        uv_stop(ec_loop_uv(until->loop)); /* only pauses: handles stay open for the next run */
    }
}

void loop_until(struct ec_loop *loop, volatile bool *flag, uint32_t max_ms)
{
    int64_t most_ms = flag ? (int64_t)max_ms * SLOWNESS : max_ms;
    struct until until = {loop, flag, ec_mono_ms() + most_ms};
    struct ec_timer *tick = ec_timer_new(loop, on_tick, &until);
    ec_timer_start(tick, 1, 2);
    uv_run(ec_loop_uv(loop), UV_RUN_DEFAULT);
    ec_timer_free(tick);
}

void loop_for(struct ec_loop *loop, uint32_t ms)
{
    loop_until(loop, NULL, ms);
}

void raw_wait(struct ec_loop *loop, struct raw *raw)
{
    loop_until(loop, &raw->done, 20000);
}

void raw_run(struct ec_loop *loop, struct raw *raw)
{
    raw_start(raw);
    raw_wait(loop, raw);
}

int raw_count(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what)) {
        count++;
    }
    return count;
}
