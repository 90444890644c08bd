/* store: connections to a database whose name has several addresses, or whose name takes long to
 * look up. The names are looked up by our own getaddrinfo; nobody speaks PostgreSQL here. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/store.h"

#define LOOKUP_US 700000

static struct sockaddr_in addresses[2];

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret_list)
{
    if (strcmp(node, "slow.test") == 0) {
        usleep(LOOKUP_US);
        return EAI_AGAIN;
    }
    struct addrinfo *list = ec_alloc(2 * sizeof(*list));
    if (hints->ai_flags & AI_NUMERICHOST) { /* libpq, of one of them */
        static struct sockaddr_in one = {.sin_family = AF_INET};
        inet_pton(AF_INET, node, &one.sin_addr);
        one.sin_port = htons((uint16_t)atoi(service));
        list[0] = (struct addrinfo){.ai_family = AF_INET,
                                    .ai_socktype = SOCK_STREAM,
                                    .ai_addrlen = sizeof(one),
                                    .ai_addr = (struct sockaddr *)&one};
        *ret_list = list;
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        list[i] = (struct addrinfo){.ai_family = AF_INET,
                                    .ai_socktype = SOCK_STREAM,
                                    .ai_addrlen = sizeof(addresses[i]),
                                    .ai_addr = (struct sockaddr *)&addresses[i],
                                    .ai_next = i == 0 ? &list[1] : NULL};
    }
    *ret_list = list;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    free(list);
}

static int listen_at(const char *address, uint16_t port)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &at.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static void on_closed(void *arg)
{
    ec_loop_stop(arg);
}

static struct ec_store *open_store(struct ec_loop *loop, const char *host, uint16_t port)
{
    char url[128];
    struct ec_store *store = NULL;
    snprintf(url, sizeof(url), "postgres://me:secret@%s:%u/db?sslmode=disable", host, port);
    struct ec_secret *secret = ec_secret_new(ec_span_of(url));
    struct ec_store_spec spec = {.url = secret, .application_name = "test", .connections = 1};
    assert_int_equal(ec_store_open(loop, &spec, &store).fate, EC_FATE_OK);
    ec_secret_free(secret);
    return store;
}

static void run_for(struct ec_loop *loop, uint32_t ms)
{
    struct ec_timer *timer = ec_timer_new(loop, on_closed, loop);
    ec_timer_start(timer, ms, 0);
    ec_loop_run(loop);
    ec_timer_free(timer);
}

/* The first takes connections and says nothing, as a machine that hangs does. */
static void test_a_silent_address_does_not_hide_the_next(void **state)
{
    (void)state;
    int silent = listen_at("127.0.0.2", 0);
    socklen_t len = sizeof(addresses[0]);
    getsockname(silent, (struct sockaddr *)&addresses[0], &len);
    uint16_t port = ntohs(addresses[0].sin_port);
    int good = listen_at("127.0.0.1", port);
    addresses[1] = addresses[0];
    addresses[1].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct ec_loop *loop = ec_loop_new();
    struct ec_store *store = open_store(loop, "db.test", port);
    int fd = -1;
    for (int64_t until_ms = ec_mono_ms() + 8000; fd < 0 && ec_mono_ms() < until_ms;) {
        run_for(loop, 50);
        fd = accept(good, NULL, NULL);
    }
    assert_true(fd >= 0);
    close(fd);
    ec_store_close(store, on_closed, loop);
    ec_loop_run(loop);
    ec_loop_free(loop);
    close(silent);
    close(good);
}

static void test_the_end_waits_for_a_slow_lookup(void **state)
{
    (void)state;
    struct ec_loop *loop = ec_loop_new();
    struct ec_store *store = open_store(loop, "slow.test", 5432);
    run_for(loop, 50);
    ec_store_close(store, on_closed, loop);
    ec_loop_run(loop);
    ec_loop_free(loop); /* ends the process when something is left open */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_silent_address_does_not_hide_the_next),
        cmocka_unit_test(test_the_end_waits_for_a_slow_lookup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
