/* See raw.h. */
#include "support/raw.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
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

static void keep(struct raw *raw, const char *piece, size_t len)
{
    size_t room = sizeof(raw->reply) - 1 - raw->reply_len;
    size_t kept = len < room ? len : room;
    memcpy(raw->reply + raw->reply_len, piece, kept);
    raw->reply_len += kept;
    raw->reply[raw->reply_len] = '\0';
    raw->read_len += len;
    size_t most = sizeof(raw->tail) - 1, old = strlen(raw->tail);
    size_t fresh = len < most ? len : most, stay = old + fresh > most ? most - fresh : old;
    memmove(raw->tail, raw->tail + old - stay, stay);
    memcpy(raw->tail + stay, piece + len - fresh, fresh);
    raw->tail[stay + fresh] = '\0';
}

static void read_reply(struct raw *raw, int fd)
{
    uint32_t ms = raw->read_ms ? raw->read_ms : 2000;
    struct timeval limit = {ms / 1000, (ms % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    size_t max = raw->read_max ? raw->read_max : SIZE_MAX;
    char piece[4096];
    while (raw->read_len < max) {
        size_t wanted = max - raw->read_len < sizeof(piece) ? max - raw->read_len : sizeof(piece);
        ssize_t n = recv(fd, piece, wanted, 0);
        if (n <= 0) {
            raw->closed = n == 0;
            return;
        }
        keep(raw, piece, (size_t)n);
    }
}

static void pause_for(const struct raw *raw)
{
    int64_t until_ms = ec_mono_ms() + raw->pause_ms;
    while (ec_mono_ms() < until_ms && !__atomic_load_n(&raw->hurry, __ATOMIC_ACQUIRE)) {
        sleep_ms(1);
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
        pause_for(raw);
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
    raw->done = raw->hurry = false;
    raw->reply_len = raw->read_len = 0;
    raw->reply[0] = raw->tail[0] = '\0';
    pthread_create(&thread, NULL, raw_thread, raw);
    pthread_detach(thread);
}

/* A busy machine may take so many times longer: only who fails waits so long. */
#ifdef __SANITIZE_THREAD__
#define SLOWNESS 6
#else
#define SLOWNESS 3
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
    if (!__atomic_load_n(&raw->done, __ATOMIC_ACQUIRE)) { /* its thread still writes to *raw */
        fprintf(stderr, "a client is not done after 20 s; it sent:\n%.200s\n", raw->send);
        abort();
    }
}

void raw_hurry(struct raw *raw)
{
    __atomic_store_n(&raw->hurry, true, __ATOMIC_RELEASE);
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
