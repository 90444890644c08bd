/* See webhook_fixture.h. */
#include "support/webhook_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

static void check(struct ec_err err)
{
    if (ec_failed(err)) {
        fprintf(stderr, "webhook fixture: %s\n", err.what);
        abort();
    }
}

static bool is_ready(void *arg)
{
    const struct webhook *wh = arg;
    return wh->repos_known && ec_bus_ready(wh->bus);
}

static void bind_shop(struct webhook_fixture *fx)
{
    Enclii__V1__RepoBound repo = ENCLII__V1__REPO_BOUND__INIT;
    test_kafka_publish(fx->kafka, fx->wh.bus,
                       &(struct ec_message){.topic = "enclii.repos",
                                            .id = "1",
                                            .key = "git.example/acme/shop",
                                            .body = &repo.base,
                                            .type = "dev.enclii.repo.bound.v1"});
}

static void read_intake(struct webhook_fixture *fx, const struct webhook_fixture_spec *spec)
{
    static const char *const topics[] = {"enclii.intake", NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.delivery.refused.v1", &enclii__v1__delivery_refused__descriptor, NULL},
        {"dev.enclii.delivery.received.v1", &enclii__v1__delivery_received__descriptor, NULL},
        {"dev.enclii.push.received.v1", &enclii__v1__push_received__descriptor, NULL}};
    check(ec_bus_table(fx->wh.bus,
                       &(struct ec_table_spec){.topics = topics,
                                               .routes = routes,
                                               .route_count = EC_LEN(routes),
                                               .on_event = spec->on_event,
                                               .state = spec->state},
                       NULL));
}

void webhook_fixture_start(struct webhook_fixture *fx, const struct webhook_fixture_spec *spec)
{
    fx->arena = ec_arena_new(8 << 20);
    fx->loop = ec_loop_new();
    fx->kafka = test_kafka_start(fx->loop, "enclii.intake:1", "enclii.repos:1",
                                 "enclii.repos.webhook.dead:1", NULL);
    fx->wh = (struct webhook){.loop = fx->loop, .ack_deadline_ms = ACK_DEADLINE_MS};
    fx->wh.bus = test_kafka_bus(fx->kafka, "webhook");
    fx->wh.settings.secret = ec_secret_new(ec_span_of(spec->secret));
    bind_shop(fx);
    check(ec_http_server_open(
        fx->loop,
        &(struct ec_http_server_spec){.listen = "127.0.0.1:0",
                                      .routes = webhook_routes,
                                      .route_count = webhook_route_count,
                                      .state = &fx->wh,
                                      .refused = on_refused,
                                      .bodies_max_bytes = spec->bodies_max_bytes,
                                      .request_deadline_ms = spec->request_deadline_ms},
        &fx->wh.server));
    check(repos_follow(&fx->wh));
    read_intake(fx, spec);
    if (!test_run_until(fx->loop, 10000, is_ready, &fx->wh)) {
        check(ec_fatal(0, "it is not ready after 10 s"));
    }
}

static void set_true(void *flag)
{
    *(bool *)flag = true;
}

void webhook_fixture_stop(struct webhook_fixture *fx)
{
    bool closed = false;
    ec_http_server_close(fx->wh.server, 100, set_true, &closed);
    if (!test_run_until(fx->loop, 2000, test_is_true, &closed)) {
        check(ec_fatal(0, "the HTTP server does not close"));
    }
    test_kafka_close_bus(fx->kafka, fx->wh.bus);
    test_kafka_stop(fx->kafka);
    repos_free(&fx->wh);
    ec_secret_free(fx->wh.settings.secret);
    ec_loop_free(fx->loop);
    ec_arena_free(fx->arena);
}
