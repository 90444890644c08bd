/* See drive.h. */
#include "support/drive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/loop.h"
#include "support/kafka.h"

static struct ec_bus *bus;
static const struct drive_spec *drive;
static int64_t began_ms;

int64_t drive_ms(void)
{
    return ec_mono_ms() - began_ms;
}

void drive_restart_clock(void)
{
    began_ms = ec_mono_ms();
}

void drive_publish(const char *topic, const char *key, const char *type,
                   const ProtobufCMessage *body)
{
    struct ec_id id = ec_id_new();
    const struct ec_message message = {
        .topic = topic, .key = key, .type = type, .id = id.text, .body = body};
    ec_ignore(ec_bus_publish(bus, &message, NULL, NULL)); /* the script sees that nothing happens */
}

void drive_publish_raw(const char *topic, const char *key, const char *type, struct ec_span bytes)
{
    struct ec_id id = ec_id_new();
    const struct ec_message message = {
        .topic = topic, .key = key, .type = type, .id = id.text, .raw = bytes};
    ec_ignore(ec_bus_publish(bus, &message, NULL, NULL));
}

static void on_line(char *line)
{
    char *word[DRIVE_WORDS_MAX + 1] = {0};
    size_t count = 0;
    for (char *at = strtok(line, " "); at && count < DRIVE_WORDS_MAX; at = strtok(NULL, " ")) {
        word[count++] = at;
    }
    if (count == 0 || !drive->on_command(word, count)) {
        printf("bad line: %s\n", count ? word[0] : "");
    }
}

static void on_input(void *arg, int status, int events)
{
    (void)arg;
    (void)status;
    (void)events;
    static char text[65536];
    static size_t len;
    ssize_t got = read(STDIN_FILENO, text + len, sizeof text - 1 - len);
    if (got <= 0) {
        exit(0);
    }
    len += (size_t)got;
    text[len] = '\0';
    char *end;
    while ((end = strchr(text, '\n')) != NULL) {
        *end = '\0';
        size_t used = (size_t)(end - text) + 1;
        char *line = ec_strdup(text);
        memmove(text, end + 1, len - used + 1);
        len -= used;
        on_line(line);
        free(line);
    }
}

int drive_main(const struct drive_spec *spec)
{
    drive = spec;
    setvbuf(stdout, NULL, _IOLBF, 0);
    ec_log_setup("drive", EC_LOG_WARN);
    struct ec_loop *loop = ec_loop_new();
    struct test_kafka *kafka = test_kafka_start(loop, NULL);
    for (const char *const *topic = spec->read; *topic; topic++) {
        test_kafka_topic(kafka, *topic, 1);
    }
    for (const char *const *topic = spec->write; *topic; topic++) {
        test_kafka_topic(kafka, *topic, 2);
    }
    printf("%s\n", test_kafka_brokers(kafka));
    drive_restart_clock();
    const struct ec_bus_spec bus_spec = {
        .brokers = test_kafka_brokers(kafka), .service = "drive", .fetch_wait_ms = 10};
    const struct ec_table_spec table = {.topics = spec->read,
                                        .routes = spec->routes,
                                        .route_count = spec->route_count,
                                        .on_event = spec->on_event};
    struct ec_poll *input = NULL;
    if (ec_failed(ec_bus_open(loop, &bus_spec, &bus)) ||
        ec_failed(ec_bus_table(bus, &table, NULL)) ||
        ec_failed(ec_poll_new(loop, STDIN_FILENO, on_input, NULL, &input))) {
        return EXIT_FAILURE;
    }
    ec_poll_want(input, UV_READABLE);
    ec_loop_run(loop);
    return EXIT_SUCCESS;
}
