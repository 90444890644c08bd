/* One libpq connection that keeps itself connected: resolve the name without blocking, connect step
 * by step, poll, and after a loss try again with back-off and jitter. The socket may change with
 * every PQconnectPoll, even keeping its number, so the poll is made anew around each of those
 * calls. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/internal.h"

#define CONNECT_DEADLINE_MS 5000
#define RECONNECT_FIRST_MS 50
#define RECONNECT_CAP_MS 3000
#define SETTLED_MS 3000 /* up for so long: the next loss is a new trouble */
#define ADDRESSES_MAX 4
#define ADDRESS_SIZE 64

enum link_state { LINK_DOWN, LINK_RESOLVING, LINK_CONNECTING, LINK_UP, LINK_CLOSED };

/* Lives until libuv has called back, which may be after the link has gone. */
struct resolve {
    uv_getaddrinfo_t req;
    struct link *link; /* NULL: nobody waits for it */
};

struct link {
    struct ec_loop *loop;
    const struct conninfo *info; /* borrowed from the owner */
    const struct link_events *events;
    void *arg;
    enum link_state state;
    PGconn *pg;             /* NULL while DOWN and RESOLVING */
    struct ec_poll *poll;   /* NULL without pg */
    struct ec_timer *timer; /* DOWN: next try; else: deadline of connecting */
    struct ec_backoff backoff;
    struct resolve *resolve; /* not NULL only while RESOLVING */
    bool complained;         /* one log line per loss, not per try */
    int64_t up_since_ms;
    char hung[ADDRESS_SIZE]; /* the address that did not answer in time; "" = none did that */
};

static void start(void *arg);
static void on_poll(void *arg, int status, int events);

static void release(struct link *link)
{
    ec_timer_stop(link->timer);
    ec_poll_free(link->poll);
    link->poll = NULL;
    if (link->pg) {
        PQfinish(link->pg);
        link->pg = NULL;
    }
    if (link->resolve) {
        link->resolve->link = NULL;
        (void)uv_cancel((uv_req_t *)&link->resolve->req);
        link->resolve = NULL;
    }
}

static void again(struct link *link)
{
    if (link->state == LINK_UP && ec_mono_ms() - link->up_since_ms >= SETTLED_MS) {
        ec_backoff_reset(&link->backoff);
    }
    release(link);
    link->state = LINK_DOWN;
    ec_timer_start(link->timer, ec_backoff_next_ms(&link->backoff), 0);
}

static void not_connected(struct link *link, const char *why)
{
    if (!link->complained) {
        ec_log(EC_LOG_WARN, NULL, "store.unreachable", "database cannot be reached; trying on",
               EC_T("error", why));
        link->complained = true;
    }
    again(link);
}

static void on_notice(void *arg, const char *message)
{
    (void)arg;
    ec_log(EC_LOG_DEBUG, NULL, "store.notice", message);
}

static void connected(struct link *link)
{
    ec_timer_stop(link->timer);
    if (link->complained) {
        ec_log(EC_LOG_INFO, NULL, "store.reachable", "database is back");
        link->complained = false;
    }
    if (PQsetnonblocking(link->pg, 1) != 0) {
        not_connected(link, "cannot make the connection non-blocking");
        return;
    }
    link->state = LINK_UP;
    link->up_since_ms = ec_mono_ms();
    link->hung[0] = '\0';
    ec_poll_want(link->poll, UV_READABLE);
    link->events->up(link->arg, link->pg);
}

/* One step of connecting. */
static void advance(struct link *link)
{
    ec_poll_free(link->poll);
    link->poll = NULL;
    PostgresPollingStatusType status = PQconnectPoll(link->pg);
    if (status == PGRES_POLLING_FAILED) {
        not_connected(link, PQerrorMessage(link->pg));
        return;
    }
    struct ec_err err = ec_poll_new(link->loop, PQsocket(link->pg), on_poll, link, &link->poll);
    if (ec_failed(err)) {
        link->poll = NULL;
        not_connected(link, err.what);
        return;
    }
    if (status == PGRES_POLLING_OK) {
        connected(link);
        return;
    }
    ec_poll_want(link->poll, status == PGRES_POLLING_READING ? UV_READABLE : UV_WRITABLE);
}

static void on_poll(void *arg, int status, int events)
{
    struct link *link = arg;
    if (link->state == LINK_CONNECTING) {
        advance(link);
    } else if (link->state == LINK_UP) {
        link->events->io(link->arg, status < 0 ? UV_READABLE : events);
    }
}

static void begin(struct link *link, const char *hostaddr, size_t address_count)
{
    link->state = LINK_CONNECTING;
    link->pg = conninfo_connect(link->info, hostaddr, address_count);
    if (!link->pg || PQstatus(link->pg) == CONNECTION_BAD) {
        not_connected(link, link->pg ? PQerrorMessage(link->pg) : "out of memory");
        return;
    }
    PQsetNoticeProcessor(link->pg, on_notice, NULL);
    struct ec_err err = ec_poll_new(link->loop, PQsocket(link->pg), on_poll, link, &link->poll);
    if (ec_failed(err)) {
        link->poll = NULL;
        not_connected(link, err.what);
        return;
    }
    ec_poll_want(link->poll, UV_WRITABLE);
}

static size_t read_addresses(const struct addrinfo *list, char addresses[][ADDRESS_SIZE])
{
    size_t count = 0;
    for (const struct addrinfo *at = list; at && count < ADDRESSES_MAX; at = at->ai_next) {
        count += getnameinfo(at->ai_addr, at->ai_addrlen, addresses[count], ADDRESS_SIZE, NULL, 0,
                             NI_NUMERICHOST) == 0;
    }
    return count;
}

/* "10.0.0.1,10.0.0.2": the addresses in the resolver's order. All of them share one deadline, so
 * after one hung the list begins at any of the others. */
static size_t addresses_text(const struct link *link, const struct addrinfo *list,
                             char text[ADDRESSES_MAX * ADDRESS_SIZE])
{
    char addresses[ADDRESSES_MAX][ADDRESS_SIZE];
    size_t count = read_addresses(list, addresses), first = 0, len = 0;
    if (link->hung[0] && count > 1) {
        first = arc4random_uniform((uint32_t)count);
        first += strcmp(addresses[first], link->hung) == 0;
    }
    for (size_t i = 0; i < count; i++) {
        len += (size_t)snprintf(text + len, ADDRESS_SIZE, "%s%.62s", i ? "," : "",
                                addresses[(first + i) % count]);
    }
    return count;
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct resolve *resolve = EC_CONTAINER_OF(req, struct resolve, req);
    struct link *link = resolve->link;
    free(resolve);
    if (link) {
        link->resolve = NULL;
        char text[ADDRESSES_MAX * ADDRESS_SIZE];
        size_t count = status == 0 ? addresses_text(link, list, text) : 0;
        if (count) {
            begin(link, text, count);
        } else {
            not_connected(link, status < 0 ? uv_strerror(status) : "host has no address");
        }
    }
    uv_freeaddrinfo(list);
}

static void resolve_host(struct link *link, const char *host)
{
    struct resolve *resolve = ec_alloc(sizeof(*resolve));
    resolve->link = link;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc = uv_getaddrinfo(ec_loop_uv(link->loop), &resolve->req, on_resolved, host, NULL, &hints);
    if (rc < 0) {
        free(resolve);
        not_connected(link, uv_strerror(rc));
        return;
    }
    link->state = LINK_RESOLVING;
    link->resolve = resolve;
}

/* The timer: time for the next try, or connecting took too long. */
static void start(void *arg)
{
    struct link *link = arg;
    if (link->state != LINK_DOWN) {
        const char *address = link->pg ? PQhostaddr(link->pg) : NULL;
        snprintf(link->hung, sizeof(link->hung), "%s", address ? address : "");
        not_connected(link, "connecting took longer than 5 s");
        return;
    }
    ec_timer_start(link->timer, CONNECT_DEADLINE_MS, 0);
    const char *host = conninfo_host(link->info);
    if (host) {
        resolve_host(link, host);
    } else {
        begin(link, NULL, 0);
    }
}

struct link *link_open(struct ec_loop *loop, const struct conninfo *info,
                       const struct link_events *events, void *arg)
{
    struct link *link = ec_alloc(sizeof(*link));
    link->loop = loop;
    link->info = info;
    link->events = events;
    link->arg = arg;
    link->backoff = (struct ec_backoff){RECONNECT_FIRST_MS, RECONNECT_CAP_MS, 0};
    link->timer = ec_timer_new(loop, start, link);
    ec_timer_start(link->timer, 0, 0);
    return link;
}

bool link_up(const struct link *link)
{
    return link->state == LINK_UP;
}

PGconn *link_pg(struct link *link)
{
    return link->state == LINK_UP ? link->pg : NULL;
}

bool link_flush(struct link *link)
{
    int left = PQflush(link->pg);
    if (left < 0) {
        return false;
    }
    ec_poll_want(link->poll, left ? UV_READABLE | UV_WRITABLE : UV_READABLE);
    return true;
}

void link_drop(struct link *link)
{
    if (link->state != LINK_CLOSED) {
        again(link);
    }
}

void link_lost(struct link *link, const char *why)
{
    if (link->state != LINK_UP) {
        return;
    }
    ec_log(EC_LOG_WARN, NULL, "store.lost", "database connection lost; connecting again",
           EC_T("error", why));
    link->complained = true;
    ec_cleanup(ec_freep) char *text = ec_strdup(why); /* may be libpq's own, which goes now */
    again(link);
    link->events->down(link->arg, text);
}

/* Freed a turn later: the caller may be one of our own events. */
void link_close(struct link *link)
{
    if (!link) {
        return;
    }
    release(link);
    ec_timer_free(link->timer);
    link->timer = NULL;
    link->state = LINK_CLOSED;
    ec_loop_defer(link->loop, free, link);
}
