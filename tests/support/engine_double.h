/* A container engine's API on a Unix socket, in the test's loop: what the real one does slowly, or
 * not at all, when the test says so. Strict: a request it does not know is kept in `unexpected`.
 * Every container "runs" at the port the test names. */
#pragma once

#include <stdbool.h>

#include "net/loop.h"

#define ENGINE_CONTAINERS_MAX 32

struct engine_container {
    char name[96], key[128], identity[64], replica[8];
    bool running;
    int port;
};

struct engine_double {
    struct ec_loop *loop;
    char path[80];
    struct engine_container containers[ENGINE_CONTAINERS_MAX];
    int count;
    int port;          /* of containers that are started from now on */
    bool image;        /* it is there */
    bool pull_hangs;   /* no answer to a pull */
    bool create_hangs; /* nor to that */
    int pull_bytes;    /* of progress that a pull tells of */
    char pull_end[80]; /* its last lines */
    bool holds_lists;  /* answers that were true when they were asked for come when it is over */
    bool create_fails; /* 500, as with a full disk */
    int pulls, creates, starts, stops, deletes; /* requests so far */
    char unexpected[256];
    struct engine_private *its;
};

void engine_double_start(struct engine_double *engine, struct ec_loop *loop, const char *dir);
void engine_double_stop(struct engine_double *engine);
void engine_double_go(struct engine_double *engine, bool away); /* ends its connections */
void engine_double_release(struct engine_double *engine);       /* the lists it holds */
/* The event that something changed. */
void engine_double_tell(struct engine_double *engine);
/* A running container that somebody started before. */
struct engine_container *engine_double_add(struct engine_double *engine, const char *name,
                                           const char *key, const char *identity);
