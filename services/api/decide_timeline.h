/* One push as a story: from its events in the order of time to steps, and to the gaps between them
 * with the name of what was waited for. Pure. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

struct timeline_event {
    int64_t at_ms;
    const char *type;       /* "build.queued": without dev.enclii. and .v1 */
    const char *service_id; /* "" = of the whole push */
    const char *service;    /* "demo/shop" */
    const json_t *body;     /* NULL when it was not kept */
};

/* Events by time. gives {commit, started_at, services: [{service, service_id, outcome, open,
 * duration_ms, span_ms, items: [...], totals: [...]}]}; a service has the events of the whole push
 * and its own. An item is a "fact", a "step" (it took time) or a "wait"; `side` ones went on beside
 * the way to the traffic (certificates, telling people). */
json_t *decide_timeline(struct ec_arena *arena, const struct timeline_event *events, size_t count,
                        int64_t now_ms);
