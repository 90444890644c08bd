/* Private to services/hello: its one state struct, and the one thing it decides. */
#pragma once

#include "enclii/v1/intake.pb-c.h"
#include "service/service.h"

struct hello_settings {
    const char *listen;
    const char *greeting;
};

struct hello {
    struct hello_settings settings;
    struct ec_service *svc;
    struct ec_http_server *server;
    char last[256]; /* the last greeting, "" before the first */
};

extern struct ec_metric greetings;

/* decide_greeting.c: pure, so it is tested with a table and nothing else. NULL = say nothing. */
char *decide_greeting(struct ec_arena *arena, const char *greeting,
                      const Enclii__V1__PushReceived *push);

/* handlers.c */
struct ec_err on_push_received(void *state, struct ec_event *ev);
void on_last_asked(void *state, struct ec_request *req);
