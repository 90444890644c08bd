/* The frame of a program that stands in for `pipeline` beside one service in a shell test: a mock
 * Kafka cluster of its own, whose address is the first line it prints; each line of stdin is a
 * command, and each event of the service is printed as one line. Ends with stdin. */
#pragma once

#include "bus/bus.h"

#define DRIVE_WORDS_MAX 16

struct drive_spec {
    const char *const *read;  /* topics of events, one partition each, NULL-ended */
    const char *const *write; /* topics of commands, two partitions each, NULL-ended */
    const struct ec_route *routes;
    size_t route_count;
    /* The words of a line, NULL after the last; false = printed as a bad line. */
    bool (*on_command)(char **word, size_t count);
    void (*on_event)(void *state, struct ec_event *ev); /* state is NULL */
};
int drive_main(const struct drive_spec *spec);

void drive_publish(const char *topic, const char *key, const char *type,
                   const ProtobufCMessage *body);
void drive_publish_raw(const char *topic, const char *key, const char *type, struct ec_span bytes);
int64_t drive_ms(void); /* since the start, or since drive_restart_clock */
void drive_restart_clock(void);
