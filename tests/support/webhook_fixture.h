/* webhook's real handlers over a real HTTP server and an in-process Kafka, with one repository
 * bound (git.example/acme/shop) and a reader of enclii.intake. */
#pragma once

#include "../../services/webhook/webhook.h"
#include "support/kafka.h"

struct webhook_fixture {
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_arena *arena; /* the test's own */
    struct webhook wh;
};

struct webhook_fixture_spec {
    const char *secret;
    uint32_t request_deadline_ms; /* of the HTTP server; 0 = as usual */
    size_t bodies_max_bytes;      /* the same */
    /* Told of each event on enclii.intake, unpacked. */
    void (*on_event)(void *state, struct ec_event *ev);
    void *state;
};

/* Returns when deliveries are taken. */
void webhook_fixture_start(struct webhook_fixture *fx, const struct webhook_fixture_spec *spec);
void webhook_fixture_stop(struct webhook_fixture *fx);
