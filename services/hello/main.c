/* hello: the smallest complete service. It greets whoever pushed, in its log, and tells the last
 * greeting over HTTP. Read the two tables, then handlers.c, then decide_greeting.c. */
#include "hello.h"

#include "base/mem.h"
#include "bus/topics.h"

static struct hello hello;

static const struct ec_route routes[] = {
    /* when this arrives            it carries                               we do */
    {"dev.enclii.push.received.v1", &enclii__v1__push_received__descriptor, on_push_received},
};

static const struct ec_http_route http_routes[] = {
    {"GET", "/v1/hello", on_last_asked, 0, 0},
};

static const struct ec_setting settings[] = {
    {"ENCLII_LISTEN", EC_SETTING_TEXT, offsetof(struct hello_settings, listen), "127.0.0.1:4290",
     "Where GET /v1/hello is served.", "127.0.0.1:4290", 0, 0},
    {"ENCLII_HELLO_GREETING", EC_SETTING_TEXT, offsetof(struct hello_settings, greeting), "Hello",
     "How to greet.", "Servus", 0, 0},
    {0},
};

static struct ec_err hello_start(struct ec_service *svc, void *state)
{
    static const char *const topics[] = {EC_TOPIC_INTAKE, NULL};
    struct hello *self = state;
    const struct ec_http_server_spec http = {.listen = self->settings.listen,
                                             .routes = http_routes,
                                             .route_count = EC_LEN(http_routes),
                                             .state = self};
    const struct ec_consume_spec consume = {.group = "hello",
                                            .topics = topics,
                                            .routes = routes,
                                            .route_count = EC_LEN(routes),
                                            .state = self};
    self->svc = svc;
    EC_TRY(ec_http_server_open(ec_service_loop(svc), &http, &self->server));
    return ec_bus_consume(ec_service_bus(svc), &consume, NULL);
}

static void on_server_closed(void *arg)
{
    ec_service_stopped(((struct hello *)arg)->svc);
}

/* The frame closes what it opened (bus, admin port); we close what we opened. */
static void hello_stop(struct ec_service *svc, void *state)
{
    (void)svc;
    ec_http_server_close(((struct hello *)state)->server, 500, on_server_closed, state);
}

int main(int argc, char **argv)
{
    return ec_service_main(argc, argv,
                           &(struct ec_service_spec){
                               .name = "hello",
                               .help = "greets whoever pushed; the example to read first",
                               .state = &hello,
                               .settings = &hello.settings,
                               .setting_table = settings,
                               .needs_bus = true,
                               .start = hello_start,
                               .stop = hello_stop,
                           });
}
