/* Sites and their certificates in a HAProxy of our own; skipped where there is none. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "bus/topics.h"
#include "domain.h"
#include "support/kafka.h"
#include "support/port.h"
#include "support/service_frame.h"

#define NAMES 120

static struct test_kafka *kafka;
static struct domain dom;
static struct issuer *issuer;
static char dir[] = "/tmp/enclii-domain-XXXXXX";
static char address[32], socket_path[64], ca_dir[64], list_file[64];
static pid_t haproxy;

/* ---- what is wanted ---- */

static struct site *want(const char *hostname)
{
    static const Enclii__V1__DomainDesired desired = ENCLII__V1__DOMAIN_DESIRED__INIT;
    struct site *site = site_find_or_new(&dom, hostname);
    assert_non_null(site);
    site_want(site, &desired, "");
    return site;
}

static const char *name(int i)
{
    static char text[32];
    snprintf(text, sizeof text, "n%03d.example", i);
    return text;
}

static bool is_settled(void *site)
{
    return !((struct site *)site)->busy && ((struct site *)site)->served;
}

static bool all_settled(void *nothing)
{
    (void)nothing;
    const char *hostname;
    void *site;
    for (size_t at = 0; ec_map_next(dom.sites, &at, &hostname, &site);) {
        if (!is_settled(site)) {
            return false;
        }
    }
    return true;
}

static bool is_listed(const char *hostname)
{
    char line[128], tail[64];
    bool found = false;
    FILE *list = fopen(list_file, "re");
    assert_non_null(list);
    snprintf(tail, sizeof tail, ".pem %s\n", hostname);
    while (!found && fgets(line, sizeof line, list)) {
        found = strstr(line, tail) != NULL;
    }
    fclose(list);
    return found;
}

static bool has_stopped(void *nothing)
{
    (void)nothing;
    return frame_stopped;
}

static void dom_start(void)
{
    frame_stopping = frame_stopped = false;
    dom.sites = ec_map_new(SITES_MAX);
    dom.hap = ec_haproxy_open(loop, dom.settings.haproxy_socket);
}

static void dom_stop(void)
{
    frame_stopping = true;
    ec_haproxy_close(dom.hap);
    sites_stop(&dom);
    assert_true(test_run_until(loop, 5000, has_stopped, NULL));
}

/* HAProxy has one open certificate transaction at a time, for all of them. */
static void many_names_at_once(void **state)
{
    (void)state;
    if (access("/usr/sbin/haproxy", X_OK) != 0) {
        skip();
    }
    dom_start();
    for (int i = 0; i < NAMES; i++) {
        want(name(i));
    }
    assert_true(test_run_until(loop, 10000, all_settled, NULL));
    for (int i = 0; i < NAMES; i++) {
        const struct site *site = ec_map_get(dom.sites, name(i));
        assert_int_equal(site->failures, 0);
        assert_true(is_listed(name(i)));
    }
    dom_stop();
}

/* The list is all that a HAProxy knows that starts anew. */
static void the_list_is_whole_after_a_restart(void **state)
{
    (void)state;
    if (access("/usr/sbin/haproxy", X_OK) != 0) {
        skip();
    }
    dom_start();
    assert_true(test_run_until(loop, 5000, is_settled, want("new.example")));
    for (int i = 0; i < NAMES; i++) {
        want(name(i));
    }
    assert_true(test_run_until(loop, 10000, all_settled, NULL));
    assert_true(is_listed("new.example"));
    for (int i = 0; i < NAMES; i++) {
        assert_true(is_listed(name(i)));
    }
    dom_stop();
}

static void on_reply(void *arg, struct ec_err err, struct ec_span reply)
{
    assert_false(ec_failed(err));
    assert_true(reply.len > 0);
    *(bool *)arg = true;
}

/* A run of before ended between setting a certificate and committing it. */
static void what_is_half_set_is_no_obstacle(void **state)
{
    (void)state;
    if (access("/usr/sbin/haproxy", X_OK) != 0) {
        skip();
    }
    bool done = false;
    char path[96];
    dom_start();
    snprintf(path, sizeof path, "%s/certs/%s.pem", dir, name(0));
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 20);
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    assert_false(ec_failed(ec_secret_read(path, &pem)));
    const char *set = ec_arena_format(arena, "set ssl cert %s <<\n%s\n", path,
                                      ec_arena_text(arena, ec_secret_use(pem)));
    assert_false(ec_failed(ec_haproxy_send(dom.hap, ec_span_of(set), on_reply, &done)));
    assert_true(test_run_until(loop, 5000, test_is_true, &done));
    assert_true(test_run_until(loop, 5000, is_settled, want("other.example")));
    dom_stop();
}

static bool is_untold(void *site)
{
    return !((struct site *)site)->announced;
}

static bool is_told(void *site)
{
    return ((struct site *)site)->announced;
}

/* Kafka takes nothing for longer than the publisher waits. Without the event the pipeline would
 * show the name as waiting for its certificate until the next renewal. */
static void what_kafka_did_not_take_is_said_again(void **state)
{
    (void)state;
    if (access("/usr/sbin/haproxy", X_OK) != 0) {
        skip();
    }
    dom_start();
    test_kafka_down(kafka, true);
    struct site *site = want("untold.example");
    assert_true(test_run_until(loop, 10000, is_told, site)); /* on its way, that is */
    assert_true(test_run_until(loop, 20000, is_untold, site));
    test_kafka_down(kafka, false);
    assert_true(test_run_until(loop, 20000, is_told, site));
    test_run_for(loop, 1000);
    assert_true(is_told(site));
    dom_stop();
}

/* ---- HAProxy ---- */

static bool haproxy_answers(void *port)
{
    return test_port_answers(*(int *)port);
}

static void haproxy_start(int port)
{
    char config[96];
    snprintf(config, sizeof config, "%s/haproxy.cfg", dir);
    FILE *file = fopen(config, "we");
    assert_non_null(file);
    fprintf(file,
            "global\n stats socket %s mode 600 level admin\n"
            "defaults\n mode http\n timeout connect 2s\n timeout client 5s\n timeout server 5s\n"
            "frontend f\n bind %s ssl strict-sni crt-list %s\n http-request return status 404\n",
            socket_path, address, list_file);
    fclose(file);
    file = fopen(list_file, "we");
    assert_non_null(file);
    fclose(file);
    haproxy = fork();
    if (haproxy == 0) {
        execl("/usr/sbin/haproxy", "haproxy", "-q", "-db", "-f", config, (char *)NULL);
        _exit(127);
    }
    assert_true(test_run_until(loop, 5000, haproxy_answers, &port));
}

static int start(void **state)
{
    (void)state;
    int port = test_free_port();
    assert_non_null(mkdtemp(dir));
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    snprintf(socket_path, sizeof socket_path, "%s/haproxy.sock", dir);
    snprintf(ca_dir, sizeof ca_dir, "%s/ca", dir);
    snprintf(list_file, sizeof list_file, "%s/crt.list", dir);
    loop = ec_loop_new();
    kafka = test_kafka_start(loop, EC_TOPIC_DOMAIN_EVENTS ":1", NULL);
    const struct ec_bus_spec spec = {.brokers = test_kafka_brokers(kafka),
                                     .service = "domain",
                                     .publish_deadline_ms = 2000,
                                     .fetch_wait_ms = 10};
    assert_false(ec_failed(ec_bus_open(loop, &spec, &bus)));
    dom.settings = (struct domain_settings){.haproxy_socket = socket_path,
                                            .haproxy_dir = dir,
                                            .router_https = address,
                                            .look_every_ms = 600000};
    assert_false(ec_failed(issuer_local_open(loop, ca_dir, &issuer)));
    dom.issuer = issuer;
    if (access("/usr/sbin/haproxy", X_OK) == 0) {
        haproxy_start(port);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    char command[64];
    if (haproxy > 0) {
        kill(haproxy, SIGTERM);
        waitpid(haproxy, NULL, 0);
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    issuer->free(issuer);
    test_kafka_close_bus(kafka, bus);
    test_kafka_stop(kafka);
    ec_loop_free(loop);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_names_at_once),
        cmocka_unit_test(the_list_is_whole_after_a_restart),
        cmocka_unit_test(what_is_half_set_is_no_obstacle),
        cmocka_unit_test(what_kafka_did_not_take_is_said_again),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
